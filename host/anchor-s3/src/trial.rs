//! Trying to break a lock, on an object that is there for nothing else.

use aws_sdk_s3::{
    primitives::{ByteStream, DateTime},
    types::{ObjectLockMode, ObjectLockRetention, ObjectLockRetentionMode},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use pangolin_aws::CallError;
use pangolin_core::ids::Digest;
use pangolin_ports::anchor::AnchorError;
use serde::Serialize;

use crate::S3Anchor;

/// One thing that was tried.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Attempt {
    /// What.
    pub what: &'static str,
    /// Whether it was refused, as it must be.
    pub refused: bool,
    /// What S3 said.
    pub answer: String,
}

/// The result of [`S3Anchor::try_to_break`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Trial {
    /// The object it was tried on. It stays until its lock ends.
    pub locator: String,
    /// Attempts.
    pub attempts: Vec<Attempt>,
    /// Whether its first version is still there with its bytes.
    pub survived: bool,
}

impl Trial {
    /// Everything was refused and nothing happened.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.survived && self.attempts.iter().all(|attempt| attempt.refused)
    }
}

const CANARY: &[u8] = b"This object exists to be attacked. It shows that its bucket refuses.\n";

impl S3Anchor {
    /// Writes a locked object below `canary/` and tries everything that must not work: overwriting, deleting, deleting the
    /// version, shortening the lock, changing its mode, and writing with a weaker lock. An emulator that lost the bucket's
    /// lock configuration or policy shows here, and so does a mistake in a template.
    ///
    /// `days` is the lock of the object: the floor of the bucket's policy.
    ///
    /// # Errors
    /// [`AnchorError`] when the object cannot be written or looked at. An attempt that works is not an error but an answer.
    pub async fn try_to_break(&self, days: u32) -> Result<Trial, AnchorError> {
        let key = format!("{}canary/{}", self.prefix, self.clock.now_ms());
        self.put_locked(&key, CANARY, true, days)
            .await
            .map_err(|error| self.refused(format!("writing {}: {error}", self.locator(&key))))?;
        let head = self.client.head_object().bucket(&self.bucket).key(&key).send().await;
        let head = head.map_err(|error| self.failed("looking at", &key, CallError::new(error)))?;
        let version = head.version_id().map(str::to_owned);
        let until = head.object_lock_retain_until_date().copied();
        let mut attempts = Vec::new();
        let mut note = |what, answer: Result<(), CallError>| {
            let refused = matches!(&answer, Err(error) if matches!(error.status(), Some(400..=499)));
            let answer = answer.map_or_else(|error| error.to_string(), |()| "done".to_owned());
            attempts.push(Attempt { what, refused, answer });
        };
        let create_again = self.put_locked(&key, b"other", true, days).await;
        note("writing it again as a new object", create_again);
        note("overwriting it", self.put_locked(&key, b"other", false, days).await);
        let fresh = format!("{key}-weak");
        note("writing an object under a lock that some may remove", self.put_governed(&fresh, days).await);
        note("writing an object without a lock", self.put_plain(&fresh).await);
        let shorter = until.map(|until| DateTime::from_secs(until.secs() - 3_600));
        let compliance = ObjectLockRetentionMode::Compliance;
        note("shortening its lock", self.relock(&key, version.clone(), compliance, shorter).await);
        let governance = ObjectLockRetentionMode::Governance;
        note("changing the mode of its lock", self.relock(&key, version.clone(), governance, until).await);
        let deletion = self.client.delete_object().bucket(&self.bucket).key(&key);
        let by_version = deletion.clone().set_version_id(version.clone()).send().await;
        note("deleting its version", by_version.map(drop).map_err(CallError::new));
        let hiding = deletion.send().await;
        note("deleting it", hiding.map(drop).map_err(CallError::new));
        let read =
            self.client.get_object().bucket(&self.bucket).key(&key).set_version_id(version).send().await;
        let survived = match read {
            Ok(found) => found.body.collect().await.is_ok_and(|bytes| bytes.to_vec() == CANARY),
            Err(_) => false,
        };
        Ok(Trial { locator: self.locator(&key), attempts, survived })
    }

    async fn put_governed(&self, key: &str, days: u32) -> Result<(), CallError> {
        let until = self.clock.now_ms().div_euclid(1_000) + i64::from(days) * 86_400 + 60;
        let request = self
            .client
            .put_object()
            .bucket(&self.bucket)
            .key(key)
            .if_none_match("*")
            .checksum_sha256(STANDARD.encode(Digest::of(CANARY).as_bytes()))
            .object_lock_mode(ObjectLockMode::Governance)
            .object_lock_retain_until_date(DateTime::from_secs(until))
            .body(ByteStream::from_static(CANARY));
        request.send().await.map(drop).map_err(CallError::new)
    }

    async fn put_plain(&self, key: &str) -> Result<(), CallError> {
        let request = self
            .client
            .put_object()
            .bucket(&self.bucket)
            .key(format!("{key}-plain"))
            .if_none_match("*")
            .checksum_sha256(STANDARD.encode(Digest::of(CANARY).as_bytes()))
            .body(ByteStream::from_static(CANARY));
        request.send().await.map(drop).map_err(CallError::new)
    }

    async fn relock(
        &self,
        key: &str,
        version: Option<String>,
        mode: ObjectLockRetentionMode,
        until: Option<DateTime>,
    ) -> Result<(), CallError> {
        let retention = ObjectLockRetention::builder().mode(mode).set_retain_until_date(until).build();
        let request = self
            .client
            .put_object_retention()
            .bucket(&self.bucket)
            .key(key)
            .set_version_id(version)
            .retention(retention)
            // Whoever has that right and asks for it gets past GOVERNANCE, and must not get past COMPLIANCE.
            .bypass_governance_retention(true);
        request.send().await.map(drop).map_err(CallError::new)
    }
}
