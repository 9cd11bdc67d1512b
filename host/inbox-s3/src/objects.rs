//! The requests.

use std::{error::Error, io, sync::Mutex};

use aws_sdk_s3::{Client, primitives::ByteStream, types::EncodingType};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use pangolin_aws::{Aws, CallError, Pauses, Service};
use pangolin_core::ids::Digest;
use pangolin_ports::inbox::InboxError;
use percent_encoding::percent_decode_str;

/// The random number of a message, in metadata.
const MESSAGE: &str = "pangolin-message";

/// When the sender sent, in metadata: nanoseconds since 1970.
const SENT: &str = "pangolin-sent";

/// Most objects of one listing: 20 requests.
const LISTED_MAX: usize = 20_000;

/// An object below `new`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Listed {
    /// Without the place's prefix.
    pub(crate) name: String,
    pub(crate) size: u64,
    /// Whole seconds since 1970: S3 has no finer ones.
    pub(crate) modified_s: i64,
    pub(crate) etag: String,
}

/// Where an object is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    New,
    Done,
}

/// What an object says about itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Marks {
    /// The number of the message it is or answers.
    pub(crate) message: Option<String>,
    pub(crate) sent_ns: i128,
}

/// Why S3 does not hand an object out, however often it is asked. Its sender chose how it is stored: in an archive, or
/// encrypted with a key that nobody else has.
pub(crate) struct Refusal {
    pub(crate) text: String,
    /// It cannot be for the rights of whoever asks.
    pub(crate) is_of_object: bool,
}

impl Refusal {
    /// `None` when the failure says nothing about the object.
    pub(crate) fn of(error: &InboxError) -> Option<Self> {
        let InboxError::Other { source, .. } = error else { return None };
        let error = source.downcast_ref::<CallError>()?;
        let status = error.status().filter(|status| (400..500).contains(status))?;
        // An absent bucket, and what another try may change.
        if matches!(status, 404 | 408 | 409 | 429) {
            return None;
        }
        let code = error.code().unwrap_or_default();
        // Archived; encrypted with a key that only its sender has (SSE-C).
        let is_of_object = matches!(code, "InvalidObjectState" | "InvalidRequest");
        Some(Self { text: format!("{status} {code}"), is_of_object })
    }
}

/// What became of a create-only write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Created {
    Yes,
    /// Something has the name: another's object, or ours when an answer of S3 was lost.
    Exists,
}

#[derive(Debug)]
pub(crate) struct Objects {
    client: Client,
    bucket: String,
    prefix: String,
    /// Where the next listing begins.
    resume_after: Mutex<Option<String>>,
}

impl Objects {
    pub(crate) fn new(aws: &Aws, bucket: &str, prefix: &str) -> Self {
        use aws_sdk_s3::config::{Builder, RequestChecksumCalculation, ResponseChecksumValidation};
        // Every write has its SHA-256, and S3 checks it before it keeps anything.
        let config = Builder::from(&aws.sdk(Service::S3))
            .force_path_style(aws.path_style())
            .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
            .response_checksum_validation(ResponseChecksumValidation::WhenSupported)
            .build();
        Self {
            client: Client::from_conf(config),
            bucket: bucket.to_owned(),
            prefix: prefix.to_owned(),
            resume_after: Mutex::new(None),
        }
    }

    fn key(&self, place: Place, name: &str) -> String {
        let place = match place {
            Place::New => "new",
            Place::Done => "done",
        };
        format!("{}inbox/{place}/{name}", self.prefix)
    }

    /// For errors and logs.
    pub(crate) fn url(&self, place: Place, name: &str) -> String {
        format!("s3://{}/{}", self.bucket, self.key(place, name))
    }

    fn failed(
        &self,
        doing: &str,
        place: Place,
        name: &str,
        source: impl Error + Send + Sync + 'static,
    ) -> InboxError {
        InboxError::Other { context: format!("{doing} {}", self.url(place, name)), source: Box::new(source) }
    }

    /// Writes an object that must not exist yet. Repeats what may have been lost: the caller knows its object by `marks`.
    pub(crate) async fn create(
        &self,
        place: Place,
        name: &str,
        bytes: &[u8],
        marks: &Marks,
    ) -> Result<Created, InboxError> {
        let checksum = STANDARD.encode(Digest::of(bytes).as_bytes());
        let mut pauses = Pauses::default();
        loop {
            let mut request = self
                .client
                .put_object()
                .bucket(&self.bucket)
                .key(self.key(place, name))
                .if_none_match("*")
                .checksum_sha256(&checksum)
                .body(ByteStream::from(bytes.to_vec()));
            if let Some(message) = &marks.message {
                request = request.metadata(MESSAGE, message);
            }
            if marks.sent_ns != 0 {
                request = request.metadata(SENT, marks.sent_ns.to_string());
            }
            let Err(error) = request.send().await.map_err(CallError::new) else { return Ok(Created::Yes) };
            match error.status() {
                Some(412) => return Ok(Created::Exists),
                _ if repeats(&error) && pauses.next().await => {}
                _ => return Err(self.failed("writing", place, name, error)),
            }
        }
    }

    /// What an object says about itself; `None` when there is none.
    pub(crate) async fn marks(&self, place: Place, name: &str) -> Result<Option<Marks>, InboxError> {
        let mut pauses = Pauses::default();
        loop {
            let request = self.client.head_object().bucket(&self.bucket).key(self.key(place, name));
            match request.send().await.map_err(CallError::new) {
                Ok(found) => return Ok(Some(marks(found.metadata()))),
                Err(error) if error.status() == Some(404) => return Ok(None),
                Err(error) if repeats(&error) && pauses.next().await => {}
                Err(error) => return Err(self.failed("looking at", place, name, error)),
            }
        }
    }

    /// Reads an object; `None` when there is none. More than `limit` bytes are an error.
    pub(crate) async fn read(
        &self,
        place: Place,
        name: &str,
        limit: u64,
    ) -> Result<Option<(Vec<u8>, Marks)>, InboxError> {
        let mut pauses = Pauses::default();
        loop {
            let request = self.client.get_object().bucket(&self.bucket).key(self.key(place, name));
            let found = match request.send().await.map_err(CallError::new) {
                Ok(found) => found,
                Err(error) if error.code() == Some("NoSuchKey") => return Ok(None),
                Err(error) if repeats(&error) && pauses.next().await => continue,
                Err(error) => return Err(self.failed("reading", place, name, error)),
            };
            let size = found.content_length().and_then(|size| u64::try_from(size).ok()).unwrap_or(u64::MAX);
            if size > limit {
                let error = io::Error::other(format!("it has {size} bytes, the limit is {limit}"));
                return Err(self.failed("reading", place, name, error));
            }
            let marks = marks(found.metadata());
            match found.body.collect().await {
                Ok(bytes) => return Ok(Some((bytes.to_vec(), marks))),
                // The connection broke in the middle.
                Err(_) if pauses.next().await => {}
                Err(error) => return Err(self.failed("reading", place, name, error)),
            }
        }
    }

    /// Removes an object, if it is there.
    pub(crate) async fn remove(&self, place: Place, name: &str) -> Result<(), InboxError> {
        let request = self.client.delete_object().bucket(&self.bucket).key(self.key(place, name));
        match request.send().await.map_err(CallError::new) {
            Ok(_) => Ok(()),
            Err(error) if error.status() == Some(404) && error.code() != Some("NoSuchBucket") => Ok(()),
            Err(error) => Err(self.failed("removing", place, name, error)),
        }
    }

    /// The objects below `new`. When there are more than one listing takes, the next one goes on where this one was cut, and
    /// comes round to the front.
    pub(crate) async fn list(&self) -> Result<Vec<Listed>, InboxError> {
        let begin = self.resume().clone();
        let is_from_front = begin.is_none();
        let mut listed = Vec::new();
        let mut cut = self.list_from(begin, &mut listed).await?;
        if cut.is_none() && !is_from_front {
            cut = self.list_from(None, &mut listed).await?;
            listed.sort_by(|left, right| left.name.cmp(&right.name));
            listed.dedup_by(|left, right| left.name == right.name);
        }
        *self.resume() = cut;
        Ok(listed)
    }

    /// Lists at most [`LISTED_MAX`] objects; the name of the last one when more are left.
    async fn list_from(
        &self,
        after: Option<String>,
        listed: &mut Vec<Listed>,
    ) -> Result<Option<String>, InboxError> {
        let prefix = self.key(Place::New, "");
        let before = listed.len();
        let mut start = after.map(|name| self.key(Place::New, &name));
        let mut token = None;
        loop {
            let page = self.page(&prefix, start.take(), token.take()).await?;
            let is_encoded = page.encoding_type() == Some(&EncodingType::Url);
            for object in page.contents() {
                let key = object.key().unwrap_or_default();
                let key = if is_encoded { decoded(key) } else { key.to_owned() };
                let name = key.strip_prefix(&prefix).unwrap_or_default();
                // The place itself, as consoles make it.
                if name.is_empty() {
                    continue;
                }
                listed.push(Listed {
                    name: name.to_owned(),
                    size: object.size().and_then(|size| u64::try_from(size).ok()).unwrap_or(0),
                    modified_s: object.last_modified().map_or(0, aws_sdk_s3::primitives::DateTime::secs),
                    etag: object.e_tag().unwrap_or_default().to_owned(),
                });
            }
            token = page.next_continuation_token().map(str::to_owned);
            if page.is_truncated() != Some(true) || token.is_none() {
                return Ok(None);
            }
            if listed.len() - before >= LISTED_MAX {
                return Ok(listed.last().map(|last| last.name.clone()));
            }
        }
    }

    async fn page(
        &self,
        prefix: &str,
        start_after: Option<String>,
        token: Option<String>,
    ) -> Result<aws_sdk_s3::operation::list_objects_v2::ListObjectsV2Output, InboxError> {
        let mut pauses = Pauses::default();
        loop {
            let request = self
                .client
                .list_objects_v2()
                .bucket(&self.bucket)
                .prefix(prefix)
                // Keys may have characters that XML has not, and nobody could read a listing with one of them.
                .encoding_type(EncodingType::Url)
                .set_start_after(start_after.clone())
                .set_continuation_token(token.clone());
            match request.send().await.map_err(CallError::new) {
                Ok(page) => return Ok(page),
                Err(error) if repeats(&error) && pauses.next().await => {}
                Err(error) => return Err(self.failed("listing", Place::New, "", error)),
            }
        }
    }

    fn resume(&self) -> std::sync::MutexGuard<'_, Option<String>> {
        self.resume_after.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// A key of a listing that was asked to encode them. Blanks are plus signs, as in forms.
fn decoded(key: &str) -> String {
    percent_decode_str(&key.replace('+', " ")).decode_utf8_lossy().into_owned()
}

/// Whether the same request may do better: two conditional writes met, S3 is busy, or nobody knows what happened. The SDK
/// has repeated some of these already; it knows nothing of 409.
fn repeats(error: &CallError) -> bool {
    matches!(error.status(), Some(409 | 429 | 500..))
        || (error.status().is_none() && error.may_have_taken_effect())
}

fn marks(metadata: Option<&std::collections::HashMap<String, String>>) -> Marks {
    let get = |name: &str| metadata.and_then(|metadata| metadata.get(name));
    Marks {
        message: get(MESSAGE).cloned(),
        sent_ns: get(SENT).and_then(|text| text.parse().ok()).unwrap_or(0),
    }
}
