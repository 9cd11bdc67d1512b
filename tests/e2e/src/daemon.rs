//! A daemon that never outlives its test.

use std::{
    io::{BufRead as _, BufReader, Read as _},
    process::{Child, Command, ExitStatus, Stdio},
    sync::mpsc::{Receiver, RecvTimeoutError, channel},
    thread,
    time::Instant,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::DEADLINE;

/// `pangolin orch serve`.
pub struct Daemon {
    child: Child,
    stderr: Receiver<String>,
    seen: Vec<String>,
}

impl Daemon {
    /// Starts `command` and waits until it says `ready` on stderr. For most tests `World::serve` is enough.
    ///
    /// # Panics
    /// When it cannot be started or does not say it.
    #[must_use]
    pub fn start(mut command: Command, ready: &str) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("daemon");
        let (sender, stderr) = channel();
        let pipe = child.stderr.take().expect("stderr");
        thread::spawn(move || {
            for line in BufReader::new(pipe).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        let mut daemon = Self { child, stderr, seen: Vec::new() };
        daemon.until(ready);
        daemon
    }

    /// Waits for a line on stderr that contains `part`.
    ///
    /// # Panics
    /// When it does not come.
    pub fn until(&mut self, part: &str) {
        let end = Instant::now() + DEADLINE;
        loop {
            match self.stderr.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(line) => {
                    let found = line.contains(part);
                    self.seen.push(line);
                    if found {
                        return;
                    }
                }
                Err(RecvTimeoutError::Timeout) => panic!("the daemon did not say {part:?}: {:#?}", self.seen),
                Err(RecvTimeoutError::Disconnected) => {
                    panic!("the daemon ended without saying {part:?}: {:#?}", self.seen)
                }
            }
        }
    }

    /// Everything it said on stderr so far.
    #[must_use]
    pub fn log(&mut self) -> String {
        self.seen.extend(self.stderr.try_iter());
        self.seen.join("\n")
    }

    /// Sends a signal and waits for the end. Answers the exit status and everything on stdout.
    ///
    /// # Panics
    /// When it does not end.
    #[must_use]
    pub fn stop(mut self, signal: Signal) -> (ExitStatus, String) {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).expect("pid"));
        kill(pid, signal).expect("signal");
        // stderr closes when the process ends; that is the event to wait for.
        let end = Instant::now() + DEADLINE;
        loop {
            match self.stderr.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(line) => self.seen.push(line),
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => {
                    panic!("the daemon did not end after {signal}: {:#?}", self.seen)
                }
            }
        }
        let status = self.child.wait().expect("wait");
        let mut stdout = String::new();
        self.child.stdout.take().expect("stdout").read_to_string(&mut stdout).expect("stdout");
        (status, stdout)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
        if thread::panicking() {
            self.seen.extend(self.stderr.try_iter());
            #[expect(clippy::print_stderr, reason = "a failed test shows what the daemon said")]
            for line in &self.seen {
                eprintln!("daemon: {line}");
            }
        }
    }
}
