//! The agent is stopped in the middle: nothing that it did or cost is lost.

use std::fs;

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use pangolin_e2e::world::item;
use pangolin_model_server::{INPUT_TOKENS, Script, edit_marker};
use serde_json::{Value, json};

use crate::session::{ITEM, MODELS, Session, assert_failed, only_attempt};

/// Asserts what is left of the first turn.
#[track_caller]
fn assert_partial(session: &Session, run: &Value, id: &str) {
    let attempt = only_attempt(run);
    let usage = &attempt["usage"];
    assert_eq!(usage["quality"], "partial", "{attempt:#}");
    assert_eq!(usage["counters"]["input"], INPUT_TOKENS, "one answer was complete: {usage:#}");
    assert!(usage["cost_microusd"].is_null() && run["costComplete"] == false, "{run:#}");
    let transcript = session.transcript(id, 1);
    assert!(transcript.iter().any(|event| event["type"] == "assistant"), "{transcript:#?}");
    assert!(!transcript.iter().any(|event| event["type"] == "result"), "{transcript:#?}");
    let patch = attempt["patch"].as_str().unwrap_or_else(|| panic!("the edit is kept: {attempt:#}"));
    assert!(patch.starts_with("sha256:"), "{patch}");
}

#[test]
fn cancel_while_the_model_stalls_keeps_transcript_usage_and_work() {
    let Some(session) = Session::start(Script::EditStall) else { return };
    session.agent("agent", &[]);
    let task = edit_marker("README.md", "half done");
    let mut watch = session.submit("cancel-1", &[Session::item(ITEM, "agent", &task, &[MODELS], &json!({}))]);
    watch.until_item(ITEM, "running");
    session.until_asked_after(1);
    session.world.run(&["orch", "cancel", "cancel-1/work"]).ok();
    watch.until_terminal();
    let run = session.sealed("cancel-1");
    let item = item(&run, ITEM);
    assert_eq!(
        (&item["status"], &item["why"]),
        (&json!("cancelled"), &json!("stopped on request")),
        "{run:#}"
    );
    assert_partial(&session, &run, "cancel-1");
    assert!(agents("cancel-1").is_empty(), "an agent outlived its item");
}

#[test]
fn a_killed_agent_is_a_failure_with_everything_it_left() {
    let Some(session) = Session::start(Script::EditStall) else { return };
    session.agent("agent", &[]);
    let task = edit_marker("README.md", "half done");
    let items = [Session::item(ITEM, "agent", &task, &[MODELS], &json!({ "maxAttempts": 1 }))];
    let watch = session.submit("kill-1", &items);
    session.until_asked_after(1);
    let found = agents("kill-1");
    assert_eq!(found.len(), 1, "{found:?}");
    kill(found[0], Signal::SIGKILL).expect("kill");
    watch.until_terminal();
    let run = session.sealed("kill-1");
    assert_failed(&run, "work", 1, &["signal 9", "killed", "no result event"]);
    assert_partial(&session, &run, "kill-1");
}

/// Processes of the program in a run, found as the kernel shows them to the host. Not its shells.
fn agents(run: &str) -> Vec<Pid> {
    let mark = format!("PANGOLIN_RUN_ID={run}");
    let has = |bytes: &[u8], part: &str| bytes.split(|byte| *byte == 0).any(|word| word == part.as_bytes());
    let processes = fs::read_dir("/proc").expect("/proc").flatten();
    let pids = processes.filter_map(|entry| {
        let pid: i32 = entry.file_name().to_str()?.parse().ok()?;
        let file = |name: &str| fs::read(entry.path().join(name)).ok();
        let is_agent = has(&file("environ")?, &mark) && has(&file("cmdline")?, "stream-json");
        is_agent.then(|| Pid::from_raw(pid))
    });
    pids.collect()
}
