//! All that is mostly asked of many items.

use crate::{
    columns::{IndexLists, TextLists, Texts},
    host::Phase,
    run::{Run, ending},
};

/// All that is mostly asked of an item, of many of them. Nothing is made of each: what an item is asked for is read from
/// what the host passed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Details {
    first: u32,
    ids: Texts,
    phases: Vec<Phase>,
    attempts: Vec<u32>,
    states: Texts,
    depends_on: IndexLists,
    verify_passed: Vec<Option<bool>>,
    output_keys: TextLists,
    failure_reasons: TextLists,
    failure_messages: TextLists,
}

impl Details {
    /// Of the items from position `first` on. A call of the host per column; see [`Run::ids_from`] and its likes for
    /// those who need fewer.
    pub(crate) fn read(run: &Run<'_>, first: u32) -> Self {
        Self {
            first,
            ids: run.ids_from(first),
            phases: run.phases_from(first),
            attempts: run.attempts_from(first),
            states: run.states_from(first),
            depends_on: run.depends_on_from(first),
            verify_passed: run.verify_passed_from(first),
            output_keys: run.output_keys_from(first),
            failure_reasons: run.item_attrs_from("failure-reason", first),
            failure_messages: run.item_attrs_from("failure-message", first),
        }
    }

    /// Of how many items.
    #[must_use]
    pub fn len(&self) -> usize {
        self.phases.len()
    }

    /// Whether of no item.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.phases.is_empty()
    }

    /// Of the item at this position of the run.
    #[must_use]
    pub fn at(&self, index: u32) -> Option<ItemDetail<'_>> {
        let place = index.checked_sub(self.first)? as usize;
        (place < self.len()).then_some(ItemDetail { all: self, place })
    }

    /// All items in index order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = ItemDetail<'_>> {
        (0..self.len()).map(|place| ItemDetail { all: self, place })
    }
}

/// All that is mostly asked of one item.
#[derive(Debug, Clone, Copy)]
pub struct ItemDetail<'d> {
    all: &'d Details,
    place: usize,
}

impl<'d> ItemDetail<'d> {
    /// Position in the run.
    #[must_use]
    pub fn index(&self) -> u32 {
        self.all.first.saturating_add(u32::try_from(self.place).unwrap_or(u32::MAX))
    }

    /// Its id.
    #[must_use]
    pub fn id(&self) -> &'d str {
        self.all.ids.get(self.place).unwrap_or_default()
    }

    /// Coarse state.
    #[must_use]
    pub fn phase(&self) -> Phase {
        self.all.phases[self.place]
    }

    /// Attempts so far.
    #[must_use]
    pub fn attempts(&self) -> u32 {
        self.all.attempts.get(self.place).copied().unwrap_or_default()
    }

    /// Exact state, an open vocabulary: treat what you do not know by the [`phase`](Self::phase).
    #[must_use]
    pub fn state(&self) -> &'d str {
        self.all.states.get(self.place).unwrap_or_default()
    }

    /// Positions of what it depends on; needs count.
    #[must_use]
    pub fn depends_on(&self) -> &'d [u32] {
        self.all.depends_on.of(self.place)
    }

    /// Verdict of self-verify, when it ran.
    #[must_use]
    pub fn verify_passed(&self) -> Option<bool> {
        self.all.verify_passed.get(self.place).copied().flatten()
    }

    /// Paths of its outputs, ascending.
    pub fn output_keys(&self) -> impl Iterator<Item = &'d str> + use<'d> {
        self.all.output_keys.of(self.place)
    }

    /// How many outputs it has.
    #[must_use]
    pub fn outputs(&self) -> usize {
        self.all.output_keys.count(self.place)
    }

    /// Whether it has this output.
    #[must_use]
    pub fn has_output(&self, path: &str) -> bool {
        self.output_keys().any(|key| key == path)
    }

    /// Why it failed, as a code.
    #[must_use]
    pub fn failure_reason(&self) -> Option<&'d str> {
        self.all.failure_reasons.first(self.place)
    }

    /// Why it failed, in words.
    #[must_use]
    pub fn failure_message(&self) -> Option<&'d str> {
        self.all.failure_messages.first(self.place)
    }

    /// How it ended, in words for people, like [`crate::Item::ending`].
    #[must_use]
    pub fn ending(&self) -> String {
        let why = self.failure_message().or_else(|| self.failure_reason());
        ending(self.state().to_owned(), why, || self.verify_passed())
    }
}
