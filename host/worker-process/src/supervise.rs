//! The supervisor: one small process per dispatch that outlives the daemon.
//!
//! It leads its own session (so neither Ctrl-C nor the end of the daemon reaches it) and is the subreaper of
//! everything the worker starts (so nothing escapes it by daemonising). It is single-threaded and sleeps in
//! `poll`. When a service manager stops the daemon it must leave the supervisors alone (systemd:
//! `KillMode=process`); a supervisor told to stop by a signal stops its worker and records it as lost.

use std::{
    ffi::OsString,
    io::{self, Read, Write},
    os::fd::AsFd,
    path::PathBuf,
    process::{ChildStderr, ChildStdout, Command, ExitCode, Stdio},
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::{
        prctl,
        signal::{SigSet, Signal, kill},
        signalfd::{SfdFlags, SignalFd},
        wait::{WaitPidFlag, WaitStatus, waitpid},
    },
    unistd::{Pid, setsid},
};
use pangolin_envelope::envelope::worker_env;
use pangolin_ports::{
    worker_backend::Limits,
    worker_output::{EVENTS_FILE, STDERR_FILE, StreamKind},
};
use serde::{Deserialize, Serialize};

use crate::{
    identity::Identity,
    record::{Exit, Record},
    sink::{Pump, Sink},
    tree,
};

/// Name of the hidden subcommand by which a program offers [`supervise_main`].
pub const SUPERVISE_COMMAND: &str = "__supervise";

/// What the backend tells the supervisor on stdin. Holds the result key, so it is nowhere on disk or in argv.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Order {
    pub(crate) record_dir: PathBuf,
    pub(crate) worker: PathBuf,
    pub(crate) envelope_dir: PathBuf,
    pub(crate) workspace_dir: PathBuf,
    pub(crate) result_dir: PathBuf,
    pub(crate) result_key: String,
    pub(crate) limits: Limits,
}

/// The one line the supervisor answers on stdout.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "kebab-case")]
pub(crate) enum Answer {
    /// The worker was started (or, cancelled before, will never be).
    Started,
    /// Another supervisor has or had this dispatch.
    ClaimedBefore,
    /// Nothing was started; it may be tried again.
    Failed { detail: String },
}

/// Runs as the supervisor of one dispatch: reads its order from stdin, answers with one line on stdout, returns
/// when the worker's whole tree is gone and the end is on record. `arguments` (what follows
/// [`SUPERVISE_COMMAND`]) must be empty. Call it before any thread is started.
pub fn supervise_main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    if arguments.into_iter().next().is_some() {
        complain("the supervisor takes no arguments; the backend starts it");
        return ExitCode::from(2);
    }
    let order: Order = match read_order() {
        Ok(order) => order,
        Err(error) => {
            complain(&format!("no order on stdin: {error}"));
            return ExitCode::from(2);
        }
    };
    match supervise(&order) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&format!("supervisor of {} failed: {error}", order.record_dir.display()));
            answer(&Answer::Failed { detail: error.to_string() });
            ExitCode::FAILURE
        }
    }
}

fn read_order() -> io::Result<Order> {
    let mut text = Vec::new();
    io::stdin().lock().read_to_end(&mut text)?;
    Ok(serde_json::from_slice(&text)?)
}

fn answer(answer: &Answer) {
    if let Ok(mut line) = serde_json::to_vec(answer) {
        line.push(b'\n');
        // A daemon that died meanwhile is no reason to stop.
        let mut stdout = io::stdout().lock();
        let _ = stdout.write_all(&line).and_then(|()| stdout.flush());
    }
}

/// stderr is a file in the record directory.
#[expect(clippy::print_stderr, reason = "the supervisor has no other log")]
pub(crate) fn complain(text: &str) {
    eprintln!("{text}");
}

fn supervise(order: &Order) -> io::Result<()> {
    // The key passes through this process; others of the same user must not read its memory.
    prctl::set_dumpable(false)?;
    // Fails only for a process group leader, which a spawned child is not.
    setsid()?;
    prctl::set_child_subreaper(true)?;
    let mut signals = SigSet::empty();
    for signal in [Signal::SIGCHLD, Signal::SIGUSR1, Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
        signals.add(signal);
    }
    signals.thread_block()?;
    let signals = SignalFd::with_flags(&signals, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
    let record = Record::at(order.record_dir.clone());

    let own = Identity::of(nix::unistd::getpid().as_raw())?;
    // From the claim on, cancels are announced with SIGUSR1, which is blocked already and so not missed.
    if !record.take_claim(&own)? {
        answer(&Answer::ClaimedBefore);
        return Ok(());
    }
    if record.cancel()?.is_some() {
        record.write_exit(&Exit::Cancelled)?;
        answer(&Answer::Started);
        return Ok(());
    }
    let (worker, stdout, stderr) = match start(order) {
        Ok(started) => started,
        Err(error) => {
            record.drop_claim()?;
            return Err(error);
        }
    };
    let deadline = Instant::now() + Duration::from_millis(order.limits.timeout_ms);
    if let Err(error) = Identity::of(worker.as_raw()).and_then(|worker| record.write_worker(&worker)) {
        // Only a host that has to clean up after this process would read it.
        complain(&format!("cannot note the worker's pid: {error}"));
    }
    answer(&Answer::Started);
    let mut supervision =
        Supervision { order, record: &record, signals, worker, stdout, stderr, deadline, stop: None };
    let exit = supervision.run().unwrap_or_else(|error| {
        let detail = format!("its supervisor failed ({error}), so the worker was killed");
        complain(&detail);
        if let Err(error) = supervision.kill_the_rest() {
            complain(&format!("cannot make sure that its processes are gone: {error}"));
        }
        Exit::Lost { detail }
    });
    // The worker was started, so from here on no answer is owed; a missing record reads as lost.
    if let Err(error) = record.write_exit(&exit) {
        complain(&format!("cannot record {exit:?}: {error}"));
    }
    Ok(())
}

type Started = (Pid, Pump<ChildStdout>, Pump<ChildStderr>);

fn start(order: &Order) -> io::Result<Started> {
    let limit = order.limits.output_bytes;
    let events = order.result_dir.join(EVENTS_FILE);
    let text = order.result_dir.join(STDERR_FILE);
    let sinks = Sink::create(&events, StreamKind::Events, limit)
        .and_then(|out| Ok((out, Sink::create(&text, StreamKind::Text, limit)?)));
    let spawned = sinks.and_then(|sinks| {
        let mut command = Command::new(&order.worker);
        command
            .env_clear()
            .envs(inherited_environment())
            .env(worker_env::ENVELOPE_DIR, &order.envelope_dir)
            .env(worker_env::WORKSPACE_DIR, &order.workspace_dir)
            .env(worker_env::RESULT_DIR, &order.result_dir)
            .env(worker_env::RESULT_KEY, &order.result_key)
            .current_dir(&order.workspace_dir)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let child = command.spawn().map_err(|error| {
            io::Error::new(error.kind(), format!("start {}: {error}", order.worker.display()))
        })?;
        Ok((child, sinks))
    });
    let (mut child, (out, err)) = spawned.inspect_err(|_| {
        // Nothing ran; another attempt must find the result directory empty.
        let _ = std::fs::remove_file(&events);
        let _ = std::fs::remove_file(&text);
    })?;
    let pid = i32::try_from(child.id()).map_err(io::Error::other)?;
    // Taking is certain to succeed: both were asked for as pipes.
    let missing = || io::Error::other("the worker has no output pipe");
    let stdout = Pump::new(child.stdout.take().ok_or_else(missing)?, out)?;
    let stderr = Pump::new(child.stderr.take().ok_or_else(missing)?, err)?;
    Ok((Pid::from_raw(pid), stdout, stderr))
}

/// What workers and supervisors inherit; everything else stays outside.
pub(crate) fn inherited_environment() -> impl Iterator<Item = (&'static str, OsString)> {
    ["PATH", "LANG", "HOME", "TMPDIR"].into_iter().filter_map(|name| Some((name, std::env::var_os(name)?)))
}

enum Reason {
    TimedOut,
    Cancelled,
    Signal(Signal),
}

struct Stop {
    reason: Reason,
    kill_at: Instant,
}

struct Supervision<'a> {
    order: &'a Order,
    record: &'a Record,
    signals: SignalFd,
    worker: Pid,
    stdout: Pump<ChildStdout>,
    stderr: Pump<ChildStderr>,
    deadline: Instant,
    stop: Option<Stop>,
}

impl Supervision<'_> {
    fn run(&mut self) -> io::Result<Exit> {
        let status = loop {
            if let Some(status) = self.reap()? {
                break status;
            }
            self.enforce();
            self.sleep()?;
            self.stdout.turn(4);
            self.stderr.turn(4);
            self.heed_signals()?;
        };
        self.kill_the_rest()?;
        // What is still in the pipes; bounded because a descriptor may have been handed to a stranger.
        self.stdout.turn(64);
        self.stderr.turn(64);
        Ok(match &self.stop {
            Some(Stop { reason: Reason::TimedOut, .. }) => Exit::TimedOut,
            Some(Stop { reason: Reason::Cancelled, .. }) => Exit::Cancelled,
            Some(Stop { reason: Reason::Signal(signal), .. }) => Exit::Lost {
                detail: format!("its supervisor was told to stop by {signal}, so the worker was stopped too"),
            },
            None => Exit::Exited { code: status },
        })
    }

    /// Collects ended children, orphans included. The worker's code once it is among them.
    fn reap(&self) -> io::Result<Option<i32>> {
        loop {
            match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::Exited(pid, code)) if pid == self.worker => return Ok(Some(code)),
                Ok(WaitStatus::Signaled(pid, signal, _)) if pid == self.worker => {
                    return Ok(Some(128 + signal as i32));
                }
                Ok(WaitStatus::StillAlive) => return Ok(None),
                Ok(_) | Err(Errno::EINTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn enforce(&mut self) {
        let now = Instant::now();
        if self.stop.is_none() && now >= self.deadline {
            self.stop(Reason::TimedOut, Duration::from_millis(self.order.limits.grace_ms));
        }
        if self.stop.as_ref().is_some_and(|stop| now >= stop.kill_at) {
            tree::kill_below(nix::unistd::getpid().as_raw());
        }
    }

    /// The first reason stays; a later request can only shorten the grace.
    fn stop(&mut self, reason: Reason, grace: Duration) {
        let kill_at = Instant::now() + grace;
        match &mut self.stop {
            Some(stop) => stop.kill_at = stop.kill_at.min(kill_at),
            None => {
                self.stop = Some(Stop { reason, kill_at });
                // Its pid is ours to signal until we reap it.
                let _ = kill(self.worker, Signal::SIGTERM);
            }
        }
    }

    fn sleep(&self) -> io::Result<()> {
        let mut wake = self.stop.as_ref().map_or(self.deadline, |stop| stop.kill_at);
        if wake <= Instant::now() {
            // Killed and not gone yet: look again soon for what it forked meanwhile.
            wake = Instant::now() + Duration::from_millis(5);
        }
        let left = wake.saturating_duration_since(Instant::now()).as_millis().saturating_add(1);
        let timeout =
            PollTimeout::try_from(i32::try_from(left).unwrap_or(i32::MAX)).unwrap_or(PollTimeout::MAX);
        let mut fds = vec![PollFd::new(self.signals.as_fd(), PollFlags::POLLIN)];
        fds.extend(self.stdout.fd().map(|fd| PollFd::new(fd, PollFlags::POLLIN)));
        fds.extend(self.stderr.fd().map(|fd| PollFd::new(fd, PollFlags::POLLIN)));
        match poll(&mut fds, timeout) {
            Ok(_) | Err(Errno::EINTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn heed_signals(&mut self) -> io::Result<()> {
        while let Some(info) = self.signals.read_signal()? {
            match i32::try_from(info.ssi_signo).ok().and_then(|number| Signal::try_from(number).ok()) {
                Some(Signal::SIGUSR1) => {
                    if let Some(cancel) = self.record.cancel()? {
                        self.stop(Reason::Cancelled, Duration::from_millis(cancel.grace_ms));
                    }
                }
                // The loop reaps after every wake-up.
                Some(Signal::SIGCHLD) | None => {}
                Some(signal) => {
                    self.stop(Reason::Signal(signal), Duration::from_millis(self.order.limits.grace_ms));
                }
            }
        }
        Ok(())
    }

    /// Being the subreaper, this process has a child as long as any descendant of the worker is left.
    fn kill_the_rest(&self) -> io::Result<()> {
        loop {
            match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                Err(Errno::ECHILD) => return Ok(()),
                Ok(WaitStatus::StillAlive) => {
                    tree::kill_below(nix::unistd::getpid().as_raw());
                    while self.signals.read_signal()?.is_some() {}
                    let mut fds = [PollFd::new(self.signals.as_fd(), PollFlags::POLLIN)];
                    match poll(&mut fds, PollTimeout::from(5_u8)) {
                        Ok(_) | Err(Errno::EINTR) => {}
                        Err(error) => return Err(error.into()),
                    }
                }
                Ok(_) | Err(Errno::EINTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}
