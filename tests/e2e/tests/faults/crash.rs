//! A daemon killed with SIGKILL: after every commit, at every step of a start, and with a second one waiting.

use std::path::PathBuf;

use nix::sys::signal::Signal;
use pangolin_e2e::world::{World, item};
use serde_json::json;

use crate::support::{
    self, Doomed, Ledger, dispatch, each_attempt_started_once, hold, mark, marks, release, until,
    until_marked, until_nothing_runs,
};

/// Two edits, one item that needs both, one that fails at first.
fn submit(world: &World, run: &str) {
    world.agent("edit", &format!("{} echo new > $PANGOLIN_ITEM_ID.txt", mark(world)));
    let second = dispatch(run, "flaky", 2);
    world.agent(
        "flaky",
        &format!("{} echo x >> y.txt; [ $PANGOLIN_DISPATCH_ID = {second} ] || exit 3", mark(world)),
    );
    let items: [(&str, &str, &[&str]); 4] = [
        ("a", "edit", &[]),
        ("b", "edit", &[]),
        ("both", "edit", &["a", "b"]),
        ("flaky", "flaky", &["both"]),
    ];
    let plan = world.plan(run, &items, &json!({ "executor": "open" }));
    // No daemon yet: the submission waits in the inbox.
    world.run(&["orch", "submit", &plan]).ok();
}

#[test]
fn killed_after_every_commit_the_run_is_finished_with_every_attempt_once() {
    let world = support::world();
    submit(&world, "kill-1");
    let ledger = Ledger::open(&world);
    let mut kills = 0;
    loop {
        let before = ledger.position("kill-1");
        if before.leaves == 2 {
            break;
        }
        let daemon = Doomed::serve(&world);
        // Every third daemon dies right after it took over, the others after their first commit to the run.
        if kills % 3 == 2 {
            ledger.until("a take-over", "kill-1", |now| now.fence != before.fence);
        } else {
            ledger.until("a commit", "kill-1", |now| {
                (now.entries, now.leaves) != (before.entries, before.leaves)
            });
        }
        daemon.kill();
        kills += 1;
        assert!(kills < 60, "no end after {kills} kills");
    }
    // How many commits a run takes depends on which reports fall together; four items, one of them twice, need at least these.
    assert!(kills >= 6, "only {kills} kills");

    let _daemon = world.serve();
    let run = world.finish("kill-1");
    assert_eq!(run["state"], "done", "{run:#}");
    for (id, attempts) in [("a", 1), ("b", 1), ("both", 1), ("flaky", 2)] {
        assert_eq!(item(&run, id)["attempts"].as_array().map(Vec::len), Some(attempts), "{run:#}");
    }
    each_attempt_started_once(&world, &[&run]);
    until_nothing_runs(&world);
    let _ = world.intact_bundle("kill-1");
}

#[test]
fn killed_at_every_step_of_a_start_the_attempt_runs_once() {
    let world = support::world();
    let steps = ["staging", "staged", "intent", "claim", "agent", "result", "exit"];
    let mut runs = Vec::new();
    for step in steps {
        let run = format!("step-{step}");
        let id = dispatch(&run, "a", 1);
        let agent = format!("agent-{step}");
        world.agent(&agent, &format!("{} echo new > new.txt", mark(&world)));
        let plan = world.plan(&run, &[("a", &agent, &[])], &json!({ "executor": "open", "maxAttempts": 1 }));
        world.run(&["orch", "submit", &plan]).ok();
        let state = world.path().join(".pangolin");
        let place: PathBuf = match step {
            "staging" => state.join("dispatches").join(id.as_str()),
            "staged" => state.join("dispatches").join(id.as_str()).join("staged"),
            "intent" => state.join("workers").join(id.as_str()).join("intent.json"),
            "claim" => state.join("workers").join(id.as_str()).join("claim.json"),
            "agent" => marks(&world).join(id.as_str()),
            "result" => state.join("dispatches").join(id.as_str()).join("result/result.json"),
            _ => state.join("workers").join(id.as_str()).join("exit.json"),
        };
        let ledger = Ledger::open(&world);
        let daemon = Doomed::serve(&world);
        until(&format!("{step} of {run}"), || {
            (place.exists() || ledger.position(&run).entries >= 3).then_some(())
        });
        daemon.kill();
        runs.push(run);
    }
    let _daemon = world.serve();
    let mut ended = Vec::new();
    for run in &runs {
        let status = world.finish(run);
        assert_eq!(status["state"], "done", "{status:#}");
        let _ = world.intact_bundle(run);
        ended.push(status);
    }
    each_attempt_started_once(&world, &ended.iter().collect::<Vec<_>>());
    until_nothing_runs(&world);
    world.until_cleaned_up();
}

#[test]
fn killed_while_the_agent_runs_its_work_is_kept() {
    let world = support::world();
    world.agent(
        "slow",
        &format!("{} echo one >> work.txt; {} echo two >> work.txt", mark(&world), hold(&world, "go")),
    );
    let plan = world.plan("mid-1", &[("a", "slow", &[])], &json!({ "executor": "open" }));
    let daemon = world.serve();
    world.run(&["orch", "submit", &plan]).ok();
    until_marked(&world, "mid-1", "a", 1);
    let _ = daemon.stop(Signal::SIGKILL);
    // A second one dies too, while the worker goes on.
    let daemon = world.serve();
    let _ = daemon.stop(Signal::SIGKILL);
    release(&world, "go");
    // The worker ends while nobody looks.
    until_nothing_runs(&world);
    let _daemon = world.serve();
    let run = world.finish("mid-1");
    assert_eq!(run["state"], "done", "{run:#}");
    let patch = world.run(&["patch", "show", "mid-1/a"]).ok().text();
    assert!(patch.contains("+one\n+two\n"), "{patch}");
    each_attempt_started_once(&world, &[&run]);
    let _ = world.intact_bundle("mid-1");
}

#[test]
fn the_second_daemon_waits_and_takes_over() {
    let world = support::world();
    world.agent("edit", &format!("{} {} echo new > new.txt", mark(&world), hold(&world, "go")));
    let more = json!({ "executor": "open" });
    let first = world.serve();
    let mut second = world.stand_by();
    let ledger = Ledger::open(&world);
    let fence = ledger.position("duo-1").fence;
    let plan = world.plan("duo-1", &[("a", "edit", &[]), ("b", "edit", &["a"])], &more);
    world.run(&["orch", "submit", &plan]).ok().says(&["admitted"]);
    until_marked(&world, "duo-1", "a", 1);
    assert_eq!(ledger.position("duo-1").fence, fence, "the second daemon only waits");
    let (status, _) = first.stop(Signal::SIGKILL);
    assert_eq!(status.code(), None);
    second.until("serving (pid");
    assert_eq!(ledger.position("duo-1").fence, fence + 1);
    // Submissions work at once, and a third daemon stands by again.
    let plan = world.plan("duo-2", &[("a", "edit", &[])], &more);
    world.run(&["orch", "submit", &plan]).ok().says(&["admitted"]);
    let _third = world.stand_by();
    release(&world, "go");
    let runs = [world.finish("duo-1"), world.finish("duo-2")];
    for run in &runs {
        assert_eq!(run["state"], "done", "{run:#}");
        let _ = world.intact_bundle(run["run"].as_str().expect("run"));
    }
    each_attempt_started_once(&world, &[&runs[0], &runs[1]]);
}
