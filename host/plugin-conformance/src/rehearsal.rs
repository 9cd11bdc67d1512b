//! A run without workers: the real fold of the engine, with outcomes from a script.

use std::{collections::BTreeMap, sync::Arc};

use pangolin_core::{
    entry::{
        ENTRY_VERSION, Entry, EntryBody, Evidence, Failure, FailureClass, FailureReason, FinalStatus,
        RetryPolicy, RunSubmitted, VerifyResult,
    },
    ids::{Digest, DispatchId, ItemId, RunId},
    pattern::{
        AmendError, DecisionRecord, Decisions, RunView, Tolerance, Tracker, Unfit, additions,
        apply_plan_decisions, normalised, tolerances,
    },
    plan::{Plan, PlanItem},
    state::{IllegalEntry, ItemState, RunState},
    validate::{Finding, PlanContext, Severity, parse_plan},
};
use pangolin_plugin_host::{PATTERN_CONTRACT, Profile, engine_id};
use serde_json::Value;
use thiserror::Error;

use crate::fixture::Outcome;

/// When every rehearsal starts: the clock is part of what a pattern sees.
const START: i64 = 1_780_185_600_000;

/// The seed that a pattern sees first.
pub(crate) const SEED: u64 = 7;

const NAMESPACE: &str = "rehearsal";

/// Why a rehearsal cannot go on.
#[derive(Debug, Error)]
pub enum RehearsalError {
    /// The plan is not one.
    #[error("the plan is not valid: {}", findings(.0))]
    Plan(Vec<Finding>),
    /// The planner decided what no plan may have.
    #[error("what the planner decided does not fit the plan: {}", list(.0))]
    Amend(Vec<AmendError>),
    /// The engine does not take what was decided.
    #[error("the engine does not take what was decided: {0}")]
    Unfit(#[from] Unfit),
    /// A script names an item that is not there.
    #[error("the run has no item {item}; it has {known}")]
    NoItem {
        /// As in the script.
        item: String,
        /// What there is.
        known: String,
    },
    /// A script ends an item that cannot end like that now.
    #[error("item {item} is {state} and cannot become {wanted}; end what it waits for in an earlier step")]
    CannotEnd {
        /// The item.
        item: ItemId,
        /// Its state.
        state: &'static str,
        /// As in the script.
        wanted: String,
    },
    /// A word that is no status.
    #[error("status {0:?} of an item is not done, failed, cancelled or denied")]
    Status(String),
    /// The fold refuses an entry.
    #[error(transparent)]
    Illegal(Box<IllegalEntry>),
}

impl From<IllegalEntry> for RehearsalError {
    fn from(illegal: IllegalEntry) -> Self {
        Self::Illegal(Box::new(illegal))
    }
}

fn findings(findings: &[Finding]) -> String {
    let errors = findings.iter().filter(|finding| finding.severity == Severity::Error);
    errors.map(|finding| format!("{}: {}", finding.pointer, finding.message)).collect::<Vec<_>>().join("; ")
}

fn list(errors: &[AmendError]) -> String {
    errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

/// A plan that has not been admitted yet.
#[derive(Debug, Clone)]
pub struct Planning {
    submitted: Value,
    params: String,
    view: Arc<RunView>,
}

impl Planning {
    /// Reads a plan. `params` is the JSON text of the queue's parameters; empty: none.
    ///
    /// # Errors
    /// [`RehearsalError::Plan`].
    pub fn new(plan: &Value, params: &str) -> Result<Self, RehearsalError> {
        let view = Tracker::planning(&parse(plan)?, params.to_owned(), SEED, START);
        Ok(Self { submitted: plan.clone(), params: params.to_owned(), view })
    }

    /// What a planner sees.
    #[must_use]
    pub const fn view(&self) -> &Arc<RunView> {
        &self.view
    }

    /// Parameters as JSON text.
    #[must_use]
    pub fn params(&self) -> &str {
        &self.params
    }

    /// Admits the run with what the planner of `component` decided.
    ///
    /// # Errors
    /// [`RehearsalError`] when that is not a plan.
    pub fn admit(&self, component: Digest, decisions: &Decisions) -> Result<Rehearsal, RehearsalError> {
        let amended =
            apply_plan_decisions(self.submitted.clone(), decisions).map_err(RehearsalError::Amend)?;
        let plan = parse(&amended)?;
        let run = plan.id.clone();
        let submitted = RunSubmitted {
            log: "pangolin.local/rehearsal".to_owned(),
            namespace: NAMESPACE.to_owned(),
            plan: Digest::of(self.submitted.to_string().as_bytes()),
            items: plan.items.len() as u64,
            queue: plan.queue.clone(),
            pins: None,
            base_commit: None,
            pattern: Some(component),
            pattern_id: None,
            pattern_params: None,
            graph: None,
            retry: RetryPolicy::default(),
            open_ended: plan.open_ended,
        };
        let body = EntryBody::RunSubmitted(Box::new(submitted));
        let first = Entry {
            v: ENTRY_VERSION,
            run: run.clone(),
            seq: 0,
            at: START,
            actor: "test".into(),
            prev: None,
            body,
        };
        let state = RunState::start(plan, &first)?;
        let tracker = Tracker::start(Arc::clone(&self.view), &state);
        let mut rehearsal = Rehearsal { run, component, state, tracker, at: START };
        rehearsal.record(decisions, 0)?;
        rehearsal.settle()?;
        Ok(rehearsal)
    }
}

fn parse(plan: &Value) -> Result<Plan, RehearsalError> {
    let parsed =
        parse_plan(plan.to_string().as_bytes(), &PlanContext::default()).map_err(RehearsalError::Plan)?;
    Ok(parsed.plan)
}

/// An admitted run. Cheap enough to clone for a side step.
#[derive(Debug, Clone)]
pub struct Rehearsal {
    run: RunId,
    component: Digest,
    state: RunState,
    tracker: Tracker,
    at: i64,
}

impl Rehearsal {
    /// The run.
    #[must_use]
    pub const fn state(&self) -> &RunState {
        &self.state
    }

    /// Items that may start, in order.
    #[must_use]
    pub fn ready(&self) -> Vec<ItemId> {
        let ready = self.state.items().filter(|item| *item.state == ItemState::Ready);
        ready.map(|item| item.id().clone()).collect()
    }

    /// The pattern is to be asked.
    #[must_use]
    pub fn is_due(&self) -> bool {
        self.state.pattern_due()
    }

    /// The pattern is not asked any more.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.state.growth().is_none_or(|growth| !growth.is_live())
    }

    /// Ends an item.
    ///
    /// # Errors
    /// [`RehearsalError`] when it cannot end like that; nothing has changed then.
    pub fn end(&mut self, item: &str, outcome: &Outcome) -> Result<(), RehearsalError> {
        let found =
            ItemId::new(item).ok().and_then(|id| Some((id.clone(), self.state.item(&id)?.state.clone())));
        let Some((id, state)) = found else {
            let known =
                self.state.items().take(20).map(|item| item.id().to_string()).collect::<Vec<_>>().join(", ");
            return Err(RehearsalError::NoItem { item: item.to_owned(), known });
        };
        let may = match outcome.status.as_str() {
            "done" | "failed" | "denied" => state == ItemState::Ready,
            "cancelled" => matches!(state, ItemState::Ready | ItemState::Pending),
            other => return Err(RehearsalError::Status(other.to_owned())),
        };
        if !may {
            let wanted = outcome.status.clone();
            return Err(RehearsalError::CannotEnd { item: id, state: state.name(), wanted });
        }
        let failure = |reason| Failure {
            reason,
            class: FailureClass::Refusal,
            message: outcome.message.clone().unwrap_or_else(|| "as the script says".to_owned()),
        };
        match outcome.status.as_str() {
            "denied" => {
                let failure = failure(FailureReason::WorkerFailed);
                self.entry("engine", EntryBody::ItemDenied { item: id, failure }, None)?;
            }
            "cancelled" => self.entry("human:test", EntryBody::ItemCancelled { item: id }, None)?,
            status => {
                let dispatch = DispatchId::derive(NAMESPACE, &self.run, &id, 1);
                let fired = EntryBody::ItemFired { item: id.clone(), attempt: 1, dispatch, manifest: None };
                self.entry("engine", fired, None)?;
                let done = status == "done";
                let body = EntryBody::ItemReconciled {
                    attempt: 1,
                    status: if done { FinalStatus::Done } else { FinalStatus::Failed },
                    failure: (!done).then(|| failure(FailureReason::ProviderFailed)),
                    evidence: Box::new(evidence(&id, outcome)),
                    item: id,
                };
                self.entry("engine", body, None)?;
            }
        }
        self.settle()
    }

    /// What the pattern sees now; every step sees what changed since the one before.
    #[must_use]
    pub fn view(&mut self) -> Arc<RunView> {
        self.tracker.cut(&self.state, self.at)
    }

    /// Takes what was decided on the view that was cut last, as the engine does, and answers what was added.
    ///
    /// # Errors
    /// [`RehearsalError::Unfit`] when the engine would not take it.
    pub fn take(&mut self, decisions: &Decisions) -> Result<Vec<PlanItem>, RehearsalError> {
        let fitting = additions(decisions, &self.state, &PlanContext::default())?;
        let tolerated = tolerances(decisions, &self.state)?;
        self.record(decisions, self.state.next_seq())?;
        let mut added = Vec::new();
        for addition in fitting {
            let body = EntryBody::RunExtended {
                cause: None,
                items: addition.items.iter().map(|item| item.id.clone()).collect(),
                document: Digest::of(b"added"),
                explanation: addition.explanation,
                plugin: Some(self.component),
                supersedes: addition.supersedes,
                pins: None,
            };
            added.extend(addition.items.iter().cloned());
            self.entry("pattern:rehearsal", body, Some(addition.items))?;
        }
        for Tolerance { items, explanation } in tolerated {
            let body = EntryBody::ItemTolerated { items, explanation, plugin: self.component };
            self.entry("pattern:rehearsal", body, None)?;
        }
        self.settle()?;
        Ok(added)
    }

    /// Whether the run has an item exactly like this.
    #[must_use]
    pub fn has(&self, item: &serde_json::Map<String, Value>) -> bool {
        let Some(item) = normalised(item) else { return false };
        self.state.item(&item.id).is_some_and(|there| *there.plan == item)
    }

    /// Entries that follow from the state alone.
    fn settle(&mut self) -> Result<(), RehearsalError> {
        loop {
            let due = self.state.due_entries();
            if due.is_empty() {
                return Ok(());
            }
            for body in due {
                self.entry("engine", body, None)?;
            }
        }
    }

    fn record(&mut self, decisions: &Decisions, seen: u64) -> Result<(), RehearsalError> {
        let record = DecisionRecord {
            step: self.state.growth().map_or(0, pangolin_core::state::Growth::steps),
            component: self.component,
            contract: PATTERN_CONTRACT.to_owned(),
            engine: engine_id().to_owned(),
            profile: Profile::Pure.id().to_owned(),
            // Digests are the record's business; nothing here is sealed.
            view: self.component,
            seen,
            seed: SEED,
            now: self.at,
            grant: None,
            limits: None,
            fuel: 0,
            peak_memory: 0,
            decisions: self.component,
            closes: decisions.close,
            failure: None,
        };
        self.entry("pattern:rehearsal", EntryBody::PatternDecided(Box::new(record)), None)
    }

    fn entry(
        &mut self,
        actor: &str,
        body: EntryBody,
        added: Option<Vec<PlanItem>>,
    ) -> Result<(), RehearsalError> {
        self.at += 1;
        let (run, seq) = (self.run.clone(), self.state.next_seq());
        let entry =
            Entry { v: ENTRY_VERSION, run, seq, at: self.at, actor: actor.to_owned(), prev: None, body };
        self.state.apply(&entry, added)?;
        self.tracker.note(&self.state, &entry);
        Ok(())
    }
}

fn evidence(item: &ItemId, outcome: &Outcome) -> Evidence {
    let outputs: BTreeMap<String, Digest> = outcome
        .outputs
        .iter()
        .map(|path| (path.clone(), Digest::of(format!("{item}/{path}").as_bytes())))
        .collect();
    Evidence {
        patch: outcome.has_patch.then(|| Digest::of(item.as_str().as_bytes())),
        outputs,
        verify: outcome.verify_passed.map(|passed| VerifyResult { passed, duration_ms: 1 }),
        ..Evidence::default()
    }
}
