//! Candidates of one queue in the order they go, and fairness between runs.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
};

use super::Place;
use crate::state::Blocker;

/// How much a queue may run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueuePolicy {
    /// Items of the queue that may run at once, over all runs.
    pub concurrency: u32,
    /// Nothing is started; running items go on.
    pub paused: bool,
}

/// Place of a run among the runs of its queue: best candidate's priority, running items, last fire, slot.
type RunKey = (Reverse<i64>, u32, u64, u32);

#[derive(Debug, Default)]
struct QueueRun {
    ready: BTreeSet<(Reverse<i64>, u32)>,
    running: u32,
    last_fired: u64,
    key: Option<RunKey>,
}

/// One queue.
#[derive(Debug, Default)]
pub(super) struct Queue {
    /// `None` for a queue that runs name but the configuration does not.
    pub(super) policy: Option<QueuePolicy>,
    pub(super) running: u32,
    runs: BTreeMap<u32, QueueRun>,
    order: BTreeSet<RunKey>,
    stamp: u64,
    /// What planning changed: slot, running and last fire before.
    pretended: Vec<(u32, u32, u64)>,
}

impl Queue {
    pub(super) fn add_run(&mut self, slot: u32) {
        self.runs.insert(slot, QueueRun::default());
    }

    pub(super) fn remove_run(&mut self, slot: u32) {
        if let Some(key) = self.runs.remove(&slot).and_then(|run| run.key) {
            self.order.remove(&key);
        }
    }

    pub(super) fn is_open(&self) -> bool {
        self.policy.is_some_and(|policy| !policy.paused && policy.concurrency > 0)
    }

    pub(super) fn blocker(&self) -> Option<Blocker> {
        let Some(policy) = self.policy else { return Some(Blocker::QueueUnknown) };
        if policy.paused {
            return Some(Blocker::QueuePaused);
        }
        (self.running >= policy.concurrency).then_some(Blocker::QueueFull { concurrency: policy.concurrency })
    }

    pub(super) fn add_ready(&mut self, place: Place, priority: i64) {
        self.update(place.0, |run| run.ready.insert((Reverse(priority), place.1)));
    }

    pub(super) fn remove_ready(&mut self, place: Place, priority: i64) -> bool {
        self.update(place.0, |run| run.ready.remove(&(Reverse(priority), place.1)))
    }

    pub(super) fn fired(&mut self, slot: u32) {
        self.running += 1;
        self.stamp += 1;
        let stamp = self.stamp;
        self.update(slot, |run| {
            run.running += 1;
            run.last_fired = stamp;
            true
        });
    }

    pub(super) fn ended(&mut self, slot: u32) {
        self.running = self.running.saturating_sub(1);
        self.update(slot, |run| {
            run.running = run.running.saturating_sub(1);
            true
        });
    }

    pub(super) fn begin(&mut self) {
        self.pretended.clear();
    }

    /// The best candidate with its order key, taken out; `None` when the queue is empty, full or paused.
    pub(super) fn pop(&mut self) -> Option<(Place, i64)> {
        let policy = self.policy.filter(|policy| !policy.paused)?;
        let pretended = u32::try_from(self.pretended.len()).unwrap_or(u32::MAX);
        if self.running.saturating_add(pretended) >= policy.concurrency {
            return None;
        }
        let (_, _, _, slot) = *self.order.first()?;
        let mut best = None;
        self.update(slot, |run| {
            best = run.ready.pop_first();
            true
        });
        best.map(|(Reverse(priority), index)| ((slot, index), priority))
    }

    /// Counts a fire that is only planned.
    pub(super) fn pretend(&mut self, slot: u32) {
        let stamp = self.stamp + 1 + self.pretended.len() as u64;
        let mut before = (slot, 0, 0);
        self.update(slot, |run| {
            before = (slot, run.running, run.last_fired);
            run.running += 1;
            run.last_fired = stamp;
            true
        });
        self.pretended.push(before);
    }

    /// Takes back everything pretended.
    pub(super) fn rollback(&mut self) {
        while let Some((slot, running, last_fired)) = self.pretended.pop() {
            self.update(slot, |run| {
                run.running = running;
                run.last_fired = last_fired;
                true
            });
        }
    }

    /// Changes a run and, when needed, its place in the order.
    fn update(&mut self, slot: u32, change: impl FnOnce(&mut QueueRun) -> bool) -> bool {
        let Some(run) = self.runs.get_mut(&slot) else { return false };
        let answer = change(run);
        let key = run.ready.first().map(|(top, _)| (*top, run.running, run.last_fired, slot));
        if key != run.key {
            if let Some(old) = run.key {
                self.order.remove(&old);
            }
            if let Some(new) = key {
                self.order.insert(new);
            }
            run.key = key;
        }
        answer
    }
}
