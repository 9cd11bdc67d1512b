//! The run as a pattern is shown it.

use std::cell::Cell;

use serde_json::Value;

use super::{MockItem, MockRun, Serving, State};
use crate::{
    IndexLists, TextLists, Texts,
    host::{ItemAccess, ItemBrief, Phase, View},
};

/// Most briefs per page, as the contract says.
const PAGE_MAX: u32 = 1_024;

/// Most items per page of a column, as the contract says.
const COLUMN_MAX: u32 = 1 << 16;

/// Bytes with which a page of a column is full, as the contract says.
const COLUMN_BYTES: usize = 1 << 20;

pub(super) struct Served<'a> {
    run: &'a MockRun,
    changed: Vec<u32>,
    serving: Serving,
    calls: Cell<u64>,
}

impl<'a> Served<'a> {
    pub(super) fn new(run: &'a MockRun, serving: Serving) -> Self {
        Self { run, changed: run.changed.iter().copied().collect(), serving, calls: Cell::new(0) }
    }

    pub(super) fn calls(&self) -> u64 {
        self.calls.get()
    }

    fn called(&self) {
        self.calls.set(self.calls.get() + 1);
    }

    fn page(&self, offset: u32, limit: u32, len: usize) -> std::ops::Range<usize> {
        self.page_of(offset, limit, PAGE_MAX, len)
    }

    fn page_of(&self, offset: u32, limit: u32, most: u32, len: usize) -> std::ops::Range<usize> {
        self.called();
        let most = if self.serving.page == 0 { most } else { self.serving.page };
        let start = (offset as usize).min(len);
        start..(start + limit.min(most) as usize).min(len)
    }

    fn brief(&self, index: u32) -> ItemBrief {
        let item = &self.run.items[index as usize];
        ItemBrief { index, id: item.id.clone(), phase: item.state.phase(), attempts: item.state.attempts() }
    }

    /// What the handles of a page of a column answer.
    fn column<T>(&self, offset: u32, limit: u32, of: impl Fn(&Handle<'_>) -> T) -> Vec<T> {
        let mut column = Vec::new();
        self.fill(offset, limit, |handle| {
            column.push(of(handle));
            0
        });
        column
    }

    /// Shows `add` the items of a page, as long as the bytes that it says the page has so far leave room.
    fn fill(&self, offset: u32, limit: u32, mut add: impl FnMut(&Handle<'_>) -> usize) {
        let page = self.page_of(offset, limit, COLUMN_MAX, self.run.items.len());
        for item in &self.run.items[page] {
            if add(&Handle { served: self, item }) >= COLUMN_BYTES {
                break;
            }
        }
    }

    fn texts(&self, offset: u32, limit: u32, of: impl Fn(&Handle<'_>) -> String) -> Texts {
        let mut texts = Texts::default();
        self.fill(offset, limit, |handle| {
            texts.push(&of(handle));
            texts.bytes() + 4 * texts.len()
        });
        texts
    }

    fn text_lists(&self, offset: u32, limit: u32, add: impl Fn(&mut TextLists, &Handle<'_>)) -> TextLists {
        let mut lists = TextLists::default();
        self.fill(offset, limit, |handle| {
            add(&mut lists, handle);
            lists.texts().bytes() + 4 * (lists.texts().len() + lists.len())
        });
        lists
    }
}

impl View for Served<'_> {
    fn run_id(&self) -> String {
        self.called();
        self.run.id.clone()
    }

    fn tick(&self) -> u64 {
        self.called();
        self.run.tick
    }

    fn now_ms(&self) -> u64 {
        self.called();
        1_700_000_000_000 + self.run.tick
    }

    fn seed(&self) -> u64 {
        self.called();
        self.serving.seed.unwrap_or(self.run.seed)
    }

    fn params_json(&self) -> String {
        self.called();
        self.run.params.clone()
    }

    fn item_count(&self) -> u32 {
        self.called();
        u32::try_from(self.run.items.len()).unwrap_or(u32::MAX)
    }

    #[expect(clippy::cast_possible_truncation, reason = "positions of a test's items")]
    fn items(&self, offset: u32, limit: u32) -> Vec<ItemBrief> {
        self.page(offset, limit, self.run.items.len()).map(|index| self.brief(index as u32)).collect()
    }

    fn changed(&self, offset: u32, limit: u32) -> Vec<ItemBrief> {
        let range = self.page(offset, limit, self.changed.len());
        self.changed[range].iter().map(|index| self.brief(*index)).collect()
    }

    fn count(&self, phase: Phase) -> u32 {
        self.called();
        self.run.counts[phase as usize]
    }

    fn phases(&self, offset: u32, limit: u32) -> Vec<Phase> {
        self.column(offset, limit, |handle| handle.item.state.phase())
    }

    fn ids(&self, offset: u32, limit: u32) -> Texts {
        self.texts(offset, limit, |handle| handle.item.id.clone())
    }

    fn attempts(&self, offset: u32, limit: u32) -> Vec<u32> {
        self.column(offset, limit, |handle| handle.item.state.attempts())
    }

    fn states(&self, offset: u32, limit: u32) -> Texts {
        self.texts(offset, limit, |handle| handle.shown_state())
    }

    fn executors(&self, offset: u32, limit: u32) -> Texts {
        self.texts(offset, limit, |handle| handle.shown_executor())
    }

    fn depends_on(&self, offset: u32, limit: u32) -> IndexLists {
        let mut lists = IndexLists::default();
        let mut bytes = 0;
        self.fill(offset, limit, |handle| {
            lists.push(&handle.item.depends_on);
            bytes += 4 * (1 + handle.item.depends_on.len());
            bytes
        });
        lists
    }

    fn verify_passed(&self, offset: u32, limit: u32) -> Vec<Option<bool>> {
        self.column(offset, limit, |handle| handle.item.verify)
    }

    fn output_keys(&self, offset: u32, limit: u32) -> TextLists {
        self.text_lists(offset, limit, |lists, handle| lists.push(&handle.item.outputs))
    }

    fn inputs_json(&self, key: &str, offset: u32, limit: u32) -> TextLists {
        self.text_lists(offset, limit, |lists, handle| lists.push(handle.shown_input(key)))
    }

    fn item_attrs(&self, key: &str, offset: u32, limit: u32) -> TextLists {
        self.text_lists(offset, limit, |lists, handle| lists.push(handle.shown_attr(key)))
    }

    fn find(&self, id: &str) -> Option<u32> {
        self.called();
        self.run.index.get(id).copied()
    }

    fn find_all(&self, ids: &Texts) -> Vec<Option<u32>> {
        self.called();
        ids.iter().map(|id| self.run.index.get(id).copied()).collect()
    }

    fn item(&self, index: u32) -> Option<Box<dyn ItemAccess + '_>> {
        self.called();
        let item = self.run.items.get(index as usize)?;
        Some(Box::new(Handle { served: self, item }))
    }

    fn attr(&self, key: &str) -> Option<String> {
        self.called();
        match key {
            "queue" => Some("mock".into()),
            "open-ended" => Some(self.run.open_ended.to_string()),
            _ => None,
        }
    }
}

struct Handle<'a> {
    served: &'a Served<'a>,
    item: &'a MockItem,
}

impl Handle<'_> {
    fn shown_state(&self) -> String {
        let is_known = matches!(self.item.state, State::Done | State::Cancelled);
        let is_strange = self.served.serving.strange && !is_known;
        if is_strange { "of-a-later-version" } else { self.item.state.name() }.to_owned()
    }

    fn shown_executor(&self) -> String {
        self.item.spec["executor"].as_str().unwrap_or_default().to_owned()
    }

    fn shown_input(&self, key: &str) -> Option<String> {
        self.item.spec["inputs"].get(key).map(Value::to_string)
    }

    fn shown_attr(&self, key: &str) -> Option<String> {
        if self.served.serving.strange && key == "failure-reason" {
            return Some("of-a-later-version".into());
        }
        self.item.attrs.get(key).cloned()
    }
}

impl ItemAccess for Handle<'_> {
    fn id(&self) -> String {
        self.served.called();
        self.item.id.clone()
    }

    fn state(&self) -> String {
        self.served.called();
        self.shown_state()
    }

    fn executor(&self) -> String {
        self.served.called();
        self.shown_executor()
    }

    fn depends_on(&self) -> Vec<u32> {
        self.served.called();
        self.item.depends_on.clone()
    }

    fn verify_passed(&self) -> Option<bool> {
        self.served.called();
        self.item.verify
    }

    fn output_keys(&self) -> Vec<String> {
        self.served.called();
        self.item.outputs.clone()
    }

    fn input_json(&self, key: &str) -> Option<String> {
        self.served.called();
        self.shown_input(key)
    }

    fn spec_json(&self) -> String {
        self.served.called();
        let mut spec = self.item.spec.clone();
        if self.served.serving.strange {
            spec.insert("memberOfALaterVersion".into(), 1.into());
        }
        Value::Object(spec).to_string()
    }

    fn attr(&self, key: &str) -> Option<String> {
        self.served.called();
        self.shown_attr(key)
    }
}
