//! Stages an envelope as a host would, runs the real worker and opens its result.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::{PermissionsExt, chown},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use pangolin_core::{
    entry::Isolation,
    ids::{Digest, DispatchId, ItemId, RunId},
};
use pangolin_envelope::{
    capability::{Capability, CapabilityFile, encode},
    envelope::{
        CapabilityBundle, CommandLimits, ENVELOPE_FILE, ENVELOPE_VERSION, EnvLayer, Envelope, InputFile,
        LaunchPlan, SECRETS_FILE, worker_env,
    },
    pipeline::PipelineSpec,
    result::{Change, RESULT_FILE, SignedResult, WorkerResult},
};
use tempfile::TempDir;

pub(crate) const KEY: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

/// One staged dispatch.
pub(crate) struct Stage {
    pub(crate) directory: TempDir,
    pub(crate) envelope: Envelope,
    pub(crate) host_env: BTreeMap<String, String>,
    ordinary: Option<u32>,
    /// Program and arguments that start the worker.
    pub(crate) starter: Vec<String>,
}

/// What a worker left.
pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) events: Vec<serde_json::Value>,
    pub(crate) stdout: String,
    pub(crate) result: WorkerResult,
}

impl Stage {
    /// A dispatch whose agent is a shell script, in a sandbox without network.
    pub(crate) fn new(script: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        for name in ["envelope", "workspace", "result"] {
            fs::create_dir(directory.path().join(name)).unwrap();
        }
        let (run, item) = (RunId::new("run-1").unwrap(), ItemId::new("item-1").unwrap());
        let envelope = Envelope {
            v: ENVELOPE_VERSION,
            dispatch: DispatchId::derive("test", &run, &item, 1),
            namespace: "test".to_owned(),
            run,
            item,
            attempt: 1,
            capabilities: Vec::new(),
            inputs: Vec::new(),
            worker_input: serde_json::json!({"file": "a.txt"}),
            env: Vec::new(),
            env_allow: Vec::new(),
            agent: Some(LaunchPlan {
                adapter: "command".to_owned(),
                program: "/bin/sh".to_owned(),
                args: vec!["-c".to_owned(), script.to_owned()],
                ..LaunchPlan::default()
            }),
            pipeline: PipelineSpec::default_for(None),
            pipeline_declared: false,
            verify: None,
            context_requires: Vec::new(),
            isolation: Isolation::Sandbox,
            network: "none".to_owned(),
            limits: CommandLimits { grace_ms: 1_000, ..CommandLimits::default() },
            read_only_paths: Vec::new(),
            plugins: Vec::new(),
        };
        Self { directory, envelope, host_env: BTreeMap::new(), ordinary: None, starter: Vec::new() }
    }

    /// Without a sandbox.
    pub(crate) fn bare(script: &str) -> Self {
        let mut stage = Self::new(script);
        stage.envelope.isolation = Isolation::None;
        stage.envelope.network = "host".to_owned();
        stage
    }

    /// The worker as a user of its own without any rights, when the test runs as root. False, and loud, when that is not possible.
    pub(crate) fn as_ordinary_user(&mut self) -> bool {
        if !nix::unistd::geteuid().is_root() {
            return true;
        }
        if !Command::new("setpriv").arg("--version").output().is_ok_and(|output| output.status.success()) {
            eprintln!(
                "NOT RUN: there is no setpriv on this machine, so the worker cannot be an ordinary user"
            );
            return false;
        }
        // One that nobody else on this machine uses, also not the test beside this one: without a sandbox, processes of
        // one user can read each other's variables in the moment between the start of a worker and its first lines.
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let user = 1_000_000 + std::process::id() % 100_000 * 100 + NEXT.fetch_add(1, Ordering::Relaxed);
        fs::set_permissions(self.directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
        for name in ["workspace", "result"] {
            chown(self.path(name), Some(user), Some(user)).unwrap();
        }
        self.ordinary = Some(user);
        true
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().canonicalize().unwrap().join(name)
    }

    pub(crate) fn workspace(&self) -> PathBuf {
        self.path("workspace")
    }

    pub(crate) fn result_dir(&self) -> PathBuf {
        self.path("result")
    }

    /// A file of the repository.
    pub(crate) fn file(&self, path: &str, content: impl AsRef<[u8]>) {
        let place = self.workspace().join(path);
        fs::create_dir_all(place.parent().unwrap()).unwrap();
        fs::write(place, content).unwrap();
    }

    pub(crate) fn capability(&mut self, name: &str, files: &[(&str, &str)]) {
        let files = files.iter().map(|(path, text)| {
            (
                (*path).to_owned(),
                CapabilityFile { executable: path.ends_with(".sh"), bytes: text.as_bytes().to_vec() },
            )
        });
        let bytes = encode(&Capability { name: name.to_owned(), files: files.collect() }).unwrap();
        self.raw_capability(name, &bytes);
    }

    pub(crate) fn raw_capability(&mut self, name: &str, bytes: &[u8]) {
        let file = format!("capability-{}", self.envelope.capabilities.len());
        fs::write(self.path("envelope").join(&file), bytes).unwrap();
        self.envelope.capabilities.push(CapabilityBundle {
            name: name.to_owned(),
            digest: Digest::of(bytes),
            file,
        });
    }

    pub(crate) fn input(&mut self, key: &str, bytes: &[u8]) {
        let file = format!("input-{}", self.envelope.inputs.len());
        fs::write(self.path("envelope").join(&file), bytes).unwrap();
        self.envelope.inputs.push(InputFile { key: key.to_owned(), digest: Digest::of(bytes), file });
    }

    pub(crate) fn layer(&mut self, values: &[(&str, &str)], secrets: &[(&str, &str)]) {
        let map =
            |pairs: &[(&str, &str)]| pairs.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect();
        let layer = EnvLayer { source: "item".to_owned(), values: map(values), secrets: map(secrets) };
        self.envelope.env.push(layer);
    }

    pub(crate) fn secrets(&self, secrets: serde_json::Value) {
        fs::write(self.path("envelope").join(SECRETS_FILE), secrets.to_string()).unwrap();
    }

    pub(crate) fn blocks(&mut self, blocks: serde_json::Value) {
        let spec = serde_json::json!({"schemaVersion": 1, "id": "test.pipeline", "blocks": blocks});
        self.envelope.pipeline = serde_json::from_value(spec).unwrap();
        self.envelope.pipeline_declared = true;
    }

    fn command(&self) -> Command {
        let text = serde_json::to_vec(&self.envelope).unwrap();
        fs::write(self.path("envelope").join(ENVELOPE_FILE), text).unwrap();
        // Another build of it, e.g. the static one for release.
        let worker = std::env::var("PANGOLIN_TEST_WORKER");
        let worker = worker.as_deref().unwrap_or(env!("CARGO_BIN_EXE_pangolin-worker"));
        let mut command = if let Some(user) = self.ordinary {
            let copy = self.path("pangolin-worker");
            // By a process of its own: a descriptor open for writing, inherited by a child that another test starts
            // just now, would make the program busy.
            assert!(Command::new("cp").arg(worker).arg(&copy).status().unwrap().success());
            let mut command = Command::new("setpriv");
            command
                .args([format!("--reuid={user}"), format!("--regid={user}"), "--clear-groups".to_owned()])
                .arg(copy);
            command
        } else if let Some((program, args)) = self.starter.split_first() {
            let mut command = Command::new(program);
            command.args(args).arg(worker);
            command
        } else {
            Command::new(worker)
        };
        command
            .env_clear()
            .env("PATH", "/usr/local/bin:/usr/bin:/bin")
            .envs(&self.host_env)
            .env(worker_env::ENVELOPE_DIR, self.path("envelope"))
            .env(worker_env::WORKSPACE_DIR, self.workspace())
            .env(worker_env::RESULT_DIR, self.result_dir())
            .env(worker_env::RESULT_KEY, KEY)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    pub(crate) fn spawn(&self) -> Child {
        self.command().spawn().unwrap()
    }

    pub(crate) fn run(&self) -> Ran {
        let child = self.spawn();
        self.collect(child)
    }

    pub(crate) fn collect(&self, child: Child) -> Ran {
        let output = child.wait_with_output().unwrap();
        self.open(&output)
    }

    pub(crate) fn open(&self, output: &Output) -> Ran {
        let stdout = String::from_utf8(output.stdout.clone()).unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        let text = fs::read(self.result_dir().join(RESULT_FILE))
            .unwrap_or_else(|error| panic!("no result: {error}\nstdout: {stdout}\nstderr: {stderr}"));
        let signed: SignedResult = serde_json::from_slice(&text).unwrap();
        let result = signed.open(KEY, &self.envelope.dispatch).unwrap();
        let events = stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert!(!self.result_dir().join(".private").exists(), "the private directory must be gone");
        Ran { code: output.status.code().unwrap_or(-1), events, stdout, result }
    }
}

impl Ran {
    /// The event of a kind.
    pub(crate) fn event(&self, kind: &str) -> &serde_json::Value {
        self.events
            .iter()
            .find(|event| event["kind"] == kind)
            .unwrap_or_else(|| panic!("no event {kind} in {}", self.stdout))
    }

    pub(crate) fn agent_stdout(&self) -> &str {
        self.event("runtime.adapter.ran")["stdout"].as_str().unwrap()
    }

    pub(crate) fn changes(&self) -> BTreeMap<&str, &Change> {
        let capture = self.result.capture.as_ref().unwrap_or_else(|| panic!("no capture: {}", self.stdout));
        capture.changes.iter().map(|change| (change.path.as_str(), change)).collect()
    }
}

/// Waits until something holds, at most 20 seconds.
pub(crate) fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !holds() {
        assert!(Instant::now() < deadline, "did not happen in time: {what}");
        std::thread::yield_now();
    }
}

/// Whether a process whose command line contains `text` runs.
pub(crate) fn runs(text: &str) -> bool {
    let me = std::process::id().to_string();
    fs::read_dir("/proc").unwrap().flatten().any(|entry| {
        let name = entry.file_name();
        name.to_string_lossy().bytes().all(|byte| byte.is_ascii_digit())
            && *name.to_string_lossy() != *me
            && contains(&entry.path().join("cmdline"), text)
    })
}

fn contains(path: &Path, text: &str) -> bool {
    fs::read(path).is_ok_and(|bytes| bytes.windows(text.len()).any(|window| window == text.as_bytes()))
}
