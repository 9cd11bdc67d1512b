//! Step 11: the pipeline. Whatever happens in it, the evidence that can still be collected is collected.

use std::{
    collections::BTreeMap,
    fs::{File, OpenOptions},
    os::unix::fs::OpenOptionsExt,
    time::{Duration, Instant},
};

use nix::fcntl::OFlag;
use pangolin_core::entry::{FailureReason, VerifyResult};
use pangolin_envelope::{
    envelope::Envelope,
    events::Event,
    pipeline::{Block, CaptureWhat, Lens},
    plugin::PluginEvidence,
    result::{AGENT_STDERR_FILE, AGENT_STDOUT_FILE, AgentRun, BlockOutcome, WorkerResult},
};

use crate::{
    block::{Finished, PluginBlock, Plugins},
    boot::Places,
    capture::Baseline,
    command::{Outcome, Runner, Task},
    dispatch::{Halt, failed},
    events::emit,
    needs_input,
    output::bounded,
    outputs,
    redact::Redactor,
    safe_fs::Root,
};

/// Longest verify report.
const REPORT_BYTES_MAX: usize = 8_000;

/// Everything the pipeline works with.
pub(crate) struct Payload<'a> {
    /// Directories.
    pub(crate) places: &'a Places,
    /// The envelope.
    pub(crate) envelope: &'a Envelope,
    /// Runs commands.
    pub(crate) runner: &'a mut Runner,
    /// For events and reports.
    pub(crate) redactor: &'a Redactor,
    /// State before.
    pub(crate) baseline: &'a Baseline,
    /// The workspace.
    pub(crate) root: &'a Root,
    /// Variables of scripts.
    pub(crate) env: &'a BTreeMap<String, String>,
    /// Variables of the agent.
    pub(crate) agent_env: &'a BTreeMap<String, String>,
    /// Runs plugin blocks.
    pub(crate) plugins: Plugins,
}

/// Which captures there have been since the last command.
#[derive(Default)]
struct Collected {
    patch: bool,
    outputs: bool,
}

impl Payload<'_> {
    /// Runs the blocks into `result`.
    ///
    /// # Errors
    /// How the dispatch ends, when it is not finished.
    pub(crate) fn run(mut self, result: &mut WorkerResult) -> Result<(), Halt> {
        let mut collected = Collected::default();
        let mut outcome = Ok(());
        for (ordinal, block) in self.envelope.pipeline.blocks.iter().enumerate() {
            let start = Instant::now();
            let ordinal = u32::try_from(ordinal).unwrap_or(u32::MAX);
            let (kind, ended) = match block {
                Block::Agent {} => ("agent", self.agent(result)),
                Block::Script { command, timeout_seconds, lens } => {
                    ("script", self.script(ordinal, command, *timeout_seconds, *lens, result))
                }
                Block::Capture { what } => ("capture", Ok(self.capture(*what, result, &mut collected))),
                Block::Plugin { plugin, params, timeout_seconds, lens, on_failure } => {
                    let block = PluginBlock {
                        ordinal,
                        id: plugin,
                        params,
                        timeout_seconds: *timeout_seconds,
                        lens: *lens,
                        on_failure: *on_failure,
                    };
                    ("plugin", self.plugin(&block, result))
                }
            };
            if matches!(block, Block::Agent {} | Block::Script { .. }) {
                self.plugins.forget_files();
            }
            let Ended { exit_code, ok, halt, plugin } = match ended {
                Ok(ended) => ended,
                Err(halt) => Ended { exit_code: None, ok: false, halt: Some(halt), plugin: None },
            };
            let duration_ms = i64::try_from(start.elapsed().as_millis()).unwrap_or(i64::MAX);
            result.blocks.push(BlockOutcome {
                kind: kind.to_owned(),
                ordinal,
                ok,
                exit_code,
                duration_ms,
                plugin,
            });
            if let Some(halt) = halt {
                outcome = Err(halt);
                break;
            }
        }
        if outcome.is_err() {
            // Partial work is evidence too.
            if !collected.patch {
                self.capture(CaptureWhat::Patch, result, &mut collected);
            }
            if !collected.outputs {
                self.capture(CaptureWhat::Outputs, result, &mut collected);
            }
        }
        match outcome {
            // Scripts may ask as well.
            Ok(()) => self.question().map_or(Ok(()), Err),
            halted => halted,
        }
    }

    /// The question that waits, or what is wrong with it.
    fn question(&self) -> Option<Halt> {
        match needs_input::read(self.root) {
            Ok(None) => None,
            Ok(Some(value)) => Some(Halt::NeedsInput(value)),
            Err(message) => Some(failed(FailureReason::WorkerFailed, message)),
        }
    }

    fn transcript(&self, name: &str, limit: u64) -> Result<(File, u64), Halt> {
        let path = self.places.result_dir.join(name);
        let mut options = OpenOptions::new();
        // A pipeline with several agent blocks keeps the last transcript.
        if path.symlink_metadata().is_ok() {
            crate::capture::clear(&path)
                .map_err(|error| failed(FailureReason::WorkerFailed, format!("{name}: {error}")))?;
        }
        options.write(true).create_new(true).mode(0o644).custom_flags(OFlag::O_NOFOLLOW.bits());
        let file = options.open(&path).map_err(|error| {
            failed(
                FailureReason::WorkerFailed,
                format!("cannot write transcript {}: {error}", path.display()),
            )
        })?;
        Ok((file, limit))
    }

    fn agent(&mut self, result: &mut WorkerResult) -> Result<Ended, Halt> {
        if self.runner.signals.stopped() {
            return Err(Halt::Stopped);
        }
        let limits = &self.envelope.limits;
        let Some(plan) = &self.envelope.agent else {
            return Err(failed(FailureReason::WorkerFailed, "the envelope has no launch plan"));
        };
        let transcript = [
            self.transcript(AGENT_STDOUT_FILE, limits.stdout_bytes)?,
            self.transcript(AGENT_STDERR_FILE, limits.stderr_bytes)?,
        ];
        let outcome = self
            .runner
            .run(Task {
                program: &plan.program,
                args: &plan.args,
                env: self.agent_env,
                stdin: &plan.stdin,
                timeout: Duration::from_millis(limits.agent_timeout_ms),
                transcript: Some(transcript),
            })
            .map_err(|message| {
                failed(FailureReason::WorkerFailed, format!("agent {:?}: {message}", plan.adapter))
            })?;
        emit(
            self.redactor,
            &Event::RuntimeAdapterRan {
                exit_code: outcome.exit_code(),
                duration_ms: outcome.duration_ms,
                stdout: outcome.stdout.text.clone(),
                stderr: outcome.stderr.text.clone(),
            },
        );
        result.agent = Some(AgentRun {
            exit_code: outcome.code,
            signal: outcome.signal,
            timed_out: outcome.timed_out,
            truncated: outcome.stdout.truncated || outcome.stderr.truncated,
            stdout: outcome.stdout.digest,
            stderr: outcome.stderr.digest,
            duration_ms: outcome.duration_ms,
        });
        let ok = outcome.passed();
        let exit_code = outcome.exit_code();
        let halt = if let Some(problem) = outcome.stdout.problem.as_ref().or(outcome.stderr.problem.as_ref())
        {
            Some(failed(
                FailureReason::WorkerFailed,
                format!("the agent's transcript could not be kept: {problem}"),
            ))
        } else if outcome.stopped {
            Some(Halt::Stopped)
        } else if outcome.timed_out {
            let limit = limits.agent_timeout_ms;
            Some(Halt::Failed {
                reason: FailureReason::Timeout,
                message: format!("the agent took longer than {limit} ms and was stopped"),
                exit_code: Some(exit_code),
            })
        } else {
            // An agent that asks may end as it likes, and nobody has to judge its unfinished work.
            self.question().or_else(|| {
                (!ok).then(|| Halt::Failed {
                    reason: FailureReason::ProviderFailed,
                    message: format!("the agent ended with {}{}", describe(&outcome), last_words(&outcome)),
                    exit_code: Some(exit_code),
                })
            })
        };
        Ok(Ended { exit_code: Some(exit_code), ok, halt, plugin: None })
    }

    fn script(
        &mut self,
        ordinal: u32,
        command: &str,
        seconds: u32,
        lens: Lens,
        result: &mut WorkerResult,
    ) -> Result<Ended, Halt> {
        if self.runner.signals.stopped() {
            return Err(Halt::Stopped);
        }
        let outcome = self
            .runner
            .run(Task {
                program: "/bin/sh",
                args: &["-c".to_owned(), command.to_owned()],
                env: self.env,
                stdin: "",
                timeout: Duration::from_secs(u64::from(seconds)),
                transcript: None,
            })
            .map_err(|message| {
                failed(FailureReason::WorkerFailed, format!("script block {ordinal}: {message}"))
            })?;
        let (ok, exit_code, duration_ms) = (outcome.passed(), outcome.exit_code(), outcome.duration_ms);
        let mut halt = outcome.stopped.then_some(Halt::Stopped);
        match lens {
            Lens::Verify => {
                let report = format!("{}{}", outcome.stdout.text, outcome.stderr.text);
                self.verified(&report, ok, duration_ms, result);
            }
            Lens::Gate => {
                let event = Event::ScriptGateRan {
                    ordinal,
                    exit_code,
                    duration_ms,
                    stdout: outcome.stdout.text.clone(),
                    stderr: outcome.stderr.text.clone(),
                };
                emit(self.redactor, &event);
                if !ok && halt.is_none() {
                    let how = if outcome.timed_out {
                        format!("took longer than {seconds} s and was stopped")
                    } else {
                        format!("ended with {}", describe(&outcome))
                    };
                    halt = Some(Halt::Failed {
                        reason: FailureReason::ProviderFailed,
                        message: format!("gate {ordinal} {how}{}", last_words(&outcome)),
                        exit_code: Some(exit_code),
                    });
                }
            }
        }
        Ok(Ended { exit_code: Some(exit_code), ok, halt, plugin: None })
    }

    fn plugin(&mut self, block: &PluginBlock<'_>, result: &mut WorkerResult) -> Result<Ended, Halt> {
        if self.runner.signals.stopped() {
            return Err(Halt::Stopped);
        }
        let start = Instant::now();
        let Finished { evidence, passed, halt } =
            self.plugins.run(block, self.places, self.envelope, self.runner, &result.blocks)?;
        let duration_ms = i64::try_from(start.elapsed().as_millis()).unwrap_or(i64::MAX);
        let summary = match (&evidence.failure, &evidence.verdict) {
            (Some(failure), _) => failure.message.clone(),
            (None, Some(verdict)) => verdict.summary.clone(),
            (None, None) => String::new(),
        };
        let event = Event::PluginBlockRan {
            ordinal: block.ordinal,
            plugin: evidence.id.clone(),
            passed: evidence.verdict.as_ref().map(|verdict| verdict.passed),
            summary: summary.clone(),
            failure: evidence.failure.as_ref().map(|failure| failure.code.clone()),
            duration_ms,
        };
        emit(self.redactor, &event);
        if block.lens == Lens::Verify {
            self.verified(&format!("{}: {summary}", evidence.id), passed, duration_ms, result);
        }
        Ok(Ended { exit_code: None, ok: passed, halt, plugin: Some(Box::new(evidence)) })
    }

    /// Several verify blocks count as one: passed when all did.
    fn verified(&self, report: &str, passed: bool, duration_ms: i64, result: &mut WorkerResult) {
        let report = bounded(&self.redactor.text(report), REPORT_BYTES_MAX);
        result.verify_report = Some(match result.verify_report.take() {
            Some(earlier) => bounded(&format!("{earlier}\n{report}"), REPORT_BYTES_MAX),
            None => report,
        });
        let earlier = result.verify.take().unwrap_or(VerifyResult { passed: true, duration_ms: 0 });
        result.verify = Some(VerifyResult {
            passed: earlier.passed && passed,
            duration_ms: earlier.duration_ms.saturating_add(duration_ms),
        });
        let dispatch_id = self.envelope.dispatch.clone();
        emit(self.redactor, &Event::VerifyRan { dispatch_id, passed, duration_ms });
    }

    /// Never aborts; what is missing is said.
    fn capture(&mut self, what: CaptureWhat, result: &mut WorkerResult, collected: &mut Collected) -> Ended {
        let (workspace, result_dir) = (&self.places.workspace, &self.places.result_dir);
        let limits = &self.envelope.limits;
        let problems = match what {
            CaptureWhat::Patch => {
                collected.patch = true;
                self.baseline.compare(workspace, result_dir, limits.capture_bytes).map(|captured| {
                    result.capture = Some(captured.capture);
                    captured.not_captured
                })
            }
            CaptureWhat::Outputs => {
                collected.outputs = true;
                outputs::collect(workspace, result_dir, limits).map(|(outputs, left_out)| {
                    result.outputs = outputs;
                    left_out
                })
            }
        };
        let (ok, messages) = match problems {
            Ok(messages) => (messages.is_empty(), messages),
            Err(message) => (false, vec![message]),
        };
        for message in messages {
            if !result.not_captured.contains(&message) {
                if result.not_captured.len() < 20 {
                    emit(self.redactor, &Event::EscapeFailed { message: message.clone() });
                }
                result.not_captured.push(message);
            }
        }
        Ended { exit_code: None, ok, halt: None, plugin: None }
    }
}

struct Ended {
    exit_code: Option<i32>,
    ok: bool,
    halt: Option<Halt>,
    plugin: Option<Box<PluginEvidence>>,
}

fn describe(outcome: &Outcome) -> String {
    match (outcome.code, outcome.signal) {
        (Some(code), _) => format!("code {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => "an unknown status".to_owned(),
    }
}

/// The end of stderr, or of stdout when there is none.
fn last_words(outcome: &Outcome) -> String {
    let text = [&outcome.stderr.text, &outcome.stdout.text]
        .into_iter()
        .map(|text| text.trim())
        .find(|text| !text.is_empty());
    let Some(text) = text else { return String::new() };
    let mut from = text.len().saturating_sub(600);
    while !text.is_char_boundary(from) {
        from += 1;
    }
    format!(": {}", &text[from..])
}
