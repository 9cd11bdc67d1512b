//! Messages of the inbox: submit, cancel, extend, close.

use std::sync::Arc;

use pangolin_audit::{
    canon,
    chain::RunChain,
    decision::{ViewDigest, decisions_bytes, seed},
    merkle::leaf_hash,
};
use pangolin_core::{
    entry::{Entry, EntryBody, RunSubmitted},
    ids::{Digest, QueueName, RunId},
    pattern::{RunView, Tracker, apply_plan_decisions, normalised, produced},
    plan::{Plan, PlanItem},
    state::{ItemState, RunState},
    validate::{Finding, NAME_BYTES_MAX, PlanContext, Severity, parse_items, parse_plan},
};
use pangolin_ports::{
    blob_store::BlobError,
    inbox::{Disposition, Message},
};
use serde_json::Value;

use super::{
    Driver, DriverError,
    grow::{self, Call, Growing, OpenStepFacts, Stored},
};
use crate::{
    admission::UNJUDGED,
    causes::causes,
    keys,
    ledger::Summary,
    load::{LoadError, load_run},
    message::{Answer, Base, Envelope, MESSAGE_VERSION, Request},
    patterns::{Asked, Binding, BindingError, StepAnswer, StepFailure},
};

/// Who submits, and what workspaces shall start from.
struct Submitter {
    actor: String,
    base: Option<Base>,
}

/// A submission whose pattern was asked about the plan.
pub(super) enum Planning {
    /// The answer is on its way. The message stays in the inbox.
    Asked {
        /// The run it will be.
        run: RunId,
    },
    /// The answer is there.
    Answered(Box<Planned>),
}

/// The answer of a planner.
pub(super) struct Planned {
    /// Name of the message.
    pub(super) message: String,
    view: Arc<RunView>,
    /// With step 0.
    digests: ViewDigest,
    digest: Digest,
    now: i64,
    binding: Binding,
    params: Vec<u8>,
    answer: Result<StepAnswer, StepFailure>,
}

/// How long a submission waits for its planner before others go first.
const PLAN_GRACE: std::time::Duration = std::time::Duration::from_millis(25);

/// What becomes of a submission whose plan was looked at by the pattern.
struct Amended {
    plan: Plan,
    graph: Option<Vec<u8>>,
    decisions: Option<Vec<u8>>,
}

/// An error when findings are no judgement: the message waits.
fn unjudged(findings: &[Finding]) -> Result<(), BlobError> {
    match findings.iter().find(|found| found.code == UNJUDGED) {
        Some(found) => Err(BlobError::Other {
            context: "looking at what a message refers to".to_owned(),
            source: found.message.clone().into(),
        }),
        None => Ok(()),
    }
}

impl Driver {
    /// Takes a message. One that has to wait for a pattern stays in the inbox; `false` then.
    pub(super) async fn take(&mut self, message: Message, now: i64) -> Result<bool, DriverError> {
        if matches!(self.planning.get(&message.name), Some(Planning::Asked { .. })) {
            return Ok(false);
        }
        let disposition = match self.understood(&message) {
            Err(why) => Disposition::Rejected(Answer::because(why).to_bytes()),
            // It was sent after the submission and must not overtake it.
            Ok(request) if request.run().is_some_and(|run| self.is_being_planned(run)) => return Ok(false),
            Ok(request) => match self.request(&message.name, request, now).await? {
                Some(disposition) => disposition,
                None => return Ok(false),
            },
        };
        if let Disposition::Rejected(answer) = &disposition {
            let answer = String::from_utf8_lossy(&answer[..answer.len().min(2_000)]);
            tracing::warn!(message = %message.name, %answer, "a request was refused");
        }
        self.planning.remove(&message.name);
        self.effects.push(super::Effect::Settle(message.name, disposition));
        Ok(true)
    }

    /// The request of a message, with the actor that counts; or one sentence for its sender.
    fn understood(&self, message: &Message) -> Result<Request, String> {
        let envelope: Envelope =
            serde_json::from_slice(&message.bytes).map_err(|error| format!("not a message: {error}"))?;
        if envelope.v != MESSAGE_VERSION {
            return Err(format!("message version {}; this daemon understands {MESSAGE_VERSION}", envelope.v));
        }
        let request = self.parts.senders.judge(self.ledger.origin(), &message.name, envelope)?;
        match actor_problem(request.actor()) {
            Some(why) => Err(format!("actor: {why}")),
            None => Ok(request),
        }
    }

    fn is_being_planned(&self, run: &RunId) -> bool {
        self.planning
            .values()
            .any(|planning| matches!(planning, Planning::Asked { run: planned } if planned == run))
    }

    async fn request(
        &mut self,
        message: &str,
        request: Request,
        now: i64,
    ) -> Result<Option<Disposition>, DriverError> {
        Ok(Some(match request {
            Request::Submit { plan, queue, actor, base } => {
                return self.submit(message, &plan, queue, Submitter { actor, base }, now).await;
            }
            Request::Cancel { run, item, actor } => {
                let body = match item {
                    Some(item) => EntryBody::ItemCancelled { item },
                    None => EntryBody::RunCancelled {},
                };
                self.cancel(&run, body, &actor, now).await?
            }
            Request::Extend { run, items, actor } => self.extend(&run, &items, &actor, now).await?,
            Request::Close { run, actor } => self.close(&run, &actor, now).await?,
        }))
    }

    async fn cancel(
        &mut self,
        run: &RunId,
        body: EntryBody,
        actor: &str,
        now: i64,
    ) -> Result<Disposition, DriverError> {
        let Some(state) = self.scheduler.run(run) else {
            let known = self.parts.store.get(&keys::summary(run)).await?.is_some();
            let why = if known { "has ended already" } else { "does not exist" };
            return Ok(Disposition::Rejected(Answer::because(format!("run {run} {why}")).to_bytes()));
        };
        if let Some(why) = cancel_problem(state, &body) {
            return Ok(Disposition::Rejected(Answer::because(why).to_bytes()));
        }
        self.record(run, now, actor, body)?;
        Ok(Disposition::Accepted(Answer::because("cancelled").to_bytes()))
    }

    /// Adds the items of a producer. The same items again are the same extension.
    async fn extend(
        &mut self,
        run: &RunId,
        text: &str,
        actor: &str,
        now: i64,
    ) -> Result<Disposition, DriverError> {
        let Some(state) = self.scheduler.run(run) else {
            let (why, ended) = self.ended(run).await?;
            let before = ended.as_ref().and_then(|state| added_before(state, text));
            return Ok(before.unwrap_or_else(|| rejected_because(run, why)));
        };
        if let Some(before) = added_before(state, text) {
            return Ok(before);
        }
        if !state.is_open_ended() {
            return Ok(rejected_because(run, not_open(state)));
        }
        let parsed = match parse_items(text.as_bytes(), state, &self.parts.admission.context()) {
            Ok(parsed) => parsed.items,
            Err(findings) => return Ok(rejected("the items are invalid", &findings)),
        };
        if parsed.is_empty() {
            return Ok(rejected_because(run, "there are no items to add".to_owned()));
        }
        let pins = match self.parts.admission.pin_added(state, &parsed).await {
            Ok(pins) => pins,
            Err(findings) => {
                unjudged(&findings)?;
                return Ok(rejected("the items cannot be admitted", &findings));
            }
        };
        let stored = match grow::store(&*self.parts.blobs, produced(parsed)).await? {
            Ok(stored) => stored,
            Err(error) => return Ok(rejected_because(run, format!("the items cannot be stored: {error}"))),
        };
        let mut first = None;
        let mut count = 0;
        // A part of it would be an extension that nobody asked for.
        self.ledger.together();
        for Stored { addition, document } in stored {
            count += addition.items.len();
            let body = EntryBody::RunExtended {
                cause: None,
                items: addition.items.iter().map(|item| item.id.clone()).collect(),
                document,
                explanation: String::new(),
                plugin: None,
                supersedes: std::collections::BTreeMap::new(),
                pins,
            };
            let entry = self.record_with(run, now, actor, body, Some(addition.items))?;
            first.get_or_insert(entry);
        }
        self.ledger.apart();
        Ok(accepted(
            run,
            &format!("{count} {} added", if count == 1 { "item" } else { "items" }),
            first.as_ref(),
        ))
    }

    /// Closes an open-ended run. A run that is closed stays closed.
    async fn close(&mut self, run: &RunId, actor: &str, now: i64) -> Result<Disposition, DriverError> {
        let Some(state) = self.scheduler.run(run) else {
            let (why, ended) = self.ended(run).await?;
            return Ok(match ended {
                Some(state) if state.submitted().open_ended => accepted(run, "had ended already", None),
                _ => rejected_because(run, why),
            });
        };
        if state.is_open_ended() {
            let entry = self.record(run, now, actor, EntryBody::RunClosed {})?;
            return Ok(accepted(run, "closed", Some(&entry)));
        }
        Ok(if state.submitted().open_ended {
            accepted(run, "was closed already", None)
        } else {
            rejected_because(run, not_open(state))
        })
    }

    /// Why a run is not active, with its state when it has ended.
    async fn ended(&self, run: &RunId) -> Result<(String, Option<RunState>), DriverError> {
        match load_run(&*self.parts.store, &*self.parts.blobs, run).await {
            Ok(loaded) => Ok(("has ended already".to_owned(), Some(loaded.state))),
            Err(LoadError::NotFound(_)) => {
                Ok(("does not exist; `pangolin orch runs` lists the runs".to_owned(), None))
            }
            Err(LoadError::Store(error)) => Err(error.into()),
            Err(error) => Ok((format!("cannot be read: {}", causes(&error)), None)),
        }
    }

    /// `None` while the pattern of the queue thinks about the plan.
    async fn submit(
        &mut self,
        message: &str,
        text: &str,
        queue: Option<String>,
        by: Submitter,
        now: i64,
    ) -> Result<Option<Disposition>, DriverError> {
        let mut context = self.parts.admission.context();
        if let Some(queue) = &queue {
            if context.queues.as_ref().is_some_and(|known| !known.contains(queue)) {
                let known = context.queues.iter().flatten().cloned().collect::<Vec<_>>().join(", ");
                let why = format!("queue {queue:?} is not configured; configured are {known}");
                return Ok(Some(Disposition::Rejected(Answer::because(why).to_bytes())));
            }
            // The submitter's choice stands in for the plan's queue, which may then be any.
            context = Arc::new(PlanContext { queues: None, ..(*context).clone() });
        }
        let mut plan = match parse_plan(text.as_bytes(), &context) {
            Ok(parsed) => parsed.plan,
            Err(findings) => return Ok(Some(rejected("the plan is invalid", &findings))),
        };
        let queue = match queue.map(QueueName::new).transpose() {
            Ok(queue) => queue.unwrap_or_else(|| plan.queue.clone()),
            Err(error) => {
                let answer = Answer::because(format!("queue: {error}"));
                return Ok(Some(Disposition::Rejected(answer.to_bytes())));
            }
        };
        // The entry says where the run is queued; the sealed plan keeps the submitter's own words.
        plan.queue = queue.clone();
        let run = plan.id.clone();
        let digest = Digest::of(text.as_bytes());
        let mut cell = self.parts.store.get(&keys::summary(&run)).await?;
        if cell.is_none() && self.summaries.contains_key(&run) {
            // Admitted earlier in this same turn and not committed yet: look again once it is.
            self.ledger.commit().await?;
            cell = self.parts.store.get(&keys::summary(&run)).await?;
        }
        if let Some(cell) = cell {
            return self.resubmitted(&run, &digest, &cell.value).await.map(Some);
        }
        let planned = match self.planning.remove(message) {
            Some(Planning::Answered(planned)) => Some(planned),
            _ => match self.ask_planner(message, &plan, now).await? {
                Ok(Asking::Nobody) => None,
                Ok(Asking::Answered(planned)) => Some(planned),
                Ok(Asking::Later) => return Ok(None),
                Err(why) => {
                    let found = [finding("/queue", why, None)];
                    return Ok(Some(rejected("the plan cannot be admitted", &found)));
                }
            },
        };
        let amended = match &planned {
            None => Amended { plan, graph: None, decisions: None },
            Some(planned) => match amend(text, plan, planned, &context) {
                Ok(amended) => amended,
                Err(findings) => return Ok(Some(rejected("the plan is invalid", &findings))),
            },
        };
        // Before the names are resolved, so that a store that is full or does not answer delays the submission and does not refuse it.
        let blobs = [Some(text.as_bytes()), amended.graph.as_deref(), amended.decisions.as_deref()];
        let params = planned.as_ref().filter(|planned| !planned.binding.params.is_empty());
        for bytes in blobs.into_iter().flatten().chain(params.map(|planned| planned.params.as_slice())) {
            match self.parts.blobs.put(bytes).await {
                Ok(_) => {}
                // Waited for: the message stays where it is.
                Err(error @ (BlobError::Full(_) | BlobError::Other { .. })) => return Err(error.into()),
                Err(error) => {
                    let why = format!("the plan cannot be stored: {}", causes(&error));
                    let answer = Answer { run: Some(run), ..Answer::because(why) };
                    return Ok(Some(Disposition::Rejected(answer.to_bytes())));
                }
            }
        }
        self.admit(&run, digest, amended, planned, by, now).await.map(Some)
    }

    async fn admit(
        &mut self,
        run: &RunId,
        digest: Digest,
        amended: Amended,
        planned: Option<Box<Planned>>,
        by: Submitter,
        now: i64,
    ) -> Result<Disposition, DriverError> {
        let Submitter { actor, base } = by;
        let Amended { plan, graph, decisions } = amended;
        let pinned = match self.parts.admission.pin(&plan, base.as_ref()).await {
            Ok(pinned) => pinned,
            Err(findings) => {
                unjudged(&findings)?;
                return Ok(rejected("the plan cannot be admitted", &findings));
            }
        };
        let (items, queue) = (plan.items.len() as u64, plan.queue.clone());
        let params = planned.as_ref().filter(|planned| !planned.binding.params.is_empty());
        let body = EntryBody::RunSubmitted(Box::new(RunSubmitted {
            log: self.ledger.origin().to_owned(),
            namespace: self.parts.admission.namespace().to_owned(),
            plan: digest,
            items,
            queue: queue.clone(),
            pins: pinned.pins,
            base_commit: pinned.base_commit,
            pattern: planned.as_ref().map(|planned| planned.binding.component),
            pattern_id: planned.as_ref().map(|planned| planned.binding.id.clone()),
            pattern_params: params.map(|planned| Digest::of(&planned.params)),
            graph: graph.map(|bytes| Digest::of(&bytes)),
            retry: self.parts.admission.retry(),
            open_ended: plan.open_ended,
        }));
        // Tried on a chain of its own first: a plan that the fold refuses must not get into the batch.
        let trial = RunChain::new().append(run, now, &actor, body.clone());
        let started = match trial {
            Ok((entry, _, _)) => RunState::start(plan, &entry).map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        };
        let state = match started {
            Ok(state) => state,
            Err(why) => return Ok(Disposition::Rejected(Answer::because(why).to_bytes())),
        };
        self.ledger.together();
        self.ledger.append(run, now, &actor, body)?;
        let (receipt, summary) = self.ledger.admit(run, digest, &queue, &actor, items, now)?;
        tracing::info!(%run, %actor, items, "run admitted");
        self.summaries.insert(run.clone(), summary);
        if let Some(planned) = planned {
            self.begin(run, state, *planned, decisions.as_deref().unwrap_or(b"{}"), now)?;
        } else {
            self.scheduler.insert_run(state);
        }
        self.ledger.apart();
        let receipt = serde_json::to_value(&receipt).ok();
        Ok(Disposition::Accepted(
            Answer { run: Some(run.clone()), receipt, ..Answer::because("admitted") }.to_bytes(),
        ))
    }

    /// Records step 0.
    fn begin(
        &mut self,
        run: &RunId,
        state: RunState,
        planned: Planned,
        decisions: &[u8],
        now: i64,
    ) -> Result<(), DriverError> {
        let Ok(answer) = planned.answer else {
            self.scheduler.insert_run(state);
            return Ok(());
        };
        let facts = OpenStepFacts {
            step: 0,
            component: planned.binding.component,
            view: planned.digest,
            seen: 0,
            seed: planned.view.seed,
            now: planned.now,
            items_max: self.parts.admission.context().items_max as u64,
        };
        let closes = answer.decisions.close;
        let body = grow::record(&facts, answer.facts, Digest::of(decisions), closes, None);
        let actor = grow::actor(&state);
        if !closes {
            let tracker = Tracker::start(planned.view, &state);
            self.growing.insert(run.clone(), Growing { tracker, digests: planned.digests, step: None });
        }
        self.scheduler.insert_run(state);
        self.record(run, now, &actor, body)?;
        Ok(())
    }

    /// Lets the pattern of the queue look at a plan.
    async fn ask_planner(
        &mut self,
        message: &str,
        plan: &Plan,
        now: i64,
    ) -> Result<Result<Asking, String>, BlobError> {
        match self.parts.patterns.binding(&plan.queue).await {
            Ok(Some(binding)) => Ok(self.ask_pattern(message, plan, binding, now).await),
            Ok(None) => Ok(Ok(Asking::Nobody)),
            Err(BindingError::Unusable(why)) => Ok(Err(why)),
            Err(BindingError::Store(error)) => Err(error),
        }
    }

    async fn ask_pattern(
        &mut self,
        message: &str,
        plan: &Plan,
        binding: Binding,
        now: i64,
    ) -> Result<Asking, String> {
        let now = now.max(0);
        let params =
            canon::to_vec(&Value::Object(binding.params.clone())).map_err(|error| error.to_string())?;
        let text = String::from_utf8_lossy(&params).into_owned();
        let view = Tracker::planning(plan, text, seed(self.parts.admission.namespace(), &plan.id), now);
        let mut digests = ViewDigest::new();
        let digest =
            digests.advance(&view).map_err(|error| format!("the plan has no canonical form: {error}"))?;
        let asked = Asked { id: binding.id.clone(), component: binding.component };
        let clock = self.parts.clock.clone();
        let asking = grow::ask(self.parts.patterns.clone(), clock, Call::Plan, asked, view.clone());
        let name = message.to_owned();
        let mut task = tokio::spawn(async move {
            let answer = asking.await;
            Box::new(Planned { message: name, view, digests, digest, now, binding, params, answer })
        });
        match tokio::time::timeout(PLAN_GRACE, &mut task).await {
            Ok(Ok(planned)) => Ok(Asking::Answered(planned)),
            Ok(Err(error)) => Err(format!("the pattern of queue {} could not be asked: {error}", plan.queue)),
            Err(_) => {
                self.planning.insert(message.to_owned(), Planning::Asked { run: plan.id.clone() });
                let plans = self.plans_in.clone();
                tokio::spawn(async move {
                    if let Ok(planned) = task.await {
                        let _ = plans.send(planned);
                    }
                });
                Ok(Asking::Later)
            }
        }
    }

    /// The same plan under the same id is the same submission; another plan is refused.
    async fn resubmitted(
        &self,
        run: &RunId,
        digest: &pangolin_core::ids::Digest,
        summary: &[u8],
    ) -> Result<Disposition, DriverError> {
        let same = serde_json::from_slice::<Summary>(summary).is_ok_and(|summary| summary.plan == *digest);
        if !same {
            let why = format!("run {run} exists already with another plan; give this plan another id");
            return Ok(Disposition::Rejected(
                Answer { run: Some(run.clone()), ..Answer::because(why) }.to_bytes(),
            ));
        }
        let receipt = self.parts.store.get(&keys::receipt(run)).await?;
        let receipt = receipt.and_then(|cell| serde_json::from_slice(&cell.value).ok());
        Ok(Disposition::Accepted(
            Answer { run: Some(run.clone()), receipt, ..Answer::because("was admitted before") }.to_bytes(),
        ))
    }
}

enum Asking {
    Nobody,
    Answered(Box<Planned>),
    Later,
}

fn finding(pointer: &str, message: String, hint: Option<String>) -> Finding {
    Finding { pointer: pointer.to_owned(), code: "pattern", severity: Severity::Error, message, hint }
}

/// The plan as the pattern wants it, or what it does not like about it.
fn amend(text: &str, plan: Plan, planned: &Planned, context: &PlanContext) -> Result<Amended, Vec<Finding>> {
    let id = &planned.binding.id;
    let answer = planned.answer.as_ref().map_err(|failure| {
        let hint = "bind another pattern to the queue, or look at the message".to_owned();
        vec![finding("/queue", format!("pattern {id:?} failed: {}", failure.message), Some(hint))]
    })?;
    let decisions = &answer.decisions;
    if !decisions.findings.is_empty() {
        let found = decisions.findings.iter().cloned();
        return Err(found.map(|found| finding(&found.pointer, found.message, found.hint)).collect());
    }
    let broken =
        |why: String| vec![finding("/queue", format!("pattern {id:?} cannot be followed: {why}"), None)];
    let bytes = decisions_bytes(decisions).map_err(|error| broken(error.to_string()))?;
    let submitted: Value = serde_json::from_str(text).map_err(|error| broken(error.to_string()))?;
    let whole = apply_plan_decisions(submitted, decisions)
        .map_err(|errors| errors.iter().flat_map(|error| broken(error.to_string())).collect::<Vec<_>>())?;
    if !decisions.amends_plan() {
        return Ok(Amended { plan, graph: None, decisions: Some(bytes) });
    }
    let graph = canon::to_vec(&whole).map_err(|error| broken(error.to_string()))?;
    let parsed = parse_plan(&graph, context).map_err(|mut findings| {
        for found in &mut findings {
            found.message = format!("{} (in the plan as pattern {id:?} amended it)", found.message);
        }
        findings
    })?;
    let plan = Plan { queue: plan.queue, ..parsed.plan };
    Ok(Amended { plan, graph: Some(graph), decisions: Some(bytes) })
}

/// The answer to an extension that was made before: a message that is taken twice adds its items once.
fn added_before(state: &RunState, text: &str) -> Option<Disposition> {
    let values: Vec<serde_json::Map<String, Value>> = serde_json::from_str(text).ok()?;
    let items: Vec<PlanItem> = values.iter().map(normalised).collect::<Option<_>>()?;
    let there = |item: &PlanItem| {
        let by_producer = state.extension_of(&item.id).is_some_and(|extension| extension.plugin.is_none());
        by_producer && state.item(&item.id).is_some_and(|view| view.plan == item)
    };
    let all = !items.is_empty() && items.iter().all(there);
    all.then(|| accepted(state.id(), "the items were added before", None))
}

fn not_open(state: &RunState) -> String {
    if state.is_cancelled() {
        "was cancelled".to_owned()
    } else if state.submitted().open_ended {
        "was closed; nothing is added any more".to_owned()
    } else {
        "is not open-ended; set \"openEnded\": true in a plan to add items later".to_owned()
    }
}

fn rejected_because(run: &RunId, why: String) -> Disposition {
    let answer = Answer { run: Some(run.clone()), ..Answer::because(format!("run {run} {why}")) };
    Disposition::Rejected(answer.to_bytes())
}

/// With the place of the entry that says so.
fn accepted(run: &RunId, what: &str, entry: Option<&Entry>) -> Disposition {
    let receipt = entry.and_then(|entry| {
        let bytes = canon::encode_entry(entry).ok()?;
        Some(serde_json::json!({ "run": run, "seq": entry.seq, "entry": leaf_hash(&bytes) }))
    });
    Disposition::Accepted(Answer { run: Some(run.clone()), receipt, ..Answer::because(what) }.to_bytes())
}

/// Why a text cannot name who asks: it goes into ledger entries and onto terminals.
fn actor_problem(actor: &str) -> Option<&'static str> {
    if actor.is_empty() {
        Some("must not be empty")
    } else if actor.len() > NAME_BYTES_MAX {
        Some("is longer than 1,024 bytes")
    } else if actor.chars().any(char::is_control) {
        Some("contains a control character")
    } else {
        None
    }
}

/// Why a cancellation would do nothing.
fn cancel_problem(state: &RunState, body: &EntryBody) -> Option<String> {
    let run = state.id();
    match body {
        EntryBody::RunCancelled {} if state.is_cancelled() => {
            Some(format!("run {run} is being cancelled already"))
        }
        EntryBody::ItemCancelled { item } => match state.item(item) {
            None => Some(format!("run {run} has no item {item}")),
            Some(view) if view.state.is_terminal() => {
                Some(format!("item {run}/{item} has ended already: {}", view.state.name()))
            }
            Some(view) if matches!(view.state, ItemState::Running { cancelling: true, .. }) => {
                Some(format!("item {run}/{item} is being cancelled already"))
            }
            Some(_) => None,
        },
        _ => None,
    }
}

fn rejected(reason: &str, findings: &[Finding]) -> Disposition {
    let findings = findings
        .iter()
        .filter(|finding| finding.severity == Severity::Error)
        .filter_map(|finding| serde_json::to_value(finding).ok())
        .collect();
    Disposition::Rejected(Answer { findings, ..Answer::because(reason) }.to_bytes())
}
