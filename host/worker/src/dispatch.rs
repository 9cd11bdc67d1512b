//! The steps of one dispatch, in the order of the brief, and its ending.

use std::{
    collections::BTreeMap,
    fs::{self, DirBuilder},
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use pangolin_core::entry::FailureReason;
use pangolin_envelope::{
    envelope::Envelope,
    events::Event,
    result::{AGENT_STDERR_FILE, AGENT_STDOUT_FILE, ARTIFACTS_DIR, Ending, RESULT_VERSION, WorkerResult},
};

use crate::{
    block::Plugins,
    boot::{self, Places},
    capture::{Baseline, clear},
    command::{Confinement, Runner, Task},
    context, environment,
    environment::EnvironmentError,
    events::{emit, now_ms},
    finish,
    output::bounded,
    overlay,
    payload::Payload,
    redact::Redactor,
    safe_fs::Root,
    signals::Signals,
};

/// Setup script of a capability or of the repository.
const SETUP_SCRIPT: &str = "pangolin-setup.sh";

/// Longest message of a failure.
const MESSAGE_BYTES_MAX: usize = 2_000;

/// Most messages about things that were not captured.
const NOT_CAPTURED_MAX: usize = 1_000;

/// Why the dispatch does not go on.
#[derive(Debug)]
pub(crate) enum Halt {
    /// It failed.
    Failed {
        /// Closed vocabulary.
        reason: FailureReason,
        /// For people.
        message: String,
        /// Of the agent or gate.
        exit_code: Option<i32>,
    },
    /// Somebody asked for it.
    Stopped,
    /// The agent asks something.
    NeedsInput(serde_json::Value),
}

/// A failure without an exit code.
pub(crate) fn failed(reason: FailureReason, message: impl Into<String>) -> Halt {
    Halt::Failed { reason, message: message.into(), exit_code: None }
}

/// An empty result for a dispatch.
pub(crate) fn blank(
    dispatch: &pangolin_core::ids::DispatchId,
    ending: Ending,
    started_at: i64,
) -> WorkerResult {
    WorkerResult {
        v: RESULT_VERSION,
        dispatch: dispatch.clone(),
        ending,
        agent: None,
        blocks: Vec::new(),
        verify: None,
        verify_report: None,
        capture: None,
        outputs: Vec::new(),
        not_captured: Vec::new(),
        needs_input: None,
        mechanisms: Vec::new(),
        started_at,
        finished_at: now_ms(),
    }
}

/// Runs the dispatch and answers the exit code of the worker.
pub(crate) fn run(places: &Places, envelope: &Envelope, signals: Signals, started_at: i64) -> i32 {
    let mut result = blank(&envelope.dispatch, Ending::Finished {}, started_at);
    let private = places.result_dir.join(".private");
    let runner = Runner::new(confinement(places, envelope, &private), signals);
    let mut dispatch = Dispatch { places, envelope, private, runner, redactor: Redactor::default() };
    let halt = dispatch.steps(&mut result).err();
    let halt = if dispatch.runner.signals.stopped() { Some(Halt::Stopped) } else { halt };
    dispatch.end(result, halt)
}

fn confinement(places: &Places, envelope: &Envelope, private: &Path) -> Confinement {
    let home = std::env::var_os("HOME").map(PathBuf::from).and_then(|home| home.canonicalize().ok());
    let mut hidden = vec![places.result_dir.clone(), places.envelope_dir.clone()];
    hidden.extend(home.filter(|home| home.components().count() > 1 && *home != places.workspace));
    Confinement {
        isolation: envelope.isolation,
        no_network: envelope.network == "none",
        limits: envelope.limits.clone(),
        workspace: places.workspace.clone(),
        private: private.to_owned(),
        read_only: envelope.read_only_paths.iter().map(PathBuf::from).collect(),
        hidden,
        has_inputs: !envelope.inputs.is_empty(),
    }
}

struct Dispatch<'a> {
    places: &'a Places,
    envelope: &'a Envelope,
    private: PathBuf,
    runner: Runner,
    redactor: Redactor,
}

impl Dispatch<'_> {
    fn steps(&mut self, result: &mut WorkerResult) -> Result<(), Halt> {
        let (places, envelope) = (self.places, self.envelope);
        // Secrets are read first, so that no message can show one.
        let secrets = boot::secrets(places).map_err(|message| failed(FailureReason::FetchFailed, message))?;
        let (everywhere, transcripts) = environment::redactors(envelope, &secrets);
        self.redactor = everywhere;
        self.runner.redact(transcripts.clone());
        self.prepare_directories().map_err(|message| failed(FailureReason::WorkerFailed, message))?;
        let integrity = |message: String| failed(FailureReason::IntegrityFailed, message);
        // 3: every staged file is what the host recorded.
        for bundle in &envelope.capabilities {
            overlay::verify(&places.envelope_dir, &bundle.file, bundle.digest)
                .map_err(|message| integrity(format!("capability {:?}: {message}", bundle.name)))?;
        }
        for input in &envelope.inputs {
            overlay::verify(&places.envelope_dir, &input.file, input.digest)
                .map_err(|message| integrity(format!("input {:?}: {message}", input.key)))?;
        }
        for plugin in &envelope.plugins {
            overlay::verify(&places.envelope_dir, &plugin.file, plugin.code)
                .map_err(|message| integrity(format!("plugin {:?}: {message}", plugin.id)))?;
        }
        let problems: Vec<String> =
            envelope.pipeline.problems().into_iter().map(|(at, message)| format!("{at} {message}")).collect();
        if !problems.is_empty() {
            return Err(integrity(format!("pipeline {:?}: {}", envelope.pipeline.id, problems.join("; "))));
        }
        // 5
        self.emit(&Event::Started { dispatch_id: envelope.dispatch.clone(), at: now_ms() });
        // 6
        let root = Arc::new(Root::open(&places.workspace).map_err(integrity)?);
        overlay::capabilities(&places.envelope_dir, &root, &envelope.capabilities).map_err(integrity)?;
        overlay::inputs(&places.envelope_dir, &root, &envelope.inputs).map_err(integrity)?;
        // A question of an earlier attempt is not a question of this one.
        root.remove(crate::needs_input::FILE).map_err(integrity)?;
        // 7 and 8
        let home = self.runner.home().to_string_lossy().into_owned();
        let malformed = |error: EnvironmentError| {
            let reason = match error {
                EnvironmentError::MissingSecret { .. } => FailureReason::FetchFailed,
                EnvironmentError::Malformed { .. } => FailureReason::IntegrityFailed,
            };
            failed(reason, error.to_string())
        };
        let host = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
        let host: Vec<(String, String)> = host.collect();
        let env = environment::merged(envelope, &secrets, host.iter().cloned(), &home).map_err(malformed)?;
        let block_env = environment::without_secrets(envelope, host.into_iter(), &home).map_err(malformed)?;
        let agent_env = environment::for_agent(&env, envelope, &secrets).map_err(malformed)?;
        // 9
        self.setup(&env)?;
        if let Some(plan) = &envelope.agent {
            for (path, text) in &plan.files {
                root.write(path, text.as_bytes(), 0o644)
                    .map_err(|message| integrity(format!("launch plan: {message}")))?;
            }
        }
        // 9a
        let path = agent_env.get("PATH").map(String::as_str).unwrap_or_default();
        let unmet: Vec<String> = envelope
            .context_requires
            .iter()
            .filter_map(|need| context::check(need, self.runner.confinement(), path).err())
            .collect();
        if !unmet.is_empty() {
            return Err(failed(FailureReason::WorkerFailed, unmet.join("; ")));
        }
        // 9c: after setup, so that installed dependencies are not part of the change.
        let baseline =
            Baseline::take(&places.workspace, self.private.join("before"), !envelope.inputs.is_empty())
                .map_err(|message| failed(FailureReason::WorkerFailed, message))?;
        let baseline = Arc::new(baseline);
        let plugins = Plugins {
            root: Arc::clone(&root),
            baseline: Arc::clone(&baseline),
            env: Arc::new(block_env),
            secrets: Arc::new(secrets),
            redactor: transcripts,
            snapshot: None,
            host: None,
            loaded: BTreeMap::new(),
        };
        // 11 and 13
        Payload {
            places,
            envelope,
            runner: &mut self.runner,
            redactor: &self.redactor,
            baseline: &baseline,
            root: &root,
            env: &env,
            agent_env: &agent_env,
            plugins,
        }
        .run(result)
    }

    fn prepare_directories(&self) -> Result<(), String> {
        for name in [AGENT_STDOUT_FILE, AGENT_STDERR_FILE, ARTIFACTS_DIR] {
            let path = self.places.result_dir.join(name);
            clear(&path).map_err(|error| format!("cannot clear {}: {error}", path.display()))?;
        }
        clear(&self.private).map_err(|error| format!("cannot clear {}: {error}", self.private.display()))?;
        for path in [self.private.clone(), self.private.join("home"), self.private.join("root")] {
            let made = DirBuilder::new().mode(0o700).create(&path);
            made.map_err(|error| format!("cannot make {}: {error}", path.display()))?;
        }
        Ok(())
    }

    fn setup(&mut self, env: &std::collections::BTreeMap<String, String>) -> Result<(), Halt> {
        let script = self.places.workspace.join(SETUP_SCRIPT);
        match script.symlink_metadata() {
            Ok(meta) if meta.is_file() => {}
            Ok(_) => {
                return Err(failed(
                    FailureReason::WorkerFailed,
                    format!("{SETUP_SCRIPT} is not a regular file"),
                ));
            }
            Err(_) => return Ok(()),
        }
        if self.runner.signals.stopped() {
            return Err(Halt::Stopped);
        }
        let shell = if Path::new("/bin/bash").exists() { "/bin/bash" } else { "/bin/sh" };
        let limit = self.envelope.limits.setup_timeout_ms;
        let outcome = self
            .runner
            .run(Task {
                program: shell,
                args: &[format!("./{SETUP_SCRIPT}")],
                env,
                stdin: "",
                timeout: Duration::from_millis(limit),
                transcript: None,
            })
            .map_err(|message| failed(FailureReason::WorkerFailed, message))?;
        self.emit(&Event::SetupScriptRan {
            exit_code: outcome.code.filter(|_| !outcome.timed_out),
            duration_ms: outcome.duration_ms,
            stdout: outcome.stdout.text.clone(),
            stderr: outcome.stderr.text.clone(),
        });
        if outcome.stopped {
            return Err(Halt::Stopped);
        }
        if outcome.passed() {
            return Ok(());
        }
        let last = bounded(outcome.stderr.text.trim(), 500);
        Err(failed(
            FailureReason::WorkerFailed,
            if outcome.timed_out {
                format!("{SETUP_SCRIPT} took longer than {limit} ms")
            } else {
                format!("{SETUP_SCRIPT} ended with code {}: {last}", outcome.exit_code())
            },
        ))
    }

    fn emit(&self, event: &Event) {
        emit(&self.redactor, event);
    }

    /// 14: terminal event, then the result as the last act.
    fn end(self, mut result: WorkerResult, halt: Option<Halt>) -> i32 {
        let dispatch_id = self.envelope.dispatch.clone();
        // Empty when no command ran: then nothing was confined and nothing is claimed.
        result.mechanisms = self.runner.mechanisms();
        result.not_captured = self.bounded_messages(std::mem::take(&mut result.not_captured));
        let at = now_ms();
        let (ending, event, mut code) = match halt {
            None => {
                let duration_ms = at - result.started_at;
                (Ending::Finished {}, Event::Finished { dispatch_id, at, exit_code: 0, duration_ms }, 0)
            }
            Some(Halt::NeedsInput(value)) => {
                let question = value.get("question").and_then(serde_json::Value::as_str).unwrap_or_default();
                let question = bounded(&self.redactor.text(question), 16_000);
                result.needs_input = Some(self.redactor.json(&value));
                (Ending::NeedsInput {}, Event::NeedsInput { dispatch_id, at, question }, 0)
            }
            Some(Halt::Stopped) => (Ending::Cancelled {}, Event::Cancelled { dispatch_id, at }, 0),
            Some(Halt::Failed { reason, message, exit_code }) => {
                let message = bounded(&self.redactor.text(&message), MESSAGE_BYTES_MAX - 100);
                let code = exit_code.filter(|code| *code != 0).unwrap_or(1);
                let event = Event::Failed { dispatch_id, at, reason, message: message.clone() };
                (Ending::Failed { reason, message, exit_code }, event, code)
            }
        };
        result.ending = ending;
        self.emit(&event);
        // Copies of the workspace from before; the result holds what is needed of them.
        remove_private(&self.private);
        result.finished_at = now_ms();
        if let Err(message) = finish::write(&self.places.result_dir, &result, &self.places.key) {
            self.emit(&Event::EscapeFailed { message });
            code = if code == 0 { 1 } else { code };
        }
        code
    }

    fn bounded_messages(&self, messages: Vec<String>) -> Vec<String> {
        let more = messages.len().saturating_sub(NOT_CAPTURED_MAX);
        let mut kept: Vec<String> = messages
            .iter()
            .take(NOT_CAPTURED_MAX)
            .map(|message| bounded(&self.redactor.text(message), 1_000))
            .collect();
        if more > 0 {
            kept.push(format!("and {more} more"));
        }
        kept
    }
}

/// Commands may leave directories without permissions in their home.
fn remove_private(path: &Path) {
    use std::os::unix::fs::PermissionsExt;
    // `clear` does not follow a link that was put in its place.
    if clear(path).is_ok() || path.is_symlink() {
        return;
    }
    let mut next = vec![path.to_owned()];
    while let Some(directory) = next.pop() {
        fs::set_permissions(&directory, fs::Permissions::from_mode(0o700)).ok();
        for entry in fs::read_dir(&directory).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                next.push(entry.path());
            }
        }
    }
    if let Err(error) = fs::remove_dir_all(path) {
        crate::events::line(&serde_json::json!({
            "kind": "worker.cleanup.failed",
            "message": format!("{}: {error}", path.display()),
        }));
    }
}
