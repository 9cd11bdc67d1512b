//! Which process exactly: a pid alone is not an identity, because pids are reused.

use std::{fs, os::fd::OwnedFd};

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde::{Deserialize, Serialize};

/// A process of this or an earlier boot of this host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Identity {
    pub(crate) pid: i32,
    /// Clock ticks after boot: field 22 of `/proc/<pid>/stat`.
    pub(crate) start: u64,
    /// `/proc/sys/kernel/random/boot_id`.
    pub(crate) boot: String,
}

/// The fields of `/proc/<pid>/stat` (proc(5)) that matter here.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stat {
    pub(crate) pid: i32,
    pub(crate) state: u8,
    pub(crate) parent: i32,
    pub(crate) session: i32,
    pub(crate) start: u64,
}

impl Stat {
    /// `None` when there is no such process.
    pub(crate) fn of(pid: i32) -> Option<Self> {
        let text = fs::read(format!("/proc/{pid}/stat")).ok()?;
        // The command name may hold spaces, parentheses and any bytes; the last ')' ends it.
        let after = text.iter().rposition(|byte| *byte == b')')?;
        let rest = std::str::from_utf8(text.get(after + 1..)?).ok()?;
        let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
        Some(Self {
            pid,
            state: *fields.first()?.as_bytes().first()?,
            parent: fields.get(1)?.parse().ok()?,
            session: fields.get(3)?.parse().ok()?,
            start: fields.get(19)?.parse().ok()?,
        })
    }

    /// Ended, whether or not its parent has noticed.
    pub(crate) const fn is_dead(&self) -> bool {
        matches!(self.state, b'Z' | b'X' | b'x')
    }
}

/// Boot id of the running kernel.
pub(crate) fn boot_id() -> std::io::Result<String> {
    Ok(fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned())
}

/// A pidfd of `pid`, if that is still the process that started at `start` and it is not dead.
pub(crate) fn pin(pid: i32, start: u64) -> Option<OwnedFd> {
    let fd = pidfd_open(Pid::from_raw(pid)?, PidfdFlags::empty()).ok()?;
    // Checked after opening: from here on the descriptor stands for whatever was looked at.
    Stat::of(pid).filter(|stat| stat.start == start && !stat.is_dead()).map(|_| fd)
}

/// Sends a signal to exactly that process. `false` when it is gone.
pub(crate) fn signal(pid: i32, start: u64, signal: Signal) -> bool {
    pin(pid, start).is_some_and(|fd| pidfd_send_signal(fd, signal).is_ok())
}

impl Identity {
    /// The identity of a running process of this boot.
    pub(crate) fn of(pid: i32) -> std::io::Result<Self> {
        let stat = Stat::of(pid).ok_or_else(|| std::io::Error::other(format!("process {pid} is gone")))?;
        Ok(Self { pid, start: stat.start, boot: boot_id()? })
    }

    /// Stands for a process about which only that is known.
    pub(crate) const fn of_another_boot() -> Self {
        Self { pid: 0, start: 0, boot: String::new() }
    }

    /// A pidfd of it, if it is alive.
    pub(crate) fn pin(&self) -> Option<OwnedFd> {
        (boot_id().ok()? == self.boot).then(|| pin(self.pid, self.start)).flatten()
    }

    /// Sends it SIGUSR1, if it is alive.
    pub(crate) fn notify(&self) {
        if self.is_of_this_boot() {
            signal(self.pid, self.start, Signal::USR1);
        }
    }

    /// Whether it belongs to the running boot.
    pub(crate) fn is_of_this_boot(&self) -> bool {
        boot_id().is_ok_and(|boot| boot == self.boot)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recycled_pid_is_not_the_same_process() {
        let own = i32::try_from(std::process::id()).expect("pids fit");
        let identity = Identity::of(own).expect("we run");
        assert!(identity.pin().is_some());
        assert!(Identity { start: identity.start + 1, ..identity.clone() }.pin().is_none());
        assert!(Identity { boot: "another".to_owned(), ..identity }.pin().is_none());
    }
}
