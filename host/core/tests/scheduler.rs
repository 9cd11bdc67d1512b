//! What is started when: order, fairness, locks, retries, cancellation, deadlines.

mod common;

use std::collections::BTreeMap;

use common::{Deployment, ended, failed, plan};
use pangolin_core::{
    entry::{EntryBody, FailureClass, FinalStatus, RunOutcome},
    ids::{ItemId, QueueName, RunId},
    scheduler::{AttemptStatus, QueuePolicy, Scheduler, StopReason},
    state::{Blocker, Violation},
};

fn id(text: &str) -> ItemId {
    ItemId::new(text).expect("item id")
}

fn run(text: &str) -> RunId {
    RunId::new(text).expect("run id")
}

fn queue(text: &str) -> QueueName {
    QueueName::new(text).expect("queue")
}

/// Runs everything in one queue; each round the items fired before are done. Answers the order of fires.
#[track_caller]
fn check_order(concurrency: u32, runs: &[(&str, &str)], expected: &str) {
    let mut deployment = Deployment::new(&[("q", concurrency)]);
    for (name, items) in runs {
        deployment.submit(plan(name, "q", items));
    }
    let mut rounds = Vec::new();
    loop {
        let fired = deployment.step();
        if fired.is_empty() {
            break;
        }
        for name in &fired {
            let (run, rest) = name.split_once('/').expect("run");
            deployment.done(run, rest.split_once('#').expect("attempt").0);
        }
        let short: Vec<&str> = fired.iter().map(|name| name.trim_end_matches("#1")).collect();
        rounds.push(short.join(" "));
    }
    assert_eq!(rounds.join(" | "), expected);
    for state in deployment.scheduler.runs() {
        assert_eq!(state.outcome(), Some(RunOutcome::Done), "{}", state.id());
    }
}

#[test]
fn order_within_a_queue() {
    // Plan order, within the concurrency.
    check_order(2, &[("r", "a b c d")], "r/a r/b | r/c r/d");
    // The example of the brief: three edits and a gate.
    check_order(2, &[("r", "a#fa b#fb c#fc v<a,b,c")], "r/a r/b | r/c | r/v");
    // Priority first.
    check_order(1, &[("r", "a b!1 c!2 d!-1")], "r/c | r/b | r/a | r/d");
    // Between runs: the fewest running, then the one that waited longest.
    check_order(2, &[("p", "a b c"), ("r", "x y z")], "p/a r/x | p/b r/y | p/c r/z");
    check_order(1, &[("p", "a b c"), ("r", "x y")], "p/a | r/x | p/b | r/y | p/c");
    // Priority beats fairness.
    check_order(1, &[("p", "a!1 b!1"), ("r", "x")], "p/a | p/b | r/x");
    // A lock delays its items only.
    check_order(9, &[("r", "a#k b#k c d#k")], "r/a r/c | r/b | r/d");
    // All or nothing, and locks are global.
    check_order(9, &[("p", "a#k,l"), ("r", "x#l y#m z#k")], "p/a r/y | r/x r/z");
    // A diamond.
    check_order(9, &[("r", "a b<a c<a d<b,c")], "r/a | r/b r/c | r/d");
}

#[test]
fn concurrency_counts_all_runs_and_each_queue() {
    let mut deployment = Deployment::new(&[("q", 3), ("other", 1)]);
    for name in ["r1", "r2"] {
        deployment.submit(plan(name, "q", "a b c"));
    }
    deployment.submit(plan("r3", "other", "a b"));
    deployment.submit(plan("r4", "nowhere", "a"));
    // Queues go by name when both have room; within `q` the runs alternate.
    assert_eq!(deployment.step(), ["r3/a#1", "r1/a#1", "r2/a#1", "r1/b#1"]);
    assert_eq!(deployment.step(), [""; 0]);
    assert_eq!(deployment.scheduler.running_in(&queue("q")), 3);
    assert_eq!(deployment.scheduler.blockers(&run("r2"), &id("b")), [Blocker::QueueFull { concurrency: 3 }]);
    assert_eq!(deployment.scheduler.blockers(&run("r4"), &id("a")), [Blocker::QueueUnknown]);
    deployment.done("r1", "a");
    assert_eq!(deployment.step(), ["r2/b#1"]);
    // A paused queue starts nothing; resumed it goes on.
    let policy = |paused| QueuePolicy { concurrency: 3, paused };
    deployment.scheduler.set_queue(queue("q"), policy(true));
    deployment.done("r2", "a");
    assert_eq!(deployment.step(), [""; 0]);
    assert_eq!(deployment.scheduler.blockers(&run("r2"), &id("c")), [Blocker::QueuePaused]);
    deployment.scheduler.set_queue(queue("q"), policy(false));
    // Each of the runs has one running; r1 fired less recently.
    assert_eq!(deployment.step(), ["r1/c#1"]);
    deployment.scheduler.set_queue(queue("nowhere"), policy(false));
    assert_eq!(deployment.step(), ["r4/a#1"]);
}

#[test]
fn at_most_the_asked_number_of_fires() {
    let mut deployment = Deployment::new(&[("q", 10)]);
    deployment.submit(plan("r", "q", "a b c d e"));
    let step = deployment.scheduler.plan(deployment.now, 2);
    assert_eq!(step.fires.iter().map(|fire| fire.item.as_str()).collect::<Vec<_>>(), ["a", "b"]);
    // Nothing was applied: the full plan still starts with them.
    assert_eq!(deployment.step(), ["r/a#1", "r/b#1", "r/c#1", "r/d#1", "r/e#1"]);
}

#[test]
fn locks_hold_while_running_and_not_while_waiting_for_a_retry() {
    let mut deployment = Deployment::new(&[("q", 9)]);
    deployment.submit(plan("p", "q", "a#k"));
    deployment.submit(plan("r", "q", "b#k c#k"));
    assert_eq!(deployment.step(), ["p/a#1"]);
    let blocker = Blocker::Lock { key: "k".to_owned(), run: run("p"), item: id("a") };
    assert_eq!(deployment.scheduler.blockers(&run("r"), &id("b")), [blocker]);
    deployment.end("p", "a", failed(FailureClass::Work));
    assert_eq!(deployment.step(), ["r/b#1"], "a waits for its retry and holds nothing");
    let wake = deployment.scheduler.next_wakeup().expect("retry");
    assert!((deployment.now + 500..=deployment.now + 1_000).contains(&wake));
    let blockers = deployment.scheduler.blockers(&run("p"), &id("a"));
    assert_eq!(blockers[0], Blocker::RetryAt { not_before: wake });
    deployment.now = wake;
    assert_eq!(deployment.step(), [""; 0], "its lock is taken now");
    deployment.done("r", "b");
    assert_eq!(deployment.step(), ["r/c#1"], "c came first");
    deployment.done("r", "c");
    assert_eq!(deployment.step(), ["p/a#2"]);
}

#[test]
fn a_lock_of_another_run_is_refused_by_apply() {
    let mut deployment = Deployment::new(&[("q", 9)]);
    deployment.submit(plan("p", "q", "a#k"));
    deployment.submit(plan("r", "q", "b#k"));
    deployment.step();
    let body = common::fired(&run("r"), "b", 1);
    let next = common::entry(&run("r"), 1, deployment.now, body);
    let refused = deployment.scheduler.apply(&next, None).expect_err("held");
    assert_eq!(
        refused.violation,
        Violation::LockHeld { key: "k".into(), holder: Box::new((run("p"), id("a"))) }
    );
    // Removing the run frees its locks and slots.
    deployment.scheduler.remove_run(&run("p")).expect("active");
    assert_eq!(deployment.scheduler.running_in(&queue("q")), 0);
    assert_eq!(deployment.step(), ["r/b#1"]);
}

/// Two streams of items that need one lock each never leave both free at once by themselves.
#[test]
fn an_item_with_two_locks_is_not_overtaken_for_ever() {
    let mut deployment = Deployment::new(&[("q", 9), ("k", 9)]);
    deployment.submit(plan("first", "k", "k0#k l0#l"));
    deployment.step();
    deployment.submit(plan("both", "q", "x#k,l"));
    deployment.step();
    let (mut k_holder, mut l_holder) = (("first", "k0".to_owned()), ("first", "l0".to_owned()));
    for round in 0..20 {
        // Newcomers are always waiting for each lock.
        let mut newcomers = plan(&format!("n{round}"), "k", &format!("k{round}#k l{round}#l"));
        newcomers.items.truncate(2);
        deployment.submit(newcomers);
        deployment.step();
        let held = if round % 2 == 0 { &mut k_holder } else { &mut l_holder };
        let (run_name, item) = (held.0.to_owned(), held.1.clone());
        deployment.done(&run_name, &item);
        let fired = deployment.step();
        if fired.contains(&"both/x#1".to_owned()) {
            assert!(round <= 10, "round {round}");
            return;
        }
        if let Some(name) = fired.first() {
            let (run_name, rest) = name.split_once('/').expect("run");
            let leaked: &'static str = Box::leak(run_name.to_owned().into_boxed_str());
            *held = (leaked, rest.split_once('#').expect("attempt").0.to_owned());
        } else {
            // The lock is kept free for x: the other one ends and x goes.
            let other = if round % 2 == 0 { &l_holder } else { &k_holder };
            let (run_name, item) = (other.0.to_owned(), other.1.clone());
            let blocked =
                deployment.scheduler.blockers(&run(&format!("n{round}")), &id(&format!("k{round}")));
            let blocked_too =
                deployment.scheduler.blockers(&run(&format!("n{round}")), &id(&format!("l{round}")));
            assert!(
                blocked
                    .iter()
                    .chain(&blocked_too)
                    .any(|blocker| matches!(blocker, Blocker::LockReserved { .. })),
                "{blocked:?} {blocked_too:?}"
            );
            deployment.done(&run_name, &item);
            assert_eq!(deployment.step(), ["both/x#1"]);
            return;
        }
    }
    panic!("x was overtaken for ever");
}

#[test]
fn a_reservation_ends_with_its_item() {
    // x starves, reserves, and is cancelled: everybody else goes on.
    let mut deployment = Deployment::new(&[("q", 9)]);
    deployment.submit(plan("h", "q", "hl#l"));
    deployment.step();
    deployment.submit(plan("both", "q", "x#k,l"));
    deployment.submit(plan("r", "q", "a#k b#k c#k d#k e#k f#k g#k"));
    let mut ended = Vec::new();
    let mut active = deployment.step();
    while let Some(name) = active.first().cloned() {
        let item = name.trim_start_matches("r/").trim_end_matches("#1").to_owned();
        deployment.done("r", &item);
        ended.push(item);
        active = deployment.step();
        if ended.len() == 4 {
            deployment.apply(&run("both"), EntryBody::ItemCancelled { item: id("x") });
            active.extend(deployment.step());
        }
    }
    assert_eq!(ended, ["a", "b", "c", "d", "e", "f", "g"]);
    assert_eq!(deployment.scheduler.run(&run("r")).and_then(|state| state.outcome()), Some(RunOutcome::Done));
}

#[test]
fn a_woken_item_that_is_cancelled_passes_its_turn_on() {
    let mut deployment = Deployment::new(&[("q", 9)]);
    deployment.submit(plan("r", "q", "a#k b#k c#k"));
    assert_eq!(deployment.step(), ["r/a#1"]);
    assert_eq!(deployment.step(), [""; 0]);
    deployment.done("r", "a");
    deployment.apply(&run("r"), EntryBody::ItemCancelled { item: id("b") });
    assert_eq!(deployment.step(), ["r/c#1"]);
}

#[test]
fn failure_skips_everything_behind_it_in_one_step() {
    let mut deployment = Deployment::new(&[("q", 9)]);
    deployment.submit(plan("r", "q", "a*1 b<a c<b d<c e f<e,d"));
    deployment.step();
    deployment.end("r", "a", failed(FailureClass::Work));
    deployment.done("r", "e");
    let step = deployment.plan();
    let kinds: Vec<&str> = step.entries.iter().map(|(_, body)| body.kind()).collect();
    assert_eq!(kinds, ["item.skipped", "run.completed"]);
    deployment.step();
    let state = deployment.scheduler.run(&run("r")).expect("run");
    assert_eq!(state.outcome(), Some(RunOutcome::Failed));
    let counts = [(FinalStatus::Done, 1), (FinalStatus::Failed, 1), (FinalStatus::Skipped, 4)];
    assert_eq!(state.counts(), BTreeMap::from(counts));
    assert!(deployment.plan().is_empty());
    assert_eq!(deployment.scheduler.next_wakeup(), None);
}

#[test]
fn classes_and_attempts_decide_the_entry() {
    let check = |end, expected: &str, status: Option<FinalStatus>| {
        let mut deployment = Deployment::new(&[("q", 1)]);
        deployment.submit(plan("r", "q", "a"));
        deployment.step();
        let mut bodies = deployment.scheduler.reconcile(&run("r"), &id("a"), 1, end, 5);
        let body = bodies.pop().expect("running");
        assert_eq!((body.kind(), bodies.len()), (expected, 0));
        if let EntryBody::ItemReconciled { status: found, .. } = &body {
            assert_eq!(Some(*found), status);
        }
        deployment.apply(&run("r"), body);
        let again = deployment.scheduler.reconcile(&run("r"), &id("a"), 1, ended(AttemptStatus::Done), 5);
        assert_eq!(again, [], "an attempt is reconciled once");
    };
    check(failed(FailureClass::Infrastructure), "item.retried", None);
    check(failed(FailureClass::Timeout), "item.retried", None);
    check(failed(FailureClass::Refusal), "item.reconciled", Some(FinalStatus::Failed));
    check(failed(FailureClass::Cancelled), "item.reconciled", Some(FinalStatus::Cancelled));
    check(ended(AttemptStatus::Cancelled), "item.reconciled", Some(FinalStatus::Cancelled));
    check(ended(AttemptStatus::NeedsInput), "item.reconciled", Some(FinalStatus::NeedsInput));
    check(ended(AttemptStatus::Done), "item.reconciled", Some(FinalStatus::Done));
    let mut long = common::failure(FailureClass::Invalid);
    long.message = "ä".repeat(3_000);
    let mut deployment = Deployment::new(&[("q", 1)]);
    deployment.submit(plan("r", "q", "a"));
    deployment.step();
    let end = ended(AttemptStatus::Failed(long));
    let body = deployment.scheduler.reconcile(&run("r"), &id("a"), 1, end, 5).pop().expect("running");
    let EntryBody::ItemReconciled { failure: Some(failure), .. } = body else { panic!("{body:?}") };
    assert_eq!(failure.message.len(), 2_000);
}

#[test]
fn cancelling_stops_running_workers_and_ends_as_cancelled() {
    let mut deployment = Deployment::new(&[("q", 2)]);
    deployment.submit(plan("r", "q", "a b c d<a"));
    deployment.step();
    deployment.apply(&run("r"), EntryBody::ItemCancelled { item: id("a") });
    let step = deployment.plan();
    let stops: Vec<(&str, StopReason)> =
        step.stops.iter().map(|stop| (stop.item.as_str(), stop.why)).collect();
    assert_eq!(stops, [("a", StopReason::Cancelled)]);
    deployment.scheduler.stop_asked(&run("r"), &id("a"), 1);
    assert!(deployment.plan().stops.is_empty(), "asked once");
    // Whatever the worker says, and even when it could be retried.
    deployment.end("r", "a", failed(FailureClass::Infrastructure));
    assert_eq!(deployment.step(), ["r/c#1"]);
    let name =
        |item| deployment.scheduler.run(&run("r")).expect("run").item(&id(item)).expect("item").state.name();
    assert_eq!((name("a"), name("d")), ("cancelled", "skipped"));
    deployment.apply(&run("r"), EntryBody::RunCancelled {});
    let stops = deployment.plan().stops;
    assert_eq!(stops.iter().map(|stop| stop.item.as_str()).collect::<Vec<_>>(), ["b", "c"]);
    // After a restart the stops are asked for again.
    let entries = deployment.logs[&run("r")].len();
    let mut restarted =
        Scheduler::new(BTreeMap::from([(queue("q"), QueuePolicy { concurrency: 2, paused: false })]));
    restarted.insert_run(deployment.refold(&run("r"), entries));
    assert_eq!(restarted.plan(deployment.now, 9).stops, stops);
    deployment.done("r", "b");
    deployment.done("r", "c");
    deployment.step();
    let state = deployment.scheduler.run(&run("r")).expect("run");
    assert_eq!(state.outcome(), Some(RunOutcome::Cancelled));
    assert_eq!(state.counts(), BTreeMap::from([(FinalStatus::Cancelled, 3), (FinalStatus::Skipped, 1)]));
}

#[test]
fn an_overdue_attempt_is_stopped_after_its_grace() {
    let mut deployment = Deployment::new(&[("q", 2)]);
    let mut slow = plan("r", "q", "a b");
    slow.items[1].timeout_seconds = Some(30);
    deployment.submit(slow);
    deployment.step();
    let start = deployment.now;
    // The policy's 10 s and the item's 30 s, each with a minute of grace.
    assert_eq!(deployment.scheduler.next_wakeup(), Some(start + 70_000));
    deployment.now = start + 69_999;
    assert!(deployment.plan().stops.is_empty());
    deployment.now = start + 70_000;
    let stops = deployment.plan().stops;
    assert_eq!(
        stops.iter().map(|stop| (stop.item.as_str(), stop.why)).collect::<Vec<_>>(),
        [("a", StopReason::Deadline)]
    );
    assert_eq!(
        deployment.scheduler.next_wakeup(),
        Some(start + 90_000),
        "an overdue stop is no reason to wake"
    );
    deployment.scheduler.stop_asked(&run("r"), &id("a"), 1);
    assert!(deployment.plan().stops.is_empty());
    deployment.end("r", "a", failed(FailureClass::Timeout));
    deployment.done("r", "b");
    assert!(deployment.scheduler.next_wakeup().expect("retry of a") <= deployment.now + 1_000);
}

#[test]
fn a_clock_that_steps_back_delays_but_breaks_nothing() {
    let mut deployment = Deployment::new(&[("q", 1)]);
    deployment.submit(plan("r", "q", "a b"));
    deployment.step();
    deployment.end("r", "a", failed(FailureClass::Work));
    let due = {
        assert_eq!(deployment.step(), ["r/b#1"]);
        deployment.scheduler.next_wakeup().expect("retry")
    };
    deployment.now = due;
    assert_eq!(deployment.step(), [""; 0], "the queue is full, a is due");
    deployment.now = due - 500_000;
    deployment.done("r", "b");
    assert_eq!(deployment.step(), [""; 0], "not due any more");
    assert_eq!(deployment.scheduler.next_wakeup(), Some(due));
    deployment.now = due;
    assert_eq!(deployment.step(), ["r/a#2"]);
    deployment.done("r", "a");
    deployment.step();
    let state = deployment.scheduler.run(&run("r")).expect("run");
    assert_eq!(state.outcome(), Some(RunOutcome::Done));
}

#[test]
fn added_items_are_scheduled_with_their_locks() {
    let mut deployment = Deployment::new(&[("q", 9)]);
    let mut open = plan("r", "q", "a#k");
    open.open_ended = true;
    deployment.submit(open);
    deployment.step();
    let added = vec![common::parse_item("b#k"), common::parse_item("c#new"), common::parse_item("d<a#new")];
    let body = EntryBody::RunExtended {
        cause: None,
        items: added.iter().map(|item| item.id.clone()).collect(),
        document: pangolin_core::ids::Digest::of(b"items"),
        explanation: String::new(),
        plugin: None,
        supersedes: std::collections::BTreeMap::new(),
        pins: None,
    };
    deployment.apply_with(&run("r"), body, Some(added));
    assert_eq!(deployment.step(), ["r/c#1"]);
    deployment.done("r", "a");
    assert_eq!(deployment.step(), ["r/b#1"]);
    deployment.done("r", "c");
    assert_eq!(deployment.step(), ["r/d#1"]);
    deployment.done("r", "b");
    deployment.done("r", "d");
    assert!(deployment.plan().is_empty(), "still open");
    deployment.apply(&run("r"), EntryBody::RunClosed {});
    assert_eq!(deployment.plan().entries.len(), 1);
}
