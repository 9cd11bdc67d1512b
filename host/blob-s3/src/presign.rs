//! Pre-signed URLs.

use std::{fmt, time::Duration};

use aws_sdk_s3::{
    Client,
    presigning::{PresignedRequest, PresigningConfig},
};
use pangolin_aws::{Aws, CallError};
use thiserror::Error;

/// Longest life of a signature (version 4): seven days.
const LIFE_MAX: Duration = Duration::from_secs(7 * 24 * 3_600);

/// Why there is no URL.
#[derive(Debug, Error)]
pub enum PresignError {
    /// Not between one second and seven days.
    #[error("a signed URL lives between 1 second and 7 days, not {} s", .0.as_secs_f64())]
    Life(Duration),
    /// No credentials to sign with, or a malformed key.
    #[error("signing a URL for {key}")]
    Sign {
        /// Bucket and key.
        key: String,
        /// Why.
        #[source]
        source: CallError,
    },
}

/// A request that anybody may make who has it, until it expires. A secret: `Debug` does not show the URL.
///
/// It also ends when the credentials that signed it do. Those of a Lambda live for hours, so lives of minutes are safe.
#[derive(Clone, PartialEq, Eq)]
pub struct SignedUrl {
    /// The URL with its signature.
    pub url: String,
    /// Headers that are part of the signature: the request must have them as they are.
    pub headers: Vec<(String, String)>,
}

impl fmt::Debug for SignedUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let visible = self.url.split('?').next().unwrap_or_default();
        f.debug_struct("SignedUrl")
            .field("url", &format!("{visible}?…"))
            .field("headers", &self.headers)
            .finish()
    }
}

/// Signs requests about single keys of a bucket. Signing makes no request to S3; it may make one for credentials.
#[derive(Debug, Clone)]
pub struct Presigner {
    client: Client,
    bucket: String,
}

impl Presigner {
    /// For the keys of `bucket`.
    #[must_use]
    pub fn new(aws: &Aws, bucket: &str) -> Self {
        Self::of(crate::client(aws), bucket)
    }

    pub(crate) fn of(client: Client, bucket: &str) -> Self {
        Self { client, bucket: bucket.to_owned() }
    }

    /// Reading an object.
    ///
    /// # Errors
    /// [`PresignError`].
    pub async fn get(&self, key: &str, life: Duration) -> Result<SignedUrl, PresignError> {
        let request = self.client.get_object().bucket(&self.bucket).key(key);
        let signed = request.presigned(life_of(life)?).await;
        signed.map(|signed| taken(&signed)).map_err(|error| self.failed(key, CallError::new(error)))
    }

    /// Creating an object that does not exist yet. The request must carry the header `If-None-Match: *`, which is in
    /// [`SignedUrl::headers`]: without it S3 refuses the signature, with it a second request gets 412.
    ///
    /// # Errors
    /// [`PresignError`].
    pub async fn put_new(&self, key: &str, life: Duration) -> Result<SignedUrl, PresignError> {
        let request = self.client.put_object().bucket(&self.bucket).key(key).if_none_match("*");
        let signed = request.presigned(life_of(life)?).await;
        signed.map(|signed| taken(&signed)).map_err(|error| self.failed(key, CallError::new(error)))
    }

    fn failed(&self, key: &str, source: CallError) -> PresignError {
        PresignError::Sign { key: format!("s3://{}/{key}", self.bucket), source }
    }
}

fn life_of(life: Duration) -> Result<PresigningConfig, PresignError> {
    if life < Duration::from_secs(1) || life > LIFE_MAX {
        return Err(PresignError::Life(life));
    }
    PresigningConfig::expires_in(life).map_err(|_| PresignError::Life(life))
}

fn taken(signed: &PresignedRequest) -> SignedUrl {
    let headers = signed.headers().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    SignedUrl { url: signed.uri().to_owned(), headers }
}
