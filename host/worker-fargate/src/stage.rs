//! From the directories of a dispatch to objects and a start document.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use pangolin_aws::CallError;
use pangolin_blob_s3::{PresignError, Presigner, S3BlobStore, SignedUrl};
use pangolin_core::ids::Digest;
use pangolin_envelope::{
    envelope::SECRETS_FILE,
    start::{RemoteFile, RemoteLimits, START_VERSION, SignedRequest, StartDocument},
};
use pangolin_ports::{
    blob_store::{BlobError, BlobStore},
    worker_backend::{BackendError, WorkerSpec},
};

use crate::{
    archive,
    config::FargateConfig,
    definition::{STOP_SECONDS_MAX, UPLOAD_SECONDS},
    error::{failed, io as io_failed},
    keys::Keys,
    objects::Objects,
    records::{ARCHIVE, CLAIM, COMPLETION},
};

/// For what happens between two moments that are both bounded: fetching, uploading, clocks that differ.
const SLACK: Duration = Duration::from_secs(900);

/// Longest life of a signed URL: seven days.
const LIFE_MAX: Duration = Duration::from_secs(7 * 24 * 3_600);

/// Largest secrets file.
const SECRETS_BYTES_MAX: u64 = 8 << 20;

pub(crate) struct Stager<'a> {
    pub(crate) config: &'a FargateConfig,
    pub(crate) keys: &'a Keys,
    pub(crate) objects: &'a Objects,
    pub(crate) blobs: &'a S3BlobStore,
    pub(crate) presigner: &'a Presigner,
}

/// How long the worker must be able to upload.
pub(crate) fn upload_life(config: &FargateConfig, spec: &WorkerSpec) -> Result<Duration, String> {
    let limits = &spec.limits;
    let millis = config.start_ms.saturating_add(limits.timeout_ms).saturating_add(limits.grace_ms);
    let life = Duration::from_millis(millis).saturating_add(SLACK);
    if life > LIFE_MAX {
        return Err(format!(
            "with a time limit of {} s its signed URLs would have to live longer than seven days; lower the time limit",
            limits.timeout_ms / 1_000
        ));
    }
    Ok(life)
}

fn request(signed: SignedUrl) -> SignedRequest {
    SignedRequest { url: signed.url, headers: signed.headers }
}

/// Credentials come from a service too, and may be out of reach for a moment.
fn unsigned(error: PresignError) -> BackendError {
    match error {
        PresignError::Sign { key, source } => failed(format!("signing a URL for {key}"), source),
        error @ PresignError::Life(_) => {
            BackendError::Other { context: "sign a URL for the worker".to_owned(), source: Box::new(error) }
        }
    }
}

/// The blob store has one error for all calls that failed; what the call said decides whether it may pass.
fn not_stored(error: BlobError) -> BackendError {
    const DOING: &str = "upload an input of the worker";
    let other = |source| BackendError::Other { context: DOING.to_owned(), source };
    match error {
        BlobError::Other { context, source } => match source.downcast::<CallError>() {
            Ok(call) => failed(format!("{DOING}: {context}"), *call),
            Err(source) => other(Box::new(BlobError::Other { context, source })),
        },
        error => other(Box::new(error)),
    }
}

impl Stager<'_> {
    /// Uploads what is not there yet, writes the start document and answers its URL.
    pub(crate) async fn stage(&self, spec: &WorkerSpec, life: Duration) -> Result<SignedUrl, BackendError> {
        let document = self.document(spec, life).await?;
        let key = self.keys.start(&spec.dispatch);
        // Over one of an earlier try: its URLs may have expired. What it says is the same.
        self.objects.put(&key, &document).await?;
        self.presigner.get(&key, Duration::from_millis(self.config.start_ms)).await.map_err(unsigned)
    }

    async fn document(&self, spec: &WorkerSpec, life: Duration) -> Result<StartDocument, BackendError> {
        let reading = Duration::from_millis(self.config.start_ms) + SLACK;
        let dir = spec.envelope_dir.clone();
        let found = blocking(move || files_of(&dir)).await;
        let found = found.map_err(io_failed(format!("read the envelope directory of {}", spec.dispatch)))?;
        let mut files = Vec::new();
        for (path, place) in found {
            files.push(self.blob(path, &place, reading).await?);
        }
        let workspace = self.workspace(spec, reading).await?;
        let limits = &spec.limits;
        let grace_max = (STOP_SECONDS_MAX - UPLOAD_SECONDS) * 1_000;
        let record = |name: &str| self.keys.record(&spec.dispatch, name);
        let put = async |name: &str| {
            self.presigner.put_new(&record(name), life).await.map(request).map_err(unsigned)
        };
        Ok(StartDocument {
            schema_version: START_VERSION,
            dispatch: spec.dispatch.clone(),
            result_key: spec.result_key.clone(),
            secrets: secrets_of(&spec.envelope_dir)
                .map_err(io_failed(format!("read the secrets of {}", spec.dispatch)))?,
            files,
            workspace,
            limits: RemoteLimits {
                timeout_ms: limits.timeout_ms,
                // ECS kills after the stop timeout, whatever the grace.
                grace_ms: limits.grace_ms.min(grace_max),
                output_bytes: limits.output_bytes,
                archive_bytes: self.config.result_bytes,
            },
            claim: put(CLAIM).await?,
            claim_get: self.presigner.get(&record(CLAIM), reading).await.map(request).map_err(unsigned)?,
            archive: put(ARCHIVE).await?,
            completion: put(COMPLETION).await?,
        })
    }

    async fn blob(&self, path: String, place: &Path, life: Duration) -> Result<RemoteFile, BackendError> {
        let size = fs::metadata(place).map_err(io_failed(format!("look at {}", place.display())))?.len();
        let digest = self.blobs.put_file(place).await.map_err(not_stored)?;
        self.remote(path, digest, size, life).await
    }

    async fn remote(
        &self,
        path: String,
        digest: Digest,
        size: u64,
        life: Duration,
    ) -> Result<RemoteFile, BackendError> {
        let get = self.blobs.presign_get(&digest, life).await.map(request).map_err(unsigned)?;
        Ok(RemoteFile { path, digest, size, get })
    }

    async fn workspace(&self, spec: &WorkerSpec, life: Duration) -> Result<Option<RemoteFile>, BackendError> {
        let dir = spec.workspace_dir.clone();
        let packed = blocking(move || {
            let file = tempfile::NamedTempFile::new()?;
            Ok(archive::pack(&dir, file.reopen()?)?.map(|()| file))
        });
        let packed = packed.await.map_err(io_failed(format!("pack the workspace of {}", spec.dispatch)))?;
        match packed {
            Some(file) => self.blob("workspace.tar".to_owned(), file.path(), life).await.map(Some),
            None => Ok(None),
        }
    }
}

/// Runs file work where it may block.
pub(crate) async fn blocking<T: Send + 'static>(
    act: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    tokio::task::spawn_blocking(act).await.map_err(io::Error::other)?
}

/// All files of the envelope but the secrets, with their paths in it.
fn files_of(dir: &Path) -> io::Result<Vec<(String, PathBuf)>> {
    let mut found = Vec::new();
    let mut next = vec![(String::new(), dir.to_owned())];
    while let Some((before, dir)) = next.pop() {
        for entry in fs::read_dir(dir)? {
            let entry = entry?;
            let name = entry.file_name();
            let Some(name) = name.to_str() else {
                return Err(io::Error::other(format!("the name {name:?} is not UTF-8")));
            };
            let path = format!("{before}{name}");
            let kind = entry.file_type()?;
            if kind.is_dir() {
                next.push((format!("{path}/"), entry.path()));
            } else if !kind.is_file() {
                return Err(io::Error::other(format!("{path:?} is neither a file nor a directory")));
            } else if path != SECRETS_FILE {
                found.push((path, entry.path()));
            }
        }
    }
    found.sort();
    Ok(found)
}

fn secrets_of(dir: &Path) -> io::Result<BTreeMap<String, String>> {
    let file = match File::open(dir.join(SECRETS_FILE)) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
        Err(error) => return Err(error),
    };
    // The error of the parser could quote a value.
    serde_json::from_reader(io::Read::take(file, SECRETS_BYTES_MAX)).map_err(|error| {
        io::Error::other(format!(
            "{SECRETS_FILE} is not a JSON object of strings of at most {SECRETS_BYTES_MAX} bytes (line {}, column {})",
            error.line(),
            error.column()
        ))
    })
}
