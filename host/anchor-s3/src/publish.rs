//! Writing.

use aws_sdk_s3::{
    primitives::{ByteStream, DateTime},
    types::ObjectLockMode,
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use pangolin_aws::{CallError, Pauses};
use pangolin_core::ids::Digest;
use pangolin_ports::anchor::{AnchorError, Published, checkpoint_of};

use crate::{S3Anchor, keys, repeats};

const DAY_MS: i64 = 86_400_000;

impl S3Anchor {
    pub(crate) async fn publish_note(&self, note: &str) -> Result<Published, AnchorError> {
        let checkpoint = checkpoint_of(note)?;
        let key = keys::of_checkpoint(&self.prefix, &checkpoint.origin, checkpoint.size);
        let locator = self.locator(&key);
        let mut pauses = Pauses::default();
        loop {
            let Err(error) = self.put_locked(&key, note.as_bytes(), true, self.retention_days).await else {
                return Ok(Published { locator, created: true });
            };
            match error.status() {
                Some(412) => match self.held_now(&key).await? {
                    Some(held) if checkpoint_of(&held).ok().as_ref() == Some(&checkpoint) => {
                        return Ok(Published { locator, created: false });
                    }
                    Some(held) => {
                        let (origin, size) = (checkpoint.origin, checkpoint.size);
                        return Err(AnchorError::Fork { origin, size, locator, held });
                    }
                    // Hidden by a delete marker since.
                    None if pauses.next().await => {}
                    None => return Err(self.failed("publishing", &key, error)),
                },
                _ if repeats(&error) && pauses.next().await => {}
                _ => return Err(self.judged(&key, error)),
            }
        }
    }

    /// One PUT with a lock.
    pub(crate) async fn put_locked(
        &self,
        key: &str,
        bytes: &[u8],
        create_only: bool,
        days: u32,
    ) -> Result<(), CallError> {
        let until_ms = self.clock.now_ms().saturating_add(i64::from(days) * DAY_MS);
        let request = self
            .client
            .put_object()
            .bucket(&self.bucket)
            .key(key)
            .set_if_none_match(create_only.then(|| "*".to_owned()))
            .content_type("text/plain; charset=utf-8")
            .checksum_sha256(STANDARD.encode(Digest::of(bytes).as_bytes()))
            .object_lock_mode(ObjectLockMode::Compliance)
            // Whole seconds, rounded up: never less than was asked for.
            .object_lock_retain_until_date(DateTime::from_secs(
                until_ms.saturating_add(999).div_euclid(1_000),
            ))
            .body(ByteStream::from(bytes.to_vec()));
        request.send().await.map(drop).map_err(CallError::new)
    }

    /// What a reader without a version gets.
    async fn held_now(&self, key: &str) -> Result<Option<String>, AnchorError> {
        let mut pauses = Pauses::default();
        loop {
            let request = self.client.get_object().bucket(&self.bucket).key(key);
            match request.send().await.map_err(CallError::new) {
                Ok(found) => match found.body.collect().await {
                    Ok(bytes) => return Ok(Some(String::from_utf8_lossy(&bytes.to_vec()).into_owned())),
                    Err(_) if pauses.next().await => {}
                    Err(error) => return Err(self.failed("reading", key, error)),
                },
                Err(error) if error.code() == Some("NoSuchKey") => return Ok(None),
                Err(error) if repeats(&error) && pauses.next().await => {}
                Err(error) => return Err(self.failed("reading", key, error)),
            }
        }
    }

    /// Tells a bucket that is not fit for an anchor from trouble.
    fn judged(&self, key: &str, error: CallError) -> AnchorError {
        let about_locks = error.code().is_some_and(|code| code.contains("ObjectLock"));
        match error.status() {
            Some(400) | Some(404) if about_locks || error.code() == Some("InvalidRequest") => {
                self.refused(format!(
                    "{error}; the bucket {} must have been set up with Object Lock and versions",
                    self.bucket
                ))
            }
            Some(403) => self.refused(format!(
                "{error}; needed are s3:PutObject and s3:PutObjectRetention on {}",
                self.locator(key)
            )),
            _ => self.failed("publishing", key, error),
        }
    }
}
