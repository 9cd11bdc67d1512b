//! Only what a person approved runs, byte for byte.

use std::fs;

use pangolin_core::ids::Digest;
use pangolin_e2e::world::{World, item};
use serde_json::{Value, json};

use crate::support::{
    self, EVERYTHING, PROBE, REPORTER, approve, component, grant, hold, last, pipeline, plan, planned,
    release, sealed, step, until_held, with_probe,
};

/// A pipeline with the block and an agent for it.
fn prepared(rules: &str) -> World {
    let world = with_probe(rules);
    world.agent("work", "echo work > work.txt");
    pipeline(&world, "probed", &[step(&json!([["artifact", "reports/ran.txt", "ran"]]))]);
    world
}

/// What becomes of an item whose block is interfered with after the run was admitted.
fn interfered(world: &World, run: &str, interfere: impl FnOnce()) -> Value {
    world.agent("gate", &hold(world));
    let mut first = planned("first", "gate", "probed");
    first["executor"] = "open".into();
    first["inputs"].as_object_mut().expect("inputs").remove("pipeline");
    let mut second = planned("second", "work", "probed");
    second["depends_on"] = json!(["first"]);
    let plan = plan(world, run, &[first, second]);
    world.run(&["orch", "submit", &plan]).ok();
    until_held(world);
    interfere();
    release(world);
    world.finish(run)
}

/// Asserts that an item never got a worker, and answers why.
#[track_caller]
fn refused(world: &World, run: &Value, id: &str) -> String {
    let item = item(run, id);
    assert_eq!(item["status"], "denied", "{run:#}");
    assert_eq!(item["attempts"], json!([]), "nothing was started: {item:#}");
    let _ = world.intact_bundle(run["run"].as_str().expect("run"));
    item["why"].as_str().expect("why").to_owned()
}

#[test]
fn a_block_that_nobody_approved_is_not_admitted() {
    let world = support::world();
    world.agent("work", "echo work > work.txt");
    pipeline(&world, "probed", &[step(&json!([]))]);
    world.write("probe.wasm", component("1.0.0"));
    // Looking at it is not approving it.
    let _ = world.run(&["plugin", "add", "probe.wasm"]).code(2);
    assert!(!world.path().join("pangolin.lock").exists());
    let _daemon = world.serve();
    let plan = plan(&world, "new-1", &[planned("a", "work", "probed")]);
    support::rejected(&world, &plan).says(&[PROBE, "does not exist"]);
    world.run(&["orch", "status", "new-1"]).code(5).says(&["new-1"]);
}

#[test]
fn a_wider_grant_makes_it_inert_at_submit_and_in_the_middle_of_a_run() {
    let world = prepared(REPORTER);
    let _daemon = world.serve();
    let run = interfered(&world, "wide-1", || grant(&world, EVERYTHING));
    let why = refused(&world, &run, "second");
    assert!(why.contains("inert") && why.contains("`pangolin plugin add acme/probe`"), "{why}");
    let plan = plan(&world, "wide-2", &[planned("a", "work", "probed")]);
    support::rejected(&world, &plan).says(&["inert", "`pangolin plugin add acme/probe`"]);
    world.run(&["plugin", "add", PROBE, "--yes", "--approver", "human:t"]).ok();
    world.run(&["orch", "submit", &plan]).ok();
    let run = world.finish("wide-2");
    assert_eq!(run["state"], "done", "{run:#}");
    assert_eq!(sealed(&world, last(&run, "a"), 1)["verdict"]["passed"], true);
}

#[test]
fn bytes_that_were_swapped_after_approval_are_never_compiled() {
    let world = prepared(REPORTER);
    let approved = Digest::of(&component("1.0.0"));
    let stored = world.path().join(".pangolin/plugins").join(format!("{}.wasm", approved.hex()));
    assert_eq!(fs::read(&stored).expect("stored"), component("1.0.0"));
    let _daemon = world.serve();
    let run = interfered(&world, "swap-1", || fs::write(&stored, component("6.6.6")).expect("swap"));
    let why = refused(&world, &run, "second");
    assert!(why.contains("integrity"), "{why}");
    for digest in [approved, Digest::of(&component("6.6.6"))] {
        assert!(why.contains(&digest.to_string()), "{digest} in {why}");
    }
}

#[test]
fn a_run_never_moves_to_another_version_by_itself() {
    let world = prepared(REPORTER);
    let _daemon = world.serve();
    let run = interfered(&world, "move-1", || approve(&world, "1.1.0"));
    let why = refused(&world, &run, "second");
    for part in ["when the run was admitted", "put the approved version back"] {
        assert!(why.contains(part), "{why}");
    }
    // A run that is submitted now gets what is approved now.
    let run = support::run(&world, "move-2", &[planned("a", "work", "probed")]);
    assert_eq!(run["state"], "done", "{run:#}");
    let digest = sealed(&world, last(&run, "a"), 1)["digest"].clone();
    assert_eq!(digest, Digest::of(&component("1.1.0")).to_string());
}

#[test]
fn code_that_the_agent_swaps_in_its_envelope_is_never_loaded() {
    let world = prepared(REPORTER);
    // Without a sandbox the agent can reach its own envelope, where the native code of the block lies.
    world.agent(
        "swapper",
        "for file in ../envelope/blobs/*; do chmod u+w \"$file\"; printf evil >> \"$file\"; done",
    );
    let _daemon = world.serve();
    let mut swapper = planned("a", "swapper", "probed");
    swapper["executor"] = "open".into();
    let run = support::run(&world, "swap-2", &[swapper]);
    let attempt = last(&run, "a");
    assert_eq!(attempt["failure"]["reason"], "integrity-failed", "{run:#}");
    assert_eq!(attempt["failure"]["class"], "invalid");
    // It was the dispatch's own copy: the next one is fine.
    let run = support::run(&world, "swap-3", &[planned("a", "work", "probed")]);
    assert_eq!(run["state"], "done", "{run:#}");
}
