//! Every request of S3 going wrong once, in every way that S3 has.

#![expect(clippy::unwrap_used, reason = "helpers of tests may panic")]

use std::path::Path;

use pangolin_aws::{
    Aws,
    faults::{Answer, Fault, FaultScript, Gate, On},
};
use pangolin_blob_s3::{OBJECT_BYTES_MAX, S3BlobStore};
use pangolin_core::ids::Digest;
use pangolin_ports::blob_store::{BlobError, BlobStore};
use pangolin_s3_fake::S3Fake;

const LARGE: usize = 300_000;

fn large() -> Vec<u8> {
    (0..LARGE).map(|index| (index % 251) as u8).collect()
}

async fn server() -> S3Fake {
    let server = S3Fake::start().await.unwrap();
    server.create_bucket("b");
    server
}

fn store(server: &S3Fake, script: &FaultScript, attempts: u32) -> S3BlobStore {
    let aws = Aws::for_tests(&server.endpoint(), attempts, script.around(Aws::http())).unwrap();
    S3BlobStore::new(&aws, "b", "")
}

/// Uses every method. Idempotent: a caller that got an error calls again.
async fn scenario(store: &S3BlobStore, dir: &Path) -> Result<(), BlobError> {
    let small = store.put(b"small").await?;
    assert_eq!(store.put(b"small").await?, small);
    let path = dir.join("large");
    std::fs::write(&path, large()).unwrap();
    let digest = store.put_file(&path).await?;
    assert_eq!(digest, Digest::of(&large()));
    assert_eq!(store.get(&small, 5).await?, b"small");
    let copy = dir.join("copy");
    let _ = std::fs::remove_file(&copy);
    store.copy_to(&digest, &copy).await?;
    assert_eq!(std::fs::read(&copy).unwrap(), large());
    assert_eq!(store.size(&digest).await?, Some(LARGE as u64));
    assert_eq!(store.size(&Digest::of(b"absent")).await?, None);
    Ok(())
}

fn faults() -> Vec<Fault> {
    vec![
        Fault::RefuseSend,
        Fault::LoseAnswer,
        Fault::SendTwice,
        Fault::Answer(Answer::s3_conflict()),
        Fault::Answer(Answer::s3_slow_down()),
        Fault::Answer(Answer::too_many_requests()),
        Fault::Answer(Answer::s3_error(500, "InternalError")),
        Fault::AnswerAfterEffect(Answer::s3_error(503, "ServiceUnavailable")),
    ]
}

async fn calls_of_one_scenario() -> usize {
    let (server, script, dir) = (server().await, FaultScript::new(), tempfile::tempdir().unwrap());
    scenario(&store(&server, &script, 1), dir.path()).await.unwrap();
    script.calls().len()
}

/// With the retries of the SDK, and without: then the caller repeats.
#[tokio::test(flavor = "multi_thread")]
async fn each_call_failing_once_loses_and_doubles_nothing() {
    let calls = calls_of_one_scenario().await;
    assert!(calls >= 8, "only {calls} calls");
    for fault in faults() {
        for attempts in [1, 4] {
            for nth in 1..=calls {
                let case = format!("{fault:?} at call {nth} with {attempts} attempts");
                let (server, script, dir) =
                    (server().await, FaultScript::new(), tempfile::tempdir().unwrap());
                let store = store(&server, &script, attempts);
                script.at(On::any(), nth as u64, fault.clone());
                if let Err(error) = scenario(&store, dir.path()).await {
                    // A 409 is repeated by nobody but us, and only where it means a race of writers.
                    assert!(
                        attempts == 1
                            || matches!(&fault, Fault::Answer(answer) if *answer == Answer::s3_conflict() || *answer == Answer::too_many_requests()),
                        "{case}: {error:?}"
                    );
                    scenario(&store, dir.path())
                        .await
                        .unwrap_or_else(|error| panic!("{case}, again: {error:?}"));
                }
                assert_eq!(server.keys("b").len(), 2, "{case}");
                let left = std::fs::read_dir(dir.path()).unwrap().count();
                assert_eq!(left, 2, "{case}: files were left");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_conflict_of_writers_is_repeated() {
    let (server, script) = (server().await, FaultScript::new());
    let store = store(&server, &script, 1);
    script.between(On::operation("s3", "PutObject"), 1, 4, Fault::Answer(Answer::s3_conflict()));
    let digest = store.put(b"x").await.unwrap();
    assert_eq!(script.count(&On::operation("s3", "PutObject")), 5);
    assert_eq!(store.get(&digest, 1).await.unwrap(), b"x");
    script.always(On::operation("s3", "PutObject"), Fault::Answer(Answer::s3_conflict()));
    let text = std::error::Error::source(&store.put(b"y").await.unwrap_err()).unwrap().to_string();
    assert!(text.contains("ConditionalRequestConflict"), "{text}");
}

/// A writer that is held between its question and its write meets one that was faster.
#[tokio::test(flavor = "multi_thread")]
async fn a_slow_writer_finds_the_blob_of_a_faster_one() {
    let (server, script) = (server().await, FaultScript::new());
    let slow = store(&server, &script, 1);
    let gate = Gate::new();
    script.at(On::operation("s3", "PutObject"), 1, Fault::HoldBefore(gate.clone()));
    let held = tokio::spawn(async move { slow.put(&large()).await });
    gate.arrived(1).await;
    let fast = store(&server, &FaultScript::new(), 1);
    let digest = fast.put(&large()).await.unwrap();
    gate.open();
    assert_eq!(held.await.unwrap().unwrap(), digest);
    assert_eq!(server.versions("b", &fast.key(&digest)).len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn putting_what_is_damaged_says_so() {
    let (server, script) = (server().await, FaultScript::new());
    let store = store(&server, &script, 1);
    for bytes in [b"x".to_vec(), large()] {
        let digest = store.put(&bytes).await.unwrap();
        server.plant("b", &store.key(&digest), b"other");
        let put = store.put(&bytes).await;
        assert!(matches!(put, Err(BlobError::Damaged { expected, .. }) if expected == digest), "{put:?}");
    }
    // The right bytes without a checksum, as another tool would leave them.
    let digest = Digest::of(b"by hand");
    server.plant("b", &store.key(&digest), b"by hand");
    assert_eq!(store.put(b"by hand").await.unwrap(), digest);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_changes_while_it_is_sent_is_not_stored() {
    let (server, script) = (server().await, FaultScript::new());
    let store = store(&server, &script, 1);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file");
    std::fs::write(&path, large()).unwrap();
    let gate = Gate::new();
    // The question comes between hashing and sending.
    script.at(On::operation("s3", "HeadObject"), 1, Fault::HoldAfter(gate.clone()));
    let (sender, sent) = (store.clone(), path.clone());
    let sending = tokio::spawn(async move { sender.put_file(&sent).await });
    gate.arrived(1).await;
    std::fs::write(&path, vec![7; LARGE]).unwrap();
    gate.open();
    let put = sending.await.unwrap();
    assert!(
        matches!(&put, Err(BlobError::Other { source, .. }) if source.to_string().contains("BadDigest")),
        "{put:?}"
    );
    assert_eq!(server.keys("b"), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_put_cannot_carry_is_refused_before_it_is_read() {
    let (server, script) = (server().await, FaultScript::new());
    let store = store(&server, &script, 1);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("huge");
    std::fs::File::create(&path).unwrap().set_len(OBJECT_BYTES_MAX + 1).unwrap();
    let put = store.put_file(&path).await;
    assert!(
        matches!(&put, Err(BlobError::Other { source, .. }) if source.to_string().contains("5368709120")),
        "{put:?}"
    );
    assert_eq!(script.calls(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_absent_bucket_is_no_absent_blob() {
    let server = S3Fake::start().await.unwrap();
    let store = store(&server, &FaultScript::new(), 1);
    let digest = Digest::of(b"x");
    for error in [
        store.size(&digest).await.unwrap_err(),
        store.get(&digest, 1).await.unwrap_err(),
        store.put(b"x").await.unwrap_err(),
    ] {
        assert!(
            matches!(&error, BlobError::Other { context, .. } if context.contains("s3://b/blobs/sha256/")),
            "{error:?}"
        );
    }
    let error = store.put(b"x").await.unwrap_err();
    let text = std::error::Error::source(&error).unwrap().to_string();
    assert!(text.contains("NoSuchBucket") && text.contains("check the bucket's name"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_there_is_said_in_words() {
    let aws = Aws::for_tests("http://127.0.0.1:1", 1, Aws::http()).unwrap();
    let error = S3BlobStore::new(&aws, "b", "").put(b"x").await.unwrap_err();
    let text = std::error::Error::source(&error).unwrap().to_string();
    assert!(text.to_lowercase().contains("refused"), "{text}");
}
