//! Refusals: the agent may end with code 0 and friendly words, the verdict says what happened. None is retried.

use pangolin_model_server::{Script, edit_marker};
use serde_json::json;

use crate::session::{ITEM, MODELS, Session, assert_failed, only_attempt};
use pangolin_e2e::world::item;

#[test]
fn a_refused_tool_is_a_failure_although_the_agent_says_done() {
    let Some(session) = Session::start(Script::Edit) else { return };
    session.agent("agent", &[]);
    let value = "PANGOLIN_CLAUDE_PERMISSION_MODE=strict";
    session.world.run(&["env", "register", "--name", "strict", "--value", value]).ok();
    let run = session.run("denied-1", &edit_marker("README.md", "x"), &[MODELS, "strict"], &json!({}));
    assert_failed(&run, "refusal", 1, &["refused a tool and changed nothing", "Bash"]);
    assert!(only_attempt(&run)["patch"].is_null());
    assert_eq!(only_attempt(&run)["usage"]["quality"], "exact");
    // What the program itself thinks of it.
    let transcript = session.transcript("denied-1", 1);
    let result = transcript.iter().rfind(|event| event["type"] == "result").expect("result event");
    assert_eq!(
        (&result["subtype"], &result["is_error"], &result["result"]),
        (&json!("success"), &json!(false), &json!("Done."))
    );
    assert_eq!(item(&run, ITEM)["attempts"][0]["status"], "failed");
}

#[test]
fn tools_that_are_allowed_work_in_strict_mode() {
    let Some(session) = Session::start(Script::Edit) else { return };
    session.agent("agent", &["--param", "allowedTools=[\"Bash\"]"]);
    let value = "PANGOLIN_CLAUDE_PERMISSION_MODE=strict";
    session.world.run(&["env", "register", "--name", "strict", "--value", value]).ok();
    let run = session.run("allowed-1", &edit_marker("README.md", "x"), &[MODELS, "strict"], &json!({}));
    assert_eq!(item(&run, ITEM)["status"], "done", "{run:#}");
}

#[test]
fn the_turn_limit_is_a_refusal() {
    let Some(session) = Session::start(Script::ToolLoop) else { return };
    session.agent("agent", &["--param", "maxTurns=2"]);
    let run = session.run("turns-1", "Go on.", &[MODELS], &json!({}));
    assert_failed(&run, "refusal", 1, &["turn-cap", "turn limit reached"]);
    let usage = &only_attempt(&run)["usage"];
    assert_eq!(usage["quality"], "exact", "{usage:#}");
    assert!(usage["cost_microusd"].as_u64().is_some_and(|cost| cost > 0), "failed work costs too: {usage:#}");
}

#[test]
fn the_money_limit_of_the_item_is_a_refusal() {
    let Some(session) = Session::start(Script::ToolLoop) else { return };
    session.agent("agent", &[]);
    let run = session.run("money-1", "Go on.", &[MODELS], &json!({ "budgetUsd": 0.005 }));
    assert_failed(&run, "refusal", 1, &["money-cap", "money limit reached"]);
}

#[test]
fn a_model_that_declines_is_a_refusal() {
    let Some(session) = Session::start(Script::Refuse) else { return };
    session.agent("agent", &[]);
    let run = session.run("declined-1", "Do it.", &[MODELS], &json!({}));
    assert_failed(&run, "refusal", 1, &["denied", "the model declined the task"]);
}
