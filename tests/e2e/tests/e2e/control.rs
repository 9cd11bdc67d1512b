//! Cancel, retry, failure, queueing: what a person does to a run and what the run tells them.

use pangolin_core::ids::{DispatchId, ItemId, RunId};
use pangolin_e2e::world::{World, item};
use serde_json::json;

/// Ends by itself long after every deadline, so only a stop explains an early end.
const FOREVER: &str = "echo started; sleep 100000";

#[test]
fn cancel_of_a_run_stops_its_worker_and_the_rest_never_starts() {
    let world = World::new();
    world.agent("forever", FOREVER);
    world.agent("quick", "true");
    let _daemon = world.serve();
    world.submit("stop-1", &[("slow", "forever", &[]), ("after", "quick", &["slow"])]);
    let mut watch = world.watch("stop-1");
    watch.until_item("slow", "running");

    // While it runs the record is incomplete and says so.
    let audit = world.run(&["orch", "audit", "stop-1"]).code(4);
    assert!(audit.stderr.contains("INCOMPLETE"), "{}", audit.stderr);
    let _ = world.run(&["orch", "logs", "stop-1/after"]).code(5).says(&["was never started"]);
    let status = world.run(&["orch", "status"]).ok().text();
    assert!(status.contains("stop-1  active") && status.contains("slow"), "{status}");

    world.run(&["orch", "cancel", "stop-1", "--actor", "human:ada"]).ok().says(&["cancel requested: stop-1"]);
    let (code, lines) = watch.until_terminal();
    assert_eq!((code, lines.last().expect("line")["state"].as_str()), (Some(0), Some("cancelled")));
    let run = world.status("stop-1");
    assert_eq!(item(&run, "slow")["status"], "cancelled");
    assert_eq!(item(&run, "after")["status"], "cancelled");
    assert_eq!(item(&run, "after")["attempts"], json!([]));
    let _ = world.intact_bundle("stop-1");
}

#[test]
fn cancel_of_an_item_leaves_the_others_alone() {
    let world = World::new();
    world.agent("forever", FOREVER);
    world.agent("quick", "echo hello > hello.txt");
    let _daemon = world.serve();
    world
        .submit("stop-2", &[("slow", "forever", &[]), ("after", "quick", &["slow"]), ("free", "quick", &[])]);
    let mut watch = world.watch("stop-2");
    watch.until_item("slow", "running");
    world.run(&["orch", "cancel", "stop-2/slow"]).ok();
    let (_, lines) = watch.until_terminal();
    assert_eq!(lines.last().expect("line")["state"], "failed");
    let run = world.status("stop-2");
    assert_eq!(item(&run, "slow")["status"], "cancelled");
    assert_eq!(item(&run, "after")["status"], "skipped");
    assert_eq!(item(&run, "free")["status"], "done");
    assert!(world.run(&["patch", "show", "stop-2/free"]).ok().text().contains("+hello"));
    let _ = world.run(&["patch", "show", "stop-2/slow"]).code(5).says(&["stop-2/slow left no patch"]);
    let _ = world.intact_bundle("stop-2");
}

#[test]
fn a_failed_attempt_is_retried_and_both_are_on_record() {
    let world = World::new();
    let second =
        DispatchId::derive("e2e", &RunId::new("retry-1").unwrap(), &ItemId::new("flaky").unwrap(), 2);
    let script = format!(
        "echo tried >> work.txt; [ \"$PANGOLIN_DISPATCH_ID\" = {second} ] || {{ echo no luck >&2; exit 7; }}"
    );
    world.agent("flaky", &script);
    let _daemon = world.serve();
    world.submit("retry-1", &[("flaky", "flaky", &[])]);
    let run = world.finish("retry-1");
    let flaky = item(&run, "flaky");
    assert_eq!(flaky["status"], "done", "{flaky:#}");
    assert_eq!(flaky["attempts"].as_array().map(Vec::len), Some(2));
    assert_eq!(flaky["attempts"][0]["failure"]["reason"], "provider-failed");
    assert!(
        flaky["attempts"][0]["patch"].is_string(),
        "partial work of the failed attempt is kept: {flaky:#}"
    );
    let stderr = world.run(&["orch", "logs", "retry-1/flaky", "--attempt", "1", "--stderr"]).ok().text();
    assert_eq!(stderr, "no luck\n");
    let _ =
        world.run(&["orch", "logs", "retry-1/flaky", "--attempt", "3"]).code(5).says(&["has no attempt 3"]);
    let text = world.run(&["orch", "status", "retry-1"]).ok().text();
    assert!(text.contains("attempt 1  failed") && text.contains("provider-failed (work)"), "{text}");
    let _ = world.intact_bundle("retry-1");
}

#[test]
fn a_failure_skips_its_dependents_and_is_explained() {
    let world = World::new();
    world.agent("broken", "echo out; echo why it broke >&2; exit 3");
    world.agent("quick", "true");
    let _daemon = world.serve();
    world.submit(
        "fail-1",
        &[("a", "broken", &[]), ("b", "quick", &["a"]), ("c", "quick", &["b"]), ("d", "quick", &[])],
    );
    let run = world.finish("fail-1");
    assert_eq!(run["state"], "failed");
    let states: Vec<_> =
        ["a", "b", "c", "d"].map(|id| item(&run, id)["status"].as_str().unwrap_or_default()).into();
    assert_eq!(states, ["failed", "skipped", "skipped", "done"]);
    assert_eq!(item(&run, "a")["attempts"].as_array().map(Vec::len), Some(2));
    assert!(item(&run, "c")["why"].as_str().is_some_and(|why| why.contains('a')), "{run:#}");
    let watch = world.run(&["orch", "watch", "fail-1", "--exit-code"]).code(1);
    assert!(watch.stderr.contains("pangolin orch logs fail-1/a"), "{}", watch.stderr);
    world.run(&["orch", "watch", "fail-1"]).ok();
    let _ = world.intact_bundle("fail-1");
}

#[test]
fn without_a_daemon_a_run_is_queued_and_admitted_later() {
    let world = World::new();
    world.agent("quick", "true");
    let plan = world.plan("later-1", &[("a", "quick", &[])], &json!({}));
    let submitted = world.run(&["orch", "submit", &plan]).ok();
    assert_eq!(submitted.text(), "later-1\n");
    let _ = submitted.says(&["no daemon is serving", "queued"]);
    let watch = world.watch("later-1");
    let _daemon = world.serve();
    let (_, lines) = watch.until_terminal();
    assert_eq!(lines.last().expect("line")["state"], "done");
    // The same plan again is the same run: same receipt. Another plan under its id is refused.
    let _ = world.run(&["orch", "submit", &plan]).ok().says(&["admitted: leaf 0 of log "]);
    let other = world.plan("later-1", &[("b", "quick", &[])], &json!({}));
    let _ = world.run(&["orch", "submit", &other]).code(1).says(&["later-1"]);
    let _ = world.run(&["orch", "watch", "never"]).code(5);
    let _ = world.run(&["orch", "status", "never"]).code(5);
    let _ = world.run(&["orch", "cancel", "never"]).code(5);
}

#[test]
fn dispatch_runs_one_worker_without_a_plan() {
    let world = World::new();
    world.agent("writer", "echo \"$PANGOLIN_INPUT_JSON\" > seen.json");
    let _daemon = world.serve();
    let result =
        world.run(&["dispatch", "run", "--subagent", "writer", "--input", "{\"file\":\"x\"}"]).ok().json();
    assert_eq!(result["status"], "done", "{result:#}");
    let id = result["dispatchId"].as_str().expect("dispatch id").to_owned();
    let described = world.run(&["dispatch", "describe", &id]).ok().json();
    assert_eq!(described["status"], "done", "{described:#}");
    let _ = world.run(&["dispatch", "run", "--subagent", "nobody"]).code(5).says(&["nobody"]);
    let _ = world.run(&["dispatch", "run", "--subagent", "writer", "--input", "{"]).code(2);
}
