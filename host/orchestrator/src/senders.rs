//! Who may send messages: each is signed by its sender when the deployment knows senders.
//!
//! The signature is a signed note (C2SP `signed-note`, Ed25519) over
//!
//! ```text
//! pangolin.message/v1
//! <origin of the deployment's log>
//! <name of the message>
//! <SHA-256 of the request's canonical JSON (RFC 8785), 64 hex digits>
//! ```
//!
//! An inbox takes a name once, so a message cannot be sent again; the origin keeps it from being sent to another
//! deployment. Whoever can write to the inbox but has no key can only be refused, and whoever may change the configuration
//! decides who has a key.

use std::collections::BTreeMap;

use pangolin_audit::{
    canon,
    note::{Note, NoteError, SigningKey, VerifierKey},
};
use pangolin_core::ids::Digest;

use crate::message::{Envelope, Request};

/// First line of what is signed.
const CONTEXT: &str = "pangolin.message/v1";

/// Before the name of a sender who proved to be one, as actor in the ledger.
const ACTOR_PREFIX: &str = "key:";

/// Public keys by the name that the ledger gets. Without any, everybody who can write to the inbox is believed.
#[derive(Debug, Clone, Default)]
pub struct Senders(BTreeMap<String, VerifierKey>);

impl Senders {
    /// These, and nobody else.
    #[must_use]
    pub fn new(keys: BTreeMap<String, VerifierKey>) -> Self {
        Self(keys)
    }

    /// The message as it counts: where there are senders, its actor is `key:<name>` of the one who signed it, whatever it
    /// says.
    ///
    /// # Errors
    /// One sentence for the sender.
    pub fn judge(&self, origin: &str, name: &str, envelope: Envelope) -> Result<Request, String> {
        let Envelope { mut request, note, .. } = envelope;
        if self.0.is_empty() {
            return Ok(request);
        }
        let note = note.ok_or(
            "the message is not signed, and this deployment takes signed ones only; set PANGOLIN_SENDER_KEY to a key \
             file of `pangolin sender new`",
        )?;
        let note = Note::parse(&note).map_err(|error| format!("the signature is malformed: {error}"))?;
        let expected = text(origin, name, &request)
            .map_err(|error| format!("the request has no canonical form: {error}"))?;
        if note.text() != expected {
            return Err("the signature is of another message, or for another deployment".to_owned());
        }
        // One by one: two senders may have chosen keys of the same name.
        let sender = self.0.iter().find(|(_, key)| note.verify(std::slice::from_ref(*key)).is_ok());
        let Some((sender, _)) = sender else {
            let by = note.signatures().first().map_or("nobody", |signature| signature.name.as_str());
            return Err(format!("the message is signed by {by:?}, whose key is not in [senders]"));
        };
        request.set_actor(format!("{ACTOR_PREFIX}{sender}"));
        Ok(request)
    }
}

fn text(origin: &str, name: &str, request: &Request) -> Result<String, canon::CanonError> {
    let digest = Digest::of(&canon::to_vec(request)?);
    Ok(format!("{CONTEXT}\n{origin}\n{name}\n{}\n", digest.hex()))
}

/// Why a message cannot be signed.
#[derive(Debug, thiserror::Error)]
pub enum SignError {
    /// The request has no canonical form.
    #[error(transparent)]
    Canon(#[from] canon::CanonError),
    /// Its name or the origin cannot be in a note.
    #[error(transparent)]
    Note(#[from] NoteError),
}

/// The signature of a message for [`Envelope::note`].
///
/// # Errors
/// [`SignError`].
pub fn sign(key: &SigningKey, origin: &str, name: &str, request: &Request) -> Result<String, SignError> {
    Ok(key.sign(&text(origin, name, request)?)?.to_string())
}

#[cfg(test)]
mod tests {
    use pangolin_core::ids::RunId;

    use super::*;
    use crate::message::MESSAGE_VERSION;

    const ORIGIN: &str = "pangolin.test/1";

    fn key(name: &str, byte: u8) -> SigningKey {
        SigningKey::from_seed(name, &[byte; 32]).unwrap()
    }

    fn senders() -> Senders {
        let keys = [("alice", key("laptop", 1)), ("ci", key("laptop", 2))];
        Senders::new(keys.map(|(name, key)| (name.to_owned(), key.verifier_key())).into())
    }

    fn close(run: &str) -> Request {
        Request::Close { run: RunId::new(run).unwrap(), actor: "human:mallory".to_owned() }
    }

    fn signed(key: &SigningKey, origin: &str, name: &str) -> Envelope {
        let request = close("r");
        let note = Some(sign(key, origin, name, &request).unwrap());
        Envelope { v: MESSAGE_VERSION, request, note }
    }

    #[test]
    fn the_actor_is_who_signed_and_not_who_is_named() {
        for (byte, actor) in [(1, "key:alice"), (2, "key:ci")] {
            let request =
                senders().judge(ORIGIN, "m-1", signed(&key("laptop", byte), ORIGIN, "m-1")).unwrap();
            assert_eq!(request.actor(), actor);
        }
    }

    #[test]
    fn what_is_not_signed_for_here_and_now_is_refused() {
        let good = signed(&key("laptop", 1), ORIGIN, "m-1");
        let unsigned = Envelope { note: None, ..good.clone() };
        let changed = Envelope { request: close("another"), ..good.clone() };
        let torn =
            Envelope { note: good.note.clone().map(|note| note.replace('\u{2014}', "-")), ..good.clone() };
        let stranger = signed(&key("laptop", 9), ORIGIN, "m-1");
        let elsewhere = signed(&key("laptop", 1), "pangolin.other/2", "m-1");
        let again = signed(&key("laptop", 1), ORIGIN, "m-0");
        for (envelope, words) in [
            (unsigned, "not signed"),
            (changed, "another message"),
            (torn, "malformed"),
            (stranger, "not in [senders]"),
            (elsewhere, "another deployment"),
            (again, "another message"),
        ] {
            let why = senders().judge(ORIGIN, "m-1", envelope).unwrap_err();
            assert!(why.contains(words), "{words}: {why}");
        }
    }

    #[test]
    fn without_senders_everybody_is_believed() {
        let envelope = Envelope { v: MESSAGE_VERSION, request: close("r"), note: None };
        assert_eq!(Senders::default().judge(ORIGIN, "m-1", envelope).unwrap().actor(), "human:mallory");
    }
}
