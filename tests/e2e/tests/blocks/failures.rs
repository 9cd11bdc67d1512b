//! Blocks that fail: each in its own way, recorded by name, judged by what another attempt could change.

use pangolin_e2e::world::item;
use serde_json::{Value, json};

use crate::support::{self, REPORTER, last, pipeline, planned, sealed, step, with_probe};

/// Steps of a block, the code that it ends with, class of the attempt and number of attempts.
const HOSTILE: [(&str, &str, &str, &str, usize); 8] = [
    ("spins", r#"[["spin"]]"#, "deadline", "timeout", 2),
    ("eats", r#"[["memory"]]"#, "memory-limit", "invalid", 1),
    ("floods", r#"[["evidence-flood"]]"#, "output-limit", "invalid", 1),
    ("panics", r#"[["panic", "words of it"]]"#, "guest-panic", "invalid", 1),
    ("traps", r#"[["trap"]]"#, "guest-abort", "invalid", 1),
    ("exits", r#"[["exit"]]"#, "guest-exit", "invalid", 1),
    ("gives-up", r#"[["fault", "no-idea", "cannot judge"]]"#, "fault", "invalid", 1),
    ("talks-nonsense", r#"[["evidence", "k", "{"]]"#, "refused", "invalid", 1),
];

#[test]
fn every_failure_has_its_name_and_is_retried_only_when_that_can_help() {
    let world = with_probe(REPORTER);
    world.agent("work", "echo work > work.txt");
    let mut items = Vec::new();
    for (name, steps, ..) in HOSTILE {
        let steps: Value = serde_json::from_str(steps).expect("steps");
        pipeline(&world, name, &[step(&steps)]);
        items.push(planned(name, "work", name));
    }
    pipeline(
        &world,
        "silent",
        &[json!({ "kind": "plugin", "plugin": "acme/probe", "params": { "steps": [] } })],
    );
    let red = json!({ "kind": "plugin", "plugin": "acme/probe", "params": { "verdict": false, "summary": "no good" } });
    pipeline(&world, "red", &[red]);
    pipeline(&world, "fine", &[step(&json!([["log", 50_000, "line"], ["read", "workspace/work.txt"]]))]);
    items.extend([
        planned("silent", "work", "silent"),
        planned("red", "work", "red"),
        planned("fine", "work", "fine"),
    ]);
    let _daemon = world.serve();
    let run = support::run(&world, "fail-1", &items);
    let expected = HOSTILE.map(|(name, _, code, class, attempts)| (name, code, class, attempts));
    for (name, code, class, attempts) in
        expected.into_iter().chain([("silent", "contract-mismatch", "invalid", 1)])
    {
        let item = item(&run, name);
        assert_eq!(item["status"], "failed", "{item:#}");
        let attempt = last(&run, name);
        let record = sealed(&world, attempt, 1);
        assert_eq!(record["failure"]["code"], code, "{record:#}");
        assert_eq!(record["verdict"], Value::Null, "{name}: a failed block has no verdict");
        let failure = &attempt["failure"];
        assert_eq!(failure["class"], class, "{name}: {failure}");
        assert!(failure["message"].as_str().is_some_and(|text| text.contains(code)), "{name}: {failure}");
        assert_eq!(item["attempts"].as_array().map(Vec::len), Some(attempts), "{name}: {item:#}");
        assert!(attempt["patch"].is_string(), "{name}: the work that was to be judged is evidence");
    }
    // The agent can do better next time.
    let red = item(&run, "red");
    assert_eq!(
        (red["attempts"].as_array().map(Vec::len), &red["attempts"][0]["failure"]["class"]),
        (Some(2), &json!("work"))
    );
    // The same component, unharmed; its flood of log lines is cut and counted.
    assert_eq!(item(&run, "fine")["status"], "done", "{run:#}");
    let record = sealed(&world, last(&run, "fine"), 1);
    assert!(record["left_out"]["log"].as_u64().is_some_and(|count| count > 10_000), "{}", record["left_out"]);
    let _ = world.intact_bundle("fail-1");
}

#[test]
fn an_open_policy_goes_on_and_the_failure_is_on_record() {
    let world = with_probe(REPORTER);
    world.agent("work", "echo work > work.txt");
    let mut open = step(&json!([["memory"]]));
    open["onFailure"] = "open".into();
    pipeline(&world, "open", &[open, step(&json!([["earlier", "1"]]))]);
    let _daemon = world.serve();
    let run = support::run(&world, "open-1", &[planned("a", "work", "open")]);
    assert_eq!(run["state"], "done", "{run:#}");
    assert_eq!(sealed(&world, last(&run, "a"), 1)["failure"]["code"], "memory-limit");
    let second = sealed(&world, last(&run, "a"), 2);
    assert_eq!(second["evidence"]["steps"][0]["failure"]["code"], "memory-limit", "{second:#}");
    let _ = world.intact_bundle("open-1");
}
