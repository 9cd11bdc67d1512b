//! The ledger and its cells: append-only streams and small compare-and-set records under one atomic commit.

use async_trait::async_trait;
use pangolin_core::ids::Digest;
use thiserror::Error;

use crate::commit_limits::CommitLimits;

/// Name of an append-only stream: `run/<run id>` or `log` (the deployment log).
pub type StreamName = String;

/// Key of a cell, e.g. `lock/<key>`, `lease/scheduler`, `registry/subagent/<name>`. `/` separates levels.
pub type CellKey = String;

/// Where a stream ends: number of records and hash of the last one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Head {
    /// Records in the stream.
    pub len: u64,
    /// Hash given with the last record; `None` when empty.
    pub hash: Option<Digest>,
}

/// One record of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Position from 0.
    pub seq: u64,
    /// Leaf hash, as given by the writer.
    pub hash: Digest,
    /// The bytes, at most 60,000.
    pub bytes: Vec<u8>,
}

/// A cell's value with the version that compare-and-set uses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cell {
    /// Grows by one with each write of this key; starts at 1; survives deletion and re-creation.
    pub version: u64,
    /// At most 64 KiB.
    pub value: Vec<u8>,
}

/// A condition that must hold when the batch is applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Guard {
    /// The stream ends exactly here.
    HeadIs {
        /// Stream.
        stream: StreamName,
        /// Expected end.
        head: Head,
    },
    /// The cell does not exist.
    Absent(CellKey),
    /// The cell exists at this version.
    VersionIs {
        /// Cell.
        key: CellKey,
        /// Expected version.
        version: u64,
    },
}

impl Guard {
    /// The cell is as whoever read it saw it: at this version, or absent when that is 0, which no cell has.
    #[must_use]
    pub const fn seen(key: CellKey, version: u64) -> Self {
        match version {
            0 => Self::Absent(key),
            version => Self::VersionIs { key, version },
        }
    }
}

/// A change of a cell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Write {
    /// Create or replace.
    Put {
        /// Cell.
        key: CellKey,
        /// New value.
        value: Vec<u8>,
    },
    /// Delete; deleting an absent cell is allowed.
    Delete(CellKey),
}

/// Records to append to one stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Append {
    /// Stream; created by its first record.
    pub stream: StreamName,
    /// In order; hash and bytes. Their positions follow from the guard on this stream's head, which is mandatory.
    pub records: Vec<(Digest, Vec<u8>)>,
}

/// Guards, writes and records that take effect together or not at all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Batch {
    /// Unique per logical batch. Committing the same id again is a no-op that answers [`Commit::Committed`].
    pub id: String,
    /// Conditions, all checked before anything is written.
    pub guards: Vec<Guard>,
    /// Cell changes; at most one per key.
    pub writes: Vec<Write>,
    /// Stream appends; at most one per stream; each stream needs a [`Guard::HeadIs`].
    pub appends: Vec<Append>,
}

/// Answer to a commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Commit {
    /// Everything is durable: it survives a crash of the process and of the machine.
    Committed,
    /// Nothing was written because this guard did not hold.
    GuardFailed {
        /// Index into [`Batch::guards`] of the first failing one.
        guard: usize,
        /// What is there instead, for messages.
        found: String,
    },
    /// The store cannot tell (timeout). Re-read with [`RunStore::was_committed`].
    Unknown,
}

/// Failures of a run store.
#[derive(Debug, Error)]
pub enum RunStoreError {
    /// The batch breaks a rule of this port; nothing was written. A programming error of the caller.
    #[error("invalid batch {id}: {problem}")]
    InvalidBatch {
        /// Batch id.
        id: String,
        /// Which rule.
        problem: String,
    },
    /// Try again later (busy, locked, throttled); nothing was written.
    #[error("store is busy: {0}")]
    Busy(String),
    /// No space left; nothing was written.
    #[error("store is full: {0}; free space and retry")]
    Full(String),
    /// What is stored contradicts itself.
    #[error("store is damaged: {0}; run `pangolin doctor`")]
    Damaged(String),
    /// Written by a newer Pangolin, or too old to open.
    #[error("store has schema version {found}, this program supports {supported}")]
    Schema {
        /// Version found.
        found: i64,
        /// Newest version understood.
        supported: i64,
    },
    /// Anything else.
    #[error("store failed: {context}")]
    Other {
        /// What was tried.
        context: String,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// The ledger of a deployment.
///
/// Linearizable: after `commit` answered `Committed` every later read, by any process, sees it. Methods may be
/// called concurrently; concurrent commits may share one durable write (group commit) but keep their own outcome.
#[async_trait]
pub trait RunStore: Send + Sync {
    /// What one commit may hold, at least [`CommitLimits::LEAST`]. A batch beyond it is refused with
    /// [`RunStoreError::InvalidBatch`]; cut it where it may be cut. Never changes while the store is open.
    fn limits(&self) -> CommitLimits {
        CommitLimits::UNLIMITED
    }

    /// Applies a batch atomically. Durable on return when the answer is [`Commit::Committed`].
    async fn commit(&self, batch: Batch) -> Result<Commit, RunStoreError>;

    /// Whether a batch id was ever committed.
    async fn was_committed(&self, batch_id: &str) -> Result<bool, RunStoreError>;

    /// End of a stream; the default head for one that does not exist.
    async fn head(&self, stream: &str) -> Result<Head, RunStoreError>;

    /// Up to `limit` records from position `from`, in order.
    async fn read(&self, stream: &str, from: u64, limit: usize) -> Result<Vec<Record>, RunStoreError>;

    /// Names of streams that start with `prefix` and sort after `after`, ascending, up to `limit`.
    async fn streams(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<StreamName>, RunStoreError>;

    /// One cell.
    async fn get(&self, key: &str) -> Result<Option<Cell>, RunStoreError>;

    /// Cells whose key starts with `prefix` and sorts after `after`, ascending, up to `limit`.
    async fn scan(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<(CellKey, Cell)>, RunStoreError>;
}
