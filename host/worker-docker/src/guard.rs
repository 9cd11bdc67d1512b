//! One task per container: waits for its end, enforces deadline and grace, collects the output.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bollard::{
    Docker,
    errors::Error,
    query_parameters::{InspectContainerOptions, KillContainerOptionsBuilder, WaitContainerOptionsBuilder},
};
use futures_util::StreamExt;
use pangolin_core::ids::DispatchId;
use pangolin_ports::worker_backend::WorkerExit;
use tokio::{
    sync::watch,
    task::{AbortHandle, JoinHandle},
};

use crate::{
    container::{Memo, Phase, Seen, name},
    engine::is_not_found,
    output,
    stop::{self, Reason, Stop},
};

/// First and longest pause before an engine that does not answer is asked again.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));

/// Longest that a followed log may take to end after its container.
const FOLLOWER_PATIENCE: Duration = Duration::from_secs(2);

/// A running guard.
pub(crate) struct Guard {
    /// The end, once it is known.
    pub(crate) exit: watch::Receiver<Option<WorkerExit>>,
    /// A request to kill no later than this (milliseconds since the epoch).
    pub(crate) kill_at: watch::Sender<Option<i64>>,
    task: AbortHandle,
}

impl Guard {
    pub(crate) fn start(docker: Docker, dispatch: DispatchId, follower: Option<Follower>) -> Self {
        let (exit_sender, exit) = watch::channel(None);
        let (kill_at, kill_receiver) = watch::channel(None);
        let task = tokio::spawn(async move {
            let mut watcher = Watcher {
                docker,
                follower,
                name: name(&dispatch),
                dispatch,
                kill_at: kill_receiver,
                killed: false,
            };
            let end = watcher.run().await;
            exit_sender.send_replace(Some(end));
        });
        Self { exit, kill_at, task: task.abort_handle() }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.task.abort();
    }
}

pub(crate) fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// Sends a signal. A container that is not running any more is fine.
pub(crate) async fn signal(docker: &Docker, name: &str, signal: &str) -> Result<(), Error> {
    let options = KillContainerOptionsBuilder::default().signal(signal).build();
    match docker.kill_container(name, Some(options)).await {
        Err(Error::DockerResponseServerError { status_code: 404 | 409, .. }) => Ok(()),
        answer => answer,
    }
}

/// Reads attached output while the container runs; ends with its owner.
pub(crate) struct Follower(JoinHandle<Result<output::Gathered, Error>>);

impl Follower {
    pub(crate) fn start(attached: output::Attached, memo: Memo) -> Self {
        Self(tokio::spawn(async move { output::gather_attached(attached, &memo).await }))
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.0.abort();
    }
}

struct Watcher {
    docker: Docker,
    follower: Option<Follower>,
    name: String,
    dispatch: DispatchId,
    kill_at: watch::Receiver<Option<i64>>,
    killed: bool,
}

impl Watcher {
    async fn run(&mut self) -> WorkerExit {
        let mut pause = BACKOFF.0;
        loop {
            match self.round().await {
                Ok(Some(exit)) => return exit,
                Ok(None) => pause = BACKOFF.0,
                Err(error) => {
                    // What was attached may end early now; the log has it all.
                    self.follower = None;
                    tracing::warn!(dispatch = %self.dispatch, %error, "the engine does not answer; trying again");
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(BACKOFF.1);
                }
            }
        }
    }

    /// Looks, and waits until something may have changed.
    async fn round(&mut self) -> Result<Option<WorkerExit>, Error> {
        let lost = |detail: String| Ok(Some(WorkerExit::Lost { detail }));
        let answer = match self.docker.inspect_container(&self.name, None::<InspectContainerOptions>).await {
            Err(error) if is_not_found(&error) => {
                return lost("its container is gone from the engine".to_owned());
            }
            answer => answer?,
        };
        let seen = match Seen::read(answer, &self.dispatch) {
            Err(problem) => return lost(problem),
            Ok(seen) => seen,
        };
        match &seen.phase {
            Phase::Created => lost("its container was created but never started".to_owned()),
            Phase::Gone { detail } => lost(detail.clone()),
            Phase::Ended { code, out_of_memory } => {
                let notice = out_of_memory.then(|| {
                    let limit = seen.memo.limits.memory_bytes;
                    format!(
                        "the kernel killed a process of this container at its memory limit of {limit} bytes"
                    )
                });
                let gathered = match self.followed().await {
                    Some(gathered) => gathered,
                    None => output::gather_log(&self.docker, &seen.id, &seen.memo).await?,
                };
                output::store(gathered, &seen.memo, notice).await;
                Ok(Some(match stop::read(&seen.memo.envelope_dir).map(|stop| stop.reason) {
                    Some(Reason::Cancelled) => WorkerExit::Cancelled,
                    Some(Reason::TimedOut) => WorkerExit::TimedOut,
                    None => WorkerExit::Exited { code: *code },
                }))
            }
            Phase::Running => self.running(&seen).await.map(|()| None),
        }
    }

    /// What the follower got, if it saw the end of the log.
    async fn followed(&mut self) -> Option<output::Gathered> {
        let mut follower = self.follower.take()?;
        let gathered = tokio::time::timeout(FOLLOWER_PATIENCE, &mut follower.0).await;
        gathered.ok()?.ok()?.ok()
    }

    async fn running(&mut self, seen: &Seen) -> Result<(), Error> {
        let limits = &seen.memo.limits;
        let millis = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
        let deadline = seen.started_at.unwrap_or_else(now).saturating_add(millis(limits.timeout_ms));
        let stop = stop::read(&seen.memo.envelope_dir);
        let asked = *self.kill_at.borrow_and_update();
        let kill_at = match (stop.map(|stop| stop.kill_at), asked) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        };
        let act_at = match kill_at {
            // SIGKILL was sent: only the end is left to come. Looked after again in case the engine forgot.
            _ if self.killed => now() + 1_000,
            Some(at) => at,
            None => deadline,
        };
        let wait = WaitContainerOptionsBuilder::default().condition("not-running").build();
        let mut end = Box::pin(self.docker.wait_container(&seen.id, Some(wait)));
        let timer = tokio::time::sleep(Duration::from_millis(u64::try_from(act_at - now()).unwrap_or(0)));
        tokio::select! {
            answer = end.next() => match answer {
                // An exit code other than 0 is an "error" to the client library. The next look tells.
                Some(Ok(_) | Err(Error::DockerContainerWaitError { .. })) => Ok(()),
                None => {
                    self.follower = None;
                    Ok(())
                }
                Some(Err(error)) if is_not_found(&error) => Ok(()),
                Some(Err(error)) => Err(error),
            },
            // A changed mind of the backend: look again. A closed channel means that this task is being aborted.
            _ = self.kill_at.changed() => Ok(()),
            () = timer => {
                if kill_at.is_some() || self.killed {
                    self.killed = true;
                    return signal(&self.docker, &seen.id, "SIGKILL").await;
                }
                let kill_at = now().saturating_add(millis(limits.grace_ms));
                if let Err(error) = stop::note(&seen.memo.envelope_dir, Stop { reason: Reason::TimedOut, kill_at }) {
                    tracing::error!(dispatch = %self.dispatch, %error, "cannot note the timeout; killing at once");
                    self.killed = true;
                    return signal(&self.docker, &seen.id, "SIGKILL").await;
                }
                signal(&self.docker, &seen.id, "SIGTERM").await
            }
        }
    }
}
