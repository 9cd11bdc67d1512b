//! Faults of this backend: the daemon killed inside `ensure`, the supervisor killed, recycled pids, bad binaries.

mod common;

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use common::{open, stage, starts};
use pangolin_core::entry::Isolation;
use pangolin_ports::worker_backend::{BackendError, Network, WorkerBackend, WorkerExit};
use pangolin_worker_process::{ProcessBackend, SupervisorCommand};

const GATED: &str = r#"[{"do":"await-file","name":"go"},{"do":"exit","code":7}]"#;
const TREE: &str = r#"[{"do":"spawn","escape":"plain"},{"do":"spawn","escape":"setsid"},
    {"do":"spawn","escape":"orphan-of-orphan"},{"do":"hang"}]"#;
const CHILD: &str = "PANGOLIN_TEST_CRASH_BASE";

async fn until(what: &str, condition: impl Fn() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < Duration::from_secs(60), "gave up waiting until {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// Not a test of its own: the daemon that `a_daemon_killed_inside_ensure…` kills.
#[tokio::test]
async fn crash_helper() {
    if let Some(base) = std::env::var_os(CHILD) {
        let base = Path::new(&base);
        let backend = open(&base.join("state")).expect("open");
        let spec = stage(base, "crash", GATED);
        fs::write(base.join("ready"), b"").expect("say ready");
        backend.ensure(&spec).await.expect("ensure");
        std::future::pending::<()>().await;
    }
}

#[tokio::test]
async fn a_daemon_killed_inside_ensure_never_leads_to_a_second_start() {
    let (mut before_start, mut after_start) = (0, 0);
    for round in 0..40_u32 {
        let dir = tempfile::tempdir().expect("temporary directory");
        let spec = stage(dir.path(), "crash", GATED);
        let mut daemon = Command::new(std::env::current_exe().expect("own path"))
            .args(["crash_helper", "--exact", "--nocapture"])
            .env(CHILD, dir.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("start the daemon");
        let ready = dir.path().join("ready");
        until("the daemon is ready", || ready.exists()).await;
        // Spread over the whole of `ensure`, from its first step to after its end.
        let spin = Instant::now();
        while spin.elapsed() < Duration::from_micros(u64::from(round) * 250) {
            std::hint::spin_loop();
        }
        daemon.kill().expect("kill the daemon");
        daemon.wait().expect("reap the daemon");
        let started = starts(&spec);
        before_start += usize::from(started == 0);
        after_start += usize::from(started == 1);

        let backend = open(&dir.path().join("state")).expect("open again");
        backend.ensure(&spec).await.expect("ensure again");
        until("the worker runs", || starts(&spec) > 0).await;
        fs::write(spec.workspace_dir.join("go"), b"").expect("open the gate");
        let exit = backend.wait(&spec.dispatch).await.expect("wait");
        assert_eq!(exit, WorkerExit::Exited { code: 7 }, "round {round}");
        assert_eq!(starts(&spec), 1, "round {round}");
    }
    eprintln!("daemon killed before the start {before_start} times, after it {after_start} times");
}

fn supervisor_pid(state: &Path, spec: &pangolin_ports::worker_backend::WorkerSpec) -> u32 {
    let claim = fs::read(state.join(spec.dispatch.as_str()).join("claim.json")).expect("read the claim");
    let claim: serde_json::Value = serde_json::from_slice(&claim).expect("parse the claim");
    claim["pid"].as_u64().expect("has a pid").try_into().expect("pids fit")
}

#[tokio::test]
async fn a_killed_supervisor_is_lost_and_leaves_nothing() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let state = dir.path().join("state");
    let spec = stage(dir.path(), "orphaned", TREE);
    let backend = open(&state).expect("open");
    backend.ensure(&spec).await.expect("ensure");
    let beat = |name: &str| fs::metadata(spec.workspace_dir.join(name)).map_or(0, |meta| meta.len());
    let beats = || ["beat-plain", "beat-setsid", "beat-orphan-of-orphan"].map(beat);
    until("all beat", || beats().iter().all(|count| *count > 3)).await;
    common::kill(supervisor_pid(&state, &spec));
    let exit = backend.wait(&spec.dispatch).await.expect("wait");
    assert!(matches!(&exit, WorkerExit::Lost { detail } if detail.contains("supervisor")), "{exit:?}");
    let before = beats();
    tokio::time::sleep(Duration::from_millis(150)).await;
    assert_eq!(beats(), before, "something survived");
    assert!(backend.ensure(&spec).await.expect("ensure").adopted);
    assert_eq!(starts(&spec), 1);
    let next = open(&state).expect("open again");
    assert_eq!(next.wait(&spec.dispatch).await.expect("wait"), exit, "the same answer ever after");
}

#[tokio::test]
async fn a_record_of_another_boot_or_a_recycled_pid_is_lost_and_kills_nobody() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let state = dir.path().join("state");
    // A stranger that got the pid of a dead supervisor and of a dead worker.
    let mut stranger = Command::new("sleep").arg("600").spawn().expect("start a stranger");
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").expect("boot id");
    for (name, start, boot) in [("recycled", 1, boot.trim()), ("rebooted", u64::MAX, "another-boot")] {
        let spec = stage(dir.path(), name, GATED);
        let backend = open(&state).expect("open");
        let record = state.join(name);
        fs::create_dir(&record).expect("create the record");
        let identity = serde_json::json!({"pid": stranger.id(), "start": start, "boot": boot}).to_string();
        let intent = serde_json::json!({
            "isolation": {"level": "none", "mechanisms": [], "network": "host"},
            "result_dir": spec.result_dir, "grace_ms": 1,
        });
        fs::write(record.join("intent.json"), intent.to_string()).expect("write the intent");
        fs::write(record.join("claim.json"), &identity).expect("write the claim");
        fs::write(record.join("worker.json"), &identity).expect("write the worker's pid");
        assert!(
            backend.ensure(&spec).await.expect("ensure").adopted,
            "it was claimed, so it counts as started"
        );
        backend.cancel(&spec.dispatch, Duration::ZERO).await.expect("cancel");
        let exit = backend.wait(&spec.dispatch).await.expect("wait");
        assert!(matches!(exit, WorkerExit::Lost { .. }), "{exit:?}");
        assert_eq!(starts(&spec), 0);
    }
    assert!(stranger.try_wait().expect("ask").is_none(), "the stranger must not be harmed");
    stranger.kill().expect("end the stranger");
    stranger.wait().expect("reap the stranger");
}

#[tokio::test]
async fn a_worker_that_cannot_be_executed_is_an_error_and_may_be_tried_again() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let state = dir.path().join("state");
    let worker = dir.path().join("worker");
    fs::write(&worker, "not a program").expect("write");
    let spec = stage(dir.path(), "broken", r#"[{"do":"exit","code":3}]"#);
    let backend = ProcessBackend::open(&state, common::supervisor(), &worker).expect("open");
    let error = backend.ensure(&spec).await.expect_err("cannot start");
    let text = format!("{error}: {}", std::error::Error::source(&error).expect("has a cause"));
    assert!(text.contains("broken") && text.contains(&worker.display().to_string()), "{text}");
    fs::copy(common::WORKER, &worker).expect("install the worker");
    assert!(!backend.ensure(&spec).await.expect("ensure").adopted);
    assert_eq!(backend.wait(&spec.dispatch).await.expect("wait"), WorkerExit::Exited { code: 3 });

    let spec = stage(dir.path(), "missing", "[]");
    let backend =
        ProcessBackend::open(&state, common::supervisor(), dir.path().join("nowhere")).expect("open");
    assert!(matches!(backend.ensure(&spec).await, Err(BackendError::Unsupported { .. })));
    let supervisor = SupervisorCommand { program: "/bin/false".into(), arguments: Vec::new() };
    let backend = ProcessBackend::open(&state, supervisor, common::WORKER).expect("open");
    let error = backend.ensure(&spec).await.expect_err("no supervisor");
    assert!(matches!(&error, BackendError::Unavailable(text) if text.contains("/bin/false")), "{error:?}");
}

#[tokio::test]
async fn a_cancel_before_the_start_prevents_it() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let state = dir.path().join("state");
    let spec = stage(dir.path(), "early", GATED);
    let backend = open(&state).expect("open");
    // The daemon died between intent and claim; the next one cancels, a third ensures.
    let record = state.join("early");
    fs::create_dir(&record).expect("create the record");
    let intent =
        r#"{"isolation":{"level":"none","mechanisms":[],"network":"host"},"result_dir":"/","grace_ms":1}"#;
    fs::write(record.join("intent.json"), intent).expect("write the intent");
    backend.cancel(&spec.dispatch, Duration::ZERO).await.expect("cancel");
    backend.ensure(&spec).await.expect("ensure");
    assert_eq!(backend.wait(&spec.dispatch).await.expect("wait"), WorkerExit::Cancelled);
    assert_eq!(starts(&spec), 0);
}

#[tokio::test]
async fn the_sandbox_is_as_available_as_the_worker_says() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let worker = dir.path().join("worker");
    fs::copy(common::WORKER, &worker).expect("install the worker");
    fs::set_permissions(&worker, fs::Permissions::from_mode(0o755)).expect("make it executable");
    let answer = dir.path().join("worker.probe");
    let backend =
        ProcessBackend::open(dir.path().join("state"), common::supervisor(), &worker).expect("open");
    let refused = async |expected: &str| {
        let error = backend.probe(Isolation::Sandbox, Network::None).await.expect_err("not available");
        assert!(error.to_string().contains(expected), "{error}");
    };
    refused("printed no answer").await;
    fs::write(&answer, r#"{"available":false,"mechanisms":[],"missing":["user namespaces"]}"#)
        .expect("write");
    refused("user namespaces").await;
    fs::write(&answer, r#"{"available":true,"mechanisms":["userns","netns"],"missing":[]}"#).expect("write");
    let used = backend.probe(Isolation::Sandbox, Network::None).await.expect("available");
    assert_eq!((used.mechanisms.len(), used.network.as_str()), (2, "none"));
    let error =
        backend.probe(Isolation::None, Network::None).await.expect_err("cannot be kept from the network");
    assert!(matches!(error, BackendError::IsolationUnavailable { .. }), "{error:?}");
}

#[tokio::test]
async fn the_result_key_is_not_on_disk_and_a_running_worker_is_not_removed() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let state = dir.path().join("state");
    let spec = stage(dir.path(), "secret", GATED);
    let backend = open(&state).expect("open");
    backend.ensure(&spec).await.expect("ensure");
    until("the worker runs", || starts(&spec) > 0).await;
    for entry in fs::read_dir(state.join("secret")).expect("list the record") {
        let path = entry.expect("entry").path();
        assert!(!fs::read_to_string(&path).expect("read").contains(&spec.result_key), "{}", path.display());
    }
    assert!(matches!(backend.remove(&spec.dispatch).await, Err(BackendError::Unsupported { .. })));
    fs::write(spec.workspace_dir.join("go"), b"").expect("open the gate");
    backend.wait(&spec.dispatch).await.expect("wait");
    backend.remove(&spec.dispatch).await.expect("remove");
    assert_eq!(fs::read_dir(&state).expect("list").count(), 0);
}
