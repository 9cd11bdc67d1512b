//! Where checkpoints of the deployment log are held outside the deployment.

use async_trait::async_trait;
use pangolin_audit::{
    checkpoint::Checkpoint,
    note::{Note, VerifierKey},
};
use thiserror::Error;

pub use pangolin_audit::anchor::{AnchorEvidence, EVIDENCE_VERSION, Guarantee, Retention, Standing};

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

/// Where a published checkpoint is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Published {
    /// Names the place for people, as `s3://bucket/key`.
    pub locator: String,
    /// Whether this call made it. `false`: it was there already.
    pub created: bool,
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
