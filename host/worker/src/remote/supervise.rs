//! Runs the ordinary worker as a child, with its own time limit, and keeps what it prints.

use std::{
    env,
    io::{Read, Write},
    process::{Command, Stdio},
    sync::{Arc, Mutex, PoisonError},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use nix::{
    sys::{
        signal::{Signal, kill},
        wait::WaitStatus,
    },
    unistd::Pid,
};
use pangolin_envelope::{
    envelope::worker_env,
    start::{EndedBy, START_URL, StartDocument},
};

use super::{Outcome, layout::Places};
use crate::{
    signals::Signals,
    stage::SELF,
    tree::{kill_all, reap, signal_all},
};

/// What is kept of a stream. The formats of the cut are those of `pangolin_ports::worker_output`.
struct Kept {
    bytes: Vec<u8>,
    limit: usize,
    cut: bool,
    lines: bool,
}

impl Kept {
    fn take(&mut self, chunk: &[u8]) {
        if self.cut {
            return;
        }
        let room = self.limit - self.bytes.len();
        self.bytes.extend_from_slice(&chunk[..chunk.len().min(room)]);
        if chunk.len() <= room {
            return;
        }
        self.cut = true;
        let limit = self.limit;
        if self.lines {
            let whole = self.bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
            self.bytes.truncate(whole);
            self.bytes.extend_from_slice(
                format!("{{\"kind\":\"output.cut\",\"limitBytes\":{limit}}}\n").as_bytes(),
            );
        } else {
            self.bytes
                .extend_from_slice(format!("\n[pangolin: output cut after {limit} bytes]\n").as_bytes());
        }
    }
}

type Shared = Arc<Mutex<Kept>>;

/// Reads to the end, keeps the beginning, and passes everything on to the task's own log.
fn pump(
    mut from: impl Read + Send + 'static,
    mut to: impl Write + Send + 'static,
    limit: u64,
    lines: bool,
) -> (Shared, JoinHandle<()>) {
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let kept = Arc::new(Mutex::new(Kept { bytes: Vec::new(), limit, cut: false, lines }));
    let shared = Arc::clone(&kept);
    let thread = std::thread::spawn(move || {
        let mut chunk = vec![0_u8; 16 << 10];
        loop {
            match from.read(&mut chunk) {
                Ok(0) => return,
                Ok(read) => {
                    let mut kept = shared.lock().unwrap_or_else(PoisonError::into_inner);
                    let was_cut = kept.cut;
                    kept.take(&chunk[..read]);
                    drop(kept);
                    if !was_cut {
                        // The log is for people; the result does not depend on it.
                        to.write_all(&chunk[..read]).and_then(|()| to.flush()).ok();
                    }
                }
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(_) => return,
            }
        }
    });
    (kept, thread)
}

fn is_private(name: &str) -> bool {
    name == START_URL || name.starts_with("ECS_") || name.starts_with("AWS_CONTAINER_")
}

/// Runs the child to its end and leaves no process behind.
pub(super) fn run(
    places: &Places,
    document: &StartDocument,
    signals: &Signals,
    deadline: Instant,
) -> Result<Outcome, String> {
    let mut command = Command::new(SELF);
    for (name, _) in env::vars_os().filter(|(name, _)| is_private(&name.to_string_lossy())) {
        command.env_remove(name);
    }
    let mut child = command
        .env(worker_env::ENVELOPE_DIR, &places.envelope)
        .env(worker_env::WORKSPACE_DIR, &places.workspace)
        .env(worker_env::RESULT_DIR, &places.result)
        .env(worker_env::RESULT_KEY, &document.result_key)
        .env("HOME", &places.tmp)
        .env("TMPDIR", &places.tmp)
        .current_dir(&places.workspace)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| format!("cannot start the worker proper: {error}"))?;
    let (Some(stdout), Some(stderr)) = (child.stdout.take(), child.stderr.take()) else {
        return Err("the worker proper has no output".to_owned());
    };
    let limit = document.limits.output_bytes;
    let (events, first) = pump(stdout, std::io::stdout(), limit, true);
    let (text, second) = pump(stderr, std::io::stderr(), limit, false);
    let pid = i32::try_from(child.id()).map(Pid::from_raw).map_err(|error| error.to_string())?;
    let grace = Duration::from_millis(document.limits.grace_ms);
    let (code, ended_by) = watch(pid, signals, deadline, grace);
    let gone = kill_all(signals);
    if gone.is_ok() {
        // Nobody is left who holds the pipes.
        for thread in [first, second] {
            thread.join().map_err(|_| "reading the output failed".to_owned())?;
        }
    }
    let take = |kept: Shared| std::mem::take(&mut kept.lock().unwrap_or_else(PoisonError::into_inner).bytes);
    let (stdout, mut stderr) = (take(events), take(text));
    if let Err(message) = gone {
        stderr.extend_from_slice(format!("[pangolin: {message}]\n").as_bytes());
    }
    Ok(Outcome { code, ended_by, stdout, stderr })
}

fn watch(pid: Pid, signals: &Signals, deadline: Instant, grace: Duration) -> (i32, EndedBy) {
    let mut ended = None;
    let mut stopping: Option<(EndedBy, Instant)> = None;
    loop {
        reap(|status| match status {
            WaitStatus::Exited(who, code) if who == pid => ended = Some(code),
            WaitStatus::Signaled(who, signal, _) if who == pid => ended = Some(128 + signal as i32),
            _ => {}
        });
        let now = Instant::now();
        if let Some(code) = ended {
            return (code, stopping.map_or(EndedBy::Itself, |(why, _)| why));
        }
        let wake_at = match stopping {
            Some((_, kill_at)) if now >= kill_at => {
                signal_all(Signal::SIGKILL);
                now + Duration::from_millis(20)
            }
            Some((_, kill_at)) => kill_at,
            None if signals.stopped() || now >= deadline => {
                let why = if signals.stopped() { EndedBy::Stop } else { EndedBy::Timeout };
                kill(pid, Signal::SIGTERM).ok();
                stopping = Some((why, now + grace));
                now + grace
            }
            None => deadline,
        };
        signals.wait(wake_at.saturating_duration_since(now).min(Duration::from_secs(5)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_is_cut_like_that_of_local_backends() {
        let mut kept = Kept { bytes: Vec::new(), limit: 7, cut: false, lines: true };
        for chunk in ["{}\n{", "}\n{}\n", "{}\n"] {
            kept.take(chunk.as_bytes());
        }
        let marker = "{\"kind\":\"output.cut\",\"limitBytes\":7}\n";
        assert_eq!(String::from_utf8(kept.bytes).expect("is text"), format!("{{}}\n{{}}\n{marker}"));
        let mut kept = Kept { bytes: Vec::new(), limit: 4, cut: false, lines: false };
        for chunk in ["abcd", "e"] {
            kept.take(chunk.as_bytes());
        }
        assert_eq!(kept.bytes, b"abcd\n[pangolin: output cut after 4 bytes]\n");
    }
}
