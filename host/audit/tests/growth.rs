//! Runs that grew by a pattern: what follows from its recorded decisions verifies, everything else is named.

mod common;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use common::{Run, item, key};
use pangolin_audit::{
    bundle::{Bundle, BundleBuilder, COMPONENT_BYTES_MAX, OBJECT_BYTES_MAX, Placement},
    canon,
    report::{Report, Status, Verdict},
    verify::{Trust, verify_bundle},
};
use pangolin_core::{
    entry::{EntryBody, RunOutcome},
    ids::Digest,
    pattern::{
        DecisionRecord, Decisions, Explanation, FailurePolicy, Ordering, PatternFailure, SpawnSpec, Tolerated,
    },
};
use proptest::prelude::*;
use serde_json::{Value, json};

const COMPONENT: &[u8] = b"a component; nothing executes it here";

fn component() -> Digest {
    Digest::of(COMPONENT)
}

fn spawn(id: &str, depends_on: &[&str]) -> SpawnSpec {
    let document = json!({
        "id": id, "executor": "dispatch", "inputs": {}, "depends_on": depends_on, "resourceLocks": [],
    });
    SpawnSpec { id: item(id), item: document.as_object().expect("object").clone().into(), supersedes: None }
}

fn why(id: &str) -> Explanation {
    Explanation { item: id.to_owned(), why: "the gate was red".to_owned() }
}

/// What the pattern decides at admission: an order, and an item more.
fn planned() -> Decisions {
    let ordered = vec![Ordering { item: item("b"), after: item("a") }];
    Decisions { ordered, held: vec![item("a")], spawned: vec![spawn("c", &["b"])], ..Decisions::default() }
}

/// And after `a` ended.
fn grown() -> Decisions {
    Decisions {
        spawned: vec![spawn("fix-2", &["fix-1"]), spawn("fix-1", &["a"])],
        explanations: vec![why("fix-1")],
        ..Decisions::default()
    }
}

/// Admission and the first attempt.
fn begun() -> Run {
    let mut run = Run::submit_growing("growing", &[("a", &[]), ("b", &[])], component(), &planned());
    run.keep(COMPONENT.to_vec());
    run.fire("a", 1, &[]);
    run.done("a", 1);
    run
}

/// The rest of the run, when `fix-1` and `fix-2` are in it.
fn finish(run: &mut Run) {
    for id in ["fix-1", "fix-2", "b", "c"] {
        run.fire(id, 1, &[]);
        run.done(id, 1);
    }
    run.decide(component(), &Decisions { close: true, ..Decisions::default() }, |_| ());
    run.complete(RunOutcome::Done);
}

fn whole() -> Run {
    let mut run = begun();
    run.decide(component(), &grown(), |_| ());
    finish(&mut run);
    run
}

fn verify(bytes: &[u8]) -> Report {
    verify_bundle(bytes, &Trust { keys: vec![key().verifier_key()], ..Trust::default() })
}

fn sealed(run: &Run) -> Vec<u8> {
    run.bundle(Some(RunOutcome::Done))
}

/// The bundle is signed as it is, and still fails there.
#[track_caller]
fn assert_failed(run: &Run, check: &str, place: &str, detail: &str) {
    let report = verify(&run.bundle(None));
    assert_eq!(report.verdict, Verdict::Failed, "{}", report.to_json());
    let failure = report.failure.as_ref().expect("a failure");
    let found = (failure.check.as_str(), failure.place.as_str());
    assert_eq!(found, (check, place), "{}", report.to_json());
    assert!(failure.detail.contains(detail), "{}", report.to_json());
}

#[test]
fn a_run_that_grew_as_decided_is_intact() {
    let run = whole();
    let bytes = sealed(&run);
    let report = verify(&bytes);
    assert_eq!(report.verdict, Verdict::Intact, "{}", report.to_json());
    for (name, check) in report.checks.rows() {
        let expected = match name {
            "time" | "handoff" => Status::NotApplicable,
            _ => Status::Pass,
        };
        assert_eq!(check.ok, expected, "{name}: {}", check.detail);
    }
    assert!(report.checks.growth.detail.starts_with("2 items were added"), "{}", report.checks.growth.detail);
    let bundle = Bundle::parse(&bytes).expect("bundle");
    assert_eq!(bundle.schema_version, 2);
    assert!(bundle.objects.contains_key(&component()), "the component travels in the bundle");
    assert!(bundle.external.is_empty());
}

#[test]
fn the_version_of_a_bundle_follows_from_its_entries() {
    for (run, version) in [(whole(), 1_u32), (common::small_run(), 2)] {
        let mut value: Value = serde_json::from_slice(&sealed(&run)).expect("JSON");
        value["schemaVersion"] = version.into();
        let altered = canon::to_vec(&value).expect("bundle");
        value["digest"] = Bundle::parse(&altered).expect("bundle").digest_of(&altered).to_string().into();
        let report = verify(&canon::to_vec(&value).expect("bundle"));
        let failure = report.failure.expect("a failure");
        assert_eq!((failure.check.as_str(), failure.place.as_str()), ("format", "schemaVersion"));
    }
}

#[test]
fn a_component_above_the_bound_is_listed_and_other_large_objects_as_before() {
    let big = vec![7; COMPONENT_BYTES_MAX + 1];
    let run = Run::submit_growing("big", &[("a", &[])], Digest::of(&big), &Decisions::default());
    let mut builder = BundleBuilder::new(run.id.clone(), run.records.iter().cloned()).expect("records");
    assert_eq!(builder.add_object(&big).expect("referenced"), Placement::External);

    let fits = vec![7; OBJECT_BYTES_MAX + 1];
    let mut run = Run::submit_growing("fits", &[("a", &[])], Digest::of(&fits), &Decisions::default());
    run.keep(fits.clone());
    let bytes = run.bundle(None);
    assert!(Bundle::parse(&bytes).expect("bundle").objects.contains_key(&Digest::of(&fits)));
    // Neither there nor listed: the record is incomplete.
    let without = run.bundle_with(None, &key(), |digest| *digest != Digest::of(&fits));
    let report = verify(&without);
    let reasons = report.incomplete.join("\n");
    assert!(reasons.contains("component that decided"), "{reasons}");
}

#[test]
fn a_missing_decision_makes_the_record_incomplete() {
    let run = whole();
    let blob = Digest::of(&pangolin_audit::decision::decisions_bytes(&grown()).expect("decisions"));
    let report = verify(&run.bundle_with(Some(RunOutcome::Done), &key(), |digest| *digest != blob));
    assert_eq!(report.verdict, Verdict::Incomplete, "{}", report.to_json());
    assert_eq!(report.checks.decisions.ok, Status::NotApplicable);
    assert_eq!(report.checks.growth.ok, Status::NotApplicable);
}

#[test]
fn forged_records_fail() {
    type Change = fn(&mut DecisionRecord);
    let cases: [(&str, &str, &str, Change); 6] = [
        ("steps", "entry seq 4 (step 1)", "the pattern saw", |record| record.view = Digest::of(b"other")),
        ("steps", "entry seq 4 (step 1)", "the pattern saw", |record| record.now += 1),
        // The view was cut one entry earlier than it says, so that the same end is seen another time.
        ("state", "entry seq 4", "nothing ended", |record| record.seen -= 1),
        ("state", "entry seq 4", "step 2 does not fit", |record| record.step = 2),
        ("state", "entry seq 4", "pinned to component", |record| record.component = Digest::of(b"other")),
        ("state", "entry seq 4", "seed of the run", |record| record.seed += 1),
    ];
    for (check, place, detail, change) in cases {
        let mut run = begun();
        let additions = run.record(component(), &grown(), change);
        for addition in additions {
            run.extend(component(), addition);
        }
        assert_failed(&run, check, place, detail);
    }
    // A seed that is the same in all steps, but not the one of the run.
    let mut run = Run::submit_growing("growing", &[("a", &[])], component(), &Decisions::default());
    let EntryBody::PatternDecided(mut record) = canon::decode_entry(&run.records[1]).expect("entry").body
    else {
        panic!("step 0");
    };
    record.seed ^= 1;
    run.records.truncate(1);
    let leaf = pangolin_audit::merkle::leaf_hash(&run.records[0]);
    run.chain = pangolin_audit::chain::RunChain::from_leaves([leaf]);
    run.entry("pattern:default", EntryBody::PatternDecided(record));
    assert_failed(&run, "steps", "entry seq 1 (step 0)", "the seed of this run");
}

#[test]
fn reordered_and_missing_steps_fail() {
    // Step 1 before anything ended.
    let mut run = Run::submit_growing("growing", &[("a", &[])], component(), &Decisions::default());
    let early = run.records[1].clone();
    let EntryBody::PatternDecided(mut record) = canon::decode_entry(&early).expect("entry").body else {
        panic!("step 0");
    };
    (record.step, record.seen) = (1, 2);
    run.entry("pattern:default", EntryBody::PatternDecided(record));
    assert_failed(&run, "state", "entry seq 2", "nothing ended");

    // A run that ends before the pattern has seen the last end.
    let mut run = begun();
    run.decide(component(), &grown(), |_| ());
    for id in ["fix-1", "fix-2", "b", "c"] {
        run.fire(id, 1, &[]);
        run.done(id, 1);
    }
    run.complete(RunOutcome::Done);
    let report = verify(&sealed(&run));
    assert_eq!(report.failure.expect("a failure").check, "state");
}

#[test]
fn decisions_that_may_not_be_fail() {
    let blob = |decisions: &Decisions| {
        let digest = Digest::of(&pangolin_audit::decision::decisions_bytes(decisions).expect("decisions"));
        format!("object {digest} (decisions of entry seq 4)")
    };
    // Ordering is for admission only.
    let ordered = Decisions { ordered: planned().ordered, ..Decisions::default() };
    let mut run = begun();
    run.record(component(), &ordered, |_| ());
    assert_failed(&run, "decisions", &blob(&ordered), "only at admission");

    // The record closes, the decisions do not.
    let mut run = begun();
    run.record(component(), &Decisions::default(), |record| record.closes = true);
    assert_failed(&run, "decisions", &blob(&Decisions::default()), "closing");

    // A step that failed and decided all the same.
    let mut run = begun();
    run.record(component(), &grown(), |record| {
        record.failure = Some(PatternFailure {
            code: "guest-panic".to_owned(),
            message: "guest-panic: no".to_owned(),
            policy: FailurePolicy::Open,
        });
    });
    assert_failed(&run, "decisions", &blob(&grown()), "failed but decided");

    // Other bytes of the same decisions, and no decisions at all.
    for (bytes, detail) in [(&b"{ }"[..], "canonical"), (b"[1]", "are not decisions")] {
        let mut run = begun();
        let digest = run.keep(bytes.to_vec());
        run.record(component(), &Decisions::default(), |record| record.decisions = digest);
        assert_failed(&run, "decisions", &format!("object {digest} (decisions of entry seq 4)"), detail);
    }
}

#[test]
fn growth_that_was_not_decided_fails() {
    // A decision that is not carried out.
    let mut run = begun();
    run.record(component(), &grown(), |_| ());
    run.fire("b", 1, &[]);
    assert_failed(&run, "growth", "entry seq 4", "2 items that were decided are not added");

    // An extension more than was decided.
    let mut run = begun();
    let mut extra = run.record(component(), &grown(), |_| ());
    let mut more = extra[0].clone();
    run.extend(component(), extra.remove(0));
    more.items.truncate(1);
    more.items[0].id = item("more");
    run.extend(component(), more);
    assert_failed(&run, "growth", "entry seq 6", "no recorded decision");

    // Somebody else's items in the place of the decided ones.
    type Change = fn(&mut pangolin_core::pattern::Addition);
    let cases: [(&str, Change); 4] = [
        ("it adds fix-1 (1 items)", |addition| drop(addition.items.pop())),
        ("item fix-1 is not the one", |addition| addition.items[0].executor = "other".to_owned()),
        ("its explanation", |addition| addition.explanation = "because".to_owned()),
        ("it adds fix-9, fix-2", |addition| {
            addition.items[0].id = item("fix-9");
            addition.items[1].depends_on = vec![item("fix-9")];
        }),
    ];
    for (detail, change) in cases {
        let mut run = begun();
        let mut additions = run.record(component(), &grown(), |_| ());
        change(&mut additions[0]);
        run.extend(component(), additions.remove(0));
        assert_failed(&run, "growth", "entry seq 5", detail);
    }

    // Items without any record, or of another component.
    let mut run = begun();
    let additions = run.record(component(), &grown(), |_| ());
    run.extend(Digest::of(b"other"), additions[0].clone());
    assert_failed(&run, "state", "entry seq 5", "must follow its record");
}

#[test]
fn successors_are_as_decided() {
    let mut decided = Decisions { spawned: vec![spawn("a~2", &[])], ..Decisions::default() };
    decided.spawned[0].supersedes = Some(item("a"));
    let failed = || {
        let mut run = Run::submit_growing("growing", &[("a", &[])], component(), &Decisions::default());
        run.keep(COMPONENT.to_vec());
        run.fire("a", 1, &[]);
        run.fail("a", 1);
        run
    };
    let mut run = failed();
    run.decide(component(), &decided, |_| ());
    run.fire("a~2", 1, &[]);
    run.done("a~2", 1);
    run.decide(component(), &Decisions { close: true, ..Decisions::default() }, |_| ());
    run.complete(RunOutcome::Done);
    let report = verify(&sealed(&run));
    assert_eq!(report.verdict, Verdict::Intact, "{}", report.to_json());

    let mut run = failed();
    let mut additions = run.record(component(), &decided, |_| ());
    additions[0].supersedes.clear();
    run.extend(component(), additions.remove(0));
    assert_failed(&run, "growth", "entry seq 5", "supersedes other items");
}

/// Writes the last entry anew, as another one.
fn rewrite_last(run: &mut Run, change: impl FnOnce(&mut String, &mut EntryBody)) {
    let last = run.records.pop().expect("an entry");
    let mut entry = canon::decode_entry(&last).expect("entry");
    let leaves = run.records.iter().map(|record| pangolin_audit::merkle::leaf_hash(record));
    run.chain = pangolin_audit::chain::RunChain::from_leaves(leaves);
    change(&mut entry.actor, &mut entry.body);
    run.entry(&entry.actor, entry.body);
}

#[test]
fn an_addition_names_the_real_cause_and_actor() {
    type Change = fn(&mut String, &mut EntryBody);
    let cause = |body: &mut EntryBody, to| match body {
        EntryBody::RunExtended { cause, .. } => *cause = to,
        other => panic!("{other:?}"),
    };
    let cases: [(&str, Change); 4] = [
        ("names nothing as the cause, it was a", |_, body| match body {
            EntryBody::RunExtended { cause, .. } => *cause = None,
            other => panic!("{other:?}"),
        }),
        ("names b as the cause, it was a", |_, body| match body {
            EntryBody::RunExtended { cause, .. } => *cause = Some(item("b")),
            other => panic!("{other:?}"),
        }),
        ("its actor is \"human:ada\"", |actor, _| *actor = "human:ada".to_owned()),
        ("its actor is \"pattern:other\"", |actor, _| *actor = "pattern:other".to_owned()),
    ];
    for (detail, change) in cases {
        let mut run = begun();
        run.decide(component(), &grown(), |_| ());
        rewrite_last(&mut run, change);
        assert_failed(&run, "growth", "entry seq 5", detail);
    }
    // Unchanged it passes, so it is the change that is found.
    let mut run = begun();
    run.decide(component(), &grown(), |_| ());
    rewrite_last(&mut run, |_, body| cause(body, Some(item("a"))));
    assert_eq!(verify(&run.bundle(None)).failure, None);

    // A record of somebody else.
    let mut run = begun();
    run.record(component(), &Decisions::default(), |_| ());
    rewrite_last(&mut run, |actor, _| *actor = "engine".to_owned());
    assert_failed(&run, "growth", "entry seq 4", "its actor is \"engine\"");
}

fn tolerating(items: &[&str]) -> Decisions {
    let items = items.iter().map(|id| item(id)).collect();
    let tolerated = vec![Tolerated { items, why: "two of three are enough".to_owned() }];
    Decisions { tolerated, ..Decisions::default() }
}

/// Two items that failed, one that is done.
fn failed() -> Run {
    let items: [(&str, &[&str]); 3] = [("a", &[]), ("b", &[]), ("c", &[])];
    let mut run = Run::submit_growing("growing", &items, component(), &Decisions::default());
    run.keep(COMPONENT.to_vec());
    for id in ["a", "b"] {
        run.fire(id, 1, &[]);
        run.fail(id, 1);
    }
    run.fire("c", 1, &[]);
    run.done("c", 1);
    run
}

#[test]
fn a_run_succeeds_without_what_was_tolerated() {
    let closing = |decisions: Decisions| Decisions { close: true, ..decisions };
    for (items, outcome) in [(&["a", "b"][..], RunOutcome::Done), (&["b"], RunOutcome::Failed)] {
        let mut run = failed();
        run.decide(component(), &closing(tolerating(items)), |_| ());
        run.complete(outcome);
        let bytes = run.bundle(Some(outcome));
        let report = verify(&bytes);
        assert_eq!(report.verdict, Verdict::Intact, "{}", report.to_json());
        assert_eq!(Bundle::parse(&bytes).expect("bundle").schema_version, 2);
    }
    // The outcome cannot be told otherwise.
    let mut run = failed();
    run.decide(component(), &closing(tolerating(&["b"])), |_| ());
    run.complete(RunOutcome::Done);
    assert_failed(&run, "state", "entry seq 10", "the outcome must be Failed");
}

#[test]
fn what_is_tolerated_is_what_was_decided() {
    let decided = tolerating(&["a", "b"]);
    // Left out.
    let mut run = failed();
    run.record(component(), &decided, |_| ());
    run.entry("human:ada", EntryBody::RunCancelled {});
    assert_failed(&run, "growth", "entry seq 8", "2 items that were decided to be tolerated");
    // Other items, another reason, another component, and what nobody decided.
    let why = "two of three are enough";
    for (items, why, detail) in [
        (&["a"][..], why, "tolerates other items"),
        (&["b", "a"], why, "tolerates other items"),
        (&["a", "b"], "because", "explanation"),
    ] {
        let mut run = failed();
        run.record(component(), &decided, |_| ());
        let items: Vec<_> = items.iter().map(|id| item(id)).collect();
        run.tolerate(component(), &items, why);
        assert_failed(&run, "growth", "entry seq 9", detail);
    }
    let mut run = failed();
    run.record(component(), &Decisions::default(), |_| ());
    run.tolerate(component(), &[item("a")], why);
    assert_failed(&run, "growth", "entry seq 9", "no recorded decision tolerates");
    let mut run = failed();
    run.record(component(), &decided, |_| ());
    run.tolerate(Digest::of(b"other"), &[item("a"), item("b")], why);
    assert_failed(&run, "state", "entry seq 9", "must follow its record");
    // What ended well, and what was decided at admission.
    let mut run = failed();
    run.record(component(), &tolerating(&["a"]), |_| ());
    run.tolerate(component(), &[item("c")], why);
    assert_failed(&run, "state", "entry seq 9", "it ended well");
    let mut run = failed();
    run.decide(component(), &decided, |_| ());
    rewrite_last(&mut run, |actor, _| *actor = "engine".to_owned());
    assert_failed(&run, "growth", "entry seq 9", "its actor is \"engine\"");
}

#[test]
fn the_amended_plan_is_what_was_decided() {
    // Nothing was decided, but the run starts from another plan.
    let amended = Run::submit_growing("growing", &[("a", &[]), ("b", &[])], component(), &planned());
    let mut run = Run::submit_growing("growing", &[("a", &[]), ("b", &[])], component(), &planned());
    let first = canon::decode_entry(&run.records[0]).expect("entry");
    let (plan, graph) = match first.body {
        EntryBody::RunSubmitted(submitted) => (submitted.plan, submitted.graph.expect("amended")),
        _ => panic!("first entry"),
    };
    run.records.truncate(1);
    let leaf = pangolin_audit::merkle::leaf_hash(&run.records[0]);
    run.chain = pangolin_audit::chain::RunChain::from_leaves([leaf]);
    run.record(component(), &Decisions::default(), |_| ());
    assert_failed(&run, "growth", "entry seq 0 (graph)", "the plan with the decisions of step 0");
    assert_ne!(plan, graph);

    // An amended plan that nobody decided.
    let mut run = amended;
    run.records.truncate(1);
    let leaf = pangolin_audit::merkle::leaf_hash(&run.records[0]);
    run.chain = pangolin_audit::chain::RunChain::from_leaves([leaf]);
    assert_failed(&run, "growth", "entry seq 0 (graph)", "nothing decided it");
}

#[test]
fn a_pattern_that_fails_and_what_its_policy_makes_of_it_verify() {
    for (policy, outcome) in
        [(FailurePolicy::Open, RunOutcome::Done), (FailurePolicy::Closed, RunOutcome::Failed)]
    {
        let mut run = Run::submit_growing("growing", &[("a", &[])], component(), &Decisions::default());
        run.keep(COMPONENT.to_vec());
        run.fire("a", 1, &[]);
        run.done("a", 1);
        run.decide(component(), &Decisions::default(), |record| {
            let (code, message) = ("guest-panic".to_owned(), "guest-panic: no".to_owned());
            record.failure = Some(PatternFailure { code, message, policy });
        });
        run.complete(outcome);
        let report = verify(&run.bundle(Some(outcome)));
        assert_eq!(report.verdict, Verdict::Intact, "{}", report.to_json());
        // Nobody has to look into the ledger to find out why the run ended so.
        let then = if outcome == RunOutcome::Failed { "the run fails" } else { "goes on without a pattern" };
        let text = pangolin_audit::report::render_text(&report, false, true);
        assert!(text.contains("step 1 failed: guest-panic: no") && text.contains(then), "{text}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    /// One changed byte in the decisions, or in the entry that records them, never passes.
    #[test]
    fn one_changed_byte_in_a_decision_fails(place in any::<prop::sample::Index>(), bit in 0_u8..8, record in any::<bool>()) {
        let mut run = whole();
        let blob = Digest::of(&pangolin_audit::decision::decisions_bytes(&grown()).expect("decisions"));
        if record {
            let seq = 4;
            let bytes = &mut run.records[seq];
            let at = place.index(bytes.len());
            bytes[at] ^= 1 << bit;
            let altered = bytes.clone();
            // Some flips leave no text or no entry: then no bundle can be built from them.
            let Ok(builder) = BundleBuilder::new(run.id.clone(), run.records.iter().cloned()) else { return Ok(()) };
            drop(builder);
            prop_assert!(std::str::from_utf8(&altered).is_ok());
            let report = verify(&sealed(&run));
            prop_assert_eq!(report.verdict, Verdict::Failed, "{}", report.to_json());
        } else {
            let mut bytes = run.objects[&blob].clone();
            let at = place.index(bytes.len());
            bytes[at] ^= 1 << bit;
            // Slipped in under the digest of the real ones.
            let mut value: Value = serde_json::from_slice(&sealed(&run)).expect("JSON");
            let text = STANDARD.encode(&bytes);
            value["objects"][blob.to_string()] = text.into();
            let altered = canon::to_vec(&value).expect("bundle");
            value["digest"] = Bundle::parse(&altered).expect("bundle").digest_of(&altered).to_string().into();
            let report = verify(&canon::to_vec(&value).expect("bundle"));
            prop_assert_eq!(report.verdict, Verdict::Failed, "{}", report.to_json());
            let failure = report.failure.expect("a failure");
            prop_assert!(failure.place.contains(&blob.to_string()));
        }
    }
}
