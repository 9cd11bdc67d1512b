//! The requests.

use std::{
    fs::File,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use aws_sdk_s3::{
    Client, config::timeout::TimeoutConfig, operation::get_object::GetObjectOutput, primitives::ByteStream,
    types::ChecksumMode,
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use pangolin_aws::{CallError, Pauses};
use pangolin_core::ids::Digest;
use pangolin_ports::blob_store::BlobError;

use crate::{
    body,
    copy::{Beside, Sink},
    file,
};

/// Largest blob: what one PUT may carry.
pub const OBJECT_BYTES_MAX: u64 = 5 << 30;

/// From this size on it is asked first whether the blob is there: an upload for nothing costs more than a question.
const ASK_FIRST: u64 = 256 << 10;

/// From this size on an upload may take longer than an answer usually does. The SDK still notices a stalled one.
const SLOW: u64 = 8 << 20;

/// Whether bytes can be sent again.
enum Source<'a> {
    Memory(&'a [u8]),
    File(Arc<File>),
}

/// A bucket with blobs.
#[derive(Debug)]
pub(crate) struct Bucket {
    client: Client,
    name: String,
    prefix: String,
    /// The bucket was seen. HEAD gives the same 404 for an absent object and for an absent bucket.
    seen: AtomicBool,
}

impl Bucket {
    pub(crate) fn new(client: Client, name: &str, prefix: &str) -> Self {
        Self { client, name: name.to_owned(), prefix: prefix.to_owned(), seen: AtomicBool::new(false) }
    }

    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn key(&self, digest: &Digest) -> String {
        let hex = digest.hex();
        format!("{}blobs/sha256/{}/{hex}", self.prefix, &hex[..2])
    }

    fn failed(&self, doing: &str, digest: &Digest, error: CallError) -> BlobError {
        let context = format!("{doing} s3://{}/{}", self.name, self.key(digest));
        // Insufficient storage: servers with disks of their own say so.
        if error.status() == Some(507) {
            return BlobError::Full(context);
        }
        BlobError::Other { context, source: Box::new(error) }
    }

    pub(crate) async fn put(&self, bytes: &[u8]) -> Result<Digest, BlobError> {
        let digest = Digest::of(bytes);
        self.create(&digest, bytes.len() as u64, &Source::Memory(bytes)).await?;
        Ok(digest)
    }

    pub(crate) async fn put_file(&self, path: &Path) -> Result<Digest, BlobError> {
        let named = path.to_owned();
        let hashing = tokio::task::spawn_blocking(move || {
            let failed = |doing: &str, error| file::failed(doing, &named, error);
            let (mut file, size) = file::open_regular(&named).map_err(|error| failed("opening", error))?;
            check_size(size).map_err(|error| failed("storing", error))?;
            let (digest, size) = file::hash(&mut file).map_err(|error| failed("reading", error))?;
            check_size(size).map_err(|error| failed("storing", error))?;
            Ok((file, digest, size))
        });
        let hashed =
            hashing.await.map_err(|error| file::failed("reading", path, std::io::Error::other(error)))?;
        let (file, digest, size) = hashed?;
        self.create(&digest, size, &Source::File(Arc::new(file))).await?;
        Ok(digest)
    }

    async fn create(&self, digest: &Digest, size: u64, source: &Source<'_>) -> Result<(), BlobError> {
        if size >= ASK_FIRST && self.is_there(digest, size).await? {
            return Ok(());
        }
        let mut pauses = Pauses::default();
        loop {
            let body = match source {
                Source::Memory(bytes) => ByteStream::from(bytes.to_vec()),
                Source::File(file) => body::of_file(Arc::clone(file), size),
            };
            let request = self
                .client
                .put_object()
                .bucket(&self.name)
                .key(self.key(digest))
                .if_none_match("*")
                .checksum_sha256(STANDARD.encode(digest.as_bytes()))
                .content_length(i64::try_from(size).unwrap_or(i64::MAX))
                .body(body);
            let sent = if size >= SLOW {
                let patient = TimeoutConfig::builder().disable_read_timeout().build();
                let config = aws_sdk_s3::config::Config::builder().timeout_config(patient);
                request.customize().config_override(config).send().await
            } else {
                request.send().await
            };
            let Err(error) = sent.map_err(CallError::new) else { return Ok(()) };
            match error.status() {
                // There already, from another writer or from an earlier try of ours whose answer was lost.
                Some(412) if self.is_there(digest, size).await? => return Ok(()),
                // Met another writer, or the object went away just now.
                Some(409 | 412) if pauses.next().await => {}
                _ => return Err(self.failed("putting", digest, error)),
            }
        }
    }

    /// Whether the blob is there, with these bytes.
    ///
    /// A damaged one is an error: its name cannot be written again, and who puts bytes must be able to read them back.
    async fn is_there(&self, digest: &Digest, size: u64) -> Result<bool, BlobError> {
        let request = self.client.head_object().bucket(&self.name).key(self.key(digest));
        let found = match request.checksum_mode(ChecksumMode::Enabled).send().await.map_err(CallError::new) {
            Ok(found) => found,
            Err(error) if error.status() == Some(404) => return Ok(false),
            Err(error) => return Err(self.failed("looking at", digest, error)),
        };
        let checksum = STANDARD.encode(digest.as_bytes());
        if found.checksum_sha256() == Some(checksum.as_str()) && length(found.content_length()) == size {
            return Ok(true);
        }
        // Written by other means. Only its bytes can tell.
        let mut sink = Sink::nothing();
        match self.read(digest, u64::MAX, &mut sink).await {
            Err(BlobError::NotFound(_)) => return Ok(false),
            read => read?,
        }
        self.verified(digest, sink).await?;
        Ok(true)
    }

    pub(crate) async fn get(&self, digest: &Digest, limit: u64) -> Result<Vec<u8>, BlobError> {
        let mut sink = Sink::memory();
        self.read(digest, limit, &mut sink).await?;
        self.verified(digest, sink).await
    }

    pub(crate) async fn copy_to(&self, digest: &Digest, to: &Path) -> Result<(), BlobError> {
        let beside = Beside::create(to)?;
        let mut sink = Sink::disk(beside.file()?);
        self.read(digest, u64::MAX, &mut sink).await?;
        self.verified(digest, sink).await?;
        beside.keep(to)
    }

    pub(crate) async fn size(&self, digest: &Digest) -> Result<Option<u64>, BlobError> {
        let request = self.client.head_object().bucket(&self.name).key(self.key(digest));
        match request.send().await.map_err(CallError::new) {
            Ok(found) => {
                self.seen.store(true, Ordering::Relaxed);
                Ok(Some(length(found.content_length())))
            }
            Err(error) if error.status() == Some(404) => {
                self.check_bucket(digest).await?;
                Ok(None)
            }
            Err(error) => Err(self.failed("looking at", digest, error)),
        }
    }

    /// A blob is absent only in a bucket that exists.
    async fn check_bucket(&self, digest: &Digest) -> Result<(), BlobError> {
        if self.seen.load(Ordering::Relaxed) {
            return Ok(());
        }
        let looked = self.client.head_bucket().bucket(&self.name).send().await;
        looked.map_err(|error| self.failed("looking for the bucket of", digest, CallError::new(error)))?;
        self.seen.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// Reads everything into the sink, from the start again when the connection breaks.
    async fn read(&self, digest: &Digest, limit: u64, sink: &mut Sink) -> Result<(), BlobError> {
        let mut pauses = Pauses::default();
        loop {
            let request = self.client.get_object().bucket(&self.name).key(self.key(digest));
            let found = match request.send().await.map_err(CallError::new) {
                Ok(found) => found,
                Err(error) if error.code() == Some("NoSuchKey") => return Err(BlobError::NotFound(*digest)),
                Err(error) => return Err(self.failed("getting", digest, error)),
            };
            let size = length(found.content_length());
            if size > limit {
                return Err(BlobError::TooLarge { digest: *digest, size, limit });
            }
            sink.restart().await.map_err(|error| self.broken(digest, error))?;
            match self.drain(digest, found, size, sink).await {
                Err(Broken::Stream(_)) if pauses.next().await => {}
                Err(Broken::Stream(error) | Broken::Sink(error)) => return Err(self.broken(digest, error)),
                Ok(()) => return Ok(()),
            }
        }
    }

    async fn drain(
        &self,
        digest: &Digest,
        mut found: GetObjectOutput,
        size: u64,
        sink: &mut Sink,
    ) -> Result<(), Broken> {
        while let Some(chunk) = found.body.next().await {
            let chunk = chunk.map_err(|error| Broken::Stream(std::io::Error::other(error)))?;
            sink.write(&chunk).await.map_err(Broken::Sink)?;
        }
        if sink.size() < size {
            let text = format!("{digest} ended after {} of {size} bytes", sink.size());
            return Err(Broken::Stream(std::io::Error::new(std::io::ErrorKind::UnexpectedEof, text)));
        }
        Ok(())
    }

    fn broken(&self, digest: &Digest, error: std::io::Error) -> BlobError {
        let key = format!("s3://{}/{}", self.name, self.key(digest));
        file::failed("reading", Path::new(&key), error)
    }

    async fn verified(&self, digest: &Digest, sink: Sink) -> Result<Vec<u8>, BlobError> {
        let (actual, bytes) = sink.finish().await.map_err(|error| self.broken(digest, error))?;
        if actual == *digest { Ok(bytes) } else { Err(BlobError::Damaged { expected: *digest, actual }) }
    }
}

/// Why a read stopped.
enum Broken {
    Stream(std::io::Error),
    Sink(std::io::Error),
}

fn length(value: Option<i64>) -> u64 {
    value.and_then(|value| u64::try_from(value).ok()).unwrap_or(0)
}

fn check_size(size: u64) -> std::io::Result<()> {
    if size <= OBJECT_BYTES_MAX {
        return Ok(());
    }
    let text = format!("{size} bytes are more than one S3 object takes in one request ({OBJECT_BYTES_MAX})");
    Err(std::io::Error::other(text))
}
