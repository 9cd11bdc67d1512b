//! Running one command: confined, bounded in time and output, stoppable, and nothing of it left afterwards.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::Write,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use nix::{
    sys::{
        signal::{Signal, kill},
        wait::WaitStatus,
    },
    unistd::{Pid, getpid},
};
use pangolin_core::entry::Isolation;
use pangolin_envelope::envelope::CommandLimits;
use serde::Serialize;

use crate::{
    output::{Captured, drain},
    redact::Redactor,
    signals::Signals,
    stage::{ExecOrder, OrderFile, Report, ResourceLimits, SELF, SandboxOrder},
    tree,
};

/// Exit code of a command that took too long.
pub(crate) const TIMED_OUT: i32 = 124;

/// How commands of this dispatch are confined.
#[derive(Debug, Clone)]
pub(crate) struct Confinement {
    /// The level of the envelope.
    pub(crate) isolation: Isolation,
    /// No network.
    pub(crate) no_network: bool,
    /// Limits of the envelope.
    pub(crate) limits: CommandLimits,
    /// Working tree.
    pub(crate) workspace: PathBuf,
    /// Directory of this worker alone, with `home/` in it.
    pub(crate) private: PathBuf,
    /// Extra read-only directories.
    pub(crate) read_only: Vec<PathBuf>,
    /// What a sandbox must not show.
    pub(crate) hidden: Vec<PathBuf>,
    /// `inputs/` holds inputs of the dispatch, which commands may not change.
    pub(crate) has_inputs: bool,
}

/// A command to run.
pub(crate) struct Task<'a> {
    /// Program.
    pub(crate) program: &'a str,
    /// Arguments.
    pub(crate) args: &'a [String],
    /// All its variables.
    pub(crate) env: &'a BTreeMap<String, String>,
    /// Text for stdin, which is closed afterwards.
    pub(crate) stdin: &'a str,
    /// Wall time.
    pub(crate) timeout: Duration,
    /// Files that get stdout and stderr, with their limits.
    pub(crate) transcript: Option<[(File, u64); 2]>,
}

/// How a command ended.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// Exit code, if it exited.
    pub(crate) code: Option<i32>,
    /// Signal, if it was killed.
    pub(crate) signal: Option<i32>,
    /// Killed because of its time limit.
    pub(crate) timed_out: bool,
    /// Killed because the worker was asked to stop.
    pub(crate) stopped: bool,
    /// Wall time in milliseconds.
    pub(crate) duration_ms: i64,
    /// Its stdout.
    pub(crate) stdout: Captured,
    /// Its stderr.
    pub(crate) stderr: Captured,
}

impl Outcome {
    /// One number: 124 on timeout, 128 + n on signal n.
    #[must_use]
    pub(crate) fn exit_code(&self) -> i32 {
        if self.timed_out { TIMED_OUT } else { self.code.unwrap_or_else(|| 128 + self.signal.unwrap_or(9)) }
    }

    /// It exited with 0, in time and on its own.
    #[must_use]
    pub(crate) fn passed(&self) -> bool {
        self.code == Some(0) && !self.timed_out && !self.stopped
    }
}

/// Runs the commands of one dispatch. A copy goes to each plugin block and comes back with what it ran.
#[derive(Clone)]
pub(crate) struct Runner {
    confinement: Confinement,
    /// Receives stop requests and child ends.
    pub(crate) signals: Signals,
    redactor: Redactor,
    started: u32,
    /// Mechanisms that were in force for every command so far.
    mechanisms: Option<Vec<String>>,
}

impl Runner {
    /// A runner for one dispatch.
    #[must_use]
    pub(crate) fn new(confinement: Confinement, signals: Signals) -> Self {
        Self { confinement, signals, redactor: Redactor::default(), started: 0, mechanisms: None }
    }

    /// What is replaced in transcripts from now on.
    pub(crate) fn redact(&mut self, redactor: Redactor) {
        self.redactor = redactor;
    }

    /// Mechanisms that confined every command that ran.
    #[must_use]
    pub(crate) fn mechanisms(&self) -> Vec<String> {
        self.mechanisms.clone().unwrap_or_default()
    }

    /// The confinement.
    #[must_use]
    pub(crate) fn confinement(&self) -> &Confinement {
        &self.confinement
    }

    /// Home of the commands as they see it.
    #[must_use]
    pub(crate) fn home(&self) -> PathBuf {
        match self.confinement.isolation {
            Isolation::Sandbox => PathBuf::from(crate::stage::HOME),
            _ => self.confinement.private.join("home"),
        }
    }

    /// Runs a command that does nothing, which only the worker itself surely has: its own program.
    ///
    /// # Errors
    /// What is missing.
    pub(crate) fn probe(&mut self) -> Result<Vec<String>, String> {
        let env = BTreeMap::new();
        let args = ["--version".to_owned()];
        let timeout = Duration::from_secs(30);
        let outcome =
            self.run(Task { program: SELF, args: &args, env: &env, stdin: "", timeout, transcript: None })?;
        if outcome.passed() {
            return Ok(self.mechanisms());
        }
        Err(format!(
            "a command in the sandbox ended with {}: {}",
            outcome.exit_code(),
            outcome.stderr.text.trim()
        ))
    }

    /// Runs a command to its end. When this returns, nothing of its process tree is left.
    ///
    /// # Errors
    /// A message when it could not be started or confined; then it did not run.
    pub(crate) fn run(&mut self, task: Task<'_>) -> Result<Outcome, String> {
        let sandboxed = self.confinement.isolation == Isolation::Sandbox;
        let limits = &self.confinement.limits;
        let command = ExecOrder {
            program: task.program.to_owned(),
            args: task.args.to_vec(),
            env: task.env.clone(),
            directory: self.confinement.workspace.clone(),
            limits: ResourceLimits {
                file_bytes: Some(limits.file_bytes),
                data_bytes: sandboxed.then_some(limits.memory_bytes),
                processes: sandboxed.then_some(u64::from(limits.pids)),
                open_files: sandboxed.then_some(4096),
            },
            nested_user: sandboxed,
        };
        if sandboxed {
            let order = self.sandbox(command);
            self.execute("__sandbox", &order, task)
        } else {
            self.execute("__exec", &command, task)
        }
    }

    fn sandbox(&self, command: ExecOrder) -> SandboxOrder {
        let c = &self.confinement;
        let fixed = |name: &str, wanted: fn(&fs::Metadata) -> bool| {
            let path = c.workspace.join(name);
            path.symlink_metadata().is_ok_and(|meta| wanted(&meta)).then_some(path)
        };
        // `.git` as a file names the directory whose hooks and settings git obeys; commands must not redirect it.
        let workspace_read_only = [
            fixed(".git", fs::Metadata::is_file),
            fixed("inputs", fs::Metadata::is_dir).filter(|_| c.has_inputs),
        ]
        .into_iter()
        .flatten();
        SandboxOrder {
            root: c.private.join("root"),
            workspace: c.workspace.clone(),
            workspace_read_only: workspace_read_only.collect(),
            home: c.private.join("home"),
            read_only: c.read_only.clone(),
            hidden: c.hidden.clone(),
            no_network: c.no_network,
            tmp_bytes: (c.limits.memory_bytes / 2).max(1 << 20),
            processes: u64::from(c.limits.pids),
            parent: getpid().as_raw(),
            command,
        }
    }

    fn execute(
        &mut self,
        stage: &str,
        order: &impl Serialize,
        mut task: Task<'_>,
    ) -> Result<Outcome, String> {
        let start = Instant::now();
        self.started += 1;
        let path = self.confinement.private.join(format!("order-{}", self.started));
        let mut file = OrderFile::create(&path, order)
            .map_err(|error| format!("cannot write {}: {error}", path.display()))?;
        let (out, err) = match task.transcript.take() {
            Some([out, err]) => (Some(out), Some(err)),
            None => (None, None),
        };
        let mut child = spawn(stage, &path, !task.stdin.is_empty())?;
        let main = i32::try_from(child.id()).map(Pid::from_raw).map_err(|error| error.to_string())?;
        let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let mut watch = Watch {
            signals: &self.signals,
            grace: Duration::from_millis(self.confinement.limits.grace_ms),
            deadline: start + task.timeout,
            sandboxed: stage == "__sandbox",
            main,
        };
        let (redactor, text) = (&self.redactor, task.stdin.as_bytes());
        let (ended, stdout, stderr) = thread::scope(|scope| {
            if let Some(mut stdin) = stdin {
                // The command may end without reading it.
                scope.spawn(move || drop(stdin.write_all(text)));
            }
            let stdout = stdout.map(|pipe| scope.spawn(move || drain(pipe, redactor, out)));
            let stderr = stderr.map(|pipe| scope.spawn(move || drain(pipe, redactor, err)));
            let ended = watch.until_nothing_is_left();
            let join =
                |handle: Option<thread::ScopedJoinHandle<'_, Captured>>| handle.and_then(|it| it.join().ok());
            (ended, join(stdout), join(stderr))
        });
        // The last stage removes its orders itself; those of the sandbox stay until here.
        fs::remove_file(&path).ok();
        let ended = ended?;
        let (Some(stdout), Some(stderr)) = (stdout, stderr) else {
            return Err("cannot read the output of the command".to_owned());
        };
        let report = file.read_report();
        if let Some(error) = report.as_ref().and_then(|report| report.error.clone()) {
            return Err(error);
        }
        let (code, signal) = match &report {
            Some(Report { code, signal, .. }) if code.is_some() || signal.is_some() => (*code, *signal),
            // The sandbox stood and was killed as a whole.
            Some(_) => (None, Some(Signal::SIGKILL as i32)),
            None if stage == "__exec" => (ended.code, ended.signal),
            // Stopped while it was still being set up.
            None if ended.stopped || ended.timed_out => (None, Some(Signal::SIGKILL as i32)),
            None => {
                return Err(format!(
                    "the sandbox ended without a report ({ended:?}): {}",
                    stderr.text.trim()
                ));
            }
        };
        match report {
            Some(report) => self.note(report.mechanisms),
            None if stage == "__exec" => {
                self.note(vec!["no-new-privs".to_owned(), "process-session".to_owned()])
            }
            // No command ran.
            None => {}
        }
        let duration_ms = i64::try_from(start.elapsed().as_millis()).unwrap_or(i64::MAX);
        Ok(Outcome {
            code,
            signal,
            timed_out: ended.timed_out,
            stopped: ended.stopped,
            duration_ms,
            stdout,
            stderr,
        })
    }

    /// Only what held for every command may be reported.
    fn note(&mut self, now: Vec<String>) {
        match &mut self.mechanisms {
            Some(have) => have.retain(|name| now.contains(name)),
            None => self.mechanisms = Some(now),
        }
    }
}

fn spawn(stage: &str, path: &Path, with_stdin: bool) -> Result<Child, String> {
    Command::new(SELF)
        .arg(stage)
        .arg(path)
        .env_clear()
        .stdin(if with_stdin { Stdio::piped() } else { Stdio::null() })
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| format!("cannot start stage {stage} of the worker: {error}"))
}

#[derive(Debug, Default)]
struct Ended {
    code: Option<i32>,
    signal: Option<i32>,
    timed_out: bool,
    stopped: bool,
}

struct Watch<'a> {
    signals: &'a Signals,
    grace: Duration,
    deadline: Instant,
    sandboxed: bool,
    main: Pid,
}

impl Watch<'_> {
    fn until_nothing_is_left(&mut self) -> Result<Ended, String> {
        let mut ended = Ended::default();
        let mut asked: Option<Instant> = None;
        loop {
            let mut over = false;
            let any = tree::reap(|status| match status {
                WaitStatus::Exited(pid, code) if pid == self.main => (ended.code, over) = (Some(code), true),
                WaitStatus::Signaled(pid, signal, _) if pid == self.main => {
                    (ended.signal, over) = (Some(signal as i32), true);
                }
                _ => {}
            });
            if over || !any {
                break;
            }
            let now = Instant::now();
            match asked {
                None if self.signals.stopped() || now >= self.deadline => {
                    ended.stopped = self.signals.stopped();
                    ended.timed_out = !ended.stopped;
                    self.ask();
                    asked = Some(now);
                }
                Some(since) if now >= since + self.grace => break,
                _ => {}
            }
            let until = asked.map_or(self.deadline, |since| since + self.grace);
            self.signals.wait(until.saturating_duration_since(Instant::now()).max(Duration::from_millis(1)));
        }
        // What the command left behind ends with it, also what detached itself.
        tree::kill_all(self.signals)?;
        Ok(ended)
    }

    /// The polite request. In a sandbox the stages hand it to everybody inside.
    fn ask(&self) {
        if self.sandboxed {
            kill(self.main, Signal::SIGTERM).ok();
        } else {
            tree::signal_all(Signal::SIGTERM);
        }
    }
}
