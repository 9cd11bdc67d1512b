//! Content-addressed bytes.

use std::path::Path;

use async_trait::async_trait;
use pangolin_core::ids::Digest;
use thiserror::Error;

/// Failures of a blob store.
#[derive(Debug, Error)]
pub enum BlobError {
    /// No blob with this digest.
    #[error("blob {0} is not in the store")]
    NotFound(Digest),
    /// The stored bytes do not hash to their name. They are never returned.
    #[error("blob {expected} is damaged: its bytes hash to {actual}; restore it from a backup")]
    Damaged {
        /// Name of the blob.
        expected: Digest,
        /// What the bytes hash to.
        actual: Digest,
    },
    /// No space left; the store is unchanged.
    #[error("blob store is full while {0}; free space and retry")]
    Full(String),
    /// The blob is larger than the caller allows.
    #[error("blob {digest} has {size} bytes, more than the limit of {limit}")]
    TooLarge {
        /// Name of the blob.
        digest: Digest,
        /// Its size.
        size: u64,
        /// The limit.
        limit: u64,
    },
    /// Anything else, with the path or key in `context`.
    #[error("blob store failed: {context}")]
    Other {
        /// What was tried, naming the file.
        context: String,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// Immutable bytes by SHA-256. Putting the same bytes twice is a no-op. Readers never see half a blob.
#[async_trait]
pub trait BlobStore: Send + Sync {
    /// Stores `bytes`; durable on return.
    async fn put(&self, bytes: &[u8]) -> Result<Digest, BlobError>;

    /// Stores the content of a regular file (symlinks are refused) without holding it in memory; durable on return.
    async fn put_file(&self, path: &Path) -> Result<Digest, BlobError>;

    /// The bytes, verified against the digest on every read, if they are at most `limit` bytes long.
    async fn get(&self, digest: &Digest, limit: u64) -> Result<Vec<u8>, BlobError>;

    /// Copies the verified bytes to a new file at `to` (created with mode 0644, must not exist).
    async fn copy_to(&self, digest: &Digest, to: &Path) -> Result<(), BlobError>;

    /// Size in bytes, or `None` when absent. Does not verify the content.
    async fn size(&self, digest: &Digest) -> Result<Option<u64>, BlobError>;
}
