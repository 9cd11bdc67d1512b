//! What the fault tests share.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::{Child, Stdio},
    thread,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use pangolin_core::ids::{DispatchId, ItemId, RunId};
use pangolin_e2e::{DEADLINE, world::World};
use pangolin_ports::run_store::RunStore as _;
use pangolin_store_sqlite::{Options, SqliteRunStore};
use serde_json::Value;

/// `dispatch` is the sandbox. `open` confines nothing: its agents can leave marks outside their workspace.
const CONFIG: &str = "namespace = \"e2e\"
[workspace]
repo = \"repo\"
[queues.default]
concurrency = 4
[executors.dispatch]
backend = \"process\"
isolation = \"sandbox\"
grace_seconds = 2
[executors.open]
backend = \"process\"
isolation = \"none\"
network = \"host\"
grace_seconds = 2
[retry]
max_attempts = 2
base_ms = 50
cap_ms = 100
timeout_seconds = 60
";

/// A deployment with both executors.
pub(crate) fn world() -> World {
    let world = World::new();
    world.write("pangolin.toml", CONFIG);
    fs::create_dir_all(marks(&world)).expect("marks");
    world
}

/// Waits until `look` finds something.
#[track_caller]
pub(crate) fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + DEADLINE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < end, "did not happen: {what}");
        // Not a delay that anything relies on: it only leaves the processor to the programs under test.
        thread::park_timeout(Duration::from_millis(1));
    }
}

/// Where agents of `open` leave marks: one file per dispatch, one line per start.
pub(crate) fn marks(world: &World) -> PathBuf {
    world.path().join("marks")
}

/// Shell code that leaves a mark.
pub(crate) fn mark(world: &World) -> String {
    format!("echo start >> {}/$PANGOLIN_DISPATCH_ID;", marks(world).display())
}

/// Shell code that waits until the test calls [`release`] with the same name.
pub(crate) fn hold(world: &World, name: &str) -> String {
    format!("while [ ! -e {}/{name} ]; do sleep 0.05; done;", world.path().display())
}

/// Lets agents go on.
pub(crate) fn release(world: &World, name: &str) {
    let _ = world.write(name, "");
}

/// Dispatch of an attempt.
pub(crate) fn dispatch(run: &str, item: &str, attempt: u32) -> DispatchId {
    let run = RunId::new(run).expect("run id");
    DispatchId::derive("e2e", &run, &ItemId::new(item).expect("item id"), attempt)
}

/// Waits until the agent of an attempt has left its mark.
pub(crate) fn until_marked(world: &World, run: &str, item: &str, attempt: u32) {
    let file = marks(world).join(dispatch(run, item, attempt).as_str());
    // The shell creates the file before it writes the line.
    let written = || fs::metadata(&file).is_ok_and(|meta| meta.len() > 0).then_some(());
    until(&format!("a start of {run}/{item}"), written);
}

/// Asserts that the agents of exactly the recorded attempts started, each once.
#[track_caller]
pub(crate) fn each_attempt_started_once(world: &World, runs: &[&Value]) {
    let recorded: BTreeSet<String> = runs
        .iter()
        .flat_map(|run| run["items"].as_array().expect("items"))
        .flat_map(|item| item["attempts"].as_array().expect("attempts"))
        .map(|attempt| attempt["dispatch"].as_str().expect("dispatch").to_owned())
        .collect();
    let mut started = BTreeMap::new();
    for entry in fs::read_dir(marks(world)).expect("marks") {
        let entry = entry.expect("entry");
        let lines = fs::read_to_string(entry.path()).expect("mark").lines().count();
        started.insert(entry.file_name().to_string_lossy().into_owned(), lines);
    }
    let expected: BTreeMap<String, usize> = recorded.into_iter().map(|dispatch| (dispatch, 1)).collect();
    assert_eq!(started, expected, "starts per dispatch");
}

/// A daemon that may be killed at any moment, also before it says anything.
pub(crate) struct Doomed(Child);

impl Doomed {
    pub(crate) fn serve(world: &World) -> Self {
        let mut command = world.command(&["orch", "serve"]);
        Self(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("daemon"))
    }

    /// SIGKILL.
    pub(crate) fn kill(mut self) {
        assert!(matches!(self.0.try_wait(), Ok(None)), "the daemon ended by itself");
        self.0.kill().expect("kill");
        self.0.wait().expect("wait");
    }
}

impl Drop for Doomed {
    fn drop(&mut self) {
        if matches!(self.0.try_wait(), Ok(None)) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }
}

/// How far the ledger is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Position {
    /// Changes of leadership.
    pub(crate) fence: u64,
    /// Entries of the run.
    pub(crate) entries: u64,
    /// Leaves of the deployment log.
    pub(crate) leaves: u64,
}

/// The ledger, read while a daemon writes it.
pub(crate) struct Ledger {
    store: SqliteRunStore,
    runtime: tokio::runtime::Runtime,
}

impl Ledger {
    pub(crate) fn open(world: &World) -> Self {
        let path = world.path().join(".pangolin/ledger.db");
        let store = SqliteRunStore::open_read_only(path, Options::default()).expect("ledger");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("runtime");
        Self { store, runtime }
    }

    pub(crate) fn position(&self, run: &str) -> Position {
        self.runtime.block_on(async {
            let fence = self.store.get("lease/fence").await.expect("fence").map_or(0, |cell| cell.version);
            let entries = self.store.head(&format!("run/{run}")).await.expect("head").len;
            Position { fence, entries, leaves: self.store.head("log").await.expect("log").len }
        })
    }

    /// Waits for a commit after which the position is as wanted.
    pub(crate) fn until(&self, what: &str, run: &str, wanted: impl Fn(&Position) -> bool) -> Position {
        until(what, || Some(self.position(run)).filter(&wanted))
    }
}

/// A process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Process {
    pub(crate) pid: i32,
    pub(crate) parent: i32,
    pub(crate) line: String,
}

impl Process {
    pub(crate) fn kill(&self) {
        kill(Pid::from_raw(self.pid), Signal::SIGKILL).expect("kill");
    }
}

/// Living processes that were started for this deployment's workers: their command line, working directory or
/// environment names it.
pub(crate) fn processes(world: &World) -> Vec<Process> {
    let state = world.path().join(".pangolin");
    let needle = state.to_string_lossy().into_owned();
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").expect("/proc").flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        let read = |name: &str| {
            let bytes = fs::read(entry.path().join(name)).unwrap_or_default();
            String::from_utf8_lossy(&bytes).replace('\0', " ")
        };
        let stat = read("stat");
        // proc_pid_stat(5): pid (comm) state ppid …
        let mut fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
        let (Some(state_word), Some(parent)) = (fields.next(), fields.next()) else { continue };
        let cwd = fs::read_link(entry.path().join("cwd")).unwrap_or_default();
        let ours =
            cwd.starts_with(&state) || read("cmdline").contains(&needle) || read("environ").contains(&needle);
        if ours && !matches!(state_word, "Z" | "X") {
            found.push(Process { pid, parent: parent.parse().unwrap_or(0), line: read("cmdline") });
        }
    }
    found
}

/// Waits until no process of a worker is left.
pub(crate) fn until_nothing_runs(world: &World) {
    let mut left = Vec::new();
    let end = Instant::now() + DEADLINE;
    while Instant::now() < end {
        left = processes(world);
        if left.is_empty() {
            return;
        }
        thread::park_timeout(Duration::from_millis(5));
    }
    panic!("still running: {left:#?}");
}

/// File of a blob.
pub(crate) fn blob(world: &World, digest: &str) -> PathBuf {
    let hex = digest.strip_prefix("sha256:").expect("digest");
    world.path().join(".pangolin/blobs/sha256").join(&hex[..2]).join(hex)
}

/// Changes one byte of a file.
pub(crate) fn flip(path: &Path, position: usize) {
    use std::os::unix::fs::PermissionsExt as _;
    let mut bytes = fs::read(path).expect("read");
    bytes[position] ^= 1;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).expect("mode");
    fs::write(path, bytes).expect("write");
}
