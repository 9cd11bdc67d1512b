//! The backend itself.

use std::{
    collections::HashMap,
    fs::File,
    io,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use async_trait::async_trait;
use bollard::{
    Docker,
    query_parameters::{
        CreateContainerOptionsBuilder, CreateImageOptionsBuilder, InspectContainerOptions,
        ListContainersOptionsBuilder, RemoveContainerOptionsBuilder, StartContainerOptions,
        WaitContainerOptionsBuilder,
    },
};
use futures_util::{StreamExt, TryStreamExt};
use pangolin_core::{
    entry::{Isolation, IsolationUsed},
    ids::DispatchId,
};
use pangolin_ports::worker_backend::{BackendError, Network, Started, WorkerBackend, WorkerExit, WorkerSpec};

use crate::{
    container::{LABEL_DEPLOYMENT, LABEL_DISPATCH, Memo, Phase, Seen, describe, name},
    directories,
    engine::{self, failed, is_not_found, status},
    guard::{Follower, Guard, now, signal},
    output,
    stop::{self, Reason, Stop},
};

/// How to use the engine.
#[derive(Debug, Clone)]
pub struct DockerOptions {
    /// Statically linked worker binary on this machine; mounted into every container.
    pub worker_binary: PathBuf,
    /// Containers carry this name and a backend lists only those with its own. Distinct deployments on one engine
    /// need distinct names.
    pub deployment: String,
    /// Pull an image that is not there. Otherwise that is an error.
    pub pull: bool,
    /// The engine's unix socket; default: `DOCKER_HOST`, then `/var/run/docker.sock`.
    pub socket: Option<PathBuf>,
}

impl DockerOptions {
    /// Defaults for a worker binary: deployment `default`, no pulling, the usual socket.
    #[must_use]
    pub fn new(worker_binary: impl Into<PathBuf>) -> Self {
        Self {
            worker_binary: worker_binary.into(),
            deployment: "default".to_owned(),
            pull: false,
            socket: None,
        }
    }
}

/// Runs workers in Docker containers. Offers the level `container`.
///
/// Network `none` means a network namespace with nothing but its own loopback; `host` means the host's network
/// namespace, with everything that listens on the host's loopback.
pub struct DockerBackend {
    docker: Docker,
    options: DockerOptions,
    info: tokio::sync::OnceCell<bollard::models::SystemInfo>,
    guards: Mutex<HashMap<DispatchId, Guard>>,
}

fn other(context: impl Into<String>) -> impl FnOnce(io::Error) -> BackendError {
    let context = context.into();
    move |source| BackendError::Other { context, source: Box::new(source) }
}

impl DockerBackend {
    /// [`Self::open`] with [`DockerOptions::new`].
    ///
    /// # Errors
    /// See [`Self::open`].
    pub async fn connect(worker_binary: impl Into<PathBuf>) -> Result<Self, BackendError> {
        Self::open(DockerOptions::new(worker_binary)).await
    }

    /// Connects to the engine and takes over the running containers of this deployment, deadlines included. Needs
    /// a tokio runtime, which also runs the deadlines.
    ///
    /// # Errors
    /// [`BackendError::Unavailable`] when no engine answers.
    pub async fn open(mut options: DockerOptions) -> Result<Self, BackendError> {
        options.worker_binary =
            std::path::absolute(&options.worker_binary).map_err(other("make the worker's path absolute"))?;
        let docker = engine::connect(options.socket.clone()).await?;
        let backend = Self { docker, options, info: tokio::sync::OnceCell::new(), guards: Mutex::default() };
        for dispatch in backend.listed(false).await? {
            backend.guard(&dispatch, None);
        }
        Ok(backend)
    }

    fn guards(&self) -> MutexGuard<'_, HashMap<DispatchId, Guard>> {
        self.guards.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Watches a container from now on.
    fn guard(&self, dispatch: &DispatchId, follower: Option<Follower>) {
        let start = || Guard::start(self.docker.clone(), dispatch.clone(), follower);
        self.guards().entry(dispatch.clone()).or_insert_with(start);
    }

    /// Dispatches with a container, all or only running ones.
    async fn listed(&self, all: bool) -> Result<Vec<DispatchId>, BackendError> {
        let label = format!("{LABEL_DEPLOYMENT}={}", self.options.deployment);
        let filters = HashMap::from([("label".to_owned(), vec![label])]);
        let options = ListContainersOptionsBuilder::default().all(all).filters(&filters).build();
        let list = self.docker.list_containers(Some(options)).await.map_err(failed("list the containers"))?;
        let ids =
            list.into_iter().filter_map(|item| DispatchId::new(item.labels?.remove(LABEL_DISPATCH)?).ok());
        let mut ids: Vec<_> = ids.collect();
        ids.sort();
        Ok(ids)
    }

    async fn see(&self, dispatch: &DispatchId) -> Result<Option<Seen>, BackendError> {
        let name = name(dispatch);
        match self.docker.inspect_container(&name, None::<InspectContainerOptions>).await {
            Err(error) if is_not_found(&error) => Ok(None),
            Err(error) => Err(failed(format!("look at container {name}"))(error)),
            Ok(answer) => Seen::read(answer, dispatch)
                .map(Some)
                .map_err(|problem| BackendError::Unsupported { dispatch: dispatch.clone(), problem }),
        }
    }

    /// The image's id, pulling it if that is wanted.
    async fn image(&self, spec: &WorkerSpec) -> Result<String, BackendError> {
        let Some(image) = &spec.image else {
            let problem =
                "containers need an image; set one for the item, the executor or in the configuration";
            return Err(BackendError::Unsupported {
                dispatch: spec.dispatch.clone(),
                problem: problem.to_owned(),
            });
        };
        let unavailable = |detail: String| BackendError::Image { image: image.clone(), detail };
        for attempt in 0..2 {
            match self.docker.inspect_image(image).await {
                Ok(answer) => return answer.id.ok_or_else(|| unavailable("it has no id".to_owned())),
                Err(error) if is_not_found(&error) && self.options.pull && attempt == 0 => {
                    let options = CreateImageOptionsBuilder::default().from_image(image).build();
                    let mut pull = Box::pin(self.docker.create_image(Some(options), None, None));
                    while let Some(step) = pull.next().await {
                        step.map_err(|error| unavailable(format!("pulling it failed: {error}")))?;
                    }
                }
                Err(error) if is_not_found(&error) => {
                    return Err(unavailable(format!(
                        "the engine does not have it; try `docker pull {image}`"
                    )));
                }
                Err(error) => return Err(failed(format!("look at image {image}"))(error)),
            }
        }
        Err(unavailable("it was pulled but is not there".to_owned()))
    }

    fn check(&self, spec: &WorkerSpec) -> Result<(), BackendError> {
        let unsupported =
            |problem: String| BackendError::Unsupported { dispatch: spec.dispatch.clone(), problem };
        let worker = &self.options.worker_binary;
        if !worker.is_file() {
            return Err(unsupported(format!("there is no worker binary at {}", worker.display())));
        }
        let dirs = [
            ("envelope", &spec.envelope_dir),
            ("workspace", &spec.workspace_dir),
            ("result", &spec.result_dir),
        ];
        for (what, dir) in dirs {
            if !dir.is_absolute() || !dir.is_dir() || dir.to_str().is_none() {
                let problem =
                    format!("its {what} directory {} is not an absolute, existing one", dir.display());
                return Err(unsupported(problem));
            }
        }
        Ok(())
    }

    async fn create(&self, spec: &WorkerSpec) -> Result<(), BackendError> {
        let mut isolation = self.probe(spec.isolation, spec.network).await?;
        let image = self.image(spec).await?;
        isolation.image = Some(image.clone());
        let owner = {
            let owned = spec.clone();
            let task = tokio::task::spawn_blocking(move || directories::settle(&owned));
            let context = format!("prepare the directories of {}", spec.dispatch);
            task.await.map_err(io::Error::other).flatten().map_err(other(context))?
        };
        let memo = Memo {
            isolation,
            limits: spec.limits,
            envelope_dir: spec.envelope_dir.clone(),
            result_dir: spec.result_dir.clone(),
        };
        // By id: what was looked at is what runs, also if the tag moves meanwhile.
        let body =
            describe(spec, &self.options.worker_binary, &image, &self.options.deployment, owner, &memo);
        let name = name(&spec.dispatch);
        let options = CreateContainerOptionsBuilder::default().name(&name).build();
        let created = match self.docker.create_container(Some(options), body).await {
            // Somebody who does not share our lock was faster; the caller looks again.
            Err(error) if status(&error) == Some(409) => return Ok(()),
            answer => answer.map_err(failed(format!("create container {name}")))?,
        };
        if let Some(warning) = created.warnings.iter().find(|text| text.to_lowercase().contains("discarded"))
        {
            self.discard(&name).await?;
            return Err(BackendError::IsolationUnavailable {
                requested: spec.isolation,
                missing: format!("the engine cannot enforce a limit: {warning}"),
            });
        }
        Ok(())
    }

    async fn discard(&self, name: &str) -> Result<(), BackendError> {
        let options = RemoveContainerOptionsBuilder::default().force(true).v(true).build();
        match self.docker.remove_container(name, Some(options)).await {
            Err(error) if is_not_found(&error) => Ok(()),
            Err(error) if status(&error) == Some(409) => {
                // Somebody else is removing it; wait until that is done.
                let wait = WaitContainerOptionsBuilder::default().condition("removed").build();
                let _ended = self.docker.wait_container(name, Some(wait)).try_collect::<Vec<_>>().await;
                Ok(())
            }
            answer => answer.map_err(failed(format!("remove container {name}"))),
        }
    }

    /// Starts the container unless it ever ran. Call with the dispatch's lock held.
    async fn start_once(&self, spec: &WorkerSpec) -> Result<(Started, Option<Follower>), BackendError> {
        let name = name(&spec.dispatch);
        // A create request of a host that died is still being processed: its name is taken, but there is nothing to
        // look at yet.
        let patience = Instant::now() + CREATE_PATIENCE;
        let mut before = false;
        while Instant::now() < patience {
            if std::mem::replace(&mut before, true) {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            let Some(seen) = self.see(&spec.dispatch).await? else {
                self.check(spec)?;
                self.create(spec).await?;
                continue;
            };
            let started = |adopted| Started { isolation: seen.memo.isolation.clone(), adopted };
            if seen.phase != Phase::Created || stop::read(&seen.memo.envelope_dir).is_some() {
                return Ok((started(true), None));
            }
            let attached = output::attach(&self.docker, &seen.id).await;
            let attached = attached.map_err(failed(format!("attach to container {name}")))?;
            let follower = Follower::start(attached, seen.memo.clone());
            return match self.docker.start_container(&seen.id, None::<StartContainerOptions>).await {
                Ok(()) => Ok((started(false), Some(follower))),
                Err(error) => {
                    if status(&error).is_some() {
                        // Refused, so it never ran; a later attempt must not find this one.
                        self.discard(&name).await?;
                    }
                    Err(failed(format!("start container {name}"))(error))
                }
            };
        }
        Err(BackendError::Unavailable(format!(
            "container {name} neither exists nor can be created; is somebody removing it?"
        )))
    }
}

/// How long a container may stay between taken name and existence.
const CREATE_PATIENCE: Duration = Duration::from_secs(30);

/// Exclusive among all hosts that share this directory; released when dropped or when this process ends.
async fn lock(envelope_dir: &Path, dispatch: &DispatchId) -> Result<File, BackendError> {
    let dir = envelope_dir.to_owned();
    let task = tokio::task::spawn_blocking(move || {
        let dir = File::open(dir)?;
        dir.lock()?;
        Ok(dir)
    });
    let locked = task.await.map_err(io::Error::other).flatten();
    locked.map_err(other(format!("lock the envelope directory {} of {dispatch}", envelope_dir.display())))
}

#[async_trait]
impl WorkerBackend for DockerBackend {
    async fn probe(&self, level: Isolation, network: Network) -> Result<IsolationUsed, BackendError> {
        if level != Isolation::Container {
            let missing =
                "this backend runs containers only; configure host workers for this executor".to_owned();
            return Err(BackendError::IsolationUnavailable { requested: level, missing });
        }
        let info = self
            .info
            .get_or_try_init(|| self.docker.info())
            .await
            .map_err(failed("ask the engine for its abilities"))?;
        engine::isolation(info, network)
    }

    async fn ensure(&self, spec: &WorkerSpec) -> Result<Started, BackendError> {
        if spec.isolation != Isolation::Container {
            self.probe(spec.isolation, spec.network).await?;
        }
        let lock = lock(&spec.envelope_dir, &spec.dispatch).await?;
        let (started, follower) = self.start_once(spec).await?;
        drop(lock);
        self.guard(&spec.dispatch, follower);
        Ok(started)
    }

    async fn wait(&self, dispatch: &DispatchId) -> Result<WorkerExit, BackendError> {
        loop {
            let exit = self.guards().get(dispatch).map(|guard| guard.exit.clone());
            if let Some(mut exit) = exit {
                // An error means that the dispatch was removed meanwhile.
                if let Ok(Some(exit)) = exit.wait_for(Option::is_some).await.as_deref() {
                    return Ok(exit.clone());
                }
            }
            let lost = |detail: &str| Ok(WorkerExit::Lost { detail: detail.to_owned() });
            match self.see(dispatch).await? {
                None => return lost("the engine has no container of it"),
                Some(seen) if seen.phase == Phase::Created => {
                    return match stop::read(&seen.memo.envelope_dir) {
                        Some(Stop { reason: Reason::Cancelled, .. }) => Ok(WorkerExit::Cancelled),
                        _ => lost("its container was created but never started"),
                    };
                }
                Some(_) => self.guard(dispatch, None),
            }
        }
    }

    async fn cancel(&self, dispatch: &DispatchId, grace: Duration) -> Result<(), BackendError> {
        let Some(seen) = self.see(dispatch).await? else { return Ok(()) };
        if !matches!(seen.phase, Phase::Created | Phase::Running) {
            return Ok(());
        }
        let kill_at = now().saturating_add(i64::try_from(grace.as_millis()).unwrap_or(i64::MAX));
        let (dir, stop) = (seen.memo.envelope_dir.clone(), Stop { reason: Reason::Cancelled, kill_at });
        let noted = tokio::task::spawn_blocking(move || stop::note(&dir, stop)).await;
        noted
            .map_err(io::Error::other)
            .flatten()
            .map_err(other(format!("note that {dispatch} is cancelled")))?;
        if seen.phase == Phase::Running {
            signal(&self.docker, &seen.id, "SIGTERM")
                .await
                .map_err(failed(format!("stop the worker of {dispatch}")))?;
            self.guard(dispatch, None);
            if let Some(guard) = self.guards().get(dispatch) {
                guard.kill_at.send_modify(|at| *at = Some(at.map_or(kill_at, |at| at.min(kill_at))));
            }
        }
        Ok(())
    }

    async fn remove(&self, dispatch: &DispatchId) -> Result<(), BackendError> {
        if let Some(seen) = self.see(dispatch).await? {
            self.discard(&name(dispatch)).await?;
            stop::forget(&seen.memo.envelope_dir);
        }
        self.guards().remove(dispatch);
        Ok(())
    }

    async fn list(&self) -> Result<Vec<DispatchId>, BackendError> {
        self.listed(true).await
    }
}
