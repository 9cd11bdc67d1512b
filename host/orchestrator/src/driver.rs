//! The loop: take what arrived, plan, ask the patterns, commit, act.

mod grow;
mod requests;
mod tick;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::Arc,
};

use pangolin_audit::note::SigningKey;
use pangolin_core::{
    entry::{Entry, EntryBody},
    ids::{DispatchId, QueueName, RunId},
    plan::PlanItem,
    scheduler::{Fire, QueuePolicy, Scheduler, Stop},
    state::ItemState,
};
use pangolin_ports::{
    blob_store::{BlobError, BlobStore},
    clock::Clock,
    inbox::{Disposition, Inbox, WAITING_BYTES},
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
    load::{Known, LoadError, catch_up, load_run},
    patterns::Patterns,
    senders::Senders,
};
use grow::{Answered, Growing};
use requests::{Planned, Planning};
pub use tick::{Attempts, Ticked, Ticker};

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
    /// Asks the patterns of queues.
    pub patterns: Arc<dyn Patterns>,
    /// Who may send messages.
    pub senders: Senders,
    /// Queues.
    pub queues: BTreeMap<QueueName, QueuePolicy>,
    /// Names this process in the fence cell; unique per process start.
    pub holder: String,
    /// How often a commit is tried while the store does not answer; then the driver ends. `None`: until it does.
    pub commit_tries: Option<u32>,
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

/// Marks of active runs read at once.
const ACTIVE_PAGE: usize = 256;

/// Pause before an attempt that could not be prepared is tried again, in milliseconds.
const PREPARE_PAUSE_MS: i64 = 1_000;

/// Drives a deployment until `shutdown` resolves. Several processes may call this on one deployment; one leads,
/// the others wait.
///
/// # Errors
/// [`DriverError`]. Everything committed stays; a later call continues.
pub async fn serve(parts: Parts, shutdown: impl Future<Output = ()> + Send) -> Result<(), DriverError> {
    let mut shutdown = std::pin::pin!(shutdown);
    let parts = Arc::new(parts);
    loop {
        let _leader = tokio::select! {
            leader = parts.leadership.acquire() => leader?,
            () = &mut shutdown => return Ok(()),
        };
        let mut driver = match Driver::load(&parts, Folded::default()).await {
            Err(DriverError::Ledger(LedgerError::Deposed(why))) => {
                tracing::warn!(%why, "lost leadership while loading");
                continue;
            }
            other => other?,
        };
        (parts.on_lead)();
        match driver.run(&mut shutdown, None).await {
            Err(DriverError::Ledger(LedgerError::Deposed(why))) => tracing::warn!(%why, "lost leadership"),
            other => return other.map(drop),
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

/// Why the loop turns again.
enum Event {
    Shutdown,
    Report(Box<Report>),
    Answer(Box<Answered>),
    Plan(Box<Planned>),
    Inbox,
    Time,
    NothingLeft,
}

/// What a driver folded, for the driver after it in the same process: it then reads only what came since.
#[derive(Default)]
struct Folded(HashMap<RunId, (Known, Summary)>);

struct Driver {
    parts: Arc<Parts>,
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
    /// Runs with a live pattern.
    growing: HashMap<RunId, Growing>,
    /// Runs whose pattern has something to see.
    due: BTreeSet<RunId>,
    /// Steps asked in this turn.
    asked: usize,
    answers: mpsc::UnboundedReceiver<Answered>,
    answers_in: mpsc::UnboundedSender<Answered>,
    /// Answers that could not be stored, and when to try again.
    late: Vec<Answered>,
    late_until: Option<i64>,
    /// Submissions whose pattern thinks, by message.
    planning: HashMap<String, Planning>,
    plans: mpsc::UnboundedReceiver<Box<Planned>>,
    plans_in: mpsc::UnboundedSender<Box<Planned>>,
}

impl Driver {
    /// Takes the fence, folds every active run and hands running attempts to the executor again.
    async fn load(parts: &Arc<Parts>, mut folded: Folded) -> Result<Self, DriverError> {
        let mut ledger = Ledger::take_over(parts.store.clone(), parts.key.clone(), &parts.holder).await?;
        ledger.try_at_most(parts.commit_tries);
        let mut scheduler = Scheduler::new(parts.queues.clone());
        let mut summaries = HashMap::new();
        let (reporter, reports) = mpsc::unbounded_channel();
        let (answers_in, answers) = grow::channel();
        let (plans_in, plans) = mpsc::unbounded_channel();
        let mut growing = Vec::new();
        let mut after: Option<String> = None;
        loop {
            let page = parts.store.scan(keys::ACTIVE_PREFIX, after.as_deref(), ACTIVE_PAGE).await?;
            after = page.last().map(|(last, _)| last.clone());
            for (key, cell) in &page {
                let Some(run) = keys::active_run(key, &cell.value) else {
                    tracing::error!(cell = key, "this cell names no run and is left alone");
                    continue;
                };
                ledger.marked(run.clone(), key.clone());
                if let Some((known, summary)) = folded.0.remove(&run)
                    && let Some(Known { state, chain }) = known_still(parts, &run, known).await
                {
                    ledger.adopt(run.clone(), chain);
                    scheduler.insert_run(state);
                    summaries.insert(run, summary);
                    continue;
                }
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
                summaries.insert(run.clone(), summary);
                if loaded.tracker.is_some() {
                    ledger.adopt(run, loaded.chain.clone());
                    scheduler.insert_run(loaded.state.clone());
                    growing.push(loaded);
                } else {
                    ledger.adopt(run, loaded.chain);
                    scheduler.insert_run(loaded.state);
                }
            }
            if page.len() < ACTIVE_PAGE {
                break;
            }
        }
        let mut driver = Self {
            parts: parts.clone(),
            ledger,
            scheduler,
            summaries,
            effects: Vec::new(),
            deferred: HashMap::new(),
            unsettled: Vec::new(),
            inbox_pause: None,
            reports,
            reporter,
            growing: HashMap::new(),
            due: BTreeSet::new(),
            asked: 0,
            answers,
            answers_in,
            late: Vec::new(),
            late_until: None,
            planning: HashMap::new(),
            plans,
            plans_in,
        };
        let running = driver.adopt_running();
        for mut loaded in growing {
            driver.take_up(&mut loaded);
            driver.upgrade(&loaded, parts.clock.now_ms()).await?;
        }
        if driver.ledger.is_dirty() {
            driver.ledger.commit().await?;
        }
        parts.executor.sweep(&running).await;
        driver.act().await?;
        Ok(driver)
    }

    /// Ends the driver and keeps what is in the ledger too. Nothing when something waits for a commit, and no run whose pattern
    /// is asked.
    fn into_folded(mut self) -> Folded {
        if self.ledger.is_dirty() {
            return Folded::default();
        }
        let runs = std::mem::take(&mut self.summaries).into_iter();
        let folded = runs.filter_map(|(run, summary)| {
            let is_growing = self.growing.contains_key(&run);
            let chain = self.ledger.chain(&run).cloned()?;
            let state = self.scheduler.remove_run(&run).filter(|_| !is_growing)?;
            Some((run, (Known { state, chain }, summary)))
        });
        Folded(folded.collect())
    }

    /// Hands every running attempt to the executor (again); answers their dispatches.
    fn adopt_running(&mut self) -> HashSet<DispatchId> {
        let mut running = HashSet::new();
        for state in self.scheduler.runs() {
            for view in state.running() {
                if let ItemState::Running { attempt, dispatch, .. } = view.state {
                    running.insert(dispatch.clone());
                    self.effects.push(Effect::Start(Job {
                        run: state.id().clone(),
                        item: view.id().clone(),
                        attempt: *attempt,
                        dispatch: dispatch.clone(),
                        manifest: view.attempts.last().and_then(|attempt| attempt.manifest),
                    }));
                }
            }
        }
        running
    }

    /// Turns of the loop until `shutdown` resolves (`false`) or, in a tick, until nothing more can be done now (`true`).
    async fn run(
        &mut self,
        shutdown: &mut (impl Future<Output = ()> + Send + Unpin),
        tick: Option<&dyn Attempts>,
    ) -> Result<bool, DriverError> {
        let mut inbox_may_have_more = true;
        let mut held: Option<Report> = None;
        let mut answer: Option<Answered> = None;
        let mut plan: Option<Box<Planned>> = None;
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
            if self.late_until.is_some_and(|until| until <= now) {
                self.late_until = None;
                for answered in std::mem::take(&mut self.late) {
                    self.answered(answered, now).await?;
                }
            }
            while let Some(answered) = answer.take().or_else(|| self.answers.try_recv().ok()) {
                self.answered(answered, now).await?;
            }
            while let Some(planned) = plan.take().or_else(|| self.plans.try_recv().ok()) {
                self.planning.insert(planned.message.clone(), Planning::Answered(planned));
                inbox_may_have_more = true;
            }
            for _ in 0..REPORTS_PER_TURN {
                let Some(report) = held.take().or_else(|| self.reports.try_recv().ok()) else { break };
                self.reconcile(report, now)?;
            }
            if inbox_may_have_more && self.inbox_pause.is_none() {
                // Those that wait for a pattern are in front and must not keep the others out.
                let limit = MESSAGES_PER_TURN + self.planning.len();
                let messages = match self.parts.inbox.waiting(limit).await {
                    Ok(messages) => messages,
                    // An inbox out of reach keeps its messages and must not stop the work that is there.
                    Err(error) => {
                        self.pause_inbox(now, &error);
                        Vec::new()
                    }
                };
                let bytes: u64 = messages.iter().map(|message| message.bytes.len() as u64).sum();
                let full = messages.len() == limit || bytes >= WAITING_BYTES;
                let mut taken = 0;
                for message in messages {
                    match self.take(message, now).await {
                        // Neither says anything about the message.
                        Err(DriverError::Blob(error @ (BlobError::Full(_) | BlobError::Other { .. }))) => {
                            self.pause_inbox(now, &error);
                            break;
                        }
                        answered => taken += usize::from(answered?),
                    }
                }
                inbox_may_have_more = full && taken > 0;
            }
            self.plan(now).await?;
            self.ask_patterns(now).await?;
            if self.await_answers(now).await? {
                self.plan(now).await?;
            }
            if self.ledger.is_dirty() {
                self.ledger.commit().await?;
            }
            let acts = !self.effects.is_empty();
            if acts {
                self.act().await?;
            }
            if acts || (inbox_may_have_more && self.inbox_pause.is_none()) {
                // However much there is to do.
                tokio::select! {
                    biased;
                    () = &mut *shutdown => return Ok(false),
                    () = std::future::ready(()) => continue,
                }
            }
            match self.next_event(shutdown, tick).await {
                Event::Shutdown => return Ok(false),
                Event::Report(report) => held = Some(*report),
                Event::Answer(answered) => answer = Some(*answered),
                Event::Plan(planned) => plan = Some(planned),
                Event::Inbox => inbox_may_have_more = true,
                Event::Time => {}
                Event::NothingLeft if self.is_quiet() => return Ok(true),
                Event::NothingLeft => {}
            }
        }
    }

    async fn next_event(
        &mut self,
        shutdown: &mut (impl Future<Output = ()> + Send + Unpin),
        tick: Option<&dyn Attempts>,
    ) -> Event {
        let wake = self.next_wakeup();
        // Borrowed apart, because the three queues are received from while the rest is looked at.
        let may_end = tick.filter(|_| !self.is_asking() || !self.late.is_empty());
        tokio::select! {
            biased;
            () = &mut *shutdown => Event::Shutdown,
            Some(report) = self.reports.recv() => Event::Report(Box::new(report)),
            Some(answered) = self.answers.recv() => Event::Answer(Box::new(answered)),
            Some(planned) = self.plans.recv() => Event::Plan(planned),
            () = self.parts.inbox.changed(), if tick.is_none() => Event::Inbox,
            () = settled(may_end) => Event::NothingLeft,
            () = sleep_until(&*self.parts.clock, wake) => Event::Time,
        }
    }

    fn next_wakeup(&self) -> Option<i64> {
        let deferred = self.deferred.values().copied().chain(self.inbox_pause).chain(self.late_until);
        self.scheduler.next_wakeup().into_iter().chain(deferred).min()
    }

    /// Leaves the inbox alone for a moment. Nothing is lost: what is not answered is still there.
    fn pause_inbox(&mut self, now: i64, error: &dyn std::error::Error) {
        tracing::warn!(error = %causes(error), "the inbox waits; work goes on when it can");
        self.inbox_pause = Some(now + PREPARE_PAUSE_MS);
    }

    /// Appends an entry and folds it.
    fn record(&mut self, run: &RunId, at: i64, actor: &str, body: EntryBody) -> Result<Entry, DriverError> {
        self.record_with(run, at, actor, body, None)
    }

    /// Appends an entry, with its items when it is a `run.extended`, and folds it.
    fn record_with(
        &mut self,
        run: &RunId,
        at: i64,
        actor: &str,
        body: EntryBody,
        added: Option<Vec<PlanItem>>,
    ) -> Result<Entry, DriverError> {
        let entry = self.ledger.append(run, at, actor, body)?;
        self.scheduler.apply(&entry, added).map_err(|error| DriverError::Planned(error.to_string()))?;
        if let (Some(growing), Some(state)) = (self.growing.get_mut(run), self.scheduler.run(run)) {
            growing.tracker.note(state, &entry);
            if state.pattern_due() {
                self.due.insert(run.clone());
            }
        }
        Ok(entry)
    }

    fn reconcile(&mut self, report: Report, now: i64) -> Result<(), DriverError> {
        let Job { run, item, attempt, dispatch, .. } = report.job;
        let entries = self.scheduler.reconcile(&run, &item, attempt, report.end, now);
        if entries.is_empty() {
            tracing::warn!(%run, %item, attempt, "ignored the report of an attempt that is not running");
            return Ok(());
        }
        for body in entries {
            self.record(&run, now, ENGINE, body)?;
        }
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
                // The seal joins the entry that it seals.
                if let Some(outcome) = outcome {
                    tracing::info!(%run, ?outcome, "run ended");
                    if let Some(summary) = self.summaries.remove(&run) {
                        self.ledger.seal(&run, outcome, &summary, now)?;
                    }
                    self.ledger.release(&run);
                    self.scheduler.remove_run(&run);
                    self.growing.remove(&run);
                    self.due.remove(&run);
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
}

/// What is known about a run, brought up to date. `None`: it has to be loaded, which also says what is wrong with it.
async fn known_still(parts: &Parts, run: &RunId, known: Known) -> Option<Known> {
    match catch_up(&*parts.store, &*parts.blobs, run, known).await {
        Ok(known) => known,
        Err(error) => {
            tracing::warn!(%run, error = %causes(&error), "cannot follow the run; it is loaded anew");
            None
        }
    }
}

/// Actor of everything the engine decides by itself.
pub const ENGINE: &str = "engine";

/// Never in a daemon.
async fn settled(attempts: Option<&dyn Attempts>) {
    match attempts {
        Some(attempts) => attempts.settled().await,
        None => std::future::pending().await,
    }
}

async fn sleep_until(clock: &dyn Clock, at: Option<i64>) {
    match at {
        Some(at) => clock.sleep_until(at).await,
        None => std::future::pending().await,
    }
}
