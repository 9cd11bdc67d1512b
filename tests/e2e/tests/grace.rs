//! A cancelled agent that takes its whole grace: the worker must still have the time to save what the agent left.

use std::{
    fs,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use pangolin_e2e::{
    DEADLINE,
    world::{World, item},
};

/// Longer than any grace that a backend might assume by itself, so that only the configured one explains the result.
const GRACE_SECONDS: u32 = 12;

#[test]
fn what_a_stubborn_agent_left_is_kept() {
    let world = World::new();
    let config = fs::read_to_string(world.path().join("pangolin.toml")).expect("configuration");
    let longer = config.replace("grace_seconds = 2", &format!("grace_seconds = {GRACE_SECONDS}"));
    assert_ne!(config, longer);
    world.write("pangolin.toml", longer);
    let script = "trap '' TERM; echo half > half.txt; echo at it; while :; do sleep 1000 & wait; done";
    world.agent("stubborn", script);
    let _daemon = world.serve();
    world.submit("grace-1", &[("slow", "stubborn", &[])]);
    let mut watch = world.watch("grace-1");
    watch.until_item("slow", "running");
    until_work_is_there(world.path());
    world.run(&["orch", "cancel", "grace-1/slow"]).ok();
    watch.until_terminal();
    let run = world.status("grace-1");
    let slow = item(&run, "slow");
    assert_eq!(slow["status"], "cancelled", "{run:#}");
    assert!(world.run(&["patch", "show", "grace-1/slow"]).ok().text().contains("+half"));
    assert_eq!(world.run(&["orch", "logs", "grace-1/slow"]).ok().text(), "at it\n");
    let _ = world.intact_bundle("grace-1");
}

/// The trap is set before the file is written.
fn until_work_is_there(world: &Path) {
    let end = Instant::now() + DEADLINE;
    let dispatches = world.join(".pangolin/dispatches");
    let is_there = || {
        let mut entries = fs::read_dir(&dispatches).into_iter().flatten().flatten();
        entries.any(|entry| entry.path().join("workspace/half.txt").exists())
    };
    while !is_there() {
        assert!(Instant::now() < end, "the agent did not begin");
        thread::park_timeout(Duration::from_millis(20));
    }
}
