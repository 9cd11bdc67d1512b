//! Retry with backoff, and cancellation of what runs.

use pangolin_e2e::world::item;
use serde_json::json;

use crate::support::{self, dispatch, each_attempt_started_once, mark, until_marked, until_nothing_runs};

#[test]
fn a_failed_attempt_is_retried_after_its_backoff() {
    let world = support::world();
    let third = dispatch("retry-1", "a", 3);
    world.agent(
        "flaky",
        &format!("{} echo try >> tries.txt; [ $PANGOLIN_DISPATCH_ID = {third} ] || exit 9", mark(&world)),
    );
    let plan =
        world.plan("retry-1", &[("a", "flaky", &[])], &json!({ "executor": "open", "maxAttempts": 3 }));
    let _daemon = world.serve();
    world.run(&["orch", "submit", &plan]).ok();
    let run = world.finish("retry-1");
    let a = item(&run, "a");
    assert_eq!(
        (run["state"].as_str(), a["why"].as_str()),
        (Some("done"), Some("delivered by attempt 3")),
        "{run:#}"
    );
    let attempts = a["attempts"].as_array().expect("attempts");
    assert_eq!(attempts.len(), 3);
    let time = |attempt: usize, what: &str| attempts[attempt][what].as_i64().expect("time");
    let bundle = world.intact_bundle("retry-1");
    let bundle: serde_json::Value = serde_json::from_slice(&bundle).expect("bundle");
    for (attempt, failed) in attempts[..2].iter().enumerate() {
        assert_eq!(failed["failure"]["class"], "work", "{a:#}");
        assert!(failed["patch"].is_string(), "partial work is kept: {a:#}");
        assert!(time(attempt + 1, "firedAt") > time(attempt, "endedAt"), "a pause: {a:#}");
        // The sealed time of the next attempt is the one that was kept.
        let entry = bundle["entries"]
            .as_array()
            .expect("entries")
            .iter()
            .find(|entry| entry["not_before"].is_i64() && entry["attempt"] == attempt + 1);
        let not_before = entry.and_then(|entry| entry["not_before"].as_i64()).expect("the planned time");
        assert!(time(attempt + 1, "firedAt") >= not_before, "{a:#}");
    }
    each_attempt_started_once(&world, &[&run]);
}

#[test]
fn a_cancelled_run_stops_its_worker_keeps_the_partial_patch_and_verifies() {
    let world = support::world();
    // Daemonised children too: nothing may outlive the cancellation.
    world.agent(
        "busy",
        &format!(
            "{} echo half > half.txt; mkdir -p outputs; echo part > outputs/part.txt; (setsid sleep 100000 &); sleep 100000",
            mark(&world)
        ),
    );
    let plan =
        world.plan("stop-1", &[("a", "busy", &[]), ("b", "busy", &["a"])], &json!({ "executor": "open" }));
    let _daemon = world.serve();
    world.run(&["orch", "submit", &plan]).ok();
    until_marked(&world, "stop-1", "a", 1);
    let workspace =
        world.path().join(".pangolin/dispatches").join(dispatch("stop-1", "a", 1).as_str()).join("workspace");
    support::until("half the work", || workspace.join("outputs/part.txt").exists().then_some(()));
    world.run(&["orch", "cancel", "stop-1", "--actor", "human:ada"]).ok();
    let run = world.finish("stop-1");
    assert_eq!(run["state"], "cancelled", "{run:#}");
    until_nothing_runs(&world);
    let a = item(&run, "a");
    assert_eq!(a["attempts"][0]["status"], "cancelled", "{a:#}");
    let patch = world.run(&["patch", "show", "stop-1/a"]).ok().text();
    assert!(patch.contains("+half"), "{patch}");
    assert!(a["attempts"][0]["outputs"].to_string().contains("part.txt"), "{a:#}");
    assert_eq!(item(&run, "b")["attempts"], json!([]), "{run:#}");
    each_attempt_started_once(&world, &[&run]);
    let bundle = String::from_utf8(world.intact_bundle("stop-1")).expect("text");
    assert!(bundle.contains("\"actor\":\"human:ada\""), "who asked is sealed");
    // A patch of a cancelled attempt is shown, never applied as if it were done.
    let _ = world.run(&["patch", "apply", "stop-1", "--repo", "repo"]).code(1).says(&["cancelled"]);
}
