//! The provider says no.

use pangolin_model_server::Script;
use serde_json::json;

use crate::session::{MODELS, Session, assert_failed};

#[test]
fn a_rejected_key_is_not_tried_again() {
    let Some(session) = Session::start(Script::Status(401)) else { return };
    session.agent("agent", &[]);
    let run = session.run("key-1", "Do it.", &[MODELS], &json!({}));
    assert_failed(&run, "refusal", 1, &["auth-error", "the provider rejected the key", "401"]);
}

#[test]
fn an_overloaded_provider_is_tried_again() {
    let Some(session) = Session::start(Script::Status(529)) else { return };
    session.agent("agent", &[]);
    let run = session.run("busy-1", "Do it.", &[MODELS], &json!({}));
    assert_failed(&run, "infrastructure", 2, &["provider-error", "HTTP 529"]);
    // Both transcripts are on record, each with its own session.
    let sessions = [1, 2].map(|attempt| session.transcript("busy-1", attempt)[0]["session_id"].clone());
    assert_ne!(sessions[0], sessions[1]);
}
