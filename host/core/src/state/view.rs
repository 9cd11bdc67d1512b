//! Looking at a run: what `status` and `watch` show.

use std::collections::BTreeMap;

use super::{Attempt, ItemState, RunState};
use crate::{
    entry::{Failure, FinalStatus},
    ids::{ItemId, RunId},
    plan::PlanItem,
};

/// One item with everything known about it.
#[derive(Debug, Clone, Copy)]
pub struct ItemView<'a> {
    /// As planned.
    pub plan: &'a PlanItem,
    /// Where it is.
    pub state: &'a ItemState,
    /// Its attempts, the running one included.
    pub attempts: &'a [Attempt],
}

impl<'a> ItemView<'a> {
    /// The item's id.
    #[must_use]
    pub fn id(&self) -> &'a ItemId {
        &self.plan.id
    }

    /// Why it failed, was denied or is being retried: the reason of a refusal, else of the last attempt that ended.
    #[must_use]
    pub fn failure(&self) -> Option<&'a Failure> {
        if let ItemState::Denied { failure } = self.state {
            return Some(failure);
        }
        self.attempts
            .iter()
            .rev()
            .find_map(|attempt| attempt.end.as_ref())
            .and_then(|end| end.failure.as_ref())
    }
}

/// Why an item does not move.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Blocker {
    /// An item it depends on is not done.
    Dependency {
        /// That item.
        item: ItemId,
        /// Its state.
        state: &'static str,
    },
    /// Somebody else holds a lock.
    Lock {
        /// The key.
        key: String,
        /// Run of the holder.
        run: RunId,
        /// The holder.
        item: ItemId,
    },
    /// A lock is kept free for an item that waited too long for several locks.
    LockReserved {
        /// The key.
        key: String,
    },
    /// Every slot of the queue is taken.
    QueueFull {
        /// Slots of the queue.
        concurrency: u32,
    },
    /// The queue is paused.
    QueuePaused,
    /// The configuration has no such queue.
    QueueUnknown,
    /// The backoff is not over.
    RetryAt {
        /// Milliseconds since the Unix epoch.
        not_before: i64,
    },
    /// The agent asked a question.
    Answer,
}

impl RunState {
    pub(super) fn view(&self, index: u32) -> ItemView<'_> {
        let node = self.node(index);
        ItemView { plan: self.plan_item(index), state: &node.state, attempts: &node.attempts }
    }

    /// One item.
    #[must_use]
    pub fn item(&self, item: &ItemId) -> Option<ItemView<'_>> {
        Some(self.view(self.position_of(item)?))
    }

    /// Every item in plan order, added ones last.
    pub fn items(&self) -> impl ExactSizeIterator<Item = ItemView<'_>> {
        self.positions().map(|index| self.view(index))
    }

    /// Items being worked on, in plan order.
    pub fn running(&self) -> impl Iterator<Item = ItemView<'_>> {
        self.items().filter(|item| matches!(item.state, ItemState::Running { .. }))
    }

    /// Number of running attempts.
    #[must_use]
    pub fn running_count(&self) -> u32 {
        self.running
    }

    /// Items per final status; statuses without items are absent. Items that wait for input are counted too.
    #[must_use]
    pub fn counts(&self) -> BTreeMap<FinalStatus, u64> {
        let mut counts = BTreeMap::new();
        for node in &self.nodes {
            let waiting = matches!(node.state, ItemState::NeedsInput).then_some(FinalStatus::NeedsInput);
            if let Some(status) = node.state.final_status().or(waiting) {
                *counts.entry(status).or_default() += 1;
            }
        }
        counts
    }

    /// What keeps an item from moving, as far as this run alone can tell; [`crate::scheduler::Scheduler::blockers`]
    /// knows queues and the locks of other runs too.
    #[must_use]
    pub fn blockers(&self, item: &ItemId) -> Vec<Blocker> {
        let Some(index) = self.position_of(item) else { return Vec::new() };
        let node = self.node(index);
        match node.state {
            ItemState::Pending => {
                let blocks = |dep: &u32| {
                    let node = self.node(*dep);
                    !matches!(node.state, ItemState::Done) || node.dooms(index)
                };
                let open = node.deps.iter().filter(|dep| blocks(dep));
                let blocker = |dep: &u32| Blocker::Dependency {
                    item: self.plan_item(*dep).id.clone(),
                    state: self.node(*dep).state.name(),
                };
                open.map(blocker).collect()
            }
            ItemState::Ready => self.held_locks(index),
            ItemState::RetryWait { not_before, .. } => {
                let mut blockers = vec![Blocker::RetryAt { not_before }];
                blockers.extend(self.held_locks(index));
                blockers
            }
            ItemState::NeedsInput => vec![Blocker::Answer],
            _ => Vec::new(),
        }
    }

    fn held_locks(&self, index: u32) -> Vec<Blocker> {
        let held = |lock: &u32| {
            let holder = self.locks.holder[*lock as usize]?;
            let key = self.locks.names[*lock as usize].clone();
            Some(Blocker::Lock { key, run: self.plan.id.clone(), item: self.plan_item(holder).id.clone() })
        };
        self.node(index).locks.iter().filter_map(held).collect()
    }
}
