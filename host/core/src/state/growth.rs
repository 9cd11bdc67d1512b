//! The pattern of a run as its ledger tells it: which component is asked, what it has seen, whether it is done.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::{RunState, Violation, fold::Refusal};
use crate::{
    ids::{Digest, ItemId},
    pattern::{DecisionRecord, FailurePolicy, PatternFailure},
};

/// The pattern of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Growth {
    component: Digest,
    steps: u64,
    seen: u64,
    seed: u64,
    view: Digest,
    live: bool,
    taken_over: bool,
    failure: Option<PatternFailure>,
    failed: Option<(u64, PatternFailure)>,
    /// Positions of the entries that it has to be asked about.
    unseen: VecDeque<u64>,
    /// The entry before was its record or an extension that follows from it.
    extending: bool,
}

impl Growth {
    /// The component that decided last, or is asked next after `pattern.moved`.
    #[must_use]
    pub const fn component(&self) -> Digest {
        self.component
    }

    /// Recorded steps; the next one has this number.
    #[must_use]
    pub const fn steps(&self) -> u64 {
        self.steps
    }

    /// Seed of the run.
    #[must_use]
    pub const fn seed(&self) -> u64 {
        self.seed
    }

    /// View digest of the last recorded step: the chain goes on from here.
    #[must_use]
    pub const fn view(&self) -> Digest {
        self.view
    }

    /// It will be asked again when something ends.
    #[must_use]
    pub const fn is_live(&self) -> bool {
        self.live
    }

    /// The last step failed and the built-in pattern of the binding takes over: the next record names another
    /// component, and for that one everything is new.
    #[must_use]
    pub const fn is_taken_over(&self) -> bool {
        self.taken_over
    }

    /// It failed, and the binding says that this fails the run.
    #[must_use]
    pub fn failed_the_run(&self) -> bool {
        self.failure.as_ref().is_some_and(|failure| failure.policy == FailurePolicy::Closed)
    }

    /// The failure of the last recorded step.
    #[must_use]
    pub const fn failure(&self) -> Option<&PatternFailure> {
        self.failure.as_ref()
    }

    /// The last step that failed and why; stays known when another pattern took over.
    #[must_use]
    pub fn failed_step(&self) -> Option<(u64, &PatternFailure)> {
        self.failed.as_ref().map(|(step, failure)| (*step, failure))
    }
}

/// One `run.extended`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Extension {
    /// Position of its first item.
    pub(super) first: u32,
    /// Who added the items.
    pub actor: String,
    /// Why.
    pub explanation: String,
    /// The pattern component that decided; `None` for a producer.
    pub plugin: Option<Digest>,
    /// Blob of the items.
    pub document: Digest,
    /// Blob that lists what the items are pinned to.
    pub pins: Option<Digest>,
}

fn pattern(text: impl Into<String>) -> Refusal {
    Violation::Pattern(text.into()).into()
}

impl RunState {
    /// The pattern of the run; `None` for a run that was admitted without asking one.
    #[must_use]
    pub fn growth(&self) -> Option<&Growth> {
        self.growth.as_deref()
    }

    /// The pattern is live and has not seen everything that ended: the run cannot be completed before it has.
    #[must_use]
    pub fn pattern_due(&self) -> bool {
        self.completed.is_none()
            && self.growth.as_ref().is_some_and(|growth| growth.live && !growth.unseen.is_empty())
    }

    /// How an added item came into the run; `None` for items of the plan.
    #[must_use]
    pub fn extension_of(&self, item: &ItemId) -> Option<&Extension> {
        let position = self.position_of(item)?;
        let after = self.extensions.partition_point(|extension| extension.first <= position);
        self.extensions.get(after.checked_sub(1)?)
    }

    /// Blob that lists what an item is pinned to.
    #[must_use]
    pub fn pins_of(&self, item: &ItemId) -> Option<Digest> {
        self.extension_of(item).map_or(self.submitted.pins, |extension| extension.pins)
    }

    /// The item that took the place of this one.
    #[must_use]
    pub fn successor(&self, item: &ItemId) -> Option<&ItemId> {
        let new = self.successors.get(&self.position_of(item)?)?;
        Some(&self.plan_item(*new).id)
    }

    /// Whether each old item may be superseded: it has ended, without success or with a red verify, and has no
    /// successor yet. The new items need not exist yet.
    ///
    /// # Errors
    /// The first rule that is broken, with the old item.
    pub fn check_supersedes(&self, supersedes: &BTreeMap<ItemId, ItemId>) -> Result<(), (ItemId, Violation)> {
        let mut taken = BTreeSet::new();
        for (new, old) in supersedes {
            let refuse = |text: &str| {
                Err((old.clone(), Violation::Supersedes(format!("{new}: it {text}").into_boxed_str())))
            };
            let Some(index) = self.position_of(old) else { return refuse("does not exist") };
            let node = self.node(index);
            if !node.state.is_terminal() {
                return refuse("has not ended");
            }
            if !node.state.is_dead() && !node.is_red() {
                return refuse("ended well");
            }
            if self.successors.contains_key(&index) || !taken.insert(index) {
                return refuse("has a successor already");
            }
        }
        Ok(())
    }

    /// A pattern lets the run succeed without this item.
    #[must_use]
    pub fn is_tolerated(&self, item: &ItemId) -> bool {
        self.tolerated_because(item).is_some()
    }

    /// Why the run may succeed without this item, in the words of the pattern; `None` when it may not.
    #[must_use]
    pub fn tolerated_because(&self, item: &ItemId) -> Option<&str> {
        self.tolerated.get(&self.position_of(item)?).map(String::as_str)
    }

    /// Whether an item may be tolerated: it has ended without success, has no successor and is not tolerated yet.
    ///
    /// # Errors
    /// The rule that is broken.
    pub fn check_tolerated(&self, item: &ItemId) -> Result<(), Violation> {
        let Some(index) = self.position_of(item) else { return Err(Violation::UnknownItem) };
        let state = &self.node(index).state;
        let broken = if !state.is_terminal() {
            "has not ended"
        } else if !state.is_dead() {
            "ended well"
        } else if self.successors.contains_key(&index) {
            "has a successor, by which the run is judged"
        } else if self.tolerated.contains_key(&index) {
            "is tolerated already"
        } else {
            return Ok(());
        };
        Err(Violation::Tolerates(broken))
    }

    pub(super) fn tolerate(&mut self, items: &[ItemId], why: &str, plugin: &Digest) -> Result<(), Refusal> {
        self.may_extend(Some(plugin))?;
        let mut positions = BTreeSet::new();
        for item in items {
            self.check_tolerated(item).map_err(|violation| self.refusal(item, violation))?;
            if !self.position_of(item).is_some_and(|position| positions.insert(position)) {
                return Err(Violation::ItemList.into());
            }
        }
        if positions.is_empty() {
            return Err(Violation::ItemList.into());
        }
        self.tolerated.extend(positions.into_iter().map(|position| (position, why.to_owned())));
        Ok(())
    }

    pub(super) fn decided(&mut self, record: &DecisionRecord) -> Result<(), Refusal> {
        if self.cancelled {
            return Err(Violation::RunCancelled.into());
        }
        let seen = match (&self.growth, record.step) {
            (Some(_), 0) => return Err(pattern("step 0 was recorded before")),
            (None, 0) => {
                if self.next_seq != 1 {
                    return Err(pattern("step 0 must follow run.submitted"));
                }
                if self.submitted.pattern != Some(record.component) {
                    return Err(pattern("step 0 is of another component than the run was admitted with"));
                }
                if record.failure.is_some() {
                    return Err(pattern("step 0 cannot fail: the plan would have been rejected"));
                }
                if record.seen != 0 {
                    return Err(pattern("step 0 comes before every entry, it has seen none"));
                }
                0
            }
            (None, step) => return Err(pattern(format!("step {step} without step 0"))),
            (Some(growth), step) => {
                if !growth.live {
                    return Err(pattern("it is not asked any more"));
                }
                if step != growth.steps {
                    return Err(pattern(format!("step {step} does not fit, expected {}", growth.steps)));
                }
                if record.component != growth.component && !growth.taken_over {
                    return Err(pattern(format!("the run is pinned to component {}", growth.component)));
                }
                if record.component == growth.component && growth.taken_over {
                    return Err(pattern("the component failed and another one takes over"));
                }
                if record.seed != growth.seed {
                    return Err(pattern(format!("the seed of the run is {}", growth.seed)));
                }
                if record.seen <= growth.seen || record.seen > self.next_seq {
                    return Err(pattern(format!(
                        "it must have seen more than {} and at most {} entries",
                        growth.seen, self.next_seq
                    )));
                }
                if growth.unseen.front().is_none_or(|first| *first >= record.seen) {
                    return Err(pattern("nothing ended that it had not seen"));
                }
                if growth.taken_over && record.failure.as_ref().is_some_and(takes_over) {
                    return Err(pattern("nothing takes over from the built-in pattern"));
                }
                record.seen
            }
        };
        let taken_over = record.failure.as_ref().is_some_and(takes_over);
        let (mut unseen, earlier) =
            self.growth.take().map(|growth| (growth.unseen, growth.failed)).unwrap_or_default();
        if !taken_over {
            // What the failed one has seen is new for the one that takes over.
            while unseen.front().is_some_and(|first| *first < seen) {
                unseen.pop_front();
            }
        }
        let live = !record.closes && (record.failure.is_none() || taken_over);
        if !live {
            unseen.clear();
        }
        self.growth = Some(Box::new(Growth {
            component: record.component,
            steps: record.step + 1,
            seen,
            seed: record.seed,
            view: record.view,
            live,
            taken_over,
            failure: record.failure.clone(),
            failed: record.failure.clone().map(|failure| (record.step, failure)).or(earlier),
            unseen,
            extending: record.step > 0 && record.failure.is_none(),
        }));
        Ok(())
    }

    pub(super) fn moved(&mut self, from: &Digest, to: &Digest, steps: u64) -> Result<(), Refusal> {
        let Some(growth) = &mut self.growth else {
            return Err(pattern("the run was admitted without asking a pattern"));
        };
        if !growth.live || growth.taken_over {
            return Err(pattern("it is not asked any more"));
        }
        if growth.component != *from || from == to {
            return Err(pattern(format!("the run is pinned to component {}", growth.component)));
        }
        if growth.steps != steps {
            return Err(pattern(format!("{} steps were recorded, not {steps}", growth.steps)));
        }
        growth.component = *to;
        Ok(())
    }

    /// Whether items may be added now, by whom.
    pub(super) fn may_extend(&self, plugin: Option<&Digest>) -> Result<(), Refusal> {
        if self.cancelled {
            return Err(Violation::RunCancelled.into());
        }
        match plugin {
            None if self.is_open_ended() => Ok(()),
            None => Err(Violation::NotOpen.into()),
            Some(plugin) => match &self.growth {
                Some(growth) if growth.extending && growth.component == *plugin => Ok(()),
                _ => Err(pattern("items of a pattern must follow its record")),
            },
        }
    }

    /// Notes what an applied entry means for the pattern.
    pub(super) fn after_entry(&mut self, seq: u64, follows_record: bool, to_be_seen: bool) {
        let cancelled = self.cancelled;
        if let Some(growth) = &mut self.growth {
            growth.extending &= follows_record;
            growth.live &= !cancelled;
            if !growth.live {
                growth.unseen.clear();
            } else if to_be_seen {
                growth.unseen.push_back(seq);
            }
        }
    }
}

fn takes_over(failure: &PatternFailure) -> bool {
    failure.policy == FailurePolicy::Builtin
}
