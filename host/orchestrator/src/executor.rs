//! What performs an attempt.

use std::collections::HashSet;

use async_trait::async_trait;
use pangolin_core::{
    entry::Failure,
    ids::{Digest, DispatchId, ItemId, RunId},
    scheduler::{AttemptEnd, Fire},
    state::RunState,
};
use tokio::sync::mpsc;

/// An attempt whose `item.fired` entry is committed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job {
    /// Run.
    pub run: RunId,
    /// Item.
    pub item: ItemId,
    /// Attempt from 1.
    pub attempt: u32,
    /// Dispatch.
    pub dispatch: DispatchId,
    /// Digest of the manifest returned by [`Executor::prepare`].
    pub manifest: Option<Digest>,
}

/// The end of an attempt.
#[derive(Debug, Clone)]
pub struct Report {
    /// Which attempt.
    pub job: Job,
    /// How it ended.
    pub end: AttemptEnd,
}

/// Where executors report.
pub type Reporter = mpsc::UnboundedSender<Report>;

/// Why an attempt cannot be prepared.
#[derive(Debug, Clone)]
pub enum PrepareError {
    /// It never will: the item is denied with this failure.
    Denied(Failure),
    /// Not now (store busy, disk full); asked again later.
    Later(String),
}

/// Performs attempts.
#[async_trait]
pub trait Executor: Send + Sync {
    /// Decides everything the attempt will be given and stores it durably; the digest of the manifest goes into
    /// `item.fired`. Called before the commit, so it must have no effect that matters if the commit fails.
    /// Deterministic retry is not needed: only the committed manifest counts.
    async fn prepare(&self, fire: &Fire, run: &RunState) -> Result<Option<Digest>, PrepareError>;

    /// Starts or re-adopts the attempt and reports its end exactly once per call, from any task. Returns at once.
    /// Idempotent over crashes: the worker of `job.dispatch` is started at most once, ever.
    fn start(&self, job: Job, report: Reporter);

    /// Asks a started attempt to stop; its end is still reported. Returns at once; idempotent.
    fn stop(&self, dispatch: &DispatchId);

    /// The end of this attempt is committed: what only served it may be removed. Returns at once.
    fn forget(&self, dispatch: &DispatchId);

    /// Called when a driver starts to lead: everything that belongs to attempts other than these is left over from
    /// a crash and may be removed.
    async fn sweep(&self, running: &HashSet<DispatchId>);
}
