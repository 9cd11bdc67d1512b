//! The workspace as a block sees it.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, DirBuilder, File, OpenOptions},
    io::{Read, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use nix::fcntl::OFlag;
use pangolin_core::ids::Digest;
use pangolin_envelope::result::ARTIFACTS_DIR;
use pangolin_plugin_host::{
    ArtifactId, BlockWorld, ExecOutcome, ExecRequest, FetchRequest, FetchResponse, FileEntry, WorldError,
};
use sha2::{Digest as _, Sha256};

use crate::{
    block::{fetch, snapshot::Snapshot},
    capture::{Baseline, clear},
    command::{Runner, Task},
    environment::Secrets,
    redact::{RedactStream, Redactor},
    safe_fs::Root,
};

/// What one block works on. Owns its parts, so that the engine can hold it.
pub(crate) struct WorkerWorld {
    pub(crate) workspace: PathBuf,
    pub(crate) result_dir: PathBuf,
    /// Directory of the worker alone, on the same file system as the result.
    pub(crate) private: PathBuf,
    pub(crate) root: Arc<Root>,
    pub(crate) baseline: Arc<Baseline>,
    /// Made when it is first needed, gone when something ran.
    pub(crate) snapshot: Option<Arc<Snapshot>>,
    pub(crate) runner: Runner,
    /// Variables of programs: without any secret.
    pub(crate) env: Arc<BTreeMap<String, String>>,
    pub(crate) secrets: Arc<Secrets>,
    /// Replaces secrets only.
    pub(crate) redactor: Redactor,
    /// The executor's policy: `none` or `host`.
    pub(crate) network: String,
    /// Records of earlier blocks by id and position.
    pub(crate) earlier: BTreeMap<String, String>,
    pub(crate) ordinal: u32,
    pub(crate) verified: BTreeSet<usize>,
    pub(crate) artifacts: BTreeMap<ArtifactId, Artifact>,
    pub(crate) started: u32,
}

/// An artifact being written.
pub(crate) struct Artifact {
    file: File,
    place: PathBuf,
    hash: Sha256,
    size: u64,
    /// The same bytes without secrets: another digest means that there is one in them.
    redacted: RedactStream,
    redacted_hash: Sha256,
}

fn broken(what: &str, path: &Path, error: &std::io::Error) -> WorldError {
    WorldError::Broken(format!("cannot {what} {}: {error}", path.display()))
}

impl WorkerWorld {
    fn private_file(&mut self, name: &str) -> Result<(File, PathBuf), WorldError> {
        self.started += 1;
        let place = self.private.join(format!("block-{}-{name}-{}", self.ordinal, self.started));
        let mut options = OpenOptions::new();
        options.read(true).write(true).create_new(true).mode(0o600).custom_flags(OFlag::O_NOFOLLOW.bits());
        let file = options.open(&place).map_err(|error| broken("make", &place, &error))?;
        Ok((file, place))
    }

    fn secret(&self, name: &str) -> Result<&str, WorldError> {
        self.secrets.get(name).map(String::as_str).ok_or_else(|| {
            WorldError::Refused(format!(
                "secret {name:?} was not handed to this dispatch; put it into an env bundle of the item"
            ))
        })
    }

    fn execute(&mut self, command: &ExecRequest, files: [&Path; 2]) -> Result<ExecOutcome, WorldError> {
        let mut env = (*self.env).clone();
        env.extend(command.env.clone());
        for (variable, name) in &command.env_secrets {
            let value = self.secret(name)?.to_owned();
            if value.contains('\0') {
                let rule = format!("secret {name:?} contains a zero byte, which no variable can hold");
                return Err(WorldError::Refused(rule));
            }
            env.insert(variable.clone(), value);
        }
        let open = |place: &Path| {
            let mut options = OpenOptions::new();
            options.write(true).custom_flags(OFlag::O_NOFOLLOW.bits());
            options.open(place).map_err(|error| broken("open", place, &error))
        };
        let transcript = [(open(files[0])?, command.output_bytes), (open(files[1])?, command.output_bytes)];
        let outcome = self
            .runner
            .run(Task {
                program: &command.program,
                args: &command.args,
                env: &env,
                stdin: "",
                timeout: command.timeout,
                transcript: Some(transcript),
            })
            .map_err(WorldError::Refused)?;
        if let Some(problem) = outcome.stdout.problem.as_ref().or(outcome.stderr.problem.as_ref()) {
            return Err(WorldError::Broken(format!(
                "the output of {:?} could not be kept: {problem}",
                command.program
            )));
        }
        let read = |place: &Path, digest: Digest| {
            let mut bytes = Vec::new();
            let file = File::open(place).map_err(|error| broken("read", place, &error))?;
            let limit = command.output_bytes.saturating_add(4_096);
            file.take(limit).read_to_end(&mut bytes).map_err(|error| broken("read", place, &error))?;
            // Without a sandbox a program could reach the file; a judgement must not rest on that.
            if Digest::of(&bytes) != digest {
                return Err(WorldError::Refused("the output was altered while the program ran".to_owned()));
            }
            Ok(bytes)
        };
        Ok(ExecOutcome {
            exit_code: outcome.code,
            timed_out: outcome.timed_out,
            stdout: read(files[0], outcome.stdout.digest)?,
            stderr: read(files[1], outcome.stderr.digest)?,
            truncated: outcome.stdout.truncated || outcome.stderr.truncated,
            duration_ms: u64::try_from(outcome.duration_ms).unwrap_or(0),
        })
    }

    fn snapshot(&mut self) -> Arc<Snapshot> {
        let (workspace, baseline) = (&self.workspace, &self.baseline);
        Arc::clone(self.snapshot.get_or_insert_with(|| Arc::new(Snapshot::take(workspace, baseline))))
    }
}

impl BlockWorld for WorkerWorld {
    fn files(&mut self) -> Result<Arc<Vec<FileEntry>>, WorldError> {
        Ok(self.snapshot().files())
    }

    fn read(&mut self, path: &str, offset: u64, length: u32) -> Result<Vec<u8>, WorldError> {
        let snapshot = self.snapshot();
        snapshot.read(&self.root, &self.baseline, &mut self.verified, path, offset, length)
    }

    fn earlier(&mut self, block: &str) -> Option<String> {
        self.earlier.get(block).cloned()
    }

    fn begin_artifact(&mut self, path: &str) -> Result<ArtifactId, WorldError> {
        if self.redactor.text(path) != path {
            return Err(WorldError::Refused("the path contains a secret".to_owned()));
        }
        let (file, place) = self.private_file("artifact")?;
        let id = ArtifactId(self.started);
        let (redacted, redacted_hash) = (self.redactor.stream(), Sha256::new());
        let artifact = Artifact { file, place, hash: Sha256::new(), size: 0, redacted, redacted_hash };
        self.artifacts.insert(id, artifact);
        Ok(id)
    }

    fn write_artifact(&mut self, id: ArtifactId, data: &[u8]) -> Result<(), WorldError> {
        let artifact = self.artifacts.get_mut(&id).ok_or(WorldError::Missing)?;
        artifact.file.write_all(data).map_err(|error| broken("write", &artifact.place, &error))?;
        artifact.hash.update(data);
        artifact.size += data.len() as u64;
        let mut clean = Vec::with_capacity(data.len());
        artifact.redacted.push(data, &mut clean);
        artifact.redacted_hash.update(&clean);
        Ok(())
    }

    fn commit_artifact(&mut self, id: ArtifactId) -> Result<(Digest, u64), WorldError> {
        let mut artifact = self.artifacts.remove(&id).ok_or(WorldError::Missing)?;
        let digest = Digest::from_bytes(artifact.hash.finalize().into());
        let mut clean = Vec::new();
        artifact.redacted.finish(&mut clean);
        artifact.redacted_hash.update(&clean);
        if Digest::from_bytes(artifact.redacted_hash.finalize().into()) != digest {
            // It is not cut out of the bytes: a report that says something else than the block wrote is worse than none.
            fs::remove_file(&artifact.place).ok();
            return Err(WorldError::Refused("the content contains a secret; leave it out".to_owned()));
        }
        let directory = self.result_dir.join(ARTIFACTS_DIR);
        if !directory.symlink_metadata().is_ok_and(|meta| meta.is_dir()) {
            clear(&directory)
                .and_then(|()| DirBuilder::new().mode(0o755).create(&directory))
                .map_err(|error| broken("make", &directory, &error))?;
        }
        // Under the name of its content: whole or not there, and the same bytes twice are one file.
        let target = directory.join(digest.hex());
        let act = || {
            artifact.file.sync_all()?;
            fs::rename(&artifact.place, &target)?;
            File::open(&directory)?.sync_all()
        };
        act().map_err(|error| broken("keep", &target, &error))?;
        Ok((digest, artifact.size))
    }

    fn drop_artifact(&mut self, id: ArtifactId) {
        if let Some(artifact) = self.artifacts.remove(&id) {
            // What is left of it goes with the private directory.
            fs::remove_file(&artifact.place).ok();
        }
    }

    fn run(&mut self, command: &ExecRequest) -> Result<ExecOutcome, WorldError> {
        let (_, stdout) = self.private_file("stdout")?;
        let (_, stderr) = self.private_file("stderr")?;
        let outcome = self.execute(command, [&stdout, &stderr]);
        for place in [stdout, stderr] {
            fs::remove_file(place).ok();
        }
        // Whatever it was, it may have written.
        self.snapshot = None;
        self.verified.clear();
        outcome
    }

    fn fetch(&mut self, request: &FetchRequest) -> Result<FetchResponse, WorldError> {
        if self.network != "host" {
            return Err(WorldError::Refused(format!(
                "policy: network {:?} of the executor; use an executor with network = \"host\"",
                self.network
            )));
        }
        if request.timeout < Duration::from_millis(1) {
            return Err(WorldError::Transport("no time is left".to_owned()));
        }
        let mut headers = request.headers.clone();
        for (name, secret) in &request.header_secrets {
            headers.push((name.clone(), self.secret(secret)?.to_owned()));
        }
        fetch::exchange(request, &headers, &self.redactor)
    }

    fn stopped(&self) -> bool {
        self.runner.signals.stopped()
    }
}
