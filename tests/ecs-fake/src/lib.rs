//! A small strict ECS control plane for tests and for the emulated stack. It listens on loopback, keeps everything in
//! memory, and **starts a local process where ECS would start a container**: an image is registered with a program and the
//! variables that the image would bring ([`StandIn`]). That process is no container: it sees the machine's files and
//! network, and its limits are not enforced.
//!
//! Strict about: `clientToken` (same parameters, same tasks; others, `ConflictException` with their ARNs), the 8,192
//! characters of overrides, names of containers, sizes of Fargate, `startedBy` as the only filter, subnets, stop timeouts,
//! unknown members. Reads may be behind ([`EcsFake::set_visibility_delay_ms`]), stopped tasks vanish
//! ([`EcsFake::set_vanish_ms`]), state changes come twice and out of order ([`EcsFake::scramble_events`]).
//!
//! Operations: RunTask, DescribeTasks, ListTasks, StopTask, RegisterTaskDefinition, DescribeTaskDefinition. Anything else, and
//! any member it does not know, is refused: nothing passes by accident. Not here: signatures (any key is good), quotas,
//! services, roles, logs, several accounts. Behaviour is taken from the API reference; see `docs/aws-claims.md`.

mod definitions;
mod events;
mod handle;
mod process;
mod reply;
mod run;
mod server;
mod state;

use std::{
    io,
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use serde_json::Value;
use state::State;

/// What stands in for a container image.
#[derive(Debug, Clone)]
pub struct StandIn {
    /// Program to start.
    pub program: PathBuf,
    /// Variables that the image brings. `{task}` in a value becomes the task's own empty directory.
    pub env: Vec<(String, String)>,
}

/// One task, for assertions.
#[derive(Debug, Clone)]
pub struct TaskView {
    /// ARN.
    pub arn: String,
    /// `startedBy`.
    pub started_by: String,
    /// `lastStatus`.
    pub last_status: String,
    /// `stopCode`.
    pub stop_code: Option<String>,
    /// Exit code of its container.
    pub exit_code: Option<i32>,
    /// Its own directory.
    pub dir: PathBuf,
    /// Variables of the override.
    pub overrides: Vec<(String, String)>,
    /// Pid of its process.
    pub pid: Option<u32>,
}

pub(crate) type Shared = Arc<Mutex<State>>;

pub(crate) fn lock(state: &Shared) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A running server. Stops, with all processes of its tasks, when dropped.
#[derive(Debug)]
pub struct EcsFake {
    address: SocketAddr,
    state: Shared,
    task: tokio::task::JoinHandle<()>,
}

impl EcsFake {
    /// Starts a server on a free port of loopback, with the cluster `default`.
    ///
    /// # Errors
    /// When no port or no directory can be had.
    pub async fn start() -> io::Result<Self> {
        Self::listen(SocketAddr::from(([127, 0, 0, 1], 0))).await
    }

    /// Starts a server on this address.
    ///
    /// # Errors
    /// When the address is not free.
    pub async fn listen(address: SocketAddr) -> io::Result<Self> {
        let listener = tokio::net::TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        let state = Arc::new(Mutex::new(State::new()?));
        let task = tokio::spawn(server::serve(listener, Arc::clone(&state)));
        Ok(Self { address, state, task })
    }

    /// URL for clients.
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Makes a cluster.
    pub fn create_cluster(&self, name: &str) {
        lock(&self.state).clusters.insert(name.to_owned());
    }

    /// Says what stands in for an image. Tasks of other images fail to start, as when an image cannot be pulled.
    pub fn add_image(&self, image: &str, stand_in: StandIn) {
        lock(&self.state).images.insert(image.to_owned(), stand_in);
    }

    /// Every image without a stand-in of its own has this one.
    pub fn set_any_image(&self, stand_in: StandIn) {
        lock(&self.state).any_image = Some(stand_in);
    }

    /// New tasks cannot be seen by DescribeTasks and ListTasks for so long.
    pub fn set_visibility_delay_ms(&self, ms: i64) {
        lock(&self.state).visibility_delay_ms = ms;
    }

    /// Stopped tasks vanish after so long. The default is an hour.
    pub fn set_vanish_ms(&self, ms: i64) {
        lock(&self.state).vanish_ms = ms;
    }

    /// State changes are delivered twice and newer ones before older ones from now on.
    pub fn scramble_events(&self) {
        lock(&self.state).events.scrambled = true;
    }

    /// State changes are also posted to this URL (`http://host:port/path`), as EventBridge would hand them on.
    pub fn post_events_to(&self, url: &str) {
        lock(&self.state).events.url = Some(url.to_owned());
    }

    /// State changes in the order of their delivery.
    #[must_use]
    pub fn events(&self) -> Vec<Value> {
        lock(&self.state).events.delivered.clone()
    }

    /// Moves the server's clock forward.
    pub fn advance_ms(&self, ms: i64) {
        lock(&self.state).offset_ms += ms;
    }

    /// RunTask answers with this failure (as `RESOURCE:MEMORY`) so many times and starts nothing.
    pub fn fail_placement(&self, reason: &str, times: u32) {
        lock(&self.state).placement = Some((reason.to_owned(), times));
    }

    /// How long the images are pulled: tasks stay PENDING until [`Self::release_starts`].
    pub fn hold_starts(&self) {
        lock(&self.state).held = Some(Vec::new());
    }

    /// Starts what was held.
    pub fn release_starts(&self) {
        let held = lock(&self.state).held.take().unwrap_or_default();
        for arn in held {
            process::start(&self.state, &arn);
        }
    }

    /// All tasks ever started, in order, also those that vanished.
    #[must_use]
    pub fn tasks(&self) -> Vec<TaskView> {
        lock(&self.state).tasks.iter().map(state::Task::view).collect()
    }

    /// Kills the process of a task with SIGKILL, as the out-of-memory killer does.
    pub fn kill(&self, arn: &str) {
        let pid = lock(&self.state).task_mut(arn).and_then(|task| task.pid);
        if let Some(pid) = pid {
            process::kill_tree(pid);
        }
    }

    /// The task is gone with its process, and ECS has forgotten it.
    pub fn vanish(&self, arn: &str) {
        self.kill(arn);
        if let Some(task) = lock(&self.state).task_mut(arn) {
            task.forgotten = true;
        }
    }
}

impl Drop for EcsFake {
    fn drop(&mut self) {
        self.task.abort();
        let pids: Vec<u32> = lock(&self.state).tasks.iter().filter_map(|task| task.pid).collect();
        for pid in pids {
            process::kill_tree(pid);
        }
    }
}
