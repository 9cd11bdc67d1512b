//! Driving a deployment: what the engine is put together from.

use std::{collections::BTreeMap, future::Future, path::PathBuf, sync::Arc};

use pangolin_orchestrator::{
    admission::Admission,
    driver::{self, Parts},
};
use pangolin_ports::worker_backend::WorkerBackend;
use pangolin_worker_docker::DockerBackend;
use pangolin_worker_process::{ProcessBackend, SupervisorCommand};

use super::{
    Deployment, RuntimeError,
    place::{EngineParts, Place, holder},
};
use crate::{
    config::BackendKind,
    dispatch::{DispatchExecutor, DispatchParts, Patience, RuntimeAdmission, Workspaces},
    leadership::FileLeadership,
    patterns::ComponentPatterns,
    plugins::Plugins,
    secrets::LocalSecrets,
};

impl Deployment {
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
        driver::serve(parts, shutdown).await?;
        Ok(())
    }

    /// What the driver works with.
    ///
    /// # Errors
    /// [`RuntimeError::Patterns`].
    pub(crate) fn parts(&self, engine: EngineParts) -> Result<(Parts, DispatchExecutor), RuntimeError> {
        let EngineParts {
            key,
            plugins,
            backends,
            secrets,
            workspaces,
            patience,
            leadership,
            holder,
            on_lead,
        } = engine;
        let problems = crate::patterns::problems(&self.config, &plugins);
        if !problems.is_empty() {
            return Err(RuntimeError::Patterns(problems));
        }
        let patterns = ComponentPatterns::new(self.config.clone(), plugins.clone(), self.blobs.clone());
        let admission: Arc<dyn Admission> = Arc::new(RuntimeAdmission {
            config: self.config.clone(),
            registry: self.registry.clone(),
            blobs: self.blobs.clone(),
            plugins: plugins.clone(),
            backends: backends.clone(),
            context: Arc::new(self.context()),
            workspaces: workspaces.clone(),
        });
        let executor = DispatchExecutor::new(DispatchParts {
            config: self.config.clone(),
            registry: self.registry.clone(),
            blobs: self.blobs.clone(),
            plugins,
            clock: self.clock.clone(),
            backends,
            secrets,
            workspaces,
            result_keys: key.results.clone(),
            patience,
        });
        let parts = Parts {
            store: self.store.clone(),
            blobs: self.blobs.clone(),
            inbox: self.inbox.clone(),
            clock: self.clock.clone(),
            key: key.signing,
            leadership,
            executor: Arc::new(executor.clone()),
            admission,
            patterns: Arc::new(patterns),
            queues: self.queue_policies(),
            holder,
            on_lead,
        };
        Ok((parts, executor))
    }
}
