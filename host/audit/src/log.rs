//! The deployment log: one RFC 6962 tree per deployment with a leaf when a run is admitted, before anything is
//! dispatched, and one when it ended. That makes omission, re-running and forking of runs visible.
//!
//! A leaf is the canonical JSON of a [`LogEvent`]. A [`Receipt`] is what the submitter gets.

use pangolin_core::{
    entry::RunOutcome,
    ids::{Digest, QueueName, RunId},
};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::{
    canon::{self, CanonError},
    checkpoint::{Checkpoint, CheckpointError},
    merkle::{self, MerkleError},
    note::VerifierKey,
};

/// Version of the log event format.
pub const LOG_VERSION: u32 = 1;

/// Version of the receipt format.
pub const RECEIPT_VERSION: u32 = 1;

/// Kind reserved for key changes. Nothing writes it yet.
pub const KIND_KEY: &str = "key";

/// Why log bytes or a receipt are not acceptable.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum LogError {
    /// Not canonical JSON.
    #[error("log event: {0}")]
    Canon(#[from] CanonError),
    /// Canonical JSON but not an event this version knows.
    #[error("log event is malformed or of a newer version: {0}")]
    Event(String),
    /// The receipt is malformed.
    #[error("receipt is malformed: {0}")]
    Receipt(String),
    /// The receipt is about something other than an admission.
    #[error("receipt holds a {0:?} event, expected \"admit\"")]
    NotAdmission(&'static str),
    /// The checkpoint is not acceptable.
    #[error("receipt checkpoint: {0}")]
    Checkpoint(#[from] CheckpointError),
    /// The event is not in the tree that the checkpoint describes.
    #[error("receipt proof: {0}")]
    Proof(#[from] MerkleError),
}

/// A leaf of the deployment log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum LogEvent {
    /// A run was admitted. Written before its first dispatch.
    Admit(Admit),
    /// A run ended.
    Seal(Seal),
}

/// A run was admitted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Admit {
    /// [`LOG_VERSION`].
    pub v: u32,
    /// Admission number from 0, without gaps in a deployment.
    pub seq: u64,
    /// The run.
    pub run: RunId,
    /// Digest of the plan as submitted.
    pub plan: Digest,
    /// Its queue.
    pub queue: QueueName,
    /// Who submitted.
    pub actor: String,
    /// Milliseconds since the Unix epoch, asserted by the orchestrator.
    pub at: i64,
}

/// A run ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Seal {
    /// [`LOG_VERSION`].
    pub v: u32,
    /// The run.
    pub run: RunId,
    /// How it ended.
    pub outcome: RunOutcome,
    /// Number of its entries.
    pub entries: u64,
    /// Root of its tree.
    pub root: Digest,
    /// Milliseconds since the Unix epoch, asserted by the orchestrator.
    pub at: i64,
    /// Admission number of the run.
    pub admission: u64,
}

impl LogEvent {
    /// The `kind` text.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Admit(_) => "admit",
            Self::Seal(_) => "seal",
        }
    }

    /// The leaf's bytes.
    ///
    /// # Errors
    /// [`LogError::Event`] when a number is beyond what canonical JSON carries exactly.
    pub fn encode(&self) -> Result<Vec<u8>, LogError> {
        let (numbers, at) = match self {
            Self::Admit(admit) => ([admit.seq, 0], admit.at),
            Self::Seal(seal) => ([seal.entries, seal.admission], seal.at),
        };
        if numbers.iter().any(|number| *number > canon::INTEGER_MAX) || at.unsigned_abs() > canon::INTEGER_MAX
        {
            return Err(LogError::Event("a number is beyond ±(2^53-1)".to_owned()));
        }
        Ok(canon::to_vec(self)?)
    }

    /// Reads a leaf strictly: unknown members, other forms and other versions are refused.
    ///
    /// # Errors
    /// [`LogError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, LogError> {
        canon::check(bytes)?;
        let event: Self =
            serde_json::from_slice(bytes).map_err(|error| LogError::Event(error.to_string()))?;
        let (Self::Admit(Admit { v, .. }) | Self::Seal(Seal { v, .. })) = &event;
        if *v != LOG_VERSION {
            return Err(LogError::Event(format!("version {v}, this program understands {LOG_VERSION}")));
        }
        // A default or lossy number would read differently than it is written.
        if event.encode()? != bytes {
            return Err(LogError::Event("it is not what this program would write for it".to_owned()));
        }
        Ok(event)
    }

    /// The leaf hash of [`LogEvent::encode`].
    ///
    /// # Errors
    /// As [`LogEvent::encode`].
    pub fn leaf(&self) -> Result<Digest, LogError> {
        Ok(merkle::leaf_hash(&self.encode()?))
    }
}

/// The admission receipt: proof that the deployment has recorded the run before working on it. Keep it: a
/// deployment that later hides or replaces the run contradicts a text that it signed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Receipt {
    /// Signed checkpoint of the deployment log.
    pub checkpoint: String,
    /// The admission event.
    pub event: LogEvent,
    /// Its position in the log.
    pub index: u64,
    /// Inclusion proof.
    pub proof: Vec<Digest>,
    /// [`RECEIPT_VERSION`].
    pub schema_version: u32,
}

impl Receipt {
    /// Canonical JSON.
    ///
    /// # Errors
    /// [`LogError::Canon`] only if a number cannot be written exactly.
    pub fn to_bytes(&self) -> Result<Vec<u8>, LogError> {
        Ok(canon::to_vec(self)?)
    }

    /// Reads a receipt; white space around and between members is allowed, unknown members are not.
    ///
    /// # Errors
    /// [`LogError::Receipt`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, LogError> {
        let receipt: Self =
            serde_json::from_slice(bytes).map_err(|error| LogError::Receipt(error.to_string()))?;
        if receipt.schema_version != RECEIPT_VERSION {
            let found = receipt.schema_version;
            return Err(LogError::Receipt(format!("version {found}, this program understands 1")));
        }
        Ok(receipt)
    }
}

/// Checks a receipt against the deployment's keys; `origin` is the log's origin (the name of its key).
///
/// Returns the admission and the checkpoint that covers it.
///
/// # Errors
/// [`LogError`] says what does not hold.
pub fn verify_receipt(
    receipt: &Receipt,
    origin: &str,
    keys: &[VerifierKey],
) -> Result<(Admit, Checkpoint), LogError> {
    let LogEvent::Admit(admit) = &receipt.event else {
        return Err(LogError::NotAdmission(receipt.event.kind()));
    };
    let checkpoint = Checkpoint::open(&receipt.checkpoint, origin, keys)?;
    let leaf = receipt.event.leaf()?;
    merkle::verify_inclusion(&leaf, receipt.index, checkpoint.size, &receipt.proof, &checkpoint.root)?;
    Ok((admit.clone(), checkpoint))
}
