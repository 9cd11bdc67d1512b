//! A blob store that remembers whether it did not answer.
//!
//! At admission everything that is wrong with a plan becomes a finding, and a plan with findings is refused for good. That a store
//! did not answer is wrong with nothing: who watches it can tell the two apart in the end.

use std::{
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use async_trait::async_trait;
use pangolin_core::ids::Digest;
use pangolin_orchestrator::causes::causes;
use pangolin_ports::blob_store::{BlobError, BlobStore};

/// A blob store that is watched.
pub(super) struct Watched {
    inner: Arc<dyn BlobStore>,
    trouble: Mutex<Option<String>>,
}

impl Watched {
    pub(super) fn new(inner: Arc<dyn BlobStore>) -> Arc<Self> {
        Arc::new(Self { inner, trouble: Mutex::default() })
    }

    /// The first failure that may pass: no answer, no space.
    pub(super) fn trouble(&self) -> Option<String> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn note<T>(&self, result: Result<T, BlobError>) -> Result<T, BlobError> {
        if let Err(error @ (BlobError::Other { .. } | BlobError::Full(_))) = &result {
            let mut trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
            trouble.get_or_insert_with(|| causes(error));
        }
        result
    }
}

#[async_trait]
impl BlobStore for Watched {
    async fn put(&self, bytes: &[u8]) -> Result<Digest, BlobError> {
        self.note(self.inner.put(bytes).await)
    }

    async fn put_file(&self, path: &Path) -> Result<Digest, BlobError> {
        self.note(self.inner.put_file(path).await)
    }

    async fn get(&self, digest: &Digest, limit: u64) -> Result<Vec<u8>, BlobError> {
        self.note(self.inner.get(digest, limit).await)
    }

    async fn copy_to(&self, digest: &Digest, to: &Path) -> Result<(), BlobError> {
        self.note(self.inner.copy_to(digest, to).await)
    }

    async fn size(&self, digest: &Digest) -> Result<Option<u64>, BlobError> {
        self.note(self.inner.size(digest).await)
    }
}

#[cfg(test)]
mod tests {
    use pangolin_ports::memory::MemoryBlobStore;

    use super::*;

    struct Silent;

    #[async_trait]
    impl BlobStore for Silent {
        async fn put(&self, _bytes: &[u8]) -> Result<Digest, BlobError> {
            Err(BlobError::Full("putting".to_owned()))
        }
        async fn put_file(&self, _path: &Path) -> Result<Digest, BlobError> {
            Err(BlobError::Full("putting".to_owned()))
        }
        async fn get(&self, _digest: &Digest, _limit: u64) -> Result<Vec<u8>, BlobError> {
            let source = Box::new(std::io::Error::other("no answer"));
            Err(BlobError::Other { context: "getting".to_owned(), source })
        }
        async fn copy_to(&self, digest: &Digest, _to: &Path) -> Result<(), BlobError> {
            Err(BlobError::NotFound(*digest))
        }
        async fn size(&self, _digest: &Digest) -> Result<Option<u64>, BlobError> {
            Ok(None)
        }
    }

    #[tokio::test]
    async fn what_may_pass_is_remembered_and_what_is_an_answer_is_not() {
        let fine = Watched::new(Arc::new(MemoryBlobStore::default()));
        let digest = fine.put(b"x").await.unwrap();
        assert_eq!(fine.get(&digest, 9).await.unwrap(), b"x");
        assert!(matches!(fine.get(&Digest::of(b"y"), 9).await, Err(BlobError::NotFound(_))));
        assert_eq!(fine.trouble(), None);
        let silent = Watched::new(Arc::new(Silent));
        assert!(silent.copy_to(&digest, Path::new("to")).await.is_err());
        assert_eq!((silent.size(&digest).await.unwrap(), silent.trouble()), (None, None));
        assert!(silent.get(&digest, 9).await.is_err());
        assert!(silent.put(b"x").await.is_err());
        assert!(silent.trouble().unwrap().contains("getting: no answer"), "{:?}", silent.trouble());
    }
}
