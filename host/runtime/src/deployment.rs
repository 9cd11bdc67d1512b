//! A deployment: what the command line works with. It lies on this machine, or in an AWS account.

mod base;
#[cfg(feature = "local")]
mod here;
#[cfg(feature = "local")]
mod init;
#[cfg(feature = "local")]
mod one_off;
#[cfg(feature = "local")]
mod outside;
mod parts;
pub(crate) mod place;
mod preview;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use pangolin_audit::{bundle::Bundle, note::SigningKey};
use pangolin_core::{
    entry::RunOutcome,
    ids::{Digest, ItemId, QueueName, RunId},
    plan::Plan,
    scheduler::{QueuePolicy, Scheduler},
    validate::{Finding, PlanContext, Severity, parse_items, parse_plan},
};
use pangolin_orchestrator::{
    driver::DriverError,
    export::{Author, export_bundle},
    keys as cells,
    ledger::Summary,
    load::{LoadError, LoadedRun, load_run},
    message::{Answer, Envelope, MESSAGE_VERSION, Request},
    senders::{SignError, sign},
};
use pangolin_ports::{
    anchor::{AnchorError, AnchorEvidence, check_note},
    blob_store::{BlobError, BlobStore},
    clock::Clock,
    inbox::{Disposition, Inbox, InboxError, Message},
    memory::SystemClock,
    run_store::{RunStore, RunStoreError},
    worker_backend::BackendError,
};
use serde_json::Value;
use thiserror::Error;

use crate::{
    config::{BackendKind, Config, ConfigError},
    dispatch::{check_admissible, check_references},
    keys::{self, KeyError},
    leadership::FileLeadership,
    plugins::{Plugins, PluginsError},
    registry::{Registry, RegistryError},
    status,
    views::{RunSummary, RunView},
};

#[cfg(feature = "local")]
pub use pangolin_orchestrator::export::ExportError;

pub use init::{InitOptions, InitReport, init};
#[cfg(feature = "local")]
pub use one_off::DispatchRequest;
pub use preview::Preview;

use place::{PAUSE, Place, Stores};

/// Largest blob that is loaded into memory for people and bundles.
pub const BLOB_BYTES_MAX: u64 = 256 << 20;

/// Failures of a deployment.
#[derive(Debug, Error)]
pub enum RuntimeError {
    /// Configuration.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Signing key.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// Ledger.
    #[error(transparent)]
    Store(#[from] RunStoreError),
    /// Blobs.
    #[error(transparent)]
    Blob(#[from] BlobError),
    /// Inbox.
    #[error(transparent)]
    Inbox(#[from] InboxError),
    /// A run cannot be loaded.
    #[error(transparent)]
    Load(LoadError),
    /// No such run, item, attempt or dispatch.
    #[error("{what} does not exist; {hint}")]
    NotFound {
        /// What was asked for.
        what: String,
        /// How to find the right name.
        hint: String,
    },
    /// The plan or request was refused. `findings` may be empty.
    #[error("{reason}")]
    Rejected {
        /// One sentence.
        reason: String,
        /// Findings about the plan.
        findings: Vec<Finding>,
    },
    /// Queues are bound to patterns that cannot be used.
    #[error("{}", .0.join("; "))]
    Patterns(Vec<String>),
    /// Plugins.
    #[error(transparent)]
    Plugins(#[from] PluginsError),
    /// Registry.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// A worker backend cannot be used.
    #[error("executor {executor:?} cannot be set up")]
    Backend {
        /// Executor name.
        executor: String,
        /// Why.
        #[source]
        source: BackendError,
    },
    /// The worker program is missing.
    #[error("the worker program is not at {0}; build it with `cargo xtask build` or set PANGOLIN_WORKER")]
    NoWorker(PathBuf),
    /// Something that is in an AWS account was asked for as if it were on this machine.
    #[error("{0} lies in a stack in AWS; name it with --remote <stack>")]
    NotHere(String),
    /// The signing key of a stack cannot be read.
    #[error("the signing key of the stack cannot be read")]
    Secret {
        /// Why.
        #[source]
        source: Box<crate::secrets::SecretError>,
    },
    /// The configuration wants S3, and this program was built without it.
    #[error(
        "{file} has [s3] or [anchor], and this build of pangolin knows no S3; use a release build, or `cargo build --features aws`"
    )]
    WithoutS3 {
        /// The configuration.
        file: PathBuf,
    },
    /// S3 cannot be reached as configured.
    #[error("S3 cannot be used as {file} says: {problem}")]
    S3 {
        /// The configuration.
        file: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// The base commit cannot be brought along.
    #[error("cannot pack the base commit of {repo}")]
    Base {
        /// The repository.
        repo: PathBuf,
        /// Why.
        #[source]
        source: crate::git::GitError,
    },
    /// A message cannot be signed.
    #[error("the message cannot be signed")]
    Sign(#[from] SignError),
    /// The anchor cannot be asked.
    #[error(transparent)]
    Anchor(#[from] AnchorError),
    /// The driver ended.
    #[error(transparent)]
    Driver(#[from] DriverError),
    /// The bundle cannot be built.
    #[error(transparent)]
    Export(#[from] ExportError),
    /// A file operation.
    #[error("cannot access {path}")]
    Io {
        /// The path.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

impl From<LoadError> for RuntimeError {
    fn from(error: LoadError) -> Self {
        match error {
            LoadError::NotFound(run) => not_found(&run),
            other => Self::Load(other),
        }
    }
}

/// A plan that only names a queue or an executor that is not configured: what it refers to can be looked at all the same.
fn legible(text: &[u8]) -> Option<Plan> {
    parse_plan(text, &PlanContext::default()).ok().map(|parsed| parsed.plan)
}

fn not_found(run: &RunId) -> RuntimeError {
    RuntimeError::NotFound {
        what: format!("run {run}"),
        hint: "`pangolin orch runs` lists the runs".to_owned(),
    }
}

/// A submission on its way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Submission {
    /// The run: the plan's id.
    pub run: RunId,
    /// Name of the inbox message.
    pub message: String,
}

/// What `submit` is told.
#[derive(Debug, Clone)]
pub struct SubmitOptions {
    /// Instead of the plan's queue.
    pub queue: Option<String>,
    /// Who submits.
    pub actor: String,
}

/// A plan that would be admitted, as far as names go.
#[derive(Debug, Clone)]
pub struct Validated {
    /// Items.
    pub items: usize,
    /// Findings that do not stop it.
    pub warnings: Vec<Finding>,
}

/// A deployment that is open.
pub struct Deployment {
    config: Arc<Config>,
    store: Arc<dyn RunStore>,
    blobs: Arc<dyn BlobStore>,
    inbox: Arc<dyn Inbox>,
    clock: Arc<dyn Clock>,
    registry: Registry,
    place: Place,
    /// Signs messages.
    sender: Option<Arc<SigningKey>>,
}

impl Deployment {
    /// The deployment of a configuration over any stores.
    pub(crate) fn over(config: Config, stores: Stores, place: Place) -> Self {
        let Stores { store, blobs, inbox } = stores;
        let registry = Registry::new(config.namespace.clone(), store.clone(), blobs.clone());
        Self {
            config: Arc::new(config),
            store,
            blobs,
            inbox,
            clock: Arc::new(SystemClock),
            registry,
            place,
            sender: None,
        }
    }

    /// With messages signed by this key.
    #[must_use]
    pub fn with_sender(self, key: Arc<SigningKey>) -> Self {
        Self { sender: Some(key), ..self }
    }

    /// The configuration.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Registered artifacts.
    #[must_use]
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// Directory behind `local-secret://`.
    #[must_use]
    pub fn secret_dir(&self) -> PathBuf {
        self.config.state.join("secrets")
    }

    /// Public key of the deployment.
    #[must_use]
    pub fn vkey(&self) -> String {
        self.author_key().to_string()
    }

    /// Milliseconds since the epoch.
    #[must_use]
    pub fn now(&self) -> i64 {
        self.clock.now_ms()
    }

    /// Process id of the daemon that serves this deployment, if one does. A stack in AWS needs none:
    /// [`Self::is_served`].
    #[must_use]
    pub fn daemon(&self) -> Option<u32> {
        match &self.place {
            Place::Here { .. } => FileLeadership::new(&self.config.state).leader(),
            Place::Stack { .. } => None,
        }
    }

    /// Whether somebody looks into the inbox: a daemon, or the stack's schedule.
    #[must_use]
    pub fn is_served(&self) -> bool {
        matches!(self.place, Place::Stack { .. }) || self.daemon().is_some()
    }

    fn context(&self) -> PlanContext {
        PlanContext {
            queues: Some(self.config.queues.keys().map(ToString::to_string).collect()),
            executors: Some(self.executors()),
            ..PlanContext::default()
        }
    }

    /// Names of executors that can run something here. A stack takes a project whose other executors are for a laptop.
    fn executors(&self) -> BTreeSet<String> {
        let is_stack = matches!(self.place, Place::Stack { .. });
        let all = self.config.executors.iter();
        let here = all.filter(|(_, executor)| !is_stack || executor.backend == BackendKind::Fargate);
        here.map(|(name, _)| name.clone()).collect()
    }

    /// Checks a plan against schema, graph, configuration and registry, and asks the pattern of its queue, as a
    /// submission does.
    ///
    /// # Errors
    /// Every finding at once.
    pub async fn validate(&self, text: &[u8], queue: Option<&str>) -> Result<Validated, Vec<Finding>> {
        let (plan, validated) = match self.check(text, queue) {
            Ok(checked) => checked,
            Err(mut findings) => {
                if let Some(plan) = legible(text) {
                    findings.extend(self.check_plugins(&plan).await);
                }
                return Err(findings);
            }
        };
        // A pattern that cannot be asked must not hide what else is wrong.
        let (plan, mut findings) = match self.ask_planner(text, plan.clone(), queue).await {
            Ok(preview) => (preview.plan, Vec::new()),
            Err(findings) => (plan, findings),
        };
        findings.extend(self.check_plugins(&plan).await);
        if findings.is_empty() {
            return Ok(validated);
        }
        findings.extend(validated.warnings);
        Err(findings)
    }

    /// Everything a plan refers to, plugins included, as an admission sees it now.
    async fn check_plugins(&self, plan: &Plan) -> Vec<Finding> {
        match Plugins::open(&self.config) {
            Ok(plugins) => check_admissible(&self.registry, &plugins, plan).await,
            Err(error) => vec![unusable_plugins(&error)],
        }
    }

    /// Like [`Self::validate`] without running a plugin: for a plan that a daemon is about to look at.
    ///
    /// # Errors
    /// Every finding at once.
    pub async fn validate_names(&self, text: &[u8], queue: Option<&str>) -> Result<Validated, Vec<Finding>> {
        let (plan, validated) = match self.check(text, queue) {
            Ok(checked) => checked,
            Err(mut findings) => {
                if let Some(plan) = legible(text) {
                    findings.extend(self.check_names(&plan).await);
                }
                return Err(findings);
            }
        };
        let mut findings = self.check_names(&plan).await;
        if findings.is_empty() {
            return Ok(validated);
        }
        findings.extend(validated.warnings);
        Err(findings)
    }

    async fn check_names(&self, plan: &Plan) -> Vec<Finding> {
        match crate::plugins::adapter_ids(&self.config) {
            Ok(adapters) => check_references(&self.registry, &adapters, plan).await,
            Err(error) => vec![unusable_plugins(&error)],
        }
    }

    fn check(&self, plan: &[u8], queue: Option<&str>) -> Result<(Plan, Validated), Vec<Finding>> {
        let mut context = self.context();
        if let Some(queue) = queue {
            if context.queues.as_ref().is_some_and(|known| !known.contains(queue)) {
                let known = context.queues.iter().flatten().cloned().collect::<Vec<_>>().join(", ");
                return Err(vec![Finding {
                    pointer: "/queue".to_owned(),
                    code: "unknown-queue",
                    severity: Severity::Error,
                    message: format!("queue {queue:?} is not configured"),
                    hint: Some(format!("configured are {known}")),
                }]);
            }
            context.queues = None;
        }
        let parsed = parse_plan(plan, &context)?;
        let queue = queue.unwrap_or(parsed.plan.queue.as_str());
        let warnings = self.heeded(queue, parsed.warnings);
        let validated = Validated { items: parsed.plan.items.len(), warnings };
        Ok((parsed.plan, validated))
    }

    /// Without the warnings about inputs that nobody knows when the queue has a pattern: which keys it reads is its own
    /// affair. Keys that are close to a known one are errors anyway.
    fn heeded(&self, queue: &str, mut warnings: Vec<Finding>) -> Vec<Finding> {
        let bound = self.config.queues.iter().find(|(name, _)| name.as_str() == queue);
        if bound.is_some_and(|(_, queue)| queue.pattern != "static-dag") {
            warnings.retain(|warning| warning.code != "unknown-input");
        }
        warnings
    }

    /// Validates a plan and puts it into the inbox. Does not wait for a daemon.
    ///
    /// # Errors
    /// [`RuntimeError::Rejected`] with all findings.
    pub async fn submit(&self, plan: &[u8], options: SubmitOptions) -> Result<Submission, RuntimeError> {
        let reject = |findings| RuntimeError::Rejected { reason: "the plan is invalid".to_owned(), findings };
        let run = self.check(plan, options.queue.as_deref()).map_err(reject)?.0.id;
        let base = self.base().await?;
        let plan = String::from_utf8_lossy(plan).into_owned();
        let request = Request::Submit { plan, queue: options.queue, actor: options.actor, base };
        let message = self.send("submit", request).await?;
        Ok(Submission { run, message })
    }

    async fn send(&self, prefix: &str, request: Request) -> Result<String, RuntimeError> {
        let mut random = [0u8; 12];
        getrandom::fill(&mut random).map_err(|error| RuntimeError::Io {
            path: "/dev/urandom".into(),
            source: std::io::Error::other(error.to_string()),
        })?;
        let name = format!("{prefix}-{}", keys::hex(&random));
        let note = match &self.sender {
            Some(key) => Some(sign(key, self.author_key().name(), &name, &request)?),
            None => None,
        };
        let envelope = Envelope { v: MESSAGE_VERSION, request, note };
        let bytes = serde_json::to_vec(&envelope).map_err(|error| RuntimeError::Io {
            path: name.clone().into(),
            source: std::io::Error::other(error),
        })?;
        self.inbox.send(Message { name: name.clone(), bytes }).await?;
        Ok(name)
    }

    /// Waits up to `wait` for the daemon's answer to a message; `None` when none came.
    ///
    /// # Errors
    /// [`RuntimeError::Rejected`] with the daemon's reason.
    pub async fn answer(&self, message: &str, wait: Duration) -> Result<Option<Answer>, RuntimeError> {
        let found = async {
            loop {
                match self.inbox.disposition(message).await? {
                    Some(Disposition::Accepted(bytes)) => return Ok(Some(parse_answer(&bytes))),
                    Some(Disposition::Rejected(bytes)) => {
                        let answer = parse_answer(&bytes);
                        let findings = answer.findings.into_iter().filter_map(finding_from).collect();
                        return Err(RuntimeError::Rejected { reason: answer.reason, findings });
                    }
                    Some(Disposition::Waiting) | None => self.inbox.settled(message).await,
                }
            }
        };
        tokio::time::timeout(wait, found).await.unwrap_or(Ok(None))
    }

    /// Whether a submission of this run waits in the inbox for a daemon.
    ///
    /// # Errors
    /// [`RuntimeError::Inbox`].
    pub async fn is_queued(&self, run: &RunId) -> Result<bool, RuntimeError> {
        Ok(self.queued().await?.iter().any(|line| line.run == *run))
    }

    /// Submissions that no daemon has looked at yet, as far as an inbox hands them out at once.
    async fn queued(&self) -> Result<Vec<RunSummary>, RuntimeError> {
        #[derive(serde::Deserialize)]
        struct Outline {
            id: RunId,
            queue: QueueName,
            items: Vec<serde::de::IgnoredAny>,
        }
        let now = self.now();
        let line = |message: &Message| {
            let Ok(Envelope { request: Request::Submit { plan, queue, actor, .. }, .. }) =
                serde_json::from_slice(&message.bytes)
            else {
                return None;
            };
            let outline: Outline = serde_json::from_str(&plan).ok()?;
            Some(RunSummary {
                run: outline.id,
                queue: queue.and_then(|queue| QueueName::new(queue).ok()).unwrap_or(outline.queue),
                state: "queued".to_owned(),
                actor,
                submitted_at: now,
                finished_at: None,
                items: outline.items.len() as u64,
            })
        };
        Ok(self.inbox.waiting(usize::MAX).await?.iter().filter_map(line).collect())
    }

    /// Asks to cancel a run or an item; answers the name of the message.
    ///
    /// # Errors
    /// [`RuntimeError::NotFound`] when there is no such run.
    pub async fn cancel(
        &self,
        run: &RunId,
        item: Option<&ItemId>,
        actor: &str,
    ) -> Result<String, RuntimeError> {
        if !self.is_queued(run).await? {
            self.summary(run).await?;
        }
        self.send(
            "cancel",
            Request::Cancel { run: run.clone(), item: item.cloned(), actor: actor.to_owned() },
        )
        .await
    }

    /// What is worth a warning about items for a run, as for those of a plan. Errors are the daemon's to find: the run
    /// may have grown by then. Nothing for a run that is still queued.
    ///
    /// # Errors
    /// [`RuntimeError`] when the run cannot be loaded.
    pub async fn warnings_of_items(&self, run: &RunId, items: &[u8]) -> Result<Vec<Finding>, RuntimeError> {
        if self.is_queued(run).await? {
            return Ok(Vec::new());
        }
        let loaded = self.load(run).await?;
        let found = match parse_items(items, &loaded.state, &self.context()) {
            Ok(parsed) => parsed.warnings,
            Err(findings) => findings,
        };
        let warnings = found.into_iter().filter(|found| found.severity == Severity::Warning).collect();
        Ok(self.heeded(loaded.state.plan().queue.as_str(), warnings))
    }

    /// Asks to add items to an open-ended run: the text of a JSON array of items. Answers the name of the message.
    ///
    /// # Errors
    /// [`RuntimeError::NotFound`] when there is no such run, [`RuntimeError::Rejected`] when the text is not an array.
    pub async fn extend(&self, run: &RunId, items: &[u8], actor: &str) -> Result<String, RuntimeError> {
        if !self.is_queued(run).await? {
            self.summary(run).await?;
        }
        let reject = |message: String| RuntimeError::Rejected {
            reason: "the items are invalid".to_owned(),
            findings: vec![Finding {
                pointer: String::new(),
                code: "syntax",
                severity: Severity::Error,
                message,
                hint: Some("the file holds an array of items, each as in a plan".to_owned()),
            }],
        };
        let text = std::str::from_utf8(items).map_err(|error| reject(error.to_string()))?;
        serde_json::from_str::<Vec<serde::de::IgnoredAny>>(text)
            .map_err(|error| reject(error.to_string()))?;
        let request = Request::Extend { run: run.clone(), items: text.to_owned(), actor: actor.to_owned() };
        self.send("extend", request).await
    }

    /// Asks to close an open-ended run; answers the name of the message.
    ///
    /// # Errors
    /// [`RuntimeError::NotFound`] when there is no such run.
    pub async fn close(&self, run: &RunId, actor: &str) -> Result<String, RuntimeError> {
        if !self.is_queued(run).await? {
            self.summary(run).await?;
        }
        self.send("close", Request::Close { run: run.clone(), actor: actor.to_owned() }).await
    }

    async fn summary(&self, run: &RunId) -> Result<Summary, RuntimeError> {
        let cell = self.store.get(&cells::summary(run)).await?.ok_or_else(|| not_found(run))?;
        serde_json::from_slice(&cell.value).map_err(|error| {
            RuntimeError::Store(RunStoreError::Damaged(format!("summary of run {run}: {error}")))
        })
    }

    /// All runs, oldest first, then the submissions that no daemon has looked at yet (state `queued`).
    ///
    /// # Errors
    /// [`RuntimeError::Store`].
    pub async fn runs(&self) -> Result<Vec<RunSummary>, RuntimeError> {
        let mut found = Vec::new();
        let mut after: Option<String> = None;
        loop {
            let page = self.store.scan(cells::SUMMARY_PREFIX, after.as_deref(), 1000).await?;
            let Some((last, _)) = page.last() else { break };
            after = Some(last.clone());
            for (key, cell) in &page {
                let run = RunId::new(&key[cells::SUMMARY_PREFIX.len()..]);
                if let (Ok(run), Ok(line)) = (run, serde_json::from_slice::<Summary>(&cell.value)) {
                    found.push(status::summary(run, &line));
                }
            }
        }
        found.sort_by(|a, b| (a.submitted_at, &a.run).cmp(&(b.submitted_at, &b.run)));
        found.extend(self.queued().await?);
        Ok(found)
    }

    /// A run in full.
    ///
    /// # Errors
    /// [`RuntimeError::NotFound`] and everything that loading can find.
    pub async fn run_view(&self, run: &RunId) -> Result<RunView, RuntimeError> {
        let line = status::summary(run.clone(), &self.summary(run).await?);
        let loaded = self.load(run).await?;
        let entries = loaded.chain.len();
        let waiting = loaded.state.items().any(|item| item.state.name() == "ready");
        if !waiting {
            return Ok(status::view(&loaded.state, line, entries, None));
        }
        // Something is ready and not running: only the other runs can tell why.
        let mut scheduler = Scheduler::new(self.queue_policies());
        for (key, cell) in self.store.scan(cells::ACTIVE_PREFIX, None, usize::MAX).await? {
            if let Some(other) = cells::active_run(&key, &cell.value)
                && other != *run
                && let Ok(loaded) = self.load(&other).await
            {
                scheduler.insert_run(loaded.state);
            }
        }
        scheduler.insert_run(loaded.state);
        let state = scheduler.run(run).ok_or_else(|| not_found(run))?;
        Ok(status::view(state, line, entries, Some(&scheduler)))
    }

    async fn load(&self, run: &RunId) -> Result<LoadedRun, RuntimeError> {
        Ok(load_run(&*self.store, &*self.blobs, run).await?)
    }

    /// Resolves when the ledger may have changed since the last call.
    ///
    /// # Errors
    /// [`RuntimeError::Store`] when changes cannot be watched.
    pub async fn changed(&self) -> Result<(), RuntimeError> {
        match &self.place {
            Place::Here { store, .. } => Ok(store.changed().await?),
            Place::Stack { .. } => {
                tokio::time::sleep(PAUSE).await;
                Ok(())
            }
        }
    }

    /// A blob's verified bytes.
    ///
    /// # Errors
    /// [`RuntimeError::Blob`].
    pub async fn blob(&self, digest: &Digest) -> Result<Vec<u8>, RuntimeError> {
        Ok(self.blobs.get(digest, BLOB_BYTES_MAX).await?)
    }

    /// Base commit and sealed tree id of an attempt's patch, when it has one.
    ///
    /// # Errors
    /// [`RuntimeError`].
    pub async fn sealed_tree(
        &self,
        run: &RunId,
        item: &ItemId,
        attempt: u32,
    ) -> Result<Option<(String, String)>, RuntimeError> {
        let loaded = self.load(run).await?;
        let base = loaded.state.submitted().base_commit.clone();
        let view = loaded.state.item(item);
        let found = view.and_then(|view| view.attempts.iter().find(|found| found.number == attempt));
        let tree = found.and_then(|attempt| attempt.end.as_ref()?.evidence.tree.clone());
        Ok(base.zip(tree))
    }

    fn queue_policies(&self) -> BTreeMap<QueueName, QueuePolicy> {
        let policy = |queue: &crate::config::QueueConfig| QueuePolicy {
            concurrency: queue.concurrency,
            paused: queue.paused,
        };
        self.config.queues.iter().map(|(name, queue)| (name.clone(), policy(queue))).collect()
    }

    /// The evidence bundle of a run: canonical bytes, the same that `pangolin verify` reads. For a run that has not
    /// ended the bundle says so and verifies as incomplete.
    ///
    /// # Errors
    /// [`RuntimeError`] when the ledger lacks something that only it can know.
    pub async fn bundle(&self, run: &RunId) -> Result<Vec<u8>, RuntimeError> {
        self.summary(run).await?;
        let (store, blobs) = (&*self.store, &*self.blobs);
        let bundle = match &self.place {
            Place::Here { key, anchor, .. } => {
                self.anchor_now().await?;
                export_bundle(store, blobs, Author::Deployment(&key.signing), anchor.as_deref(), run).await
            }
            Place::Stack { key, anchor, .. } => {
                export_bundle(store, blobs, Author::Reader(key), Some(&**anchor), run).await
            }
        };
        Ok(bundle?)
    }

    /// Publishes the seals that are not at the anchor yet: a seal is in the ledger first. A stack does it itself.
    async fn anchor_now(&self) -> Result<(), RuntimeError> {
        #[cfg(all(feature = "aws", feature = "local"))]
        if let Place::Here { anchor: Some(anchor), .. } = &self.place {
            crate::anchoring::Anchoring::new(self.store.clone(), anchor.clone()).catch_up().await?;
        }
        Ok(())
    }

    /// What the anchor outside of the deployment holds, at this moment, of the log's checkpoint in a bundle. `None` for a
    /// deployment without such an anchor and for a run that has not ended.
    ///
    /// # Errors
    /// [`RuntimeError::Anchor`] when the anchor cannot be asked.
    pub async fn seen_outside(&self, bundle: &[u8]) -> Result<Option<AnchorEvidence>, RuntimeError> {
        let anchor = match &self.place {
            Place::Here { anchor, .. } => anchor.as_ref(),
            Place::Stack { anchor, .. } => Some(anchor),
        };
        let Some(anchor) = anchor else { return Ok(None) };
        let Ok(bundle) = Bundle::parse(bundle) else { return Ok(None) };
        if bundle.anchor.is_none() {
            return Ok(None);
        }
        Ok(Some(check_note(&**anchor, &bundle.log.checkpoint, &[self.author_key()]).await?))
    }

    /// Whether a run has ended, and how.
    ///
    /// # Errors
    /// [`RuntimeError::NotFound`].
    pub async fn outcome(&self, run: &RunId) -> Result<Option<RunOutcome>, RuntimeError> {
        Ok(self.summary(run).await?.outcome)
    }
}

fn parse_answer(bytes: &[u8]) -> Answer {
    serde_json::from_slice(bytes).unwrap_or_else(|_| {
        // Set aside by the inbox itself, in its own words.
        let text: Value = serde_json::from_slice(bytes).unwrap_or_default();
        Answer::because(text["reason"].as_str().unwrap_or("the daemon gave no reason"))
    })
}

fn finding_from(value: Value) -> Option<Finding> {
    let text = |key: &str| value.get(key)?.as_str().map(str::to_owned);
    Some(Finding {
        pointer: text("pointer")?,
        code: "rejected",
        severity: Severity::Error,
        message: text("message")?,
        hint: text("hint"),
    })
}

fn unusable_plugins(error: &PluginsError) -> Finding {
    let message = pangolin_orchestrator::causes::causes(error);
    Finding { pointer: String::new(), code: "plugins", severity: Severity::Error, message, hint: None }
}
