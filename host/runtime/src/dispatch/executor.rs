//! The executor: one task per attempt, from staging to the report.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use pangolin_core::{
    entry::{Evidence, FailureClass, FailureReason, IsolationUsed},
    ids::{Digest, DispatchId},
    manifest::{DispatchManifest, NamedDigest},
    pins::Pins,
    scheduler::{AttemptEnd, AttemptStatus, Fire},
    state::RunState,
};
use pangolin_envelope::envelope::Envelope;
use pangolin_orchestrator::executor::{Executor, Job, PrepareError, Report, Reporter};
use pangolin_orchestrator::{causes::causes, driver::Attempts};
use pangolin_plugin_host::AdapterComponent;
use pangolin_ports::{
    blob_store::{BlobError, BlobStore},
    clock::Clock,
    worker_backend::{BackendError, Limits, Network, WorkerBackend, WorkerSpec},
};
use thiserror::Error;
use tokio::sync::watch;

use super::{
    collect::{Ended, failed},
    prepare::{DOCUMENT_BYTES_MAX, dispatch_dir},
    result_keys::ResultKeys,
    stage::{self, Layout},
    workspaces::{self, Workspaces},
};
use crate::{
    config::Config,
    plugins::{Plugins, PluginsError},
    registry::Registry,
    secrets::{SecretError, Secrets},
};

/// Beyond the item's own timeout: setup, gates, capture.
const WORKER_SLACK_MS: u64 = 30_000;

/// How long an attempt is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Patience {
    /// Until its worker ended. For a process that stays.
    UntilTheEnd,
    /// Once for each [`Executor::start`]: one whose worker runs, and one that cannot be asked about now, is reported by a
    /// later look. For processes that come and go.
    OneLook,
}

/// What the executor works with.
pub struct DispatchParts {
    /// Configuration.
    pub config: Arc<Config>,
    /// Registry.
    pub registry: Registry,
    /// Blobs.
    pub blobs: Arc<dyn BlobStore>,
    /// Plugins.
    pub plugins: Arc<Plugins>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Backends by executor name.
    pub backends: BTreeMap<String, Arc<dyn WorkerBackend>>,
    /// Values of secrets.
    pub secrets: Arc<dyn Secrets>,
    /// Where workspaces come from.
    pub workspaces: Workspaces,
    /// What the keys of results are derived from.
    pub result_keys: ResultKeys,
    /// How long attempts are looked at.
    pub patience: Patience,
}

/// Runs attempts in workers. Cheap to clone.
#[derive(Clone)]
pub struct DispatchExecutor {
    pub(super) parts: Arc<DispatchParts>,
    pub(super) pins: Arc<Mutex<HashMap<Digest, Arc<Pins>>>>,
    cancelled: Arc<Mutex<HashSet<DispatchId>>>,
    /// Where each dispatch of this process runs.
    homes: Arc<Mutex<HashMap<DispatchId, Home>>>,
    /// One look at a dispatch at a time.
    turns: Arc<Mutex<HashMap<DispatchId, Arc<tokio::sync::Mutex<()>>>>>,
    /// Tasks that were spawned and have not ended.
    busy: Busy,
    /// Checking out a base commit happens once at a time.
    checkout: Arc<tokio::sync::Mutex<()>>,
}

/// Where a dispatch runs, and how long its worker has between the polite stop and the kill.
#[derive(Clone)]
struct Home {
    backend: Arc<dyn WorkerBackend>,
    grace: Duration,
    isolation: IsolationUsed,
    started_at: i64,
}

pub(super) fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[derive(Debug, Error)]
pub(super) enum AttemptError {
    #[error("the manifest or envelope of the dispatch cannot be read: {0}")]
    Document(String),
    #[error("executor {0:?} is not configured any more")]
    NoBackend(String),
    #[error(transparent)]
    Stage(#[from] stage::StageError),
    #[error(transparent)]
    Backend(#[from] BackendError),
    /// What the worker left cannot be stored or judged now.
    #[error("the result of the worker cannot be taken now: {0}")]
    Later(String),
}

impl AttemptError {
    /// Whether asking again may help, the attempt being as it was.
    fn is_passing(&self) -> bool {
        match self {
            Self::Backend(BackendError::Unavailable(_)) | Self::Later(_) => true,
            Self::Stage(stage::StageError::Blob(error)) => matches!(error, BlobError::Other { .. }),
            Self::Stage(stage::StageError::Secret { source, .. }) => {
                matches!(source, SecretError::Store { passing: true, .. })
            }
            _ => false,
        }
    }

    fn status(&self) -> AttemptStatus {
        let (reason, class) = match self {
            Self::Document(_) => (FailureReason::IntegrityFailed, FailureClass::Invalid),
            Self::NoBackend(_) => (FailureReason::WorkerFailed, FailureClass::Invalid),
            Self::Stage(stage::StageError::Secret { .. }) => {
                (FailureReason::FetchFailed, FailureClass::Invalid)
            }
            Self::Stage(stage::StageError::Blob(_)) => {
                (FailureReason::FetchFailed, FailureClass::Infrastructure)
            }
            Self::Backend(
                BackendError::IsolationUnavailable { .. }
                | BackendError::Unsupported { .. }
                | BackendError::Image { .. },
            ) => (FailureReason::WorkerFailed, FailureClass::Invalid),
            Self::Stage(_) | Self::Backend(_) | Self::Later(_) => {
                (FailureReason::WorkerFailed, FailureClass::Infrastructure)
            }
        };
        failed(reason, class, causes(self))
    }
}

impl DispatchExecutor {
    /// An executor.
    #[must_use]
    pub fn new(parts: DispatchParts) -> Self {
        Self {
            parts: Arc::new(parts),
            pins: Arc::default(),
            cancelled: Arc::default(),
            homes: Arc::default(),
            turns: Arc::default(),
            busy: Busy::default(),
            checkout: Arc::default(),
        }
    }

    pub(super) fn dispatch_dir(&self, dispatch: &DispatchId) -> PathBuf {
        dispatch_dir(&self.parts.config.state, dispatch.as_str())
    }

    /// The pinned adapter, from the blob that was stored at admission.
    pub(super) async fn adapter(&self, pinned: &NamedDigest) -> Result<AdapterComponent, PluginsError> {
        let bytes = self.parts.blobs.get(&pinned.digest, DOCUMENT_BYTES_MAX).await.map_err(|error| {
            PluginsError::Read {
                id: pinned.name.clone(),
                path: pinned.digest.to_string(),
                source: std::io::Error::other(error),
            }
        })?;
        self.parts.plugins.adapter(&pinned.name, bytes).await
    }

    async fn document<T: serde::de::DeserializeOwned>(
        &self,
        digest: Option<Digest>,
    ) -> Result<T, AttemptError> {
        let digest = digest.ok_or_else(|| AttemptError::Document("no digest".to_owned()))?;
        let got = self.parts.blobs.get(&digest, DOCUMENT_BYTES_MAX).await;
        let bytes = got.map_err(|error| match error {
            // The store did not answer; that says nothing about the document.
            BlobError::Other { .. } => AttemptError::Stage(stage::StageError::Blob(error)),
            error => AttemptError::Document(causes(&error)),
        })?;
        serde_json::from_slice(&bytes).map_err(|error| AttemptError::Document(format!("{digest}: {error}")))
    }

    fn is_cancelled(&self, dispatch: &DispatchId) -> bool {
        held(&self.cancelled).contains(dispatch)
    }

    /// `None`: its worker runs still.
    async fn run(&self, job: &Job) -> Result<Option<AttemptEnd>, AttemptError> {
        let turn = held(&self.turns).entry(job.dispatch.clone()).or_default().clone();
        let _one = turn.lock().await;
        if self.parts.patience == Patience::OneLook
            && !self.is_cancelled(&job.dispatch)
            && self.runs(&job.dispatch).await?
        {
            return Ok(None);
        }
        let manifest: DispatchManifest = self.document(job.manifest).await?;
        let envelope: Envelope = self.document(manifest.envelope).await?;
        let backend = self
            .parts
            .backends
            .get(&manifest.executor)
            .cloned()
            .ok_or_else(|| AttemptError::NoBackend(manifest.executor.clone()))?;
        let layout = Layout { dir: self.dispatch_dir(&job.dispatch) };
        let home = held(&self.homes).get(&job.dispatch).cloned();
        let home = match home {
            Some(home) => home,
            None => match self.begin(job, &manifest, &envelope, &layout, backend.clone()).await? {
                Some(home) => home,
                None => {
                    let status = AttemptStatus::Cancelled;
                    return Ok(Some(AttemptEnd { status, evidence: Evidence::default() }));
                }
            },
        };
        if self.is_cancelled(&job.dispatch) {
            backend.cancel(&job.dispatch, home.grace).await?;
        }
        let exit = match self.parts.patience {
            Patience::UntilTheEnd => backend.wait(&job.dispatch).await?,
            Patience::OneLook => match backend.poll(&job.dispatch).await? {
                Some(exit) => exit,
                None => return Ok(None),
            },
        };
        let secrets = stage::resolve_secrets(&envelope, &*self.parts.secrets).await?;
        let base = match &manifest.base_commit {
            Some(commit) => self.base(commit, &manifest).await?.map(|repo| (repo, commit.clone())),
            None => None,
        };
        let ended = Ended {
            manifest: &manifest,
            envelope: &envelope,
            layout: &layout,
            exit,
            isolation: home.isolation,
            secrets: secrets.into_values().collect(),
            key: self.result_key(&layout, &job.dispatch)?,
            base,
            started_at: home.started_at,
            now: self.parts.clock.now_ms(),
        };
        self.collect(ended).await.map(Some)
    }

    /// Each backend once, whatever executors share it.
    fn backends(&self) -> Vec<Arc<dyn WorkerBackend>> {
        let mut found: Vec<Arc<dyn WorkerBackend>> = Vec::new();
        for backend in self.parts.backends.values() {
            if !found.iter().any(|other| Arc::ptr_eq(other, backend)) {
                found.push(backend.clone());
            }
        }
        found
    }

    /// Whether some backend says so, before anything is read about the dispatch.
    async fn runs(&self, dispatch: &DispatchId) -> Result<bool, AttemptError> {
        for backend in self.backends() {
            if backend.runs(dispatch).await? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Lays the dispatch out and makes sure that it was started. `None`: it was cancelled before.
    async fn begin(
        &self,
        job: &Job,
        manifest: &DispatchManifest,
        envelope: &Envelope,
        layout: &Layout,
        backend: Arc<dyn WorkerBackend>,
    ) -> Result<Option<Home>, AttemptError> {
        let key = self.result_key(layout, &job.dispatch)?;
        if !layout.is_staged() {
            if backend.was_started(&job.dispatch).await? {
                stage::receive(layout)?;
            } else if self.is_cancelled(&job.dispatch) {
                return Ok(None);
            } else {
                let secrets = stage::resolve_secrets(envelope, &*self.parts.secrets).await?;
                let template = match &manifest.base_commit {
                    Some(commit) => self.template(commit, manifest.base_pack).await?,
                    None => None,
                };
                let blobs = &*self.parts.blobs;
                stage::stage(layout, envelope, &secrets, &key, template.as_deref(), blobs).await?;
            }
        }
        let spec = self.spec(job, manifest, envelope, layout, key)?;
        let grace = Duration::from_millis(spec.limits.grace_ms);
        let started_at = self.parts.clock.now_ms();
        let started = backend.ensure(&spec).await?;
        tracing::debug!(run = %job.run, item = %job.item, attempt = job.attempt, adopted = started.adopted, "worker started");
        // A stop that came meanwhile did not find it; the caller looks for that.
        let home = Home { backend, grace, isolation: started.isolation, started_at };
        held(&self.homes).insert(job.dispatch.clone(), home.clone());
        Ok(Some(home))
    }

    /// The key of a dispatch's result: every host that has the deployment's key derives the same.
    fn result_key(&self, layout: &Layout, dispatch: &DispatchId) -> Result<String, AttemptError> {
        Ok(match layout.key()? {
            Some(key) => key,
            None => self.parts.result_keys.of(dispatch),
        })
    }

    async fn template(&self, commit: &str, pack: Option<Digest>) -> Result<Option<PathBuf>, AttemptError> {
        let _one = self.checkout.lock().await;
        let parts = &self.parts;
        Ok(workspaces::template(&parts.config.state, &parts.workspaces, commit, pack, &*parts.blobs).await?)
    }

    /// A repository with the base commit, for making patches.
    async fn base(&self, commit: &str, manifest: &DispatchManifest) -> Result<Option<PathBuf>, AttemptError> {
        match &self.parts.workspaces {
            Workspaces::Repository(repo) => Ok(Some(repo.clone())),
            Workspaces::Empty => Ok(None),
            Workspaces::Submitted => self.template(commit, manifest.base_pack).await,
        }
    }

    fn spec(
        &self,
        job: &Job,
        manifest: &DispatchManifest,
        envelope: &Envelope,
        layout: &Layout,
        result_key: String,
    ) -> Result<WorkerSpec, AttemptError> {
        let config = self
            .parts
            .config
            .executors
            .get(&manifest.executor)
            .ok_or_else(|| AttemptError::NoBackend(manifest.executor.clone()))?;
        let limits = Limits {
            timeout_ms: envelope.limits.agent_timeout_ms + envelope.limits.grace_ms + WORKER_SLACK_MS,
            // The agent has its own grace; after that the worker still has to collect what the agent left.
            grace_ms: envelope.limits.grace_ms + WORKER_SLACK_MS,
            ..config.limits(envelope.limits.agent_timeout_ms)
        };
        Ok(WorkerSpec {
            dispatch: job.dispatch.clone(),
            envelope_dir: layout.envelope(),
            workspace_dir: layout.workspace(),
            result_dir: layout.result(),
            result_key,
            image: manifest.image.clone(),
            isolation: manifest.isolation,
            network: if manifest.network == "host" { Network::Host } else { Network::None },
            limits,
        })
    }
}

#[async_trait]
impl Executor for DispatchExecutor {
    async fn prepare(&self, fire: &Fire, run: &RunState) -> Result<Option<Digest>, PrepareError> {
        self.prepare_attempt(fire, run).await.map(Some)
    }

    fn start(&self, job: Job, report: Reporter) {
        let (executor, busy) = (self.clone(), self.busy.begin());
        tokio::spawn(async move {
            let end = match executor.run(&job).await {
                Ok(end) => end,
                Err(error) if executor.parts.patience == Patience::OneLook && error.is_passing() => {
                    tracing::warn!(dispatch = %job.dispatch, error = %causes(&error), "cannot be looked at now");
                    None
                }
                Err(error) => Some(AttemptEnd { status: error.status(), evidence: Evidence::default() }),
            };
            if let Some(end) = end {
                // The driver is gone only when the process ends; the next one adopts the worker.
                let _ = report.send(Report { job, end });
            }
            drop(busy);
        });
    }

    fn stop(&self, dispatch: &DispatchId) {
        held(&self.cancelled).insert(dispatch.clone());
        let home = held(&self.homes).get(dispatch).cloned();
        let places = match (home, self.parts.patience) {
            (Some(home), _) => vec![(home.backend, home.grace)],
            // It may run without that this process ever looked closer.
            (None, Patience::OneLook) => {
                self.backends().into_iter().map(|backend| (backend, Duration::ZERO)).collect()
            }
            // Whoever starts it now looks for that.
            (None, Patience::UntilTheEnd) => return,
        };
        let (dispatch, busy) = (dispatch.clone(), self.busy.begin());
        tokio::spawn(async move {
            let _busy = busy;
            for (backend, grace) in places {
                if let Err(error) = backend.cancel(&dispatch, grace).await {
                    tracing::warn!(%dispatch, error = %causes(&error), "cannot stop the worker; its time limit still holds");
                }
            }
        });
    }

    fn forget(&self, dispatch: &DispatchId) {
        held(&self.cancelled).remove(dispatch);
        held(&self.turns).remove(dispatch);
        let home = held(&self.homes).remove(dispatch);
        // An attempt may end before it is known where it runs, and have left something there.
        let backends = home.map_or_else(|| self.backends(), |home| vec![home.backend]);
        let (dispatch, dir, busy) = (dispatch.clone(), self.dispatch_dir(dispatch), self.busy.begin());
        tokio::spawn(async move {
            clean_up(backends, dispatch, dir).await;
            drop(busy);
        });
    }

    async fn sweep(&self, running: &HashSet<DispatchId>) {
        let mut seen = HashSet::new();
        for backend in self.parts.backends.values() {
            for dispatch in backend.list().await.unwrap_or_default() {
                if !running.contains(&dispatch) && seen.insert(dispatch.clone()) {
                    let dir = self.dispatch_dir(&dispatch);
                    clean_up(vec![backend.clone()], dispatch, dir).await;
                }
            }
        }
        let dir = self.parts.config.state.join("dispatches");
        for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
            let dispatch = entry.file_name().to_str().and_then(|name| DispatchId::new(name).ok());
            if dispatch.is_some_and(|dispatch| !running.contains(&dispatch)) {
                let _ = stage::remove_tree(&entry.path());
            }
        }
    }
}

#[async_trait]
impl Attempts for DispatchExecutor {
    async fn settled(&self) {
        self.busy.ended().await;
    }
}

/// Counts tasks.
#[derive(Debug, Clone, Default)]
struct Busy(Arc<watch::Sender<usize>>);

/// One task.
struct Task(Busy);

impl Busy {
    fn begin(&self) -> Task {
        self.0.send_modify(|count| *count += 1);
        Task(self.clone())
    }

    async fn ended(&self) {
        // Fails only without a sender, and that is here.
        let _ = self.0.subscribe().wait_for(|count| *count == 0).await;
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        self.0.0.send_modify(|count| *count -= 1);
    }
}

async fn clean_up(backends: Vec<Arc<dyn WorkerBackend>>, dispatch: DispatchId, dir: PathBuf) {
    for backend in backends {
        if let Err(error) = backend.remove(&dispatch).await {
            tracing::warn!(%dispatch, error = %causes(&error), "cannot remove the ended worker");
            return;
        }
    }
    let removed = tokio::task::spawn_blocking(move || stage::remove_tree(&dir)).await;
    if let Ok(Err(error)) = removed {
        tracing::warn!(%dispatch, %error, "cannot remove the directory of an ended dispatch");
    }
}
