//! Freezing, thawing and killing what runs in an environment.

use std::fs;

use nix::{
    sys::signal::{Signal, kill, killpg},
    unistd::Pid,
};

/// Stops the group until [`thaw`]. A process that is gone is not frozen, which is no matter.
pub(crate) fn freeze(group: Pid) {
    let _ = killpg(group, Signal::SIGSTOP);
}

/// Lets it go on.
pub(crate) fn thaw(group: Pid) {
    let _ = killpg(group, Signal::SIGCONT);
}

/// SIGKILL for the group and for every descendant, also one with a group of its own.
pub(crate) fn kill_all(group: Pid) {
    // Standing still they cannot start others while the list is made.
    freeze(group);
    let mut all = vec![group];
    let mut next = 0;
    while let Some(parent) = all.get(next).copied() {
        next += 1;
        all.extend(children(parent));
    }
    let _ = killpg(group, Signal::SIGKILL);
    for pid in all {
        let _ = kill(pid, Signal::SIGKILL);
    }
}

fn children(parent: Pid) -> Vec<Pid> {
    let tasks = fs::read_dir(format!("/proc/{parent}/task")).into_iter().flatten().flatten();
    let lists = tasks.filter_map(|task| fs::read_to_string(task.path().join("children")).ok());
    lists
        .flat_map(|list| {
            list.split_whitespace().filter_map(|pid| pid.parse().ok()).map(Pid::from_raw).collect::<Vec<_>>()
        })
        .collect()
}
