//! [`BlobStore`] on S3, and pre-signed URLs for workers that hold no credentials.
//!
//! ```text
//! <prefix>blobs/sha256/<first two hex digits>/<all 64 hex digits>
//! ```
//! A blob is one object, written with `If-None-Match: *` and the SHA-256 that S3 checks before it keeps anything: a name
//! stands for all of its bytes and is never written twice. Every read is hashed here again. One PUT carries at most 5 GiB
//! ([`OBJECT_BYTES_MAX`]); there are no multipart uploads, which could not be checked by one SHA-256.
//!
//! Works with any S3 that knows conditional writes. Rights needed: `s3:GetObject`, `s3:PutObject` on the keys and
//! `s3:ListBucket` on the bucket (without it S3 answers 403 and not 404 for an absent blob).
//!
//! Deliberately not here: deletion (blobs are evidence; life-cycle rules are the operator's), and creation of buckets.

mod body;
mod copy;
mod file;
mod presign;
mod store;

use std::{path::Path, sync::Arc, time::Duration};

use async_trait::async_trait;
use aws_sdk_s3::Client;
use pangolin_aws::{Aws, Service};
use pangolin_core::ids::Digest;
use pangolin_ports::blob_store::{BlobError, BlobStore};

pub use presign::{PresignError, Presigner, SignedUrl};
pub use store::OBJECT_BYTES_MAX;

use crate::store::Bucket;

/// Blobs in an S3 bucket. Cheap to clone.
#[derive(Debug, Clone)]
pub struct S3BlobStore {
    bucket: Arc<Bucket>,
}

impl S3BlobStore {
    /// Blobs in `bucket`, below `prefix` (empty, or as `team-a/`). Makes no request.
    #[must_use]
    pub fn new(aws: &Aws, bucket: &str, prefix: &str) -> Self {
        Self { bucket: Arc::new(Bucket::new(client(aws), bucket, prefix)) }
    }

    /// The key of a blob.
    #[must_use]
    pub fn key(&self, digest: &Digest) -> String {
        self.bucket.key(digest)
    }

    /// A URL from which anybody can read the blob for `life`, and nothing else. Whether the blob exists is not asked.
    ///
    /// # Errors
    /// [`PresignError`].
    pub async fn presign_get(&self, digest: &Digest, life: Duration) -> Result<SignedUrl, PresignError> {
        self.presigner().get(&self.key(digest), life).await
    }

    /// Pre-signed URLs for other keys of the same bucket.
    #[must_use]
    pub fn presigner(&self) -> Presigner {
        Presigner::of(self.bucket.client().clone(), self.bucket.name())
    }
}

/// A client without checksums of the SDK's own: every write here has its SHA-256, every read is hashed.
fn client(aws: &Aws) -> Client {
    use aws_sdk_s3::config::{Builder, RequestChecksumCalculation, ResponseChecksumValidation};
    let config = Builder::from(&aws.sdk(Service::S3))
        .force_path_style(aws.path_style())
        .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
        .response_checksum_validation(ResponseChecksumValidation::WhenRequired)
        .build();
    Client::from_conf(config)
}

#[async_trait]
impl BlobStore for S3BlobStore {
    async fn put(&self, bytes: &[u8]) -> Result<Digest, BlobError> {
        self.bucket.put(bytes).await
    }

    async fn put_file(&self, path: &Path) -> Result<Digest, BlobError> {
        self.bucket.put_file(path).await
    }

    async fn get(&self, digest: &Digest, limit: u64) -> Result<Vec<u8>, BlobError> {
        self.bucket.get(digest, limit).await
    }

    async fn copy_to(&self, digest: &Digest, to: &Path) -> Result<(), BlobError> {
        self.bucket.copy_to(digest, to).await
    }

    async fn size(&self, digest: &Digest) -> Result<Option<u64>, BlobError> {
        self.bucket.size(digest).await
    }
}
