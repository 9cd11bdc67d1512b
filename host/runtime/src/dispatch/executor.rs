//! The executor: one task per attempt, from staging to the report.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use pangolin_core::{
    entry::{Evidence, FailureClass, FailureReason},
    ids::{Digest, DispatchId},
    manifest::{DispatchManifest, NamedDigest},
    pins::Pins,
    scheduler::{AttemptEnd, AttemptStatus, Fire},
    state::RunState,
};
use pangolin_envelope::envelope::Envelope;
use pangolin_orchestrator::causes::causes;
use pangolin_orchestrator::executor::{Executor, Job, PrepareError, Report, Reporter};
use pangolin_plugin_host::AdapterComponent;
use pangolin_ports::{
    blob_store::BlobStore,
    clock::Clock,
    worker_backend::{BackendError, Limits, Network, WorkerBackend, WorkerSpec},
};
use thiserror::Error;

use super::{
    collect::{Ended, failed},
    prepare::{DOCUMENT_BYTES_MAX, dispatch_dir},
    stage::{self, Layout},
};
use crate::{
    config::Config,
    plugins::{Plugins, PluginsError},
    registry::Registry,
};

/// Beyond the item's own timeout: setup, gates, capture.
const WORKER_SLACK_MS: u64 = 30_000;

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
    /// Directory of `local-secret://`.
    pub secret_dir: PathBuf,
}

/// Runs attempts in workers. Cheap to clone.
#[derive(Clone)]
pub struct DispatchExecutor {
    pub(super) parts: Arc<DispatchParts>,
    pub(super) pins: Arc<Mutex<HashMap<Digest, Arc<Pins>>>>,
    cancelled: Arc<Mutex<HashSet<DispatchId>>>,
    /// Where each dispatch of this process runs.
    homes: Arc<Mutex<HashMap<DispatchId, Home>>>,
    /// Checking out a base commit happens once at a time.
    checkout: Arc<tokio::sync::Mutex<()>>,
}

/// Where a dispatch runs, and how long its worker has between the polite stop and the kill.
#[derive(Clone)]
struct Home {
    backend: Arc<dyn WorkerBackend>,
    grace: Duration,
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
}

impl AttemptError {
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
            Self::Stage(_) | Self::Backend(_) => (FailureReason::WorkerFailed, FailureClass::Infrastructure),
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
        let bytes = self
            .parts
            .blobs
            .get(&digest, DOCUMENT_BYTES_MAX)
            .await
            .map_err(|error| AttemptError::Document(causes(&error)))?;
        serde_json::from_slice(&bytes).map_err(|error| AttemptError::Document(format!("{digest}: {error}")))
    }

    fn is_cancelled(&self, dispatch: &DispatchId) -> bool {
        self.cancelled.lock().unwrap_or_else(PoisonError::into_inner).contains(dispatch)
    }

    async fn run(&self, job: &Job) -> Result<AttemptEnd, AttemptError> {
        let manifest: DispatchManifest = self.document(job.manifest).await?;
        let envelope: Envelope = self.document(manifest.envelope).await?;
        let backend = self
            .parts
            .backends
            .get(&manifest.executor)
            .cloned()
            .ok_or_else(|| AttemptError::NoBackend(manifest.executor.clone()))?;
        let layout = Layout { dir: self.dispatch_dir(&job.dispatch) };
        if self.is_cancelled(&job.dispatch) && !layout.is_staged() {
            return Ok(AttemptEnd { status: AttemptStatus::Cancelled, evidence: Evidence::default() });
        }
        let secrets = stage::resolve_secrets(&envelope, &self.parts.secret_dir)?;
        let template = match (&self.parts.config.workspace.repo, &manifest.base_commit) {
            (Some(repo), Some(commit)) if !layout.is_staged() => Some(self.template(repo, commit).await?),
            _ => None,
        };
        stage::stage(&layout, &envelope, &secrets, template.as_deref(), &*self.parts.blobs).await?;
        let spec = self.spec(job, &manifest, &envelope, &layout)?;
        let grace = Duration::from_millis(spec.limits.grace_ms);
        self.homes
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(job.dispatch.clone(), Home { backend: backend.clone(), grace });
        let started_at = self.parts.clock.now_ms();
        let started = backend.ensure(&spec).await?;
        tracing::debug!(run = %job.run, item = %job.item, attempt = job.attempt, adopted = started.adopted, "worker started");
        if self.is_cancelled(&job.dispatch) {
            backend.cancel(&job.dispatch, grace).await?;
        }
        let exit = backend.wait(&job.dispatch).await?;
        let ended = Ended {
            manifest: &manifest,
            envelope: &envelope,
            layout: &layout,
            exit,
            isolation: started.isolation,
            secrets: secrets.into_values().collect(),
            started_at,
            now: self.parts.clock.now_ms(),
        };
        Ok(self.collect(ended).await)
    }

    async fn template(&self, repo: &std::path::Path, commit: &str) -> Result<PathBuf, AttemptError> {
        let _one = self.checkout.lock().await;
        let (state, repo, commit) = (self.parts.config.state.clone(), repo.to_owned(), commit.to_owned());
        let made = tokio::task::spawn_blocking(move || stage::template(&state, &repo, &commit)).await;
        match made {
            Ok(made) => Ok(made?),
            Err(error) => Err(AttemptError::Document(error.to_string())),
        }
    }

    fn spec(
        &self,
        job: &Job,
        manifest: &DispatchManifest,
        envelope: &Envelope,
        layout: &Layout,
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
            result_key: layout.key()?,
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
        let executor = self.clone();
        tokio::spawn(async move {
            let end = match executor.run(&job).await {
                Ok(end) => end,
                Err(error) => AttemptEnd { status: error.status(), evidence: Evidence::default() },
            };
            // The driver is gone only when the process ends; the next one adopts the worker.
            let _ = report.send(Report { job, end });
        });
    }

    fn stop(&self, dispatch: &DispatchId) {
        self.cancelled.lock().unwrap_or_else(PoisonError::into_inner).insert(dispatch.clone());
        let home = self.homes.lock().unwrap_or_else(PoisonError::into_inner).get(dispatch).cloned();
        let Some(Home { backend, grace }) = home else { return };
        let dispatch = dispatch.clone();
        tokio::spawn(async move {
            if let Err(error) = backend.cancel(&dispatch, grace).await {
                tracing::warn!(%dispatch, error = %causes(&error), "cannot stop the worker; its time limit still holds");
            }
        });
    }

    fn forget(&self, dispatch: &DispatchId) {
        self.cancelled.lock().unwrap_or_else(PoisonError::into_inner).remove(dispatch);
        let home = self.homes.lock().unwrap_or_else(PoisonError::into_inner).remove(dispatch);
        let home = home.map(|home| home.backend);
        let (dispatch, dir) = (dispatch.clone(), self.dispatch_dir(dispatch));
        tokio::spawn(async move { clean_up(home, dispatch, dir).await });
    }

    async fn sweep(&self, running: &HashSet<DispatchId>) {
        let mut seen = HashSet::new();
        for backend in self.parts.backends.values() {
            for dispatch in backend.list().await.unwrap_or_default() {
                if !running.contains(&dispatch) && seen.insert(dispatch.clone()) {
                    let dir = self.dispatch_dir(&dispatch);
                    clean_up(Some(backend.clone()), dispatch, dir).await;
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

async fn clean_up(backend: Option<Arc<dyn WorkerBackend>>, dispatch: DispatchId, dir: PathBuf) {
    if let Some(backend) = backend
        && let Err(error) = backend.remove(&dispatch).await
    {
        tracing::warn!(%dispatch, error = %causes(&error), "cannot remove the ended worker");
        return;
    }
    let removed = tokio::task::spawn_blocking(move || stage::remove_tree(&dir)).await;
    if let Ok(Err(error)) = removed {
        tracing::warn!(%dispatch, %error, "cannot remove the directory of an ended dispatch");
    }
}
