//! Runs that grow: decisions, extensions, holds, successors, and the view that patterns get.

mod common;

use std::collections::BTreeMap;

use common::{Folded, completed, fired, item, parse_item, plan, reconciled, submitted};
use pangolin_core::{
    entry::{EntryBody, Evidence, FailureClass, FinalStatus, RunOutcome, VerifyResult},
    ids::{Digest, ItemId, RunId},
    pattern::{
        DecisionRecord, Decisions, Explanation, FailurePolicy, ItemPhase, PatternFailure, SpawnSpec,
        Tolerance, Tolerated, Tracker, Unfit, additions, tolerances,
    },
    plan::{Plan, PlanItem},
    state::{RunState, Violation},
    validate::PlanContext,
};
use proptest::prelude::*;

const SEED: u64 = 77;

fn id(text: &str) -> ItemId {
    ItemId::new(text).expect("item id")
}

fn component() -> Digest {
    Digest::of(b"component")
}

fn record(step: u64, seen: u64) -> DecisionRecord {
    DecisionRecord {
        step,
        component: component(),
        contract: "pangolin:pattern@1.1.0".to_owned(),
        engine: "test".to_owned(),
        profile: "pure/1".to_owned(),
        view: Digest::of(b"view"),
        seen,
        seed: SEED,
        now: 0,
        grant: None,
        limits: None,
        fuel: 0,
        peak_memory: 0,
        decisions: Digest::of(b"{}"),
        closes: false,
        failure: None,
    }
}

fn decided(record: DecisionRecord) -> EntryBody {
    EntryBody::PatternDecided(Box::new(record))
}

fn failed_with(step: u64, seen: u64, policy: FailurePolicy) -> EntryBody {
    let failure = PatternFailure { code: "guest-panic".to_owned(), message: "oh".to_owned(), policy };
    decided(DecisionRecord { failure: Some(failure), ..record(step, seen) })
}

fn extended(items: &[&str], supersedes: &[(&str, &str)], plugin: Option<Digest>) -> EntryBody {
    EntryBody::RunExtended {
        cause: None,
        items: items.iter().map(|item| id(item)).collect(),
        document: Digest::of(b"items"),
        explanation: "because".to_owned(),
        plugin,
        supersedes: supersedes.iter().map(|(new, old)| (id(new), id(old))).collect(),
        pins: Some(Digest::of(b"pins")),
    }
}

fn verified(item: &str, attempt: u32, passed: bool) -> EntryBody {
    let verify = Some(VerifyResult { passed, duration_ms: 1 });
    let evidence = Box::new(Evidence { verify, ..Evidence::default() });
    EntryBody::ItemReconciled { item: id(item), attempt, status: FinalStatus::Done, failure: None, evidence }
}

/// A run with a pattern, with the tracker that follows it.
struct Growing {
    folded: Folded,
    tracker: Option<Tracker>,
}

impl Growing {
    fn new(plan: Plan) -> Self {
        let mut first = submitted(&plan);
        if let EntryBody::RunSubmitted(submitted) = &mut first {
            submitted.pattern = Some(component());
        }
        let first = common::entry(&plan.id, 0, 0, first);
        let view = Tracker::planning(&plan, "{}".to_owned(), SEED, 0);
        let state = RunState::start(plan, &first).expect("start");
        let tracker = Some(Tracker::start(view, &state));
        Self { folded: Folded { state, log: vec![first] }, tracker }
    }

    /// With step 0 recorded.
    fn live(items: &str) -> Self {
        let mut growing = Self::new(plan("r", "q", items));
        growing.ok(decided(record(0, 0)));
        growing
    }

    fn apply(&mut self, body: EntryBody, added: Option<&str>) -> Result<(), Violation> {
        let added = added.map(|items| items.split_whitespace().map(parse_item).collect::<Vec<PlanItem>>());
        self.folded.apply_with(0, body, added).map_err(|illegal| illegal.violation)?;
        if let (Some(tracker), Some(last)) = (&mut self.tracker, self.folded.log.last()) {
            tracker.note(&self.folded.state, last);
        }
        Ok(())
    }

    fn ok(&mut self, body: EntryBody) {
        self.apply(body, None).expect("legal");
    }

    fn add(&mut self, items: &str, supersedes: &[(&str, &str)]) -> Result<(), Violation> {
        let ids: Vec<&str> = items
            .split_whitespace()
            .map(|text| text.split(['<', '#', '!', '*']).next().unwrap_or(text))
            .collect();
        self.apply(extended(&ids, supersedes, Some(component())), Some(items))
    }

    fn fire(&mut self, item: &str) {
        self.ok(fired(&RunId::new("r").expect("id"), item, 1));
    }

    fn end(&mut self, item: &str, status: FinalStatus) {
        self.fire(item);
        self.ok(reconciled(item, 1, status));
    }

    fn verify(&mut self, item: &str, passed: bool) {
        self.fire(item);
        self.ok(verified(item, 1, passed));
    }

    /// Applies what is due; answers what it was.
    fn due(&mut self) -> Vec<&'static str> {
        let due = self.folded.state.due_entries();
        let kinds = due.iter().map(EntryBody::kind).collect();
        for body in due {
            self.ok(body);
        }
        kinds
    }

    /// The next step as a record without decisions.
    fn step(&mut self) {
        let (step, seen) = (self.steps(), self.folded.state.next_seq());
        self.ok(decided(record(step, seen)));
    }

    fn steps(&self) -> u64 {
        self.folded.state.growth().map_or(0, pangolin_core::state::Growth::steps)
    }
}

fn pattern_refusal(answer: Result<(), Violation>) -> String {
    match answer {
        Err(Violation::Pattern(text)) => text,
        other => panic!("{other:?} is no refusal about the pattern"),
    }
}

#[test]
fn a_live_pattern_sees_every_end_before_the_run_is_completed() {
    let mut run = Growing::live("a b<a");
    run.end("a", FinalStatus::Failed);
    assert!(run.folded.state.pattern_due());
    assert_eq!(run.due(), ["item.skipped"], "the skipped item has to be seen as well");
    assert_eq!(run.due(), [""; 0]);
    let end = completed(RunOutcome::Failed, &[(FinalStatus::Failed, 1), (FinalStatus::Skipped, 1)]);
    assert_eq!(run.apply(end, None), Err(Violation::PatternDue));
    // A view that was taken before the skip does not count for it.
    run.ok(decided(record(1, 4)));
    assert!(run.folded.state.pattern_due());
    run.step();
    assert!(!run.folded.state.pattern_due());
    assert_eq!(run.due(), ["run.completed"]);
}

#[test]
fn a_closed_pattern_and_a_run_without_one_end_by_themselves() {
    let mut run = Growing::new(plan("r", "q", "a"));
    run.ok(decided(DecisionRecord { closes: true, ..record(0, 0) }));
    run.end("a", FinalStatus::Done);
    assert_eq!(run.due(), ["run.completed"]);

    let mut run = Growing::new(plan("r", "q", "a"));
    run.end("a", FinalStatus::Done);
    assert!(run.folded.state.growth().is_none());
    assert_eq!(run.due(), ["run.completed"]);
}

#[test]
fn a_step_that_closes_may_add_items_for_the_last_time() {
    let mut run = Growing::live("a");
    run.end("a", FinalStatus::Done);
    run.ok(decided(DecisionRecord { closes: true, ..record(1, 4) }));
    run.add("b<a c", &[]).expect("follows the record");
    run.add("d<c", &[]).expect("a second part");
    run.end("b", FinalStatus::Done);
    assert!(pattern_refusal(run.add("e", &[])).contains("must follow its record"));
    assert_eq!(run.folded.names(), "a:done b:done c:ready d:pending");
    let state = &run.folded.state;
    let extension = state.extension_of(&id("d")).expect("added");
    assert_eq!((extension.explanation.as_str(), extension.plugin), ("because", Some(component())));
    assert_eq!(state.extension_of(&id("a")), None);
    assert_eq!(state.pins_of(&id("c")), Some(Digest::of(b"pins")));
    assert_eq!(state.pins_of(&id("a")), None);
}

#[test]
fn illegal_orders_of_decisions_are_refused() {
    let mut run = Growing::new(plan("r", "q", "a b"));
    for (name, body, words) in [
        ("step 1 first", decided(record(1, 1)), "without step 0"),
        (
            "other component",
            decided(DecisionRecord { component: Digest::of(b"x"), ..record(0, 0) }),
            "admitted",
        ),
        ("failed planner", failed_with(0, 0, FailurePolicy::Open), "rejected"),
        ("seen", decided(record(0, 1)), "seen none"),
    ] {
        let refusal = pattern_refusal(run.apply(body, None));
        assert!(refusal.contains(words), "{name}: {refusal}");
    }
    assert!(pattern_refusal(run.add("x", &[])).contains("must follow"));
    let moved = |from: Digest, steps| EntryBody::PatternMoved { from, to: Digest::of(b"new"), steps };
    assert!(pattern_refusal(run.apply(moved(component(), 0), None)).contains("without asking"));
    run.ok(decided(record(0, 0)));
    assert!(pattern_refusal(run.add("x", &[])).contains("must follow"), "step 0 amends the plan instead");
    for (name, body, words) in [
        ("twice", decided(record(0, 0)), "recorded before"),
        ("nothing to see", decided(record(1, 2)), "nothing ended"),
        ("gap", decided(record(2, 2)), "expected 1"),
        (
            "moved to itself",
            EntryBody::PatternMoved { from: component(), to: component(), steps: 1 },
            "pinned",
        ),
        ("moved from another", moved(Digest::of(b"x"), 1), "pinned"),
        ("moved too early", moved(component(), 0), "1 steps"),
    ] {
        let refusal = pattern_refusal(run.apply(body, None));
        assert!(refusal.contains(words), "{name}: {refusal}");
    }
    run.end("a", FinalStatus::Done);
    for (name, body, words) in [
        ("not seen", decided(record(1, 3)), "nothing ended"),
        ("seen backwards", decided(record(1, 0)), "more than 0"),
        ("from the future", decided(record(1, 5)), "at most 4"),
        ("seed", decided(DecisionRecord { seed: 1, ..record(1, 4) }), "seed"),
        ("component", decided(DecisionRecord { component: Digest::of(b"x"), ..record(1, 4) }), "pinned"),
    ] {
        let refusal = pattern_refusal(run.apply(body, None));
        assert!(refusal.contains(words), "{name}: {refusal}");
    }
    run.ok(moved(component(), 1));
    assert!(pattern_refusal(run.apply(decided(record(1, 4)), None)).contains("pinned"));
    run.ok(decided(DecisionRecord { component: Digest::of(b"new"), closes: true, ..record(1, 4) }));
    run.end("b", FinalStatus::Done);
    assert!(pattern_refusal(run.apply(decided(record(2, 8)), None)).contains("not asked any more"));
    assert_eq!(run.due(), ["run.completed"]);

    // A step 0 that comes late.
    let mut late = Growing::new(plan("r", "q", "a"));
    late.fire("a");
    assert!(pattern_refusal(late.apply(decided(record(0, 0)), None)).contains("must follow run.submitted"));
}

#[test]
fn the_policy_of_the_binding_decides_what_a_failure_means() {
    for (policy, outcome) in
        [(FailurePolicy::Closed, RunOutcome::Failed), (FailurePolicy::Open, RunOutcome::Done)]
    {
        let mut run = Growing::live("a b<a");
        run.end("a", FinalStatus::Done);
        run.ok(failed_with(1, 4, policy));
        assert!(pattern_refusal(run.add("x", &[])).contains("must follow"), "a failed step adds nothing");
        assert!(pattern_refusal(run.apply(decided(record(2, 5)), None)).contains("not asked"));
        run.end("b", FinalStatus::Done);
        assert_eq!(
            run.folded.state.due_entries(),
            [completed(outcome, &[(FinalStatus::Done, 2)])],
            "{policy:?}"
        );
    }
    let mut run = Growing::live("a b<a");
    run.end("a", FinalStatus::Done);
    let first = run.tracker.as_mut().expect("tracker").cut(&run.folded.state, 0);
    assert_eq!(first.changed, [0, 1]);
    run.ok(failed_with(1, 4, FailurePolicy::Builtin));
    assert!(run.folded.state.pattern_due(), "the built-in one has to look at it");
    assert!(pattern_refusal(run.apply(decided(record(2, 5)), None)).contains("takes over"));
    let view = run.tracker.as_mut().expect("tracker").cut(&run.folded.state, 0);
    assert_eq!((view.tick, view.changed.as_slice()), (2, [0, 1].as_slice()), "everything is new for it");
    let builtin = Digest::of(b"builtin");
    run.ok(decided(DecisionRecord { component: builtin, ..record(2, 5) }));
    run.end("b", FinalStatus::Done);
    run.ok(decided(DecisionRecord { component: builtin, closes: true, ..record(3, 8) }));
    assert_eq!(run.due(), ["run.completed"]);
    assert_eq!(run.folded.state.outcome(), Some(RunOutcome::Done));
    let growth = run.folded.state.growth().expect("a pattern was asked");
    assert_eq!(growth.failure(), None, "the step after it went well");
    let failed = growth.failed_step().map(|(step, failure)| (step, failure.policy));
    assert_eq!(failed, Some((1, FailurePolicy::Builtin)), "what failed before stays known");
}

fn gated(items: &str, gate: &str) -> Growing {
    let mut plan = plan("r", "q", items);
    for item in &mut plan.items {
        item.hold_on_red = item.id.as_str() == gate;
    }
    let mut run = Growing::new(plan);
    run.ok(decided(record(0, 0)));
    run
}

#[test]
fn a_red_gate_holds_what_was_there_and_lets_pass_what_comes_later() {
    let mut run = gated("work review<work publish<review note<publish free<work", "review");
    run.verify("work", true);
    run.verify("review", false);
    assert_eq!(run.folded.names(), "work:done review:done publish:pending note:pending free:ready");
    assert_eq!(run.folded.state.blockers(&id("publish")).len(), 1);
    let skip = EntryBody::ItemSkipped { items: vec![id("free")], cause: id("review") };
    assert_eq!(run.apply(skip, None), Err(Violation::State));
    assert_eq!(run.due(), ["item.skipped"]);
    assert_eq!(run.folded.names(), "work:done review:done publish:skipped note:skipped free:ready");
    run.step();
    run.add("fix<review check<fix,review after<check", &[("check", "review"), ("after", "publish")])
        .expect("a later item may depend on the red gate");
    assert_eq!(run.due(), [""; 0], "nothing is skipped for the red gate any more");
    for item in ["fix", "check", "after", "free"] {
        run.end(item, FinalStatus::Done);
    }
    run.step();
    // `note` was skipped and nothing took its place.
    let counts = [(FinalStatus::Done, 6), (FinalStatus::Skipped, 2)];
    assert_eq!(run.folded.state.due_entries(), [completed(RunOutcome::Failed, &counts)]);
}

#[test]
fn a_later_dependent_of_a_red_gate_can_still_be_skipped_for_another_reason() {
    let mut run = gated("gate x next<gate", "gate");
    run.verify("gate", false);
    run.step();
    run.add("late<gate,x later<late", &[]).expect("added");
    assert_eq!(run.due(), ["item.skipped"], "`next` only");
    assert_eq!(run.folded.names(), "gate:done x:ready next:skipped late:pending later:pending");
    let skip = |cause: &str| EntryBody::ItemSkipped { items: vec![id("late")], cause: id(cause) };
    assert_eq!(run.apply(skip("gate"), None), Err(Violation::Reachable(id("gate"))));
    run.end("x", FinalStatus::Failed);
    assert_eq!(run.due(), ["item.skipped"]);
    assert_eq!(run.folded.names(), "gate:done x:failed next:skipped late:skipped later:skipped");
}

#[test]
fn a_green_gate_and_a_gate_that_does_not_hold_let_pass() {
    for (holds, passed, expected) in
        [("gate", true, "ready"), ("none", false, "ready"), ("gate", false, "pending")]
    {
        let mut run = gated("gate next<gate", holds);
        run.verify("gate", passed);
        assert_eq!(run.folded.names(), format!("gate:done next:{expected}"), "{holds} {passed}");
    }
}

#[test]
fn the_outcome_is_judged_by_the_successors() {
    let mut run = gated("gate next<gate", "gate");
    run.verify("gate", false);
    run.due();
    run.step();
    run.add("gate~2 next~2<gate~2", &[("gate~2", "gate"), ("next~2", "next")]).expect("added");
    assert_eq!(run.folded.state.successor(&id("gate")), Some(&id("gate~2")));
    run.verify("gate~2", true);
    run.end("next~2", FinalStatus::Done);
    run.step();
    let counts = [(FinalStatus::Done, 3), (FinalStatus::Skipped, 1)];
    assert_eq!(run.folded.state.due_entries(), [completed(RunOutcome::Done, &counts)]);
    // Without a successor the red gate alone fails the run.
    let mut run = gated("gate", "gate");
    run.verify("gate", false);
    run.step();
    assert_eq!(run.folded.state.due_entries(), [completed(RunOutcome::Failed, &[(FinalStatus::Done, 1)])]);
}

#[test]
fn only_what_ended_badly_is_superseded_and_only_once() {
    let mut run = Growing::live("bad good red open");
    run.end("bad", FinalStatus::Failed);
    run.end("good", FinalStatus::Done);
    run.verify("red", false);
    run.step();
    for (items, supersedes, words) in [
        ("n", vec![("n", "ghost")], "does not exist"),
        ("n", vec![("n", "open")], "has not ended"),
        ("n", vec![("n", "good")], "ended well"),
        ("n m", vec![("n", "bad"), ("m", "bad")], "has a successor already"),
        ("n", vec![("m", "bad")], "is not replaced by an added item"),
    ] {
        let Err(Violation::Supersedes(text)) = run.add(items, &supersedes) else { panic!("{words}") };
        assert!(text.contains(words), "{text}");
    }
    run.add("n m", &[("n", "bad"), ("m", "red")]).expect("both ended badly");
    let Err(Violation::Supersedes(text)) = run.add("o", &[("o", "bad")]) else { panic!("twice") };
    assert!(text.contains("successor already"), "{text}");
}

#[test]
fn producers_extend_while_the_run_is_open_and_patterns_afterwards_too() {
    let mut open = plan("r", "q", "a");
    open.open_ended = true;
    let mut run = Growing::new(open);
    run.ok(decided(record(0, 0)));
    run.apply(extended(&["b"], &[], None), Some("b")).expect("a producer");
    let Err(Violation::Supersedes(text)) = run.apply(extended(&["c"], &[("c", "a")], None), Some("c")) else {
        panic!("a producer supersedes")
    };
    assert!(text.contains("only a pattern"), "{text}");
    run.ok(EntryBody::RunClosed {});
    assert!(run.folded.state.pattern_due(), "the pattern is told that the run was closed");
    assert_eq!(run.apply(extended(&["c"], &[], None), Some("c")), Err(Violation::NotOpen));
    run.end("a", FinalStatus::Done);
    run.step();
    run.add("c", &[]).expect("a pattern goes on");
    run.ok(EntryBody::RunCancelled {});
    assert_eq!(run.apply(decided(record(2, 99)), None), Err(Violation::RunCancelled));
    assert_eq!(run.add("d", &[]), Err(Violation::RunCancelled));
    assert_eq!(run.due(), ["run.completed"], "a cancelled run does not wait for its pattern");
    let mut fixed = Growing::live("a");
    assert_eq!(fixed.apply(extended(&["b"], &[], None), Some("b")), Err(Violation::NotOpen));
}

#[test]
fn the_view_shows_what_changed_since_the_last_step() {
    let mut run = gated("a gate<a next<gate", "gate");
    let cut = |run: &mut Growing| run.tracker.as_mut().expect("tracker").cut(&run.folded.state, 9);
    run.verify("a", true);
    let view = cut(&mut run);
    assert_eq!((view.tick, view.now_ms, view.seed, view.changed.as_slice()), (1, 9, SEED, [0, 1].as_slice()));
    assert_eq!(view.attrs, BTreeMap::from([("queue".to_owned(), "q".to_owned())]));
    assert_eq!((view.items()[0].phase, view.items()[0].verify_passed), (ItemPhase::Succeeded, Some(true)));
    assert_eq!((&*view.items()[1].state, &*view.items()[2].state), ("ready", "pending"));
    assert_eq!(view.items()[2].depends_on, [1]);
    drop(view);
    run.step();
    run.verify("gate", false);
    run.due();
    let view = cut(&mut run);
    assert_eq!((view.tick, view.changed.as_slice()), (2, [1, 2].as_slice()));
    assert_eq!(view.items()[1].attrs["has-patch"], "false");
    assert_eq!((view.items()[2].phase, &*view.items()[2].state), (ItemPhase::Unsuccessful, "skipped"));
    drop(view);
    run.step();
    run.add("gate~2", &[("gate~2", "gate")]).expect("added");
    run.fire("gate~2");
    run.ok(common::retried("gate~2", 1, FailureClass::Work, 0));
    run.ok(fired(&RunId::new("r").expect("id"), "gate~2", 2));
    run.ok(reconciled("gate~2", 2, FinalStatus::Failed));
    let view = cut(&mut run);
    assert_eq!(view.changed, [1, 3]);
    assert_eq!(view.items()[1].attrs["superseded-by"], "gate~2");
    let last = &view.items()[3];
    assert_eq!((last.attempts, last.phase), (2, ItemPhase::Unsuccessful));
    assert_eq!(last.attrs["failure-reason"], "provider-failed");
    assert_eq!((&*last.attrs["failure-class"], &*last.attrs["failure-message"]), ("work", "it broke"));
    assert_eq!(view.count(ItemPhase::Succeeded), 2);
}

#[test]
fn the_view_of_an_amended_plan_names_what_was_amended() {
    let submitted_plan = plan("r", "q", "a b c");
    let planned = Tracker::planning(&submitted_plan, "{}".to_owned(), SEED, 0);
    assert_eq!(planned.changed, [0, 1, 2]);
    let graph = plan("r", "q", "a b<a c<b d<c");
    let first = common::entry(&graph.id, 0, 0, submitted(&graph));
    let state = RunState::start(graph, &first).expect("start");
    let mut tracker = Tracker::start(planned, &state);
    let view = tracker.cut(&state, 0);
    assert_eq!(view.changed, [0, 1, 2, 3], "a is ready, b and c were ordered, d is new");
    assert_eq!(view.items()[2].depends_on, [1]);
    assert_eq!(view.items()[3].spec.id, id("d"));
    drop(view);
    assert!(tracker.cut(&state, 0).changed.is_empty());
}

fn spawn(text: &str, supersedes: Option<&str>) -> SpawnSpec {
    let made = parse_item(text);
    let serde_json::Value::Object(item) = serde_json::to_value(&made).expect("json") else {
        panic!("object")
    };
    SpawnSpec { id: made.id, item: item.into(), supersedes: supersedes.map(id) }
}

#[test]
fn additions_are_checked_ordered_and_cut() {
    let mut run = Growing::live("a b");
    run.end("a", FinalStatus::Failed);
    let context = PlanContext { items_max: 1_000, ..PlanContext::default() };
    let decide = |spawned: Vec<SpawnSpec>| Decisions { spawned, ..Decisions::default() };
    let state = &run.folded.state;
    let of = |decisions: &Decisions| additions(decisions, state, &context);

    assert_eq!(of(&decide(vec![spawn("b", None)])), Ok(vec![]), "the same item again is dropped");
    assert_eq!(of(&decide(vec![spawn("b<a", None)])), Err(Unfit::Taken(id("b"))));
    let many: Vec<SpawnSpec> = (0..999).map(|n| spawn(&format!("n{n}"), None)).collect();
    assert_eq!(of(&decide(many)), Err(Unfit::TooMany { items: 1_001, max: 1_000 }));
    let Err(Unfit::Invalid(found)) = of(&decide(vec![spawn("x<ghost", None), spawn("y<y", None)])) else {
        panic!("unknown dependency")
    };
    assert_eq!(found.len(), 2, "{found:?}");
    let Err(Unfit::Supersedes { item, .. }) = of(&decide(vec![spawn("x", Some("b"))])) else { panic!("b") };
    assert_eq!(item, id("b"));

    let mut wanted = decide(vec![spawn("z<y", None), spawn("y<a,x", Some("a")), spawn("x", None)]);
    wanted.explanations = vec![
        Explanation { item: "y".into(), why: "w1".into() },
        Explanation { item: "x".into(), why: "w2".into() },
    ];
    let made = of(&wanted).expect("legal");
    assert_eq!(made.len(), 1);
    let order: Vec<&str> = made[0].items.iter().map(|item| item.id.as_str()).collect();
    assert_eq!(order, ["x", "y", "z"], "dependencies first");
    assert_eq!(made[0].explanation, "x: w2\ny: w1");
    assert_eq!(made[0].supersedes, BTreeMap::from([(id("y"), id("a"))]));

    // 900 long ids do not fit into one entry.
    let long = "x".repeat(100);
    let mut big = decide((0..900).map(|n| spawn(&format!("{long}{n}"), None)).collect());
    big.explanations = big
        .spawned
        .iter()
        .map(|spec| Explanation { item: spec.id.to_string(), why: "\u{1}\"".repeat(2_000) })
        .collect();
    let made = of(&big).expect("legal");
    assert!(made.len() >= 2);
    assert_eq!(made.iter().map(|part| part.items.len()).sum::<usize>(), 900);
    for part in &made {
        let ids: usize = part.items.iter().map(|item| item.id.as_str().len() + 3).sum();
        let text = serde_json::to_string(&part.explanation).expect("json").len();
        assert!(ids + text < 55_000, "{ids} {text}");
    }
}

fn tolerated(items: &[&str]) -> EntryBody {
    let items = items.iter().map(|item| id(item)).collect();
    EntryBody::ItemTolerated { items, explanation: "enough are there".to_owned(), plugin: component() }
}

#[test]
fn the_outcome_is_judged_without_what_is_tolerated() {
    // c waits for a and stays skipped; it has to be tolerated as well.
    for (items, outcome) in [(&["a", "c"][..], RunOutcome::Done), (&["a"], RunOutcome::Failed)] {
        let mut run = Growing::live("a b c<a");
        run.end("a", FinalStatus::Failed);
        run.end("b", FinalStatus::Done);
        assert_eq!(run.due(), ["item.skipped"]);
        run.step();
        run.ok(tolerated(items));
        let state = &run.folded.state;
        assert!(state.is_tolerated(&id("a")) && !state.is_tolerated(&id("b")));
        assert_eq!(state.tolerated_because(&id("a")), Some("enough are there"));
        assert_eq!(state.item(&id("a")).expect("a").state.name(), "failed", "it stays visible");
        let view = run.tracker.as_mut().expect("tracker").cut(&run.folded.state, 0);
        assert_eq!(view.items()[0].attrs.get("tolerated").map(String::as_str), Some("true"));
        assert_eq!(view.items()[1].attrs.get("tolerated"), None);
        assert_eq!(run.due(), ["run.completed"]);
        assert_eq!(run.folded.state.outcome(), Some(outcome));
    }
    // What somebody cancelled does not make the run cancelled either.
    let mut run = Growing::live("a b");
    run.ok(EntryBody::ItemCancelled { item: id("a") });
    run.end("b", FinalStatus::Done);
    run.step();
    run.ok(tolerated(&["a"]));
    assert_eq!(run.due(), ["run.completed"]);
    assert_eq!(run.folded.state.outcome(), Some(RunOutcome::Done));
}

#[test]
fn only_what_ended_without_success_is_tolerated_and_only_after_a_record() {
    let mut run = Growing::live("a b c");
    run.end("a", FinalStatus::Failed);
    run.end("b", FinalStatus::Done);
    assert!(pattern_refusal(run.apply(tolerated(&["a"]), None)).contains("must follow its record"));
    run.step();
    let refused = |run: &mut Growing, items: &[&str]| match run.apply(tolerated(items), None) {
        Err(Violation::Tolerates(text)) => text,
        other => panic!("{other:?}"),
    };
    assert_eq!(refused(&mut run, &["b"]), "ended well");
    assert_eq!(refused(&mut run, &["a", "c"]), "has not ended");
    assert_eq!(run.apply(tolerated(&["ghost"]), None), Err(Violation::UnknownItem));
    assert_eq!(run.apply(tolerated(&[]), None), Err(Violation::ItemList));
    assert_eq!(run.apply(tolerated(&["a", "a"]), None), Err(Violation::ItemList));
    assert!(!run.folded.state.is_tolerated(&id("a")), "a refused entry changes nothing");
    run.ok(tolerated(&["a"]));
    assert_eq!(refused(&mut run, &["a"]), "is tolerated already");

    // A successor is judged instead, and a successor may come later.
    let mut run = Growing::live("a b");
    run.end("a", FinalStatus::Failed);
    run.end("b", FinalStatus::Failed);
    run.step();
    run.add("a~2", &[("a~2", "a")]).expect("legal");
    assert_eq!(refused(&mut run, &["a"]), "has a successor, by which the run is judged");
    run.ok(tolerated(&["b"]));
    run.end("a~2", FinalStatus::Failed);
    run.step();
    run.add("b~2", &[("b~2", "b")]).expect("legal");
    run.end("b~2", FinalStatus::Done);
    run.step();
    run.ok(tolerated(&["a~2"]));
    assert_eq!(run.due(), ["run.completed"]);
    assert_eq!(run.folded.state.outcome(), Some(RunOutcome::Done));
}

#[test]
fn tolerances_are_checked_and_cut_into_entries() {
    let names: Vec<String> = (0..350).map(|number| format!("m{number:03}")).collect();
    let mut run = Growing::live(&format!("{} done", names.join(" ")));
    for name in &names {
        run.end(name, FinalStatus::Failed);
    }
    run.end("done", FinalStatus::Done);
    let state = &run.folded.state;
    let decide = |items: &[&str]| Decisions {
        tolerated: vec![Tolerated { items: items.iter().map(|item| id(item)).collect(), why: "w".into() }],
        ..Decisions::default()
    };
    let all: Vec<&str> = names.iter().map(String::as_str).collect();
    let made = tolerances(&decide(&all), state).expect("legal");
    assert_eq!(made.iter().map(|tolerance| tolerance.items.len()).collect::<Vec<_>>(), [300, 50]);
    assert!(made.iter().all(|tolerance| tolerance.explanation == "w"));
    let Err(Unfit::Tolerates { item, violation }) = tolerances(&decide(&["m000", "done"]), state) else {
        panic!("done ended well")
    };
    assert_eq!((item, violation), (id("done"), Violation::Tolerates("ended well")));
    let mut both = decide(&["m001"]);
    both.spawned = vec![spawn("m001~2", Some("m001"))];
    assert_eq!(tolerances(&both, state), Err(Unfit::Both(id("m001"))));
    assert_eq!(Unfit::Both(id("m001")).code(), "refused");

    // Asked again, what is there already is left out.
    run.step();
    run.ok(tolerated(&["m000"]));
    let again = tolerances(&decide(&["m000", "m001", "m001"]), &run.folded.state).expect("legal");
    assert_eq!(again, [Tolerance { items: vec![id("m001")], explanation: "w".to_owned() }]);
}

#[derive(Debug, Clone)]
enum Move {
    Fire(prop::sample::Index),
    End(prop::sample::Index, u8),
    Cancel(prop::sample::Index),
    CancelRun,
    Due,
    Record { close: bool, fail: u8, behind: u64 },
    Add { deps: Vec<prop::sample::Index>, supersede: Option<prop::sample::Index>, hold: bool },
    Close,
}

fn moves() -> impl Strategy<Value = Move> {
    let index = any::<prop::sample::Index>;
    prop_oneof![
        6 => index().prop_map(Move::Fire),
        6 => (index(), any::<u8>()).prop_map(|(item, how)| Move::End(item, how)),
        1 => index().prop_map(Move::Cancel),
        1 => Just(Move::Due),
        6 => (prop::bool::weighted(0.1), 0_u8..12, 0_u64..3)
            .prop_map(|(close, fail, behind)| Move::Record { close, fail, behind }),
        6 => (prop::collection::vec(index(), 0..3), prop::option::of(index()), any::<bool>())
            .prop_map(|(deps, supersede, hold)| Move::Add { deps, supersede, hold }),
        1 => Just(Move::Close),
        1 => prop::bool::weighted(0.1).prop_map(|really| if really { Move::CancelRun } else { Move::Due }),
    ]
}

fn body_of(state: &RunState, next: &Move, serial: usize) -> (EntryBody, Option<Vec<PlanItem>>) {
    let ids: Vec<ItemId> = state.items().map(|view| view.id().clone()).collect();
    let pick = |index: &prop::sample::Index| ids[index.index(ids.len())].clone();
    let attempt = |item: &ItemId| state.item(item).map_or(0, |view| view.attempts.len() as u32);
    match next {
        Move::Fire(index) => {
            let item = pick(index);
            (fired(state.id(), item.as_str(), attempt(&item) + 1), None)
        }
        Move::End(index, how) => {
            let item = pick(index);
            let attempt = attempt(&item);
            let body = match how % 4 {
                0 => reconciled(item.as_str(), attempt, FinalStatus::Failed),
                how => verified(item.as_str(), attempt, how == 1),
            };
            (body, None)
        }
        Move::Cancel(index) => (EntryBody::ItemCancelled { item: pick(index) }, None),
        Move::CancelRun => (EntryBody::RunCancelled {}, None),
        Move::Due => (state.due_entries().into_iter().next().unwrap_or(EntryBody::RunClosed {}), None),
        Move::Close => (EntryBody::RunClosed {}, None),
        Move::Record { close, fail, behind } => {
            let growth = state.growth();
            let step = growth.map_or(0, pangolin_core::state::Growth::steps);
            let mut made = record(step, state.next_seq().saturating_sub(*behind));
            if growth.is_some_and(pangolin_core::state::Growth::is_taken_over) {
                made.component = Digest::of(b"builtin");
            } else if let Some(growth) = growth {
                made.component = growth.component();
            }
            made.closes = *close;
            let policy = match fail {
                0 => Some(FailurePolicy::Closed),
                1 => Some(FailurePolicy::Open),
                2 => Some(FailurePolicy::Builtin),
                _ => None,
            };
            made.failure =
                policy.map(|policy| PatternFailure { code: "x".into(), message: String::new(), policy });
            (decided(made), None)
        }
        Move::Add { deps, supersede, hold } => {
            let mut new = item(&format!("n{serial}"));
            new.depends_on = deps.iter().map(pick).collect();
            new.hold_on_red = *hold;
            let component = state.growth().map(pangolin_core::state::Growth::component);
            let old = supersede.as_ref().map(pick);
            let mut body = extended(&[new.id.as_str()], &[], component);
            if let (EntryBody::RunExtended { supersedes, .. }, Some(old)) = (&mut body, old) {
                supersedes.insert(new.id.clone(), old);
            }
            (body, Some(vec![new]))
        }
    }
}

/// Every item that can never start is skipped by what is due, and nothing that can.
fn holds_are_exact(state: &RunState) -> Result<(), TestCaseError> {
    if state.due_entries().iter().any(|body| matches!(body, EntryBody::ItemSkipped { .. })) {
        return Ok(());
    }
    for view in state.items().filter(|view| view.state.name() == "pending") {
        let waits = view
            .plan
            .depends_on
            .iter()
            .any(|dep| state.item(dep).is_some_and(|dep| !dep.state.is_terminal()));
        prop_assert!(waits, "{} waits for nothing", view.id());
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_comes_is_refused_or_applied_and_the_view_is_that_of_the_state(
        open_ended in any::<bool>(),
        moves in prop::collection::vec(moves(), 0..120),
    ) {
        let mut whole = plan("r", "q", "a b<a c<b d");
        whole.open_ended = open_ended;
        whole.items[1].hold_on_red = true;
        let mut run = Growing::new(whole.clone());
        run.ok(decided(record(0, 0)));
        for (serial, next) in moves.iter().enumerate() {
            let (body, added) = body_of(&run.folded.state, next, serial);
            // `apply_with` checks that a refused entry changes nothing.
            if run.folded.apply_with(0, body, added).is_ok()
                && let (Some(tracker), Some(last)) = (&mut run.tracker, run.folded.log.last())
            {
                tracker.note(&run.folded.state, last);
                if serial % 3 == 0 {
                    let _ = tracker.cut(&run.folded.state, 0);
                }
            }
            let state = &run.folded.state;
            for body in state.due_entries() {
                let last = matches!(body, EntryBody::RunCompleted { .. });
                prop_assert!(!last || !state.pattern_due());
            }
            holds_are_exact(state)?;
            let mut all = state.clone();
            for body in state.due_entries() {
                let next = common::entry(state.id(), all.next_seq(), 0, body);
                prop_assert!(all.apply(&next, None).is_ok(), "what is due is legal");
            }
        }
        // Kept up to date bit by bit, the view is the one that is made at once.
        let state = &run.folded.state;
        let mut tracker = run.tracker.take().expect("tracker");
        let kept = tracker.cut(state, 0);
        let mut fresh = Tracker::start(Tracker::planning(&whole, "{}".to_owned(), SEED, 0), state);
        fresh.note(state, &common::entry(state.id(), 0, 0, EntryBody::RunCancelled {}));
        let made = fresh.cut(state, 0);
        prop_assert_eq!(kept.items(), made.items());
        for phase in [ItemPhase::Waiting, ItemPhase::Active, ItemPhase::Succeeded, ItemPhase::Unsuccessful] {
            prop_assert_eq!(kept.count(phase), made.count(phase));
        }
    }
}
