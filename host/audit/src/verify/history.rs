//! Whether the entries are a legal history: folds them with the scheduler's own rules.

use pangolin_core::{entry::Entry, pattern::DecisionRecord, state::RunState};

use super::{
    findings::{CheckName, Findings},
    objects::Objects,
};
use crate::{
    rebuild::{Rebuild, RebuildError, Seen},
    report::Check,
};

/// The fold so far.
pub(super) struct History<'o> {
    run: Rebuild<&'o Objects<'o>>,
    /// Why the fold stopped without a failure.
    gave_up: Option<String>,
    failed: bool,
}

impl<'o> History<'o> {
    pub(super) fn new(objects: &'o Objects<'o>, records: &[DecisionRecord]) -> Self {
        Self { run: Rebuild::new(objects, records), gave_up: None, failed: false }
    }

    /// Stops folding: what follows cannot be judged.
    pub(super) fn give_up(&mut self, reason: &str) {
        self.gave_up.get_or_insert_with(|| reason.to_owned());
    }

    /// The state, as long as everything could be folded.
    pub(super) fn state(&self) -> Option<&RunState> {
        self.run.state().filter(|_| self.gave_up.is_none() && !self.failed)
    }

    /// Folds the next entry. Answers what a pattern saw when it is a record of one.
    pub(super) fn entry(&mut self, entry: &Entry, findings: &mut Findings) -> Option<Seen> {
        if self.gave_up.is_some() || self.failed {
            return None;
        }
        let problem = match self.run.entry(entry) {
            Ok(seen) => return seen,
            Err(problem) => problem,
        };
        let place = match &problem {
            RebuildError::Missing { .. } => {
                self.give_up(&problem.to_string());
                return None;
            }
            RebuildError::Malformed { digest, .. } => format!("object {digest}"),
            _ => format!("entry seq {}", entry.seq),
        };
        self.failed = true;
        let detail = match problem {
            RebuildError::Malformed { problem, .. } => problem,
            RebuildError::View { ref source, .. } => format!("{problem}: {source}"),
            _ => problem.to_string(),
        };
        findings.fail(CheckName::State, place, detail);
        None
    }

    /// Why there is no state.
    pub(super) fn stopped(&self) -> Option<&str> {
        self.gave_up.as_deref().or_else(|| self.failed.then_some("the history is not legal"))
    }

    /// Sets the check's outcome.
    pub(super) fn finish(self, findings: &mut Findings) {
        let check = match (self.gave_up, self.run.state()) {
            (Some(reason), _) => Check::not_applicable(reason),
            (None, Some(state)) => Check::pass(format!(
                "every entry is a legal step, {} of {} items final",
                state.item_count() as u64 - state.open_items(),
                state.item_count()
            )),
            (None, None) => Check::not_applicable("no entries"),
        };
        findings.set(CheckName::State, check);
    }
}
