//! The loop: take what arrived, plan, commit, act.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
};

use pangolin_audit::{chain::RunChain, note::SigningKey};
use pangolin_core::{
    entry::{Entry, EntryBody, RunSubmitted},
    ids::{DispatchId, QueueName, RunId},
    scheduler::{Fire, QueuePolicy, Scheduler, Stop},
    state::{ItemState, RunState},
    validate::{Finding, NAME_BYTES_MAX, PlanContext, Severity, parse_plan},
};
use pangolin_ports::{
    blob_store::{BlobError, BlobStore},
    clock::Clock,
    inbox::{Disposition, Inbox, InboxError, Message},
    run_store::{RunStore, RunStoreError},
};
use thiserror::Error;
use tokio::sync::mpsc;

use crate::{
    admission::Admission,
    causes::causes,
    executor::{Executor, Job, PrepareError, Report, Reporter},
    keys,
    leadership::{Leadership, LeadershipError},
    ledger::{Ledger, LedgerError, Summary},
    load::{LoadError, load_run},
    message::{Answer, Envelope, MESSAGE_VERSION, Request},
};

/// Everything a driver works with.
pub struct Parts {
    /// Ledger.
    pub store: Arc<dyn RunStore>,
    /// Bytes.
    pub blobs: Arc<dyn BlobStore>,
    /// Submissions.
    pub inbox: Arc<dyn Inbox>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Signs the deployment log; its name is the log's origin.
    pub key: Arc<SigningKey>,
    /// Election.
    pub leadership: Arc<dyn Leadership>,
    /// Performs attempts.
    pub executor: Arc<dyn Executor>,
    /// Decides about submissions.
    pub admission: Arc<dyn Admission>,
    /// Queues.
    pub queues: BTreeMap<QueueName, QueuePolicy>,
    /// Names this process in the fence cell; unique per process start.
    pub holder: String,
    /// Called whenever this process starts to lead.
    pub on_lead: Box<dyn Fn() + Send + Sync>,
}

/// Failures that end a driver.
#[derive(Debug, Error)]
pub enum DriverError {
    /// The ledger.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// A run could not be loaded.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The store.
    #[error(transparent)]
    Store(#[from] RunStoreError),
    /// The inbox.
    #[error(transparent)]
    Inbox(#[from] InboxError),
    /// The blob store.
    #[error(transparent)]
    Blob(#[from] BlobError),
    /// Election.
    #[error(transparent)]
    Leadership(#[from] LeadershipError),
    /// The scheduler refused an entry that it planned itself: a bug, nothing was committed.
    #[error("internal error: the planned entry is illegal: {0}")]
    Planned(String),
}

/// Attempts started per turn at most; bounds the size of one batch.
const FIRES_PER_TURN: usize = 64;

/// Reports taken per turn at most.
const REPORTS_PER_TURN: usize = 256;

/// Messages taken per turn at most.
const MESSAGES_PER_TURN: usize = 16;

/// Pause before an attempt that could not be prepared is tried again, in milliseconds.
const PREPARE_PAUSE_MS: i64 = 1_000;

/// Drives a deployment until `shutdown` resolves. Several processes may call this on one deployment; one leads,
/// the others wait.
///
/// # Errors
/// [`DriverError`]. Everything committed stays; a later call continues.
pub async fn serve(parts: Parts, shutdown: impl Future<Output = ()> + Send) -> Result<(), DriverError> {
    let mut shutdown = std::pin::pin!(shutdown);
    loop {
        let _leader = tokio::select! {
            leader = parts.leadership.acquire() => leader?,
            () = &mut shutdown => return Ok(()),
        };
        let mut driver = match Driver::load(&parts).await {
            Err(DriverError::Ledger(LedgerError::Deposed(why))) => {
                tracing::warn!(%why, "lost leadership while loading");
                continue;
            }
            other => other?,
        };
        (parts.on_lead)();
        match driver.run(&mut shutdown).await {
            Err(DriverError::Ledger(LedgerError::Deposed(why))) => tracing::warn!(%why, "lost leadership"),
            other => return other,
        }
    }
}

/// What to do once the batch is durable.
enum Effect {
    Start(Job),
    Stop(DispatchId),
    Forget(DispatchId),
    Settle(String, Disposition),
}

struct Driver<'p> {
    parts: &'p Parts,
    ledger: Ledger,
    scheduler: Scheduler,
    summaries: HashMap<RunId, Summary>,
    effects: Vec<Effect>,
    deferred: HashMap<DispatchId, i64>,
    /// Answers that could not be written yet. Messages are not looked at before they are: an answered one would be
    /// taken for a new one.
    unsettled: Vec<(String, Disposition)>,
    /// No look into the inbox before this time, because the disk was full.
    inbox_pause: Option<i64>,
    reports: mpsc::UnboundedReceiver<Report>,
    reporter: Reporter,
}

impl<'p> Driver<'p> {
    /// Takes the fence, folds every active run and hands running attempts to the executor again.
    async fn load(parts: &'p Parts) -> Result<Self, DriverError> {
        let mut ledger = Ledger::take_over(parts.store.clone(), parts.key.clone(), &parts.holder).await?;
        let mut scheduler = Scheduler::new(parts.queues.clone());
        let mut summaries = HashMap::new();
        let (reporter, reports) = mpsc::unbounded_channel();
        let mut effects = Vec::new();
        let mut running = HashSet::new();
        let mut after: Option<String> = None;
        loop {
            let page = parts.store.scan(keys::ACTIVE_PREFIX, after.as_deref(), 256).await?;
            let Some((last, _)) = page.last() else { break };
            after = Some(last.clone());
            for (key, _) in &page {
                let Ok(run) = RunId::new(&key[keys::ACTIVE_PREFIX.len()..]) else { continue };
                // One damaged run must not stop the others: it stays active and is reported by `status`.
                let loaded = match load_run(&*parts.store, &*parts.blobs, &run).await {
                    Ok(loaded) => loaded,
                    Err(error) => {
                        tracing::error!(%run, error = %causes(&error), "run cannot be loaded and is left alone");
                        continue;
                    }
                };
                let Some(summary) = parts
                    .store
                    .get(&keys::summary(&run))
                    .await?
                    .and_then(|cell| serde_json::from_slice(&cell.value).ok())
                else {
                    tracing::error!(%run, "summary is missing; run is left alone");
                    continue;
                };
                for view in loaded.state.running() {
                    if let ItemState::Running { attempt, dispatch, .. } = view.state {
                        running.insert(dispatch.clone());
                        effects.push(Effect::Start(Job {
                            run: run.clone(),
                            item: view.id().clone(),
                            attempt: *attempt,
                            dispatch: dispatch.clone(),
                            manifest: view.attempts.last().and_then(|attempt| attempt.manifest),
                        }));
                    }
                }
                summaries.insert(run.clone(), summary);
                ledger.adopt(run, loaded.chain);
                scheduler.insert_run(loaded.state);
            }
        }
        let mut driver = Self {
            parts,
            ledger,
            scheduler,
            summaries,
            effects,
            deferred: HashMap::new(),
            unsettled: Vec::new(),
            inbox_pause: None,
            reports,
            reporter,
        };
        parts.executor.sweep(&running).await;
        driver.act().await?;
        Ok(driver)
    }

    async fn run(
        &mut self,
        shutdown: &mut (impl Future<Output = ()> + Send + Unpin),
    ) -> Result<(), DriverError> {
        let mut inbox_may_have_more = true;
        let mut held: Option<Report> = None;
        loop {
            let now = self.parts.clock.now_ms();
            if self.inbox_pause.is_some_and(|until| until <= now) {
                self.inbox_pause = None;
                inbox_may_have_more = true;
                // First of all in a turn: nothing else may be done before it is committed.
                let again = std::mem::take(&mut self.unsettled);
                self.effects.extend(again.into_iter().map(|(name, answer)| Effect::Settle(name, answer)));
                self.act().await?;
            }
            for _ in 0..REPORTS_PER_TURN {
                let Some(report) = held.take().or_else(|| self.reports.try_recv().ok()) else { break };
                self.reconcile(report, now)?;
            }
            if inbox_may_have_more && self.inbox_pause.is_none() {
                let messages = self.parts.inbox.waiting(MESSAGES_PER_TURN).await?;
                inbox_may_have_more = messages.len() == MESSAGES_PER_TURN;
                for message in messages {
                    match self.take(message, now).await {
                        Err(DriverError::Blob(error @ BlobError::Full(_))) => {
                            self.pause_inbox(now, &error);
                            break;
                        }
                        taken => taken?,
                    }
                }
            }
            self.plan(now).await?;
            if self.ledger.is_dirty() {
                self.ledger.commit().await?;
            }
            if !self.effects.is_empty() {
                self.act().await?;
                continue;
            }
            if inbox_may_have_more && self.inbox_pause.is_none() {
                continue;
            }
            let wake = self.next_wakeup();
            tokio::select! {
                biased;
                () = &mut *shutdown => return Ok(()),
                report = self.reports.recv() => held = report,
                () = self.parts.inbox.changed() => inbox_may_have_more = true,
                () = sleep_until(&*self.parts.clock, wake) => {}
            }
        }
    }

    fn next_wakeup(&self) -> Option<i64> {
        let deferred = self.deferred.values().copied().chain(self.inbox_pause);
        self.scheduler.next_wakeup().into_iter().chain(deferred).min()
    }

    /// Leaves the inbox alone for a moment. Nothing is lost: what is not answered is still there.
    fn pause_inbox(&mut self, now: i64, error: &dyn std::error::Error) {
        tracing::warn!(error = %causes(error), "the inbox waits; work goes on when it can");
        self.inbox_pause = Some(now + PREPARE_PAUSE_MS);
    }

    /// Appends an entry and folds it.
    fn record(&mut self, run: &RunId, at: i64, actor: &str, body: EntryBody) -> Result<Entry, DriverError> {
        let entry = self.ledger.append(run, at, actor, body)?;
        self.scheduler.apply(&entry, None).map_err(|error| DriverError::Planned(error.to_string()))?;
        Ok(entry)
    }

    fn reconcile(&mut self, report: Report, now: i64) -> Result<(), DriverError> {
        let Job { run, item, attempt, dispatch, .. } = report.job;
        let Some(body) = self.scheduler.reconcile(&run, &item, attempt, report.end, now) else {
            tracing::warn!(%run, %item, attempt, "ignored the report of an attempt that is not running");
            return Ok(());
        };
        self.record(&run, now, ENGINE, body)?;
        self.effects.push(Effect::Forget(dispatch));
        Ok(())
    }

    async fn plan(&mut self, now: i64) -> Result<(), DriverError> {
        self.deferred.retain(|_, until| *until > now);
        let mut fires_left = FIRES_PER_TURN;
        loop {
            let step = self.scheduler.plan(now, fires_left);
            let mut progressed = !step.entries.is_empty();
            for (run, body) in step.entries {
                let outcome = match &body {
                    EntryBody::RunCompleted { outcome, .. } => Some(*outcome),
                    _ => None,
                };
                self.record(&run, now, ENGINE, body)?;
                if let Some(outcome) = outcome {
                    tracing::info!(%run, ?outcome, "run ended");
                    if let Some(summary) = self.summaries.remove(&run) {
                        self.ledger.seal(&run, outcome, &summary, now)?;
                    }
                    self.ledger.release(&run);
                    self.scheduler.remove_run(&run);
                }
            }
            for fire in step.fires {
                if !self.deferred.contains_key(&fire.dispatch) && self.fire(fire, now).await? {
                    progressed = true;
                    fires_left = fires_left.saturating_sub(1);
                }
            }
            for Stop { run, item, attempt, dispatch, .. } in step.stops {
                self.scheduler.stop_asked(&run, &item, attempt);
                self.effects.push(Effect::Stop(dispatch));
            }
            if !progressed || fires_left == 0 {
                return Ok(());
            }
        }
    }

    /// Records the decision to start an attempt; `false` when it could not be prepared yet.
    async fn fire(&mut self, fire: Fire, now: i64) -> Result<bool, DriverError> {
        let Some(state) = self.scheduler.run(&fire.run) else { return Ok(false) };
        let Fire { run, item, attempt, dispatch } = fire.clone();
        match self.parts.executor.prepare(&fire, state).await {
            Ok(manifest) => {
                let body = EntryBody::ItemFired {
                    item: item.clone(),
                    attempt,
                    dispatch: dispatch.clone(),
                    manifest,
                };
                self.record(&run, now, ENGINE, body)?;
                self.effects.push(Effect::Start(Job { run, item, attempt, dispatch, manifest }));
                Ok(true)
            }
            Err(PrepareError::Denied(failure)) => {
                self.record(&run, now, ENGINE, EntryBody::ItemDenied { item, failure })?;
                Ok(true)
            }
            Err(PrepareError::Later(why)) => {
                tracing::warn!(%run, %item, %why, "cannot start yet");
                self.deferred.insert(dispatch, now + PREPARE_PAUSE_MS);
                Ok(false)
            }
        }
    }

    async fn act(&mut self) -> Result<(), DriverError> {
        for effect in std::mem::take(&mut self.effects) {
            match effect {
                Effect::Start(job) => self.parts.executor.start(job, self.reporter.clone()),
                Effect::Stop(dispatch) => self.parts.executor.stop(&dispatch),
                Effect::Forget(dispatch) => self.parts.executor.forget(&dispatch),
                Effect::Settle(name, disposition) => {
                    let Err(error) = self.parts.inbox.settle(&name, disposition.clone()).await else {
                        continue;
                    };
                    if matches!(self.parts.inbox.disposition(&name).await, Ok(None)) {
                        tracing::warn!(name, "a message was taken out of the inbox before it was answered");
                        continue;
                    }
                    self.pause_inbox(self.parts.clock.now_ms(), &error);
                    self.unsettled.push((name, disposition));
                }
            }
        }
        Ok(())
    }

    async fn take(&mut self, message: Message, now: i64) -> Result<(), DriverError> {
        let disposition = match serde_json::from_slice::<Envelope>(&message.bytes) {
            Err(error) => {
                Disposition::Rejected(Answer::because(format!("not a message: {error}")).to_bytes())
            }
            Ok(Envelope { v, .. }) if v != MESSAGE_VERSION => Disposition::Rejected(
                Answer::because(format!("message version {v}; this daemon understands {MESSAGE_VERSION}"))
                    .to_bytes(),
            ),
            Ok(Envelope {
                request: Request::Submit { ref actor, .. } | Request::Cancel { ref actor, .. },
                ..
            }) if actor_problem(actor).is_some() => {
                let why = actor_problem(actor).unwrap_or_default();
                Disposition::Rejected(Answer::because(format!("actor: {why}")).to_bytes())
            }
            Ok(Envelope { request: Request::Submit { plan, queue, actor }, .. }) => {
                self.submit(&plan, queue, actor, now).await?
            }
            Ok(Envelope { request: Request::Cancel { run, item, actor }, .. }) => {
                let body = match item {
                    Some(item) => EntryBody::ItemCancelled { item },
                    None => EntryBody::RunCancelled {},
                };
                self.cancel(&run, body, &actor, now).await?
            }
        };
        if let Disposition::Rejected(answer) = &disposition {
            let answer = String::from_utf8_lossy(&answer[..answer.len().min(2_000)]);
            tracing::warn!(message = %message.name, %answer, "a request was refused");
        }
        self.effects.push(Effect::Settle(message.name, disposition));
        Ok(())
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

    async fn submit(
        &mut self,
        text: &str,
        queue: Option<String>,
        actor: String,
        now: i64,
    ) -> Result<Disposition, DriverError> {
        let mut context = self.parts.admission.context();
        if let Some(queue) = &queue {
            if context.queues.as_ref().is_some_and(|known| !known.contains(queue)) {
                let known = context.queues.iter().flatten().cloned().collect::<Vec<_>>().join(", ");
                let why = format!("queue {queue:?} is not configured; configured are {known}");
                return Ok(Disposition::Rejected(Answer::because(why).to_bytes()));
            }
            // The submitter's choice stands in for the plan's queue, which may then be any.
            context = Arc::new(PlanContext { queues: None, ..(*context).clone() });
        }
        let mut plan = match parse_plan(text.as_bytes(), &context) {
            Ok(parsed) => parsed.plan,
            Err(findings) => return Ok(rejected("the plan is invalid", &findings)),
        };
        let queue = match queue.map(QueueName::new).transpose() {
            Ok(queue) => queue.unwrap_or_else(|| plan.queue.clone()),
            Err(error) => {
                return Ok(Disposition::Rejected(Answer::because(format!("queue: {error}")).to_bytes()));
            }
        };
        // The entry says where the run is queued; the sealed plan keeps the submitter's own words.
        plan.queue = queue.clone();
        let run = plan.id.clone();
        let digest = pangolin_core::ids::Digest::of(text.as_bytes());
        if let Some(cell) = self.parts.store.get(&keys::summary(&run)).await? {
            return self.resubmitted(&run, &digest, &cell.value).await;
        }
        if self.summaries.contains_key(&run) {
            // Admitted earlier in this same turn and not committed yet: look again once it is.
            self.ledger.commit().await?;
            return Box::pin(self.submit(text, Some(queue.as_str().to_owned()), actor, now)).await;
        }
        // Before the names are resolved, so that a full disk delays the submission and does not refuse it.
        match self.parts.blobs.put(text.as_bytes()).await {
            Ok(_) => {}
            // Waited for: the message stays where it is.
            Err(error @ BlobError::Full(_)) => return Err(error.into()),
            Err(error) => {
                let why = format!("the plan cannot be stored: {}", causes(&error));
                return Ok(Disposition::Rejected(
                    Answer { run: Some(run), ..Answer::because(why) }.to_bytes(),
                ));
            }
        }
        let pinned = match self.parts.admission.pin(&plan).await {
            Ok(pinned) => pinned,
            Err(findings) => return Ok(rejected("the plan cannot be admitted", &findings)),
        };
        let items = plan.items.len() as u64;
        let body = EntryBody::RunSubmitted(Box::new(RunSubmitted {
            log: self.ledger.origin().to_owned(),
            namespace: self.parts.admission.namespace().to_owned(),
            plan: digest,
            items,
            queue: queue.clone(),
            pins: pinned.pins,
            base_commit: pinned.base_commit,
            pattern: pinned.pattern,
            pattern_id: None,
            pattern_params: None,
            graph: None,
            retry: self.parts.admission.retry(),
            open_ended: plan.open_ended,
        }));
        // Tried on a chain of its own first: a plan that the fold refuses must not get into the batch.
        let trial = RunChain::new().append(&run, now, &actor, body.clone());
        let started = match trial {
            Ok((entry, _, _)) => RunState::start(plan, &entry).map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        };
        let state = match started {
            Ok(state) => state,
            Err(why) => return Ok(Disposition::Rejected(Answer::because(why).to_bytes())),
        };
        self.ledger.append(&run, now, &actor, body)?;
        let (receipt, summary) = self.ledger.admit(&run, digest, &queue, &actor, items, now)?;
        tracing::info!(%run, %actor, items, "run admitted");
        self.scheduler.insert_run(state);
        self.summaries.insert(run.clone(), summary);
        let receipt = serde_json::to_value(&receipt).ok();
        Ok(Disposition::Accepted(
            Answer { run: Some(run), receipt, ..Answer::because("admitted") }.to_bytes(),
        ))
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

/// Actor of everything the engine decides by itself.
pub const ENGINE: &str = "engine";

fn rejected(reason: &str, findings: &[Finding]) -> Disposition {
    let findings = findings
        .iter()
        .filter(|finding| finding.severity == Severity::Error)
        .filter_map(|finding| serde_json::to_value(finding).ok())
        .collect();
    Disposition::Rejected(Answer { findings, ..Answer::because(reason) }.to_bytes())
}

async fn sleep_until(clock: &dyn Clock, at: Option<i64>) {
    match at {
        Some(at) => clock.sleep_until(at).await,
        None => std::future::pending().await,
    }
}
