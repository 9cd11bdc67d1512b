//! The worker as a task on another machine: it fetches what it is given, runs an ordinary worker as its child, and uploads
//! what that left. Contract: `pangolin_envelope::start`.
//!
//! ```text
//! PANGOLIN_START_URL ─▶ claim ─▶ fetch ─▶ child (the ordinary worker) ─▶ archive ─▶ completion
//! ```
//! This process keeps the signed URLs and the start document in memory only and is not dumpable, so neither the child nor
//! anything that the child starts can read them: the agent cannot forge a result, a completion or another worker's claim.
//!
//! Deliberately not here: credentials of any kind, and a second try of the dispatch; a new attempt is another task.

mod claim;
mod deliver;
mod http;
mod layout;
mod supervise;

use std::{
    env,
    path::Path,
    time::{Duration, Instant},
};

use nix::sys::prctl::{set_child_subreaper, set_dumpable};
use pangolin_envelope::start::{
    CLAIMED_ELSEWHERE, EndedBy, START_BYTES_MAX, START_URL, SignedRequest, StartDocument,
};

use crate::{events, signals::Signals};
use claim::Claimed;
use http::Http;

/// Exit code when this worker cannot even begin.
const NOT_BEGUN: i32 = 1;

/// How the dispatch ended.
pub(super) struct Outcome {
    /// Exit code.
    code: i32,
    /// What ended it.
    ended_by: EndedBy,
    /// The event stream, bounded.
    stdout: Vec<u8>,
    /// Errors and warnings, bounded.
    stderr: Vec<u8>,
}

/// The URL of the start document, when this worker is a remote one.
pub(crate) fn wanted() -> Option<String> {
    env::var(START_URL).ok().filter(|url| !url.is_empty())
}

/// Runs the dispatch and answers the exit code.
pub(crate) fn run(url: String) -> i32 {
    match begin(url) {
        Ok(code) => code,
        Err(message) => {
            events::boot_failed(&message);
            NOT_BEGUN
        }
    }
}

fn begin(url: String) -> Result<i32, String> {
    // First of all: from here on, processes of the same user can neither trace this one nor read its variables.
    set_dumpable(false)
        .and_then(|()| set_child_subreaper(true))
        .map_err(|errno| format!("cannot protect the worker: {errno}"))?;
    let signals = Signals::install().map_err(|error| format!("cannot receive signals: {error}"))?;
    let task_dir = layout::task_dir()?;
    let http = Http::new(signals.clone());
    let start = SignedRequest { url, headers: Vec::new() };
    let text = http.get(&start, START_BYTES_MAX).map_err(|error| format!("the start document: {error}"))?;
    // serde_json quotes what it did not expect, which could be a secret.
    let document: StartDocument = serde_json::from_slice(&text).map_err(|error| {
        format!("the start document is malformed (line {}, column {})", error.line(), error.column())
    })?;
    drop(text);
    let problems = document.problems();
    if !problems.is_empty() {
        return Err(format!("the start document cannot be used: {}", problems.join("; ")));
    }
    let nonce = match claim::take(&http, &document)? {
        Claimed::Ours(nonce) => nonce,
        Claimed::Elsewhere => {
            let dispatch = &document.dispatch;
            events::boot_failed(&format!("dispatch {dispatch} was claimed by another worker; this one ends"));
            return Ok(CLAIMED_ELSEWHERE);
        }
    };
    let deadline = Instant::now() + Duration::from_millis(document.limits.timeout_ms);
    // From here on the host waits for the completion object, whatever happens.
    let outcome = dispatch(&http, &document, &signals, deadline, &task_dir);
    let code = outcome.code;
    deliver::all(&http, &document, nonce, outcome, &task_dir)?;
    Ok(code)
}

fn dispatch(
    http: &Http,
    document: &StartDocument,
    signals: &Signals,
    deadline: Instant,
    task_dir: &Path,
) -> Outcome {
    let laid_out = layout::lay_out(http, document, task_dir, signals, deadline);
    let (message, ended_by) = match laid_out {
        Ok(places) => match supervise::run(&places, document, signals, deadline) {
            Ok(outcome) => return outcome,
            Err(message) => (message, EndedBy::Itself),
        },
        Err(message) if signals.stopped() => (message, EndedBy::Stop),
        Err(message) if Instant::now() >= deadline => (message, EndedBy::Timeout),
        Err(message) => (message, EndedBy::Itself),
    };
    events::boot_failed(&message);
    let event = serde_json::json!({"kind": "worker.boot.failed", "message": message});
    Outcome {
        code: NOT_BEGUN,
        ended_by,
        stdout: format!("{event}\n").into_bytes(),
        stderr: format!("{message}\n").into_bytes(),
    }
}
