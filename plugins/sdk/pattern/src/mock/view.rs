//! The run as a pattern is shown it.

use std::cell::Cell;

use serde_json::Value;

use super::{MockItem, MockRun, Serving, State};
use crate::host::{ItemAccess, ItemBrief, ItemDetail, Phase, View};

/// Most briefs per page, as the contract says.
const PAGE_MAX: u32 = 1_024;

/// Most phases per page, as the contract says.
const PHASES_MAX: u32 = 1 << 16;

/// Bytes after which a page of details ends, as the contract says.
const DETAIL_BYTES: usize = 1 << 20;

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
        let attempts = u32::from(!matches!(item.state, State::Pending | State::Ready | State::Skipped));
        ItemBrief { index, id: item.id.clone(), phase: item.state.phase(), attempts }
    }

    /// What the handle would answer.
    fn detail(&self, index: u32) -> ItemDetail {
        let handle = Handle { served: self, item: &self.run.items[index as usize] };
        ItemDetail {
            brief: self.brief(index),
            state: handle.shown_state(),
            depends_on: handle.item.depends_on.clone(),
            verify_passed: handle.item.verify,
            output_keys: handle.item.outputs.clone(),
            failure_reason: handle.shown_attr("failure-reason"),
            failure_message: handle.shown_attr("failure-message"),
        }
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
        let range = self.page_of(offset, limit, PHASES_MAX, self.run.items.len());
        self.run.items[range].iter().map(|item| item.state.phase()).collect()
    }

    #[expect(clippy::cast_possible_truncation, reason = "positions of a test's items")]
    fn details(&self, offset: u32, limit: u32) -> Vec<ItemDetail> {
        let mut bytes = 0;
        self.page(offset, limit, self.run.items.len())
            .map(|index| self.detail(index as u32))
            .take_while(|detail| {
                let is_first = bytes == 0;
                bytes +=
                    detail.brief.id.len() + detail.output_keys.iter().map(String::len).sum::<usize>() + 64;
                is_first || bytes <= DETAIL_BYTES
            })
            .collect()
    }

    fn find(&self, id: &str) -> Option<u32> {
        self.called();
        self.run.index.get(id).copied()
    }

    fn find_all(&self, ids: &[String]) -> Vec<Option<u32>> {
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
        self.item.spec["executor"].as_str().unwrap_or_default().to_owned()
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
        self.item.spec["inputs"].get(key).map(Value::to_string)
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
