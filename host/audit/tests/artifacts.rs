//! Artifacts of plugin blocks: named by a list in the ledger, in the bundle or listed, and nothing else.

mod common;

use std::collections::BTreeMap;

use common::{LOG, Run, item, key};
use pangolin_audit::{
    bundle::{Anchor, BundleBuilder, OBJECT_BYTES_MAX},
    canon,
    report::{Report, Verdict},
    verify::{Trust, verify_bundle},
};
use pangolin_core::{
    artifacts::{ARTIFACT_LIST_VERSION, ArtifactList, SealedArtifact},
    entry::{EntryBody, Evidence, FinalStatus, RunOutcome},
    ids::Digest,
};
use serde_json::Value;

/// A run whose item left one small and one large artifact; what the list says is up to the caller.
fn sealed(change: impl FnOnce(&mut ArtifactList)) -> (Run, Digest) {
    let mut run = Run::submit("artifacts", &[("a", &[])]);
    run.fire("a", 1, &[]);
    let artifact = |path: &str, bytes: &[u8]| SealedArtifact {
        block: 1,
        plugin: "acme/probe".to_owned(),
        path: path.to_owned(),
        digest: Digest::of(bytes),
        size: bytes.len() as u64,
    };
    let (small, large) = (b"a report".to_vec(), vec![b'x'; OBJECT_BYTES_MAX + 1]);
    let mut list = ArtifactList {
        v: ARTIFACT_LIST_VERSION,
        dispatch: run.manifest("a", 1, &[]).dispatch,
        artifacts: vec![artifact("large", &large), artifact("small", &small)],
    };
    change(&mut list);
    run.keep(small);
    run.keep(large);
    let list = run.keep(canon::to_vec(&list).expect("list"));
    end(&mut run, list);
    (run, list)
}

fn end(run: &mut Run, list: Digest) {
    let evidence = Box::new(Evidence { block_artifacts: Some(list), ..Evidence::default() });
    let (item, status) = (item("a"), FinalStatus::Done);
    run.entry("engine", EntryBody::ItemReconciled { item, attempt: 1, status, failure: None, evidence });
    let (outcome, counts) = (RunOutcome::Done, BTreeMap::from([(status, 1)]));
    run.entry("engine", EntryBody::RunCompleted { outcome, counts });
}

/// The bundle as an exporter makes it, which asks again when a list named more.
fn bundle(run: &Run, include: impl Fn(&Digest) -> bool) -> Vec<u8> {
    let mut builder = BundleBuilder::new(run.id.clone(), run.records.iter().cloned()).expect("records");
    for _ in 0..2 {
        for wanted in builder.wanted() {
            if let Some(bytes) = run.objects.get(&wanted.digest).filter(|_| include(&wanted.digest)) {
                builder.add_object(bytes).expect("object");
            }
        }
    }
    let checkpoint = run.chain.checkpoint(LOG, &run.id).sign(&key()).expect("checkpoint");
    let outcome = Some(RunOutcome::Done);
    let anchor = Some(Anchor::local(run.at));
    builder.finish(&key().verifier_key(), &checkpoint, run.log(outcome, &key()), anchor).expect("bundle")
}

fn verify(bytes: &[u8]) -> Report {
    verify_bundle(bytes, &Trust { keys: vec![key().verifier_key()], ..Trust::default() })
}

#[test]
fn small_ones_travel_and_large_ones_are_listed() {
    let (run, list) = sealed(|_| ());
    let bytes = bundle(&run, |_| true);
    let report = verify(&bytes);
    assert_eq!(report.verdict, Verdict::Intact, "{}", report.to_json());
    let document: Value = serde_json::from_slice(&bytes).expect("JSON");
    assert_eq!(document["schemaVersion"], 2, "a reader of version 1 would take the member for an alteration");
    for embedded in [list, Digest::of(b"a report")] {
        assert!(document["objects"][embedded.to_string()].is_string(), "{embedded}");
    }
    let large = Digest::of(&vec![b'x'; OBJECT_BYTES_MAX + 1]);
    assert_eq!(document["external"][large.to_string()], OBJECT_BYTES_MAX + 1);
}

#[test]
fn without_an_artifact_or_the_list_the_record_is_incomplete() {
    let (run, list) = sealed(|_| ());
    for (missing, what) in [(list, "artifact list"), (Digest::of(b"a report"), "artifact of a block")] {
        let report = verify(&bundle(&run, |digest| *digest != missing));
        assert_eq!(report.verdict, Verdict::Incomplete, "{}", report.to_json());
        let said = &report.incomplete[0];
        assert!(said.starts_with(what) && said.contains(&missing.to_string()), "{said}");
    }
}

#[test]
fn a_list_of_another_attempt_or_none_at_all_is_named() {
    let (run, list) = sealed(|list| {
        let other = Run::submit("another", &[("a", &[])]);
        list.dispatch = other.manifest("a", 1, &[]).dispatch;
    });
    let report = verify(&bundle(&run, |_| true));
    let failure = report.failure.expect("a failure");
    assert_eq!(failure.check, "objects");
    assert!(
        failure.place.contains(&list.to_string()) && failure.place.contains("artifact list"),
        "{failure:?}"
    );
    assert_eq!(failure.detail, "its dispatch is not that of the attempt");

    let mut run = Run::submit("artifacts", &[("a", &[])]);
    run.fire("a", 1, &[]);
    let list = run.keep(b"[]".to_vec());
    end(&mut run, list);
    let failure = verify(&bundle(&run, |_| true)).failure.expect("a failure");
    assert!(failure.detail.starts_with("is not a list of artifacts"), "{failure:?}");
}

#[test]
fn an_artifact_that_no_list_names_is_not_taken() {
    let (run, _) = sealed(|list| drop(list.artifacts.pop()));
    let bytes = bundle(&run, |_| true);
    let mut document: Value = serde_json::from_slice(&bytes).expect("JSON");
    document["objects"][Digest::of(b"a report").to_string()] = "YSByZXBvcnQ=".into();
    let report = verify(&canon::to_vec(&document).expect("bundle"));
    assert_eq!(report.verdict, Verdict::Failed, "{}", report.to_json());
    assert!(report.to_json().to_string().contains("nothing in the run refers to it"), "{}", report.to_json());
}
