//! Bundles whose log is held by an anchor outside: what they say offline, and with a fresh look at the anchor.

mod common;

use common::{LOG, Run, key, small_run};
use pangolin_audit::{
    anchor::{AnchorEvidence, EVIDENCE_VERSION, Guarantee, Retention, Standing},
    bundle::{Anchor, Bundle, BundleBuilder},
    canon,
    checkpoint::Checkpoint,
    note::SigningKey,
    report::{Claim, Report, Status, Verdict, render_text},
    verify::{Trust, verify_bundle, verify_bundle_live},
};
use pangolin_core::{entry::RunOutcome, ids::Digest};
use serde_json::Value;

fn pinned() -> Trust {
    Trust { keys: vec![key().verifier_key()], ..Trust::default() }
}

/// What an S3 bucket with Object Lock shows of this note.
fn held(note: &str) -> AnchorEvidence {
    let size = note.lines().nth(1).and_then(|line| line.parse().ok()).expect("size");
    AnchorEvidence {
        anchor_id: "s3:anchor".to_owned(),
        checked_at_ms: 2_000,
        findings: Vec::new(),
        guarantee: Guarantee::ExternalImmutable,
        locator: "s3://anchor/log/00/checkpoint/01".to_owned(),
        note: Some(note.to_owned()),
        origin: LOG.to_owned(),
        retention: Some(Retention { mode: "COMPLIANCE".to_owned(), until_ms: 9_000 }),
        schema_version: EVIDENCE_VERSION,
        size,
        standing: Standing::Held,
        taken_at_ms: Some(1_000),
        version: Some("v1".to_owned()),
    }
}

fn contested(note: &str) -> AnchorEvidence {
    let (standing, guarantee) = (Standing::Contested, Guarantee::Detect);
    AnchorEvidence { standing, guarantee, findings: vec!["2 versions".to_owned()], ..held(note) }
}

fn weak(note: &str) -> AnchorEvidence {
    let (standing, guarantee) = (Standing::Weak, Guarantee::Detect);
    AnchorEvidence { standing, guarantee, findings: vec!["the lock has run out".to_owned()], ..held(note) }
}

fn absent(note: &str) -> AnchorEvidence {
    let (standing, guarantee) = (Standing::Absent, Guarantee::Detect);
    AnchorEvidence { standing, guarantee, note: None, ..held(note) }
}

/// A bundle with evidence about its own log, and that log's checkpoint.
fn anchored(run: &Run, evidence: impl Fn(&str) -> AnchorEvidence) -> (Vec<u8>, String) {
    let mut builder = BundleBuilder::new(run.id.clone(), run.records.iter().cloned()).expect("records");
    for wanted in builder.wanted() {
        if let Some(bytes) = run.objects.get(&wanted.digest) {
            builder.add_object(bytes).expect("object");
        }
    }
    let checkpoint = run.chain.checkpoint(LOG, &run.id).sign(&key()).expect("run checkpoint");
    let log = run.log(Some(RunOutcome::Done), &key());
    let note = log.checkpoint.to_string();
    let anchor = Some(Anchor::external(evidence(&note)));
    (builder.finish(&key().verifier_key(), &checkpoint, log, anchor).expect("bundle"), note)
}

fn forge(bytes: &[u8], change: impl FnOnce(&mut Value)) -> Vec<u8> {
    let mut value: Value = serde_json::from_slice(bytes).expect("bundle JSON");
    change(&mut value);
    let forged = canon::to_vec(&value).expect("forged bundle");
    let Ok(bundle) = Bundle::parse(&forged) else { return forged };
    value["digest"] = bundle.digest_of(&forged).to_string().into();
    canon::to_vec(&value).expect("forged bundle")
}

#[track_caller]
fn assert_failed(report: &Report, word: &str) {
    assert_eq!((report.verdict, report.claim), (Verdict::Failed, None), "{}", report.to_json());
    let failure = report.failure.as_ref().expect("a failure");
    assert_eq!(failure.check, "anchor", "{}", report.to_json());
    assert!(failure.detail.contains(word), "{}", failure.detail);
}

#[test]
fn offline_it_is_intact_and_claims_no_more_than_was_checked() {
    let (bytes, _) = anchored(&small_run(), held);
    canon::check(&bytes).expect("canonical");
    assert_eq!(Bundle::parse(&bytes).expect("bundle").schema_version, 3);
    let report = verify_bundle(&bytes, &pinned());
    assert_eq!(report.verdict, Verdict::Intact, "{}", report.to_json());
    assert_eq!(report.claim, Some(Claim::TamperDetecting));
    assert_eq!(
        (report.anchor_id.as_deref(), report.guarantee.as_deref()),
        (Some("s3:anchor"), Some("detect"))
    );
    assert_eq!(report.checks.anchor.ok, Status::NotApplicable);
    assert!(report.checks.anchor.detail.contains("not now"), "{}", report.checks.anchor.detail);
}

#[test]
fn a_fresh_look_makes_it_tamper_evident() {
    let (bytes, note) = anchored(&small_run(), held);
    let report = verify_bundle_live(&bytes, &pinned(), &held(&note));
    assert_eq!(report.verdict, Verdict::Intact, "{}", report.to_json());
    assert_eq!(report.checks.anchor.ok, Status::Pass);
    let text = render_text(&report, false, false);
    let block = "=== Audit bundle ===\nintact: true\nclaim: tamper-evident\nanchorId: s3:anchor\nguarantee: external-immutable\n";
    assert!(text.ends_with(block), "{text}");
    assert!(text.starts_with("✓ TAMPER-EVIDENT"), "{text}");
    // Also for a bundle that was exported before it was anchored.
    let local = small_run().bundle(Some(RunOutcome::Done));
    let note = Bundle::parse(&local).expect("bundle").log.checkpoint.clone();
    let report = verify_bundle_live(&local, &pinned(), &held(&note));
    assert_eq!((report.claim, report.anchor_id.as_deref()), (Some(Claim::TamperEvident), Some("s3:anchor")));
}

#[test]
fn a_fresh_look_that_sees_less_claims_less() {
    let (bytes, note) = anchored(&small_run(), held);
    let report = verify_bundle_live(&bytes, &pinned(), &weak(&note));
    assert_eq!((report.verdict, report.claim), (Verdict::Intact, Some(Claim::TamperDetecting)));
    assert_eq!(report.guarantee.as_deref(), Some("detect"));
    assert_eq!(report.checks.anchor.ok, Status::NotApplicable);
    assert!(report.checks.anchor.detail.contains("run out"), "{}", report.checks.anchor.detail);
    assert_failed(&verify_bundle_live(&bytes, &pinned(), &contested(&note)), "contested: 2 versions");
    assert_failed(&verify_bundle_live(&bytes, &pinned(), &absent(&note)), "does not hold");
}

/// The key's holder may make another history later; a bucket that takes it then says so by its clock.
#[test]
fn what_an_anchor_took_long_after_the_seal_is_not_tamper_evident() {
    const DAY_MS: i64 = 24 * 60 * 60 * 1_000;
    let run = small_run();
    let (bytes, note) = anchored(&run, held);
    let seal: Value =
        serde_json::from_str(Bundle::parse(&bytes).expect("bundle").log.seal.expect("a seal").event.get())
            .expect("JSON");
    let at = seal["at"].as_i64().expect("a time");
    let taken = |taken_at_ms| {
        let seen = AnchorEvidence { taken_at_ms, ..held(&note) };
        verify_bundle_live(&bytes, &pinned(), &seen)
    };
    assert_eq!(taken(Some(at + DAY_MS)).claim, Some(Claim::TamperEvident));
    for (report, word) in
        [(taken(Some(at + 25 * DAY_MS)), "600 hours after"), (taken(None), "does not say when")]
    {
        assert_eq!((report.verdict, report.claim), (Verdict::Intact, Some(Claim::TamperDetecting)));
        assert_eq!(report.guarantee.as_deref(), Some("detect"));
        assert_eq!(report.checks.anchor.ok, Status::NotApplicable);
        assert!(report.checks.anchor.detail.contains(word), "{}", report.checks.anchor.detail);
    }
}

/// Whoever holds the key may keep a second history in another bucket, or elsewhere in the same one.
#[test]
fn a_verifier_who_knows_the_anchor_believes_no_other() {
    let (bytes, note) = anchored(&small_run(), held);
    let at = |place: &str| Trust { anchor: Some(place.to_owned()), ..pinned() };
    let here = at("s3://anchor");
    let report = verify_bundle(&bytes, &here);
    assert_eq!((report.verdict, report.claim), (Verdict::Intact, Some(Claim::TamperDetecting)));
    assert_eq!(verify_bundle_live(&bytes, &here, &held(&note)).claim, Some(Claim::TamperEvident));
    for place in
        ["s3://other", "s3://anchor/team-a", "s3://anch", "s3://anchor/log", "http://127.0.0.1:1/anchor", ""]
    {
        assert_failed(&verify_bundle(&bytes, &at(place)), "s3://anchor/log/00/checkpoint/01");
        assert_failed(&verify_bundle_live(&bytes, &at(place), &held(&note)), "known to be");
    }
    // By another name than the exporter's: what was seen now counts.
    let proxied = |locator: &str| AnchorEvidence { locator: locator.to_owned(), ..held(&note) };
    let (through, _) = anchored(&small_run(), |note| AnchorEvidence {
        locator: "https://proxy.example/anchor/log/00/checkpoint/01".to_owned(),
        ..held(note)
    });
    assert_eq!(verify_bundle_live(&through, &here, &held(&note)).claim, Some(Claim::TamperEvident));
    assert_failed(&verify_bundle(&through, &here), "proxy.example");
    for locator in
        ["", "s3://anchor", "s3://anchor/log/00", "s3://anchor/catalogue/00/checkpoint/01/checkpoint/02"]
    {
        assert_failed(&verify_bundle_live(&bytes, &here, &proxied(locator)), "known to be");
    }
    let below = proxied("s3://anchor/log/team-a/log/00/checkpoint/01");
    assert_eq!(below.place(), Some("s3://anchor/log/team-a"));
    // Sealed by its deployment alone is not anchored there.
    let local = small_run().bundle(Some(RunOutcome::Done));
    assert_failed(&verify_bundle(&local, &here), "it is local, not at s3://anchor");
    // Nothing is sealed, so there is nothing to be anchored: incomplete, as without the option.
    let open = small_run().bundle(None);
    assert_eq!(verify_bundle(&open, &here).verdict, Verdict::Incomplete);
}

#[test]
fn evidence_of_something_else_is_refused() {
    let (bytes, note) = anchored(&small_run(), held);
    let size = held(&note).size;
    let signed = |root: &str, by: &SigningKey, size| {
        let checkpoint = Checkpoint { origin: LOG.to_owned(), size, root: Digest::of(root.as_bytes()) };
        checkpoint.sign(by).expect("note").to_string()
    };
    let stranger = SigningKey::from_seed(LOG, &[99; 32]).expect("key");
    let other_bucket = AnchorEvidence { anchor_id: "s3:other".to_owned(), ..held(&note) };
    let no_note = AnchorEvidence { note: None, ..held(&note) };
    let no_lock = AnchorEvidence { retention: None, ..held(&note) };
    let run_out = Retention { mode: "COMPLIANCE".to_owned(), until_ms: 2_000 };
    let run_out = AnchorEvidence { retention: Some(run_out), ..held(&note) };
    let weak_but_immutable = AnchorEvidence { guarantee: Guarantee::ExternalImmutable, ..weak(&note) };
    for (seen, word) in [
        (held(&signed("other", &key(), size)), "another root"),
        (held(&signed("other", &key(), size + 1)), "leaves"),
        (held(&signed("other", &stranger, size)), "signed by"),
        (AnchorEvidence { origin: "elsewhere".to_owned(), ..held(&note) }, "elsewhere"),
        (other_bucket, "s3:other"),
        (no_note, "note is missing"),
        (no_lock, "without a lock"),
        (run_out, "without a lock"),
        (weak_but_immutable, "not held and yet"),
    ] {
        assert_failed(&verify_bundle_live(&bytes, &pinned(), &seen), word);
    }
}

#[test]
fn a_bundle_cannot_lie_about_its_own_evidence() {
    let (bytes, _) = anchored(&small_run(), held);
    let anchor = |member: &str, value: Value| forge(&bytes, |bundle| bundle["anchor"][member] = value);
    let evidence =
        |member: &str, value: Value| forge(&bytes, |bundle| bundle["anchor"]["evidence"][member] = value);
    for (forged, word) in [
        (anchor("guarantee", "detect".into()), "does not repeat"),
        (anchor("anchorId", "s3:other".into()), "does not repeat"),
        (anchor("anchorId", "local".into()), "does not repeat"),
        (anchor("at", 7.into()), "does not repeat"),
        (evidence("note", "x".into()), "malformed"),
        (evidence("size", 3.into()), "leaves"),
        (evidence("standing", "contested".into()), "not held and yet"),
    ] {
        assert_failed(&verify_bundle(&forged, &pinned()), word);
    }
    let report = verify_bundle(&evidence("schemaVersion", 2.into()), &pinned());
    assert_eq!(report.verdict, Verdict::Unverifiable, "{}", report.to_json());
    // Without the evidence nobody can judge, and the version is not the one that the content needs.
    let report = verify_bundle(
        &forge(&bytes, |bundle| {
            bundle["anchor"].as_object_mut().expect("anchor").remove("evidence");
        }),
        &pinned(),
    );
    assert_eq!(report.verdict, Verdict::Failed, "{}", report.to_json());
    assert!(
        report.failure.as_ref().is_some_and(|failure| failure.place == "schemaVersion"),
        "{}",
        report.to_json()
    );
}

#[test]
fn an_exporter_that_saw_a_contested_anchor_says_so() {
    let (bytes, _) = anchored(&small_run(), contested);
    assert_failed(&verify_bundle(&bytes, &pinned()), "contested: 2 versions");
    let (bytes, _) = anchored(&small_run(), weak);
    let report = verify_bundle(&bytes, &pinned());
    assert_eq!((report.verdict, report.claim), (Verdict::Intact, Some(Claim::TamperDetecting)));
}

#[test]
fn every_flipped_byte_of_the_anchor_fails() {
    let (bytes, note) = anchored(&small_run(), held);
    let end = bytes.windows(14).position(|window| window == b",\"checkpoint\":").expect("end of the anchor");
    for at in 0..end {
        let mut altered = bytes.clone();
        altered[at] ^= 1;
        for report in
            [verify_bundle(&altered, &pinned()), verify_bundle_live(&altered, &pinned(), &held(&note))]
        {
            assert_ne!(report.verdict, Verdict::Intact, "byte {at} flipped: {}", report.to_json());
            assert_eq!(report.claim, None, "byte {at} flipped");
        }
    }
}
