//! The project of a stack.

use pangolin_core::ids::Digest;

use crate::names;

/// An archive with configuration, plugins and their native code, as `pangolin_runtime::aws::pack` makes it.
#[derive(Debug, Clone)]
pub struct Project {
    pub(crate) bytes: Vec<u8>,
    digest: Digest,
}

impl Project {
    /// From the bytes of an archive.
    #[must_use]
    pub fn new(bytes: Vec<u8>) -> Self {
        Self { digest: Digest::of(&bytes), bytes }
    }

    /// Its digest, which the stack pins.
    #[must_use]
    pub const fn digest(&self) -> Digest {
        self.digest
    }

    /// Where it goes in the data bucket. Named by content: a new project does not overwrite the one that functions read.
    #[must_use]
    pub fn key(&self) -> String {
        names::project_key(&self.digest.hex())
    }

    /// Its size in bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.bytes.len() as u64
    }
}
