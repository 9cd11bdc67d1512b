//! What the anchor refuses, sees and claims, with S3 in every state.

#![expect(clippy::unwrap_used, reason = "helpers of tests may panic")]

use std::sync::Arc;

use aws_sdk_s3::{
    Client,
    primitives::{ByteStream, DateTime},
    types::ObjectLockMode,
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use pangolin_anchor_s3::{S3Anchor, policy};
use pangolin_audit::{
    bundle::{Anchor as BundleAnchor, Bundle, BundleBuilder, LeafEvidence, LogEvidence, LogLeaf},
    checkpoint::Checkpoint,
    note::{Note, SigningKey, VerifierKey},
    rebuild::Documents as _,
    report::{Claim, Verdict},
    verify::{Trust, verify_bundle},
};
use pangolin_aws::{
    Aws, Service,
    faults::{Answer, Fault, FaultScript, Gate, On},
};
use pangolin_core::ids::Digest;
use pangolin_ports::{
    anchor::{Anchor, AnchorError, AnchorEvidence, Guarantee, Standing, check_note},
    clock::Clock,
    memory::{ManualClock, SystemClock},
};
use pangolin_s3_fake::{Ministack, S3Fake};

const ORIGIN: &str = "pangolin.example/a";
const DAY_MS: i64 = 86_400_000;

const SAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/formats/bundle-v1.json");

fn signer() -> SigningKey {
    SigningKey::from_seed(ORIGIN, &[7; 32]).unwrap()
}

fn trusted() -> [VerifierKey; 1] {
    [signer().verifier_key()]
}

fn note(size: u64, root: &str) -> String {
    let root = Digest::of(root.as_bytes());
    Checkpoint { origin: ORIGIN.to_owned(), size, root }.sign(&signer()).unwrap().to_string()
}

fn key(size: u64) -> String {
    format!("log/{}/checkpoint/{size:020}", Digest::of(ORIGIN.as_bytes()).hex())
}

async fn server() -> S3Fake {
    let server = S3Fake::start().await.unwrap();
    server.create_locked_bucket("b");
    server
}

fn aws(server: &S3Fake, script: &FaultScript) -> Aws {
    Aws::for_tests(&server.endpoint(), 1, script.around(Aws::http())).unwrap()
}

fn anchor(server: &S3Fake, script: &FaultScript) -> S3Anchor {
    S3Anchor::new(&aws(server, script), "b", "", 30, Arc::new(SystemClock)).unwrap()
}

fn client(aws: &Aws) -> Client {
    Client::from_conf(aws_sdk_s3::config::Builder::from(&aws.sdk(Service::S3)).force_path_style(true).build())
}

async fn examined(anchor: &S3Anchor, size: u64) -> AnchorEvidence {
    anchor.examine(ORIGIN, size, &trusted()).await.unwrap()
}

/// The kept bundle of a real run, again, with what this anchor shows of its seal.
async fn anchored_sample(anchor: &S3Anchor) -> (Vec<u8>, VerifierKey) {
    let kept = std::fs::read(SAMPLE).unwrap();
    let kept = Bundle::parse(&kept).unwrap();
    let key: VerifierKey = kept.key.parse().unwrap();
    anchor.publish(&kept.log.checkpoint).await.unwrap();
    let evidence = check_note(anchor, &kept.log.checkpoint, std::slice::from_ref(&key)).await.unwrap();
    let records = kept.entries.iter().map(|entry| entry.get().as_bytes().to_vec());
    let mut builder = BundleBuilder::new(kept.run.clone(), records).unwrap();
    // What an object refers to is wanted once it is there. Not everything that can be wanted has to be there.
    let mut progressed = true;
    while std::mem::take(&mut progressed) {
        for wanted in builder.wanted() {
            if let Some(size) = kept.external.get(&wanted.digest) {
                builder.add_external(wanted.digest, *size).unwrap();
                progressed = true;
            } else if let Ok(bytes) = kept.document(&wanted.digest) {
                builder.add_object(&bytes).unwrap();
                progressed = true;
            }
        }
    }
    let leaf = |leaf: &LogLeaf<'_>| LeafEvidence {
        event: leaf.event.get().as_bytes().to_vec(),
        index: leaf.index,
        proof: leaf.proof.clone(),
    };
    let log = LogEvidence {
        origin: kept.log.origin.clone(),
        checkpoint: Note::parse(&kept.log.checkpoint).unwrap(),
        admit: leaf(&kept.log.admit),
        seal: kept.log.seal.as_ref().map(leaf),
    };
    let checkpoint = Note::parse(&kept.checkpoint).unwrap();
    (builder.finish(&key, &checkpoint, log, Some(BundleAnchor::external(evidence))).unwrap(), key)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_it_shows_travels_in_a_bundle_of_version_3() {
    let server = server().await;
    let anchor = anchor(&server, &FaultScript::new());
    let (bytes, key) = anchored_sample(&anchor).await;
    let bundle = Bundle::parse(&bytes).unwrap();
    assert_eq!(bundle.schema_version, 3);
    let kept = std::fs::read(SAMPLE).unwrap();
    assert_eq!(bundle.objects, Bundle::parse(&kept).unwrap().objects);
    let shown = bundle.anchor.unwrap();
    assert_eq!((&*shown.anchor_id, &*shown.guarantee), ("s3:b", Guarantee::ExternalImmutable.as_str()));
    let report = verify_bundle(&bytes, &Trust { keys: vec![key.clone()], ..Trust::default() });
    assert_eq!(report.verdict, Verdict::Intact, "{}", report.to_json());
    // What a bundle says about itself is no fresh look.
    assert_eq!(report.claim, Some(Claim::TamperDetecting));
    // How the sample in `tests/formats` was made.
    if let Some(directory) = std::env::var_os("PANGOLIN_WRITE_SAMPLE") {
        let directory = std::path::PathBuf::from(directory);
        std::fs::write(directory.join("bundle-v3-anchored.json"), &bytes).unwrap();
        std::fs::write(directory.join("bundle-v3-anchored.vkey"), format!("{key}\n")).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_checkpoint_is_locked_and_proves_it() {
    let server = server().await;
    let anchor = anchor(&server, &FaultScript::new());
    let before = SystemClock.now_ms();
    anchor.publish(&note(3, "r")).await.unwrap();
    let [version] = server.versions("b", &key(3)).try_into().unwrap();
    let (mode, until_ms) = version.lock.unwrap();
    assert_eq!(mode, "COMPLIANCE");
    assert!(until_ms >= before + 30 * DAY_MS && until_ms < before + 31 * DAY_MS, "{until_ms}");
    let evidence = examined(&anchor, 3).await;
    assert_eq!((evidence.standing, evidence.guarantee), (Standing::Held, Guarantee::ExternalImmutable));
    assert_eq!(evidence.claim(), Claim::TamperEvident);
    assert_eq!(evidence.anchor_id, "s3:b");
    assert_eq!(evidence.version, Some(version.id));
    let retention = evidence.retention.unwrap();
    assert_eq!((&*retention.mode, retention.until_ms), ("COMPLIANCE", until_ms));
    assert!((evidence.taken_at_ms.unwrap() - before).abs() < 60_000);
    // Not AWS: the evidence says whose S3 it was.
    assert!(
        evidence.locator.starts_with("http://127.0.0.1:") && evidence.locator.ends_with(&key(3)),
        "{}",
        evidence.locator
    );
}

/// Every state of S3 that is not the right one, with the words that go with it.
#[tokio::test(flavor = "multi_thread")]
async fn every_other_state_is_named_and_claims_less() {
    let server = server().await;
    server.create_bucket("plain");
    let script = FaultScript::new();
    let anchor = anchor(&server, &script);
    for size in 1..=5 {
        anchor.publish(&note(size, "r")).await.unwrap();
    }
    server.plant_version("b", &key(1), Some(note(1, "r").as_bytes()));
    server.plant_version("b", &key(2), None);
    server.plant(
        "b",
        &key(3),
        note(3, "forged").replace("pangolin.example/a\n3", "pangolin.example/a\n4").as_bytes(),
    );
    let elsewhere = Checkpoint { origin: "other".to_owned(), size: 4, root: Digest::of(b"r") };
    let elsewhere = elsewhere.sign(&SigningKey::from_seed("other", &[7; 32]).unwrap()).unwrap();
    server.plant("b", &key(4), elsewhere.to_string().as_bytes());
    server.plant_version("b", &key(6), Some(note(6, "r").as_bytes()));
    server.plant_version("b", &key(7), None);
    put_governed(&aws(&server, &script), &key(8), &note(8, "r")).await;
    server.plant("b", &key(9), &vec![b'x'; 3 << 20]);
    let plain = S3Anchor::new(&aws(&server, &script), "plain", "", 30, Arc::new(SystemClock)).unwrap();
    for (anchor, size, standing, word) in [
        (&anchor, 1, Standing::Contested, "2 versions"),
        (&anchor, 2, Standing::Contested, "delete markers"),
        (&anchor, 3, Standing::Contested, "signature"),
        (&anchor, 4, Standing::Contested, "signed by other"),
        (&anchor, 6, Standing::Weak, "no lock is to be seen"),
        (&anchor, 7, Standing::Contested, "no version with content"),
        (&anchor, 8, Standing::Weak, "GOVERNANCE"),
        (&anchor, 9, Standing::Contested, "malformed"),
        (&anchor, 10, Standing::Absent, ""),
        (&plain, 1, Standing::Absent, ""),
    ] {
        let evidence = examined(anchor, size).await;
        assert_eq!(evidence.standing, standing, "{size}: {evidence:?}");
        assert_eq!(evidence.guarantee, Guarantee::Detect, "{size}");
        assert_eq!(evidence.claim(), Claim::TamperDetecting, "{size}");
        assert!(evidence.findings.join("\n").contains(word), "{size}: {:?}", evidence.findings);
    }
    assert_eq!(examined(&anchor, 5).await.standing, Standing::Held);
    // Hidden ones are still sizes that were published.
    assert_eq!(anchor.sizes(ORIGIN, 0, 100).await.unwrap(), [1, 2, 3, 4, 5, 6, 7, 8, 9]);
}

async fn put_governed(aws: &Aws, key: &str, text: &str) {
    let until = SystemClock.now_ms() / 1_000 + 30 * 86_400;
    let put = client(aws)
        .put_object()
        .bucket("b")
        .key(key)
        .checksum_sha256(STANDARD.encode(Digest::of(text.as_bytes()).as_bytes()))
        .object_lock_mode(ObjectLockMode::Governance)
        .object_lock_retain_until_date(DateTime::from_secs(until))
        .body(ByteStream::from(text.as_bytes().to_vec()));
    put.send().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lock_that_ran_out_guarantees_nothing() {
    let server = server().await;
    let clock = Arc::new(ManualClock::new(SystemClock.now_ms()));
    let anchor = S3Anchor::new(&aws(&server, &FaultScript::new()), "b", "", 30, clock.clone()).unwrap();
    anchor.publish(&note(3, "r")).await.unwrap();
    assert_eq!(examined(&anchor, 3).await.standing, Standing::Held);
    clock.set(clock.now_ms() + 31 * DAY_MS);
    let evidence = examined(&anchor, 3).await;
    assert_eq!((evidence.standing, evidence.guarantee), (Standing::Weak, Guarantee::Detect));
    assert_eq!(evidence.findings, ["the lock has run out"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bundle_s_checkpoint_is_compared_with_what_is_held() {
    let server = server().await;
    let anchor = anchor(&server, &FaultScript::new());
    anchor.publish(&note(3, "r")).await.unwrap();
    let same = check_note(&anchor, &note(3, "r"), &trusted()).await.unwrap();
    assert_eq!((same.standing, same.claim()), (Standing::Held, Claim::TamperEvident));
    let forked = check_note(&anchor, &note(3, "other"), &trusted()).await.unwrap();
    assert_eq!((forked.standing, forked.claim()), (Standing::Contested, Claim::TamperDetecting));
    assert!(forked.findings[0].contains("another root"), "{:?}", forked.findings);
    let absent = check_note(&anchor, &note(4, "r"), &trusted()).await.unwrap();
    assert_eq!(absent.standing, Standing::Absent);
    let stranger = SigningKey::from_seed(ORIGIN, &[9; 32]).unwrap().verifier_key();
    let answer = check_note(&anchor, &note(3, "r"), &[stranger]).await;
    assert!(matches!(answer, Err(AnchorError::BadNote(_))), "{answer:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn buckets_that_are_no_anchor_are_refused_with_the_reason() {
    let server = server().await;
    server.create_bucket("plain");
    let aws = aws(&server, &FaultScript::new());
    let plain = S3Anchor::new(&aws, "plain", "", 30, Arc::new(SystemClock)).unwrap();
    let answer = plain.publish(&note(1, "r")).await;
    assert!(
        matches!(&answer, Err(AnchorError::Refused { problem, .. }) if problem.contains("Object Lock")),
        "{answer:?}"
    );
    assert_eq!(server.keys("plain"), Vec::<String>::new());
    let absent = S3Anchor::new(&aws, "absent", "", 30, Arc::new(SystemClock)).unwrap();
    let answer = absent.publish(&note(1, "r")).await;
    assert!(
        matches!(&answer, Err(AnchorError::Other { source, .. }) if source.to_string().contains("NoSuchBucket")),
        "{answer:?}"
    );
    assert!(absent.examine(ORIGIN, 1, &trusted()).await.is_err(), "an absent bucket is no absent checkpoint");
    for days in [0, 36_501] {
        let opened = S3Anchor::new(&aws, "b", "", days, Arc::new(SystemClock));
        assert!(matches!(opened, Err(AnchorError::Refused { .. })), "{days} days");
    }
}

/// Each request of publishing and examining going wrong once, with no retries by the SDK.
#[tokio::test(flavor = "multi_thread")]
async fn each_call_failing_once_loses_and_doubles_nothing() {
    async fn scenario(anchor: &S3Anchor) -> Result<(), AnchorError> {
        anchor.publish(&note(3, "r")).await?;
        anchor.publish(&note(3, "r")).await?;
        assert!(matches!(
            anchor.publish(&note(3, "other")).await,
            Err(AnchorError::Fork { size: 3, .. } | AnchorError::Other { .. })
        ));
        assert_eq!(anchor.sizes(ORIGIN, 0, 10).await?, [3]);
        assert_eq!(examined(anchor, 3).await.standing, Standing::Held);
        Ok(())
    }
    let (first, script) = (server().await, FaultScript::new());
    scenario(&anchor(&first, &script)).await.unwrap();
    let calls = script.calls().len();
    assert_eq!(calls, 8);
    for fault in [
        Fault::RefuseSend,
        Fault::LoseAnswer,
        Fault::SendTwice,
        Fault::Answer(Answer::s3_conflict()),
        Fault::Answer(Answer::s3_slow_down()),
        Fault::Answer(Answer::too_many_requests()),
        Fault::AnswerAfterEffect(Answer::s3_error(500, "InternalError")),
    ] {
        for nth in 1..=calls {
            let (server, script) = (server().await, FaultScript::new());
            script.at(On::any(), nth as u64, fault.clone());
            let done = scenario(&anchor(&server, &script)).await;
            assert!(done.is_ok(), "{fault:?} at call {nth}: {done:?}");
            assert_eq!(server.versions("b", &key(3)).len(), 1, "{fault:?} at call {nth}");
        }
    }
}

/// Two deployments with one key: the slower one learns that it is a fork.
#[tokio::test(flavor = "multi_thread")]
async fn a_held_publisher_does_not_overwrite_a_faster_one() {
    let (server, script) = (server().await, FaultScript::new());
    let slow = anchor(&server, &script);
    let gate = Gate::new();
    script.at(On::operation("s3", "PutObject"), 1, Fault::HoldBefore(gate.clone()));
    let held = tokio::spawn(async move { slow.publish(&note(3, "slow")).await });
    gate.arrived(1).await;
    let fast = anchor(&server, &FaultScript::new());
    fast.publish(&note(3, "fast")).await.unwrap();
    gate.open();
    let answer = held.await.unwrap();
    assert!(matches!(&answer, Err(AnchorError::Fork { held, .. }) if *held == note(3, "fast")), "{answer:?}");
    assert_eq!(examined(&fast, 3).await.standing, Standing::Held);
}

fn policy_text(floor_days: u32) -> String {
    serde_json::to_string(&policy::create_only("arn:aws:s3:::b", floor_days)).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn with_its_policy_the_bucket_withstands_every_attempt() {
    let server = server().await;
    server.set_policy("b", &policy_text(29));
    let anchor = anchor(&server, &FaultScript::new());
    let trial = anchor.try_to_break(30).await.unwrap();
    assert!(trial.holds(), "{trial:#?}");
    assert_eq!(trial.attempts.len(), 8);
    // The ordinary work is not in its way.
    anchor.publish(&note(3, "r")).await.unwrap();
    anchor.publish(&note(3, "r")).await.unwrap();
    assert_eq!(examined(&anchor, 3).await.standing, Standing::Held);
    // Less than the floor is refused, and the error says what is missing.
    let short = S3Anchor::new(&aws(&server, &FaultScript::new()), "b", "", 7, Arc::new(SystemClock)).unwrap();
    let answer = short.publish(&note(4, "r")).await;
    assert!(
        matches!(&answer, Err(AnchorError::Refused { problem, .. }) if problem.contains("LongEnough")),
        "{answer:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn without_its_policy_the_trial_shows_what_is_open() {
    let server = server().await;
    let trial = anchor(&server, &FaultScript::new()).try_to_break(30).await.unwrap();
    let open: Vec<_> =
        trial.attempts.iter().filter(|attempt| !attempt.refused).map(|attempt| attempt.what).collect();
    assert_eq!(
        open,
        [
            "overwriting it",
            "writing an object under a lock that some may remove",
            "writing an object without a lock",
            "deleting it"
        ]
    );
    // The lock itself holds.
    assert!(trial.survived && !trial.holds());
}

/// What an emulator refuses of it: the lock, but no policy.
#[tokio::test(flavor = "multi_thread")]
async fn the_lock_withstands_on_ministack() {
    let Some(server) = Ministack::start("attempts on a locked object").await else { return };
    let aws = Aws::for_tests(&server.endpoint(), 3, Aws::http()).unwrap();
    let create = client(&aws).create_bucket().bucket("locked").object_lock_enabled_for_bucket(true);
    create.send().await.unwrap();
    let anchor = S3Anchor::new(&aws, "locked", "", 30, Arc::new(SystemClock)).unwrap();
    let trial = anchor.try_to_break(30).await.unwrap();
    assert!(trial.survived, "{trial:#?}");
    for what in [
        "writing it again as a new object",
        "shortening its lock",
        "changing the mode of its lock",
        "deleting its version",
    ] {
        let attempt = trial.attempts.iter().find(|attempt| attempt.what == what).unwrap();
        assert!(attempt.refused, "{attempt:?}");
    }
}

#[test]
fn the_policy_is_what_infra_gets() {
    let value: serde_json::Value = serde_json::from_str(&policy_text(3_649)).unwrap();
    assert_eq!(value["Version"], "2012-10-17");
    let statements = value["Statement"].as_array().unwrap();
    assert!(
        statements.iter().all(|statement| statement["Effect"] == "Deny" && statement["Principal"] == "*")
    );
    assert_eq!(statements[0]["Condition"]["Null"]["s3:if-none-match"], "true");
    assert_eq!(
        statements[4]["Condition"]["NumericLessThan"]["s3:object-lock-remaining-retention-days"],
        "3649"
    );
    for statement in policy::create_only("arn:aws:s3:::b", 1).statement {
        assert!(!statement.reason.is_empty(), "{} has no reason", statement.sid);
    }
}

/// A kept bundle of a real run: its log's checkpoint is published, looked at, and the bundle is verified with that.
#[tokio::test(flavor = "multi_thread")]
async fn a_bundle_becomes_tamper_evident_by_what_the_bucket_shows() {
    use pangolin_audit::{
        bundle::Bundle,
        report::Verdict,
        verify::{Trust, verify_bundle, verify_bundle_live},
    };
    let server = server().await;
    let anchor = anchor(&server, &FaultScript::new());
    let bytes = std::fs::read(SAMPLE).unwrap();
    let bundle = Bundle::parse(&bytes).unwrap();
    let trust = Trust::parse(&bundle.key).unwrap();
    let offline = verify_bundle(&bytes, &trust);
    assert_eq!((offline.verdict, offline.claim), (Verdict::Intact, Some(Claim::TamperDetecting)));
    let absent = check_note(&anchor, &bundle.log.checkpoint, &trust.keys).await.unwrap();
    assert_eq!(verify_bundle_live(&bytes, &trust, &absent).verdict, Verdict::Failed);
    anchor.publish(&bundle.log.checkpoint).await.unwrap();
    let late = check_note(&anchor, &bundle.log.checkpoint, &trust.keys).await.unwrap();
    // The sample is older than this server.
    let live = verify_bundle_live(&bytes, &trust, &late);
    assert_eq!((live.verdict, live.claim), (Verdict::Intact, Some(Claim::TamperDetecting)));
    assert!(live.checks.anchor.detail.contains("hours after"), "{}", live.checks.anchor.detail);
    let in_time = AnchorEvidence { taken_at_ms: Some(0), ..late };
    let live = verify_bundle_live(&bytes, &trust, &in_time);
    assert_eq!((live.verdict, live.claim), (Verdict::Intact, Some(Claim::TamperEvident)));
    assert_eq!(
        (live.anchor_id.as_deref(), live.guarantee.as_deref()),
        (Some("s3:b"), Some("external-immutable"))
    );
    // Somebody hides it: the very same bundle fails.
    let log =
        pangolin_audit::checkpoint::Checkpoint::open(&bundle.log.checkpoint, &bundle.log.origin, &trust.keys)
            .unwrap();
    let key = format!("log/{}/checkpoint/{:020}", Digest::of(bundle.log.origin.as_bytes()).hex(), log.size);
    server.plant_version("b", &key, None);
    let seen = check_note(&anchor, &bundle.log.checkpoint, &trust.keys).await.unwrap();
    let live = verify_bundle_live(&bytes, &trust, &seen);
    assert_eq!((live.verdict, live.claim), (Verdict::Failed, None));
    assert!(live.failure.unwrap().detail.contains("contested"));
}
