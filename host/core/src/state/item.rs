//! State of one item and the table of legal transitions.

use crate::{
    entry::{Evidence, Failure, FinalStatus},
    ids::{Digest, DispatchId, ItemId},
    outputs::PartialOutputs,
};

/// Where an item is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ItemState {
    /// Waits for items it depends on.
    Pending,
    /// May be fired as soon as its queue and its locks allow.
    Ready,
    /// An attempt was decided and has not been reconciled.
    Running {
        /// Attempt from 1.
        attempt: u32,
        /// Its dispatch.
        dispatch: DispatchId,
        /// `at` of the entry that fired it (ms).
        fired_at: i64,
        /// Somebody asked to stop it; it can only end as cancelled.
        cancelling: bool,
    },
    /// An attempt failed, another one follows. Holds no locks.
    RetryWait {
        /// The attempt that failed.
        attempt: u32,
        /// The next one is not started before this time (ms).
        not_before: i64,
    },
    /// The agent asked a question. Not terminal: the run stays open. Holds no locks.
    NeedsInput,
    /// Work was delivered.
    Done,
    /// No attempt succeeded; the reason is the failure of the last attempt.
    Failed,
    /// Could never start.
    Skipped {
        /// The item whose end made it unreachable.
        cause: ItemId,
    },
    /// Stopped on request.
    Cancelled,
    /// Refused.
    Denied {
        /// Why.
        failure: Box<Failure>,
    },
}

impl ItemState {
    /// The state as text: `pending`, `ready`, `running`, `cancelling`, `retry-wait`, `needs-input`, `done`, `failed`,
    /// `skipped`, `cancelled` or `denied`.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Ready => "ready",
            Self::Running { cancelling: false, .. } => "running",
            Self::Running { cancelling: true, .. } => "cancelling",
            Self::RetryWait { .. } => "retry-wait",
            Self::NeedsInput => "needs-input",
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Skipped { .. } => "skipped",
            Self::Cancelled => "cancelled",
            Self::Denied { .. } => "denied",
        }
    }

    /// The final status; `None` while the item can still move (also for [`ItemState::NeedsInput`]).
    #[must_use]
    pub const fn final_status(&self) -> Option<FinalStatus> {
        match self {
            Self::Done => Some(FinalStatus::Done),
            Self::Failed => Some(FinalStatus::Failed),
            Self::Skipped { .. } => Some(FinalStatus::Skipped),
            Self::Cancelled => Some(FinalStatus::Cancelled),
            Self::Denied { .. } => Some(FinalStatus::Denied),
            Self::Pending
            | Self::Ready
            | Self::Running { .. }
            | Self::RetryWait { .. }
            | Self::NeedsInput => None,
        }
    }

    /// Nothing happens to the item any more.
    #[must_use]
    pub const fn is_terminal(&self) -> bool {
        self.final_status().is_some()
    }

    /// Terminal without success: whatever depends on it can never start.
    #[must_use]
    pub const fn is_dead(&self) -> bool {
        self.is_terminal() && !matches!(self, Self::Done)
    }
}

/// What an entry does to one item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Event {
    Fired,
    Outputs,
    Retried,
    Reconciled(FinalStatus),
    Denied,
    Skipped,
    Cancelled,
}

/// The whole table: which event is legal in which state. Conditions on numbers and other items come on top.
pub(crate) const fn is_legal(state: &ItemState, event: Event) -> bool {
    match state {
        ItemState::Pending => matches!(event, Event::Skipped | Event::Cancelled),
        ItemState::Ready | ItemState::RetryWait { .. } => {
            matches!(event, Event::Fired | Event::Denied | Event::Cancelled)
        }
        ItemState::Running { cancelling: false, .. } => {
            matches!(event, Event::Outputs | Event::Retried | Event::Reconciled(_) | Event::Cancelled)
        }
        ItemState::Running { cancelling: true, .. } => matches!(event, Event::Outputs | Event::Reconciled(_)),
        ItemState::NeedsInput => matches!(event, Event::Cancelled),
        ItemState::Done
        | ItemState::Failed
        | ItemState::Skipped { .. }
        | ItemState::Cancelled
        | ItemState::Denied { .. } => false,
    }
}

/// How one attempt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AttemptResult {
    /// Work was delivered.
    Done,
    /// Failed, and another attempt follows.
    Retried,
    /// Failed for good.
    Failed,
    /// Stopped on request.
    Cancelled,
    /// The agent asked a question.
    NeedsInput,
}

/// One attempt of an item.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    /// From 1.
    pub number: u32,
    /// Digest of its dispatch manifest.
    pub manifest: Option<Digest>,
    /// `at` of the entry that fired it (ms).
    pub fired_at: i64,
    /// While it runs: its outputs that were recorded so far, when they come in parts.
    pub partial: Option<Box<PartialOutputs>>,
    /// How it ended; `None` while it runs.
    pub end: Option<AttemptEnded>,
}

/// The end of an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttemptEnded {
    /// `at` of the entry that reconciled it (ms).
    pub at: i64,
    /// How it ended.
    pub result: AttemptResult,
    /// Why, unless it is done or asks.
    pub failure: Option<Failure>,
    /// What it left behind.
    pub evidence: Box<Evidence>,
}
