//! Ending a whole process tree. The worker is child subreaper (or pid 1), so every orphan comes back to it.

use std::{
    collections::BTreeMap,
    fs,
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    sys::{
        signal::{Signal, kill},
        wait::{WaitPidFlag, WaitStatus, waitpid},
    },
    unistd::{Pid, getpid},
};

use crate::signals::Signals;

/// How long killed processes may take to vanish (uninterruptible disk waits) before the dispatch fails.
const VANISH: Duration = Duration::from_secs(30);

/// Sends `signal` to every descendant of this process.
pub(crate) fn signal_all(signal: Signal) {
    let me = getpid();
    if me.as_raw() == 1 {
        // In a pid namespace of its own everybody else is a descendant; one call, no race with new forks.
        kill(Pid::from_raw(-1), signal).ok();
        return;
    }
    for pid in descendants(me) {
        kill(pid, signal).ok();
    }
}

/// Pids of all descendants, as /proc shows them now.
fn descendants(root: Pid) -> Vec<Pid> {
    let mut children: BTreeMap<i32, Vec<i32>> = BTreeMap::new();
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    for entry in entries.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else {
            continue;
        };
        let Ok(stat) = fs::read_to_string(entry.path().join("stat")) else { continue };
        // The command name is in parentheses and may contain anything, so fields are counted from the last one.
        let Some((_, fields)) = stat.rsplit_once(") ") else { continue };
        if let Some(parent) = fields.split(' ').nth(1).and_then(|field| field.parse().ok()) {
            children.entry(parent).or_default().push(pid);
        }
    }
    let mut found = Vec::new();
    let mut next = vec![root.as_raw()];
    while let Some(parent) = next.pop() {
        for child in children.remove(&parent).unwrap_or_default() {
            found.push(Pid::from_raw(child));
            next.push(child);
        }
    }
    found
}

/// Reaps what has ended; `seen` gets each status. Answers whether any child is left.
pub(crate) fn reap(mut seen: impl FnMut(WaitStatus)) -> bool {
    loop {
        match waitpid(Pid::from_raw(-1), Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::StillAlive) => return true,
            Ok(status) => seen(status),
            Err(Errno::EINTR) => {}
            Err(_) => return false,
        }
    }
}

/// Kills everything that is left and waits until it is gone.
///
/// # Errors
/// A message when something survives SIGKILL for 30 seconds.
pub(crate) fn kill_all(signals: &Signals) -> Result<(), String> {
    let start = Instant::now();
    while reap(|_| {}) {
        signal_all(Signal::SIGKILL);
        if start.elapsed() > VANISH {
            return Err(
                "processes of the dispatch survive SIGKILL; the machine may need attention".to_owned()
            );
        }
        signals.wait(Duration::from_millis(20));
    }
    Ok(())
}
