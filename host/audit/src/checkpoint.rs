//! C2SP tlog-checkpoint: origin, size and root of a tree as the text of a signed note.
//!
//! The only thing Pangolin ever signs. Extension lines are refused: we write none, and what nobody reads must not be
//! able to hide in a signed text.

use std::{fmt, str::FromStr};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use pangolin_core::ids::Digest;
use thiserror::Error;

use crate::note::{Note, NoteError, SigningKey, VerifierKey};

/// Why a checkpoint is not acceptable.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum CheckpointError {
    /// The text is not a checkpoint.
    #[error("checkpoint is malformed: {0}")]
    Malformed(&'static str),
    /// The signed note around it is not acceptable.
    #[error(transparent)]
    Note(#[from] NoteError),
    /// Signed, but about another tree.
    #[error("checkpoint is of {found:?}, expected {expected:?}")]
    Origin {
        /// Expected origin.
        expected: String,
        /// Origin found.
        found: String,
    },
}

/// A tree head.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// Which tree: the deployment log's origin, or that and `/run/<id>`.
    pub origin: String,
    /// Number of leaves.
    pub size: u64,
    /// RFC 6962 root over them.
    pub root: Digest,
}

impl Checkpoint {
    /// Signs the checkpoint.
    ///
    /// # Errors
    /// [`CheckpointError::Note`] when the origin is empty or holds control characters.
    pub fn sign(&self, key: &SigningKey) -> Result<Note, CheckpointError> {
        if self.origin.is_empty() || self.origin.contains('\n') {
            return Err(CheckpointError::Malformed("the origin is empty or has a line break"));
        }
        Ok(key.sign(&self.to_string())?)
    }

    /// Reads a note, verifies it with `keys` and returns the checkpoint if it is of `origin`.
    ///
    /// # Errors
    /// [`CheckpointError`].
    pub fn open(note: &str, origin: &str, keys: &[VerifierKey]) -> Result<Self, CheckpointError> {
        let note = Note::parse(note)?;
        note.verify(keys)?;
        let checkpoint: Self = note.text().parse()?;
        if checkpoint.origin != origin {
            return Err(CheckpointError::Origin { expected: origin.to_owned(), found: checkpoint.origin });
        }
        Ok(checkpoint)
    }
}

impl fmt::Display for Checkpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { origin, size, root } = self;
        write!(f, "{origin}\n{size}\n{}\n", STANDARD.encode(root.as_bytes()))
    }
}

impl FromStr for Checkpoint {
    type Err = CheckpointError;

    fn from_str(text: &str) -> Result<Self, CheckpointError> {
        let bad = CheckpointError::Malformed;
        let mut lines = text.strip_suffix('\n').ok_or(bad("no final newline"))?.split('\n');
        let (Some(origin), Some(size), Some(root)) = (lines.next(), lines.next(), lines.next()) else {
            return Err(bad("fewer than three lines"));
        };
        if origin.is_empty() {
            return Err(bad("the origin is empty"));
        }
        if lines.next().is_some() {
            return Err(bad("extension lines are not supported"));
        }
        let value: u64 = size.parse().map_err(|_| bad("the second line is not a tree size"))?;
        if value.to_string() != size {
            return Err(bad("the tree size has a sign or leading zeroes"));
        }
        let root = STANDARD.decode(root).ok().and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
        let root = Digest::from_bytes(root.ok_or(bad("the third line is not a base64 SHA-256 root"))?);
        Ok(Self { origin: origin.to_owned(), size: value, root })
    }
}
