//! Times at which something becomes due.

use std::collections::BTreeSet;

use super::Place;

/// Retries and deadlines, each item in at most one of them.
#[derive(Debug, Default)]
pub(super) struct Timers {
    retries: BTreeSet<(i64, Place)>,
    deadlines: BTreeSet<(i64, Place)>,
}

impl Timers {
    pub(super) fn add_retry(&mut self, at: i64, place: Place) {
        self.retries.insert((at, place));
    }

    pub(super) fn remove_retry(&mut self, at: i64, place: Place) {
        self.retries.remove(&(at, place));
    }

    pub(super) fn add_deadline(&mut self, at: i64, place: Place) {
        self.deadlines.insert((at, place));
    }

    pub(super) fn remove_deadline(&mut self, at: i64, place: Place) {
        self.deadlines.remove(&(at, place));
    }

    /// Retries due at `now`, taken out.
    pub(super) fn take_retries_until(&mut self, now: i64) -> Vec<Place> {
        let mut due = Vec::new();
        while let Some(first) = self.retries.first().copied().filter(|(at, _)| *at <= now) {
            self.retries.remove(&first);
            due.push(first.1);
        }
        due
    }

    /// Deadlines that are over at `now`.
    pub(super) fn deadlines_until(&self, now: i64) -> Vec<Place> {
        self.deadlines.iter().take_while(|(at, _)| *at <= now).map(|(_, place)| *place).collect()
    }

    /// The first time after `now`.
    pub(super) fn next_after(&self, now: i64) -> Option<i64> {
        let after = now.checked_add(1)?;
        let first = |set: &BTreeSet<(i64, Place)>| set.range((after, (0, 0))..).next().map(|(at, _)| *at);
        match (first(&self.retries), first(&self.deadlines)) {
            (Some(retry), Some(deadline)) => Some(retry.min(deadline)),
            (retry, deadline) => retry.or(deadline),
        }
    }
}
