//! Objects in S3.

use std::path::Path;

use aws_sdk_s3::{Client, primitives::ByteStream};
use pangolin_aws::{Aws, CallError, Pauses, Service};
use pangolin_core::ids::Digest;
use pangolin_ports::worker_backend::BackendError;
use serde::{Serialize, de::DeserializeOwned};
use sha2::{Digest as _, Sha256};
use tokio::io::AsyncWriteExt;

use crate::{
    error::{failed, io},
    records::RECORD_BYTES_MAX,
};

#[derive(Debug, Clone)]
pub(crate) struct Objects {
    client: Client,
    bucket: String,
}

impl Objects {
    pub(crate) fn new(aws: &Aws, bucket: &str) -> Self {
        use aws_sdk_s3::config::{Builder, RequestChecksumCalculation, ResponseChecksumValidation};
        let config = Builder::from(&aws.sdk(Service::S3))
            .force_path_style(aws.path_style())
            .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
            .response_checksum_validation(ResponseChecksumValidation::WhenRequired)
            .build();
        Self { client: Client::from_conf(config), bucket: bucket.to_owned() }
    }

    fn doing(&self, what: &str, key: &str) -> String {
        format!("{what} s3://{}/{key}", self.bucket)
    }

    /// Reads a record; `None` when there is none. One that cannot be read is an error: nobody but us writes them.
    pub(crate) async fn record<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>, BackendError> {
        let read = self.left(key).await?.transpose();
        read.map_err(|problem| io(self.doing("reading", key))(std::io::Error::other(problem)))
    }

    /// Reads what a worker left; `None` when there is nothing. It can write anything there: `Some(Err(_))` says why that is
    /// nothing to go by.
    pub(crate) async fn left<T: DeserializeOwned>(
        &self,
        key: &str,
    ) -> Result<Option<Result<T, String>>, BackendError> {
        Ok(self.get(key, RECORD_BYTES_MAX).await?.map(|bytes| {
            bytes.and_then(|bytes| serde_json::from_slice(&bytes).map_err(|error| error.to_string()))
        }))
    }

    /// Reads an object; `Some(Err(_))` when it has more than `limit` bytes.
    async fn get(&self, key: &str, limit: u64) -> Result<Option<Result<Vec<u8>, String>>, BackendError> {
        let mut pauses = Pauses::default();
        loop {
            let sent = self.client.get_object().bucket(&self.bucket).key(key).send().await;
            let found = match sent.map_err(CallError::new) {
                Ok(found) => found,
                Err(error) if error.code() == Some("NoSuchKey") => return Ok(None),
                Err(error) => return Err(failed(self.doing("reading", key), error)),
            };
            let size = found.content_length().and_then(|size| u64::try_from(size).ok()).unwrap_or(u64::MAX);
            if size > limit {
                return Ok(Some(Err(format!("it has {size} bytes, the limit is {limit}"))));
            }
            // The SDK does not repeat a read whose body breaks off.
            match found.body.collect().await {
                Ok(body) => return Ok(Some(Ok(body.to_vec()))),
                Err(_) if pauses.next().await => {}
                Err(error) => {
                    return Err(BackendError::Unavailable(format!(
                        "{}: {error}",
                        self.doing("reading", key)
                    )));
                }
            }
        }
    }

    /// Creates an object; `false` when there is one already, perhaps from an earlier try whose answer was lost.
    pub(crate) async fn create(&self, key: &str, record: &impl Serialize) -> Result<bool, BackendError> {
        let bytes = self.text(key, record)?;
        let mut pauses = Pauses::default();
        loop {
            let request = self.client.put_object().bucket(&self.bucket).key(key).if_none_match("*");
            let sent = request.body(ByteStream::from(bytes.clone())).send().await.map_err(CallError::new);
            match sent {
                Ok(_) => return Ok(true),
                Err(error) if error.status() == Some(412) => return Ok(false),
                // Met another writer.
                Err(error) if error.status() == Some(409) && pauses.next().await => {}
                Err(error) => return Err(failed(self.doing("creating", key), error)),
            }
        }
    }

    /// Writes an object, over any other.
    pub(crate) async fn put(&self, key: &str, record: &impl Serialize) -> Result<(), BackendError> {
        let bytes = self.text(key, record)?;
        let sent =
            self.client.put_object().bucket(&self.bucket).key(key).body(ByteStream::from(bytes)).send().await;
        sent.map_err(|error| failed(self.doing("writing", key), CallError::new(error)))?;
        Ok(())
    }

    fn text(&self, key: &str, record: &impl Serialize) -> Result<Vec<u8>, BackendError> {
        serde_json::to_vec(record).map_err(|source| BackendError::Other {
            context: self.doing("writing", key),
            source: Box::new(source),
        })
    }

    pub(crate) async fn delete(&self, key: &str) -> Result<(), BackendError> {
        let sent = self.client.delete_object().bucket(&self.bucket).key(key).send().await;
        sent.map_err(|error| failed(self.doing("deleting", key), CallError::new(error)))?;
        Ok(())
    }

    /// All keys with this prefix, in order.
    pub(crate) async fn list(&self, prefix: &str) -> Result<Vec<String>, BackendError> {
        let mut keys = Vec::new();
        let mut token = None;
        loop {
            let request = self.client.list_objects_v2().bucket(&self.bucket).prefix(prefix);
            let sent = request.set_continuation_token(token).send().await;
            let page = sent.map_err(|error| failed(self.doing("listing", prefix), CallError::new(error)))?;
            keys.extend(page.contents().iter().filter_map(|object| object.key().map(str::to_owned)));
            token = page.next_continuation_token().map(str::to_owned);
            if page.is_truncated() != Some(true) || token.is_none() {
                return Ok(keys);
            }
        }
    }

    /// Reads an object of exactly this size and digest into a new file. `Ok(Err(_))` says why what is there is not it.
    pub(crate) async fn download(
        &self,
        key: &str,
        (digest, size): (Digest, u64),
        to: &Path,
    ) -> Result<Result<(), String>, BackendError> {
        let mut pauses = Pauses::default();
        loop {
            let sent = self.client.get_object().bucket(&self.bucket).key(key).send().await;
            let mut found = match sent.map_err(CallError::new) {
                Ok(found) => found,
                Err(error) if error.code() == Some("NoSuchKey") => {
                    return Ok(Err("it is not there".to_owned()));
                }
                Err(error) => return Err(failed(self.doing("reading", key), error)),
            };
            let mut file =
                tokio::fs::File::create(to).await.map_err(io(format!("create {}", to.display())))?;
            let (mut hasher, mut length) = (Sha256::new(), 0_u64);
            let broken = loop {
                match found.body.next().await {
                    None => break None,
                    Some(Err(error)) => break Some(error),
                    Some(Ok(chunk)) => {
                        length += chunk.len() as u64;
                        if length > size {
                            return Ok(Err(format!("it has more than the {size} bytes of its completion")));
                        }
                        hasher.update(&chunk);
                        file.write_all(&chunk).await.map_err(io(format!("write {}", to.display())))?;
                    }
                }
            };
            if let Some(error) = broken {
                if pauses.next().await {
                    continue;
                }
                return Err(BackendError::Unavailable(format!("{}: {error}", self.doing("reading", key))));
            }
            file.flush().await.map_err(io(format!("write {}", to.display())))?;
            let actual = Digest::from_bytes(hasher.finalize().into());
            if (actual, length) == (digest, size) {
                return Ok(Ok(()));
            }
            return Ok(Err(format!(
                "it has {length} bytes with digest {actual}, its completion says {size} with {digest}"
            )));
        }
    }
}
