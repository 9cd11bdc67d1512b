//! From how an attempt ended to the entry that says so.

use super::Scheduler;
use crate::{
    entry::{EntryBody, Evidence, Failure, FailureClass, FailureReason, FinalStatus},
    ids::{ItemId, RunId},
    outputs::{Part, take_parts},
    retry::{self, Next},
    state::ItemState,
};

/// Longest [`Failure::message`] in bytes.
const MESSAGE_BYTES_MAX: usize = 2_000;

/// How an attempt ended, as the worker or the backend told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AttemptStatus {
    /// Work was delivered.
    Done,
    /// It failed.
    Failed(Failure),
    /// It was stopped on request.
    Cancelled,
    /// The agent asked a question.
    NeedsInput,
}

/// The end of an attempt with what it left behind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttemptEnd {
    /// How it ended.
    pub status: AttemptStatus,
    /// What it left behind.
    pub evidence: Evidence,
}

impl Scheduler {
    /// The entries for the end of an attempt: first `item.outputs` for what does not fit into the last one, which is
    /// `item.retried` when another attempt follows, else `item.reconciled`. While the item is being cancelled it is
    /// cancelled, however the attempt ended. Empty when this attempt is not running (it was reconciled before): nothing
    /// is to be written then.
    ///
    /// After a crash between them the same end gives the entries that are missing, and another end the ones that make
    /// those there not count.
    #[must_use]
    pub fn reconcile(
        &self,
        run: &RunId,
        item: &ItemId,
        attempt: u32,
        mut end: AttemptEnd,
        now: i64,
    ) -> Vec<EntryBody> {
        let Some(state) = self.run(run) else { return Vec::new() };
        let Some(view) = state.item(item) else { return Vec::new() };
        let ItemState::Running { attempt: current, dispatch, cancelling, .. } = view.state else {
            return Vec::new();
        };
        if *current != attempt {
            return Vec::new();
        }
        let recorded = view.attempts.last().and_then(|attempt| attempt.partial.as_deref());
        let mut entries: Vec<EntryBody> = take_parts(&mut end.evidence, recorded)
            .into_iter()
            .map(|Part { number, outputs }| EntryBody::ItemOutputs {
                item: item.clone(),
                attempt,
                dispatch: dispatch.clone(),
                part: number,
                outputs,
            })
            .collect();
        let evidence = Box::new(end.evidence);
        let (status, failure) = match end.status {
            _ if *cancelling => (FinalStatus::Cancelled, Some(stopped())),
            AttemptStatus::Done => (FinalStatus::Done, None),
            AttemptStatus::NeedsInput => (FinalStatus::NeedsInput, None),
            AttemptStatus::Cancelled => (FinalStatus::Cancelled, Some(stopped())),
            AttemptStatus::Failed(failure) => {
                let failure = bounded(failure);
                let policy = &state.submitted().retry;
                match retry::decide(policy, view.plan, attempt, &failure, dispatch, now) {
                    Next::Retry { not_before } => {
                        let item = item.clone();
                        entries.push(EntryBody::ItemRetried { item, attempt, failure, not_before, evidence });
                        return entries;
                    }
                    Next::Final if failure.class == FailureClass::Cancelled => {
                        (FinalStatus::Cancelled, Some(failure))
                    }
                    Next::Final => (FinalStatus::Failed, Some(failure)),
                }
            }
        };
        entries.push(EntryBody::ItemReconciled { item: item.clone(), attempt, status, failure, evidence });
        entries
    }
}

fn stopped() -> Failure {
    Failure {
        reason: FailureReason::Cancelled,
        class: FailureClass::Cancelled,
        message: "stopped on request".to_owned(),
    }
}

fn bounded(mut failure: Failure) -> Failure {
    let end = failure.message.floor_char_boundary(MESSAGE_BYTES_MAX);
    failure.message.truncate(end);
    failure
}
