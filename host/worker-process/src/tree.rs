//! Finding and killing everything that descends from a process.

use std::{
    collections::{HashMap, HashSet},
    fs,
    path::Path,
    time::{Duration, Instant},
};

use rustix::process::Signal;

use crate::identity::{Identity, Stat, signal};

/// Every living process.
fn snapshot() -> Vec<Stat> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    pids.filter_map(Stat::of).filter(|stat| !stat.is_dead()).collect()
}

/// Living processes below `roots`, without the roots.
fn below(all: &[Stat], roots: impl IntoIterator<Item = i32>) -> Vec<Stat> {
    let mut children: HashMap<i32, Vec<Stat>> = HashMap::new();
    for stat in all {
        children.entry(stat.parent).or_default().push(*stat);
    }
    let mut open: Vec<i32> = roots.into_iter().collect();
    let mut seen: HashSet<i32> = open.iter().copied().collect();
    let mut found = Vec::new();
    while let Some(pid) = open.pop() {
        for child in children.remove(&pid).unwrap_or_default() {
            if seen.insert(child.pid) {
                found.push(child);
                open.push(child.pid);
            }
        }
    }
    found
}

/// One pass of SIGKILL over everything below `root`. As the caller is the subreaper of all of them, repeating this
/// until it has no children left leaves nothing behind, however they daemonise.
pub(crate) fn kill_below(root: i32) {
    for stat in below(&snapshot(), [root]) {
        signal(stat.pid, stat.start, Signal::KILL);
    }
}

/// Kills what a dead supervisor left: the worker's tree, the supervisor's session, and whatever carries the
/// dispatch in its environment. Best effort for a process that left all three; only the supervisor, as subreaper,
/// catches those.
pub(crate) fn kill_remains(
    supervisor: &Identity,
    worker: Option<&Identity>,
    dispatch: &str,
    result_dir: &Path,
) {
    if !supervisor.is_of_this_boot() {
        return;
    }
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let all = snapshot();
        let worker =
            worker.and_then(|worker| all.iter().find(|s| s.pid == worker.pid && s.start == worker.start));
        let mut found = below(&all, worker.map(|stat| stat.pid));
        found.extend(worker);
        // A session id is a pid: it cannot have been reused while the session has members, unless a process with
        // that pid exists now.
        if !all.iter().any(|stat| stat.pid == supervisor.pid) {
            found.extend(all.iter().filter(|s| s.session == supervisor.pid && s.start >= supervisor.start));
        }
        let marked =
            all.iter().filter(|s| s.start >= supervisor.start && carries(s.pid, dispatch, result_dir));
        found.extend(marked);
        let own = std::process::id();
        found.retain(|stat| u32::try_from(stat.pid) != Ok(own));
        if found.is_empty() || Instant::now() > deadline {
            return;
        }
        for stat in found {
            signal(stat.pid, stat.start, Signal::KILL);
        }
        std::thread::yield_now();
    }
}

fn carries(pid: i32, dispatch: &str, result_dir: &Path) -> bool {
    let Ok(environment) = fs::read(format!("/proc/{pid}/environ")) else { return false };
    let result_dir = result_dir.as_os_str().as_encoded_bytes();
    environment.split(|byte| *byte == 0).any(|entry| match entry.iter().position(|byte| *byte == b'=') {
        Some(at) => match &entry[..at] {
            b"PANGOLIN_DISPATCH_ID" => entry[at + 1..] == *dispatch.as_bytes(),
            b"PANGOLIN_RESULT_DIR" => entry[at + 1..] == *result_dir,
            _ => false,
        },
        None => false,
    })
}
