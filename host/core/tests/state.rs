//! The fold: every kind of entry in every state of an item, and the rules about numbers, skips and the end.

mod common;

use common::{Folded, completed, entry, failure, fired, item, plan, reconciled, retried, submitted};
use pangolin_core::{
    entry::{EntryBody, FailureClass, FinalStatus, RunOutcome},
    ids::{Digest, DispatchId, ItemId, RunId},
    state::{Blocker, RunState, Violation},
};

fn id(text: &str) -> ItemId {
    ItemId::new(text).expect("item id")
}

fn run() -> RunId {
    RunId::new("r").expect("run id")
}

fn skip(items: &[&str], cause: &str) -> EntryBody {
    EntryBody::ItemSkipped { items: items.iter().map(|item| id(item)).collect(), cause: id(cause) }
}

fn denied(item: &str) -> EntryBody {
    EntryBody::ItemDenied { item: id(item), failure: failure(FailureClass::Refusal) }
}

fn left(item: &str, attempt: u32) -> EntryBody {
    let (item, outputs) = (id(item), [("a".to_owned(), Digest::of(b"a"))].into());
    let dispatch = DispatchId::derive("test", &run(), &item, attempt);
    EntryBody::ItemOutputs { item, attempt, dispatch, part: 0, outputs }
}

fn cancelled(item: &str) -> EntryBody {
    EntryBody::ItemCancelled { item: id(item) }
}

/// A run whose item `x` is in the named state. `y` depends on it; `z` failed, so it is a possible cause of skips.
fn in_state(name: &str) -> Folded {
    let mut run_of = Folded::items("z x y<x");
    let own = run();
    let script: Vec<EntryBody> = match name {
        "ready" => vec![],
        "running" => vec![fired(&own, "x", 1)],
        "cancelling" => vec![fired(&own, "x", 1), cancelled("x")],
        "retry-wait" => vec![fired(&own, "x", 1), retried("x", 1, FailureClass::Work, 500)],
        "needs-input" => vec![fired(&own, "x", 1), reconciled("x", 1, FinalStatus::NeedsInput)],
        "done" => vec![fired(&own, "x", 1), reconciled("x", 1, FinalStatus::Done)],
        "failed" => vec![fired(&own, "x", 1), reconciled("x", 1, FinalStatus::Failed)],
        "cancelled" => vec![cancelled("x")],
        "denied" => vec![denied("x")],
        "pending" | "skipped" => {
            // Here `x` itself is the dependent.
            let mut run_of = Folded::items("z x<z");
            if name == "skipped" {
                for body in [fired(&own, "z", 1), reconciled("z", 1, FinalStatus::Failed), skip(&["x"], "z")]
                {
                    run_of.apply(1_000, body).expect("script");
                }
            }
            return run_of;
        }
        other => panic!("no state {other}"),
    };
    for body in script {
        run_of.apply(1_000, body).expect("script");
    }
    run_of
}

#[test]
fn the_transition_table_is_exactly_this() {
    let own = run();
    let states = [
        "pending",
        "ready",
        "running",
        "cancelling",
        "retry-wait",
        "needs-input",
        "done",
        "failed",
        "skipped",
        "cancelled",
        "denied",
    ];
    type Legal = &'static [(&'static str, &'static str)];
    let events: [(&str, EntryBody, Legal); 12] = [
        ("fired 1", fired(&own, "x", 1), &[("ready", "running")]),
        ("fired 2", fired(&own, "x", 2), &[("retry-wait", "running")]),
        ("left", left("x", 1), &[("running", "running"), ("cancelling", "cancelling")]),
        ("retried", retried("x", 1, FailureClass::Timeout, 900), &[("running", "retry-wait")]),
        ("done", reconciled("x", 1, FinalStatus::Done), &[("running", "done")]),
        ("failed", reconciled("x", 1, FinalStatus::Failed), &[("running", "failed")]),
        ("asks", reconciled("x", 1, FinalStatus::NeedsInput), &[("running", "needs-input")]),
        (
            "stopped",
            reconciled("x", 1, FinalStatus::Cancelled),
            &[("running", "cancelled"), ("cancelling", "cancelled")],
        ),
        ("skipped status", reconciled("x", 1, FinalStatus::Skipped), &[]),
        ("denied status", reconciled("x", 1, FinalStatus::Denied), &[]),
        ("denied", denied("x"), &[("ready", "denied"), ("retry-wait", "denied")]),
        (
            "cancelled",
            cancelled("x"),
            &[
                ("pending", "cancelled"),
                ("ready", "cancelled"),
                ("running", "cancelling"),
                ("retry-wait", "cancelled"),
                ("needs-input", "cancelled"),
            ],
        ),
    ];
    for state in states {
        for (name, body, legal) in &events {
            let mut run_of = in_state(state);
            let now = run_of.state.item(&id("x")).expect("x").state.name();
            assert_eq!(now, state, "the script reaches the state");
            let expected = legal.iter().find(|(from, _)| *from == state).map(|(_, to)| *to);
            let answer = run_of.apply(2_000, body.clone());
            match (expected, answer) {
                (Some(to), Ok(())) => {
                    assert_eq!(run_of.state.item(&id("x")).expect("x").state.name(), to, "{name} in {state}");
                }
                (None, Err(refused)) => {
                    assert_eq!(refused.item, Some(id("x")), "{name} in {state}");
                    assert_eq!(refused.state, Some(state), "{name} in {state}");
                    assert!(refused.to_string().contains(state), "{refused}");
                }
                (expected, answer) => panic!("{name} in {state}: expected {expected:?}, got {answer:?}"),
            }
        }
    }
}

#[track_caller]
fn refused(run_of: &mut Folded, at: i64, body: EntryBody) -> Violation {
    run_of.apply(at, body).expect_err("must be refused").violation
}

#[test]
fn numbers_and_derived_ids_are_checked() {
    let own = run();
    let mut run_of = Folded::items("x*2");
    let wrong = DispatchId::derive("other", &own, &id("x"), 1);
    let body = EntryBody::ItemFired { item: id("x"), attempt: 1, dispatch: wrong, manifest: None };
    assert!(matches!(refused(&mut run_of, 0, body), Violation::Dispatch { .. }));
    assert_eq!(refused(&mut run_of, 0, fired(&own, "x", 2)), Violation::Attempt { found: 2, expected: 1 });
    assert_eq!(refused(&mut run_of, 0, fired(&own, "nobody", 1)), Violation::UnknownItem);
    run_of.apply(0, fired(&own, "x", 1)).expect("fired");
    let refusal = retried("x", 1, FailureClass::Refusal, 5);
    assert_eq!(refused(&mut run_of, 0, refusal), Violation::NotRetryable(FailureClass::Refusal));
    let early = retried("x", 2, FailureClass::Work, 5);
    assert_eq!(refused(&mut run_of, 0, early), Violation::Attempt { found: 2, expected: 1 });
    run_of.apply(0, retried("x", 1, FailureClass::Work, 700)).expect("retried");
    assert_eq!(refused(&mut run_of, 699, fired(&own, "x", 2)), Violation::TooEarly { not_before: 700 });
    run_of.apply(700, fired(&own, "x", 2)).expect("fired again");
    let third = retried("x", 2, FailureClass::Work, 5);
    assert_eq!(refused(&mut run_of, 700, third), Violation::NoAttemptLeft { max: 2 });
    let mut unexplained = reconciled("x", 2, FinalStatus::Failed);
    if let EntryBody::ItemReconciled { failure, .. } = &mut unexplained {
        *failure = None;
    }
    let status = FinalStatus::Failed;
    assert_eq!(refused(&mut run_of, 700, unexplained), Violation::FailureMismatch { status, failure: false });
    // The clock may step back between entries.
    run_of.apply(-50, reconciled("x", 2, FinalStatus::Failed)).expect("failed");
    let view = run_of.state.item(&id("x")).expect("x");
    assert_eq!(view.attempts.len(), 2);
    assert_eq!(view.failure().expect("failure").message, "it broke");
}

#[test]
fn place_in_the_chain_is_checked() {
    let own = run();
    let mut run_of = Folded::items("x");
    let mut check = |next: pangolin_core::entry::Entry, expected: Violation| {
        assert_eq!(run_of.state.apply(&next, None).expect_err("refused").violation, expected);
    };
    check(entry(&own, 2, 0, fired(&own, "x", 1)), Violation::WrongSeq { expected: 1 });
    check(entry(&own, 0, 0, fired(&own, "x", 1)), Violation::WrongSeq { expected: 1 });
    let other = RunId::new("other").expect("run id");
    check(entry(&other, 1, 0, fired(&own, "x", 1)), Violation::WrongRun(other.clone()));
    check(entry(&own, 1, 0, submitted(&plan("r", "q", "x"))), Violation::Submitted);
    let mut new = entry(&own, 1, 0, fired(&own, "x", 1));
    new.v = 9;
    check(new, Violation::Version(9));
    let with_items = entry(&own, 1, 0, fired(&own, "x", 1));
    let refused = run_of.state.apply(&with_items, Some(vec![item("n")])).expect_err("refused");
    assert_eq!(refused.violation, Violation::Items);
}

#[test]
fn a_run_starts_only_with_its_own_sound_plan() {
    let check = |items: &str, change: &dyn Fn(&mut EntryBody), expected: &str| {
        let plan = plan("r", "q", items);
        let mut body = submitted(&plan);
        change(&mut body);
        let text =
            RunState::start(plan.clone(), &entry(&plan.id, 0, 0, body)).expect_err("refused").to_string();
        assert!(text.contains(expected), "{text}");
    };
    let same = |_: &mut EntryBody| ();
    check("a<b b<c c<a", &same, "cycle");
    check("a<a", &same, "cycle");
    check("a<zz", &same, "zz");
    check("a a", &same, "twice");
    check("a", &|body| *body = EntryBody::RunClosed {}, "run.submitted");
    check(
        "a",
        &|body| {
            if let EntryBody::RunSubmitted(first) = body {
                first.items = 2
            }
        },
        "2 items",
    );
    check(
        "a",
        &|body| {
            if let EntryBody::RunSubmitted(first) = body {
                first.open_ended = true
            }
        },
        "openEnded",
    );
}

#[test]
fn locks_are_exclusive_within_a_run_and_free_while_waiting() {
    let own = run();
    let mut run_of = Folded::items("a#k b#k,l c#l");
    run_of.apply(0, fired(&own, "a", 1)).expect("a");
    let held = Violation::LockHeld { key: "k".into(), holder: Box::new((run(), id("a"))) };
    assert_eq!(refused(&mut run_of, 0, fired(&own, "b", 1)), held);
    let blocker = Blocker::Lock { key: "k".to_owned(), run: run(), item: id("a") };
    assert_eq!(run_of.state.blockers(&id("b")), [blocker]);
    run_of.apply(0, retried("a", 1, FailureClass::Work, 10)).expect("a waits");
    run_of.apply(0, fired(&own, "b", 1)).expect("b has the lock now");
    assert!(matches!(refused(&mut run_of, 20, fired(&own, "a", 2)), Violation::LockHeld { .. }));
    assert!(matches!(refused(&mut run_of, 20, fired(&own, "c", 1)), Violation::LockHeld { .. }));
}

#[test]
fn a_skip_must_be_true() {
    let own = run();
    let mut run_of = Folded::items("a b<a c<b d e<d f<c,d");
    let check = |run_of: &mut Folded, body: EntryBody, expected: Violation| {
        assert_eq!(refused(run_of, 0, body), expected);
    };
    check(&mut run_of, skip(&["b"], "a"), Violation::Cause(id("a")));
    run_of.apply(0, fired(&own, "a", 1)).expect("a");
    run_of.apply(0, reconciled("a", 1, FinalStatus::Failed)).expect("a failed");
    check(&mut run_of, skip(&["b", "e"], "a"), Violation::Reachable(id("a")));
    check(&mut run_of, skip(&["c"], "a"), Violation::Reachable(id("a")));
    check(&mut run_of, skip(&["b", "b"], "a"), Violation::ItemList);
    check(&mut run_of, skip(&[], "a"), Violation::ItemList);
    check(&mut run_of, skip(&["d"], "a"), Violation::State);
    // In parts it is legal too; what is due afterwards is the rest.
    run_of.apply(0, skip(&["b"], "a")).expect("b");
    assert_eq!(run_of.state.due_entries(), [skip(&["c", "f"], "a")]);
    run_of.apply(0, skip(&["c", "f"], "a")).expect("rest");
    assert_eq!(run_of.state.due_entries(), []);
    assert_eq!(run_of.names(), "a:failed b:skipped c:skipped d:ready e:pending f:skipped");
}

#[test]
fn a_long_cascade_is_cut_into_legal_entries() {
    // In reverse plan order, so that the order of the plan is not the order of dependencies.
    let mut items: Vec<String> = (1..1_000).rev().map(|index| format!("i{index}<i{}", index - 1)).collect();
    items.push("i0".to_owned());
    let mut run_of = Folded::items(&items.join(" "));
    run_of.apply(0, fired(&run(), "i0", 1)).expect("fired");
    run_of.apply(0, reconciled("i0", 1, FinalStatus::Failed)).expect("failed");
    let due = run_of.state.due_entries();
    assert_eq!(due.len(), 4, "three skips and the completion");
    for (position, body) in due.into_iter().enumerate() {
        run_of.apply(0, body).expect("legal");
        if position == 0 {
            // After a crash between two of them the rest is planned again.
            assert_eq!(run_of.state.due_entries().len(), 3);
        }
    }
    assert_eq!(run_of.state.outcome(), Some(RunOutcome::Failed));
    assert_eq!(run_of.state.counts()[&FinalStatus::Skipped], 999);
}

#[test]
fn the_end_must_be_true_and_final() {
    let own = run();
    let mut run_of = Folded::items("a b");
    let done = |n| completed(RunOutcome::Done, &[(FinalStatus::Done, n)]);
    assert_eq!(refused(&mut run_of, 0, done(2)), Violation::Unfinished { open: 2 });
    for item in ["a", "b"] {
        run_of.apply(0, fired(&own, item, 1)).expect("fired");
        run_of.apply(0, reconciled(item, 1, FinalStatus::Done)).expect("done");
    }
    let failed = completed(RunOutcome::Failed, &[(FinalStatus::Done, 2)]);
    assert_eq!(refused(&mut run_of, 0, failed), Violation::Outcome { expected: RunOutcome::Done });
    assert_eq!(refused(&mut run_of, 0, done(1)), Violation::Counts);
    assert_eq!(run_of.state.due_entries(), [done(2)]);
    run_of.apply(0, done(2)).expect("completed");
    assert_eq!(refused(&mut run_of, 0, done(2)), Violation::Completed);
    assert_eq!(refused(&mut run_of, 0, EntryBody::RunCancelled {}), Violation::Completed);
}

#[test]
fn an_item_that_asks_keeps_the_run_open_until_cancelled() {
    let own = run();
    let mut run_of = Folded::items("a b<a");
    run_of.apply(0, fired(&own, "a", 1)).expect("fired");
    run_of.apply(0, reconciled("a", 1, FinalStatus::NeedsInput)).expect("asks");
    assert_eq!(run_of.state.due_entries(), []);
    assert_eq!(run_of.state.blockers(&id("a")), [Blocker::Answer]);
    run_of.apply(0, EntryBody::RunCancelled {}).expect("cancelled");
    assert_eq!(run_of.names(), "a:cancelled b:cancelled");
    assert_eq!(
        run_of.state.due_entries(),
        [completed(RunOutcome::Cancelled, &[(FinalStatus::Cancelled, 2)])]
    );
}

#[test]
fn open_ended_runs_grow_until_closed() {
    let extend = |ids: &[&str], cause: Option<&str>| EntryBody::RunExtended {
        cause: cause.map(id),
        items: ids.iter().map(|item| id(item)).collect(),
        document: Digest::of(b"items"),
        explanation: String::new(),
        plugin: None,
        supersedes: std::collections::BTreeMap::new(),
        pins: None,
    };
    let own = run();
    let mut plan = plan("r", "q", "a");
    plan.open_ended = true;
    let mut run_of = Folded::new(plan);
    run_of.apply(0, fired(&own, "a", 1)).expect("fired");
    run_of.apply(0, reconciled("a", 1, FinalStatus::Done)).expect("done");
    assert_eq!(run_of.state.due_entries(), [], "it is still open");
    let end = completed(RunOutcome::Done, &[(FinalStatus::Done, 1)]);
    assert_eq!(refused(&mut run_of, 0, end), Violation::StillOpen);

    let mut more = |ids: &[&str], items: &str, expected: Result<(), Violation>| {
        let added = items.split_whitespace().map(common::parse_item).collect();
        let answer = run_of.apply_with(0, extend(ids, Some("a")), Some(added));
        assert_eq!(answer.map_err(|refused| refused.violation), expected, "{ids:?}");
    };
    more(&[], "", Err(Violation::ItemList));
    more(&["b"], "c", Err(Violation::Items));
    more(
        &["b", "c"],
        "b<c c<b",
        Err(Violation::Plan("it is part of or behind a dependency cycle".to_owned())),
    );
    more(&["a"], "a", Err(Violation::Plan("the id is used twice".to_owned())));
    more(&["b", "c"], "b<a c<b", Ok(()));
    assert_eq!(run_of.names(), "a:done b:ready c:pending");
    run_of.apply(0, fired(&own, "b", 1)).expect("b");
    run_of.apply(0, reconciled("b", 1, FinalStatus::Failed)).expect("b failed");
    // Added behind a failed item: unreachable from the start.
    let added = vec![common::parse_item("d<b")];
    run_of.apply_with(0, extend(&["d"], None), Some(added)).expect("d");
    assert_eq!(run_of.state.due_entries(), [skip(&["c", "d"], "b")]);
    run_of.apply(0, EntryBody::RunClosed {}).expect("closed");
    assert_eq!(refused(&mut run_of, 0, EntryBody::RunClosed {}), Violation::NotOpen);
    assert_eq!(run_of.state.due_entries().len(), 2);
}
