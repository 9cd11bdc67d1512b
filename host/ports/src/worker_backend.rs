//! Starting, adopting and stopping workers. One worker runs one dispatch.

use std::{path::PathBuf, time::Duration};

use async_trait::async_trait;
use pangolin_core::{
    entry::{Isolation, IsolationUsed},
    ids::DispatchId,
};
use thiserror::Error;

/// What to start. The directories exist already and belong to this dispatch alone.
#[derive(Debug, Clone)]
pub struct WorkerSpec {
    /// Identity; `ensure` is idempotent in it.
    pub dispatch: DispatchId,
    /// Read-only inputs: `envelope.json` and the files it names (`pangolin-envelope`).
    pub envelope_dir: PathBuf,
    /// Read-write working tree of the agent.
    pub workspace_dir: PathBuf,
    /// Where the worker writes `result.json`, captures and transcripts; empty at first.
    pub result_dir: PathBuf,
    /// Per-dispatch key that authenticates the result (32 bytes, hex). Never reaches the agent.
    pub result_key: String,
    /// Image for container backends.
    pub image: Option<String>,
    /// Level that must be in force; otherwise [`BackendError::IsolationUnavailable`].
    pub isolation: Isolation,
    /// Network policy.
    pub network: Network,
    /// Limits.
    pub limits: Limits,
}

/// Network policy of a dispatch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Network {
    /// No network at all, not even the host's loopback.
    None,
    /// The host's network. Must be asked for; sealed as used.
    Host,
}

/// Bounds of one worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Limits {
    /// Memory in bytes.
    pub memory_bytes: u64,
    /// Processors in thousandths; enforced where the backend can (containers).
    pub cpu_milli: u32,
    /// Processes and threads.
    pub pids: u32,
    /// Wall time in milliseconds, after which the whole tree is killed.
    pub timeout_ms: u64,
    /// Between polite stop and kill, in milliseconds.
    pub grace_ms: u64,
    /// Bytes kept of the worker's event stream (stdout) and of its stderr; more is cut with a marker.
    pub output_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            memory_bytes: 4 << 30,
            cpu_milli: 2_000,
            pids: 512,
            timeout_ms: 7_200_000,
            grace_ms: 10_000,
            output_bytes: 4 << 20,
        }
    }
}

/// Answer of `ensure`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Started {
    /// The isolation really in force.
    pub isolation: IsolationUsed,
    /// An existing worker of this dispatch was found (running or already ended) instead of a new one started.
    pub adopted: bool,
}

/// How a worker ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WorkerExit {
    /// By itself or by signal (128 + signal).
    Exited {
        /// Exit code.
        code: i32,
    },
    /// Killed because of its time limit.
    TimedOut,
    /// Stopped by [`WorkerBackend::cancel`].
    Cancelled,
    /// It is gone and nobody knows how (host or engine restarted, record missing).
    Lost {
        /// What was observed.
        detail: String,
    },
}

/// Failures of a backend.
#[derive(Debug, Error)]
pub enum BackendError {
    /// The requested isolation is not available here. Never answered by a weaker worker.
    #[error("isolation {} is not available: {missing}", word(*.requested))]
    IsolationUnavailable {
        /// What was asked for.
        requested: Isolation,
        /// What is missing and what to do.
        missing: String,
    },
    /// The engine or kernel does not answer; trying again may help.
    #[error("worker backend is unavailable: {0}")]
    Unavailable(String),
    /// The image does not exist and could not be obtained.
    #[error("image {image:?} is not available: {detail}")]
    Image {
        /// The image.
        image: String,
        /// Why.
        detail: String,
    },
    /// The specification cannot be run by this backend.
    #[error("dispatch {dispatch} cannot run here: {problem}")]
    Unsupported {
        /// The dispatch.
        dispatch: DispatchId,
        /// Why.
        problem: String,
    },
    /// Anything else.
    #[error("worker backend failed: {context}")]
    Other {
        /// What was tried.
        context: String,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// The word of the configuration.
const fn word(level: Isolation) -> &'static str {
    match level {
        Isolation::None => "none",
        Isolation::Sandbox => "sandbox",
        Isolation::Container => "container",
    }
}

/// How long [`WorkerBackend::poll`] waits for an answer where a backend has nothing better.
const POLL_PATIENCE: Duration = Duration::from_secs(1);

/// Starts workers. All state that matters survives a crash of this process: a backend opened again on the same
/// state directory or engine finds the workers of the one before.
#[async_trait]
pub trait WorkerBackend: Send + Sync {
    /// Checks that `level` can be provided, without starting a worker, and says with which mechanisms.
    async fn probe(&self, level: Isolation, network: Network) -> Result<IsolationUsed, BackendError>;

    /// Makes sure that exactly one worker was started for `spec.dispatch`, now or earlier. Idempotent, also
    /// concurrently and after a crash at any point: a worker that ran and ended counts as started.
    async fn ensure(&self, spec: &WorkerSpec) -> Result<Started, BackendError>;

    /// Whether another host may have started the worker of this dispatch, so that [`Self::ensure`] would adopt it and
    /// needs nothing in the directories. Never `false` once `ensure` has answered anywhere.
    ///
    /// As provided: `false`, for backends whose hosts share their disk, where a dispatch that was laid out is seen to be.
    async fn was_started(&self, _dispatch: &DispatchId) -> Result<bool, BackendError> {
        Ok(false)
    }

    /// Resolves when the worker ended and nothing of its process tree is left. Any number of callers, repeatable.
    /// A dispatch never ensured is [`WorkerExit::Lost`].
    async fn wait(&self, dispatch: &DispatchId) -> Result<WorkerExit, BackendError>;

    /// Whether the worker certainly runs at this moment, nobody asked it to stop, and it is within its limits: then there is
    /// nothing to do but to ask again later. `false` says nothing. Cheap when many are asked about at once; as provided
    /// nobody knows.
    async fn runs(&self, dispatch: &DispatchId) -> Result<bool, BackendError> {
        let _ = dispatch;
        Ok(false)
    }

    /// Asks once, without waiting for the end: `None` means that the worker still runs, or may. Repeatable, by any
    /// caller; once an exit was answered, later answers are the same, but that a lost worker of another machine may turn
    /// out to have ended after all. A dispatch never ensured is [`WorkerExit::Lost`].
    ///
    /// As provided it gives [`Self::wait`] a second to answer, which is right for every backend: who knows that the
    /// worker ended answers within it, and an end that was missed is found by the next question. Backends that can
    /// simply look should do so instead.
    async fn poll(&self, dispatch: &DispatchId) -> Result<Option<WorkerExit>, BackendError> {
        match tokio::time::timeout(POLL_PATIENCE, self.wait(dispatch)).await {
            Ok(exit) => exit.map(Some),
            Err(_elapsed) => Ok(None),
        }
    }

    /// Asks the worker to stop (SIGTERM), kills its whole tree after `grace`. Returns when asked; idempotent; a
    /// worker that ended already is left alone.
    async fn cancel(&self, dispatch: &DispatchId, grace: Duration) -> Result<(), BackendError>;

    /// Forgets an ended worker and removes its container or record (not the directories). Whatever of it still runs is stopped:
    /// nobody looks at it afterwards. Idempotent; an unknown dispatch is fine.
    async fn remove(&self, dispatch: &DispatchId) -> Result<(), BackendError>;

    /// Dispatches this backend holds a record or container of, in any state.
    async fn list(&self) -> Result<Vec<DispatchId>, BackendError>;
}
