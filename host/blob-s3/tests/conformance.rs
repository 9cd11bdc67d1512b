//! The public suite against the strict S3 of this workspace and against an emulator.

#![expect(clippy::unwrap_used, reason = "helpers of tests may panic")]

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use async_trait::async_trait;
use aws_sdk_s3::Client;
use pangolin_aws::{Aws, Service};
use pangolin_blob_s3::S3BlobStore;
use pangolin_core::ids::Digest;
use pangolin_ports::{
    blob_store::BlobStore,
    conformance::blob_store::{BlobPlace, suite},
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

    fn store(&self) -> S3BlobStore {
        S3BlobStore::new(&self.aws, "blobs", &self.prefix)
    }
}

fn client(aws: &Aws) -> Client {
    let config = aws_sdk_s3::config::Builder::from(&aws.sdk(Service::S3)).force_path_style(true).build();
    Client::from_conf(config)
}

#[async_trait]
impl BlobPlace for Place {
    async fn open(&self) -> Arc<dyn BlobStore> {
        Arc::new(self.store())
    }

    async fn corrupt(&self, digest: &Digest) {
        let store = self.store();
        let mut bytes = store.get(digest, u64::MAX).await.unwrap();
        match bytes.first_mut() {
            Some(byte) => *byte ^= 1,
            None => bytes.push(0),
        }
        // A plain overwrite, with a checksum that fits the damage.
        let put = client(&self.aws).put_object().bucket("blobs").key(store.key(digest)).body(bytes.into());
        let config = aws_sdk_s3::config::Config::builder()
            .request_checksum_calculation(aws_sdk_s3::config::RequestChecksumCalculation::WhenRequired);
        put.customize().config_override(config).send().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn conforms_on_the_strict_fake() {
    let server = S3Fake::start().await.unwrap();
    server.create_bucket("blobs");
    let aws = Aws::for_tests(&server.endpoint(), 3, Aws::http()).unwrap();
    suite(&|| Box::new(Place::new(&aws))).await.assert_passed();
}

#[tokio::test(flavor = "multi_thread")]
async fn conforms_on_ministack() {
    let Some(server) = Ministack::start("blobs on S3").await else { return };
    let aws = Aws::for_tests(&server.endpoint(), 3, Aws::http()).unwrap();
    client(&aws).create_bucket().bucket("blobs").send().await.unwrap();
    suite(&|| Box::new(Place::new(&aws))).await.assert_passed();
}
