//! The public suite against the strict S3 of this workspace and against an emulator.

#![expect(clippy::unwrap_used, reason = "helpers of tests may panic")]

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use aws_sdk_s3::Client;
use pangolin_aws::{Aws, Service};
use pangolin_core::ids::Digest;
use pangolin_inbox_s3::{Polling, S3Inbox};
use pangolin_ports::{
    conformance::inbox::{InboxPlace, suite},
    inbox::{Inbox, MESSAGE_BYTES_MAX},
};
use pangolin_s3_fake::{Ministack, S3Fake};

static NUMBER: AtomicU64 = AtomicU64::new(0);

/// Places share a bucket and have a prefix each.
struct Place {
    aws: Aws,
    prefix: String,
}

impl Place {
    fn new(aws: &Aws) -> Self {
        Self { aws: aws.clone(), prefix: format!("p{}/", NUMBER.fetch_add(1, Ordering::Relaxed)) }
    }
}

fn client(aws: &Aws) -> Client {
    use aws_sdk_s3::config::{Builder, RequestChecksumCalculation};
    let config = Builder::from(&aws.sdk(Service::S3)).force_path_style(true);
    Client::from_conf(config.request_checksum_calculation(RequestChecksumCalculation::WhenRequired).build())
}

#[async_trait]
impl InboxPlace for Place {
    async fn open(&self) -> Arc<dyn Inbox> {
        let polling = Polling { first: Duration::from_millis(5), max: Duration::from_millis(100) };
        Arc::new(S3Inbox::new(&self.aws, "inbox", &self.prefix).with_polling(polling))
    }

    async fn plant_unreadable(&self) -> Vec<String> {
        let long = "n".repeat(300);
        let huge = vec![b' '; usize::try_from(MESSAGE_BYTES_MAX).unwrap() + 1];
        for (name, bytes) in [
            ("two words.json", b"{}".to_vec()),
            ("dir/plan", b"{}".to_vec()),
            ("ä<&>", b"{}".to_vec()),
            (&*long, b"{}".to_vec()),
            ("huge", huge),
        ] {
            let key = format!("{}inbox/new/{name}", self.prefix);
            client(&self.aws).put_object().bucket("inbox").key(key).body(bytes.into()).send().await.unwrap();
        }
        // As consoles make a folder: no message, and nothing to complain about.
        let folder = format!("{}inbox/new/", self.prefix);
        client(&self.aws).put_object().bucket("inbox").key(folder).send().await.unwrap();
        let digest = Digest::of(long.as_bytes());
        let mut names: Vec<String> =
            ["%two%20words%2Ejson", "%dir%2Fplan", "%%C3%A4%3C%26%3E", "huge"].map(str::to_owned).to_vec();
        names.push(format!("%{}%-{}", "n".repeat(179), &digest.hex()[..32]));
        names
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn conforms_on_the_strict_fake() {
    let server = S3Fake::start().await.unwrap();
    server.create_bucket("inbox");
    let aws = Aws::for_tests(&server.endpoint(), 3, Aws::http()).unwrap();
    suite(&|| Box::new(Place::new(&aws))).await.assert_passed();
}

/// A deletion leaves a marker there, over which a create-only write succeeds.
#[tokio::test(flavor = "multi_thread")]
async fn conforms_in_a_bucket_with_versions() {
    let server = S3Fake::start().await.unwrap();
    server.create_locked_bucket("inbox");
    let aws = Aws::for_tests(&server.endpoint(), 3, Aws::http()).unwrap();
    suite(&|| Box::new(Place::new(&aws))).await.assert_passed();
}

#[tokio::test(flavor = "multi_thread")]
async fn conforms_on_ministack() {
    let Some(server) = Ministack::start("inbox on S3").await else { return };
    let aws = Aws::for_tests(&server.endpoint(), 3, Aws::http()).unwrap();
    client(&aws).create_bucket().bucket("inbox").send().await.unwrap();
    suite(&|| Box::new(Place::new(&aws))).await.assert_passed();
}
