//! [`MemoryBlobStore`].

use std::{collections::HashMap, io, os::unix::fs::MetadataExt, path::Path, sync::Mutex};

use async_trait::async_trait;
use pangolin_core::ids::Digest;
use tokio::io::AsyncWriteExt;

use super::lock;
use crate::blob_store::{BlobError, BlobStore};

/// Blobs in memory.
#[derive(Debug, Default)]
pub struct MemoryBlobStore {
    blobs: Mutex<HashMap<Digest, Vec<u8>>>,
}

impl MemoryBlobStore {
    /// An empty store.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Damages a stored blob: flips a bit, or adds a byte to an empty one. For tests of what happens then.
    /// Answers whether there was such a blob.
    pub fn corrupt(&self, digest: &Digest) -> bool {
        let mut blobs = lock(&self.blobs);
        let Some(bytes) = blobs.get_mut(digest) else { return false };
        match bytes.first_mut() {
            Some(byte) => *byte ^= 1,
            None => bytes.push(0),
        }
        true
    }

    fn verified(&self, digest: &Digest, limit: u64) -> Result<Vec<u8>, BlobError> {
        let bytes = lock(&self.blobs).get(digest).cloned().ok_or(BlobError::NotFound(*digest))?;
        let size = bytes.len() as u64;
        if size > limit {
            return Err(BlobError::TooLarge { digest: *digest, size, limit });
        }
        let actual = Digest::of(&bytes);
        if actual == *digest { Ok(bytes) } else { Err(BlobError::Damaged { expected: *digest, actual }) }
    }
}

fn failed(what: &str, path: &Path, source: io::Error) -> BlobError {
    BlobError::Other { context: format!("{what} {}", path.display()), source: Box::new(source) }
}

#[async_trait]
impl BlobStore for MemoryBlobStore {
    async fn put(&self, bytes: &[u8]) -> Result<Digest, BlobError> {
        let digest = Digest::of(bytes);
        lock(&self.blobs).entry(digest).or_insert_with(|| bytes.to_vec());
        Ok(digest)
    }

    async fn put_file(&self, path: &Path) -> Result<Digest, BlobError> {
        let named =
            tokio::fs::symlink_metadata(path).await.map_err(|error| failed("inspecting", path, error))?;
        if !named.is_file() {
            return Err(failed("storing", path, io::Error::other("not a regular file")));
        }
        let mut file = tokio::fs::File::open(path).await.map_err(|error| failed("opening", path, error))?;
        let opened = file.metadata().await.map_err(|error| failed("inspecting", path, error))?;
        // Somebody may have put a link there in between.
        if (named.dev(), named.ino()) != (opened.dev(), opened.ino()) {
            return Err(failed(
                "storing",
                path,
                io::Error::other("the file was replaced while it was opened"),
            ));
        }
        let mut bytes = Vec::new();
        tokio::io::copy(&mut file, &mut bytes).await.map_err(|error| failed("reading", path, error))?;
        self.put(&bytes).await
    }

    async fn get(&self, digest: &Digest, limit: u64) -> Result<Vec<u8>, BlobError> {
        self.verified(digest, limit)
    }

    async fn copy_to(&self, digest: &Digest, to: &Path) -> Result<(), BlobError> {
        let bytes = self.verified(digest, u64::MAX)?;
        let mut options = tokio::fs::OpenOptions::new();
        let opened = options.write(true).create_new(true).mode(0o644).open(to).await;
        let mut file = opened.map_err(|error| failed("creating", to, error))?;
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o644);
        file.set_permissions(mode).await.map_err(|error| failed("setting the mode of", to, error))?;
        file.write_all(&bytes).await.map_err(|error| failed("writing", to, error))?;
        file.flush().await.map_err(|error| failed("writing", to, error))
    }

    async fn size(&self, digest: &Digest) -> Result<Option<u64>, BlobError> {
        Ok(lock(&self.blobs).get(digest).map(|bytes| bytes.len() as u64))
    }
}
