//! The thread that owns the writing connection.

use std::{
    fs::{File, OpenOptions},
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::mpsc::{Receiver, Sender, channel},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use pangolin_ports::run_store::{Batch, Commit, RunStoreError};
use rusqlite::Connection;
use tokio::sync::oneshot;
use tracing::warn;

use crate::{
    Options,
    apply::Applier,
    change::bump_path,
    error::{failed, is_busy, is_io, other, refused},
};

/// While commits follow each other without a pause, watchers are told at least this often.
const BUMP_EVERY: Duration = Duration::from_millis(5);

/// A batch and where its outcome goes.
struct Request {
    batch: Batch,
    reply: oneshot::Sender<Result<Commit, RunStoreError>>,
}

/// Handle of the writer thread.
pub(crate) struct Writer {
    /// `None` only while dropping.
    queue: Option<Sender<Request>>,
    thread: Option<JoinHandle<()>>,
    path: PathBuf,
}

impl Writer {
    pub(crate) fn start(
        connection: Connection,
        path: &Path,
        options: &Options,
    ) -> Result<Self, RunStoreError> {
        let bump_path = bump_path(path);
        // Never truncated or replaced: watchers hold on to the inode.
        let bump = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&bump_path);
        let bump = bump.map_err(|error| other(&bump_path, "creating", error))?;
        let (queue, requests) = channel();
        let group_max = options.group_max.max(1);
        let mut worker = Worker {
            connection,
            applier: Applier::default(),
            path: path.to_owned(),
            bump,
            bumped: Instant::now(),
        };
        // A crash may have hit between a commit and its bump.
        worker.bump();
        let thread = std::thread::Builder::new().name("store-writer".to_owned());
        let thread = thread.spawn(move || worker.run(&requests, group_max));
        let thread = thread.map_err(|error| other(path, "starting the writer of", error))?;
        Ok(Self { queue: Some(queue), thread: Some(thread), path: path.to_owned() })
    }

    pub(crate) async fn commit(&self, batch: Batch) -> Result<Commit, RunStoreError> {
        let gone = || refused(&self.path, "committing to", "the writer thread has ended");
        let (reply, answer) = oneshot::channel();
        self.queue.as_ref().ok_or_else(gone)?.send(Request { batch, reply }).map_err(|_| gone())?;
        // A writer that died in the middle may or may not have committed.
        answer.await.unwrap_or(Ok(Commit::Unknown))
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.queue = None;
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            warn!(path = %self.path.display(), "the writer thread of the store panicked");
        }
    }
}

/// State of the thread.
struct Worker {
    connection: Connection,
    applier: Applier,
    path: PathBuf,
    bump: File,
    bumped: Instant,
}

impl Worker {
    fn run(&mut self, requests: &Receiver<Request>, group_max: usize) {
        let mut group = Vec::with_capacity(group_max);
        let mut unannounced = false;
        loop {
            // More work waiting: its commit announces this one too, unless watchers have waited long enough.
            let next = match requests.try_recv() {
                Ok(next) => next,
                Err(_) => {
                    if std::mem::take(&mut unannounced) {
                        self.bump();
                    }
                    match requests.recv() {
                        Ok(next) => next,
                        Err(_) => return,
                    }
                }
            };
            group.push(next);
            while group.len() < group_max
                && let Ok(next) = requests.try_recv()
            {
                group.push(next);
            }
            unannounced |= self.commit_group(&mut group);
            if unannounced && self.bumped.elapsed() >= BUMP_EVERY {
                unannounced = false;
                self.bump();
            }
        }
    }

    /// Commits all requests in one transaction and answers them. Whether anything may have been written.
    fn commit_group(&mut self, group: &mut Vec<Request>) -> bool {
        match self.transaction(group) {
            Ok(outcomes) => {
                let written = outcomes.contains(&Commit::Committed);
                for (request, outcome) in group.drain(..).zip(outcomes) {
                    // The caller may have given up waiting; the outcome stands all the same.
                    let _ = request.reply.send(Ok(outcome));
                }
                written
            }
            // One of several batches may be what does not fit or touches a damaged page: each gets its own try.
            Err(failure) if group.len() > 1 && !is_busy(failure.error()) => {
                let mut written = false;
                for request in std::mem::take(group) {
                    written |= self.commit_group(&mut vec![request]);
                }
                written
            }
            Err(failure) => {
                for request in group.drain(..) {
                    let _ = request.reply.send(failure.answer(&self.path));
                }
                matches!(failure, Failure::Ending(_))
            }
        }
    }

    fn transaction(&mut self, group: &[Request]) -> Result<Vec<Commit>, Failure> {
        let result = self.try_transaction(group);
        if result.is_err() {
            self.applier.forget();
            // After some errors SQLite has rolled back by itself.
            if !self.connection.is_autocommit()
                && let Err(error) = self.connection.execute_batch("ROLLBACK")
            {
                warn!(path = %self.path.display(), %error, "rolling back failed");
            }
        }
        result
    }

    fn try_transaction(&mut self, group: &[Request]) -> Result<Vec<Commit>, Failure> {
        let run = |sql| self.connection.prepare_cached(sql)?.execute(());
        run("BEGIN IMMEDIATE").map_err(Failure::Before)?;
        let mut outcomes = Vec::with_capacity(group.len());
        for request in group {
            outcomes.push(self.applier.apply(&self.connection, &request.batch).map_err(Failure::Before)?);
        }
        run("COMMIT").map_err(Failure::Ending)?;
        Ok(outcomes)
    }

    /// Tells watchers in other processes. They only lose time when it fails, so it is not an error.
    fn bump(&mut self) {
        if let Err(error) = self.bump.write_all_at(b"\n", 0) {
            warn!(path = %bump_path(&self.path).display(), %error, "cannot announce commits to other processes");
        }
        self.bumped = Instant::now();
    }
}

/// Where a transaction failed.
enum Failure {
    /// Before COMMIT: nothing was written.
    Before(rusqlite::Error),
    /// In COMMIT.
    Ending(rusqlite::Error),
}

impl Failure {
    fn error(&self) -> &rusqlite::Error {
        match self {
            Self::Before(error) | Self::Ending(error) => error,
        }
    }

    fn answer(&self, path: &Path) -> Result<Commit, RunStoreError> {
        match self {
            // The commit record may have reached the disk although syncing it failed: a crash now could bring it back.
            Self::Ending(error) if is_io(error) => {
                warn!(path = %path.display(), %error, "the end of a transaction failed, its outcome is unknown");
                Ok(Commit::Unknown)
            }
            Self::Before(error) | Self::Ending(error) => Err(failed(path, "committing to", copy(error))),
        }
    }
}

/// One error answers several requests, but rusqlite's cannot be cloned.
fn copy(error: &rusqlite::Error) -> rusqlite::Error {
    match error {
        rusqlite::Error::SqliteFailure(code, text) => rusqlite::Error::SqliteFailure(*code, text.clone()),
        other => rusqlite::Error::ToSqlConversionFailure(other.to_string().into()),
    }
}
