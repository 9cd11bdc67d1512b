//! Host side of `pangolin:pattern/graph`: the run a pattern sees and the decisions it writes.

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
};

use pangolin_core::{
    ids::ItemId,
    pattern::{
        Decisions, Explanation, ItemPhase, Ordering, PlanFinding, Possible, RunItem, RunView, SpawnItem,
        SpawnNeeds, SpawnSpec, Tolerated,
    },
};
use serde_json::{Map, Value, json};
use wasmtime::component::Resource;

use crate::{
    bindings::pattern::pangolin::{
        base::types::Refusal,
        pattern::graph::{
            Host, HostDecisions, HostItemSpec, HostItemView, HostRunView, IndexLists, ItemBrief, Phase,
            TextLists, Texts,
        },
    },
    columns,
    crossing::Weigh as _,
    failure::{GUEST_TEXT_BYTES, clip},
    limits::Limits,
    state::{CallState, Meter},
};

/// Most briefs per page.
const PAGE_MAX: usize = 1_024;

/// Most items per page of a column.
const COLUMN_MAX: usize = 1 << 16;

/// Largest input value of a spawned item, in bytes of JSON.
const INPUT_BYTES_MAX: usize = 64 << 10;

/// Members of a plan item that are plain text, so that they need no quotes in `set-attr`.
const TEXT_ATTRS: [&str; 3] = ["image", "model", "subagentShape"];

/// Other optional members of a plan item.
const JSON_ATTRS: [&str; 6] = ["maxAttempts", "timeoutSeconds", "priority", "budgetUsd", "env", "holdOnRed"];

/// The `run-view` resource.
#[expect(unreachable_pub, reason = "generated code re-exports it")]
pub struct ViewHandle {
    view: Arc<RunView>,
}

impl ViewHandle {
    pub(crate) fn new(view: Arc<RunView>) -> Self {
        Self { view }
    }
}

/// The `item-view` resource.
#[expect(unreachable_pub, reason = "generated code re-exports it")]
pub struct ItemHandle {
    view: Arc<RunView>,
    index: usize,
}

impl ItemHandle {
    pub(crate) fn item(&self) -> &RunItem {
        &self.view.items()[self.index]
    }
}

/// The `item-spec` resource: checked when it is spawned, so that the guest hears about every problem in one place.
#[expect(unreachable_pub, reason = "generated code re-exports it")]
pub struct SpecDraft {
    id: String,
    executor: String,
    inputs: BTreeMap<String, String>,
    depends_on: Vec<String>,
    needs: SpawnNeeds,
    locks: Vec<String>,
    attrs: BTreeMap<String, String>,
    supersedes: Option<String>,
    bytes: usize,
}

/// The `decisions` resource.
#[expect(unreachable_pub, reason = "generated code re-exports it")]
pub struct DecisionsDraft {
    decisions: Decisions,
    ids: HashSet<String>,
    meter: Meter,
    planning: bool,
}

impl DecisionsDraft {
    pub(crate) fn new(limits: &Limits, planning: bool) -> Self {
        let meter = Meter::new("decisions", limits);
        Self { decisions: Decisions::default(), ids: HashSet::new(), meter, planning }
    }

    pub(crate) fn finish(self) -> Decisions {
        self.decisions
    }

    fn tolerate(&mut self, items: Vec<String>, why: String) -> Result<(), Refusal> {
        let subject = |id: &str| clip(id.to_owned(), 256);
        let refuse = |subject: String, reason: &str| {
            Err(Refusal { capability: "tolerate".into(), subject, reason: reason.to_owned() })
        };
        let first = items.first().map_or_else(String::new, |id| subject(id));
        if self.planning {
            return refuse(first, "nothing has ended while a plan is made");
        }
        if why.trim().is_empty() {
            return refuse(first, "it needs a reason, which is recorded");
        }
        let mut ids = Vec::with_capacity(items.len());
        for id in items {
            match ItemId::new(&*id) {
                Ok(id) => ids.push(id),
                Err(error) => return refuse(subject(&id), &error.to_string()),
            }
        }
        if !ids.is_empty() {
            let why = clip(why, GUEST_TEXT_BYTES);
            self.decisions.tolerated.push(Tolerated { items: ids, why });
        }
        Ok(())
    }

    /// The item that a planner amends.
    fn amend(&self, what: &str, item: &str) -> Result<ItemId, Refusal> {
        let refuse = |reason: String| Refusal {
            capability: "amend".into(),
            subject: clip(item.to_owned(), 256),
            reason,
        };
        if !self.planning {
            return Err(refuse(format!("{what} is for planning only: a run that has started only grows")));
        }
        ItemId::new(item).map_err(|error| refuse(error.to_string()))
    }
}

fn refuse(subject: &str, reason: impl Into<String>) -> Refusal {
    Refusal { capability: "spawn".into(), subject: clip(subject.to_owned(), 256), reason: reason.into() }
}

impl SpecDraft {
    fn build(self) -> Result<SpawnSpec, Refusal> {
        let subject = self.id.clone();
        let item = |id: &str, role: &str| {
            ItemId::new(id).map_err(|error| refuse(&subject, format!("{role} {id:?}: {error}")))
        };
        let mut inputs = Map::new();
        for (key, json) in self.inputs {
            if json.len() > INPUT_BYTES_MAX {
                let size = json.len();
                return Err(refuse(
                    &subject,
                    format!("input {key:?} has {size} bytes, the cap is {INPUT_BYTES_MAX}"),
                ));
            }
            let value: Value = serde_json::from_str(&json)
                .map_err(|error| refuse(&subject, format!("input {key:?} is not JSON: {error}")))?;
            inputs.insert(key, value);
        }
        for need in self.needs.iter() {
            ItemId::check(need.from)
                .map_err(|error| refuse(&subject, format!("source of a need {:?}: {error}", need.from)))?;
        }
        let depends_on =
            self.depends_on.iter().map(|id| item(id, "dependency")).collect::<Result<Vec<_>, _>>()?;
        if self.executor.is_empty() {
            return Err(refuse(&subject, "executor is empty"));
        }
        let id = item(&self.id, "id")?;
        let supersedes = self.supersedes.map(|old| item(&old, "superseded item")).transpose()?;
        let mut whole = Map::with_capacity(5 + self.attrs.len());
        whole.insert("id".to_owned(), json!(id));
        whole.insert("executor".to_owned(), Value::String(self.executor));
        whole.insert("inputs".to_owned(), Value::Object(inputs));
        whole.insert("depends_on".to_owned(), json!(depends_on));
        whole.insert("resourceLocks".to_owned(), json!(self.locks));
        for (key, text) in self.attrs {
            let value = attr(&key, text).map_err(|reason| refuse(&subject, reason))?;
            whole.insert(key, value);
        }
        Ok(SpawnSpec { id, item: SpawnItem::new(whole, self.needs), supersedes })
    }
}

/// The value of an optional member of an item.
fn attr(key: &str, text: String) -> Result<Value, String> {
    let parsed = serde_json::from_str(&text);
    if TEXT_ATTRS.contains(&key) {
        return Ok(parsed.ok().filter(Value::is_string).unwrap_or(Value::String(text)));
    }
    if !JSON_ATTRS.contains(&key) {
        let known = [TEXT_ATTRS.as_slice(), JSON_ATTRS.as_slice()].concat().join(", ");
        return Err(format!("attribute {key:?} is not a member of an item; known are {known}"));
    }
    parsed.map_err(|error| format!("attribute {key:?} is not JSON: {error}"))
}

const fn phase(item: &RunItem) -> Phase {
    match item.phase {
        ItemPhase::Waiting => Phase::Waiting,
        ItemPhase::Active => Phase::Active,
        ItemPhase::Succeeded => Phase::Succeeded,
        ItemPhase::Unsuccessful => Phase::Unsuccessful,
    }
}

fn brief(view: &RunView, index: u32) -> Option<ItemBrief> {
    let item = view.items().get(usize::try_from(index).ok()?)?;
    Some(ItemBrief { index, id: item.id().as_str().to_owned(), phase: phase(item), attempts: item.attempts })
}

fn page(offset: u32, limit: u32, most: usize, len: usize) -> std::ops::Range<usize> {
    let start = usize::try_from(offset).unwrap_or(usize::MAX).min(len);
    let count = usize::try_from(limit).unwrap_or(usize::MAX).min(most);
    start..start.saturating_add(count).min(len)
}

impl Host for CallState {}

impl HostRunView for CallState {
    fn run_id(&mut self, this: Resource<ViewHandle>) -> wasmtime::Result<String> {
        let value = self.table.get(&this)?.view.run_id.clone();
        self.answer(0, value)
    }

    fn tick(&mut self, this: Resource<ViewHandle>) -> wasmtime::Result<u64> {
        let value = self.table.get(&this)?.view.tick;
        self.answer(0, value)
    }

    fn now_ms(&mut self, this: Resource<ViewHandle>) -> wasmtime::Result<u64> {
        let value = self.table.get(&this)?.view.now_ms;
        self.answer(0, value)
    }

    fn seed(&mut self, this: Resource<ViewHandle>) -> wasmtime::Result<u64> {
        let value = self.table.get(&this)?.view.seed;
        self.answer(0, value)
    }

    fn params_json(&mut self, this: Resource<ViewHandle>) -> wasmtime::Result<String> {
        let value = self.table.get(&this)?.view.params_json.clone();
        self.answer(0, value)
    }

    fn item_count(&mut self, this: Resource<ViewHandle>) -> wasmtime::Result<u32> {
        let value = u32::try_from(self.table.get(&this)?.view.items().len())?;
        self.answer(0, value)
    }

    fn items(
        &mut self,
        this: Resource<ViewHandle>,
        offset: u32,
        limit: u32,
    ) -> wasmtime::Result<Vec<ItemBrief>> {
        let most = self.probe.page_items.unwrap_or(PAGE_MAX).max(1);
        let view = &self.table.get(&this)?.view;
        let range = page(offset, limit, most, view.items().len());
        let value: Vec<ItemBrief> =
            range.filter_map(|index| brief(view, u32::try_from(index).ok()?)).collect();
        self.answer(0, value)
    }

    fn changed(
        &mut self,
        this: Resource<ViewHandle>,
        offset: u32,
        limit: u32,
    ) -> wasmtime::Result<Vec<ItemBrief>> {
        let most = self.probe.page_items.unwrap_or(PAGE_MAX).max(1);
        let view = &self.table.get(&this)?.view;
        let range = page(offset, limit, most, view.changed.len());
        let value: Vec<ItemBrief> =
            view.changed[range].iter().filter_map(|index| brief(view, *index)).collect();
        self.answer(0, value)
    }

    fn phases(
        &mut self,
        this: Resource<ViewHandle>,
        offset: u32,
        limit: u32,
    ) -> wasmtime::Result<Vec<Phase>> {
        let value = self.column(&this, offset, limit)?.iter().map(phase).collect::<Vec<_>>();
        self.answer(0, value)
    }

    fn ids(&mut self, this: Resource<ViewHandle>, offset: u32, limit: u32) -> wasmtime::Result<Texts> {
        let value = columns::texts(self.column(&this, offset, limit)?, |item| item.id().as_str());
        self.answer(0, value)
    }

    fn attempts(
        &mut self,
        this: Resource<ViewHandle>,
        offset: u32,
        limit: u32,
    ) -> wasmtime::Result<Vec<u32>> {
        let value: Vec<u32> = self.column(&this, offset, limit)?.iter().map(|item| item.attempts).collect();
        self.answer(0, value)
    }

    fn states(&mut self, this: Resource<ViewHandle>, offset: u32, limit: u32) -> wasmtime::Result<Texts> {
        let value = columns::texts(self.column(&this, offset, limit)?, |item| &*item.state);
        self.answer(0, value)
    }

    fn executors(&mut self, this: Resource<ViewHandle>, offset: u32, limit: u32) -> wasmtime::Result<Texts> {
        let value = columns::texts(self.column(&this, offset, limit)?, |item| &*item.spec.executor);
        self.answer(0, value)
    }

    fn depends_on(
        &mut self,
        this: Resource<ViewHandle>,
        offset: u32,
        limit: u32,
    ) -> wasmtime::Result<IndexLists> {
        let value = columns::index_lists(self.column(&this, offset, limit)?, |item| &item.depends_on);
        self.answer(0, value)
    }

    fn verify_passed(
        &mut self,
        this: Resource<ViewHandle>,
        offset: u32,
        limit: u32,
    ) -> wasmtime::Result<Vec<Option<bool>>> {
        let items = self.column(&this, offset, limit)?;
        let value: Vec<Option<bool>> = items.iter().map(|item| item.verify_passed).collect();
        self.answer(0, value)
    }

    fn output_keys(
        &mut self,
        this: Resource<ViewHandle>,
        offset: u32,
        limit: u32,
    ) -> wasmtime::Result<TextLists> {
        let value =
            columns::text_lists(self.column(&this, offset, limit)?, |item| item.output_keys.as_slice());
        self.answer(0, value)
    }

    fn inputs_json(
        &mut self,
        this: Resource<ViewHandle>,
        key: String,
        offset: u32,
        limit: u32,
    ) -> wasmtime::Result<TextLists> {
        let items = self.column(&this, offset, limit)?;
        let value = columns::text_lists(items, |item| item.spec.inputs.get(&key).map(Value::to_string));
        self.answer(key.len(), value)
    }

    fn item_attrs(
        &mut self,
        this: Resource<ViewHandle>,
        key: String,
        offset: u32,
        limit: u32,
    ) -> wasmtime::Result<TextLists> {
        let value = columns::text_lists(self.column(&this, offset, limit)?, |item| item.attrs.get(&key));
        self.answer(key.len(), value)
    }

    fn find_all(&mut self, this: Resource<ViewHandle>, ids: Texts) -> wasmtime::Result<Vec<Option<u32>>> {
        let view = &self.table.get(&this)?.view;
        let value: Vec<Option<u32>> =
            columns::read("find-all", &ids)?.iter().map(|id| view.find(id)).collect();
        self.answer(ids.weight(), value)
    }

    fn find(&mut self, this: Resource<ViewHandle>, id: String) -> wasmtime::Result<Option<u32>> {
        let weight = id.len();
        let value = self.table.get(&this)?.view.find(&id);
        self.answer(weight, value)
    }

    fn count(&mut self, this: Resource<ViewHandle>, phase: Phase) -> wasmtime::Result<u32> {
        let phase = match phase {
            Phase::Waiting => ItemPhase::Waiting,
            Phase::Active => ItemPhase::Active,
            Phase::Succeeded => ItemPhase::Succeeded,
            Phase::Unsuccessful => ItemPhase::Unsuccessful,
        };
        let value = self.table.get(&this)?.view.count(phase);
        self.answer(0, value)
    }

    fn item(
        &mut self,
        this: Resource<ViewHandle>,
        index: u32,
    ) -> wasmtime::Result<Option<Resource<ItemHandle>>> {
        let view = Arc::clone(&self.table.get(&this)?.view);
        let index = usize::try_from(index)?;
        if index >= view.items().len() {
            return self.answer(0, None);
        }
        let value = Some(self.table.push(ItemHandle { view, index })?);
        self.answer(0, value)
    }

    fn attr(&mut self, this: Resource<ViewHandle>, key: String) -> wasmtime::Result<Option<String>> {
        let weight = key.len();
        let value = self.table.get(&this)?.view.attrs.get(&key).cloned();
        self.answer(weight, value)
    }

    fn drop(&mut self, this: Resource<ViewHandle>) -> wasmtime::Result<()> {
        self.table.delete(this)?;
        Ok(())
    }
}

impl HostItemView for CallState {
    fn id(&mut self, this: Resource<ItemHandle>) -> wasmtime::Result<String> {
        let value = self.table.get(&this)?.item().id().as_str().to_owned();
        self.answer(0, value)
    }

    fn state(&mut self, this: Resource<ItemHandle>) -> wasmtime::Result<String> {
        let value = self.table.get(&this)?.item().state.clone().into_owned();
        self.answer(0, value)
    }

    fn executor(&mut self, this: Resource<ItemHandle>) -> wasmtime::Result<String> {
        let value = self.table.get(&this)?.item().spec.executor.clone();
        self.answer(0, value)
    }

    fn depends_on(&mut self, this: Resource<ItemHandle>) -> wasmtime::Result<Vec<u32>> {
        let value = self.table.get(&this)?.item().depends_on.clone();
        self.answer(0, value)
    }

    fn verify_passed(&mut self, this: Resource<ItemHandle>) -> wasmtime::Result<Option<bool>> {
        let value = self.table.get(&this)?.item().verify_passed;
        self.answer(0, value)
    }

    fn output_keys(&mut self, this: Resource<ItemHandle>) -> wasmtime::Result<Vec<String>> {
        // Served by `crate::bulk`.
        let _ = this;
        Err(wasmtime::Error::msg("output-keys is not served here"))
    }

    fn input_json(&mut self, this: Resource<ItemHandle>, key: String) -> wasmtime::Result<Option<String>> {
        let weight = key.len();
        let value = self.table.get(&this)?.item().spec.inputs.get(&key).map(Value::to_string);
        self.answer(weight, value)
    }

    fn spec_json(&mut self, this: Resource<ItemHandle>) -> wasmtime::Result<String> {
        let value = serde_json::to_string(&*self.table.get(&this)?.item().spec)?;
        self.answer(0, value)
    }

    fn attr(&mut self, this: Resource<ItemHandle>, key: String) -> wasmtime::Result<Option<String>> {
        let weight = key.len();
        let value = self.table.get(&this)?.item().attrs.get(&key).cloned();
        self.answer(weight, value)
    }

    fn drop(&mut self, this: Resource<ItemHandle>) -> wasmtime::Result<()> {
        self.table.delete(this)?;
        Ok(())
    }
}

impl CallState {
    /// The items of a page of a column.
    fn column(&self, this: &Resource<ViewHandle>, offset: u32, limit: u32) -> wasmtime::Result<&[RunItem]> {
        let most = self.probe.page_items.unwrap_or(COLUMN_MAX).max(1);
        let items = self.table.get(this)?.view.items();
        Ok(&items[page(offset, limit, most, items.len())])
    }

    /// Host memory behind an `item-spec` is bounded by the bytes and pieces that may cross into the host per call; this
    /// keeps count for that and for the decisions meter.
    pub(crate) fn spec(
        &mut self,
        this: &Resource<SpecDraft>,
        bytes: usize,
    ) -> wasmtime::Result<&mut SpecDraft> {
        self.called(bytes)?;
        self.crossed.pieces(1)?;
        let spec = self.table.get_mut(this)?;
        spec.bytes += bytes;
        Ok(spec)
    }
}

impl HostItemSpec for CallState {
    fn new(&mut self, id: String, executor: String) -> wasmtime::Result<Resource<SpecDraft>> {
        let bytes = id.len() + executor.len();
        self.called(bytes)?;
        Ok(self.table.push(SpecDraft {
            id,
            executor,
            inputs: BTreeMap::new(),
            depends_on: Vec::new(),
            needs: SpawnNeeds::default(),
            locks: Vec::new(),
            attrs: BTreeMap::new(),
            supersedes: None,
            bytes,
        })?)
    }

    fn set_input_json(
        &mut self,
        this: Resource<SpecDraft>,
        key: String,
        json: String,
    ) -> wasmtime::Result<()> {
        self.spec(&this, key.len() + json.len())?.inputs.insert(key, json);
        Ok(())
    }

    fn depend_on(&mut self, this: Resource<SpecDraft>, id: String) -> wasmtime::Result<()> {
        self.spec(&this, id.len())?.depends_on.push(id);
        Ok(())
    }

    fn need_patch(&mut self, this: Resource<SpecDraft>, key: String, source: String) -> wasmtime::Result<()> {
        self.spec(&this, key.len() + source.len())?.needs.push_patch(&key, &source);
        Ok(())
    }

    fn need_output(
        &mut self,
        this: Resource<SpecDraft>,
        key: String,
        source: String,
        path: String,
    ) -> wasmtime::Result<()> {
        let spec = self.spec(&this, key.len() + source.len() + path.len())?;
        spec.needs.push_outputs(&path, [(key, source)]);
        Ok(())
    }

    fn need_outputs(
        &mut self,
        this: Resource<SpecDraft>,
        path: String,
        keys: Texts,
        sources: Texts,
    ) -> wasmtime::Result<()> {
        let count = keys.ends.len();
        // Before anything is made of them.
        self.crossed.pieces(count)?;
        let keys = columns::read("need-outputs", &keys)?;
        let sources = columns::read("need-outputs", &sources)?;
        if sources.len() != count {
            let problem = format!("{count} keys and {} sources", sources.len());
            return Err(columns::malformed("need-outputs", &problem));
        }
        // The path counts for every need, as it would one by one.
        let bytes = keys.bytes() + sources.bytes() + path.len().saturating_mul(count);
        self.spec(&this, bytes)?.needs.push_outputs(&path, keys.iter().zip(sources.iter()));
        Ok(())
    }

    fn lock(&mut self, this: Resource<SpecDraft>, key: String) -> wasmtime::Result<()> {
        self.spec(&this, key.len())?.locks.push(key);
        Ok(())
    }

    fn set_attr(&mut self, this: Resource<SpecDraft>, key: String, value: String) -> wasmtime::Result<()> {
        self.spec(&this, key.len() + value.len())?.attrs.insert(key, value);
        Ok(())
    }

    fn supersede(&mut self, this: Resource<SpecDraft>, id: String) -> wasmtime::Result<()> {
        let bytes = id.len();
        self.spec(&this, bytes)?.supersedes = Some(id);
        Ok(())
    }

    fn drop(&mut self, this: Resource<SpecDraft>) -> wasmtime::Result<()> {
        self.table.delete(this)?;
        Ok(())
    }
}

impl HostDecisions for CallState {
    fn spawn(
        &mut self,
        this: Resource<DecisionsDraft>,
        spec: Resource<SpecDraft>,
    ) -> wasmtime::Result<Result<(), Refusal>> {
        self.called(0)?;
        if let Some(refusal) = self.forced() {
            return Ok(Err(refusal));
        }
        let spec = self.table.delete(spec)?;
        let out = self.table.get_mut(&this)?;
        out.meter.take(spec.bytes)?;
        if out.ids.contains(&spec.id) {
            return Ok(Err(refuse(&spec.id, "spawned twice in one step")));
        }
        match spec.build() {
            Ok(spec) => {
                out.ids.insert(spec.id.as_str().to_owned());
                out.decisions.spawned.push(spec);
                Ok(Ok(()))
            }
            Err(refusal) => Ok(Err(refusal)),
        }
    }

    fn close(&mut self, this: Resource<DecisionsDraft>) -> wasmtime::Result<()> {
        self.called(0)?;
        self.table.get_mut(&this)?.decisions.close = true;
        Ok(())
    }

    fn explain(&mut self, this: Resource<DecisionsDraft>, item: String, why: String) -> wasmtime::Result<()> {
        let bytes = item.len() + why.len();
        self.called(bytes)?;
        let out = self.table.get_mut(&this)?;
        out.meter.take(bytes)?;
        let (item, why) = (clip(item, 256), clip(why, GUEST_TEXT_BYTES));
        out.decisions.explanations.push(Explanation { item, why });
        Ok(())
    }

    fn tolerate(
        &mut self,
        this: Resource<DecisionsDraft>,
        items: Vec<String>,
        why: String,
    ) -> wasmtime::Result<Result<(), Refusal>> {
        let bytes = items.iter().map(String::len).sum::<usize>() + why.len();
        self.called(bytes)?;
        if let Some(refusal) = self.forced() {
            return Ok(Err(refusal));
        }
        let out = self.table.get_mut(&this)?;
        out.meter.take(bytes)?;
        Ok(out.tolerate(items, why))
    }

    fn order_after(
        &mut self,
        this: Resource<DecisionsDraft>,
        item: String,
        after: String,
    ) -> wasmtime::Result<Result<(), Refusal>> {
        let bytes = item.len() + after.len();
        self.called(bytes)?;
        if let Some(refusal) = self.forced() {
            return Ok(Err(refusal));
        }
        let out = self.table.get_mut(&this)?;
        out.meter.take(bytes)?;
        Ok(out.amend("order-after", &item).and_then(|waits| {
            let after = ItemId::new(&*after).map_err(|error| refuse(&item, format!("{after:?}: {error}")))?;
            out.decisions.ordered.push(Ordering { item: waits, after });
            Ok(())
        }))
    }

    fn hold_on_red(
        &mut self,
        this: Resource<DecisionsDraft>,
        item: String,
    ) -> wasmtime::Result<Result<(), Refusal>> {
        let bytes = item.len();
        self.called(bytes)?;
        if let Some(refusal) = self.forced() {
            return Ok(Err(refusal));
        }
        let out = self.table.get_mut(&this)?;
        out.meter.take(bytes)?;
        Ok(out.amend("hold-on-red", &item).map(|item| out.decisions.held.push(item)))
    }

    fn finding(
        &mut self,
        this: Resource<DecisionsDraft>,
        pointer: String,
        message: String,
        hint: Option<String>,
    ) -> wasmtime::Result<()> {
        let bytes = pointer.len() + message.len() + hint.as_ref().map_or(0, String::len);
        self.called(bytes)?;
        let out = self.table.get_mut(&this)?;
        out.meter.take(bytes)?;
        if out.planning {
            out.decisions.findings.push(PlanFinding {
                pointer: clip(pointer, 1_024),
                message: clip(message, GUEST_TEXT_BYTES),
                hint: hint.map(|hint| clip(hint, GUEST_TEXT_BYTES)),
            });
        }
        Ok(())
    }

    fn possible(
        &mut self,
        this: Resource<DecisionsDraft>,
        id: String,
        after: Vec<String>,
        why: String,
    ) -> wasmtime::Result<()> {
        let bytes = id.len() + why.len() + after.iter().map(String::len).sum::<usize>();
        self.called(bytes)?;
        let out = self.table.get_mut(&this)?;
        out.meter.take(bytes)?;
        if out.planning {
            let after = after.into_iter().map(|id| clip(id, 256)).collect();
            let (id, why) = (clip(id, 256), clip(why, GUEST_TEXT_BYTES));
            out.decisions.possible.push(Possible { id, after, why });
        }
        Ok(())
    }

    fn drop(&mut self, this: Resource<DecisionsDraft>) -> wasmtime::Result<()> {
        self.table.delete(this)?;
        Ok(())
    }
}
