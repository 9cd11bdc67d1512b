//! What the plugin blocks of one attempt left as artifacts. Its canonical JSON is stored as a blob and the entry that
//! ends the attempt carries its digest, so the number of artifacts is not bound by the size of an entry.

use serde::{Deserialize, Serialize};

use crate::ids::{Digest, DispatchId};

/// Version of the list format.
pub const ARTIFACT_LIST_VERSION: u32 = 1;

/// Artifacts of one attempt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ArtifactList {
    /// [`ARTIFACT_LIST_VERSION`].
    pub v: u32,
    /// The attempt.
    pub dispatch: DispatchId,
    /// In order of blocks and paths; never empty.
    pub artifacts: Vec<SealedArtifact>,
}

/// One artifact.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SealedArtifact {
    /// Position of its block in the pipeline, from 0.
    pub block: u32,
    /// Id of its plugin in the pipeline.
    pub plugin: String,
    /// Path as the block named it.
    pub path: String,
    /// Digest of the bytes.
    pub digest: Digest,
    /// Size in bytes.
    pub size: u64,
}
