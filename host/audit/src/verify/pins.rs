//! What items are pinned to: every item of the plan and every added one has its pins, a name means in the whole run what
//! it meant first, and manifests name exactly what is pinned. Whether the deployment resolved a name rightly when it did
//! so first is nothing that a bundle can show.
//!
//! Earlier programs wrote version 0 of [`Document`], in which items that were added later could mean something else; such
//! documents are not judged.

use std::collections::BTreeMap;

use pangolin_core::{
    ids::{Digest, ItemId},
    manifest::DispatchManifest,
    pins::{ItemPins, PINS_VERSION, Pins as Document},
    plan::PlanItem,
    state::RunState,
};
use serde::Deserialize;
use serde_json::Value;

use super::{
    findings::{CheckName, Findings},
    objects::{Lookup, Objects},
};

#[derive(Deserialize)]
struct Version {
    #[serde(default)]
    v: u32,
}

/// A document as far as it is needed for the items of the run.
enum Read {
    Judged(Document),
    /// Of version 0.
    Earlier,
    /// Missing, damaged, or no pins; that is reported.
    Unread,
}

/// What was seen of the pins so far.
pub(super) struct Pins<'o> {
    objects: &'o Objects<'o>,
    documents: BTreeMap<Digest, Read>,
    /// What names mean, by kind and name, with the entry that pinned them first.
    known: BTreeMap<(String, String), (Digest, u64)>,
    /// A document of the version that is judged was seen: the run has pins from here on.
    begun: bool,
    /// Items whose pins were judged and that were added.
    pub(super) added: u64,
    /// A document could not be read.
    pub(super) unread: bool,
}

impl<'o> Pins<'o> {
    pub(super) fn new(objects: &'o Objects<'o>) -> Self {
        Self {
            objects,
            documents: BTreeMap::new(),
            known: BTreeMap::new(),
            begun: false,
            added: 0,
            unread: false,
        }
    }

    /// The plan's items are pinned by this document.
    pub(super) fn planned(
        &mut self,
        seq: u64,
        pins: Option<&Digest>,
        state: Option<&RunState>,
        findings: &mut Findings,
    ) {
        let items = state.into_iter().flat_map(RunState::items).map(|item| item.plan);
        if let Some(pins) = pins {
            self.items(seq, pins, items, findings);
        }
    }

    /// These items were added.
    pub(super) fn extended(
        &mut self,
        seq: u64,
        pins: Option<&Digest>,
        items: &[ItemId],
        state: Option<&RunState>,
        findings: &mut Findings,
    ) {
        let Some(pins) = pins else {
            if self.begun {
                let detail = "its items are pinned to nothing, those before are pinned";
                findings.fail(CheckName::Growth, format!("entry seq {seq}"), detail);
            }
            return;
        };
        let added = items.iter().filter_map(|id| Some(state?.item(id)?.plan));
        self.added += self.items(seq, pins, added, findings);
    }

    /// Looks at the pins of items; answers how many there are.
    fn items<'p>(
        &mut self,
        seq: u64,
        digest: &Digest,
        items: impl Iterator<Item = &'p PlanItem>,
        findings: &mut Findings,
    ) -> u64 {
        self.read(seq, digest, findings);
        let document = match self.documents.get(digest) {
            Some(Read::Judged(document)) => document,
            Some(Read::Earlier) if self.begun => {
                let detail = "are of an earlier version than the pins before them";
                findings.fail(CheckName::Growth, place(digest, seq), detail);
                return 0;
            }
            Some(Read::Earlier | Read::Unread) | None => return 0,
        };
        let mut count = 0;
        for item in items {
            count += 1;
            let Some(set) = document.of(&item.id) else {
                let detail = format!("do not say what item {} is pinned to", item.id);
                findings.fail(CheckName::Growth, place(digest, seq), detail);
                continue;
            };
            for (kind, detail) in differing(document, item, set) {
                let detail = format!("item {} is pinned to another {kind} than {detail} means", item.id);
                findings.fail(CheckName::Growth, place(digest, seq), detail);
            }
        }
        count
    }

    /// Reads a document and compares the meaning of its names with what they meant before. Once per document.
    fn read(&mut self, seq: u64, digest: &Digest, findings: &mut Findings) {
        if self.documents.contains_key(digest) {
            return;
        }
        let read = match self.objects.get(digest) {
            Lookup::Bytes(bytes) => parse(&bytes).unwrap_or_else(|problem| {
                match problem {
                    Problem::Newer(v) => {
                        let reason = format!("{} have format version {v}", place(digest, seq));
                        findings.unverifiable.push(reason);
                    }
                    Problem::Malformed(error) => {
                        let detail = format!("are not a list of pins: {error}");
                        findings.fail(CheckName::Growth, place(digest, seq), detail);
                    }
                }
                Read::Unread
            }),
            // Reported by the objects check: as damaged, or as missing.
            Lookup::Damaged | Lookup::Missing => Read::Unread,
        };
        match &read {
            Read::Judged(document) => {
                self.begun = true;
                for (kind, name, meaning) in meanings(document) {
                    let known = self.known.entry((kind.to_owned(), name.to_owned()));
                    let (first, since) = *known.or_insert((meaning, seq));
                    if first != meaning {
                        let detail = format!(
                            "say that {kind} {name:?} is {meaning}, entry seq {since} pinned it to {first}"
                        );
                        findings.fail(CheckName::Growth, place(digest, seq), detail);
                    }
                }
            }
            Read::Earlier => {}
            Read::Unread => self.unread = true,
        }
        self.documents.insert(*digest, read);
    }

    /// An attempt was given what its item is pinned to.
    pub(super) fn fired(
        &self,
        seq: u64,
        manifest: &DispatchManifest,
        state: Option<&RunState>,
        findings: &mut Findings,
    ) {
        let pins = state.and_then(|state| state.pins_of(&manifest.item));
        let Some(Read::Judged(document)) = pins.and_then(|pins| self.documents.get(&pins)) else { return };
        // An item without a set was reported when it came.
        let Some(set) = document.of(&manifest.item) else { return };
        let blocks = set.blocks.iter().map(|block| (&block.name, block.digest));
        let same = [
            ("subagent", manifest.subagent.as_ref() == Some(&set.subagent)),
            ("capabilities", manifest.capabilities == set.capabilities),
            ("env", manifest.env == set.env),
            ("pipeline", manifest.pipeline == set.pipeline),
            ("adapter", manifest.adapter.as_ref() == Some(&set.adapter)),
            ("blocks", manifest.blocks.iter().map(|block| (&block.name, block.digest)).eq(blocks)),
        ];
        for (member, _) in same.iter().filter(|(_, same)| !same) {
            let detail = format!("its {member} is not what item {} is pinned to", manifest.item);
            findings.fail(CheckName::Manifest, format!("manifest of entry seq {seq}"), detail);
        }
    }
}

fn place(digest: &Digest, seq: u64) -> String {
    format!("object {digest} (pins of entry seq {seq})")
}

enum Problem {
    Newer(u32),
    Malformed(serde_json::Error),
}

fn parse(bytes: &[u8]) -> Result<Read, Problem> {
    let Version { v } = serde_json::from_slice(bytes).map_err(Problem::Malformed)?;
    match v {
        0 => Ok(Read::Earlier),
        PINS_VERSION => serde_json::from_slice(bytes).map(Read::Judged).map_err(Problem::Malformed),
        newer => Err(Problem::Newer(newer)),
    }
}

/// Kinds and names with what they mean in a document.
fn meanings(document: &Document) -> impl Iterator<Item = (&str, &str, Digest)> {
    let references = document.known.references.iter().flat_map(|(kind, references)| {
        references.iter().map(|(text, found)| (kind.as_str(), text.as_str(), found.digest))
    });
    let adapters = document.known.adapters.iter().map(|(id, digest)| ("adapter", id.as_str(), *digest));
    let of_sets = document.sets.iter().map(|set| ("adapter", set.adapter.name.as_str(), set.adapter.digest));
    let blocks = document.known.blocks.values().chain(document.sets.iter().flat_map(|set| &set.blocks));
    let blocks = blocks.flat_map(|block| {
        [("block", block.digest), ("grant of block", block.fingerprint)]
            .map(|(kind, meaning)| (kind, block.name.as_str(), meaning))
    });
    references.chain(adapters).chain(of_sets).chain(blocks)
}

/// References in the inputs of an item that its set does not follow, with their kind.
fn differing<'p>(document: &Document, item: &'p PlanItem, set: &ItemPins) -> Vec<(&'static str, &'p Value)> {
    let means = |kind: &str, text: &Value| Some(document.known.reference(kind, text.as_str()?)?.digest);
    let named = |kind: &'static str| item.inputs.get(kind).map(|text| (kind, text));
    let pinned = |kind: &str| match kind {
        "subagent" => Some(set.subagent.digest),
        _ => set.pipeline.as_ref().map(|pipeline| pipeline.digest),
    };
    let followed = |(kind, text): &(&str, &Value)| {
        let meaning = means(kind, text);
        meaning.is_some() && meaning == pinned(kind)
    };
    ["subagent", "pipeline"].into_iter().filter_map(named).filter(|named| !followed(named)).collect()
}
