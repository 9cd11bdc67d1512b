//! The run, typed.

use std::{cell::OnceCell, collections::BTreeSet};

use serde::de::DeserializeOwned;

use crate::{
    Config, Details, Finding, IndexLists, TextLists, Texts,
    columns::Column,
    host::{Fault, ItemAccess, ItemBrief, Phase, RunSource, View, fault},
};

/// Items per page.
const PAGE: u32 = 1_024;

/// The run at one point in time.
#[derive(Clone, Copy)]
pub struct Run<'a> {
    view: &'a RunSource<'a>,
}

impl<'a> Run<'a> {
    /// On a host.
    #[must_use]
    pub const fn new(view: &'a RunSource<'a>) -> Self {
        Self { view }
    }

    /// Its id.
    #[must_use]
    pub fn id(&self) -> String {
        self.view.run_id()
    }

    /// Number of this step, from 0.
    #[must_use]
    pub fn tick(&self) -> u64 {
        self.view.tick()
    }

    /// Milliseconds since the Unix epoch, recorded with the step.
    #[must_use]
    pub fn now_ms(&self) -> u64 {
        self.view.now_ms()
    }

    /// Pinned per run.
    #[must_use]
    pub fn seed(&self) -> u64 {
        self.view.seed()
    }

    /// Parameters of the queue's binding. Empty text counts as `{}`.
    ///
    /// # Errors
    /// A fault `bad-config` when they do not have this shape.
    pub fn params<T: DeserializeOwned>(&self) -> Result<T, Fault> {
        let text = self.view.params_json();
        let text = if text.trim().is_empty() { "{}" } else { &text };
        serde_json::from_str(text)
            .map_err(|error| fault("bad-config", format!("parameters of the pattern: {error}")))
    }

    /// Number of items.
    #[must_use]
    pub fn len(&self) -> u32 {
        self.view.item_count()
    }

    /// Whether it has no items.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All items in index order. Costs the whole run: ask [`count`](Self::count) and look at
    /// [`changed`](Self::changed) first.
    pub fn items(&self) -> impl Iterator<Item = ItemBrief> + use<'a> {
        let view = self.view;
        pages(move |offset| view.items(offset, PAGE))
    }

    /// All items from the last to the first.
    pub fn items_from_end(&self) -> impl Iterator<Item = ItemBrief> + use<'a> {
        let view = self.view;
        let (mut end, mut want) = (view.item_count(), 16);
        std::iter::from_fn(move || {
            // A host may serve smaller pages than asked for, so a page is read until it is complete.
            let start = end.saturating_sub(want);
            let mut page = Vec::new();
            while start + count(&page) < end {
                let part = view.items(start + count(&page), end - start - count(&page));
                if part.is_empty() {
                    break;
                }
                page.extend(part);
            }
            end = start;
            want = (want * 4).min(PAGE);
            (!page.is_empty()).then(|| page.into_iter().rev())
        })
        .flatten()
    }

    /// A column from position `first` on, in as many calls as it takes.
    fn column<C: Column>(&self, first: u32, page: impl Fn(&RunSource<'a>, u32, u32) -> C) -> C {
        let (mut all, len) = (C::default(), self.len());
        loop {
            let offset = first.saturating_add(u32::try_from(all.entries()).unwrap_or(u32::MAX));
            if offset >= len {
                return all;
            }
            let page = page(self.view, offset, len - offset);
            if page.entries() == 0 {
                return all;
            }
            all.add(page);
        }
    }

    /// Phases of the items from position `first` on, in index order. One byte per item: the cheapest way to look at
    /// all of them.
    #[must_use]
    pub fn phases_from(&self, first: u32) -> Vec<Phase> {
        self.column(first, View::phases)
    }

    /// Ids of the items from position `first` on.
    #[must_use]
    pub fn ids_from(&self, first: u32) -> Texts {
        self.column(first, View::ids)
    }

    /// How often each was tried, of the items from position `first` on.
    #[must_use]
    pub fn attempts_from(&self, first: u32) -> Vec<u32> {
        self.column(first, View::attempts)
    }

    /// Exact states, an open vocabulary, of the items from position `first` on.
    #[must_use]
    pub fn states_from(&self, first: u32) -> Texts {
        self.column(first, View::states)
    }

    /// Names of the executors of the items from position `first` on.
    #[must_use]
    pub fn executors_from(&self, first: u32) -> Texts {
        self.column(first, View::executors)
    }

    /// Positions of what each depends on, needs included, of the items from position `first` on.
    #[must_use]
    pub fn depends_on_from(&self, first: u32) -> IndexLists {
        self.column(first, View::depends_on)
    }

    /// Verdicts of self-verify, where it ran, of the items from position `first` on.
    #[must_use]
    pub fn verify_passed_from(&self, first: u32) -> Vec<Option<bool>> {
        self.column(first, View::verify_passed)
    }

    /// Paths of the outputs, ascending, of the items from position `first` on.
    #[must_use]
    pub fn output_keys_from(&self, first: u32) -> TextLists {
        self.column(first, View::output_keys)
    }

    /// One input of each as JSON text, where it has it, of the items from position `first` on.
    #[must_use]
    pub fn inputs_json_from(&self, key: &str, first: u32) -> TextLists {
        self.column(first, |view, offset, limit| view.inputs_json(key, offset, limit))
    }

    /// A further fact of each, where it has it, of the items from position `first` on.
    #[must_use]
    pub fn item_attrs_from(&self, key: &str, first: u32) -> TextLists {
        self.column(first, |view, offset, limit| view.item_attrs(key, offset, limit))
    }

    /// The items from position `first` on with all that is mostly asked of them. Takes memory for all of them, and a few
    /// calls of the host together, where [`item`](Self::item) needs several per item.
    #[must_use]
    pub fn details_from(&self, first: u32) -> Details {
        Details::read(self, first)
    }

    /// What changed since the previous step, in index order. Holds everything that ended, and may hold items that only
    /// moved on or were added.
    pub fn changed(&self) -> impl Iterator<Item = ItemBrief> + use<'a> {
        let view = self.view;
        pages(move |offset| view.changed(offset, PAGE))
    }

    /// What changed and has ended.
    pub fn ended(&self) -> impl Iterator<Item = ItemBrief> + use<'a> {
        self.changed().filter(ItemBrief::has_ended)
    }

    /// How many items are in this phase. Cheap.
    #[must_use]
    pub fn count(&self, phase: Phase) -> u32 {
        self.view.count(phase)
    }

    /// How many items have not ended. Cheap.
    #[must_use]
    pub fn open(&self) -> u32 {
        self.count(Phase::Waiting) + self.count(Phase::Active)
    }

    /// Position of an item.
    #[must_use]
    pub fn find(&self, id: &str) -> Option<u32> {
        self.view.find(id)
    }

    /// [`find`](Self::find) for every id, in their order.
    #[must_use]
    pub fn find_all(&self, ids: &Texts) -> Vec<Option<u32>> {
        self.view.find_all(ids)
    }

    /// An item by its position.
    #[must_use]
    pub fn item(&self, index: u32) -> Option<Item<'a>> {
        let access = self.view.item(index)?;
        Some(Item { view: self.view, index, access, phase: OnceCell::new() })
    }

    /// An item by its id.
    #[must_use]
    pub fn get(&self, id: &str) -> Option<Item<'a>> {
        self.item(self.find(id)?)
    }

    /// An item by its position.
    ///
    /// # Errors
    /// A fault `gone` when the host has no such item.
    pub fn expect(&self, index: u32) -> Result<Item<'a>, Fault> {
        self.item(index).ok_or_else(|| fault("gone", format!("the run has no item at position {index}")))
    }

    /// A further fact of the run; unknown ones are absent.
    #[must_use]
    pub fn attr(&self, key: &str) -> Option<String> {
        self.view.attr(key)
    }

    /// Whether more items may come from outside.
    #[must_use]
    pub fn is_open_ended(&self) -> bool {
        self.attr("open-ended").as_deref() == Some("true")
    }
}

fn count<T>(page: &[T]) -> u32 {
    u32::try_from(page.len()).unwrap_or(u32::MAX)
}

fn pages<T>(mut fetch: impl FnMut(u32) -> Vec<T>) -> impl Iterator<Item = T> {
    let mut offset = 0;
    std::iter::from_fn(move || {
        let page = fetch(offset);
        offset += count(&page);
        (!page.is_empty()).then_some(page)
    })
    .flatten()
}

/// One item.
pub struct Item<'a> {
    view: &'a RunSource<'a>,
    index: u32,
    access: Box<dyn ItemAccess + 'a>,
    phase: OnceCell<Option<Phase>>,
}

impl Item<'_> {
    /// Position in the run; in a submitted plan the position in `items`.
    #[must_use]
    pub const fn index(&self) -> u32 {
        self.index
    }

    /// Its id.
    #[must_use]
    pub fn id(&self) -> String {
        self.access.id()
    }

    /// Exact state, an open vocabulary: treat what you do not know by its [`phase`](Self::phase).
    #[must_use]
    pub fn state(&self) -> String {
        self.access.state()
    }

    /// Coarse state.
    #[must_use]
    pub fn phase(&self) -> Phase {
        let phase = self.phase.get_or_init(|| self.view.phases(self.index, 1).first().copied());
        phase.unwrap_or(Phase::Waiting)
    }

    /// Name of its executor.
    #[must_use]
    pub fn executor(&self) -> String {
        self.access.executor()
    }

    /// Positions of what it depends on; needs count.
    #[must_use]
    pub fn depends_on(&self) -> Vec<u32> {
        self.access.depends_on()
    }

    /// Verdict of self-verify, when it ran.
    #[must_use]
    pub fn verify_passed(&self) -> Option<bool> {
        self.access.verify_passed()
    }

    /// Paths of its outputs, ascending.
    #[must_use]
    pub fn output_keys(&self) -> Texts {
        let keys = self.view.output_keys(self.index, 1).into_texts();
        if keys.is_sorted() {
            return keys;
        }
        // Hosts give them in order; one that does not must not change what is decided. One by one, because a sort is more
        // code than the whole of this file.
        let mut sorted: Vec<&str> = Vec::with_capacity(keys.len());
        for key in keys.iter() {
            let place = sorted.partition_point(|before| *before <= key);
            sorted.insert(place, key);
        }
        sorted.into_iter().collect()
    }

    /// Whether it has this output.
    #[must_use]
    pub fn has_output(&self, path: &str) -> bool {
        self.view.output_keys(self.index, 1).of(0).any(|key| key == path)
    }

    /// Whether it left a patch; a host that does not say is taken to have one.
    #[must_use]
    pub fn has_patch(&self) -> bool {
        self.attr("has-patch").as_deref() != Some("false")
    }

    /// Whether it has this input.
    #[must_use]
    pub fn has_input(&self, key: &str) -> bool {
        self.access.input_json(key).is_some()
    }

    /// One input as JSON text.
    #[must_use]
    pub fn input_json(&self, key: &str) -> Option<String> {
        self.access.input_json(key)
    }

    /// One input as any type that serde can read.
    ///
    /// # Errors
    /// A fault `bad-config` when it does not have this shape.
    pub fn input<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>, Fault> {
        let Some(text) = self.access.input_json(key) else { return Ok(None) };
        serde_json::from_str(&text)
            .map(Some)
            .map_err(|error| fault("bad-config", format!("inputs.{key} of {}: {error}", self.id())))
    }

    /// Configuration in one input, read by `read` with every finding noted in `findings`. Pointers start at the item's
    /// place in the plan.
    pub fn config<T>(
        &self,
        key: &'static str,
        findings: &mut Vec<Finding>,
        read: impl FnOnce(&mut Config<'_>) -> T,
    ) -> Option<T> {
        let text = self.access.input_json(key)?;
        Some(Config::read(&text, format!("/items/{}/inputs/{key}", self.index), findings, read))
    }

    /// The whole item as in a plan, JSON text.
    #[must_use]
    pub fn spec_json(&self) -> String {
        self.access.spec_json()
    }

    /// A further fact; unknown ones are absent.
    #[must_use]
    pub fn attr(&self, key: &str) -> Option<String> {
        self.access.attr(key)
    }

    /// Ids of what it depends on.
    #[must_use]
    pub fn depends_on_ids(&self) -> BTreeSet<String> {
        let deps = self.depends_on().into_iter();
        deps.filter_map(|index| Some(self.view.items(index, 1).into_iter().next()?.id)).collect()
    }

    /// How it ended, in words for people: `failed (tests: 3 of 10 failed)`.
    #[must_use]
    pub fn ending(&self) -> String {
        let why = self.attr("failure-message").or_else(|| self.attr("failure-reason"));
        ending(self.state(), why.as_deref(), || self.verify_passed())
    }
}

pub(crate) fn ending(state: String, why: Option<&str>, verify_passed: impl Fn() -> Option<bool>) -> String {
    match why {
        Some(why) => format!("{state} ({})", clip(why)),
        None if state == "done" && verify_passed() == Some(false) => {
            "done, but its verify did not pass".into()
        }
        None => state,
    }
}

/// Words of others in an explanation stay short.
fn clip(text: &str) -> &str {
    const MAX: usize = 400;
    &text[..text.floor_char_boundary(MAX)]
}
