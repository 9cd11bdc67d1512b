//! [`RunStore`] on one DynamoDB table. A commit is one `TransactWriteItems`.
//!
//! # The table
//! Two string keys, `pk` and `sk`, no index, no stream, no time to live.
//!
//! | What | `pk` | `sk` | Other attributes |
//! | --- | --- | --- | --- |
//! | layout version | `meta` | `layout` | `v`: number |
//! | a committed batch | `batch/<id>` | `-` | |
//! | a cell | `cell` | key | `v`: version; `b`: value, missing when deleted |
//! | the end of a stream | `stream` | name | `n`: records; `h`: hash of the last one |
//! | a segment | `seg/<stream>` | position of its last record, 20 digits | `n`: records; `r`: the records |
//!
//! Records are packed: an append is one segment, or several of up to 300 KB. In a segment each record is its hash (32
//! bytes), its length (4 bytes, big endian) and its bytes.
//! DynamoDB sorts strings by their UTF-8 bytes, so names and keys are sort keys as they are, and a prefix is a range.
//!
//! A commit takes 100 actions and 3,000,000 bytes ([`CommitLimits::LEAST`]). One action each for the batch id, a cell, the
//! end of a stream and a segment.
//!
//! Nothing is ever deleted. A deleted cell keeps an item without value, because its version must go on; `scan` passes over
//! it and pays for it (its key and about 20 bytes; 4,096 bytes are one read unit). So what is scanned often has keys that are
//! used again, as the marks of active runs have. The items of batch ids stay because the port answers about every id "ever
//! committed".
//!
//! # What a commit does
//! - No two actions of a transaction may be on one item, so guards are conditions of the write that meets the same item,
//!   and condition checks only where nothing is written.
//! - A failed condition returns the item. From that the guard that failed first, and what is there, are found.
//! - The item of the batch id is created in the same transaction, and its existence is what makes a repeated batch a
//!   no-op, for ever. The client request token lives for ten minutes and is only used between the tries of one call.
//! - Conflicts with other transactions, throttling, server errors and lost answers are repeated here, with jittered pauses
//!   ([`Retry`]). The client's own retries are switched off: they would hide whether a try may have taken effect. When the
//!   tries are used up the answer is [`RunStoreError::Busy`] if no try can have taken effect, and [`Commit::Unknown`]
//!   otherwise.
//!
//! # What it takes
//! Rights, all on the table: `dynamodb:GetItem` and `dynamodb:Query` to read ([`READ_RIGHTS`]); `dynamodb:PutItem`,
//! `dynamodb:UpdateItem` and `dynamodb:ConditionCheckItem` to write ([`WRITE_RIGHTS`]). `TransactWriteItems` has no right of
//! its own. [`Meter`] counts requests and units.
//!
//! All cells share one partition, and so do all ends of streams: DynamoDB splits a partition that gets hot at a sort key.
//! The cell that every commit of one driver guards is the hottest item there can be. It bounds a deployment at about 500
//! commits a second, far above what one driver does.
//!
//! # Where it differs from a store on one disk
//! `scan`, `streams` and `read` are not snapshots: a commit in between may be seen by half. `read` notices when it sees a
//! later segment before an earlier one, and looks again.
//!
//! Deliberately not here: what records and cells mean, making the table (the stack does), and backups.

mod commit;
mod layout;
mod meter;
mod read;
mod retry;
mod table;
mod transaction;

use std::sync::{Arc, atomic::AtomicU64};

use async_trait::async_trait;
use aws_sdk_dynamodb::{Client, config::retry::RetryConfig};
use pangolin_ports::{
    batch_rules::check_batch,
    commit_limits::CommitLimits,
    run_store::{Batch, Cell, CellKey, Commit, Head, Record, RunStore, RunStoreError, StreamName},
};

pub use layout::{PARTITION_KEY, SORT_KEY};
pub use meter::{Meter, Operation, Usage};
pub use retry::Retry;
pub use table::create_table;

/// Rights on the table that reading needs.
pub const READ_RIGHTS: &[&str] = &["dynamodb:GetItem", "dynamodb:Query"];

/// Rights on the table that committing needs besides [`READ_RIGHTS`].
pub const WRITE_RIGHTS: &[&str] = &["dynamodb:ConditionCheckItem", "dynamodb:PutItem", "dynamodb:UpdateItem"];

/// A ledger in one DynamoDB table.
#[derive(Debug)]
pub struct DynamoRunStore {
    client: Client,
    table: String,
    retry: Retry,
    meter: Arc<Meter>,
    /// Makes tokens of this store different from those of others.
    instance: u64,
    tokens: AtomicU64,
}

impl DynamoRunStore {
    /// Opens the ledger in `table`. A new table is marked with the layout of this program, which needs the right to
    /// write; afterwards reading is enough to open it.
    ///
    /// # Errors
    /// [`RunStoreError::Schema`] for a table with a newer layout, [`RunStoreError::Busy`] when DynamoDB does not answer,
    /// [`RunStoreError::Other`] when there is no such table or no right to use it.
    pub async fn open(
        client: &Client,
        table: impl Into<String>,
        retry: Retry,
    ) -> Result<Self, RunStoreError> {
        let table = table.into();
        let config = client.config().to_builder().retry_config(RetryConfig::disabled());
        let instance = getrandom::u64().map_err(|error| RunStoreError::Other {
            context: format!("opening table {table}: the system gives no random number"),
            source: Box::new(error),
        })?;
        let store = Self {
            client: Client::from_conf(config.build()),
            table,
            retry,
            meter: Arc::default(),
            instance,
            tokens: AtomicU64::new(0),
        };
        store.check_layout().await?;
        Ok(store)
    }

    /// Name of the table.
    #[must_use]
    pub fn table(&self) -> &str {
        &self.table
    }

    /// Counts what this store asks of DynamoDB.
    #[must_use]
    pub fn meter(&self) -> &Arc<Meter> {
        &self.meter
    }
}

#[async_trait]
impl RunStore for DynamoRunStore {
    fn limits(&self) -> CommitLimits {
        CommitLimits::LEAST
    }

    async fn commit(&self, batch: Batch) -> Result<Commit, RunStoreError> {
        check_batch(&batch)?;
        self.limits().check(&batch)?;
        self.commit_checked(&batch).await
    }

    async fn was_committed(&self, batch_id: &str) -> Result<bool, RunStoreError> {
        self.was_committed_now(batch_id).await
    }

    async fn head(&self, stream: &str) -> Result<Head, RunStoreError> {
        self.head_now(stream).await
    }

    async fn read(&self, stream: &str, from: u64, limit: usize) -> Result<Vec<Record>, RunStoreError> {
        self.read_now(stream, from, limit).await
    }

    async fn streams(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<StreamName>, RunStoreError> {
        self.streams_now(prefix, after, limit).await
    }

    async fn get(&self, key: &str) -> Result<Option<Cell>, RunStoreError> {
        self.get_now(key).await
    }

    async fn scan(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<(CellKey, Cell)>, RunStoreError> {
        self.scan_now(prefix, after, limit).await
    }
}
