//! Why an entry cannot follow the ones before it.

use thiserror::Error;

use crate::{
    entry::{FailureClass, FinalStatus, RunOutcome},
    ids::{DispatchId, ItemId, RunId},
};

/// An entry that must not be applied. The state it was applied to is unchanged.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("run {run}, entry {seq} ({kind}){}: {violation}", place(.item.as_ref(), *.state))]
pub struct IllegalEntry {
    /// The run the entry was applied to.
    pub run: RunId,
    /// `seq` as the entry says.
    pub seq: u64,
    /// `kind` of the entry.
    pub kind: &'static str,
    /// The item concerned, when there is one.
    pub item: Option<ItemId>,
    /// State of that item before the entry.
    pub state: Option<&'static str>,
    /// Which rule is broken.
    pub violation: Violation,
}

fn place(item: Option<&ItemId>, state: Option<&'static str>) -> String {
    match (item, state) {
        (Some(item), Some(state)) => format!(", item {item} in state {state}"),
        (Some(item), None) => format!(", item {item}"),
        (None, _) => String::new(),
    }
}

/// The rules of a run's ledger.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Violation {
    /// Unknown format version.
    #[error("entry version {0} is not supported; use a newer Pangolin")]
    Version(u32),
    /// The entry belongs to another run.
    #[error("it belongs to run {0}")]
    WrongRun(RunId),
    /// A gap or repetition.
    #[error("expected entry {expected}")]
    WrongSeq {
        /// The position that comes next.
        expected: u64,
    },
    /// The first entry must be `run.submitted`, and no other may be.
    #[error("run.submitted must be the first entry and only the first")]
    Submitted,
    /// The plan is not the one that was admitted, or cannot be run.
    #[error("the plan does not fit: {0}")]
    Plan(String),
    /// Nothing follows `run.completed`.
    #[error("the run is completed")]
    Completed,
    /// No such item in the run.
    #[error("the run has no such item")]
    UnknownItem,
    /// The item's state does not allow this.
    #[error("the item's state does not allow it")]
    State,
    /// Attempts count from 1 without gaps.
    #[error("attempt {found} does not fit, expected {expected}")]
    Attempt {
        /// As the entry says.
        found: u32,
        /// As the state says.
        expected: u32,
    },
    /// The dispatch id is derived, never chosen.
    #[error("dispatch id must be {expected}")]
    Dispatch {
        /// The derived id.
        expected: DispatchId,
    },
    /// The backoff is not over.
    #[error("the next attempt must not start before {not_before}")]
    TooEarly {
        /// Milliseconds since the Unix epoch.
        not_before: i64,
    },
    /// An exclusive lock is held.
    #[error("lock {key:?} is held by {}/{}", .holder.0, .holder.1)]
    LockHeld {
        /// The key.
        key: Box<str>,
        /// Run and item that hold it.
        holder: Box<(RunId, ItemId)>,
    },
    /// Every allowed attempt was made.
    #[error("no attempt is left (at most {max})")]
    NoAttemptLeft {
        /// Attempts in total.
        max: u32,
    },
    /// This kind of failure is not retried.
    #[error("a failure of class {0:?} is not retried")]
    NotRetryable(FailureClass),
    /// Status and failure contradict each other.
    #[error("status {status:?} {}", if *.failure { "must not carry a failure" } else { "needs a failure" })]
    FailureMismatch {
        /// Status of the entry.
        status: FinalStatus,
        /// Whether the entry carries a failure.
        failure: bool,
    },
    /// The recorded parts of the outputs of an attempt do not fit together, or not to its end.
    #[error("outputs: {0}")]
    Outputs(Box<str>),
    /// An attempt cannot end like this.
    #[error("an attempt cannot end as {0:?} here")]
    Status(FinalStatus),
    /// The list of items is empty or names one twice.
    #[error("the list of items is empty or names one twice")]
    ItemList,
    /// The cause of a skip did not fail.
    #[error("cause {0} did not end without success")]
    Cause(ItemId),
    /// A skipped item could still become ready.
    #[error("the item does not depend on cause {0}")]
    Reachable(ItemId),
    /// The run was cancelled before.
    #[error("the run was cancelled")]
    RunCancelled,
    /// The run is closed, or never was open-ended.
    #[error("the run is not open-ended or was closed before")]
    NotOpen,
    /// `run.extended` needs its items, and no other entry has any.
    #[error("items of run.extended are missing, or given with another entry")]
    Items,
    /// An order of decisions that cannot be.
    #[error("pattern: {0}")]
    Pattern(String),
    /// An item cannot take the place of another one: which, and why.
    #[error("it cannot be superseded by {0}")]
    Supersedes(Box<str>),
    /// An item cannot be tolerated: why.
    #[error("it cannot be tolerated: it {0}")]
    Tolerates(&'static str),
    /// `run.completed` while the pattern has not seen everything that ended.
    #[error("the pattern has not seen everything that ended")]
    PatternDue,
    /// `run.completed` while items are not final.
    #[error("{open} items are not final")]
    Unfinished {
        /// Items that are not final.
        open: u64,
    },
    /// `run.completed` while the run may still be extended.
    #[error("the run is open-ended and was not closed")]
    StillOpen,
    /// `run.completed` tells another outcome.
    #[error("the outcome must be {expected:?}")]
    Outcome {
        /// What follows from the items.
        expected: RunOutcome,
    },
    /// `run.completed` tells other numbers.
    #[error("the counts do not agree with the items")]
    Counts,
}
