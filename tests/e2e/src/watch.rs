//! `pangolin orch watch` through a pipe: the tests' way to wait for something.

use std::{
    io::{BufRead as _, BufReader},
    process::{Child, Command, Stdio},
    sync::mpsc::{Receiver, RecvTimeoutError, channel},
    thread,
    time::Instant,
};

use serde_json::Value;

use crate::DEADLINE;

/// The lines of one watch.
pub struct Watch {
    child: Child,
    lines: Receiver<Value>,
    /// Everything seen so far.
    pub seen: Vec<Value>,
}

impl Watch {
    pub(crate) fn start(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("watch");
        let (sender, lines) = channel();
        let pipe = child.stdout.take().expect("stdout");
        thread::spawn(move || {
            for line in BufReader::new(pipe).lines().map_while(Result::ok) {
                let value = serde_json::from_str(&line).unwrap_or(Value::String(line));
                if sender.send(value).is_err() {
                    return;
                }
            }
        });
        Self { child, lines, seen: Vec::new() }
    }

    /// Waits for a line that fulfils the condition.
    ///
    /// # Panics
    /// When it does not come.
    pub fn until(&mut self, what: &str, condition: impl Fn(&Value) -> bool) -> Value {
        let end = Instant::now() + DEADLINE;
        loop {
            match self.lines.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(line) => {
                    self.seen.push(line.clone());
                    if condition(&line) {
                        return line;
                    }
                }
                Err(RecvTimeoutError::Timeout) => panic!("watch did not show {what}: {:#?}", self.seen),
                Err(RecvTimeoutError::Disconnected) => panic!("watch ended before {what}: {:#?}", self.seen),
            }
        }
    }

    /// Waits until an item has a status.
    pub fn until_item(&mut self, id: &str, status: &str) -> Value {
        let what = format!("{id} {status}");
        self.until(&what, |line| {
            line["kind"] == "item" && line["item"]["id"] == id && line["item"]["status"] == status
        })
    }

    /// Waits for the end of the run and of the watch; answers the exit code of the watch.
    ///
    /// # Panics
    /// When either does not come.
    pub fn until_terminal(mut self) -> (Option<i32>, Vec<Value>) {
        self.until("the end of the run", |line| line["kind"] == "run" && line["terminal"] == true);
        assert!(self.lines.recv_timeout(DEADLINE).is_err(), "the terminal line must be the last one");
        let status = self.child.wait().expect("wait");
        (status.code(), std::mem::take(&mut self.seen))
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}
