//! What a run is pinned to stays so while it grows: plugins and names that are replaced in the middle of it.

use pangolin_core::ids::Digest;
use pangolin_e2e::world::World;
use serde_json::{Value, json};

use crate::support::{
    self, ADAPTER, PROBE, REPORTER, adapted, adapter, approve, approve_adapter, component, document, last,
    pipeline, planned, sealed, step, with_probe,
};

/// Submits an open-ended run of these items.
fn open(world: &World, run: &str, items: &[Value]) {
    let name = format!("{run}.json");
    let plan = json!({ "id": run, "queue": "default", "openEnded": true, "items": items });
    world.write(&name, plan.to_string());
    world.run(&["orch", "submit", &name]).ok();
    world.watch(run).until_item("a", "done");
}

/// Adds items and waits until the last of them has this status.
fn extend(world: &World, run: &str, items: &[Value], status: &str) {
    world.write("more.json", json!(items).to_string());
    world.run(&["orch", "extend", run, "more.json"]).ok();
    let id = items.last().and_then(|item| item["id"].as_str()).expect("an item");
    world.watch(run).until_item(id, status);
}

/// Closes the run and answers how it ended. Its bundle verifies, and the pins were looked at.
fn close(world: &World, run: &str) -> Value {
    world.run(&["orch", "close", run]).ok();
    let ended = world.finish(run);
    let _ = world.intact_bundle(run);
    let report = world.run(&["verify", &format!("{run}.bundle.json"), "--json"]).ok().json();
    assert_eq!(report["checks"]["growth"]["ok"], true, "{report:#}");
    let detail = report["checks"]["growth"]["detail"].as_str().expect("detail");
    assert!(detail.contains("are pinned"), "{detail}");
    ended
}

fn item(id: &str, agent: &str) -> Value {
    let mut item = planned(id, agent, "none");
    item["inputs"].as_object_mut().expect("inputs").remove("pipeline");
    item
}

/// The sealed manifest of the last attempt.
fn manifest(world: &World, run: &Value, id: &str) -> Value {
    document(world, &last(run, id)["manifestRef"])
}

#[test]
fn a_replaced_adapter_and_a_replaced_name_are_not_for_a_run_that_has_pinned_them() {
    let world = support::world();
    approve_adapter(&world, "1.0.0");
    adapted(&world, "work", "echo work > work.txt");
    let _daemon = world.serve();
    open(&world, "grow-1", &[item("a", "work")]);
    // Nothing in the plan names `late`: the first extension pins it.
    adapted(&world, "late", "echo first > work.txt");
    extend(&world, "grow-1", &[item("b", "late")], "done");

    approve_adapter(&world, "1.1.0");
    adapted(&world, "late", "echo second > work.txt");
    adapted(&world, "new", "echo new > work.txt");
    extend(&world, "grow-1", &[item("c", "work"), item("d", "new"), item("e", "late")], "done");
    let run = close(&world, "grow-1");
    assert_eq!(run["state"], "done", "{run:#}");

    let pinned = json!({ "name": ADAPTER, "digest": Digest::of(&adapter("1.0.0")) });
    for id in ["a", "b", "c", "d", "e"] {
        assert_eq!(manifest(&world, &run, id)["adapter"], pinned, "{id}");
    }
    assert_eq!(manifest(&world, &run, "e")["subagent"], manifest(&world, &run, "b")["subagent"]);
    assert_eq!(last(&run, "e")["patch"], last(&run, "b")["patch"]);

    // A run that is submitted now gets what is there now.
    let next = support::run(&world, "grow-2", &[item("a", "late")]);
    assert_eq!(next["state"], "done", "{next:#}");
    let newer = json!({ "name": ADAPTER, "digest": Digest::of(&adapter("1.1.0")) });
    assert_eq!(manifest(&world, &next, "a")["adapter"], newer);
    assert_ne!(last(&next, "a")["patch"], last(&run, "b")["patch"]);
}

#[test]
fn a_new_pipeline_gets_the_block_that_the_run_has_pinned_or_none() {
    let world = with_probe(REPORTER);
    world.agent("work", "echo work > work.txt");
    let judged = step(&json!([["artifact", "reports/ran.txt", "ran"]]));
    pipeline(&world, "probed", std::slice::from_ref(&judged));
    let _daemon = world.serve();
    open(&world, "blocks-1", &[planned("a", "work", "probed")]);

    approve(&world, "1.1.0");
    pipeline(&world, "later", &[judged.clone(), judged]);
    extend(&world, "blocks-1", &[planned("b", "work", "later")], "denied");
    approve(&world, "1.0.0");
    extend(&world, "blocks-1", &[planned("c", "work", "later")], "done");
    let run = close(&world, "blocks-1");

    let denied = pangolin_e2e::world::item(&run, "b");
    assert_eq!(denied["attempts"], json!([]), "{denied:#}");
    let why = denied["why"].as_str().expect("why");
    for part in ["when the run was admitted", "put the approved version back"] {
        assert!(why.contains(part), "{why}");
    }
    let pinned = Digest::of(&component("1.0.0"));
    for id in ["a", "c"] {
        let block = json!([{ "name": PROBE, "digest": pinned }]);
        assert_eq!(manifest(&world, &run, id)["blocks"], block, "{id}");
        assert_eq!(sealed(&world, last(&run, id), 1)["digest"], pinned.to_string());
    }
}
