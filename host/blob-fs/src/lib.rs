//! [`BlobStore`] on a directory.
//!
//! ```text
//! <dir>/sha256/<first two hex digits>/<all 64 hex digits>   mode 0444
//! <dir>/tmp/put-*                                           being written
//! ```
//! Directories have mode 0700. A blob is written to `tmp`, synced, moved to its name without overwriting and then
//! the directory is synced, so a name always stands for all of its bytes. Any number of processes may share the
//! directory. Leftovers of killed processes in `tmp` are removed when the store is opened.
//!
//! Deliberately not here: deletion (blobs are evidence), compression, and following of symlinks at the end of a path.

mod file;
mod store;
mod temporary;

use std::path::Path;

use async_trait::async_trait;
use pangolin_core::ids::Digest;
use pangolin_ports::blob_store::{BlobError, BlobStore};

use crate::{file::failed, store::Layout};

/// Blobs in a directory.
#[derive(Debug, Clone)]
pub struct FsBlobStore {
    layout: Layout,
}

impl FsBlobStore {
    /// Opens the store in `dir`, creating what is missing. Blocks on disk.
    ///
    /// # Errors
    /// [`BlobError::Other`] or [`BlobError::Full`] naming the path that cannot be created or read.
    pub fn open(dir: impl AsRef<Path>) -> Result<Self, BlobError> {
        let layout = Layout::open(dir.as_ref())?;
        temporary::remove_stale(layout.tmp());
        Ok(Self { layout })
    }

    /// The directory.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.layout.dir()
    }

    /// Runs file work on a thread that may block.
    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Layout) -> Result<T, BlobError> + Send + 'static,
    ) -> Result<T, BlobError> {
        let layout = self.layout.clone();
        let task = tokio::task::spawn_blocking(move || work(&layout));
        task.await.map_err(|error| failed("using", self.dir(), std::io::Error::other(error)))?
    }
}

#[async_trait]
impl BlobStore for FsBlobStore {
    async fn put(&self, bytes: &[u8]) -> Result<Digest, BlobError> {
        let bytes = bytes.to_vec();
        self.run(move |layout| layout.put(&bytes)).await
    }

    async fn put_file(&self, path: &Path) -> Result<Digest, BlobError> {
        let path = path.to_owned();
        self.run(move |layout| layout.put_file(&path)).await
    }

    async fn get(&self, digest: &Digest, limit: u64) -> Result<Vec<u8>, BlobError> {
        let digest = *digest;
        self.run(move |layout| layout.get(digest, limit)).await
    }

    async fn copy_to(&self, digest: &Digest, to: &Path) -> Result<(), BlobError> {
        let (digest, to) = (*digest, to.to_owned());
        self.run(move |layout| layout.copy_to(digest, &to)).await
    }

    async fn size(&self, digest: &Digest) -> Result<Option<u64>, BlobError> {
        let digest = *digest;
        self.run(move |layout| layout.size(digest)).await
    }
}
