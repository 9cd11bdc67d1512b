//! The claims of `docs/aws-claims.md` about S3, asked of the strict fake and of ministack. Where ministack is known to be
//! laxer, the test says so and sees that it still is: then the row in that page is right.

#![expect(clippy::unwrap_used, reason = "helpers of tests may panic")]

use aws_sdk_s3::{
    Client,
    config::{Builder, RequestChecksumCalculation},
    operation::put_object::builders::PutObjectFluentBuilder,
    primitives::{ByteStream, DateTime},
    types::{
        BucketVersioningStatus, ChecksumMode, ObjectLockMode, ObjectLockRetention, ObjectLockRetentionMode,
        VersioningConfiguration,
    },
};
use pangolin_aws::{Aws, CallError, Service};
use pangolin_s3_fake::{Ministack, S3Fake};

/// SHA-256 of `x`, and of nothing that is written here.
const RIGHT: &str = "LXEWQrcmsEQBYnyp+6wy9chTD7GQPMTbAiWHF5IaSIE=";
const WRONG: &str = "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=";

/// Some time in the year 2100.
const LATER: i64 = 4_102_444_800;

fn client(endpoint: &str) -> Client {
    let aws = Aws::for_tests(endpoint, 1, Aws::http()).unwrap();
    let config = Builder::from(&aws.sdk(Service::S3)).force_path_style(true);
    Client::from_conf(config.request_checksum_calculation(RequestChecksumCalculation::WhenRequired).build())
}

struct Asked {
    client: Client,
    /// Whether the server is strict where ministack is not.
    strict: bool,
}

impl Asked {
    fn put(&self, bucket: &str, key: &str) -> PutObjectFluentBuilder {
        self.client.put_object().bucket(bucket).key(key).body(ByteStream::from_static(b"x"))
    }

    async fn status(&self, put: PutObjectFluentBuilder) -> u16 {
        match put.send().await.map_err(CallError::new) {
            Ok(_) => 200,
            Err(error) => error.status().unwrap_or(0),
        }
    }

    /// AWS and the fake refuse with this status; ministack is known to accept.
    async fn refused_by_strict(&self, put: PutObjectFluentBuilder, status: u16, what: &str) {
        let expected = if self.strict { status } else { 200 };
        assert_eq!(self.status(put).await, expected, "{what}, strict: {}", self.strict);
    }
}

async fn plain(asked: &Asked) {
    let Asked { client, .. } = asked;
    // Create-only, also over a marker; opaque answers to HEAD.
    let new = || asked.put("plain", "k").if_none_match("*");
    assert_eq!(asked.status(new().metadata("pangolin-message", "m").checksum_sha256(RIGHT)).await, 200);
    assert_eq!(asked.status(new()).await, 412);
    let absent =
        client.head_object().bucket("plain").key("absent").send().await.map_err(CallError::new).unwrap_err();
    assert_eq!(absent.status(), Some(404));
    let bucket = client.head_object().bucket("no-such-bucket").key("k").send().await.map_err(CallError::new);
    assert_eq!(bucket.unwrap_err().status(), Some(404));
    let get =
        client.get_object().bucket("plain").key("absent").send().await.map_err(CallError::new).unwrap_err();
    assert_eq!(get.code(), Some("NoSuchKey"));
    let get = client.get_object().bucket("no-such-bucket").key("k").send().await.map_err(CallError::new);
    assert_eq!(get.unwrap_err().code(), Some("NoSuchBucket"));
    client.delete_object().bucket("plain").key("absent").send().await.unwrap();
    // Checksums and metadata.
    let head =
        client.head_object().bucket("plain").key("k").checksum_mode(ChecksumMode::Enabled).send().await;
    let head = head.unwrap();
    assert_eq!(head.checksum_sha256(), Some(RIGHT));
    assert_eq!(head.metadata().unwrap().get("pangolin-message").map(String::as_str), Some("m"));
    assert_eq!(asked.status(asked.put("plain", "bad").checksum_sha256(WRONG)).await, 400);
    assert!(client.head_object().bucket("plain").key("bad").send().await.is_err(), "a bad upload was kept");
    // Listings: by name, whole seconds.
    for key in ["l/b", "l/a", "l/c"] {
        assert_eq!(asked.status(asked.put("plain", key)).await, 200);
    }
    let page = client.list_objects_v2().bucket("plain").prefix("l/").max_keys(2).send().await.unwrap();
    let keys: Vec<_> = page.contents().iter().filter_map(|object| object.key()).collect();
    assert_eq!((keys, page.is_truncated()), (vec!["l/a", "l/b"], Some(true)));
    // ministack is finer.
    let whole = page.contents().iter().all(|object| object.last_modified().unwrap().subsec_nanos() == 0);
    assert!(whole || !asked.strict);
    let rest = client.list_objects_v2().bucket("plain").prefix("l/").start_after("l/b").send().await.unwrap();
    assert_eq!(rest.contents().iter().filter_map(|object| object.key()).collect::<Vec<_>>(), ["l/c"]);
    // A lock needs a bucket for it.
    let locked =
        asked.put("plain", "locked").checksum_sha256(RIGHT).object_lock_mode(ObjectLockMode::Compliance);
    assert_eq!(asked.status(locked.object_lock_retain_until_date(DateTime::from_secs(LATER))).await, 400);
}

async fn locked(asked: &Asked) {
    let Asked { client, .. } = asked;
    let lock = |key: &str, until: i64| {
        asked
            .put("locked", key)
            .object_lock_mode(ObjectLockMode::Compliance)
            .object_lock_retain_until_date(DateTime::from_secs(until))
    };
    assert_eq!(asked.status(lock("k", LATER).if_none_match("*").checksum_sha256(RIGHT)).await, 200);
    asked.refused_by_strict(lock("no-checksum", LATER), 400, "a lock without checksum").await;
    asked
        .refused_by_strict(lock("past", 1_000_000_000).checksum_sha256(RIGHT), 400, "a date in the past")
        .await;
    let half =
        asked.put("locked", "half").checksum_sha256(RIGHT).object_lock_mode(ObjectLockMode::Compliance);
    asked.refused_by_strict(half, 400, "a mode without a date").await;
    let head = client.head_object().bucket("locked").key("k").send().await.unwrap();
    assert_eq!(head.object_lock_mode(), Some(&ObjectLockMode::Compliance));
    assert_eq!(head.object_lock_retain_until_date().unwrap().secs(), LATER);
    let version = head.version_id().unwrap().to_owned();
    // Neither deleted nor weakened.
    let by_version = client.delete_object().bucket("locked").key("k").version_id(&version);
    let refused =
        by_version.bypass_governance_retention(true).send().await.map_err(CallError::new).unwrap_err();
    assert_eq!(refused.status(), Some(403));
    for (mode, until) in
        [(ObjectLockRetentionMode::Compliance, LATER - 1), (ObjectLockRetentionMode::Governance, LATER + 1)]
    {
        let retention =
            ObjectLockRetention::builder().mode(mode).retain_until_date(DateTime::from_secs(until)).build();
        let put = client.put_object_retention().bucket("locked").key("k").version_id(&version);
        let answer = put.retention(retention).bypass_governance_retention(true).send().await;
        assert_eq!(answer.map_err(CallError::new).unwrap_err().status(), Some(403));
    }
    // A marker hides it, the condition takes that for absence, and all versions can be listed.
    client.delete_object().bucket("locked").key("k").send().await.unwrap();
    let hidden =
        client.get_object().bucket("locked").key("k").send().await.map_err(CallError::new).unwrap_err();
    assert_eq!(hidden.code(), Some("NoSuchKey"));
    assert_eq!(asked.status(lock("k", LATER).if_none_match("*").checksum_sha256(RIGHT)).await, 200);
    let listed = client.list_object_versions().bucket("locked").prefix("k").send().await.unwrap();
    assert_eq!((listed.versions().len(), listed.delete_markers().len()), (2, 1));
    assert_eq!(listed.versions()[1].version_id(), Some(&*version), "the oldest comes last");
    // Versioning stays on.
    let suspended = VersioningConfiguration::builder().status(BucketVersioningStatus::Suspended).build();
    let put =
        client.put_bucket_versioning().bucket("locked").versioning_configuration(suspended).send().await;
    match put.map_err(CallError::new) {
        Ok(_) => assert!(!asked.strict, "versioning was suspended"),
        Err(error) => assert_eq!((error.status(), asked.strict), (Some(409), true)),
    }
}

async fn all(asked: &Asked) {
    asked.client.create_bucket().bucket("plain").send().await.unwrap();
    let create = asked.client.create_bucket().bucket("locked").object_lock_enabled_for_bucket(true);
    create.send().await.unwrap();
    plain(asked).await;
    locked(asked).await;
}

#[tokio::test]
async fn the_strict_fake_behaves_as_claimed() {
    let server = S3Fake::start().await.unwrap();
    all(&Asked { client: client(&server.endpoint()), strict: true }).await;
}

#[tokio::test]
async fn ministack_behaves_as_claimed() {
    let Some(server) = Ministack::start("claims about S3").await else { return };
    all(&Asked { client: client(&server.endpoint()), strict: false }).await;
}
