//! Products of one item handed to another: by `needs`, by dependency, and sealed as such.

use pangolin_e2e::world::{World, item};
use serde_json::{Value, json};

#[test]
fn patch_and_output_reach_the_item_that_needs_them_and_the_bundle_closes_over_them() {
    let world = World::new();
    let _daemon = world.serve();
    world.agent("make", "mkdir outputs && printf '1,2\\n' > outputs/data.csv && echo more >> README.md");
    world.agent(
        "use",
        "test \"$(cat inputs/table)\" = 1,2 || exit 7
         grep -q '^+more' inputs/work || exit 8
         cmp inputs/work inputs/deps/maker.patch || exit 9
         mkdir outputs && cp inputs/table outputs/copy.csv",
    );
    let plan = json!({
        "id": "handoff", "queue": "default", "items": [
            {"id": "maker", "executor": "dispatch", "inputs": {"subagent": "make"}, "depends_on": [], "resourceLocks": []},
            {"id": "user", "executor": "dispatch", "inputs": {"subagent": "use"}, "depends_on": [], "resourceLocks": [],
             "needs": {
                "table": {"from": "maker", "select": {"kind": "output", "path": "data.csv"}},
                "work": {"from": "maker", "select": {"kind": "patch"}},
             }},
        ],
    });
    world.write("plan.json", plan.to_string());
    world.run(&["orch", "submit", "plan.json"]).ok();
    let run = world.finish("handoff");
    let user = item(&run, "user");
    assert_eq!(user["status"], "done", "{user}");
    let outputs = |id: &str| item(&run, id)["attempts"][0]["outputs"].clone();
    assert_eq!(outputs("user")["copy.csv"], outputs("maker")["data.csv"]);
    let bundle: Value = serde_json::from_slice(&world.intact_bundle("handoff")).expect("a bundle is JSON");
    assert_eq!(bundle["run"], "handoff");
    let report = world.run(&["orch", "audit", "handoff", "--out", "b.json", "--json"]).ok().json();
    assert_eq!(report["checks"]["handoff"]["ok"], true, "{report}");
}

#[test]
fn an_item_may_leave_more_outputs_than_one_entry_can_name() {
    let world = World::new();
    let _daemon = world.serve();
    world.agent(
        "make",
        "mkdir outputs && for n in $(seq 1000 1999); do echo $n > outputs/part-of-the-whole-$n; done",
    );
    world.agent("use", "test \"$(cat inputs/last)\" = 1999");
    let plan = json!({
        "id": "many", "queue": "default", "items": [
            {"id": "maker", "executor": "dispatch", "inputs": {"subagent": "make"}, "depends_on": [], "resourceLocks": []},
            {"id": "user", "executor": "dispatch", "inputs": {"subagent": "use"}, "depends_on": [], "resourceLocks": [],
             "needs": {"last": {"from": "maker", "select": {"kind": "output", "path": "part-of-the-whole-1999"}}}},
        ],
    });
    world.write("plan.json", plan.to_string());
    world.run(&["orch", "submit", "plan.json"]).ok();
    let run = world.finish("many");
    let outputs = &item(&run, "maker")["attempts"][0]["outputs"];
    assert_eq!(outputs.as_object().map(serde_json::Map::len), Some(1_000), "{run}");
    assert_eq!(item(&run, "user")["status"], "done", "{run}");
    let bundle: Value = serde_json::from_slice(&world.intact_bundle("many")).expect("a bundle is JSON");
    let entries = bundle["entries"].as_array().expect("entries");
    assert_eq!(entries.iter().filter(|entry| entry["kind"] == "item.outputs").count(), 2);
}

#[test]
fn a_product_that_was_not_made_denies_the_item_that_needs_it() {
    let world = World::new();
    let _daemon = world.serve();
    world.agent("make", "true");
    let plan = json!({
        "id": "missing", "queue": "default", "items": [
            {"id": "maker", "executor": "dispatch", "inputs": {"subagent": "make"}, "depends_on": [], "resourceLocks": []},
            {"id": "user", "executor": "dispatch", "inputs": {"subagent": "make"}, "depends_on": [], "resourceLocks": [],
             "needs": {"table": {"from": "maker", "select": {"kind": "output", "path": "data.csv"}}}},
        ],
    });
    world.write("plan.json", plan.to_string());
    world.run(&["orch", "submit", "plan.json"]).ok();
    let run = world.finish("missing");
    let user = item(&run, "user");
    assert_eq!(user["status"], "denied", "{user}");
    assert!(user["why"].as_str().is_some_and(|why| why.contains("data.csv")), "{user}");
    assert!(!world.intact_bundle("missing").is_empty());
}

#[test]
fn a_declared_pipeline_replaces_the_default_and_its_gate_decides() {
    let world = World::new();
    let _daemon = world.serve();
    world.agent("edit", "echo more >> README.md");
    let spec = |id: &str, gate: &str| {
        json!({"schemaVersion": 1, "id": id, "blocks": [
            {"kind": "agent"}, {"kind": "capture", "what": "patch"}, {"kind": "script", "command": gate},
        ]})
    };
    world.write("green.json", spec("e2e.green", "grep -q more README.md").to_string());
    world.write("red.json", spec("e2e.red", "echo not good enough; exit 7").to_string());
    world.run(&["pipeline", "register", "green.json"]).ok();
    world.run(&["pipeline", "register", "red.json"]).ok();
    let item_of = |id: &str, pipeline: &str| {
        json!({"id": id, "executor": "dispatch", "inputs": {"subagent": "edit", "pipeline": pipeline},
               "depends_on": [], "resourceLocks": [], "maxAttempts": 1})
    };
    let plan = json!({"id": "gated", "queue": "default", "items": [item_of("ok", "e2e.green"), item_of("bad", "e2e.red")]});
    world.write("plan.json", plan.to_string());
    world.run(&["orch", "submit", "plan.json"]).ok();
    let run = world.finish("gated");
    assert_eq!(item(&run, "ok")["status"], "done");
    let bad = item(&run, "bad");
    assert_eq!(bad["status"], "failed", "{bad}");
    assert_eq!(bad["attempts"][0]["failure"]["reason"], "provider-failed", "{bad}");
    // The work of the failed attempt is kept, and it is the same edit.
    assert_eq!(bad["attempts"][0]["patch"], item(&run, "ok")["attempts"][0]["patch"]);
    assert!(!world.intact_bundle("gated").is_empty());
}
