//! The public suite against the strict S3 of this workspace and against an emulator.

#![expect(clippy::unwrap_used, reason = "helpers of tests may panic")]

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use async_trait::async_trait;
use aws_sdk_s3::Client;
use pangolin_anchor_s3::S3Anchor;
use pangolin_aws::{Aws, Service};
use pangolin_core::ids::Digest;
use pangolin_ports::{
    anchor::{Anchor, Guarantee},
    conformance::anchor::{AnchorPlace, suite},
    memory::SystemClock,
};
use pangolin_s3_fake::{Ministack, S3Fake};

static NUMBER: AtomicU64 = AtomicU64::new(0);

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
impl AnchorPlace for Place {
    async fn open(&self) -> Arc<dyn Anchor> {
        Arc::new(S3Anchor::new(&self.aws, "anchor", &self.prefix, 10, Arc::new(SystemClock)).unwrap())
    }

    /// A write without the condition, which only a bucket without its policy takes.
    async fn tamper(&self, origin: &str, size: u64, note: &str) {
        let log = Digest::of(origin.as_bytes());
        let key = format!("{}log/{}/checkpoint/{size:020}", self.prefix, log.hex());
        let put =
            client(&self.aws).put_object().bucket("anchor").key(key).body(note.as_bytes().to_vec().into());
        put.send().await.unwrap();
    }

    fn guarantee(&self) -> Guarantee {
        Guarantee::ExternalImmutable
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn conforms_on_the_strict_fake() {
    let server = S3Fake::start().await.unwrap();
    server.create_locked_bucket("anchor");
    let aws = Aws::for_tests(&server.endpoint(), 3, Aws::http()).unwrap();
    suite(&|| Box::new(Place::new(&aws))).await.assert_passed();
}

#[tokio::test(flavor = "multi_thread")]
async fn conforms_on_ministack() {
    let Some(server) = Ministack::start("anchor on S3").await else { return };
    let aws = Aws::for_tests(&server.endpoint(), 3, Aws::http()).unwrap();
    let create = client(&aws).create_bucket().bucket("anchor").object_lock_enabled_for_bucket(true);
    create.send().await.unwrap();
    suite(&|| Box::new(Place::new(&aws))).await.assert_passed();
}
