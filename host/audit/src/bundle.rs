//! The bundle: one file with everything that an offline verifier needs. This module is the only reader and writer.
//!
//! A bundle is one canonical JSON object (RFC 8785, no white space, no final newline):
//!
//! | member | content |
//! | --- | --- |
//! | `anchor` | `{anchorId, at, evidence, guarantee}`; absent while the run is not sealed; `evidence` only of an anchor outside the deployment |
//! | `checkpoint` | signed note: C2SP checkpoint of the run's tree, origin `<log>/run/<run>` |
//! | `digest` | SHA-256 of the bundle's canonical bytes without this member |
//! | `entries` | the ledger entries in order, as objects; because the whole file is canonical, the bytes of each are its leaf |
//! | `external` | digest → size in bytes of objects that are referred to but not included |
//! | `key` | verifier key of the deployment; its name is the log's origin |
//! | `log` | `{admit, checkpoint, origin, seal}`: the run's leaves of the deployment log with inclusion proofs |
//! | `objects` | digest → base64 of the bytes |
//! | `run` | run id |
//! | `schemaVersion` | 1 to 3, see below |
//!
//! Nothing is uncovered: `digest` covers every byte against accidents; against an adversary the entries, log leaves
//! and both checkpoints are under the deployment's signature, objects are under the entries' digests, `anchor`
//! repeats the sealed log leaf, and every object and external digest must be referred to by an entry. Only the sizes
//! in `external` and the choice of what is embedded are the exporter's word.
//!
//! # Versions
//!
//! Version 2 has no other form than version 1. It says that entries are about patterns: they have the kinds
//! `pattern.decided`, `pattern.moved` or `item.tolerated`, or one of the members `pattern_id`, `pattern_params`, `graph` (`run.submitted`),
//! `supersedes`, `pins` (`run.extended`). A program that knows version 1 only would take such a member for an
//! alteration and accuse a good record; so it is told that it cannot judge. Everything else stays version 1. Which of
//! the two a bundle must have follows from its entries, and the verifier checks that.
//!
//! Version 3 says that `anchor` has `evidence`: what the exporter saw when it asked an anchor outside the deployment
//! ([`crate::anchor`]). Which of the earlier versions the entries need is the same as without.
//!
//! With version 2 came further roles of objects: amended plan, parameters, decisions, pins of added items, lists of
//! artifacts of plugin blocks (member `block_artifacts` of an attempt's end) with the artifacts, and the components that
//! decided. Components travel in the bundle up to [`COMPONENT_BYTES_MAX`]; larger ones are external, and a replay then
//! names the digest that it lacks.

mod build;

use std::{borrow::Cow, collections::BTreeMap, io};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use pangolin_core::{
    entry::{EntryBody, RunSubmitted},
    ids::{Digest, RunId},
};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use thiserror::Error;

use crate::{
    anchor::AnchorEvidence,
    canon::{CanonError, INTEGER_MAX, to_vec},
    rebuild::Documents,
};

pub use crate::refs::{COMPONENT_BYTES_MAX, OBJECT_BYTES_MAX};
pub use build::{BundleBuilder, BundleError, LeafEvidence, LogEvidence, Placement, Wanted};

/// Newest version of the bundle format.
pub const BUNDLE_VERSION: u32 = 3;

/// The version of bundles with evidence of an anchor.
pub(crate) const WITH_EVIDENCE: u32 = 3;

/// Lowest version of the bundle format whose readers understand this entry.
#[must_use]
pub fn version_for(body: &EntryBody) -> u32 {
    let is_new = match body {
        EntryBody::PatternDecided(_)
        | EntryBody::PatternMoved { .. }
        | EntryBody::ItemTolerated { .. }
        | EntryBody::ItemOutputs { .. } => true,
        EntryBody::ItemReconciled { evidence, .. } | EntryBody::ItemRetried { evidence, .. } => {
            evidence.outputs_total.is_some() || evidence.block_artifacts.is_some()
        }
        EntryBody::RunSubmitted(submitted) => {
            let RunSubmitted { pattern_id, pattern_params, graph, .. } = &**submitted;
            pattern_id.is_some() || pattern_params.is_some() || graph.is_some()
        }
        EntryBody::RunExtended { supersedes, pins, .. } => !supersedes.is_empty() || pins.is_some(),
        _ => false,
    };
    if is_new { 2 } else { 1 }
}

/// Why bytes are not a bundle.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum FormatError {
    /// Not UTF-8 text.
    #[error("invalid UTF-8 at byte {byte}")]
    Utf8 {
        /// Offset.
        byte: usize,
    },
    /// Not JSON, or a member is unknown, missing or of the wrong type.
    #[error("{problem} (byte {byte})")]
    Json {
        /// Offset.
        byte: usize,
        /// What the parser said.
        problem: String,
    },
    /// JSON, but not in canonical form.
    #[error("not in canonical form (RFC 8785) from byte {byte} on")]
    NotCanonical {
        /// Offset.
        byte: usize,
    },
    /// An integer beyond what canonical JSON carries exactly.
    #[error("size of {digest} is beyond 2^53-1")]
    Size {
        /// The external object.
        digest: Digest,
    },
    /// Written by a newer Pangolin.
    #[error(
        "bundle schema version {found}, this program understands up to {BUNDLE_VERSION}; verify with a newer pangolin"
    )]
    Newer {
        /// The version.
        found: u64,
    },
}

impl FormatError {
    /// Where, for reports.
    #[must_use]
    pub fn place(&self) -> String {
        match self {
            Self::Utf8 { byte } | Self::NotCanonical { byte } => format!("byte {byte}"),
            Self::Json { byte, problem } if is_syntax(problem) => format!("JSON syntax at byte {byte}"),
            Self::Json { byte, .. } => format!("byte {byte}"),
            Self::Size { digest } => format!("external {digest}"),
            Self::Newer { .. } => "schemaVersion".to_owned(),
        }
    }
}

fn is_syntax(problem: &str) -> bool {
    !["unknown field", "missing field", "duplicate field", "invalid type", "invalid value", "invalid length"]
        .iter()
        .any(|start| problem.starts_with(start))
}

/// Where and how strongly the sealed root is held outside the run's own record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Anchor {
    /// `local`: the deployment's own log. Otherwise the id of an anchor outside, as `s3:<bucket>`.
    pub anchor_id: String,
    /// When (ms), asserted; for `local` the time of the seal event, otherwise when the anchor took it.
    pub at: i64,
    /// What the exporter saw at an anchor outside.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub evidence: Option<AnchorEvidence>,
    /// `detect`: alterations by anyone without the deployment's key are detected. `external-immutable`: see [`Guarantee`].
    ///
    /// [`Guarantee`]: crate::anchor::Guarantee
    pub guarantee: String,
}

impl Anchor {
    /// The anchor of a single machine: the deployment log itself.
    #[must_use]
    pub fn local(sealed_at: i64) -> Self {
        Self { anchor_id: "local".to_owned(), at: sealed_at, evidence: None, guarantee: "detect".to_owned() }
    }

    /// An anchor outside of the deployment, which was asked about the very checkpoint of the log that the bundle has.
    #[must_use]
    pub fn external(evidence: AnchorEvidence) -> Self {
        Self {
            anchor_id: evidence.anchor_id.clone(),
            at: evidence.taken_at_ms.unwrap_or(evidence.checked_at_ms),
            guarantee: evidence.guarantee.as_str().to_owned(),
            evidence: Some(evidence),
        }
    }
}

/// A leaf of the deployment log with its proof.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogLeaf<'a> {
    /// The leaf's bytes.
    #[serde(borrow)]
    pub event: &'a RawValue,
    /// Position in the log.
    pub index: u64,
    /// Inclusion proof in the log's checkpoint.
    pub proof: Vec<Digest>,
}

/// The deployment log's part of a bundle.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogPart<'a> {
    /// The admission.
    #[serde(borrow)]
    pub admit: LogLeaf<'a>,
    /// Signed checkpoint that both proofs lead to.
    pub checkpoint: String,
    /// Origin of the log.
    pub origin: String,
    /// The end; absent while the run is not sealed.
    #[serde(borrow, skip_serializing_if = "Option::is_none", default)]
    pub seal: Option<LogLeaf<'a>>,
}

/// A parsed bundle. Borrows from the bytes; nothing in it is verified except the canonical form.
// Members are declared in canonical order: serialising this type gives canonical JSON.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Bundle<'a> {
    /// Anchor, once sealed.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub anchor: Option<Anchor>,
    /// Signed run checkpoint.
    pub checkpoint: String,
    /// Digest over the rest.
    pub digest: Digest,
    /// Ledger entries.
    #[serde(borrow)]
    pub entries: Vec<&'a RawValue>,
    /// Sizes of objects that are not included.
    pub external: BTreeMap<Digest, u64>,
    /// Verifier key of the deployment.
    pub key: String,
    /// Deployment log.
    #[serde(borrow)]
    pub log: LogPart<'a>,
    /// Base64 of included objects.
    #[serde(borrow)]
    pub objects: BTreeMap<Digest, &'a str>,
    /// The run.
    pub run: RunId,
    /// Between 1 and [`BUNDLE_VERSION`].
    pub schema_version: u32,
}

impl Documents for Bundle<'_> {
    fn document(&self, digest: &Digest) -> Result<Cow<'_, [u8]>, String> {
        let Some(text) = self.objects.get(digest) else {
            let listed = self.external.contains_key(digest);
            let why =
                if listed { "is only listed in the bundle, not included" } else { "is not in the bundle" };
            return Err(why.to_owned());
        };
        match STANDARD.decode(text) {
            Ok(bytes) if Digest::of(&bytes) == *digest => Ok(Cow::Owned(bytes)),
            _ => Err("is damaged in the bundle".to_owned()),
        }
    }
}

impl<'a> Bundle<'a> {
    /// Reads a bundle and checks that its bytes are canonical around the entries and log events (those are checked
    /// one by one when they are decoded).
    ///
    /// # Errors
    /// [`FormatError`] names the first bad byte.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, FormatError> {
        let text =
            std::str::from_utf8(bytes).map_err(|error| FormatError::Utf8 { byte: error.valid_up_to() })?;
        let bundle: Self = match serde_json::from_str(text) {
            Ok(bundle) => bundle,
            Err(error) => {
                return Err(match CanonError::syntax(bytes, &error) {
                    CanonError::Syntax { byte, problem } => match newer_version(text) {
                        Some(found) => FormatError::Newer { found },
                        None => FormatError::Json { byte, problem },
                    },
                    _ => FormatError::NotCanonical { byte: 0 },
                });
            }
        };
        if let Some((digest, _)) = bundle.external.iter().find(|(_, size)| **size > INTEGER_MAX) {
            return Err(FormatError::Size { digest: *digest });
        }
        let mut compare = Compare { expected: bytes, at: 0 };
        if serde_json::to_writer(&mut compare, &bundle).is_err() || compare.at != bytes.len() {
            return Err(FormatError::NotCanonical { byte: compare.at });
        }
        if bundle.schema_version > BUNDLE_VERSION && bundle.digest == bundle.digest_of(bytes) {
            return Err(FormatError::Newer { found: bundle.schema_version.into() });
        }
        Ok(bundle)
    }

    /// The digest that `digest` should be: over `bytes` (what this bundle was parsed from) without that member.
    #[must_use]
    pub fn digest_of(&self, bytes: &[u8]) -> Digest {
        use sha2::Digest as _;
        // Canonical order puts only `anchor` and `checkpoint` before it.
        let length =
            |name: &str, value: Result<Vec<u8>, CanonError>| value.map_or(0, |v| name.len() + v.len() + 4);
        let anchor = self.anchor.as_ref().map_or(0, |anchor| length("anchor", to_vec(anchor)));
        let start = (1 + anchor + length("checkpoint", to_vec(&self.checkpoint))).min(bytes.len());
        let end = (start + DIGEST_MEMBER_BYTES).min(bytes.len());
        let mut hasher = sha2::Sha256::new();
        hasher.update(&bytes[..start]);
        hasher.update(&bytes[end..]);
        Digest::from_bytes(hasher.finalize().into())
    }
}

/// Length of `"digest":"sha256:<64 hex>",`.
const DIGEST_MEMBER_BYTES: usize = 9 + 73 + 1;

/// The schema version, when it is readable and newer than ours.
fn newer_version(text: &str) -> Option<u64> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Version {
        schema_version: u64,
    }
    let Version { schema_version } = serde_json::from_str(text).ok()?;
    (schema_version > u64::from(BUNDLE_VERSION)).then_some(schema_version)
}

/// Compares what is written with what is expected, without a second copy of the bundle.
struct Compare<'a> {
    expected: &'a [u8],
    /// Bytes that agreed so far.
    at: usize,
}

impl io::Write for Compare<'_> {
    fn write(&mut self, written: &[u8]) -> io::Result<usize> {
        let rest = &self.expected[self.at..];
        if rest.starts_with(written) {
            self.at += written.len();
            return Ok(written.len());
        }
        self.at += written.iter().zip(rest).take_while(|(left, right)| left == right).count();
        Err(io::Error::other("differs"))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
