//! Entries that follow from the state alone: the skip cascade and the end of the run.

use std::collections::{BTreeMap, HashSet};

use super::{ItemState, RunState};
use crate::{
    entry::{EntryBody, FinalStatus, RunOutcome},
    ids::ItemId,
};

/// Most items in one `item.skipped`: 400 ids of 128 bytes stay below the 60,000 bytes of an entry.
pub const SKIP_IDS_MAX: usize = 400;

impl RunState {
    /// Entries the run needs next whatever happens elsewhere: the whole skip cascade, then `run.completed` when
    /// nothing else is left. Empty when there is nothing to do. Asking again gives the same answer.
    #[must_use]
    pub fn due_entries(&self) -> Vec<EntryBody> {
        if !self.needs_step() {
            return Vec::new();
        }
        let mut skipped = 0;
        let mut entries = self.skip_entries(&mut skipped);
        if self.can_complete(skipped) {
            let (outcome, counts) = self.result(skipped);
            entries.push(EntryBody::RunCompleted { outcome, counts });
        }
        entries
    }

    /// Everything that can never start, grouped by the item that caused it. Breadth first from the cause, so that each
    /// entry only needs the ones before it; within an entry in plan order.
    fn skip_entries(&self, skipped: &mut u64) -> Vec<EntryBody> {
        let mut by_cause: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
        for index in &self.doomed {
            let cause = match &self.node(*index).state {
                ItemState::Skipped { cause } => self.position_of(cause).unwrap_or(*index),
                _ => *index,
            };
            by_cause.entry(cause).or_default().push(*index);
        }
        let mut seen = HashSet::new();
        let mut entries = Vec::new();
        for (cause, mut frontier) in by_cause {
            let mut found: Vec<u32> = Vec::new();
            let mut next = 0;
            loop {
                for index in frontier.drain(..) {
                    for dependent in &self.node(index).dependents {
                        if matches!(self.node(*dependent).state, ItemState::Pending)
                            && !self.is_spared(index, *dependent)
                            && seen.insert(*dependent)
                        {
                            found.push(*dependent);
                        }
                    }
                }
                if next == found.len() {
                    break;
                }
                frontier.extend_from_slice(&found[next..]);
                next = found.len();
            }
            *skipped += found.len() as u64;
            let cause = &self.plan_item(cause).id;
            for chunk in found.chunks_mut(SKIP_IDS_MAX) {
                chunk.sort_unstable();
                let items: Vec<ItemId> =
                    chunk.iter().map(|index| self.plan_item(*index).id.clone()).collect();
                entries.push(EntryBody::ItemSkipped { items, cause: cause.clone() });
            }
        }
        entries
    }

    /// Whether the run ends once `skipped` more items are skipped.
    pub(crate) fn can_complete(&self, skipped: u64) -> bool {
        let pattern_waits = skipped > 0 && self.growth().is_some_and(super::Growth::is_live);
        self.completed.is_none()
            && self.open == skipped
            && !self.is_open_ended()
            && !pattern_waits
            && !self.pattern_due()
    }

    /// The item is done with a red verify and the dependent was added afterwards.
    fn is_spared(&self, index: u32, dependent: u32) -> bool {
        let node = self.node(index);
        node.holds_before > 0 && !node.dooms(dependent)
    }

    /// Outcome and counts once `skipped` more items are skipped.
    ///
    /// A cancelled run is `cancelled` whatever its items did. Otherwise it is `failed` when an item failed, was denied or
    /// skipped, or held its dependents with a red verify, and nothing took its place nor did the pattern tolerate it; also when the pattern failed and
    /// the binding says that this fails the run. It is `cancelled` when the only items not done were cancelled one by
    /// one, and else `done`. Superseded and tolerated items are counted like all others.
    pub(super) fn result(&self, skipped: u64) -> (RunOutcome, BTreeMap<FinalStatus, u64>) {
        let mut counts = self.counts();
        if skipped > 0 {
            *counts.entry(FinalStatus::Skipped).or_default() += skipped;
        }
        let mut failed = skipped > 0 || self.growth().is_some_and(super::Growth::failed_the_run);
        let mut cancelled = false;
        for (index, node) in (0u32..).zip(&self.nodes) {
            let fails = match node.state {
                ItemState::Failed | ItemState::Denied { .. } | ItemState::Skipped { .. } => true,
                ItemState::Done => node.holds_before > 0,
                _ => false,
            };
            let stopped = matches!(node.state, ItemState::Cancelled);
            let is_judged = !self.successors.contains_key(&index) && !self.tolerated.contains_key(&index);
            if (fails || stopped) && is_judged {
                failed |= fails;
                cancelled |= stopped;
            }
        }
        let outcome = match (self.cancelled, failed, cancelled) {
            (true, _, _) | (false, false, true) => RunOutcome::Cancelled,
            (false, true, _) => RunOutcome::Failed,
            (false, false, false) => RunOutcome::Done,
        };
        (outcome, counts)
    }
}
