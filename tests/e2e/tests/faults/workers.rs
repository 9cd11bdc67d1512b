//! Workers and supervisors that die.

use pangolin_e2e::world::{World, item};
use serde_json::{Value, json};

use crate::support::{
    self, Process, dispatch, each_attempt_started_once, mark, processes, until, until_marked,
    until_nothing_runs,
};

/// Submits an item whose first attempt never ends by itself and whose second one delivers; waits for its start.
fn start(world: &World, run: &str) {
    let second = dispatch(run, "a", 2);
    let script = format!(
        "{} echo $PANGOLIN_DISPATCH_ID > new.txt; [ $PANGOLIN_DISPATCH_ID = {second} ] || exec sleep 100000",
        mark(world)
    );
    world.agent("first-hangs", &script);
    let plan = world.plan(run, &[("a", "first-hangs", &[])], &json!({ "executor": "open" }));
    world.run(&["orch", "submit", &plan]).ok();
    until_marked(world, run, "a", 1);
}

fn supervisor(world: &World) -> Process {
    until("a supervisor", || {
        processes(world).into_iter().find(|process| process.line.contains("__supervise"))
    })
}

fn retried_and_done(world: &World, run: &str, said: &str) -> Value {
    let status = world.finish(run);
    let a = item(&status, "a");
    assert_eq!((status["state"].as_str(), a["status"].as_str()), (Some("done"), Some("done")), "{status:#}");
    let attempts = a["attempts"].as_array().expect("attempts");
    assert_eq!(attempts.len(), 2, "{status:#}");
    assert_eq!(attempts[0]["failure"]["class"], "infrastructure", "{status:#}");
    let message = attempts[0]["failure"]["message"].as_str().expect("message");
    assert!(message.contains(said), "{message}");
    each_attempt_started_once(world, &[&status]);
    until_nothing_runs(world);
    let _ = world.intact_bundle(run);
    status
}

#[test]
fn a_killed_worker_is_an_infrastructure_failure_and_is_retried() {
    let world = support::world();
    let _daemon = world.serve();
    start(&world, "worker-1");
    let supervisor = supervisor(&world);
    let worker =
        processes(&world).into_iter().find(|process| process.parent == supervisor.pid).expect("worker");
    worker.kill();
    let _ = retried_and_done(&world, "worker-1", "the worker left no result (worker exit code 137)");
}

#[test]
fn a_killed_supervisor_takes_its_worker_along_and_the_attempt_is_retried() {
    let world = support::world();
    let _daemon = world.serve();
    start(&world, "super-1");
    supervisor(&world).kill();
    let _ = retried_and_done(&world, "super-1", "is gone without a record");
}

#[test]
fn daemon_supervisor_and_worker_killed_together() {
    let world = support::world();
    let daemon = world.serve();
    start(&world, "all-1");
    let _ = daemon.stop(nix::sys::signal::Signal::SIGKILL);
    supervisor(&world).kill();
    for process in processes(&world) {
        // Some end by themselves meanwhile.
        let _ = nix::sys::signal::kill(
            nix::unistd::Pid::from_raw(process.pid),
            nix::sys::signal::Signal::SIGKILL,
        );
    }
    until_nothing_runs(&world);
    let _daemon = world.serve();
    let _ = retried_and_done(&world, "all-1", "is gone without a record");
}
