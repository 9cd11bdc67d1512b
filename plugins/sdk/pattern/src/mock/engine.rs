//! What the engine does around a pattern, natively.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::{MockItem, MockRun, Record, Serving, State};
use crate::{Pattern, host::Phase, id_problem};

/// How an item ends.
#[derive(Debug, Clone)]
pub struct Outcome {
    state: State,
    verify: Option<bool>,
    outputs: Vec<String>,
    message: Option<String>,
    has_patch: bool,
}

impl Outcome {
    const fn of(state: State) -> Self {
        Self { state, verify: None, outputs: Vec::new(), message: None, has_patch: true }
    }

    /// Done, no verify.
    #[must_use]
    pub fn done() -> Self {
        Self::of(State::Done)
    }

    /// Done, verify passed.
    #[must_use]
    pub fn green() -> Self {
        Self { verify: Some(true), ..Self::of(State::Done) }
    }

    /// Done, verify did not pass.
    #[must_use]
    pub fn red() -> Self {
        Self { verify: Some(false), ..Self::of(State::Done) }
    }

    /// Failed with a message.
    #[must_use]
    pub fn failed(message: &str) -> Self {
        Self { message: Some(message.into()), ..Self::of(State::Failed) }
    }

    /// Cancelled by somebody.
    #[must_use]
    pub fn cancelled() -> Self {
        Self::of(State::Cancelled)
    }

    /// Refused by policy.
    #[must_use]
    pub fn denied(message: &str) -> Self {
        Self { message: Some(message.into()), ..Self::of(State::Denied) }
    }

    /// With these outputs.
    #[must_use]
    pub fn outputs<'k>(mut self, keys: impl IntoIterator<Item = &'k str>) -> Self {
        self.outputs = keys.into_iter().map(str::to_owned).collect();
        self.outputs.sort_unstable();
        self
    }

    /// Without a patch.
    #[must_use]
    pub const fn no_patch(mut self) -> Self {
        self.has_patch = false;
        self
    }
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunEnd {
    /// Items are left.
    Open,
    /// Every item that counts is done.
    Done,
    /// An item that counts failed, was denied, skipped, or is a held red one.
    Failed,
    /// Else an item that counts was cancelled.
    Cancelled,
}

impl MockRun {
    /// A run of a plan: an object with `items`, and optionally `id` and `openEnded`.
    ///
    /// # Panics
    /// When the plan is not one.
    #[must_use]
    #[track_caller]
    pub fn of_plan(plan: &Value) -> Self {
        let items = plan["items"].as_array().expect("the plan has items").clone();
        let mut run = Self {
            id: plan["id"].as_str().unwrap_or("mock-run").to_owned(),
            params: String::new(),
            seed: 7,
            open_ended: plan["openEnded"] == true,
            tick: 0,
            items: Vec::new(),
            index: std::collections::BTreeMap::new(),
            counts: [0; 4],
            changed: BTreeSet::new(),
            startable: BTreeSet::new(),
            closed: false,
            history: Vec::new(),
        };
        let items = items.into_iter().map(|item| (normal(item), None)).collect();
        run.add(items);
        run.changed.clear();
        run
    }

    /// A run of items; members that every item must have may be left out.
    ///
    /// # Panics
    /// When they are not items.
    #[must_use]
    #[track_caller]
    pub fn of_items(items: impl IntoIterator<Item = Value>) -> Self {
        Self::of_plan(&json!({ "items": items.into_iter().collect::<Vec<_>>() }))
    }

    /// With parameters of the binding, JSON text.
    #[must_use]
    pub fn params(mut self, json: &str) -> Self {
        json.clone_into(&mut self.params);
        self
    }

    /// Asks the planner and takes what it decided, as at submit. With findings nothing is taken.
    ///
    /// # Panics
    /// When the planner faults or decides what no run may have.
    #[track_caller]
    pub fn plan<P: Pattern>(&mut self) -> Record {
        let call = self.ask_plan::<P>(Serving::default());
        let record = call.result.expect("the planner must not fault");
        if record.findings.is_empty() {
            self.take(&record);
        }
        record
    }

    /// Adds items like a producer of an open-ended run.
    ///
    /// # Panics
    /// When they are not items or the run is not open-ended.
    #[track_caller]
    pub fn extend(&mut self, items: impl IntoIterator<Item = Value>) {
        assert!(self.open_ended, "only an open-ended run can be extended");
        self.add(items.into_iter().map(|item| (normal(item), None)).collect());
    }

    /// Producers add no more.
    pub fn close_producer(&mut self) {
        self.open_ended = false;
    }

    /// Items that may start, in order.
    #[must_use]
    pub fn ready(&self) -> Vec<&str> {
        self.startable.iter().map(|index| &*self.items[*index as usize].id).collect()
    }

    /// All ids in order.
    #[must_use]
    pub fn ids(&self) -> Vec<&str> {
        self.items.iter().map(|item| &*item.id).collect()
    }

    #[track_caller]
    fn at(&self, id: &str) -> &MockItem {
        let index =
            self.index.get(id).unwrap_or_else(|| panic!("the run has no item {id}: {:?}", self.ids()));
        &self.items[*index as usize]
    }

    /// An item as in a plan.
    ///
    /// # Panics
    /// When there is none.
    #[must_use]
    #[track_caller]
    pub fn spec(&self, id: &str) -> Value {
        Value::Object(self.at(id).spec.clone())
    }

    /// State of an item as the contract names it.
    ///
    /// # Panics
    /// When there is none.
    #[must_use]
    #[track_caller]
    pub fn state(&self, id: &str) -> &'static str {
        self.at(id).state.name()
    }

    /// Whether an item is done and its verify passed.
    ///
    /// # Panics
    /// When there is none.
    #[must_use]
    #[track_caller]
    pub fn approves(&self, id: &str) -> bool {
        let item = self.at(id);
        item.state == State::Done && item.verify == Some(true)
    }

    /// Ids of what an item waits for, sorted.
    ///
    /// # Panics
    /// When there is none.
    #[must_use]
    #[track_caller]
    pub fn depends_on(&self, id: &str) -> Vec<&str> {
        let mut ids: Vec<&str> =
            self.at(id).depends_on.iter().map(|dep| &*self.items[*dep as usize].id).collect();
        ids.sort_unstable();
        ids
    }

    /// The item that took the place of this one.
    ///
    /// # Panics
    /// When there is no such item.
    #[must_use]
    #[track_caller]
    pub fn superseded_by(&self, id: &str) -> Option<&str> {
        self.at(id).attrs.get("superseded-by").map(String::as_str)
    }

    /// What the pattern decided so far, call by call.
    #[must_use]
    pub fn history(&self) -> &[Record] {
        &self.history
    }

    /// Everything the pattern explained about an item.
    #[must_use]
    pub fn explained(&self, id: &str) -> String {
        let all = self.history.iter().flat_map(|record| &record.explanations);
        all.filter(|it| it.0 == id).map(|it| &*it.1).collect::<Vec<_>>().join("\n")
    }

    /// Whether the pattern is done with the run.
    #[must_use]
    pub const fn is_closed(&self) -> bool {
        self.closed
    }

    /// Whether the run is judged without this item.
    ///
    /// # Panics
    /// When there is no such item.
    #[must_use]
    #[track_caller]
    pub fn is_tolerated(&self, id: &str) -> bool {
        self.at(id).attrs.contains_key("tolerated")
    }

    /// How the run stands: judged by items without a successor that were not tolerated.
    #[must_use]
    pub fn end(&self) -> RunEnd {
        if self.counts[0] + self.counts[1] > 0 || self.open_ended {
            return RunEnd::Open;
        }
        let is_judged = |item: &&MockItem| {
            !item.attrs.contains_key("superseded-by") && !item.attrs.contains_key("tolerated")
        };
        let judged = || self.items.iter().filter(is_judged);
        let is_bad = |item: &MockItem| match item.state {
            State::Failed | State::Skipped | State::Denied => true,
            State::Done => item.is_held_red(),
            _ => false,
        };
        if judged().any(is_bad) {
            RunEnd::Failed
        } else if judged().any(|item| item.state == State::Cancelled) {
            RunEnd::Cancelled
        } else {
            RunEnd::Done
        }
    }

    /// Marks an item as running.
    ///
    /// # Panics
    /// When it may not start.
    #[track_caller]
    pub fn start(&mut self, id: &str) {
        assert_eq!(self.state(id), "ready", "{id} may not start");
        let index = self.index[id];
        self.set(index, State::Running);
    }

    /// Ends an item and skips what can no longer start. The pattern is not asked.
    ///
    /// # Panics
    /// When it cannot end like that: only what is ready runs, and what waits can only be cancelled.
    #[track_caller]
    pub fn end_item(&mut self, id: &str, outcome: &Outcome) {
        let index = self.index[self.at(id).id.as_str()];
        let item = &mut self.items[index as usize];
        let may_end = match outcome.state {
            State::Cancelled => !item.state.phase().has_ended(),
            _ => matches!(item.state, State::Ready | State::Running),
        };
        assert!(may_end, "{id} is {} and cannot become {}", item.state.name(), outcome.state.name());
        item.verify = outcome.verify;
        item.outputs.clone_from(&outcome.outputs);
        if outcome.state == State::Done {
            item.attrs.insert("has-patch".into(), outcome.has_patch.to_string());
        }
        if let Some(message) = &outcome.message {
            item.attrs.insert("failure-message".into(), message.clone());
            item.attrs.insert("failure-reason".into(), "provider-failed".into());
        }
        self.set(index, outcome.state);
        self.follow(index);
    }

    /// Asks for a step when something changed and the pattern is not done, and takes what it decided.
    ///
    /// # Panics
    /// When it faults or decides what no run may have.
    #[track_caller]
    pub fn step<P: Pattern>(&mut self) -> Record {
        let call = self.try_step::<P>();
        call.result.unwrap_or_else(|fault| panic!("the step must not fault: {fault}"))
    }

    /// Like [`step`](Self::step); a fault is an answer, after which the pattern is done.
    #[track_caller]
    pub fn try_step<P: Pattern>(&mut self) -> super::Call {
        if self.closed || self.changed.is_empty() {
            return super::Call { result: Ok(Record::default()), host_calls: 0, refusable: 0 };
        }
        self.tick += 1;
        let call = self.ask_step::<P>(Serving::default());
        self.changed.clear();
        match &call.result {
            Ok(record) => self.take(record),
            Err(_) => self.closed = true,
        }
        call
    }

    /// Plans, then ends every item that may start as the script says, one after the other, with a step after each.
    ///
    /// # Panics
    /// When the pattern faults, reports findings, decides what no run may have or does not come to an end.
    #[track_caller]
    pub fn drive<P: Pattern>(&mut self, mut script: impl FnMut(&str) -> Outcome) {
        if self.tick == 0 && self.history.is_empty() {
            let record = self.plan::<P>();
            assert_eq!(record.findings, [], "the plan must be accepted");
        }
        while let Some(index) = self.startable.first() {
            let id = self.items[*index as usize].id.clone();
            let outcome = script(&id);
            self.end_item(&id, &outcome);
            self.step::<P>();
            assert!(self.items.len() < 100_000, "the run grows without end");
        }
    }

    /// Takes decisions as the engine does.
    ///
    /// # Panics
    /// When they break a rule.
    #[track_caller]
    pub(super) fn take(&mut self, record: &Record) {
        for (item, after) in &record.ordered {
            let (waits, after) = (self.index[item], self.index[after]);
            if !self.items[waits as usize].depends_on.contains(&after) {
                self.items[waits as usize].depends_on.push(after);
                self.items[waits as usize].depends_on.sort_unstable();
                self.items[after as usize].dependents.push(waits);
            }
            let ids: Vec<Value> = self.items[waits as usize]
                .depends_on
                .iter()
                .map(|dep| json!(self.items[*dep as usize].id))
                .collect();
            self.items[waits as usize].spec.insert("depends_on".into(), ids.into());
            self.set(waits, State::Pending);
        }
        if !record.ordered.is_empty() {
            self.assert_no_cycle();
            self.changed.clear();
        }
        for item in &record.held {
            let index = self.index[item] as usize;
            self.items[index].spec.insert("holdOnRed".into(), true.into());
        }
        self.add(
            record
                .spawned
                .iter()
                .map(|(item, old)| (normal(Value::Object(item.clone())), old.clone()))
                .collect(),
        );
        for id in record.tolerated.iter().flat_map(|(ids, _)| ids) {
            let index = *self.index.get(id).unwrap_or_else(|| panic!("{id} is tolerated, but not there"));
            let item = &mut self.items[index as usize];
            let state = item.state;
            assert_eq!(state.phase(), Phase::Unsuccessful, "{id} is tolerated, but {}", state.name());
            assert!(!item.attrs.contains_key("superseded-by"), "{id} is tolerated, but has a successor");
            if item.attrs.insert("tolerated".into(), "true".into()).is_none() {
                self.changed.insert(index);
            }
        }
        self.closed |= record.close;
        self.history.push(record.clone());
    }

    #[track_caller]
    fn add(&mut self, items: Vec<(Map<String, Value>, Option<String>)>) {
        if items.is_empty() {
            return;
        }
        let first = self.items.len();
        for (spec, _) in &items {
            let id = spec["id"].as_str().expect("an item has an id").to_owned();
            assert_eq!(id_problem(&id), None, "{id:?} is not an id");
            let index = u32::try_from(self.items.len()).expect("fewer items");
            assert_eq!(self.index.insert(id.clone(), index), None, "item {id} is there already");
            self.counts[Phase::Waiting as usize] += 1;
            self.changed.insert(index);
            self.items.push(MockItem {
                id,
                spec: spec.clone(),
                depends_on: Vec::new(),
                dependents: Vec::new(),
                state: State::Pending,
                verify: None,
                outputs: Vec::new(),
                attrs: std::collections::BTreeMap::new(),
            });
        }
        for (offset, (spec, _)) in items.iter().enumerate() {
            let index = first + offset;
            for dep in spec["depends_on"].as_array().expect("normalised") {
                let id = &self.items[index].id;
                let found = dep.as_str().and_then(|dep| self.index.get(dep)).copied();
                let dep = found.unwrap_or_else(|| panic!("{id} depends on {dep}, which is not there"));
                self.items[index].depends_on.push(dep);
                self.items[dep as usize].dependents.push(u32::try_from(index).expect("fewer items"));
            }
            self.items[index].depends_on.sort_unstable();
        }
        self.assert_no_cycle();
        for (offset, (_, old)) in items.iter().enumerate() {
            let Some(old) = old else { continue };
            let id = self.items[first + offset].id.clone();
            let old =
                *self.index.get(old).unwrap_or_else(|| panic!("{id} supersedes {old}, which is not there"));
            let item = &mut self.items[old as usize];
            let may = item.state.phase() == Phase::Unsuccessful
                || (item.state == State::Done && item.verify == Some(false));
            assert!(may, "{id} supersedes {}, which is {}", item.id, item.state.name());
            let before = item.attrs.insert("superseded-by".into(), id.clone());
            assert_eq!(before, None, "{id} supersedes {}, which has a successor", item.id);
        }
        for index in first..self.items.len() {
            self.settle(u32::try_from(index).expect("fewer items"), true);
        }
    }

    /// Removes what depends on nothing that is left until nothing changes: what stays is a cycle or behind one.
    fn assert_no_cycle(&self) {
        let mut open: Vec<usize> = self.items.iter().map(|item| item.depends_on.len()).collect();
        let mut free: Vec<usize> = (0..open.len()).filter(|index| open[*index] == 0).collect();
        let mut seen = 0;
        while let Some(index) = free.pop() {
            seen += 1;
            for dependent in &self.items[index].dependents {
                open[*dependent as usize] -= 1;
                if open[*dependent as usize] == 0 {
                    free.push(*dependent as usize);
                }
            }
        }
        let stuck = || (0..open.len()).filter(|index| open[*index] > 0).map(|index| &self.items[index].id);
        assert_eq!(seen, self.items.len(), "dependency cycle among {:?}", stuck().collect::<Vec<_>>());
    }

    fn set(&mut self, index: u32, state: State) {
        let item = &mut self.items[index as usize];
        self.counts[item.state.phase() as usize] -= 1;
        self.counts[state.phase() as usize] += 1;
        item.state = state;
        self.changed.insert(index);
        if matches!(state, State::Ready | State::Running) {
            self.startable.insert(index);
        } else {
            self.startable.remove(&index);
        }
    }

    /// Readies or skips an item that waits. A red held item lets pass what was added after its end.
    fn settle(&mut self, index: u32, added_now: bool) -> bool {
        let item = &self.items[index as usize];
        if item.state != State::Pending {
            return false;
        }
        let mut all_done = true;
        for dep in &item.depends_on {
            let dep = &self.items[*dep as usize];
            if dep.state.phase() == Phase::Unsuccessful || (!added_now && dep.is_held_red()) {
                self.set(index, State::Skipped);
                return true;
            }
            all_done &= dep.state == State::Done;
        }
        if all_done {
            self.set(index, State::Ready);
        }
        false
    }

    fn follow(&mut self, index: u32) {
        let mut ended = vec![index];
        while let Some(index) = ended.pop() {
            let held = self.items[index as usize].is_held_red();
            for dependent in self.items[index as usize].dependents.clone() {
                // What an earlier red item let pass stays passed: only this end counts.
                let waits = self.items[dependent as usize].state == State::Pending;
                if held && waits {
                    self.set(dependent, State::Skipped);
                    ended.push(dependent);
                } else if self.settle(dependent, true) {
                    ended.push(dependent);
                }
            }
        }
    }
}

impl MockItem {
    fn is_held_red(&self) -> bool {
        self.state == State::Done
            && self.verify == Some(false)
            && self.spec.get("holdOnRed") == Some(&Value::Bool(true))
    }
}

/// An item with every member that it must have and every edge in `depends_on`.
#[track_caller]
fn normal(item: Value) -> Map<String, Value> {
    let Value::Object(mut item) = item else { panic!("not an item: {item}") };
    item.entry("executor").or_insert_with(|| "dispatch".into());
    item.entry("inputs").or_insert_with(|| json!({}));
    item.entry("resourceLocks").or_insert_with(|| json!([]));
    let mut deps: Vec<Value> = item.get("depends_on").and_then(Value::as_array).cloned().unwrap_or_default();
    for need in item.get("needs").and_then(Value::as_object).into_iter().flat_map(|needs| needs.values()) {
        deps.push(need["from"].clone());
    }
    let mut seen = BTreeSet::new();
    deps.retain(|dep| seen.insert(dep.to_string()));
    item.insert("depends_on".into(), deps.into());
    item
}
