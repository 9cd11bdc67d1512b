//! Outputs in parts, tampered with by somebody who can sign: what is missing, doubled, out of order or from another
//! attempt is named.

mod common;

use std::collections::BTreeMap;

use common::{NAMESPACE, Run, item, key};
use pangolin_audit::{
    report::{Report, Verdict},
    verify::{Trust, verify_bundle},
};
use pangolin_core::{
    entry::{EntryBody, Evidence, FinalStatus, RunOutcome},
    ids::{Digest, DispatchId},
    outputs::OutputsTotal,
};

type Outputs = BTreeMap<String, Digest>;

fn outputs(names: &[&str]) -> Outputs {
    names.iter().map(|name| ((*name).to_owned(), Digest::of(name.as_bytes()))).collect()
}

/// `split` runs in its second attempt; the entries so far are 0 to 5. The first left `x` in a part.
fn running() -> Run {
    let mut run = Run::submit("parts", &[("split", &[]), ("use", &["split"])]);
    for name in ["a", "b", "c", "d", "x"] {
        run.keep(name.as_bytes().to_vec());
    }
    run.fire("split", 1, &[]);
    part(&mut run, 1, 0, &["x"]);
    let total = Some(OutputsTotal::of(&outputs(&["x"])));
    let evidence = Box::new(Evidence { outputs_total: total, ..Evidence::default() });
    let failure = common::failure();
    run.entry(
        "engine",
        EntryBody::ItemRetried { item: item("split"), attempt: 1, failure, not_before: 0, evidence },
    );
    run.fire("split", 2, &[]);
    run
}

fn part(run: &mut Run, attempt: u32, part: u64, names: &[&str]) {
    let dispatch = DispatchId::derive(NAMESPACE, &run.id, &item("split"), attempt);
    let outputs = outputs(names);
    run.entry("engine", EntryBody::ItemOutputs { item: item("split"), attempt, dispatch, part, outputs });
}

fn end(run: &mut Run, names: &[&str]) {
    let outputs_total = Some(OutputsTotal::of(&outputs(names)));
    let patch = Some(run.keep(b"a patch".to_vec()));
    let evidence = Box::new(Evidence { outputs_total, patch, ..Evidence::default() });
    let (attempt, status) = (2, FinalStatus::Done);
    run.entry(
        "engine",
        EntryBody::ItemReconciled { item: item("split"), attempt, status, failure: None, evidence },
    );
}

fn verify(run: &Run) -> Report {
    verify_bundle(&run.bundle(None), &Trust { keys: vec![key().verifier_key()], ..Trust::default() })
}

#[track_caller]
fn assert_failed(run: &Run, check: &str, place: &str, detail: &str) {
    let report = verify(run);
    assert_eq!(report.verdict, Verdict::Failed, "{}", report.to_json());
    let failure = report.failure.as_ref().expect("a failure");
    let found = (failure.check.as_str(), failure.place.as_str());
    assert_eq!(found, (check, place), "{}", report.to_json());
    assert!(failure.detail.contains(detail), "{}", report.to_json());
}

#[test]
fn parts_that_add_up_are_products() {
    let mut run = running();
    part(&mut run, 2, 0, &["a", "b"]);
    part(&mut run, 2, 1, &["c"]);
    end(&mut run, &["a", "b", "c"]);
    let inputs = ["b", "c"].map(|name| (name, "split", Digest::of(name.as_bytes())));
    run.fire("use", 1, &inputs);
    let report = verify(&run);
    assert_ne!(report.verdict, Verdict::Failed, "{}", report.to_json());
    assert_eq!(report.checks.handoff.detail, "2 inputs are sealed products of items done before");
}

#[test]
fn a_ledger_may_end_behind_any_part() {
    let mut run = running();
    assert_ne!(verify(&run).verdict, Verdict::Failed);
    for (number, name) in ["a", "b", "c"].iter().enumerate() {
        part(&mut run, 2, number as u64, &[name]);
        let report = verify(&run);
        assert_ne!(report.verdict, Verdict::Failed, "{}", report.to_json());
        assert!(report.checks.state.detail.ends_with("0 of 2 items final"), "{}", report.to_json());
    }
}

#[test]
fn a_part_that_is_missing_doubled_out_of_order_or_foreign_is_named() {
    /// Attempt, number and names of each part that is written instead of 0: a, 1: b, 2: c.
    type Parts = &'static [(u32, u64, &'static [&'static str])];
    let cases: [(Parts, &str, &str); 9] = [
        (&[(2, 1, &["b"]), (2, 2, &["c"])], "entry seq 5", "part 1 does not fit"),
        (&[(2, 0, &["a"]), (2, 2, &["c"])], "entry seq 6", "part 2 does not fit"),
        (&[(2, 0, &["a"]), (2, 1, &["b"])], "entry seq 7", "2 with digest"),
        (&[], "entry seq 5", "3 were recorded, but none were"),
        (&[(2, 0, &["a"]), (2, 1, &["b"]), (2, 1, &["b"])], "entry seq 7", "part 1 does not fit"),
        (&[(2, 0, &["a"]), (2, 0, &["a"]), (2, 1, &["b"])], "entry seq 8", "2 with digest"),
        (&[(2, 0, &["b"]), (2, 1, &["a"])], "entry seq 6", "not after"),
        (&[(2, 0, &["a"]), (1, 1, &["b"])], "entry seq 6", "attempt 1 does not fit"),
        (&[(2, 0, &["a"]), (2, 1, &["b"]), (2, 2, &["d"])], "entry seq 8", "3 with digest"),
    ];
    for (parts, place, detail) in cases {
        let mut run = running();
        for (attempt, number, names) in parts {
            part(&mut run, *attempt, *number, names);
        }
        end(&mut run, &["a", "b", "c"]);
        assert_failed(&run, "state", place, detail);
    }
}

#[test]
fn a_part_of_another_dispatch_is_named() {
    let mut run = running();
    let dispatch = DispatchId::derive(NAMESPACE, &run.id, &item("split"), 1);
    let outputs = outputs(&["a"]);
    let body = EntryBody::ItemOutputs { item: item("split"), attempt: 2, dispatch, part: 0, outputs };
    run.entry("engine", body);
    assert_failed(&run, "state", "entry seq 5", "the running attempt is dispatch");
}

#[test]
fn outputs_that_do_not_count_are_no_products() {
    // Of an attempt that failed, of a collection that was started over, of one that was withdrawn.
    type Script = fn(&mut Run);
    let foreign: [(&str, Script); 3] = [
        ("x", |run| {
            part(run, 2, 0, &["a"]);
            end(run, &["a"]);
        }),
        ("b", |run| {
            part(run, 2, 0, &["b"]);
            part(run, 2, 0, &["a"]);
            end(run, &["a"]);
        }),
        ("a", |run| {
            part(run, 2, 0, &["a"]);
            end(run, &[]);
        }),
    ];
    for (name, script) in foreign {
        let mut run = running();
        script(&mut run);
        run.fire("use", 1, &[(name, "split", Digest::of(name.as_bytes()))]);
        let report = verify(&run);
        let failure = report.failure.as_ref().expect("a failure");
        assert_eq!(failure.check, "handoff", "{name}: {}", report.to_json());
        assert!(failure.detail.contains("is not a product of item split"), "{}", report.to_json());
    }
}

#[test]
fn a_sealed_run_with_parts_is_intact() {
    let mut run = Run::submit("sealed", &[("split", &[])]);
    run.fire("split", 1, &[]);
    run.keep(b"a".to_vec());
    part(&mut run, 1, 0, &["a"]);
    let outputs_total = Some(OutputsTotal::of(&outputs(&["a"])));
    let evidence = Box::new(Evidence { outputs_total, ..Evidence::default() });
    let (attempt, status) = (1, FinalStatus::Done);
    run.entry(
        "engine",
        EntryBody::ItemReconciled { item: item("split"), attempt, status, failure: None, evidence },
    );
    let counts = [(FinalStatus::Done, 1)].into();
    run.entry("engine", EntryBody::RunCompleted { outcome: RunOutcome::Done, counts });
    let bytes = run.bundle(Some(RunOutcome::Done));
    let report = verify_bundle(&bytes, &Trust { keys: vec![key().verifier_key()], ..Trust::default() });
    assert_eq!(report.verdict, Verdict::Intact, "{}", report.to_json());
}
