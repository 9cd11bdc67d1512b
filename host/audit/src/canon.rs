//! RFC 8785 canonical JSON: one value, one byte string.
//!
//! [`to_vec`] and [`check`] work for any value. Ledger entries have their own encoder and strict decoder
//! ([`encode_entry`], [`decode_entry`]) because the engine writes tens of thousands of them per second; a test
//! holds the two against each other for every kind.

mod decode;
mod encode;
mod words;

use serde::Serialize;
use thiserror::Error;

pub use decode::{DecodeError, UnknownEntry, decode_entry};
pub use encode::{EncodeError, encode_entry, encode_entry_into};

/// Largest integer that RFC 8785 (IEEE doubles) carries exactly: 2^53 − 1.
pub const INTEGER_MAX: u64 = (1 << 53) - 1;

/// Why bytes are not canonical JSON.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum CanonError {
    /// Not JSON.
    #[error("JSON syntax error at byte {byte}: {problem}")]
    Syntax {
        /// Offset from the start.
        byte: usize,
        /// What the parser said.
        problem: String,
    },
    /// JSON, but not in its canonical form (white space, key order, duplicate key, escape or number form).
    #[error("not in canonical form (RFC 8785): differs at byte {byte}")]
    NotCanonical {
        /// Offset of the first difference.
        byte: usize,
    },
    /// The value has no JSON form.
    #[error("cannot be written as JSON: {0}")]
    Unserialisable(String),
}

impl CanonError {
    pub(crate) fn syntax(bytes: &[u8], error: &serde_json::Error) -> Self {
        Self::Syntax { byte: byte_offset(bytes, error), problem: plain_message(error) }
    }
}

/// Canonical JSON of any value.
///
/// # Errors
/// [`CanonError::Unserialisable`] when `value` has no JSON form (a map with non-text keys, a non-finite number).
pub fn to_vec<T: Serialize>(value: &T) -> Result<Vec<u8>, CanonError> {
    serde_json_canonicalizer::to_vec(value).map_err(|error| CanonError::Unserialisable(error.to_string()))
}

/// Checks that `bytes` are JSON in canonical form.
///
/// # Errors
/// [`CanonError`] names the first byte that is wrong.
pub fn check(bytes: &[u8]) -> Result<(), CanonError> {
    let value: serde_json::Value =
        serde_json::from_slice(bytes).map_err(|error| CanonError::syntax(bytes, &error))?;
    match first_difference(bytes, &to_vec(&value)?) {
        None => Ok(()),
        Some(byte) => Err(CanonError::NotCanonical { byte }),
    }
}

/// Offset of the first byte that differs (the shorter length when one is a prefix of the other).
pub(crate) fn first_difference(left: &[u8], right: &[u8]) -> Option<usize> {
    let common = left.iter().zip(right).position(|(l, r)| l != r);
    common.or_else(|| (left.len() != right.len()).then(|| left.len().min(right.len())))
}

/// serde_json counts lines and columns; people and programs want an offset.
pub(crate) fn byte_offset(bytes: &[u8], error: &serde_json::Error) -> usize {
    let start = match error.line().saturating_sub(1) {
        0 => 0,
        lines => {
            let newlines = bytes.iter().enumerate().filter(|(_, byte)| **byte == b'\n');
            newlines.map(|(index, _)| index + 1).nth(lines - 1).unwrap_or(0)
        }
    };
    (start + error.column().saturating_sub(1)).min(bytes.len())
}

/// The parser's message without its own position (we give the offset).
pub(crate) fn plain_message(error: &serde_json::Error) -> String {
    let text = error.to_string();
    match text.rfind(" at line ") {
        Some(end) => text[..end].to_owned(),
        None => text,
    }
}
