//! [`Anchor`] on an S3 bucket with Object Lock.
//!
//! ```text
//! <prefix>log/<SHA-256 of the origin, hex>/checkpoint/<size, 20 digits>    the signed note
//! ```
//! A note is written with `If-None-Match: *`, its SHA-256, and a lock in mode COMPLIANCE: until the date nobody can delete
//! that version or shorten its lock, the owner of the account included. The bucket's policy ([`policy`]) denies every write
//! without the condition and every deletion, so that a key never gets a second version. Whoever may change the policy can
//! still add versions; they cannot remove the first. So [`Anchor::examine`] lists the versions, and anything but exactly one
//! is *contested*.
//!
//! What the bucket needs: Object Lock (which needs versions), and the policy. Works with any S3 that has both. Rights of a
//! deployment: `s3:PutObject`, `s3:PutObjectRetention`, `s3:GetObject` on `log/*` and `s3:ListBucket`. Rights of an auditor:
//! `s3:ListBucketVersions`, `s3:GetObject`, `s3:GetObjectVersion` and `s3:GetObjectRetention` — S3 does not show a lock to
//! someone without the last one.
//!
//! Deliberately not here: creation of buckets and keys, and what a checkpoint says (`pangolin-audit`).

mod examine;
mod keys;
pub mod policy;
mod publish;
mod trial;

use std::sync::Arc;

use async_trait::async_trait;
use aws_sdk_s3::Client;
use pangolin_audit::note::VerifierKey;
use pangolin_aws::{Aws, CallError, Service};
use pangolin_ports::{
    anchor::{Anchor, AnchorError, AnchorEvidence, Published},
    clock::Clock,
};

pub use trial::{Attempt, Trial};

/// How long checkpoints are held unless it is said otherwise: ten years.
pub const RETENTION_DAYS_DEFAULT: u32 = 3_650;

/// Longest lock that S3 takes: 100 years.
pub const RETENTION_DAYS_MAX: u32 = 36_500;

/// Checkpoints in an S3 bucket with Object Lock. Cheap to clone.
#[derive(Clone)]
pub struct S3Anchor {
    client: Client,
    bucket: String,
    prefix: String,
    id: String,
    /// Before the bucket in locators: `s3:/`, or the endpoint when it is not that of AWS.
    place: String,
    retention_days: u32,
    clock: Arc<dyn Clock>,
}

impl S3Anchor {
    /// Checkpoints in `bucket`, below `prefix` (empty, or as `team-a/`), each locked for `retention_days` from its
    /// publication on. Makes no request.
    ///
    /// # Errors
    /// [`AnchorError::Refused`] when the days are not between 1 and [`RETENTION_DAYS_MAX`].
    pub fn new(
        aws: &Aws,
        bucket: &str,
        prefix: &str,
        retention_days: u32,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, AnchorError> {
        use aws_sdk_s3::config::{Builder, RequestChecksumCalculation, ResponseChecksumValidation};
        let id = format!("s3:{bucket}");
        if !(1..=RETENTION_DAYS_MAX).contains(&retention_days) {
            let problem =
                format!("a lock of {retention_days} days; set between 1 and {RETENTION_DAYS_MAX} days");
            return Err(AnchorError::Refused { anchor: id, problem });
        }
        let config = Builder::from(&aws.sdk(Service::S3))
            .force_path_style(aws.path_style())
            .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
            .response_checksum_validation(ResponseChecksumValidation::WhenSupported)
            .build();
        Ok(Self {
            client: Client::from_conf(config),
            bucket: bucket.to_owned(),
            prefix: prefix.to_owned(),
            id,
            place: aws
                .endpoint(Service::S3)
                .map_or_else(|| "s3:/".to_owned(), |url| url.trim_end_matches('/').to_owned()),
            retention_days,
            clock,
        })
    }

    fn locator(&self, key: &str) -> String {
        format!("{}/{}/{key}", self.place, self.bucket)
    }

    fn failed(
        &self,
        doing: &str,
        key: &str,
        error: impl std::error::Error + Send + Sync + 'static,
    ) -> AnchorError {
        AnchorError::Other { context: format!("{doing} {}", self.locator(key)), source: Box::new(error) }
    }

    fn refused(&self, problem: String) -> AnchorError {
        AnchorError::Refused { anchor: self.id.clone(), problem }
    }
}

/// Whether the same request may do better: conditional writes met, S3 is busy, or nobody knows what happened.
fn repeats(error: &CallError) -> bool {
    matches!(error.status(), Some(409 | 429 | 500..))
        || (error.status().is_none() && error.may_have_taken_effect())
}

#[async_trait]
impl Anchor for S3Anchor {
    fn id(&self) -> &str {
        &self.id
    }

    async fn publish(&self, note: &str) -> Result<Published, AnchorError> {
        self.publish_note(note).await
    }

    async fn sizes(&self, origin: &str, from: u64, limit: usize) -> Result<Vec<u64>, AnchorError> {
        self.list_sizes(origin, from, limit).await
    }

    async fn examine(
        &self,
        origin: &str,
        size: u64,
        keys: &[VerifierKey],
    ) -> Result<AnchorEvidence, AnchorError> {
        self.look_at(origin, size, keys).await
    }
}
