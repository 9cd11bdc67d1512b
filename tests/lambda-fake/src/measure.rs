//! What a process used, from the kernel.

use std::{fs, time::Duration};

use nix::{time::clock_getcpuclockid, unistd::Pid};

/// A clock tick of `/proc/<pid>/stat`; 100 per second on every Linux that this runs on.
const TICK: Duration = Duration::from_millis(10);

/// Processor time of a process with all its threads, and of its children that it waited for. `None` when it is gone.
pub(crate) fn cpu(pid: Pid) -> Option<Duration> {
    let own: Duration = clock_getcpuclockid(pid).ok()?.now().ok()?.into();
    Some(own + children_cpu(pid).unwrap_or_default())
}

/// Fields 16 and 17 of proc(5).
fn children_cpu(pid: Pid) -> Option<Duration> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field is the program's name in parentheses and may contain spaces.
    let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks = |index: usize| fields.get(index)?.parse::<u32>().ok();
    Some(TICK * (ticks(13)? + ticks(14)?))
}

/// Largest resident memory since the last [`reset_peak`], in bytes.
pub(crate) fn peak_rss(pid: Pid) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.split_whitespace().next()?.parse::<u64>().ok()? * 1_024)
}

/// Begins a new measurement of memory.
pub(crate) fn reset_peak(pid: Pid) {
    // 5 is "reset the peak resident set size"; a process that is gone has none.
    let _ = fs::write(format!("/proc/{pid}/clear_refs"), "5");
}
