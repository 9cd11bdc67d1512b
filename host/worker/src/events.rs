//! The event stream on stdout: one JSON object per line, flushed at once, redacted.

use std::{
    io::{self, Write},
    time::{SystemTime, UNIX_EPOCH},
};

use pangolin_envelope::events::Event;

use crate::redact::Redactor;

/// Milliseconds since the epoch.
#[must_use]
pub(crate) fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// Writes one event. The worker goes on when nobody listens: the result file is what counts.
pub(crate) fn emit(redactor: &Redactor, event: &Event) {
    match serde_json::to_value(event) {
        Ok(value) => line(&redact_values(redactor, value)),
        Err(error) => line(&serde_json::json!({"kind": "worker.event.lost", "message": error.to_string()})),
    }
}

/// Redacts the values but not the closed vocabulary and identity around them.
fn redact_values(redactor: &Redactor, mut value: serde_json::Value) -> serde_json::Value {
    if let Some(map) = value.as_object_mut() {
        for (key, field) in map.iter_mut() {
            if !matches!(key.as_str(), "kind" | "dispatchId" | "reason") {
                *field = redactor.json(field);
            }
        }
    }
    value
}

/// A line for a worker that does not know its dispatch.
pub(crate) fn boot_failed(message: &str) {
    line(&serde_json::json!({"kind": "worker.boot.failed", "message": message}));
}

/// A line of JSON on stdout.
pub(crate) fn line(value: &serde_json::Value) {
    let mut text = value.to_string();
    text.push('\n');
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).ok();
}
