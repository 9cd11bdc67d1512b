//! The backend: stages records, spawns supervisors, waits for them.

use std::{
    collections::HashMap,
    ffi::OsString,
    fs::DirBuilder,
    io,
    os::{fd::OwnedFd, unix::fs::DirBuilderExt},
    path::{Path, PathBuf},
    process::Stdio,
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};

use async_trait::async_trait;
use pangolin_core::{
    entry::{Isolation, IsolationUsed},
    ids::DispatchId,
};
use pangolin_ports::worker_backend::{BackendError, Network, Started, WorkerBackend, WorkerExit, WorkerSpec};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Interest, unix::AsyncFd},
    sync::OnceCell,
};

use crate::{
    identity::Identity,
    probe,
    record::{Cancel, Exit, Intent, Record, SUPERVISOR_STDERR, sweep},
    supervise::{Answer, Order, inherited_environment},
    tree,
};

/// How to start a program that calls [`supervise_main`](crate::supervise_main): program and leading arguments,
/// e.g. the `pangolin` binary itself and [`SUPERVISE_COMMAND`](crate::SUPERVISE_COMMAND).
#[derive(Debug, Clone)]
pub struct SupervisorCommand {
    /// The program.
    pub program: PathBuf,
    /// Its arguments.
    pub arguments: Vec<OsString>,
}

impl SupervisorCommand {
    /// The running program with the hidden subcommand [`SUPERVISE_COMMAND`](crate::SUPERVISE_COMMAND).
    ///
    /// # Errors
    /// When the path of the running program cannot be found out.
    pub fn current_exe() -> io::Result<Self> {
        Ok(Self { program: std::env::current_exe()?, arguments: vec![crate::SUPERVISE_COMMAND.into()] })
    }
}

/// Runs workers as processes of this host. Offers the levels `none` (with the host's network only, because a plain
/// process cannot be kept from it) and `sandbox` (if the worker's probe agrees).
pub struct ProcessBackend {
    state_dir: PathBuf,
    supervisor: SupervisorCommand,
    worker: PathBuf,
    sandbox: [OnceCell<IsolationUsed>; 2],
    starting: Mutex<HashMap<DispatchId, Weak<tokio::sync::Mutex<()>>>>,
}

fn other(context: impl Into<String>) -> impl FnOnce(io::Error) -> BackendError {
    let context = context.into();
    move |source| BackendError::Other { context, source: Box::new(source) }
}

impl ProcessBackend {
    /// Opens the backend on `state_dir` (created if missing, mode 0700) with the worker binary at `worker`.
    /// Workers started by an earlier process on the same directory are found again.
    ///
    /// # Errors
    /// [`BackendError::Other`] when the directory cannot be used or the supervisor program does not exist.
    pub fn open(
        state_dir: impl Into<PathBuf>,
        supervisor: SupervisorCommand,
        worker: impl Into<PathBuf>,
    ) -> Result<Self, BackendError> {
        let state_dir: PathBuf = state_dir.into();
        let context = || format!("open worker state directory {}", state_dir.display());
        DirBuilder::new().recursive(true).mode(0o700).create(&state_dir).map_err(other(context()))?;
        // Supervisors run with another working directory.
        let state_dir = state_dir.canonicalize().map_err(other(context()))?;
        sweep(&state_dir).map_err(other(context()))?;
        let program = supervisor.program.canonicalize();
        let program = program.map_err(other(format!("find supervisor {}", supervisor.program.display())))?;
        let supervisor = SupervisorCommand { program, ..supervisor };
        let worker = std::path::absolute(worker.into()).map_err(other("make the worker's path absolute"))?;
        Ok(Self { state_dir, supervisor, worker, sandbox: Default::default(), starting: Mutex::default() })
    }

    fn record(&self, dispatch: &DispatchId) -> Record {
        Record::at(self.state_dir.join(dispatch.as_str()))
    }

    /// One lock per dispatch being started, so that one process spawns at most one supervisor for it at a time.
    /// Between processes the claim decides.
    fn starting(&self, dispatch: &DispatchId) -> Arc<tokio::sync::Mutex<()>> {
        let mut starting = self.starting.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(lock) = starting.get(dispatch).and_then(Weak::upgrade) {
            return lock;
        }
        starting.retain(|_, lock| lock.strong_count() > 0);
        let lock = Arc::default();
        starting.insert(dispatch.clone(), Arc::downgrade(&lock));
        lock
    }

    fn adopted(&self, record: &Record) -> io::Result<Option<Started>> {
        if record.claim()?.is_none() {
            return Ok(None);
        }
        let intent = record.intent()?.ok_or_else(|| {
            io::Error::other(format!("{} has a claim but no intent", record.dir().display()))
        })?;
        Ok(Some(Started { isolation: intent.isolation, adopted: true }))
    }

    fn check(&self, spec: &WorkerSpec) -> Result<(), BackendError> {
        let unsupported =
            |problem: String| BackendError::Unsupported { dispatch: spec.dispatch.clone(), problem };
        if !self.worker.is_file() {
            return Err(unsupported(format!("there is no worker binary at {}", self.worker.display())));
        }
        let dirs = [
            ("envelope", &spec.envelope_dir),
            ("workspace", &spec.workspace_dir),
            ("result", &spec.result_dir),
        ];
        for (what, dir) in dirs {
            if !dir.is_absolute() || !dir.is_dir() {
                let problem =
                    format!("its {what} directory {} is not an absolute, existing one", dir.display());
                return Err(unsupported(problem));
            }
        }
        Ok(())
    }

    async fn start(&self, spec: &WorkerSpec, record: &Record) -> Result<Started, BackendError> {
        let asked = || format!("start the worker of {}", spec.dispatch);
        let order = Order {
            record_dir: record.dir().to_owned(),
            worker: self.worker.clone(),
            envelope_dir: spec.envelope_dir.clone(),
            workspace_dir: spec.workspace_dir.clone(),
            result_dir: spec.result_dir.clone(),
            result_key: spec.result_key.clone(),
            limits: spec.limits,
        };
        let order = serde_json::to_vec(&order).map_err(io::Error::from).map_err(other(asked()))?;
        let stderr = record.supervisor_stderr().map_err(other(asked()))?;
        let mut command = tokio::process::Command::new(&self.supervisor.program);
        command
            .args(&self.supervisor.arguments)
            .env_clear()
            .envs(inherited_environment())
            .current_dir(record.dir())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(stderr);
        let mut child = command.spawn().map_err(other(format!(
            "{}: run {}",
            asked(),
            self.supervisor.program.display()
        )))?;
        let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
        // Only to collect the child when it ends; dropping this task with the runtime does not harm it.
        tokio::spawn(async move { child.wait().await });
        let missing = || io::Error::other("the supervisor has no pipe");
        let mut stdin = stdin.ok_or_else(missing).map_err(other(asked()))?;
        let stdout = stdout.ok_or_else(missing).map_err(other(asked()))?;
        // A supervisor that died early shows as a missing answer, which says more than a broken pipe.
        let _ = stdin.write_all(&order).await;
        drop(stdin);
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line).await.map_err(other(asked()))?;
        match serde_json::from_str(&line) {
            Ok(Answer::Started) => {
                let intent = record.intent().map_err(other(asked()))?;
                let isolation = intent.ok_or_else(missing).map_err(other(asked()))?.isolation;
                Ok(Started { isolation, adopted: false })
            }
            Ok(Answer::ClaimedBefore) => self.adopted(record).map_err(other(asked()))?.ok_or_else(|| {
                BackendError::Unavailable(format!("{}: another start of it just failed; try again", asked()))
            }),
            Ok(Answer::Failed { detail }) => Err(other(asked())(io::Error::other(detail))),
            Err(_) => {
                let said = std::fs::read_to_string(record.dir().join(SUPERVISOR_STDERR)).unwrap_or_default();
                let said = said.lines().last().unwrap_or("it said nothing").to_owned();
                let program = self.supervisor.program.display();
                Err(BackendError::Unavailable(format!(
                    "{}: supervisor {program} ended early: {said}",
                    asked()
                )))
            }
        }
    }

    /// The recorded end, or whom to wait for.
    async fn look(&self, dispatch: &DispatchId) -> io::Result<Look> {
        let record = self.record(dispatch);
        if let Some(exit) = record.exit()? {
            return Ok(Look::Ended(exit));
        }
        let lost = |detail: &str| Look::Ended(Exit::Lost { detail: detail.to_owned() });
        let Some(supervisor) = record.claim()? else {
            let seen = if record.exists() { "it was recorded but never started" } else { "no record of it" };
            return Ok(lost(seen));
        };
        if let Some(pin) = supervisor.pin() {
            return Ok(Look::Running(pin));
        }
        // Gone. Its last act was the record, so look once more before calling it lost.
        let id = dispatch.clone();
        let task = tokio::task::spawn_blocking(move || bury(&record, &supervisor, &id));
        task.await.map_err(io::Error::other)?
    }
}

#[expect(
    deprecated,
    reason = "its replacement is an unsafe fn; owning the descriptor is what makes this sound"
)]
fn watch(pin: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    AsyncFd::with_interest(pin, Interest::READABLE)
}

enum Look {
    Ended(Exit),
    Running(OwnedFd),
}

/// Cleans up after a supervisor that ended without a record, and makes that the record.
fn bury(record: &Record, supervisor: &Identity, dispatch: &DispatchId) -> io::Result<Look> {
    let guard = match record.lock() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Ok(Look::Ended(Exit::Lost { detail: "its record was removed".to_owned() }));
        }
        guard => guard?,
    };
    if record.exit()?.is_none() {
        let detail = if supervisor.is_of_this_boot() {
            let result_dir = record.intent()?.map(|intent| intent.result_dir).unwrap_or_default();
            tree::kill_remains(supervisor, record.worker()?.as_ref(), dispatch.as_str(), &result_dir);
            tracing::warn!(%dispatch, "supervisor gone without a record; killed what was left");
            format!(
                "its supervisor (pid {}) is gone without a record; what was left was killed",
                supervisor.pid
            )
        } else {
            "the host was restarted while it ran".to_owned()
        };
        record.write_exit(&Exit::Lost { detail })?;
    }
    drop(guard);
    let exit = record.exit()?;
    Ok(Look::Ended(exit.unwrap_or_else(|| Exit::Lost { detail: "its record was removed".to_owned() })))
}

#[async_trait]
impl WorkerBackend for ProcessBackend {
    async fn probe(&self, level: Isolation, network: Network) -> Result<IsolationUsed, BackendError> {
        let unavailable = |missing: &str| {
            Err(BackendError::IsolationUnavailable { requested: level, missing: missing.to_owned() })
        };
        match (level, network) {
            (Isolation::None, Network::Host) => Ok(IsolationUsed {
                level,
                mechanisms: Vec::new(),
                network: probe::network_name(network).to_owned(),
                image: None,
            }),
            (Isolation::None, Network::None) => unavailable(
                "a plain process cannot be kept from the network; ask for network host, or for isolation sandbox",
            ),
            (Isolation::Sandbox, _) => {
                // Only success is remembered: what is missing may be installed meanwhile.
                let cell = &self.sandbox[usize::from(network == Network::Host)];
                cell.get_or_try_init(|| probe::sandbox(&self.worker, network)).await.cloned()
            }
            (Isolation::Container, _) => unavailable(
                "host processes are no containers; configure the Docker backend for this executor",
            ),
        }
    }

    async fn ensure(&self, spec: &WorkerSpec) -> Result<Started, BackendError> {
        let lock = self.starting(&spec.dispatch);
        let _guard = lock.lock().await;
        let record = self.record(&spec.dispatch);
        let context = || format!("use the record {}", record.dir().display());
        if let Some(started) = self.adopted(&record).map_err(other(context()))? {
            return Ok(started);
        }
        let isolation = self.probe(spec.isolation, spec.network).await?;
        self.check(spec)?;
        let intent =
            Intent { isolation, result_dir: spec.result_dir.clone(), grace_ms: spec.limits.grace_ms };
        record.create(&intent).map_err(other(context()))?;
        self.start(spec, &record).await
    }

    async fn wait(&self, dispatch: &DispatchId) -> Result<WorkerExit, BackendError> {
        let context = || format!("wait for the worker of {dispatch}");
        loop {
            match self.look(dispatch).await.map_err(other(context()))? {
                Look::Ended(exit) => {
                    let record = self.record(dispatch);
                    // Nobody needs to wait for the disk: without this record the dispatch reads as lost.
                    tokio::task::spawn_blocking(move || record.sync_exit());
                    return Ok(exit.into());
                }
                Look::Running(pin) => {
                    // A pidfd becomes readable when its process ends.
                    let pin = watch(pin).map_err(other(context()))?;
                    let _ready = pin.readable().await.map_err(other(context()))?;
                }
            }
        }
    }

    async fn cancel(&self, dispatch: &DispatchId, grace: Duration) -> Result<(), BackendError> {
        let context = || format!("cancel the worker of {dispatch}");
        let record = self.record(dispatch);
        if !record.exists() || record.exit().map_err(other(context()))?.is_some() {
            return Ok(());
        }
        let grace_ms = u64::try_from(grace.as_millis()).unwrap_or(u64::MAX);
        match record.write_cancel(Cancel { grace_ms }) {
            // Removed meanwhile.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            written => written.map_err(other(context()))?,
        }
        // In this order: a supervisor that claims after this look finds the request by itself.
        if let Some(supervisor) = record.claim().map_err(other(context()))? {
            supervisor.notify();
        }
        Ok(())
    }

    async fn remove(&self, dispatch: &DispatchId) -> Result<(), BackendError> {
        let context = || format!("remove the record of {dispatch}");
        let record = self.record(dispatch);
        if !record.exists() {
            return Ok(());
        }
        if let Look::Running(_) = self.look(dispatch).await.map_err(other(context()))? {
            let problem = "it still runs; cancel it and wait for its end before removing it".to_owned();
            return Err(BackendError::Unsupported { dispatch: dispatch.clone(), problem });
        }
        let task = tokio::task::spawn_blocking(move || record.remove());
        task.await.map_err(io::Error::other).flatten().map_err(other(context()))
    }

    async fn list(&self) -> Result<Vec<DispatchId>, BackendError> {
        let read = |dir: &Path| -> io::Result<Vec<DispatchId>> {
            let mut found = Vec::new();
            for entry in std::fs::read_dir(dir)? {
                // Names that are no ids are not ours (removals in progress start with a dot).
                found.extend(entry?.file_name().to_str().and_then(|name| DispatchId::new(name).ok()));
            }
            found.sort();
            Ok(found)
        };
        read(&self.state_dir).map_err(other(format!("list {}", self.state_dir.display())))
    }
}
