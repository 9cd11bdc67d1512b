//! Samples of every released format version verify for ever (`tests/formats`).

use pangolin_audit::{
    anchor::{Guarantee, Standing},
    bundle::Bundle,
    report::{Claim, Verdict},
    verify::{Trust, verify_bundle},
};

#[test]
fn a_bundle_of_version_1_verifies_with_its_published_key() {
    let bundle = include_bytes!("../../../tests/formats/bundle-v1.json");
    let trust = Trust::parse(include_str!("../../../tests/formats/bundle-v1.vkey")).unwrap();
    let report = verify_bundle(bundle, &trust);
    assert_eq!(report.verdict, Verdict::Intact, "{report:?}");
    assert_eq!(report.run_id.as_deref(), Some("fanout-1"));
}

#[test]
fn a_bundle_of_version_2_with_growth_verifies_with_its_published_key() {
    let bundle = include_bytes!("../../../tests/formats/bundle-v2-growth.json");
    let trust = Trust::parse(include_str!("../../../tests/formats/bundle-v2-growth.vkey")).unwrap();
    let report = verify_bundle(bundle, &trust);
    assert_eq!(report.verdict, Verdict::Intact, "{report:?}");
    assert!(report.checks.growth.detail.starts_with("4 items were added"), "{report:?}");
}

#[test]
fn a_bundle_of_version_2_with_outputs_in_parts_verifies_with_its_published_key() {
    let bundle = include_bytes!("../../../tests/formats/bundle-v2-outputs.json");
    let trust = Trust::parse(include_str!("../../../tests/formats/bundle-v2-outputs.vkey")).unwrap();
    let report = verify_bundle(bundle, &trust);
    assert_eq!(report.verdict, Verdict::Intact, "{report:?}");
    assert!(report.checks.handoff.detail.starts_with("2 inputs are sealed"), "{report:?}");
}

#[test]
fn a_bundle_of_version_3_with_what_an_anchor_showed_verifies_with_its_published_key() {
    let bundle = include_bytes!("../../../tests/formats/bundle-v3-anchored.json");
    let trust = Trust::parse(include_str!("../../../tests/formats/bundle-v3-anchored.vkey")).unwrap();
    let report = verify_bundle(bundle, &trust);
    assert_eq!(report.verdict, Verdict::Intact, "{report:?}");
    // What the exporter saw is kept, and is no claim without a fresh look.
    assert_eq!(report.claim, Some(Claim::TamperDetecting));
    let evidence = Bundle::parse(bundle).unwrap().anchor.and_then(|anchor| anchor.evidence).unwrap();
    assert_eq!((evidence.standing, evidence.guarantee), (Standing::Held, Guarantee::ExternalImmutable));
    assert_eq!(evidence.retention.map(|lock| lock.mode).as_deref(), Some("COMPLIANCE"));
}
