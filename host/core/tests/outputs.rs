//! Outputs in parts: what is recorded before an attempt ends, what may not be, and how an end goes on after a crash.

mod common;

use std::collections::BTreeMap;

use common::{Deployment, Folded, entry, failure, fired, plan, reconciled};
use pangolin_core::{
    entry::{ENTRY_BYTES_MAX, EntryBody, Evidence, FailureClass, FinalStatus},
    ids::{Digest, DispatchId, ItemId, RunId},
    outputs::{OUTPUTS_MAX, OutputsTotal},
    scheduler::{AttemptEnd, AttemptStatus, Scheduler},
    state::Violation,
};
use proptest::prelude::*;

type Outputs = BTreeMap<String, Digest>;

fn id(text: &str) -> ItemId {
    ItemId::new(text).expect("item id")
}

fn run() -> RunId {
    RunId::new("r").expect("run id")
}

fn outputs(names: impl IntoIterator<Item = String>) -> Outputs {
    names.into_iter().map(|name| (name.clone(), Digest::of(name.as_bytes()))).collect()
}

fn names(names: &[&str]) -> Outputs {
    outputs(names.iter().map(|name| (*name).to_owned()))
}

fn left(attempt: u32, part: u64, outputs: Outputs) -> EntryBody {
    let dispatch = DispatchId::derive("test", &run(), &id("x"), attempt);
    EntryBody::ItemOutputs { item: id("x"), attempt, dispatch, part, outputs }
}

fn ended(attempt: u32, evidence: Evidence) -> EntryBody {
    let (status, evidence) = (FinalStatus::Done, Box::new(evidence));
    EntryBody::ItemReconciled { item: id("x"), attempt, status, failure: None, evidence }
}

fn total(outputs: &Outputs) -> Evidence {
    Evidence { outputs_total: Some(OutputsTotal::of(outputs)), ..Evidence::default() }
}

fn running() -> Folded {
    let mut folded = Folded::items("x y<x");
    folded.apply(0, fired(&run(), "x", 1)).expect("fired");
    folded
}

fn kept(folded: &Folded) -> &Outputs {
    let attempt = folded.state.item(&id("x")).expect("x").attempts.last().expect("attempt");
    assert_eq!(attempt.partial, None, "nothing is open once it ended");
    &attempt.end.as_ref().expect("ended").evidence.outputs
}

fn problem(folded: &mut Folded, body: EntryBody) -> String {
    let refusal = folded.apply(0, body).expect_err("must be refused");
    assert_eq!(refusal.item, Some(id("x")), "{refusal}");
    match refusal.violation {
        Violation::Outputs(text) => text.into(),
        other => panic!("{other}"),
    }
}

#[test]
fn the_end_counts_what_the_parts_name() {
    let mut folded = running();
    folded.apply(0, left(1, 0, names(&["a", "b"]))).expect("first");
    folded.apply(0, left(1, 1, names(&["c"]))).expect("second");
    assert_eq!(folded.names(), "x:running y:pending");
    let view = folded.state.item(&id("x")).expect("x");
    assert_eq!(view.attempts[0].partial.as_ref().expect("open").outputs, names(&["a", "b", "c"]));
    folded.apply(0, ended(1, total(&names(&["a", "b", "c"])))).expect("end");
    assert_eq!(kept(&folded), &names(&["a", "b", "c"]));
    assert_eq!(folded.names(), "x:done y:ready");
}

#[test]
fn a_part_that_is_missing_doubled_out_of_order_or_foreign_is_refused() {
    let mut folded = running();
    assert_eq!(
        problem(&mut folded, left(1, 1, names(&["c"]))),
        "part 1 does not fit, expected 0 (or 0 to start over)"
    );
    assert_eq!(problem(&mut folded, left(1, 0, names(&[]))), "a part must name at least one");
    folded.apply(0, left(1, 0, names(&["b"]))).expect("first");
    for (part, first, expected) in [
        (1, "a", "part 1 begins with \"a\", which is not after \"b\""),
        (1, "b", "part 1 begins with \"b\", which is not after \"b\""),
        (2, "c", "part 2 does not fit, expected 1 (or 0 to start over)"),
    ] {
        assert_eq!(problem(&mut folded, left(1, part, names(&[first]))), expected);
    }
    let refused = folded.apply(0, left(2, 1, names(&["c"]))).expect_err("another attempt");
    assert_eq!(refused.violation, Violation::Attempt { found: 2, expected: 1 });
    let EntryBody::ItemOutputs { item, attempt, part, outputs, .. } = left(1, 1, names(&["c"])) else {
        panic!("an item.outputs")
    };
    let dispatch = DispatchId::derive("elsewhere", &run(), &id("x"), 1);
    let foreign = EntryBody::ItemOutputs { item, attempt, dispatch, part, outputs };
    assert!(problem(&mut folded, foreign).starts_with("the running attempt is dispatch "));
    let waiting = folded.apply(
        0,
        EntryBody::ItemOutputs {
            item: id("y"),
            attempt: 1,
            dispatch: DispatchId::derive("test", &run(), &id("y"), 1),
            part: 0,
            outputs: names(&["c"]),
        },
    );
    assert_eq!(waiting.expect_err("not running").violation, Violation::State);
}

#[test]
fn an_end_must_say_what_the_parts_add_up_to() {
    let all = names(&["a", "b"]);
    let mut folded = running();
    let early = problem(&mut folded, ended(1, total(&all)));
    assert_eq!(early, "it says that 2 were recorded, but none were");
    folded.apply(0, left(1, 0, names(&["a"]))).expect("first");
    let without = problem(&mut folded, ended(1, Evidence::default()));
    assert_eq!(without, "1 were recorded, and it does not say what they add up to");
    assert!(problem(&mut folded, ended(1, total(&all))).starts_with("1 with digest sha256:"));
    let other: Outputs = [("a".to_owned(), Digest::of(b"other bytes"))].into();
    assert!(problem(&mut folded, ended(1, total(&other))).contains("it says 1 with digest"));
    let both = Evidence { outputs: names(&["b"]), ..total(&names(&["a"])) };
    let both = problem(&mut folded, ended(1, both));
    assert_eq!(both, "some were recorded in parts, so it must not name any itself");
    folded.apply(0, ended(1, total(&names(&["a"])))).expect("end");
}

#[test]
fn part_0_starts_over_and_an_end_without_outputs_withdraws_the_parts() {
    let mut folded = running();
    folded.apply(0, left(1, 0, names(&["a"]))).expect("first");
    folded.apply(0, left(1, 1, names(&["b"]))).expect("second");
    folded.apply(0, left(1, 0, names(&["c"]))).expect("over");
    folded.apply(0, ended(1, total(&names(&["c"])))).expect("end");
    assert_eq!(kept(&folded), &names(&["c"]));

    let mut folded = running();
    folded.apply(0, left(1, 0, names(&["a"]))).expect("first");
    folded.apply(0, ended(1, total(&names(&[])))).expect("end");
    assert_eq!(kept(&folded), &names(&[]));
}

#[test]
fn parts_of_a_failed_attempt_stay_with_it() {
    let mut folded = running();
    folded.apply(0, left(1, 0, names(&["a"]))).expect("first");
    let retried = EntryBody::ItemRetried {
        item: id("x"),
        attempt: 1,
        failure: failure(FailureClass::Work),
        not_before: 0,
        evidence: Box::new(total(&names(&["a"]))),
    };
    folded.apply(0, retried).expect("retried");
    folded.apply(0, fired(&run(), "x", 2)).expect("fired");
    assert!(problem(&mut folded, left(2, 1, names(&["b"]))).starts_with("part 1 does not fit"));
    folded.apply(0, reconciled("x", 2, FinalStatus::Done)).expect("end");
    let attempts = folded.state.item(&id("x")).expect("x").attempts;
    let left: Vec<usize> =
        attempts.iter().map(|attempt| attempt.end.as_ref().expect("ended").evidence.outputs.len()).collect();
    assert_eq!(left, [1, 0]);
}

#[test]
fn a_cancelled_attempt_keeps_its_outputs() {
    let mut folded = running();
    folded.apply(0, left(1, 0, names(&["a"]))).expect("first");
    folded.apply(0, EntryBody::ItemCancelled { item: id("x") }).expect("cancelled");
    folded.apply(0, left(1, 1, names(&["b"]))).expect("second");
    let body = EntryBody::ItemReconciled {
        item: id("x"),
        attempt: 1,
        status: FinalStatus::Cancelled,
        failure: None,
        evidence: Box::new(total(&names(&["a", "b"]))),
    };
    folded.apply(0, body).expect("end");
    assert_eq!(kept(&folded).len(), 2);
}

fn deployment() -> Deployment {
    let mut deployment = Deployment::new(&[("q", 1)]);
    deployment.submit(plan("r", "q", "x"));
    assert_eq!(deployment.step(), ["r/x#1"]);
    deployment
}

fn end_with(scheduler: &Scheduler, outputs: &Outputs) -> Vec<EntryBody> {
    let evidence = Evidence { outputs: outputs.clone(), ..Evidence::default() };
    scheduler.reconcile(&run(), &id("x"), 1, AttemptEnd { status: AttemptStatus::Done, evidence }, 5)
}

fn kept_in(deployment: &Deployment) -> Outputs {
    let state = deployment.scheduler.run(&run()).expect("run");
    let end = state.item(&id("x")).expect("x").attempts.last().and_then(|attempt| attempt.end.clone());
    end.expect("ended").evidence.outputs
}

#[test]
fn few_outputs_are_in_the_ending_entry_and_all_that_are_allowed_fit_into_parts() {
    let few = outputs((0..400).map(|index| format!("part-{index:06}")));
    let entries = end_with(&deployment().scheduler, &few);
    assert_eq!(entries.iter().map(EntryBody::kind).collect::<Vec<_>>(), ["item.reconciled"]);

    // Worst names: every byte of them is escaped.
    let many =
        outputs((0..OUTPUTS_MAX).map(|index| format!("\u{1}\u{2}{index:06}\u{3}\"\\{}", "\u{4}".repeat(30))));
    let mut all = deployment();
    for body in end_with(&all.scheduler, &many) {
        let bytes = serde_json::to_vec(&entry(&run(), 3, 5, body.clone())).expect("json");
        assert!(bytes.len() < ENTRY_BYTES_MAX - 5_000, "{} bytes", bytes.len());
        all.apply(&run(), body);
    }
    assert_eq!(kept_in(&all), many);
}

fn some(range: std::ops::Range<usize>) -> impl Strategy<Value = Outputs> {
    // Long names: a few hundred are several parts.
    range.prop_map(|count| outputs((0..count).map(|index| format!("{index:05}-{}", "n".repeat(400)))))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    /// A crash after any entry: whoever ends the attempt then, with the same or with other outputs, nothing is lost,
    /// doubled or mixed.
    #[test]
    fn an_end_goes_on_after_a_crash(
        first in some(0..500),
        again in prop_oneof![Just(None), some(0..500).prop_map(Some)],
        altered in any::<bool>(),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut crashed = deployment();
        let entries = end_with(&crashed.scheduler, &first);
        let cut = cut.index(entries.len());
        for body in &entries[..cut] {
            crashed.apply(&run(), body.clone());
        }
        let log = crashed.logs[&run()].len();
        let refolded = crashed.refold(&run(), log);
        prop_assert_eq!(Some(&refolded), crashed.scheduler.run(&run()));
        let is_same = again.is_none() && !altered;
        let mut then = again.unwrap_or_else(|| first.clone());
        if altered && let Some(digest) = then.values_mut().next() {
            *digest = Digest::of(b"altered");
        }
        let rest = end_with(&crashed.scheduler, &then);
        if is_same {
            prop_assert_eq!(&rest[..], &entries[cut..], "it goes on where it was");
        }
        for body in rest {
            crashed.apply(&run(), body);
        }
        prop_assert_eq!(kept_in(&crashed), then);
        prop_assert!(end_with(&crashed.scheduler, &first).is_empty(), "an attempt ends once");
    }

    /// The total names one list only.
    #[test]
    fn different_outputs_have_different_totals(
        left in prop::collection::btree_map("[a-c]{0,3}", any::<[u8; 32]>().prop_map(Digest::from_bytes), 0..4),
        right in prop::collection::btree_map("[a-c]{0,3}", any::<[u8; 32]>().prop_map(Digest::from_bytes), 0..4),
    ) {
        prop_assert_eq!(OutputsTotal::of(&left) == OutputsTotal::of(&right), left == right);
    }
}
