//! [`RunStore`] on one SQLite database in WAL mode.
//!
//! One thread owns the writing connection and commits whatever waits in its queue as one transaction (group
//! commit); every batch keeps its own outcome. Readers have connections of their own and never wait for the writer.
//! Any number of processes may open the same file, reading and writing.
//!
//! # Files
//! - `<db>`, `<db>-wal`, `<db>-shm`: SQLite's. Schema in `schema.rs`, versioned by `user_version`.
//! - `<db>.bump`: one byte that is written after each transaction, so that other processes can watch it
//!   ([`ChangeWatch`]). The `-wal` file is no substitute: it is written before the commit is visible.
//!
//! # Batch ids
//! They are kept for ever, because the port promises an answer about every id "ever committed": about its length
//! plus 10 bytes each. Nothing prunes them.
//!
//! Deliberately not here: what records and cells mean, checking of hashes, and retry of batches whose guards failed.

mod apply;
mod change;
mod error;
mod reader;
mod schema;
mod writer;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use pangolin_ports::{
    batch_rules::check_batch,
    run_store::{Batch, Cell, CellKey, Commit, Head, Record, RunStore, RunStoreError, StreamName},
};

pub use change::ChangeWatch;

/// When a commit counts as durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Synchronous {
    /// Committed batches survive a crash of the machine. What the port asks for.
    #[default]
    Full,
    /// Committed batches survive a crash of the process, but the last ones may be lost when the machine loses power.
    /// The database stays consistent. Breaks the port's promise; for comparison and for throw-away runs.
    Normal,
}

/// How to open a store.
#[derive(Debug, Clone)]
pub struct Options {
    /// Durability of commits.
    pub synchronous: Synchronous,
    /// How long a commit or an open waits for another process that writes, before [`RunStoreError::Busy`].
    pub busy_timeout: Duration,
    /// Most batches in one transaction.
    pub group_max: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self { synchronous: Synchronous::Full, busy_timeout: Duration::from_secs(10), group_max: 256 }
    }
}

/// A ledger in an SQLite file.
///
/// A commit whose future is dropped half-way still takes effect or not as a whole; ask `was_committed`.
/// Dropping the store waits for the commits that were handed in before.
pub struct SqliteRunStore {
    path: PathBuf,
    /// `None` when opened read-only.
    writer: Option<writer::Writer>,
    readers: Arc<reader::Readers>,
    own_watch: tokio::sync::Mutex<Option<ChangeWatch>>,
}

impl SqliteRunStore {
    /// Opens the database at `path`, creating it (mode 0600) or bringing it to this program's schema. Blocks on disk.
    ///
    /// # Errors
    /// [`RunStoreError::Schema`] when a newer program wrote it, [`RunStoreError::Damaged`] when it is no intact
    /// database, [`RunStoreError::Busy`] when another process holds it longer than the timeout.
    pub fn open(path: impl AsRef<Path>, options: Options) -> Result<Self, RunStoreError> {
        let path = path.as_ref();
        let connection = schema::open_for_writing(path, &options)?;
        let readers = Arc::new(reader::Readers::new(path, options.busy_timeout));
        // Opened now so that a reader's problem shows here and not in the middle of a run.
        readers.warm_up()?;
        let writer = writer::Writer::start(connection, path, &options)?;
        Ok(Self {
            path: path.to_owned(),
            writer: Some(writer),
            readers,
            own_watch: tokio::sync::Mutex::default(),
        })
    }

    /// Opens an existing database for reading; every commit is refused. Blocks on disk.
    ///
    /// # Errors
    /// As [`SqliteRunStore::open`]; an older schema is [`RunStoreError::Schema`] too, since it cannot be migrated here.
    pub fn open_read_only(path: impl AsRef<Path>, options: Options) -> Result<Self, RunStoreError> {
        let path = path.as_ref();
        let readers = Arc::new(reader::Readers::new(path, options.busy_timeout));
        readers.warm_up()?;
        Ok(Self { path: path.to_owned(), writer: None, readers, own_watch: tokio::sync::Mutex::default() })
    }

    /// The database file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Watches for commits by anybody: this store, another one, another process.
    ///
    /// # Errors
    /// When the bump file cannot be watched (for instance because `fs.inotify.max_user_instances` is used up).
    pub fn watch(&self) -> Result<ChangeWatch, RunStoreError> {
        ChangeWatch::new(&self.path, self.readers.busy_timeout())
    }

    /// Resolves when something was committed since the last call; the first call resolves at once. For one
    /// consumer; further ones take a [`SqliteRunStore::watch`] each.
    ///
    /// # Errors
    /// As [`SqliteRunStore::watch`], and when the database cannot be read.
    pub async fn changed(&self) -> Result<(), RunStoreError> {
        let mut watch = self.own_watch.lock().await;
        match &mut *watch {
            Some(watch) => watch.changed().await,
            empty => empty.insert(self.watch()?).changed().await,
        }
    }

    /// Checks the whole file, for `pangolin doctor`: SQLite's integrity check and streams without gaps. Empty when
    /// all is well. Reads everything.
    ///
    /// # Errors
    /// When the check itself cannot run.
    pub async fn check(&self) -> Result<Vec<String>, RunStoreError> {
        self.readers.run(|reader| reader.check()).await
    }
}

impl Drop for SqliteRunStore {
    /// Closes the readers before the writer: only a writing connection that is the last one moves the log into the
    /// database and removes it.
    fn drop(&mut self) {
        *self.own_watch.get_mut() = None;
        self.readers.close_idle();
        self.writer = None;
    }
}

#[async_trait]
impl RunStore for SqliteRunStore {
    async fn commit(&self, batch: Batch) -> Result<Commit, RunStoreError> {
        check_batch(&batch)?;
        match &self.writer {
            Some(writer) => writer.commit(batch).await,
            None => Err(error::refused(&self.path, "committing to", "it was opened read-only")),
        }
    }

    async fn was_committed(&self, batch_id: &str) -> Result<bool, RunStoreError> {
        let id = batch_id.to_owned();
        self.readers.run(move |reader| reader.was_committed(&id)).await
    }

    async fn head(&self, stream: &str) -> Result<Head, RunStoreError> {
        let stream = stream.to_owned();
        self.readers.run(move |reader| reader.head(&stream)).await
    }

    async fn read(&self, stream: &str, from: u64, limit: usize) -> Result<Vec<Record>, RunStoreError> {
        let stream = stream.to_owned();
        self.readers.run(move |reader| reader.read(&stream, from, limit)).await
    }

    async fn streams(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<StreamName>, RunStoreError> {
        let (prefix, after) = (prefix.to_owned(), after.map(str::to_owned));
        self.readers.run(move |reader| reader.streams(&prefix, after.as_deref(), limit)).await
    }

    async fn get(&self, key: &str) -> Result<Option<Cell>, RunStoreError> {
        let key = key.to_owned();
        self.readers.run(move |reader| reader.get(&key)).await
    }

    async fn scan(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<(CellKey, Cell)>, RunStoreError> {
        let (prefix, after) = (prefix.to_owned(), after.map(str::to_owned));
        self.readers.run(move |reader| reader.scan(&prefix, after.as_deref(), limit)).await
    }
}
