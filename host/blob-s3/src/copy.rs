//! Where the bytes of a read go, and their hash.

use std::{fs::File, io, os::unix::fs::PermissionsExt, path::Path};

use pangolin_core::ids::Digest;
use pangolin_ports::blob_store::BlobError;
use sha2::{Digest as _, Sha256};
use tempfile::NamedTempFile;
use tokio::io::{AsyncSeekExt, AsyncWriteExt};

use crate::file::failed;

/// Takes the bytes of a blob and hashes them.
pub(crate) struct Sink {
    hasher: Sha256,
    size: u64,
    to: Target,
}

enum Target {
    Nothing,
    Memory(Vec<u8>),
    Disk(tokio::fs::File),
}

impl Sink {
    fn to(to: Target) -> Self {
        Self { hasher: Sha256::new(), size: 0, to }
    }

    /// Only hashes.
    pub(crate) fn nothing() -> Self {
        Self::to(Target::Nothing)
    }

    pub(crate) fn memory() -> Self {
        Self::to(Target::Memory(Vec::new()))
    }

    pub(crate) fn disk(file: File) -> Self {
        Self::to(Target::Disk(tokio::fs::File::from_std(file)))
    }

    /// Forgets everything: the read begins again.
    pub(crate) async fn restart(&mut self) -> io::Result<()> {
        self.hasher = Sha256::new();
        self.size = 0;
        match &mut self.to {
            Target::Nothing => {}
            Target::Memory(bytes) => bytes.clear(),
            Target::Disk(file) => {
                file.set_len(0).await?;
                file.rewind().await?;
            }
        }
        Ok(())
    }

    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    pub(crate) async fn write(&mut self, chunk: &[u8]) -> io::Result<()> {
        self.hasher.update(chunk);
        self.size += chunk.len() as u64;
        match &mut self.to {
            Target::Nothing => Ok(()),
            Target::Memory(bytes) => {
                bytes.extend_from_slice(chunk);
                Ok(())
            }
            Target::Disk(file) => file.write_all(chunk).await,
        }
    }

    /// Digest of what was written, and the bytes of a sink in memory.
    pub(crate) async fn finish(self) -> io::Result<(Digest, Vec<u8>)> {
        let digest = Digest::from_bytes(self.hasher.finalize().into());
        match self.to {
            Target::Nothing => Ok((digest, Vec::new())),
            Target::Memory(bytes) => Ok((digest, bytes)),
            Target::Disk(mut file) => {
                file.flush().await?;
                Ok((digest, Vec::new()))
            }
        }
    }
}

/// A file beside the target of a copy: unverified bytes never carry the target's name.
pub(crate) struct Beside(NamedTempFile);

impl Beside {
    pub(crate) fn create(to: &Path) -> Result<Self, BlobError> {
        let parent = to.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let created = tempfile::Builder::new().prefix(".pangolin-copy-").tempfile_in(parent);
        Ok(Self(created.map_err(|error| failed("creating a file in", parent, error))?))
    }

    pub(crate) fn file(&self) -> Result<File, BlobError> {
        self.0.as_file().try_clone().map_err(|error| failed("opening", self.0.path(), error))
    }

    /// Gives it the target's name, if nothing has that yet.
    pub(crate) fn keep(self, to: &Path) -> Result<(), BlobError> {
        let mode = self.0.as_file().set_permissions(PermissionsExt::from_mode(0o644));
        mode.map_err(|error| failed("setting the mode of", to, error))?;
        self.0.persist_noclobber(to).map_err(|error| failed("creating", to, error.error))?;
        Ok(())
    }
}
