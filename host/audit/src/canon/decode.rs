//! The strict decoder of ledger entries: only what the encoder would write is an entry.

use pangolin_core::{
    entry::{ENTRY_BYTES_MAX, ENTRY_VERSION, Entry, EntryBody},
    ids::{Digest, RunId},
};
use serde::Deserialize;
use serde_json::Value;
use thiserror::Error;

use super::{CanonError, EncodeError, check, encode_entry, first_difference};

/// Every `kind` this version understands. A test holds it against [`EntryBody::kind`].
const KINDS: [&str; 15] = [
    "run.submitted",
    "item.fired",
    "item.outputs",
    "item.reconciled",
    "item.retried",
    "item.skipped",
    "item.denied",
    "item.cancelled",
    "item.tolerated",
    "run.extended",
    "pattern.decided",
    "pattern.moved",
    "run.cancelled",
    "run.closed",
    "run.completed",
];

/// The place in the chain of an entry whose `kind` this version does not know.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct UnknownEntry {
    /// Format version.
    pub v: u32,
    /// The run.
    pub run: RunId,
    /// Position.
    pub seq: u64,
    /// Milliseconds since the Unix epoch.
    pub at: i64,
    /// Who caused it.
    pub actor: String,
    /// Leaf hash of the entry before.
    #[serde(default)]
    pub prev: Option<Digest>,
    /// The unknown kind.
    pub kind: String,
}

/// Why bytes are not an entry.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum DecodeError {
    /// More than [`ENTRY_BYTES_MAX`] bytes.
    #[error("entry is {0} bytes long, the limit is 60000")]
    TooLong(usize),
    /// Not canonical JSON.
    #[error(transparent)]
    Canon(#[from] CanonError),
    /// A well-formed entry of a kind from a newer version. Its place in the chain can still be checked.
    #[error("unknown entry kind {:?}; a newer pangolin wrote it", .0.kind)]
    UnknownKind(Box<UnknownEntry>),
    /// A format version from a newer Pangolin.
    #[error("entry format version {0}, this program understands 1")]
    UnknownVersion(u32),
    /// A member that entries of this kind do not have.
    #[error("unknown or misplaced member {0:?}")]
    UnknownMember(String),
    /// Canonical JSON, but not an entry: a member is missing or has the wrong type or value.
    #[error("not an entry: {0}")]
    Malformed(String),
}

/// Reads an entry and checks that its bytes are exactly what [`encode_entry`] gives for it.
///
/// # Errors
/// [`DecodeError`]; an unknown `kind` is [`DecodeError::UnknownKind`] so that a verifier can go on.
pub fn decode_entry(bytes: &[u8]) -> Result<Entry, DecodeError> {
    if bytes.len() > ENTRY_BYTES_MAX {
        return Err(DecodeError::TooLong(bytes.len()));
    }
    let Ok(entry) = serde_json::from_slice::<Entry>(bytes) else {
        return Err(explain(bytes));
    };
    if entry.v != ENTRY_VERSION {
        return Err(DecodeError::UnknownVersion(entry.v));
    }
    match encode_entry(&entry) {
        Ok(again) if again == bytes => Ok(entry),
        Ok(again) => Err(explain_difference(bytes, &again)),
        Err(EncodeError::TooLong { bytes, .. }) => Err(DecodeError::TooLong(bytes)),
        Err(error @ EncodeError::IntegerTooLarge { .. }) => Err(DecodeError::Malformed(error.to_string())),
    }
}

/// Finds the reason; slow path.
fn explain(bytes: &[u8]) -> DecodeError {
    if let Err(error) = check(bytes) {
        return error.into();
    }
    let value: Value = match serde_json::from_slice(bytes) {
        Ok(value) => value,
        Err(error) => return CanonError::syntax(bytes, &error).into(),
    };
    if let Some(version) = value.get("v").and_then(Value::as_u64).and_then(|v| u32::try_from(v).ok())
        && version != ENTRY_VERSION
    {
        return DecodeError::UnknownVersion(version);
    }
    let known = value.get("kind").and_then(Value::as_str).is_some_and(|kind| KINDS.contains(&kind));
    if !known && let Ok(unknown) = serde_json::from_value::<UnknownEntry>(value) {
        return DecodeError::UnknownKind(Box::new(unknown));
    }
    match serde_json::from_slice::<Entry>(bytes) {
        Err(error) => DecodeError::Malformed(super::plain_message(&error)),
        Ok(_) => DecodeError::Malformed("cannot be read twice".to_owned()),
    }
}

/// The entry parsed but its bytes differ from ours: unknown member, default written out, or form.
fn explain_difference(bytes: &[u8], again: &[u8]) -> DecodeError {
    if let Err(error) = check(bytes) {
        return error.into();
    }
    let members = |bytes: &[u8]| serde_json::from_slice::<Value>(bytes).unwrap_or_default();
    if let Some(name) = extra_member(&members(bytes), &members(again)) {
        return DecodeError::UnknownMember(name);
    }
    CanonError::NotCanonical { byte: first_difference(bytes, again).unwrap_or(0) }.into()
}

/// First member (as a path) that is in `found` but not in `known`.
fn extra_member(found: &Value, known: &Value) -> Option<String> {
    let (Value::Object(found), Value::Object(known)) = (found, known) else { return None };
    found.iter().find_map(|(name, value)| match known.get(name) {
        None => Some(name.clone()),
        Some(other) => extra_member(value, other).map(|inner| format!("{name}.{inner}")),
    })
}

/// Compile-time reminder: a new kind needs a place in [`KINDS`].
const _: fn(&EntryBody) -> &'static str = EntryBody::kind;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_listed_kind_is_known_to_the_entry_type() {
        for kind in KINDS {
            let text = format!(r#"{{"kind":{kind:?}}}"#);
            let problem = match serde_json::from_str::<EntryBody>(&text) {
                Ok(_) => continue,
                Err(error) => error.to_string(),
            };
            assert!(problem.contains("missing field"), "{kind}: {problem}");
        }
        let problem = serde_json::from_str::<EntryBody>(r#"{"kind":"item.mystery"}"#)
            .expect_err("an unknown kind must not parse")
            .to_string();
        let listed = problem.matches('`').count() / 2 - 1;
        assert_eq!(listed, KINDS.len(), "core knows other kinds than KINDS lists: {problem}");
    }
}
