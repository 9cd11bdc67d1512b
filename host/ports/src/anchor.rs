//! Where checkpoints of the deployment log are held outside the deployment.

use std::fmt;

use async_trait::async_trait;
use pangolin_audit::{
    checkpoint::Checkpoint,
    note::{Note, VerifierKey},
    report::Claim,
};
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Version of the JSON of [`AnchorEvidence`].
pub const EVIDENCE_VERSION: u32 = 1;

/// Failures of an anchor.
#[derive(Debug, Error)]
pub enum AnchorError {
    /// The text is no signed checkpoint. Nothing was published.
    #[error("this is no checkpoint to publish: {0}")]
    BadNote(String),
    /// The anchor holds another checkpoint of the same log and size: the log was forked, or its key is used by somebody
    /// else. Nothing was published. Stop the deployment and compare the two.
    #[error(
        "{locator} holds another checkpoint of {origin:?} with {size} leaves: the log was forked or its key is used elsewhere; keep both and find out before going on"
    )]
    Fork {
        /// The log.
        origin: String,
        /// Number of leaves.
        size: u64,
        /// Where the other one is.
        locator: String,
        /// The text that the anchor holds.
        held: String,
    },
    /// The anchor refuses by its rules, or cannot give its guarantee. Nothing was published.
    #[error("the anchor {anchor} refuses: {problem}")]
    Refused {
        /// Its id.
        anchor: String,
        /// Why, and the next step.
        problem: String,
    },
    /// Anything else. After a failed [`Anchor::publish`] nobody knows whether it was published; publish again.
    #[error("anchor failed: {context}")]
    Other {
        /// What was tried, naming the place.
        context: String,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// How strong an anchor is against the operator of the deployment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Guarantee {
    /// Alterations by anyone without the deployment's key are detected.
    Detect,
    /// What is held cannot be altered or removed by anybody, the operator included, before a date.
    ExternalImmutable,
}

impl Guarantee {
    /// The word in reports and bundles.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Detect => "detect",
            Self::ExternalImmutable => "external-immutable",
        }
    }
}

impl fmt::Display for Guarantee {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Where a published checkpoint is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Published {
    /// Names the place for people, as `s3://bucket/key`.
    pub locator: String,
    /// Whether this call made it. `false`: it was there already.
    pub created: bool,
}

/// What an anchor says about one checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Standing {
    /// It is there, once, with the signature of a given key, and everything that the guarantee needs was seen.
    Held,
    /// It is there, but something that the guarantee needs was not seen: see the findings.
    Weak,
    /// There is more than one version, a trace of a deletion, another checkpoint, or a text without a good signature.
    /// Somebody tampered, or the log was forked.
    Contested,
    /// There is nothing.
    Absent,
}

/// How long something is held, as the anchor itself says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Retention {
    /// The anchor's word for it, as `COMPLIANCE`.
    pub mode: String,
    /// Until when, in milliseconds since the Unix epoch.
    pub until_ms: i64,
}

/// The result of asking an anchor about a checkpoint: what was seen, when, and what that amounts to.
///
/// It is an observation, not a proof: a stranger believes it as far as the one who looked, and can look again
/// ([`Anchor::examine`]). The words come from what was checked, never from configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct AnchorEvidence {
    /// [`EVIDENCE_VERSION`].
    pub schema_version: u32,
    /// Which anchor, as `s3:<bucket>`.
    pub anchor_id: String,
    /// What was seen to hold: `external-immutable` only with [`Standing::Held`].
    pub guarantee: Guarantee,
    /// The judgement.
    pub standing: Standing,
    /// The log.
    pub origin: String,
    /// Number of leaves.
    pub size: u64,
    /// Names the place for people.
    pub locator: String,
    /// The signed note that is held; absent when there is none.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub note: Option<String>,
    /// The version that was looked at, where the anchor has versions.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub version: Option<String>,
    /// When the anchor took it by its own clock, in milliseconds since the Unix epoch.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub taken_at_ms: Option<i64>,
    /// How long it is held.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub retention: Option<Retention>,
    /// When this was looked at by the looker's clock, in milliseconds since the Unix epoch.
    pub checked_at_ms: i64,
    /// What speaks against a stronger judgement, in words. Empty when it is [`Standing::Held`].
    pub findings: Vec<String>,
}

impl AnchorEvidence {
    /// The claim that a bundle may make whose log proofs lead to this checkpoint, provided that everything else in it is
    /// intact: `tamper-evident` only when an external and immutable anchor holds it.
    #[must_use]
    pub fn claim(&self) -> Claim {
        match (self.standing, self.guarantee) {
            (Standing::Held, Guarantee::ExternalImmutable) => Claim::TamperEvident,
            _ => Claim::TamperDetecting,
        }
    }
}

/// Reads a note that is to be published. Its signatures are not checked: the caller made them.
///
/// # Errors
/// [`AnchorError::BadNote`].
pub fn checkpoint_of(note: &str) -> Result<Checkpoint, AnchorError> {
    let parsed = Note::parse(note).map_err(|error| AnchorError::BadNote(error.to_string()))?;
    parsed
        .text()
        .parse()
        .map_err(|error: pangolin_audit::checkpoint::CheckpointError| AnchorError::BadNote(error.to_string()))
}

/// Holds signed checkpoints of deployment logs where the deployment cannot change them, and shows them.
///
/// # What every anchor does
/// - *Durable*: a checkpoint that [`Anchor::publish`] acknowledged is there after any crash.
/// - *Atomic*: a reader sees a whole note or none.
/// - *Create-only*: one checkpoint per log and size, for ever. A second one with another root is [`AnchorError::Fork`] and
///   changes nothing; exactly one of several concurrent publishers with different roots wins.
/// - *Idempotent*: publishing the same checkpoint again succeeds. The first note stays, also when the second has other
///   signatures over the same text.
/// - *Honest*: [`Anchor::examine`] says what it saw at that moment. A guarantee that could not be seen is not claimed.
///
/// Any number of processes may publish and examine at the same time.
#[async_trait]
pub trait Anchor: Send + Sync {
    /// Names the anchor in bundles and reports: `s3:<bucket>`, ….
    fn id(&self) -> &str;

    /// Publishes a signed checkpoint: the text of a C2SP note. One write; nothing is listed.
    async fn publish(&self, note: &str) -> Result<Published, AnchorError>;

    /// Sizes of the checkpoints held of a log, ascending, from `from` on, at most `limit`. For auditors; a deployment
    /// itself never lists.
    async fn sizes(&self, origin: &str, from: u64, limit: usize) -> Result<Vec<u64>, AnchorError>;

    /// Looks at everything the anchor holds about the checkpoint of this size and judges it with `keys`.
    ///
    /// That a checkpoint is absent, contested or weakly held is an answer and no error.
    async fn examine(
        &self,
        origin: &str,
        size: u64,
        keys: &[VerifierKey],
    ) -> Result<AnchorEvidence, AnchorError>;
}

/// Asks an anchor about a checkpoint that somebody presents, as a bundle does: whether it is the one that is held.
///
/// # Errors
/// [`AnchorError::BadNote`] when the presented text is no checkpoint signed by one of `keys`, and what
/// [`Anchor::examine`] fails with.
pub async fn check_note(
    anchor: &dyn Anchor,
    note: &str,
    keys: &[VerifierKey],
) -> Result<AnchorEvidence, AnchorError> {
    let presented = checkpoint_of(note)?;
    Checkpoint::open(note, &presented.origin, keys)
        .map_err(|error| AnchorError::BadNote(error.to_string()))?;
    let mut evidence = anchor.examine(&presented.origin, presented.size, keys).await?;
    let held = evidence.note.as_deref().and_then(|held| checkpoint_of(held).ok());
    if held.is_some_and(|held| held != presented) {
        evidence.standing = Standing::Contested;
        evidence.guarantee = Guarantee::Detect;
        let finding = "the anchor holds another root for this size: one of the two histories is forged";
        evidence.findings.insert(0, finding.to_owned());
    }
    Ok(evidence)
}
