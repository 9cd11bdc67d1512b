//! Fakes, dispatches, and what their workers did.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::{Arc, OnceLock},
    time::{Duration, Instant, SystemTime},
};

use pangolin_aws::{Aws, Service, faults::FaultScript};
use pangolin_core::{
    entry::Isolation,
    ids::{DispatchId, ItemId, RunId},
};
use pangolin_ecs_fake::{EcsFake, StandIn, TaskView};
use pangolin_envelope::{
    envelope::{
        CommandLimits, ENVELOPE_FILE, ENVELOPE_VERSION, EnvLayer, Envelope, LaunchPlan, SECRETS_FILE,
    },
    pipeline::PipelineSpec,
    result::{RESULT_FILE, SignedResult, WorkerResult},
};
use pangolin_ports::worker_backend::{Limits, Network, WorkerBackend, WorkerExit, WorkerSpec};
use pangolin_s3_fake::S3Fake;
use pangolin_worker_fargate::{FargateBackend, FargateConfig};
use tempfile::TempDir;

pub(crate) const IMAGE: &str =
    "registry.example/worker@sha256:00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";
pub(crate) const KEY: &str = "5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a";
pub(crate) const BUCKET: &str = "data";
const PATIENCE: Duration = Duration::from_secs(60);

/// The real worker: `PANGOLIN_WORKER`, or built here when it is older than its source.
pub(crate) fn worker() -> PathBuf {
    static WORKER: OnceLock<PathBuf> = OnceLock::new();
    WORKER.get_or_init(find_worker).clone()
}

fn find_worker() -> PathBuf {
    if let Some(path) = std::env::var_os("PANGOLIN_WORKER") {
        return path.into();
    }
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap();
    let built = target.join("debug/pangolin-worker");
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    let newest = ["../worker/src", "../envelope/src"]
        .map(|dir| newest(&package.join(dir)))
        .into_iter()
        .max()
        .flatten();
    if fs::metadata(&built).and_then(|meta| meta.modified()).ok() < newest {
        let status = Command::new(env!("CARGO"))
            .args(["build", "-q", "-p", "pangolin-worker"])
            .current_dir(package)
            .status();
        assert!(status.unwrap().success(), "building the worker failed");
    }
    built
}

fn newest(dir: &Path) -> Option<SystemTime> {
    let of = |entry: fs::DirEntry| match entry.file_type() {
        Ok(kind) if kind.is_dir() => newest(&entry.path()),
        _ => entry.metadata().ok()?.modified().ok(),
    };
    fs::read_dir(dir).unwrap().flatten().filter_map(of).max()
}

/// One cloud.
pub(crate) struct World {
    pub(crate) s3: S3Fake,
    pub(crate) ecs: EcsFake,
    pub(crate) script: FaultScript,
    pub(crate) dir: TempDir,
}

impl World {
    pub(crate) async fn new() -> Self {
        let (s3, ecs) = (S3Fake::start().await.unwrap(), EcsFake::start().await.unwrap());
        s3.create_bucket(BUCKET);
        ecs.add_image(IMAGE, stand_in(worker()));
        Self { s3, ecs, script: FaultScript::new(), dir: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn aws(&self, attempts: u32) -> Aws {
        Aws::for_tests(&self.s3.endpoint(), attempts, self.script.around(Aws::http()))
            .unwrap()
            .with_endpoint(Service::Ecs, &self.ecs.endpoint())
    }

    /// As a newly started host would open it.
    pub(crate) fn open(&self) -> Arc<FargateBackend> {
        self.open_with(3, config())
    }

    pub(crate) fn open_with(&self, attempts: u32, config: FargateConfig) -> Arc<FargateBackend> {
        Arc::new(FargateBackend::open(&self.aws(attempts), config).unwrap())
    }

    /// Stages a dispatch whose agent is a shell script. `$GATE` and `$STARTS` are files of the test: an agent that is a local
    /// process can see them.
    pub(crate) fn stage(&self, name: &str, script: &str) -> WorkerSpec {
        let base = self.dir.path().join(name);
        for kind in ["envelope", "workspace/sub", "result"] {
            fs::create_dir_all(base.join(kind)).unwrap();
        }
        let (run, item) = (RunId::new("run").unwrap(), ItemId::new(name).unwrap());
        let dispatch = DispatchId::derive("test", &run, &item, 1);
        let path = |what: &str| base.join(what).display().to_string();
        let values = [("GATE".to_owned(), path("gate")), ("STARTS".to_owned(), path("starts"))];
        let secrets = [("TOKEN".to_owned(), "token".to_owned())];
        let envelope = Envelope {
            v: ENVELOPE_VERSION,
            dispatch: dispatch.clone(),
            namespace: "test".to_owned(),
            run,
            item,
            attempt: 1,
            capabilities: Vec::new(),
            inputs: Vec::new(),
            worker_input: serde_json::json!({}),
            env: vec![EnvLayer { source: "test".to_owned(), values: values.into(), secrets: secrets.into() }],
            env_allow: Vec::new(),
            agent: Some(LaunchPlan {
                adapter: "command".to_owned(),
                program: "/bin/sh".to_owned(),
                args: vec!["-c".to_owned(), format!("echo start >> $STARTS\n{script}")],
                ..LaunchPlan::default()
            }),
            pipeline: PipelineSpec::default_for(None),
            pipeline_declared: false,
            verify: None,
            context_requires: Vec::new(),
            isolation: Isolation::Container,
            network: "host".to_owned(),
            limits: CommandLimits { grace_ms: 500, ..CommandLimits::default() },
            read_only_paths: Vec::new(),
            plugins: Vec::new(),
        };
        let write = |name: &str, bytes: &[u8]| fs::write(base.join(name), bytes).unwrap();
        write(&format!("envelope/{ENVELOPE_FILE}"), &serde_json::to_vec(&envelope).unwrap());
        write(&format!("envelope/{SECRETS_FILE}"), br#"{"token":"hunter2-hunter2"}"#);
        write("workspace/a.txt", b"one\n");
        write("workspace/sub/run.sh", b"#!/bin/sh\n");
        std::os::unix::fs::symlink("a.txt", base.join("workspace/link")).unwrap();
        WorkerSpec {
            dispatch,
            envelope_dir: base.join("envelope"),
            workspace_dir: base.join("workspace"),
            result_dir: base.join("result"),
            result_key: KEY.to_owned(),
            image: Some(IMAGE.to_owned()),
            isolation: Isolation::Container,
            network: Network::Host,
            limits: Limits {
                memory_bytes: 512 << 20,
                cpu_milli: 250,
                timeout_ms: 120_000,
                grace_ms: 5_000,
                output_bytes: 64 << 10,
                ..Limits::default()
            },
        }
    }

    /// A dispatch whose agent waits for the gate and exits with `code`.
    pub(crate) fn gated(&self, name: &str, code: i32) -> WorkerSpec {
        self.stage(name, &format!("while [ ! -e $GATE ]; do sleep 0.01; done; exit {code}"))
    }

    /// Tasks of a dispatch.
    pub(crate) fn tasks(&self, spec: &WorkerSpec) -> Vec<TaskView> {
        let started_by = self.open().started_by(&spec.dispatch);
        self.ecs.tasks().into_iter().filter(|task| task.started_by == started_by).collect()
    }

    /// What a worker wrote to its log, for messages.
    pub(crate) fn log(&self, spec: &WorkerSpec) -> String {
        let read = |task: &TaskView, name: &str| fs::read_to_string(task.dir.join(name)).unwrap_or_default();
        self.tasks(spec)
            .iter()
            .map(|task| format!("{}{}", read(task, "stdout"), read(task, "stderr")))
            .collect()
    }

    pub(crate) fn has(&self, spec: &WorkerSpec, record: &str) -> bool {
        self.s3.keys(BUCKET).contains(&format!("dispatches/{}/{record}", spec.dispatch))
    }

    pub(crate) async fn until_has(&self, spec: &WorkerSpec, record: &str) {
        until(record, || self.has(spec, record)).await;
    }
}

pub(crate) fn stand_in(program: PathBuf) -> StandIn {
    let env = [
        ("PANGOLIN_TASK_DIR", "{task}"),
        ("PATH", "/usr/bin:/bin"),
        ("ECS_CONTAINER_METADATA_URI_V4", "http://169.254.170.2/v4/secret-id"),
    ];
    StandIn { program, env: env.map(|(name, value)| (name.to_owned(), value.to_owned())).into() }
}

pub(crate) fn config() -> FargateConfig {
    FargateConfig {
        settle_ms: 0,
        look_ms: 10,
        visibility_ms: 300_000,
        ..FargateConfig::new("test", BUCKET, "default", vec!["subnet-1".to_owned()])
    }
}

/// Reads of ECS are never behind.
pub(crate) fn sharp() -> FargateConfig {
    FargateConfig { visibility_ms: 0, ..config() }
}

fn beside(spec: &WorkerSpec, name: &str) -> PathBuf {
    spec.envelope_dir.parent().unwrap().join(name)
}

pub(crate) fn open_gate(spec: &WorkerSpec) {
    fs::write(beside(spec, "gate"), b"").unwrap();
}

/// How often an agent was started.
pub(crate) fn starts(spec: &WorkerSpec) -> usize {
    fs::read_to_string(beside(spec, "starts"))
        .unwrap_or_default()
        .lines()
        .filter(|line| *line == "start")
        .count()
}

pub(crate) async fn until_started(spec: &WorkerSpec) {
    until("the agent started", || starts(spec) > 0).await;
}

pub(crate) async fn until(what: &str, condition: impl Fn() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < PATIENCE, "gave up waiting: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

pub(crate) async fn ended(backend: &FargateBackend, spec: &WorkerSpec) -> WorkerExit {
    tokio::time::timeout(PATIENCE, backend.wait(&spec.dispatch)).await.expect("wait takes too long").unwrap()
}

pub(crate) fn result(spec: &WorkerSpec) -> WorkerResult {
    let text = fs::read(spec.result_dir.join(RESULT_FILE)).unwrap();
    let signed: SignedResult = serde_json::from_slice(&text).unwrap();
    signed.open(&spec.result_key, &spec.dispatch).unwrap()
}
