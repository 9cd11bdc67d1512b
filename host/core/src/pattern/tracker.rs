//! Keeps the view of a run up to date from its entries: the same for the engine, for a start after a crash and for
//! replay.

use std::{borrow::Cow, collections::BTreeSet, sync::Arc};

use super::{ItemPhase, RunItem, RunView};
use crate::{
    entry::{Entry, EntryBody},
    plan::{Plan, PlanItem},
    state::{ItemState, ItemView, RunState},
};

/// The view of the next step of a run. Work is proportional to what changed.
///
/// Make it from the view of step 0 and the state after `run.submitted`, tell it of every further entry once that is
/// applied, and [`cut`](Self::cut) it where a step begins. A record's `seen` says where that was.
#[derive(Debug, Clone)]
pub struct Tracker {
    view: Arc<RunView>,
    touched: BTreeSet<u32>,
}

impl Tracker {
    /// What a planner sees: the plan as submitted, with the queue that the run is in, nothing started.
    #[must_use]
    pub fn planning(plan: &Plan, params_json: String, seed: u64, now_ms: i64) -> Arc<RunView> {
        let mut view = RunView {
            run_id: plan.id.to_string(),
            now_ms: time(now_ms),
            seed,
            params_json,
            ..RunView::default()
        };
        view.attrs.insert("queue".to_owned(), plan.queue.to_string());
        set_open_ended(&mut view, plan.open_ended);
        for item in &plan.items {
            view.push(RunItem::waiting(Arc::new(item.clone()), Vec::new()));
        }
        for (index, item) in (0u32..).zip(&plan.items) {
            let mut depends_on: Vec<u32> =
                item.depends_on.iter().filter_map(|from| view.index.get(from).copied()).collect();
            depends_on.sort_unstable();
            depends_on.dedup();
            if let Some(made) = view.items.get_mut(index as usize) {
                made.depends_on = depends_on;
            }
        }
        view.changed = (0..super::index(view.items.len())).collect();
        Arc::new(view)
    }

    /// Goes on from the view of step 0 with the state right after `run.submitted`. What the planner amended, and what
    /// may start at once, counts as changed.
    #[must_use]
    pub fn start(mut planned: Arc<RunView>, state: &RunState) -> Self {
        let mut touched = BTreeSet::new();
        let view = Arc::make_mut(&mut planned);
        for index in state.positions() {
            let spec = state.item_at(index);
            match view.items.get_mut(index as usize) {
                None => {
                    touched.insert(index);
                }
                Some(item) => {
                    if *item.spec != *spec {
                        item.spec = Arc::new(spec.clone());
                        touched.insert(index);
                    }
                    if *state.state_at(index) != ItemState::Pending {
                        touched.insert(index);
                    }
                }
            }
        }
        Self { view: planned, touched }
    }

    /// Notes what an entry changed; call it once the entry is applied.
    pub fn note(&mut self, state: &RunState, entry: &Entry) {
        match &entry.body {
            EntryBody::ItemReconciled { item, .. } => {
                if let Some(index) = state.position_of(item) {
                    self.touched.insert(index);
                    // What waited for this one only is ready now.
                    for dependent in state.dependents_at(index) {
                        if *state.state_at(*dependent) == ItemState::Ready {
                            self.touched.insert(*dependent);
                        }
                    }
                }
            }
            EntryBody::ItemFired { item, .. }
            | EntryBody::ItemRetried { item, .. }
            | EntryBody::ItemDenied { item, .. }
            | EntryBody::ItemCancelled { item } => {
                self.touched.extend(state.position_of(item));
            }
            EntryBody::ItemSkipped { items, .. } => {
                self.touched.extend(items.iter().filter_map(|item| state.position_of(item)));
            }
            EntryBody::RunExtended { items, supersedes, .. } => {
                let ids = items.iter().chain(supersedes.values());
                self.touched.extend(ids.filter_map(|item| state.position_of(item)));
            }
            EntryBody::ItemTolerated { items, .. } => {
                self.touched.extend(items.iter().filter_map(|item| state.position_of(item)));
            }
            EntryBody::PatternDecided(_) => {
                if state.growth().is_some_and(crate::state::Growth::is_taken_over) {
                    // Everything is new for the one that takes over.
                    self.touched.extend(state.positions());
                }
            }
            EntryBody::RunCancelled {} => self.touched.extend(state.positions()),
            // The attempt still runs: what it left counts when it has ended.
            EntryBody::ItemOutputs { .. }
            | EntryBody::RunSubmitted(_)
            | EntryBody::PatternMoved { .. }
            | EntryBody::RunClosed {}
            | EntryBody::RunCompleted { .. } => (),
        }
    }

    /// The view of the next step, after everything that was noted. The step sees what changed since the last cut.
    ///
    /// Cheap only when the view of the step before is not held any more.
    #[must_use]
    pub fn cut(&mut self, state: &RunState, now_ms: i64) -> Arc<RunView> {
        let view = Arc::make_mut(&mut self.view);
        view.tick = state.growth().map_or(0, crate::state::Growth::steps);
        view.now_ms = time(now_ms);
        set_open_ended(view, state.is_open_ended());
        view.changed = std::mem::take(&mut self.touched).into_iter().collect();
        for position in 0..view.changed.len() {
            let index = view.changed[position];
            let known = view.items.get(index as usize).map(|item| Arc::clone(&item.spec));
            let spec = known.unwrap_or_else(|| Arc::new(state.item_at(index).clone()));
            let item = see(state, index, spec);
            if (index as usize) < view.items.len() {
                view.set(index, item);
            } else {
                view.push(item);
            }
        }
        Arc::clone(&self.view)
    }
}

fn set_open_ended(view: &mut RunView, open: bool) {
    if open {
        view.attrs.insert("open-ended".to_owned(), "true".to_owned());
    } else {
        view.attrs.remove("open-ended");
    }
}

/// A clock before 1970 is taken as 1970: the contract knows no earlier time.
fn time(now_ms: i64) -> u64 {
    u64::try_from(now_ms).unwrap_or(0)
}

fn see(state: &RunState, index: u32, spec: Arc<PlanItem>) -> RunItem {
    let view = state.view_at(index);
    let mut item = RunItem::waiting(spec, state.deps_at(index).to_vec());
    item.phase = match view.state {
        ItemState::Pending | ItemState::Ready => ItemPhase::Waiting,
        ItemState::Running { .. } | ItemState::RetryWait { .. } | ItemState::NeedsInput => ItemPhase::Active,
        ItemState::Done => ItemPhase::Succeeded,
        ItemState::Failed | ItemState::Skipped { .. } | ItemState::Cancelled | ItemState::Denied { .. } => {
            ItemPhase::Unsuccessful
        }
    };
    item.state = Cow::Borrowed(view.state.name());
    item.attempts = view.attempts.last().map_or(0, |attempt| attempt.number);
    if let Some(end) = view.attempts.last().and_then(|attempt| attempt.end.as_ref()) {
        item.verify_passed = end.evidence.verify.as_ref().map(|verify| verify.passed);
        item.output_keys = Arc::new(end.evidence.outputs.keys().cloned().collect());
        item.attrs.insert("has-patch".to_owned(), end.evidence.patch.is_some().to_string());
    }
    note_failure(&view, &mut item);
    if let Some(successor) = state.successor(view.id()) {
        item.attrs.insert("superseded-by".to_owned(), successor.to_string());
    }
    if state.is_tolerated(view.id()) {
        item.attrs.insert("tolerated".to_owned(), "true".to_owned());
    }
    item
}

fn note_failure(view: &ItemView<'_>, item: &mut RunItem) {
    if !matches!(view.state, ItemState::Failed | ItemState::Denied { .. }) {
        return;
    }
    let Some(failure) = view.failure() else { return };
    let word = |value: serde_json::Result<serde_json::Value>| {
        value.ok().and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default()
    };
    item.attrs.insert("failure-reason".to_owned(), word(serde_json::to_value(failure.reason)));
    item.attrs.insert("failure-class".to_owned(), word(serde_json::to_value(failure.class)));
    item.attrs.insert("failure-message".to_owned(), failure.message.clone());
}
