//! A deployment on this machine: SQLite, directories, processes and Docker.

use std::{collections::BTreeMap, future::Future, path::PathBuf, sync::Arc, time::Duration};

use async_trait::async_trait;
use pangolin_blob_fs::FsBlobStore;
use pangolin_inbox_dir::DirInbox;
use pangolin_orchestrator::{causes::causes, driver};
use pangolin_ports::{
    blob_store::BlobStore, inbox::Inbox, run_store::RunStoreError, worker_backend::WorkerBackend,
};
use pangolin_store_sqlite::{ChangeWatch, Options, SqliteRunStore};
use pangolin_worker_docker::DockerBackend;
use pangolin_worker_process::{ProcessBackend, SupervisorCommand};

use super::{
    Deployment, RuntimeError,
    outside::Outside,
    place::{EngineParts, LedgerWatch, LocalLedger, PAUSE, Place, Stores, holder},
};
use crate::{
    config::{BackendKind, Config},
    dispatch::{Patience, Workspaces},
    keys,
    leadership::FileLeadership,
    plugins::Plugins,
    secrets::LocalSecrets,
};

/// First and longest pause after a failure of the anchor.
const ANCHOR_PAUSE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

#[async_trait]
impl LocalLedger for SqliteRunStore {
    async fn changed(&self) -> Result<(), RunStoreError> {
        Self::changed(self).await
    }

    fn watch(&self) -> Result<Box<dyn LedgerWatch>, RunStoreError> {
        Ok(Box::new(Self::watch(self)?))
    }

    async fn check(&self) -> Result<Vec<String>, RunStoreError> {
        Self::check(self).await
    }
}

#[async_trait]
impl LedgerWatch for ChangeWatch {
    async fn changed(&mut self) -> Result<(), RunStoreError> {
        Self::changed(self).await
    }
}

/// Tells of changes of a ledger.
pub(super) enum Watch {
    /// As they happen.
    Local(Box<dyn LedgerWatch>),
    /// Now and then there may have been one.
    Pause,
}

impl Watch {
    /// Resolves when something may have changed since the last call.
    pub(super) async fn changed(&mut self) -> Result<(), RuntimeError> {
        match self {
            Self::Local(watch) => Ok(watch.changed().await?),
            Self::Pause => {
                tokio::time::sleep(PAUSE).await;
                Ok(())
            }
        }
    }
}

impl Deployment {
    pub(super) fn watch(&self) -> Result<Watch, RuntimeError> {
        match &self.place {
            Place::Here { store, .. } => Ok(Watch::Local(store.watch()?)),
            Place::Stack { .. } => Ok(Watch::Pause),
        }
    }

    /// Opens the deployment of a configuration. Cheap: no plugin is loaded, no backend asked.
    ///
    /// # Errors
    /// [`RuntimeError`]; a missing key says to run `pangolin init`.
    pub async fn open(config: Config) -> Result<Self, RuntimeError> {
        let key = keys::load(&config.state)?;
        let store = Arc::new(SqliteRunStore::open(config.state.join("ledger.db"), Options::default())?);
        let outside = Outside::open(&config).await?;
        let blobs: Arc<dyn BlobStore> = match outside.blobs {
            Some(blobs) => blobs,
            None => Arc::new(FsBlobStore::open(config.state.join("blobs"))?),
        };
        let inbox: Arc<dyn Inbox> = match outside.inbox {
            Some(inbox) => inbox,
            None => Arc::new(DirInbox::open(config.state.join("inbox"))?),
        };
        let place = Place::Here { store: store.clone(), key, anchor: outside.anchor };
        Ok(Self::over(config, Stores { store, blobs, inbox }, place))
    }

    /// Problems of the ledger file, for `doctor`.
    ///
    /// # Errors
    /// [`RuntimeError::Store`].
    pub async fn check_ledger(&self) -> Result<Vec<String>, RuntimeError> {
        match &self.place {
            Place::Here { store, .. } => Ok(store.check().await?),
            Place::Stack { .. } => Err(RuntimeError::NotHere("the ledger".to_owned())),
        }
    }

    /// The worker program: `PANGOLIN_WORKER`, else `pangolin-worker` beside the running program.
    ///
    /// # Errors
    /// [`RuntimeError::NoWorker`].
    pub fn worker_program() -> Result<PathBuf, RuntimeError> {
        let path = match std::env::var_os("PANGOLIN_WORKER") {
            Some(path) => PathBuf::from(path),
            None => {
                let exe = std::env::current_exe()
                    .map_err(|source| RuntimeError::Io { path: "/proc/self/exe".into(), source })?;
                exe.with_file_name("pangolin-worker")
            }
        };
        if path.is_file() { Ok(path) } else { Err(RuntimeError::NoWorker(path)) }
    }

    /// One backend per executor of this machine; executors of the same kind share it.
    pub(crate) async fn backends(&self) -> Result<BTreeMap<String, Arc<dyn WorkerBackend>>, RuntimeError> {
        let worker = Self::worker_program()?;
        let mut process: Option<Arc<dyn WorkerBackend>> = None;
        let mut docker: Option<Arc<dyn WorkerBackend>> = None;
        let mut backends = BTreeMap::new();
        for (name, executor) in &self.config.executors {
            let failed = |source| RuntimeError::Backend { executor: name.clone(), source };
            let backend = match executor.backend {
                BackendKind::Process => match &process {
                    Some(backend) => backend.clone(),
                    None => {
                        let supervisor = SupervisorCommand::current_exe()
                            .map_err(|source| RuntimeError::Io { path: "/proc/self/exe".into(), source })?;
                        let opened =
                            ProcessBackend::open(self.config.state.join("workers"), supervisor, &worker);
                        process.insert(Arc::new(opened.map_err(failed)?)).clone()
                    }
                },
                BackendKind::Docker => match &docker {
                    Some(backend) => backend.clone(),
                    None => {
                        let opened = DockerBackend::connect(&worker).await;
                        docker.insert(Arc::new(opened.map_err(failed)?)).clone()
                    }
                },
                BackendKind::Fargate => {
                    return Err(RuntimeError::NotHere(format!("executor {name:?} is fargate, so it")));
                }
            };
            backends.insert(name.clone(), backend);
        }
        Ok(backends)
    }

    /// Drives the deployment until `shutdown` resolves. `on_lead` is called whenever this process leads.
    ///
    /// # Errors
    /// [`RuntimeError`].
    pub async fn serve(
        &self,
        on_lead: impl Fn() + Send + Sync + 'static,
        shutdown: impl Future<Output = ()> + Send,
    ) -> Result<(), RuntimeError> {
        let Place::Here { key, .. } = &self.place else {
            return Err(RuntimeError::NotHere("the deployment".to_owned()));
        };
        let plugins = Plugins::open_for_serving(&self.config)?;
        let engine = EngineParts {
            key: key.clone(),
            plugins,
            backends: self.backends().await?,
            secrets: Arc::new(LocalSecrets { dir: self.secret_dir() }),
            workspaces: match &self.config.workspace.repo {
                Some(repo) => Workspaces::Repository(repo.clone()),
                None => Workspaces::Empty,
            },
            patience: Patience::UntilTheEnd,
            leadership: Arc::new(FileLeadership::new(&self.config.state)),
            holder: holder()?,
            on_lead: Box::new(on_lead),
        };
        let (parts, _) = self.parts(engine)?;
        tokio::select! {
            served = driver::serve(parts, shutdown) => served?,
            never = self.keep_anchored() => match never? {},
        }
        // What was sealed last. The next `serve` or `audit` does it when this fails.
        self.anchor_now().await
    }

    /// Publishes seals at the anchor as they come. Ends with an error only.
    async fn keep_anchored(&self) -> Result<std::convert::Infallible, RuntimeError> {
        let mut watch = self.watch()?;
        let mut pause = ANCHOR_PAUSE.0;
        loop {
            match self.anchor_now().await {
                Ok(()) => {
                    pause = ANCHOR_PAUSE.0;
                    watch.changed().await?;
                }
                // Nothing is lost: the seals are in the ledger.
                Err(error) => {
                    tracing::warn!(error = %causes(&error), "seals cannot be anchored; trying again");
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(ANCHOR_PAUSE.1);
                }
            }
        }
    }
}
