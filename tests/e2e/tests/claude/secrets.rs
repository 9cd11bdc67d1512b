//! The provider's key: it works, and it stays where it belongs.

use std::fs;

use pangolin_e2e::world::item;
use pangolin_model_server::{Script, edit_marker};
use serde_json::{Value, json};

use crate::session::{ITEM, KEY, MODELS, Session};

#[test]
fn the_key_reaches_the_model_and_nothing_else() {
    let Some(session) = Session::start(Script::Edit) else { return };
    // A careless verify command says the key aloud.
    session.agent(
        "agent",
        &["--verify", "echo \"the key is $ANTHROPIC_API_KEY.\"; echo \"$ANTHROPIC_API_KEY\" >&2"],
    );
    let run = session.run("secret-1", &edit_marker("README.md", "x"), &[MODELS], &json!({}));
    assert_eq!(item(&run, ITEM)["status"], "done", "{run:#}");
    assert_eq!(item(&run, ITEM)["verify"]["passed"], true, "{run:#}");
    let turns = session.turns();
    assert!(!turns.is_empty() && turns.iter().all(|seen| seen.api_key.as_deref() == Some(KEY)), "{turns:#?}");

    // It was said, and taken out: in the report of the result record.
    let record = item(&run, ITEM)["attempts"][0]["result"].as_str().expect("result record").to_owned();
    let text = blob(&session, &record);
    assert!(text.contains("the key is <redacted:secret>."), "{text}");
    // The manifest names the variable, so that a reader knows what the worker was given.
    let manifest = item(&run, ITEM)["attempts"][0]["manifestRef"].as_str().expect("manifest").to_owned();
    let manifest: Value = serde_json::from_str(&blob(&session, &manifest)).expect("JSON");
    assert_eq!(manifest["secret_names"], json!(["ANTHROPIC_API_KEY"]));
    let shown = session.world.run(&["env", "get", MODELS]).ok().text();
    assert!(shown.contains("local-secret://") && !shown.contains(KEY), "{shown}");
}

#[test]
fn a_secret_that_cannot_be_fetched_stops_the_item_before_the_agent() {
    let Some(session) = Session::start(Script::Edit) else { return };
    session.agent("agent", &[]);
    let secret = "ANTHROPIC_API_KEY=env://E2E_NOT_SET";
    session.world.run(&["env", "register", "--name", "unset", "--secret", secret]).ok();
    let run = session.run("unset-1", "Do it.", &["unset"], &json!({}));
    let failure = &item(&run, ITEM)["attempts"][0]["failure"];
    assert_eq!(
        (&failure["reason"], &failure["class"]),
        (&json!("fetch-failed"), &json!("invalid")),
        "{run:#}"
    );
    assert!(failure["message"].as_str().is_some_and(|message| message.contains("E2E_NOT_SET")), "{failure}");
    assert_eq!(item(&run, ITEM)["attempts"].as_array().map(Vec::len), Some(1), "{run:#}");
    assert!(session.model.seen().is_empty());
}

#[test]
fn an_agent_without_a_key_says_what_is_missing() {
    let Some(session) = Session::start(Script::Edit) else { return };
    session.agent("agent", &[]);
    let run = session.run("keyless-1", "Do it.", &[], &json!({}));
    crate::session::assert_failed(&run, "refusal", 1, &["auth-error", "Not logged in"]);
    assert!(session.turns().is_empty(), "{:#?}", session.turns());
}

/// A blob of the deployment's store.
fn blob(session: &Session, digest: &str) -> String {
    let hex = digest.strip_prefix("sha256:").expect("digest");
    let mut next = vec![session.world.path().join(".pangolin")];
    while let Some(path) = next.pop() {
        if path.is_dir() {
            next.extend(fs::read_dir(&path).into_iter().flatten().flatten().map(|entry| entry.path()));
        } else if path.file_name().is_some_and(|name| name.to_string_lossy().ends_with(&hex[4..])) {
            return fs::read_to_string(&path).expect("blob");
        }
    }
    panic!("no blob {hex}");
}
