//! The dispatch manifest: everything one attempt was given, by reference. Its canonical JSON is stored as a blob
//! before the attempt is fired and `item.fired` carries its digest. No secret values, only names.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{
    entry::Isolation,
    ids::{Digest, DispatchId, ItemId, RunId},
};

/// Version of the manifest format.
pub const MANIFEST_VERSION: u32 = 1;

/// What one attempt was given.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DispatchManifest {
    /// [`MANIFEST_VERSION`].
    pub v: u32,
    /// Run.
    pub run: RunId,
    /// Item.
    pub item: ItemId,
    /// Attempt from 1.
    pub attempt: u32,
    /// Identity.
    pub dispatch: DispatchId,
    /// Configured executor.
    pub executor: String,
    /// Backend kind: `process`, `docker` or `fargate`.
    pub backend: String,
    /// Isolation that was requested.
    pub isolation: Isolation,
    /// Network that was requested: `none` or `host`.
    pub network: String,
    /// Image for containers.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub image: Option<String>,
    /// Registered artifacts by role: the subagent.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub subagent: Option<NamedDigest>,
    /// Capabilities in overlay order.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub capabilities: Vec<NamedDigest>,
    /// Env bundles in merge order.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub env: Vec<NamedDigest>,
    /// Declared pipeline.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub pipeline: Option<NamedDigest>,
    /// Adapter component.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub adapter: Option<NamedDigest>,
    /// Components of the pipeline's plugin blocks, each id once.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub blocks: Vec<NamedDigest>,
    /// Requested model; empty when unset.
    pub model: String,
    /// Products of other items handed in, by key below `inputs/`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty", default)]
    pub inputs: BTreeMap<String, ManifestInput>,
    /// Names of the secrets the attempt may use.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub secret_names: Vec<String>,
    /// Digest of the whole envelope (prompt, input, launch plan, limits), stored as a blob.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub envelope: Option<Digest>,
    /// Commit the workspace starts from.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub base_commit: Option<String>,
    /// Pack with that commit, when the submitter brought it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub base_pack: Option<Digest>,
}

/// A registered artifact as it was resolved.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NamedDigest {
    /// Registered name.
    pub name: String,
    /// Digest of its bytes.
    pub digest: Digest,
}

/// A product of another item.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ManifestInput {
    /// The producing item of the same run.
    pub from: ItemId,
    /// Its bytes; must equal a sealed product of `from`.
    pub digest: Digest,
}
