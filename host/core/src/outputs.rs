//! Outputs of an attempt, when there are too many for one entry.
//!
//! Few outputs are named by the entry that ends the attempt. Many are recorded before it, in `item.outputs` entries
//! with some hundred each, in ascending order of their paths (byte order); the ending entry then names their number and
//! one digest over all of them ([`OutputsTotal`]). Nothing counts before the ending entry says so: a ledger that stops
//! in between is the one of an attempt that still runs.
//!
//! Whoever ends the attempt after a crash goes on behind the recorded parts when these are the beginning of what it has
//! to record, and starts over with part 0 otherwise. So the outputs of an attempt are never doubled, and never mixed with
//! those of another collection or another attempt.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{entry::Evidence, ids::Digest};

/// Most outputs that the host takes from one attempt.
pub const OUTPUTS_MAX: usize = 20_000;

/// Longest path of an output in bytes.
pub const OUTPUT_PATH_BYTES_MAX: usize = 4_096;

/// Most bytes of outputs in an ending entry; more go into parts.
const INLINE_BYTES_MAX: usize = 40_000;

/// Most bytes of outputs in one `item.outputs`, with room for the rest of the entry.
const PART_BYTES_MAX: usize = 50_000;

/// First bytes of what [`OutputsTotal::digest`] is the digest of.
pub const OUTPUTS_DOMAIN: &[u8] = b"pangolin outputs v1\n";

/// What all recorded parts of an attempt add up to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutputsTotal {
    /// Number of outputs. 0 withdraws the recorded parts: the attempt left no outputs.
    pub count: u64,
    /// SHA-256 over [`OUTPUTS_DOMAIN`] and, for each output in ascending order of its path: length of the path in bytes
    /// (4 bytes, most significant first), the path, the 32 bytes of its digest.
    pub digest: Digest,
}

impl OutputsTotal {
    /// The total of these outputs.
    #[must_use]
    pub fn of(outputs: &BTreeMap<String, Digest>) -> Self {
        let mut bytes = Vec::with_capacity(OUTPUTS_DOMAIN.len() + outputs.len() * 64);
        bytes.extend_from_slice(OUTPUTS_DOMAIN);
        for (path, digest) in outputs {
            bytes.extend_from_slice(&u32::try_from(path.len()).unwrap_or(u32::MAX).to_be_bytes());
            bytes.extend_from_slice(path.as_bytes());
            bytes.extend_from_slice(digest.as_bytes());
        }
        Self { count: outputs.len() as u64, digest: Digest::of(&bytes) }
    }
}

/// Outputs of a running attempt that `item.outputs` entries have recorded so far.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PartialOutputs {
    /// Parts since part 0.
    pub parts: u64,
    /// What they name.
    pub outputs: BTreeMap<String, Digest>,
}

/// One part that has to be recorded before the attempt can end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Part {
    pub(crate) number: u64,
    pub(crate) outputs: BTreeMap<String, Digest>,
}

/// Takes the outputs out of the evidence when they do not fit into the ending entry, or when parts are recorded already.
/// Answers the parts that are still to be recorded.
pub(crate) fn take_parts(evidence: &mut Evidence, recorded: Option<&PartialOutputs>) -> Vec<Part> {
    let bytes: usize = evidence.outputs.keys().map(|path| cost(path)).sum();
    if recorded.is_none() && bytes <= INLINE_BYTES_MAX {
        return Vec::new();
    }
    let outputs = std::mem::take(&mut evidence.outputs);
    evidence.outputs_total = Some(OutputsTotal::of(&outputs));
    let nothing = PartialOutputs::default();
    let recorded = recorded
        .filter(|recorded| recorded.outputs.iter().eq(outputs.iter().take(recorded.outputs.len())))
        .unwrap_or(&nothing);
    let mut parts: Vec<Part> = Vec::new();
    let mut bytes = 0;
    for (path, digest) in outputs.into_iter().skip(recorded.outputs.len()) {
        let cost = cost(&path);
        bytes += cost;
        match parts.last_mut() {
            Some(part) if bytes <= PART_BYTES_MAX => {
                part.outputs.insert(path, digest);
            }
            _ => {
                let number = recorded.parts + parts.len() as u64;
                parts.push(Part { number, outputs: BTreeMap::from([(path, digest)]) });
                bytes = cost;
            }
        }
    }
    parts
}

/// Upper bound of the bytes of one output in an entry: path and digest with their quotes, colon and comma.
fn cost(path: &str) -> usize {
    escaped_len(path) + 77
}

/// Upper bound of the length of a text as canonical JSON, without the quotes.
pub(crate) fn escaped_len(text: &str) -> usize {
    text.bytes().map(|byte| if byte < 0x20 { 6 } else { 1 + usize::from(matches!(byte, b'"' | b'\\')) }).sum()
}
