//! Stages dispatches for the checks and looks at what their workers left.

use std::{
    fs,
    future::Future,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use pangolin_core::ids::DispatchId;

use super::{BackendFixture, ESCAPES, Escape, Step};
use crate::worker_backend::{Limits, WorkerBackend, WorkerExit, WorkerSpec};

/// Longest that any single step of a check may take on a slow, busy machine.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);

/// Name of the gate that scripts wait for with `AwaitFile`.
pub(super) const GATE: &str = "go";

/// One staged dispatch.
pub(super) struct Staged {
    pub(super) spec: WorkerSpec,
}

#[expect(clippy::print_stderr, reason = "test suite; the runner captures stderr")]
pub(super) fn say(text: &str) {
    eprintln!("{text}");
}

pub(super) fn limits() -> Limits {
    Limits {
        memory_bytes: 256 << 20,
        cpu_milli: 1_000,
        pids: 64,
        timeout_ms: 120_000,
        grace_ms: 200,
        output_bytes: 64 << 10,
    }
}

/// Stages a dispatch. Names are unique per process and fixture, so that engines shared by tests stay apart.
pub(super) fn stage(fixture: &dyn BackendFixture, name: &str, steps: &[Step], limits: Limits) -> Staged {
    let base = fixture.scratch().join(name);
    let dir = |kind: &str| -> PathBuf {
        let dir = base.join(kind);
        fs::create_dir_all(&dir).expect("create a dispatch directory");
        dir
    };
    let (envelope_dir, workspace_dir, result_dir) = (dir("envelope"), dir("workspace"), dir("result"));
    let script = serde_json::to_vec(steps).expect("scripts serialise");
    fs::write(envelope_dir.join("script.json"), script).expect("write the script");
    let run = pangolin_core::ids::RunId::new("conformance").expect("is an id");
    let item = pangolin_core::ids::ItemId::new(name).expect("is an id");
    let dispatch = DispatchId::derive(&fixture.scratch().display().to_string(), &run, &item, 1);
    Staged {
        spec: WorkerSpec {
            dispatch,
            envelope_dir,
            workspace_dir,
            result_dir,
            result_key: "5a".repeat(32),
            image: fixture.image(),
            isolation: fixture.isolation(),
            network: fixture.network(),
            limits,
        },
    }
}

impl Staged {
    pub(super) fn id(&self) -> &DispatchId {
        &self.spec.dispatch
    }

    /// Lines of the worker's start log.
    pub(super) fn log(&self) -> Vec<String> {
        let text = fs::read_to_string(self.spec.result_dir.join("starts")).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    /// How often a worker was started for this dispatch.
    pub(super) fn starts(&self) -> usize {
        self.log().iter().filter(|line| line.starts_with("start")).count()
    }

    pub(super) fn open_gate(&self) {
        fs::write(self.spec.workspace_dir.join(GATE), b"").expect("open the gate");
    }

    pub(super) fn result_file(&self, name: &str) -> String {
        let path = self.spec.result_dir.join(name);
        fs::read_to_string(&path).unwrap_or_else(|error| panic!("read {}: {error}", path.display()))
    }

    pub(super) async fn until_started(&self) {
        until("the worker started", || self.starts() > 0).await;
    }

    fn beats(&self, escape: Escape) -> u64 {
        fs::metadata(self.spec.workspace_dir.join(format!("beat-{}", escape.name())))
            .map_or(0, |meta| meta.len())
    }

    /// Waits until every escape artist of [`spawn_all`] beats.
    pub(super) async fn until_all_beat(&self) {
        for escape in ESCAPES {
            until("every descendant beats", || self.beats(escape) > 3).await;
        }
    }

    /// Asserts that no descendant is alive. They beat every 5 ms, so 150 ms of silence is no coincidence.
    pub(super) async fn assert_silent(&self) {
        let before = ESCAPES.map(|escape| self.beats(escape));
        tokio::time::sleep(Duration::from_millis(150)).await;
        for (escape, before) in ESCAPES.into_iter().zip(before) {
            assert!(before > 0, "{} never ran", escape.name());
            assert_eq!(self.beats(escape), before, "{} survived the end of its worker", escape.name());
        }
    }
}

pub(super) fn spawn_all(then: Step) -> Vec<Step> {
    ESCAPES.into_iter().map(|escape| Step::Spawn { escape }).chain([then]).collect()
}

/// A worker that stays until the gate opens, then exits with `code`.
pub(super) fn gated(code: i32) -> Vec<Step> {
    vec![Step::AwaitFile { name: GATE }, Step::Exit { code }]
}

/// Waits for a condition, with a deadline.
pub(super) async fn until(what: &str, condition: impl Fn() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < PATIENCE, "gave up waiting until {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// Fails a check that hangs instead of hanging with it.
pub(super) async fn in_time<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future)
        .await
        .unwrap_or_else(|_| panic!("{what} took longer than {PATIENCE:?}"))
}

pub(super) async fn open(fixture: &dyn BackendFixture) -> Arc<dyn WorkerBackend> {
    in_time("open", fixture.open()).await.expect("open the backend")
}

pub(super) async fn ended(backend: &dyn WorkerBackend, staged: &Staged) -> WorkerExit {
    in_time("wait", backend.wait(staged.id())).await.expect("wait answers")
}

/// Leaves nothing behind in a shared engine.
pub(super) async fn clean(backend: &dyn WorkerBackend, staged: &Staged) {
    in_time("remove", backend.remove(staged.id())).await.expect("remove the ended worker");
}
