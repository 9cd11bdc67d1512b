//! What items are pinned to: every reference resolved to a digest. Its canonical JSON is stored as a blob when a run is
//! admitted or extended; `run.submitted` and `run.extended` carry its digest.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{
    ids::{Digest, ItemId},
    manifest::NamedDigest,
};

/// Version of the format: what names mean is cumulative, components included.
pub const PINS_VERSION: u32 = 1;

/// Resolved references of the items that came with one entry. Items with equal references share one set, so that a plan
/// of 100,000 items stays small.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pins {
    /// [`PINS_VERSION`]; 0 when an earlier program wrote it.
    #[serde(default)]
    pub v: u32,
    /// Distinct sets of references.
    pub sets: Vec<ItemPins>,
    /// Position in `sets` by item id.
    pub items: BTreeMap<String, usize>,
    /// Pack of the base commit, when the submitter brought it; only of the plan.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub base_pack: Option<Digest>,
    /// What names mean in the run from here on: items that are added later mean the same.
    #[serde(flatten)]
    pub known: Known,
}

impl Pins {
    /// The references of an item.
    #[must_use]
    pub fn of(&self, item: &ItemId) -> Option<&ItemPins> {
        self.sets.get(*self.items.get(item.as_str())?)
    }
}

/// Resolved references of one item.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ItemPins {
    /// Subagent.
    pub subagent: NamedDigest,
    /// Capabilities in overlay order.
    pub capabilities: Vec<NamedDigest>,
    /// Env bundles in merge order.
    pub env: Vec<NamedDigest>,
    /// Declared pipeline.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub pipeline: Option<NamedDigest>,
    /// Adapter component.
    pub adapter: NamedDigest,
    /// Components of the pipeline's plugin blocks.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub blocks: Vec<BlockPin>,
}

/// One plugin of a pipeline as it was when the run was admitted.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct BlockPin {
    /// Id in the pipeline.
    pub name: String,
    /// Component.
    pub digest: Digest,
    /// Fingerprint of the grant in force then.
    pub fingerprint: Digest,
}

/// Names with their meaning. Part of the stored pins, where it is cumulative: what the plan and every earlier extension
/// brought in is in the newest document, so that one document is enough to go on from.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Known {
    /// References of items and of spawn templates in their inputs, by kind (`capability`, `subagent`, `env`, `pipeline`).
    #[serde(skip_serializing_if = "BTreeMap::is_empty", default)]
    pub references: BTreeMap<String, BTreeMap<String, NamedDigest>>,
    /// Adapter components by id.
    #[serde(skip_serializing_if = "BTreeMap::is_empty", default)]
    pub adapters: BTreeMap<String, Digest>,
    /// Plugin blocks by id.
    #[serde(skip_serializing_if = "BTreeMap::is_empty", default)]
    pub blocks: BTreeMap<String, BlockPin>,
}

impl Known {
    /// The meaning of a reference.
    #[must_use]
    pub fn reference(&self, kind: &str, reference: &str) -> Option<&NamedDigest> {
        self.references.get(kind)?.get(reference)
    }

    /// Takes over what older pins say about names that are not known yet: the first meaning wins.
    pub fn learn(&mut self, pins: Pins) {
        let Self { references, adapters, blocks } = pins.known;
        for (kind, references) in references {
            let known = self.references.entry(kind).or_default();
            for (reference, found) in references {
                known.entry(reference).or_insert(found);
            }
        }
        // Before version 1 components were only in the sets.
        for ItemPins { adapter, blocks, .. } in pins.sets {
            self.adapters.entry(adapter.name).or_insert(adapter.digest);
            for block in blocks {
                self.blocks.entry(block.name.clone()).or_insert(block);
            }
        }
        for (id, digest) in adapters {
            self.adapters.entry(id).or_insert(digest);
        }
        for (id, block) in blocks {
            self.blocks.entry(id).or_insert(block);
        }
    }
}
