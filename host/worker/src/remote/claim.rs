//! One dispatch, one worker.

use pangolin_envelope::start::{ANSWER_BYTES_MAX, Claim, START_VERSION, StartDocument};

use super::http::{Created, Http};
use crate::events::now_ms;

/// Whose the dispatch is.
pub(super) enum Claimed {
    /// This worker's, by the nonce of its claim.
    Ours(String),
    /// Of a worker that was first.
    Elsewhere,
}

/// Creates the claim.
///
/// # Errors
/// When it cannot be known whose the dispatch is.
pub(super) fn take(http: &Http, document: &StartDocument) -> Result<Claimed, String> {
    // 122 random bits of the kernel; it need not be secret.
    let nonce = std::fs::read_to_string("/proc/sys/kernel/random/uuid")
        .map_err(|error| format!("cannot draw a random number: {error}"))?;
    let nonce = nonce.trim().to_owned();
    let claim = Claim {
        schema_version: START_VERSION,
        dispatch: document.dispatch.clone(),
        nonce: nonce.clone(),
        at: now_ms(),
    };
    let text = serde_json::to_vec(&claim).map_err(|error| error.to_string())?;
    let created =
        http.create(&document.claim, &text).map_err(|error| format!("claiming the dispatch: {error}"))?;
    if created == Created::New {
        return Ok(Claimed::Ours(nonce));
    }
    // Perhaps our own, of an attempt whose answer was lost.
    let text = http
        .get(&document.claim_get, ANSWER_BYTES_MAX)
        .map_err(|error| format!("reading the claim of the dispatch: {error}"))?;
    match serde_json::from_slice::<Claim>(&text) {
        Ok(found) if found.nonce == nonce => Ok(Claimed::Ours(nonce)),
        Ok(_) => Ok(Claimed::Elsewhere),
        Err(_) => Err(format!("the claim of dispatch {} is malformed; this worker ends", document.dispatch)),
    }
}
