//! Bundles of real runs verify; altered, forged and unfinished ones do not, and the report says where.

mod common;

use std::collections::BTreeSet;

use common::{LOG, Run, item, key, small_run};
use pangolin_audit::{
    bundle::{Bundle, BundleBuilder, BundleError, OBJECT_BYTES_MAX, Placement},
    canon,
    log::{LogError, Receipt, verify_receipt},
    note::{Note, NoteError, SigningKey, VerifierKey},
    report::{Claim, Report, Status, Verdict, render_text},
    verify::{Trust, verify_bundle},
};
use pangolin_core::{
    entry::{EntryBody, Evidence, FinalStatus, RunOutcome},
    ids::Digest,
    manifest::DispatchManifest,
};
use serde_json::Value;

fn pinned() -> Trust {
    Trust { keys: vec![key().verifier_key()], ..Trust::default() }
}

fn verify(bytes: &[u8]) -> Report {
    verify_bundle(bytes, &pinned())
}

#[track_caller]
fn assert_intact(bytes: &[u8]) -> Report {
    let report = verify(bytes);
    assert_eq!(report.verdict, Verdict::Intact, "{}", report.to_json());
    assert!(report.intact);
    assert_eq!(report.claim, Some(Claim::TamperDetecting));
    report
}

#[track_caller]
fn assert_failed(bytes: &[u8], check: &str, place: &str) -> Report {
    let report = verify(bytes);
    assert_eq!(report.verdict, Verdict::Failed, "{}", report.to_json());
    assert_eq!((report.intact, report.claim), (false, None));
    let failure = report.failure.as_ref().expect("a failure");
    assert_eq!((failure.check.as_str(), failure.place.as_str()), (check, place), "{}", report.to_json());
    report
}

/// Alters the bundle as JSON and gives it a fitting digest again, as a forger without the key can.
fn forge(bytes: &[u8], change: impl FnOnce(&mut Value)) -> Vec<u8> {
    let mut value: Value = serde_json::from_slice(bytes).expect("bundle JSON");
    change(&mut value);
    let forged = canon::to_vec(&value).expect("forged bundle");
    let Ok(bundle) = Bundle::parse(&forged) else { return forged };
    value["digest"] = bundle.digest_of(&forged).to_string().into();
    canon::to_vec(&value).expect("forged bundle")
}

fn entry_at(bundle: &mut Value, seq: usize) -> &mut Value {
    &mut bundle["entries"][seq]
}

/// Recomputes `prev` of every entry, as a forger can.
fn relink(bundle: &mut Value) {
    let mut prev = None;
    for (seq, entry) in bundle["entries"].as_array_mut().expect("entries").iter_mut().enumerate() {
        entry["seq"] = seq.into();
        if let Some(prev) = prev {
            entry["prev"] = Digest::to_string(&prev).into();
        }
        prev = Some(pangolin_audit::merkle::leaf_hash(&canon::to_vec(entry).expect("entry")));
    }
}

#[test]
fn a_run_with_a_retry_and_a_handoff_is_intact() {
    let bytes = small_run().bundle(Some(RunOutcome::Done));
    let report = assert_intact(&bytes);
    for (name, check) in report.checks.rows() {
        let expected = match name {
            // No pattern was asked.
            "steps" | "decisions" | "growth" | "time" => Status::NotApplicable,
            _ => Status::Pass,
        };
        assert_eq!(check.ok, expected, "{name}: {}", check.detail);
    }
    assert_eq!(report.key.as_ref().map(|key| key.pinned), Some(true));
    assert_eq!((report.entries, report.outcome), (8, Some(RunOutcome::Done)));
    // The report survives its own JSON.
    let again: Report = serde_json::from_str(&report.to_json()).expect("report JSON");
    assert_eq!(again, Report { ledger: Vec::new(), ..report });
}

#[test]
fn the_bundle_is_canonical_json_and_its_digest_rule_is_as_documented() {
    let bytes = small_run().bundle(Some(RunOutcome::Done));
    canon::check(&bytes).expect("canonical");
    let mut value: Value = serde_json::from_slice(&bytes).expect("bundle JSON");
    let digest = value.as_object_mut().expect("object").remove("digest").expect("digest");
    let rest = canon::to_vec(&value).expect("canonical form");
    assert_eq!(digest, Digest::of(&rest).to_string());
}

#[test]
fn cancelled_failed_and_recovered_runs_verify() {
    // Cancelled while one item runs and another waits.
    let mut run = Run::submit("cancelled", &[("a", &[]), ("b", &["a"])]);
    run.fire("a", 1, &[]);
    run.cancel(1);
    run.stopped("a", 1);
    run.complete(RunOutcome::Cancelled);
    let report = assert_intact(&run.bundle(Some(RunOutcome::Cancelled)));
    assert_eq!(report.checks.handoff.ok, Status::NotApplicable);

    // Both attempts fail, the dependent is skipped.
    let mut run = Run::submit("failed", &[("a", &[]), ("b", &["a"])]);
    run.fire("a", 1, &[]);
    run.retry("a", 1);
    run.fire("a", 2, &[]);
    run.fail("a", 2);
    run.skip(&["b"], "a");
    run.complete(RunOutcome::Failed);
    assert_intact(&run.bundle(Some(RunOutcome::Failed)));

    // The daemon died after firing; another one resumed the chain from the stored leaves, with a clock behind.
    let mut run = Run::submit("recovered", &[("a", &[])]);
    run.fire("a", 1, &[]);
    let leaves: Vec<Digest> =
        run.records.iter().map(|record| pangolin_audit::merkle::leaf_hash(record)).collect();
    run.chain = pangolin_audit::chain::RunChain::from_leaves(leaves);
    run.at -= 60_000;
    run.done("a", 1);
    run.complete(RunOutcome::Done);
    assert_intact(&run.bundle(Some(RunOutcome::Done)));
}

/// One altered copy of the bundle, judged.
fn judge(altered: &[u8], bytes: &[u8], what: &str, at: usize) -> String {
    let report = verify(altered);
    let near =
        String::from_utf8_lossy(&bytes[at.saturating_sub(20)..(at + 20).min(bytes.len())]).into_owned();
    assert_eq!(report.verdict, Verdict::Failed, "{what} byte {at} near {near}: {}", report.to_json());
    let failure = report.failure.expect("a failure");
    assert!(!failure.place.is_empty() && !failure.detail.is_empty(), "{what} byte {at} near {near}");
    format!("{}: {}", failure.check, failure.place)
}

/// Flips, drops and doubles the bytes at every `stride`th position from `first` on.
fn alter_everywhere(bytes: &[u8], first: usize, stride: usize) -> BTreeSet<String> {
    let mut places = BTreeSet::new();
    for at in (first..bytes.len()).step_by(stride) {
        let mut altered = bytes.to_vec();
        // One bit, another one for each position, so that all eight are tried in every part.
        altered[at] ^= 1 << (at % 8);
        places.insert(judge(&altered, bytes, "flipped", at));
        altered.remove(at);
        places.insert(judge(&altered, bytes, "dropped", at));
        let mut altered = bytes.to_vec();
        altered.insert(at, bytes[at]);
        places.insert(judge(&altered, bytes, "doubled", at));
    }
    places
}

#[test]
fn every_flipped_dropped_or_doubled_byte_fails_and_names_a_place() {
    let mut run = Run::submit("r", &[("a", &[])]);
    run.fire("a", 1, &[]);
    run.done("a", 1);
    run.complete(RunOutcome::Done);
    let bytes = run.bundle(Some(RunOutcome::Done));
    assert_intact(&bytes);
    let threads = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
    let places: BTreeSet<String> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads)
            .map(|first| {
                scope.spawn({
                    let bytes = &bytes;
                    move || alter_everywhere(bytes, first, threads)
                })
            })
            .collect();
        workers.into_iter().flat_map(|worker| worker.join().expect("no panic")).collect()
    });
    for place in [
        "chain: entry seq 0",
        "chain: entry seq 1",
        "chain: entry seq 2",
        "root: entry seq 3",
        "signature: checkpoint",
        "signature: key",
        "anchor: anchor",
        "log: log checkpoint",
        "log: log admit proof",
        "log: log seal proof",
        "log: log origin",
        "chain: run",
        "format: digest",
    ] {
        assert!(places.contains(place), "{place} is not among {places:?}");
    }
    assert!(places.iter().any(|place| place.starts_with("objects: object sha256:")), "{places:?}");
}

#[test]
fn the_entry_that_was_altered_is_the_one_that_is_named() {
    let bytes = small_run().bundle(Some(RunOutcome::Done));
    for seq in 0..8 {
        let check = if seq == 7 { "root" } else { "chain" };
        let altered = forge(&bytes, |bundle| entry_at(bundle, seq)["actor"] = "human:eve".into());
        assert_failed(&altered, check, &format!("entry seq {seq}"));
    }
    for seq in 1..8 {
        let other = Digest::of(b"other").to_string();
        let altered = forge(&bytes, |bundle| entry_at(bundle, seq)["prev"] = other.as_str().into());
        assert_failed(&altered, "chain", &format!("entry seq {seq}"));
    }
}

#[test]
fn truncated_reordered_and_relinked_histories_fail() {
    let bytes = small_run().bundle(Some(RunOutcome::Done));
    let entries = |bundle: &mut Value, change: &dyn Fn(&mut Vec<Value>)| {
        change(bundle["entries"].as_array_mut().expect("entries"));
    };
    let tail = forge(&bytes, |bundle| entries(bundle, &|list| drop(list.pop())));
    assert_failed(&tail, "root", "entry seq 7");
    let hole = forge(&bytes, |bundle| entries(bundle, &|list| drop(list.remove(3))));
    assert_failed(&hole, "chain", "entry seq 3");
    let relinked = forge(&bytes, |bundle| {
        entries(bundle, &|list| drop(list.remove(3)));
        relink(bundle);
    });
    assert_failed(&relinked, "root", "entry seq 7");
    let swapped = forge(&bytes, |bundle| entries(bundle, &|list| list.swap(2, 3)));
    assert_failed(&swapped, "chain", "entry seq 2");
    let edited = forge(&bytes, |bundle| {
        entry_at(bundle, 0)["actor"] = "human:eve".into();
        relink(bundle);
    });
    assert_failed(&edited, "root", "entry seq 7");
    let none = forge(&bytes, |bundle| entries(bundle, &Vec::clear));
    assert_failed(&none, "chain", "entries");
}

#[test]
fn a_history_that_the_scheduler_would_not_make_fails_even_when_signed() {
    let mut run = Run::submit("illegal", &[("a", &[]), ("b", &["a"])]);
    run.fire("a", 1, &[]);
    run.done("a", 1);
    run.complete(RunOutcome::Done);
    assert_failed(&run.bundle(Some(RunOutcome::Done)), "state", "entry seq 3");
}

#[test]
fn items_added_to_a_run_are_part_of_its_history() {
    let document = |id: &str| {
        let items = serde_json::json!([{ "id": id, "executor": "dispatch", "inputs": {}, "depends_on": ["a"], "resourceLocks": [] }]);
        items.to_string().into_bytes()
    };
    for (added, expected) in [("fix", None), ("other", Some("entry seq 3"))] {
        let mut run = Run::submit_open("extended", &[("a", &[])]);
        run.fire("a", 1, &[]);
        run.done("a", 1);
        let document = run.keep(document(added));
        let (cause, items) = (Some(item("a")), vec![item("fix")]);
        let explanation = "gate was red".to_owned();
        run.entry(
            "app:producer",
            EntryBody::RunExtended {
                cause,
                items,
                document,
                explanation,
                plugin: None,
                supersedes: std::collections::BTreeMap::new(),
                pins: None,
            },
        );
        if let Some(place) = expected {
            assert_failed(&run.bundle(None), "state", place);
            continue;
        }
        run.fire("fix", 1, &[]);
        run.done("fix", 1);
        run.entry("app:producer", EntryBody::RunClosed {});
        run.complete(RunOutcome::Done);
        assert_intact(&run.bundle(Some(RunOutcome::Done)));
        let without = run.bundle_with(Some(RunOutcome::Done), &key(), |digest| *digest != document);
        assert_eq!(verify(&without).verdict, Verdict::Incomplete);
    }
}

#[test]
fn forged_manifests_fail() {
    type Change = fn(&mut DispatchManifest);
    let cases: [(&str, Change); 3] = [
        ("its attempt is not", |manifest| manifest.attempt = 2),
        ("its item is not", |manifest| manifest.item = item("b")),
        ("its run is not", |manifest| manifest.run = common::run("other")),
    ];
    for (expected, change) in cases {
        let mut run = Run::submit("forged", &[("a", &[])]);
        let mut manifest = run.manifest("a", 1, &[]);
        change(&mut manifest);
        run.fire_with("a", 1, &manifest);
        run.done("a", 1);
        run.complete(RunOutcome::Done);
        let report = verify(&run.bundle(Some(RunOutcome::Done)));
        let failure = report.failure.expect("a failure");
        assert_eq!(failure.check, "manifest");
        assert!(failure.detail.starts_with(expected), "{failure:?}");
        assert!(failure.place.contains("entry seq 1"), "{failure:?}");
    }
}

#[test]
fn an_input_that_nobody_produced_fails() {
    let mut run = Run::submit("handoff", &[("a", &[]), ("b", &["a"])]);
    run.fire("a", 1, &[]);
    run.done("a", 1);
    let foreign = run.keep(b"not a product of a".to_vec());
    run.fire("b", 1, &[("a", "a", foreign)]);
    run.done("b", 1);
    run.complete(RunOutcome::Done);
    let report = verify(&run.bundle(Some(RunOutcome::Done)));
    assert_eq!(report.failure.expect("a failure").check, "handoff");

    // The patch of an attempt that was retried is evidence, not a product.
    let mut run = Run::submit("handoff", &[("a", &[]), ("b", &["a"])]);
    run.fire("a", 1, &[]);
    run.retry("a", 1);
    let rejected = Digest::of(b"--- a/a\n+++ b/a\n");
    run.fire("a", 2, &[]);
    let mut evidence = Evidence { patch: Some(run.keep(b"better".to_vec())), ..Evidence::default() };
    evidence.exit_code = Some(0);
    let evidence = Box::new(evidence);
    run.entry(
        "engine",
        EntryBody::ItemReconciled {
            item: item("a"),
            attempt: 2,
            status: FinalStatus::Done,
            failure: None,
            evidence,
        },
    );
    run.fire("b", 1, &[("a", "a", rejected)]);
    let report = verify(&run.bundle(None));
    assert_eq!(report.failure.expect("a failure").check, "handoff");
}

#[test]
fn objects_are_bound_and_nothing_can_be_slipped_in() {
    let run = small_run();
    let bytes = run.bundle(Some(RunOutcome::Done));
    let slipped =
        forge(&bytes, |bundle| bundle["objects"][Digest::of(b"extra").to_string()] = "ZXh0cmE=".into());
    assert_failed(&slipped, "objects", &format!("object {}", Digest::of(b"extra")));
    let swapped = forge(&bytes, |bundle| bundle["objects"][run.plan.to_string()] = "ZXh0cmE=".into());
    assert_failed(&swapped, "objects", &format!("object {}", run.plan));
    let listed = forge(&bytes, |bundle| bundle["external"][run.plan.to_string()] = 3.into());
    assert_failed(&listed, "objects", &format!("external {}", run.plan));
    let unknown = forge(&bytes, |bundle| bundle["external"][Digest::of(b"extra").to_string()] = 3.into());
    assert_failed(&unknown, "objects", &format!("external {}", Digest::of(b"extra")));
    let field = forge(&bytes, |bundle| bundle["comment"] = "trust me".into());
    let report = verify(&field);
    let failure = report.failure.expect("a failure");
    assert!(failure.check == "format" && failure.detail.contains("unknown field `comment`"), "{failure:?}");
}

#[test]
fn missing_objects_make_the_record_incomplete() {
    let run = small_run();
    for (digest, bytes) in &run.objects {
        let report = verify(&run.bundle_with(Some(RunOutcome::Done), &key(), |have| have != digest));
        let what = String::from_utf8_lossy(bytes);
        assert_eq!(report.verdict, Verdict::Incomplete, "without {what}: {}", report.to_json());
        assert_eq!((report.verdict.exit_code(), report.intact), (4, false));
        assert!(report.incomplete[0].contains(&digest.to_string()), "{:?}", report.incomplete);
        assert_ne!(report.checks.objects.ok, Status::Pass);
    }
}

#[test]
fn large_objects_are_external_and_the_record_stays_complete() {
    let mut run = Run::submit("large", &[("a", &[])]);
    run.fire("a", 1, &[]);
    let patch = run.keep(vec![b'+'; OBJECT_BYTES_MAX + 1]);
    let evidence = Box::new(Evidence { patch: Some(patch), ..Evidence::default() });
    run.entry(
        "engine",
        EntryBody::ItemReconciled {
            item: item("a"),
            attempt: 1,
            status: FinalStatus::Done,
            failure: None,
            evidence,
        },
    );
    let mut builder = BundleBuilder::new(run.id.clone(), run.records.iter().cloned()).expect("records");
    assert_eq!(builder.add_object(&run.objects[&patch]).expect("referenced"), Placement::External);
    assert!(matches!(builder.add_object(b"stranger"), Err(BundleError::NotReferenced(_))));
    assert!(matches!(builder.add_external(run.plan, 3), Err(BundleError::MustEmbed { .. })));
    let report = verify(&run.bundle(None));
    assert_eq!(report.checks.objects.ok, Status::Pass, "{}", report.to_json());
    assert_eq!(report.incomplete, ["the run is not finished: its last entry is not run.completed"]);
}

#[test]
fn unfinished_and_unsealed_runs_are_incomplete() {
    let mut run = Run::submit("open", &[("a", &[])]);
    run.fire("a", 1, &[]);
    let report = verify(&run.bundle(None));
    assert_eq!(report.verdict, Verdict::Incomplete, "{}", report.to_json());
    assert_eq!(report.checks.anchor.ok, Status::NotApplicable);
    run.done("a", 1);
    run.complete(RunOutcome::Done);
    let report = verify(&run.bundle(None));
    assert_eq!(report.verdict, Verdict::Incomplete);
    assert_eq!(report.incomplete, ["the run is finished but not sealed in the deployment log"]);
}

#[test]
fn keys_are_pinned_or_the_report_says_that_they_are_not() {
    let bytes = small_run().bundle(Some(RunOutcome::Done));
    let report = verify_bundle(&bytes, &Trust::default());
    assert_eq!(report.verdict, Verdict::Intact);
    assert_eq!(report.key.as_ref().map(|key| key.pinned), Some(false));
    assert!(render_text(&report, false, false).contains("NOT pinned"));

    let stranger = SigningKey::from_seed(LOG, &[8; 32]).expect("key name");
    let trust = Trust { keys: vec![stranger.verifier_key()], ..Trust::default() };
    let report = verify_bundle(&bytes, &trust);
    assert_eq!(report.verdict, Verdict::Failed);
    assert_eq!(report.failure.expect("a failure").place, "key");

    // Everything signed again by the stranger: intact in itself, refused with the pinned key.
    let bytes = small_run().bundle_with(Some(RunOutcome::Done), &stranger, |_| true);
    assert_eq!(verify_bundle(&bytes, &Trust::default()).verdict, Verdict::Intact);
    assert_failed(&bytes, "signature", "key");

    // A trusted key of another deployment cannot speak for this one.
    let other = SigningKey::from_seed("pangolin.local/other", &[9; 32]).expect("key name");
    let bytes = small_run().bundle_with(Some(RunOutcome::Done), &other, |_| true);
    let report = verify_bundle(&bytes, &Trust { keys: vec![other.verifier_key()], ..Trust::default() });
    assert_eq!(report.failure.expect("a failure").place, "key");
}

#[test]
fn seals_and_anchors_must_agree_with_the_entries() {
    let run = small_run();
    let bytes = run.bundle(Some(RunOutcome::Done));
    assert_failed(&run.bundle(Some(RunOutcome::Failed)), "log", "log seal event");
    let later = forge(&bytes, |bundle| bundle["anchor"]["at"] = 1.into());
    assert_failed(&later, "anchor", "anchor");
    let stronger = forge(&bytes, |bundle| bundle["anchor"]["guarantee"] = "external-immutable".into());
    assert_failed(&stronger, "anchor", "anchor");
    let foreign = forge(&bytes, |bundle| bundle["anchor"]["anchorId"] = "s3:bucket".into());
    let report = verify(&foreign);
    assert_eq!(
        (report.verdict, report.verdict.exit_code()),
        (Verdict::Unverifiable, 3),
        "{}",
        report.to_json()
    );
    let moved = forge(&bytes, |bundle| bundle["log"]["seal"]["index"] = 6.into());
    assert_failed(&moved, "log", "log seal proof");
    let origin = forge(&bytes, |bundle| bundle["log"]["origin"] = "pangolin.local/other".into());
    assert_failed(&origin, "log", "log origin");
    // Another run of the same deployment cannot lend its checkpoint.
    let mut other = Run::submit("other", &[("a", &[])]);
    other.fire("a", 1, &[]);
    let note = other.chain.checkpoint(LOG, &other.id).sign(&key()).expect("checkpoint").to_string();
    let borrowed = forge(&bytes, |bundle| bundle["checkpoint"] = note.into());
    assert_failed(&borrowed, "signature", "checkpoint");
    let size = forge(&bytes, |bundle| bundle["run"] = "fanout-2".into());
    assert_failed(&size, "chain", "run");
}

#[test]
fn what_is_newer_is_unverifiable_not_intact_and_not_failed() {
    // An entry of a kind from the future, chained and signed properly.
    let mut run = Run::submit("future", &[("a", &[])]);
    let prev = run.chain.head().expect("head").to_string();
    let entry = serde_json::json!({ "v": 1, "run": "future", "seq": 1, "at": 5, "actor": "engine", "prev": prev, "kind": "item.approved", "item": "a" });
    let record = canon::to_vec(&entry).expect("entry");
    run.chain.push_leaf(pangolin_audit::merkle::leaf_hash(&record));
    run.records.push(record);
    run.fire("a", 1, &[]);
    run.done("a", 1);
    run.complete(RunOutcome::Done);
    let report = verify(&run.bundle(Some(RunOutcome::Done)));
    assert_eq!(report.verdict, Verdict::Unverifiable, "{}", report.to_json());
    assert_eq!((report.unknown_kinds, report.intact), (1, false));
    assert_eq!(report.checks.chain.ok, Status::Pass);
    assert_eq!(report.checks.state.ok, Status::NotApplicable);
    assert!(report.unverifiable[0].contains("item.approved"));

    let bytes = small_run().bundle(Some(RunOutcome::Done));
    let newer = forge(&bytes, |bundle| {
        bundle["schemaVersion"] = 4.into();
        bundle["witness"] = "news".into();
    });
    let report = verify(&newer);
    assert_eq!(report.verdict, Verdict::Unverifiable, "{}", report.to_json());
    assert!(report.unverifiable[0].contains("schema version 4"));
}

#[test]
fn the_text_ends_with_the_block_and_marks_na_as_na() {
    let report = assert_intact(&small_run().bundle(Some(RunOutcome::Done)));
    let text = render_text(&report, false, false);
    let block =
        "=== Audit bundle ===\nintact: true\nclaim: tamper-detecting\nanchorId: local\nguarantee: detect\n";
    assert!(text.ends_with(block), "{text}");
    assert!(text.starts_with("✓ TAMPER-DETECTING  run fanout-1, 8 entries\n"), "{text}");
    assert!(text.contains("─ time       n/a: "), "{text}");
    assert!(text.contains("… 2 more"), "{text}");
    assert!(!text.contains('\u{1b}'));
    let full = render_text(&report, true, true);
    assert!(full.contains('\u{1b}') && !full.contains("more\n"), "{full}");
    let garbage = verify(b"{\"\x1b\": 1}");
    let text = render_text(&garbage, false, true);
    assert!(text.starts_with("✗ FAILED") && text.contains("intact: false\nclaim: none\n"), "{text}");
    assert!(!text.contains('\u{1b}'), "{text}");
}

#[test]
fn garbage_is_reported_with_its_byte() {
    for (bytes, place) in [
        (&b""[..], "JSON syntax at byte 0"),
        (b"{\"anchor\":", "JSON syntax at byte 9"),
        (b"{\"run\":\"\xff\"}", "byte 8"),
        (b"[]", "byte 1"),
    ] {
        let report = assert_failed(bytes, "format", place);
        assert_eq!(report.checks.chain.ok, Status::NotApplicable);
    }
    let deep = "[".repeat(100_000);
    assert_eq!(verify(deep.as_bytes()).verdict, Verdict::Failed);
    let spaced = [&small_run().bundle(Some(RunOutcome::Done))[..], b"\n"].concat();
    assert_failed(&spaced, "format", &format!("byte {}", spaced.len() - 1));
}

#[test]
fn receipts_prove_admission() {
    let run = small_run();
    let receipt = run.receipt();
    let keys = [key().verifier_key()];
    let again = Receipt::from_bytes(&receipt.to_bytes().expect("receipt")).expect("receipt");
    let (admit, checkpoint) = verify_receipt(&again, LOG, &keys).expect("valid receipt");
    assert_eq!((admit.run, admit.plan, admit.seq), (run.id.clone(), run.plan, 2));
    assert_eq!(checkpoint.size, 7);

    let moved = Receipt { index: 4, ..receipt.clone() };
    assert!(matches!(verify_receipt(&moved, LOG, &keys), Err(LogError::Proof(_))));
    let mut other = receipt.clone();
    if let pangolin_audit::log::LogEvent::Admit(admit) = &mut other.event {
        admit.plan = Digest::of(b"another plan");
    }
    assert!(matches!(verify_receipt(&other, LOG, &keys), Err(LogError::Proof(_))));
    let stranger = SigningKey::from_seed(LOG, &[8; 32]).expect("key name").verifier_key();
    assert!(matches!(verify_receipt(&receipt, LOG, &[stranger]), Err(LogError::Checkpoint(_))));
    assert!(matches!(verify_receipt(&receipt, "elsewhere", &keys), Err(LogError::Checkpoint(_))));
    assert!(Receipt::from_bytes(b"{\"index\":1}").is_err());
}

#[test]
fn notes_accept_many_signatures_and_ignore_strangers() {
    let key = key();
    let mut note = key.sign("text\n").expect("note");
    for n in 0..20 {
        note.add_signature(&SigningKey::from_seed(&format!("witness-{n}"), &[n; 32]).expect("key name"));
    }
    let parsed = Note::parse(&note.to_string()).expect("note");
    assert_eq!(parsed, note);
    assert_eq!(parsed.verify(&[key.verifier_key()]).expect("signed").len(), 1);
    let other = SigningKey::from_seed("witness-3", &[99; 32]).expect("key name");
    assert!(matches!(parsed.verify(&[other.verifier_key()]), Err(NoteError::NoKnownKey(_))));
    let shown = format!("{key:?}");
    assert!(shown.contains("public") && !shown.contains("7, 7"), "{shown}");
    for bad in ["", "a b", "a+b", "a\nb"] {
        assert!(SigningKey::from_seed(bad, &[1; 32]).is_err(), "{bad:?}");
    }
    for bad in ["x", "x+00000000+AQ==", "x+zz+!!"] {
        assert!(bad.parse::<VerifierKey>().is_err(), "{bad}");
    }
}
