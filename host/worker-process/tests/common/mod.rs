//! Shared by the tests of this crate.
#![allow(dead_code, reason = "each test program uses its part")]

use std::path::{Path, PathBuf};

use nix::{
    sys::signal::{Signal, kill as send},
    unistd::Pid,
};
use pangolin_core::{entry::Isolation, ids::DispatchId};
use pangolin_ports::worker_backend::{BackendError, Limits, Network, WorkerSpec};
use pangolin_worker_process::{ProcessBackend, SupervisorCommand};

pub(crate) const WORKER: &str = env!("CARGO_BIN_EXE_pangolin-conformance-worker");

pub(crate) fn supervisor() -> SupervisorCommand {
    SupervisorCommand { program: env!("CARGO_BIN_EXE_pangolin-supervise").into(), arguments: Vec::new() }
}

pub(crate) fn open(state: &Path) -> Result<ProcessBackend, BackendError> {
    ProcessBackend::open(state, supervisor(), WORKER)
}

pub(crate) fn kill(pid: u32) {
    send(Pid::from_raw(pid.try_into().expect("pids fit")), Signal::SIGKILL).expect("the process is there");
}

/// Stages a dispatch with a script (JSON).
pub(crate) fn stage(base: &Path, name: &str, script: &str) -> WorkerSpec {
    let dir = |kind: &str| -> PathBuf {
        let dir = base.join(name).join(kind);
        std::fs::create_dir_all(&dir).expect("create a dispatch directory");
        dir
    };
    let spec = WorkerSpec {
        dispatch: DispatchId::new(name).expect("is an id"),
        envelope_dir: dir("envelope"),
        workspace_dir: dir("workspace"),
        result_dir: dir("result"),
        result_key: "c3".repeat(32),
        image: None,
        isolation: Isolation::None,
        network: Network::Host,
        limits: Limits { timeout_ms: 60_000, ..Limits::default() },
    };
    std::fs::write(spec.envelope_dir.join("script.json"), script).expect("write the script");
    spec
}

/// How often a worker was started.
pub(crate) fn starts(spec: &WorkerSpec) -> usize {
    let text = std::fs::read_to_string(spec.result_dir.join("starts")).unwrap_or_default();
    text.lines().filter(|line| line.starts_with("start ")).count()
}
