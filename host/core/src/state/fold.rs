//! Applying entries: every check comes before the first change, so a refused entry changes nothing.

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
};

use super::{
    Attempt, AttemptEnded, AttemptResult, Change, Extension, IllegalEntry, ItemState, Node, RunState,
    Violation,
    item::{Event, is_legal},
    position,
};
use crate::{
    entry::{ENTRY_VERSION, Entry, EntryBody, Evidence, Failure, FinalStatus, RunOutcome},
    ids::{Digest, DispatchId, ItemId},
    outputs::OutputsTotal,
    plan::{Plan, PlanItem},
    retry,
};

/// A broken rule with the item it concerns; becomes an [`IllegalEntry`] once the entry is known.
pub(super) struct Refusal {
    item: Option<ItemId>,
    state: Option<&'static str>,
    violation: Violation,
}

impl From<Violation> for Refusal {
    fn from(violation: Violation) -> Self {
        Self { item: None, state: None, violation }
    }
}

fn illegal(run: &crate::ids::RunId, entry: &Entry, refusal: Refusal) -> IllegalEntry {
    IllegalEntry {
        run: run.clone(),
        seq: entry.seq,
        kind: entry.body.kind(),
        item: refusal.item,
        state: refusal.state,
        violation: refusal.violation,
    }
}

/// Told of each change, in order.
type OnChange<'a> = &'a mut dyn FnMut(Change);

impl RunState {
    /// The state after the first entry, which must be `run.submitted` and fit the plan.
    ///
    /// # Errors
    /// [`IllegalEntry`] when the entry is another one, does not fit the plan, or the plan has duplicate ids, unknown
    /// dependencies or a cycle.
    pub fn start(plan: impl Into<Arc<Plan>>, first: &Entry) -> Result<Self, IllegalEntry> {
        let plan = plan.into();
        let refuse = |violation: Violation| illegal(&plan.id, first, violation.into());
        if first.v != ENTRY_VERSION {
            return Err(refuse(Violation::Version(first.v)));
        }
        if first.run != plan.id {
            return Err(refuse(Violation::WrongRun(first.run.clone())));
        }
        if first.seq != 0 {
            return Err(refuse(Violation::WrongSeq { expected: 0 }));
        }
        let EntryBody::RunSubmitted(submitted) = &first.body else {
            return Err(refuse(Violation::Submitted));
        };
        let mismatch = if submitted.items != plan.items.len() as u64 {
            Some(format!("{} items were admitted, the plan has {}", submitted.items, plan.items.len()))
        } else if submitted.queue != plan.queue {
            Some(format!("queue {} was admitted, the plan says {}", submitted.queue, plan.queue))
        } else if submitted.open_ended != plan.open_ended {
            Some("openEnded differs".to_owned())
        } else {
            None
        };
        if let Some(text) = mismatch {
            return Err(refuse(Violation::Plan(text)));
        }
        let mut state = Self {
            submitted: submitted.clone(),
            actor: first.actor.clone(),
            submitted_at: first.at,
            next_seq: 1,
            last_at: first.at,
            added: Vec::new(),
            nodes: Vec::new(),
            index: std::collections::HashMap::new(),
            locks: super::RunLocks::default(),
            open: 0,
            running: 0,
            doomed: std::collections::BTreeSet::new(),
            extensions: Vec::new(),
            successors: BTreeMap::new(),
            tolerated: BTreeMap::new(),
            growth: None,
            cancelled: false,
            closed: false,
            completed: None,
            plan: Arc::clone(&plan),
        };
        let resolved = state.resolve(&plan.items).map_err(|refusal| illegal(&plan.id, first, refusal))?;
        state.insert(&plan.items, resolved, &mut |_| ());
        Ok(state)
    }

    /// Applies the next entry. `added` holds the items of a `run.extended` and is `None` for every other entry.
    ///
    /// # Errors
    /// [`IllegalEntry`] when the entry cannot follow; the state is unchanged then.
    pub fn apply(&mut self, entry: &Entry, added: Option<Vec<PlanItem>>) -> Result<(), IllegalEntry> {
        self.apply_with(entry, added, &mut |_| ())
    }

    pub(crate) fn apply_with(
        &mut self,
        entry: &Entry,
        added: Option<Vec<PlanItem>>,
        on: OnChange<'_>,
    ) -> Result<(), IllegalEntry> {
        let open = self.open;
        match self.step(entry, added, on) {
            Ok(()) => {
                let follows_record = matches!(
                    entry.body,
                    EntryBody::PatternDecided(_)
                        | EntryBody::RunExtended { plugin: Some(_), .. }
                        | EntryBody::ItemTolerated { .. }
                );
                let to_be_seen = self.open < open || matches!(entry.body, EntryBody::RunClosed {});
                self.after_entry(entry.seq, follows_record, to_be_seen);
                self.next_seq += 1;
                self.last_at = entry.at;
                Ok(())
            }
            Err(refusal) => Err(illegal(self.id(), entry, refusal)),
        }
    }

    fn step(&mut self, entry: &Entry, added: Option<Vec<PlanItem>>, on: OnChange<'_>) -> Result<(), Refusal> {
        if entry.v != ENTRY_VERSION {
            return Err(Violation::Version(entry.v).into());
        }
        if entry.run != self.plan.id {
            return Err(Violation::WrongRun(entry.run.clone()).into());
        }
        if entry.seq != self.next_seq {
            return Err(Violation::WrongSeq { expected: self.next_seq }.into());
        }
        if self.completed.is_some() {
            return Err(Violation::Completed.into());
        }
        if added.is_some() != matches!(entry.body, EntryBody::RunExtended { .. }) {
            return Err(Violation::Items.into());
        }
        match &entry.body {
            EntryBody::RunSubmitted(_) => Err(Violation::Submitted.into()),
            EntryBody::ItemFired { item, attempt, dispatch, manifest } => {
                self.fired(item, *attempt, dispatch, *manifest, entry.at, on)
            }
            EntryBody::ItemOutputs { item, attempt, dispatch, part, outputs } => {
                self.left(item, *attempt, dispatch, *part, outputs)
            }
            EntryBody::ItemReconciled { item, attempt, status, failure, evidence } => {
                self.reconciled(item, *attempt, *status, failure.as_ref(), evidence, entry.at, on)
            }
            EntryBody::ItemRetried { item, attempt, failure, not_before, evidence } => {
                self.retried(item, *attempt, failure, *not_before, evidence, entry.at, on)
            }
            EntryBody::ItemSkipped { items, cause } => self.skipped(items, cause),
            EntryBody::ItemDenied { item, failure } => {
                let index = self.legal(item, Event::Denied)?;
                self.leave(index, ItemState::Denied { failure: Box::new(failure.clone()) }, on);
                Ok(())
            }
            EntryBody::ItemCancelled { item } => {
                let index = self.legal(item, Event::Cancelled)?;
                self.cancel(index, on);
                Ok(())
            }
            EntryBody::RunExtended { items, cause, document, explanation, plugin, supersedes, pins } => {
                let extension = Extension {
                    first: position(self.nodes.len()),
                    actor: entry.actor.clone(),
                    explanation: explanation.clone(),
                    plugin: *plugin,
                    document: *document,
                    pins: *pins,
                };
                self.extended(items, cause.as_ref(), supersedes, extension, added.unwrap_or_default(), on)
            }
            EntryBody::ItemTolerated { items, explanation, plugin } => {
                self.tolerate(items, explanation, plugin)
            }
            EntryBody::PatternDecided(record) => self.decided(record),
            EntryBody::PatternMoved { from, to, steps } => self.moved(from, to, *steps),
            EntryBody::RunCancelled {} => {
                if self.cancelled {
                    return Err(Violation::RunCancelled.into());
                }
                self.cancelled = true;
                for index in self.positions() {
                    if is_legal(&self.node(index).state, Event::Cancelled) {
                        self.cancel(index, on);
                    }
                }
                Ok(())
            }
            EntryBody::RunClosed {} => {
                if !self.is_open_ended() {
                    return Err(Violation::NotOpen.into());
                }
                self.closed = true;
                Ok(())
            }
            EntryBody::RunCompleted { outcome, counts } => self.complete(*outcome, counts),
        }
    }

    fn refuse(&self, index: u32, violation: Violation) -> Refusal {
        let item = Some(self.plan_item(index).id.clone());
        Refusal { item, state: Some(self.node(index).state.name()), violation }
    }

    /// A broken rule of an item that may not even be there.
    pub(super) fn refusal(&self, item: &ItemId, violation: Violation) -> Refusal {
        let state = self.position_of(item).map(|index| self.node(index).state.name());
        Refusal { item: Some(item.clone()), state, violation }
    }

    fn find(&self, item: &ItemId) -> Result<u32, Refusal> {
        let unknown = || Refusal { item: Some(item.clone()), state: None, violation: Violation::UnknownItem };
        self.position_of(item).ok_or_else(unknown)
    }

    fn legal(&self, item: &ItemId, event: Event) -> Result<u32, Refusal> {
        let index = self.find(item)?;
        if is_legal(&self.node(index).state, event) {
            Ok(index)
        } else {
            Err(self.refuse(index, Violation::State))
        }
    }

    fn fired(
        &mut self,
        item: &ItemId,
        attempt: u32,
        dispatch: &DispatchId,
        manifest: Option<Digest>,
        at: i64,
        on: OnChange<'_>,
    ) -> Result<(), Refusal> {
        let index = self.legal(item, Event::Fired)?;
        let expected = self.attempts_made(index).saturating_add(1);
        if attempt != expected {
            return Err(self.refuse(index, Violation::Attempt { found: attempt, expected }));
        }
        let waited = match self.node(index).state {
            ItemState::RetryWait { not_before, .. } => Some(not_before),
            _ => None,
        };
        if let Some(not_before) = waited.filter(|not_before| at < *not_before) {
            return Err(self.refuse(index, Violation::TooEarly { not_before }));
        }
        for lock in &self.node(index).locks {
            if let Some(holder) = self.locks.holder[*lock as usize] {
                let key = self.locks.names[*lock as usize].as_str().into();
                let holder = Box::new((self.plan.id.clone(), self.plan_item(holder).id.clone()));
                return Err(self.refuse(index, Violation::LockHeld { key, holder }));
            }
        }
        let derived = DispatchId::derive(&self.submitted.namespace, &self.plan.id, item, attempt);
        if derived != *dispatch {
            return Err(self.refuse(index, Violation::Dispatch { expected: derived }));
        }
        let node = &mut self.nodes[index as usize];
        for lock in &node.locks {
            self.locks.holder[*lock as usize] = Some(index);
        }
        node.state = ItemState::Running { attempt, dispatch: derived, fired_at: at, cancelling: false };
        node.attempts.push(Attempt { number: attempt, manifest, fired_at: at, partial: None, end: None });
        self.running += 1;
        on(Change::Fired(index, waited));
        Ok(())
    }

    /// The running attempt an entry is about, checked; with the time it was fired and whether it is being stopped.
    fn current(&self, item: &ItemId, event: Event, found: u32) -> Result<(u32, i64, bool), Refusal> {
        let index = self.legal(item, event)?;
        let ItemState::Running { attempt, fired_at, cancelling, .. } = self.node(index).state else {
            return Err(self.refuse(index, Violation::State));
        };
        if attempt != found {
            return Err(self.refuse(index, Violation::Attempt { found, expected: attempt }));
        }
        Ok((index, fired_at, cancelling))
    }

    /// One part of the outputs of a running attempt.
    fn left(
        &mut self,
        item: &ItemId,
        attempt: u32,
        dispatch: &DispatchId,
        part: u64,
        outputs: &BTreeMap<String, Digest>,
    ) -> Result<(), Refusal> {
        let (index, ..) = self.current(item, Event::Outputs, attempt)?;
        let refuse = |text: String| Err(self.refuse(index, Violation::Outputs(text.into_boxed_str())));
        if let ItemState::Running { dispatch: running, .. } = &self.node(index).state
            && running != dispatch
        {
            return refuse(format!("the running attempt is dispatch {running}, not {dispatch}"));
        }
        let Some((first, _)) = outputs.first_key_value() else {
            return refuse("a part must name at least one".to_owned());
        };
        let recorded = self.node(index).attempts.last().and_then(|attempt| attempt.partial.as_deref());
        let next = recorded.map_or(0, |recorded| recorded.parts);
        if part != 0 && part != next {
            return refuse(format!("part {part} does not fit, expected {next} (or 0 to start over)"));
        }
        let last = recorded.filter(|_| part > 0).and_then(|recorded| recorded.outputs.last_key_value());
        if let Some((last, _)) = last.filter(|(last, _)| *last >= first) {
            return refuse(format!("part {part} begins with {first:?}, which is not after {last:?}"));
        }
        if let Some(last) = self.nodes[index as usize].attempts.last_mut() {
            let partial = last.partial.get_or_insert_default();
            if part == 0 {
                partial.outputs.clear();
            }
            partial.parts = part + 1;
            partial.outputs.extend(outputs.iter().map(|(path, digest)| (path.clone(), *digest)));
        }
        Ok(())
    }

    /// Whether the end of an attempt fits the parts of its outputs that were recorded.
    fn check_outputs(&self, index: u32, evidence: &Evidence) -> Result<(), Refusal> {
        let recorded = self.node(index).attempts.last().and_then(|attempt| attempt.partial.as_deref());
        let problem = match (recorded, &evidence.outputs_total) {
            (None, None) => return Ok(()),
            (None, Some(total)) => format!("it says that {} were recorded, but none were", total.count),
            (Some(recorded), None) => {
                format!("{} were recorded, and it does not say what they add up to", recorded.outputs.len())
            }
            (Some(_), Some(_)) if !evidence.outputs.is_empty() => {
                "some were recorded in parts, so it must not name any itself".to_owned()
            }
            (Some(_), Some(total)) if *total == OutputsTotal::of(&BTreeMap::new()) => return Ok(()),
            (Some(recorded), Some(total)) => {
                let found = OutputsTotal::of(&recorded.outputs);
                if found == *total {
                    return Ok(());
                }
                format!(
                    "{} with digest {} were recorded, it says {} with digest {}",
                    found.count, found.digest, total.count, total.digest
                )
            }
        };
        Err(self.refuse(index, Violation::Outputs(problem.into_boxed_str())))
    }

    #[expect(clippy::too_many_arguments, reason = "the fields of one entry kind")]
    fn reconciled(
        &mut self,
        item: &ItemId,
        attempt: u32,
        status: FinalStatus,
        failure: Option<&Failure>,
        evidence: &Evidence,
        at: i64,
        on: OnChange<'_>,
    ) -> Result<(), Refusal> {
        let (index, fired_at, cancelling) = self.current(item, Event::Reconciled(status), attempt)?;
        let (state, result, failure_fits) = match status {
            FinalStatus::Done => (ItemState::Done, AttemptResult::Done, failure.is_none()),
            FinalStatus::Failed => (ItemState::Failed, AttemptResult::Failed, failure.is_some()),
            FinalStatus::Cancelled => (ItemState::Cancelled, AttemptResult::Cancelled, true),
            FinalStatus::NeedsInput => (ItemState::NeedsInput, AttemptResult::NeedsInput, failure.is_none()),
            FinalStatus::Skipped | FinalStatus::Denied => {
                return Err(self.refuse(index, Violation::Status(status)));
            }
        };
        if cancelling && status != FinalStatus::Cancelled {
            return Err(self.refuse(index, Violation::Status(status)));
        }
        if !failure_fits {
            return Err(self.refuse(index, Violation::FailureMismatch { status, failure: failure.is_some() }));
        }
        self.check_outputs(index, evidence)?;
        self.end_attempt(index, result, failure, evidence, at);
        on(Change::Ended(index, fired_at));
        self.nodes[index as usize].state = state;
        match status {
            FinalStatus::Done => self.became_done(index, on),
            FinalStatus::NeedsInput => (),
            _ => self.became_dead(index),
        }
        Ok(())
    }

    #[expect(clippy::too_many_arguments, reason = "the fields of one entry kind")]
    fn retried(
        &mut self,
        item: &ItemId,
        attempt: u32,
        failure: &Failure,
        not_before: i64,
        evidence: &Evidence,
        at: i64,
        on: OnChange<'_>,
    ) -> Result<(), Refusal> {
        let (index, fired_at, _) = self.current(item, Event::Retried, attempt)?;
        let max = retry::max_attempts(&self.submitted.retry, self.plan_item(index));
        if attempt >= max {
            return Err(self.refuse(index, Violation::NoAttemptLeft { max }));
        }
        if !failure.class.is_retryable() {
            return Err(self.refuse(index, Violation::NotRetryable(failure.class)));
        }
        self.check_outputs(index, evidence)?;
        self.end_attempt(index, AttemptResult::Retried, Some(failure), evidence, at);
        on(Change::Ended(index, fired_at));
        self.nodes[index as usize].state = ItemState::RetryWait { attempt, not_before };
        on(Change::RetryAt(index, not_before));
        Ok(())
    }

    /// Locks are released whenever an attempt ends, also for a retry wait.
    fn end_attempt(
        &mut self,
        index: u32,
        result: AttemptResult,
        failure: Option<&Failure>,
        evidence: &Evidence,
        at: i64,
    ) {
        let node = &mut self.nodes[index as usize];
        for lock in &node.locks {
            self.locks.holder[*lock as usize] = None;
        }
        if let Some(last) = node.attempts.last_mut() {
            let mut evidence = Box::new(evidence.clone());
            let partial = last.partial.take();
            // None of them counts when the end withdraws them.
            if let Some(partial) = partial.filter(|_| evidence.outputs_total.is_some_and(|it| it.count > 0)) {
                evidence.outputs = partial.outputs;
            }
            last.end = Some(AttemptEnded { at, result, failure: failure.cloned(), evidence });
        }
        self.running -= 1;
    }

    fn skipped(&mut self, items: &[ItemId], cause: &ItemId) -> Result<(), Refusal> {
        let cause_index = self.find(cause)?;
        if !self.node(cause_index).state.is_dead() && self.node(cause_index).holds_before == 0 {
            return Err(self.refuse(cause_index, Violation::Cause(cause.clone())));
        }
        let mut members = Vec::with_capacity(items.len());
        let mut set = HashSet::with_capacity(items.len());
        for item in items {
            let index = self.legal(item, Event::Skipped)?;
            members.push(index);
            if !set.insert(index) {
                return Err(self.refuse(index, Violation::ItemList));
            }
        }
        if members.is_empty() {
            return Err(Violation::ItemList.into());
        }
        // Dependencies have no cycle, so following this rule from any member ends at the cause.
        let follows = |member: u32, dep: &u32| {
            (*dep == cause_index && self.node(cause_index).dooms(member))
                || set.contains(dep)
                || matches!(&self.node(*dep).state, ItemState::Skipped { cause: earlier } if earlier == cause)
        };
        for index in &members {
            if !self.node(*index).deps.iter().any(|dep| follows(*index, dep)) {
                return Err(self.refuse(*index, Violation::Reachable(cause.clone())));
            }
        }
        for index in members {
            self.leave_pending(index);
            self.nodes[index as usize].state = ItemState::Skipped { cause: cause.clone() };
            self.became_dead(index);
        }
        Ok(())
    }

    /// A waiting item ends without (another) attempt.
    fn leave(&mut self, index: u32, state: ItemState, on: OnChange<'_>) {
        match self.node(index).state {
            ItemState::Pending => self.leave_pending(index),
            ItemState::Ready => on(Change::Left(index, None)),
            ItemState::RetryWait { not_before, .. } => on(Change::Left(index, Some(not_before))),
            _ => (),
        }
        self.nodes[index as usize].state = state;
        self.became_dead(index);
    }

    fn cancel(&mut self, index: u32, on: OnChange<'_>) {
        if let ItemState::Running { cancelling, .. } = &mut self.nodes[index as usize].state {
            *cancelling = true;
            on(Change::Cancelling(index));
        } else {
            self.leave(index, ItemState::Cancelled, on);
        }
    }

    fn leave_pending(&mut self, index: u32) {
        // Taken out for the loop and put back: the dependencies are other nodes.
        let deps = std::mem::take(&mut self.nodes[index as usize].deps);
        for dep in &deps {
            let node = &mut self.nodes[*dep as usize];
            if node.holds_before > 0 && index >= node.holds_before {
                continue;
            }
            node.waiting_dependents -= 1;
            if node.waiting_dependents == 0 {
                self.doomed.remove(dep);
            }
        }
        self.nodes[index as usize].deps = deps;
    }

    fn became_done(&mut self, index: u32, on: OnChange<'_>) {
        self.open -= 1;
        if self.plan_item(index).hold_on_red && self.node(index).is_red() {
            let count = position(self.nodes.len());
            let node = &mut self.nodes[index as usize];
            node.holds_before = count;
            if node.waiting_dependents > 0 {
                self.doomed.insert(index);
            }
            return;
        }
        let dependents = std::mem::take(&mut self.nodes[index as usize].dependents);
        for dependent in &dependents {
            let node = &mut self.nodes[*dependent as usize];
            node.unmet -= 1;
            if node.unmet == 0 && matches!(node.state, ItemState::Pending) {
                node.state = ItemState::Ready;
                self.leave_pending(*dependent);
                on(Change::Ready(*dependent));
            }
        }
        self.nodes[index as usize].dependents = dependents;
    }

    fn became_dead(&mut self, index: u32) {
        self.open -= 1;
        if self.node(index).waiting_dependents > 0 {
            self.doomed.insert(index);
        }
    }

    fn extended(
        &mut self,
        ids: &[ItemId],
        cause: Option<&ItemId>,
        supersedes: &BTreeMap<ItemId, ItemId>,
        extension: Extension,
        added: Vec<PlanItem>,
        on: OnChange<'_>,
    ) -> Result<(), Refusal> {
        self.may_extend(extension.plugin.as_ref())?;
        if let Some(cause) = cause {
            self.find(cause)?;
        }
        if ids.is_empty() {
            return Err(Violation::ItemList.into());
        }
        if !ids.iter().eq(added.iter().map(|item| &item.id)) {
            return Err(Violation::Items.into());
        }
        if !supersedes.is_empty() {
            let ids: HashSet<&ItemId> = ids.iter().collect();
            if let Some(new) = supersedes.keys().find(|new| !ids.contains(new)) {
                let text = format!("{new}: it is not replaced by an added item");
                return Err(Violation::Supersedes(text.into_boxed_str()).into());
            }
        }
        if extension.plugin.is_none()
            && let Some((new, _)) = supersedes.iter().next()
        {
            let text = format!("{new}: only a pattern may do that");
            return Err(Violation::Supersedes(text.into_boxed_str()).into());
        }
        self.check_supersedes(supersedes).map_err(|(old, violation)| self.refusal(&old, violation))?;
        let resolved = self.resolve(&added)?;
        self.insert(&added, resolved, on);
        self.added.extend(added);
        self.extensions.push(extension);
        for (new, old) in supersedes {
            if let (Some(new), Some(old)) = (self.position_of(new), self.position_of(old)) {
                self.successors.insert(old, new);
            }
        }
        Ok(())
    }

    /// Dependencies of new items by position, checked: known, unique ids, no cycle. Changes nothing.
    fn resolve(&self, items: &[PlanItem]) -> Result<Vec<Box<[u32]>>, Refusal> {
        let plan = |item: &PlanItem, text: String| Refusal {
            item: Some(item.id.clone()),
            state: None,
            violation: Violation::Plan(text),
        };
        let first = position(self.nodes.len());
        let mut fresh = std::collections::HashMap::with_capacity(items.len());
        for (offset, item) in items.iter().enumerate() {
            if self.index.contains_key(&item.id) || fresh.insert(&item.id, first + position(offset)).is_some()
            {
                return Err(plan(item, "the id is used twice".to_owned()));
            }
        }
        let mut resolved = Vec::with_capacity(items.len());
        for item in items {
            let mut deps = Vec::with_capacity(item.depends_on.len());
            for name in item.depends_on.iter().chain(item.needs.values().map(|need| &need.from)) {
                let dep = fresh.get(name).or_else(|| self.index.get(name)).copied();
                deps.push(
                    dep.ok_or_else(|| plan(item, format!("it depends on {name}, which does not exist")))?,
                );
            }
            deps.sort_unstable();
            deps.dedup();
            resolved.push(deps.into_boxed_slice());
        }
        let order = crate::validate::graph::leftover(items.len(), |offset| {
            resolved[offset as usize].iter().filter(|dep| **dep >= first).map(|dep| dep - first)
        });
        match order.first() {
            Some(offset) => {
                Err(plan(&items[*offset as usize], "it is part of or behind a dependency cycle".to_owned()))
            }
            None => Ok(resolved),
        }
    }

    fn insert(&mut self, items: &[PlanItem], resolved: Vec<Box<[u32]>>, on: OnChange<'_>) {
        let first = self.nodes.len();
        self.index.reserve(items.len());
        self.nodes.reserve(items.len());
        for (item, deps) in items.iter().zip(resolved) {
            self.index.insert(item.id.clone(), position(self.nodes.len()));
            let mut locks: Vec<u32> = item.resource_locks.iter().map(|key| self.locks.number(key)).collect();
            locks.sort_unstable();
            locks.dedup();
            self.nodes.push(Node {
                state: ItemState::Pending,
                unmet: 0,
                waiting_dependents: 0,
                holds_before: 0,
                deps,
                dependents: Vec::new(),
                locks: locks.into_boxed_slice(),
                attempts: Vec::new(),
            });
        }
        self.open += items.len() as u64;
        for index in first..self.nodes.len() {
            let deps = std::mem::take(&mut self.nodes[index].deps);
            let mut unmet = 0;
            for dep in &deps {
                let node = &mut self.nodes[*dep as usize];
                node.dependents.push(position(index));
                // A held item does not hold what is added after its end.
                node.waiting_dependents += u32::from(node.holds_before == 0);
                unmet += u32::from(!matches!(node.state, ItemState::Done));
                if node.state.is_dead() {
                    self.doomed.insert(*dep);
                }
            }
            self.nodes[index].deps = deps;
            self.nodes[index].unmet = unmet;
            if unmet == 0 {
                self.leave_pending(position(index));
                self.nodes[index].state = ItemState::Ready;
                on(Change::Ready(position(index)));
            }
        }
    }

    fn complete(
        &mut self,
        outcome: RunOutcome,
        counts: &std::collections::BTreeMap<FinalStatus, u64>,
    ) -> Result<(), Refusal> {
        if self.open > 0 {
            return Err(Violation::Unfinished { open: self.open }.into());
        }
        if self.is_open_ended() {
            return Err(Violation::StillOpen.into());
        }
        if self.pattern_due() {
            return Err(Violation::PatternDue.into());
        }
        let (expected, expected_counts) = self.result(0);
        if outcome != expected {
            return Err(Violation::Outcome { expected }.into());
        }
        if *counts != expected_counts {
            return Err(Violation::Counts.into());
        }
        self.completed = Some(outcome);
        Ok(())
    }
}
