//! What a deployment on this machine keeps in S3: blobs and inbox, and the checkpoints of its seals.

use std::sync::Arc;

use pangolin_ports::{anchor::Anchor, blob_store::BlobStore, inbox::Inbox};

#[cfg(feature = "aws")]
use super::Deployment;
use super::RuntimeError;
use crate::config::Config;

#[cfg(feature = "aws")]
impl Deployment {
    /// Clients of the S3 of `[s3]`. Makes no request.
    pub(crate) async fn aws(config: &Config) -> Result<pangolin_aws::Aws, RuntimeError> {
        let s3 = config.s3.clone().unwrap_or_default();
        let settings = pangolin_aws::AwsConfig {
            region: s3.region,
            endpoint_url: s3.endpoint,
            path_style: s3.path_style,
            ..pangolin_aws::AwsConfig::default()
        };
        pangolin_aws::Aws::open(settings)
            .await
            .map_err(|error| RuntimeError::S3 { file: config.file.clone(), problem: error.to_string() })
    }
}

/// Each only where the configuration says so.
#[derive(Default)]
pub(super) struct Outside {
    pub(super) blobs: Option<Arc<dyn BlobStore>>,
    pub(super) inbox: Option<Arc<dyn Inbox>>,
    pub(super) anchor: Option<Arc<dyn Anchor>>,
}

impl Outside {
    /// Makes no request.
    #[cfg(feature = "aws")]
    pub(super) async fn open(config: &Config) -> Result<Self, RuntimeError> {
        use pangolin_anchor_s3::S3Anchor;
        use pangolin_blob_s3::S3BlobStore;
        use pangolin_inbox_s3::S3Inbox;
        use pangolin_ports::memory::SystemClock;

        if config.s3.is_none() && config.anchor.is_none() {
            return Ok(Self::default());
        }
        let s3 = config.s3.clone().unwrap_or_default();
        let aws = Deployment::aws(config).await?;
        let mut outside = Self::default();
        if let Some(bucket) = &s3.bucket {
            outside.blobs = Some(Arc::new(S3BlobStore::new(&aws, bucket, &s3.prefix)));
            outside.inbox = Some(Arc::new(S3Inbox::new(&aws, bucket, &s3.prefix)));
        }
        if let Some(place) = &config.anchor {
            let clock = Arc::new(SystemClock);
            let anchor = S3Anchor::new(&aws, &place.bucket, &place.prefix, place.retention_days, clock)?;
            outside.anchor = Some(Arc::new(anchor));
        }
        Ok(outside)
    }

    /// Refuses a configuration that wants any of it.
    #[cfg(not(feature = "aws"))]
    #[expect(clippy::unused_async, reason = "the one with S3 waits")]
    pub(super) async fn open(config: &Config) -> Result<Self, RuntimeError> {
        match (&config.s3, &config.anchor) {
            (None, None) => Ok(Self::default()),
            _ => Err(RuntimeError::WithoutS3 { file: config.file.clone() }),
        }
    }
}
