//! Which objects a run's entries refer to, and how badly each of them is needed.

use std::collections::BTreeMap;

use pangolin_core::{
    artifacts::ArtifactList,
    entry::{Entry, EntryBody, Evidence},
    ids::Digest,
    manifest::DispatchManifest,
};

/// Objects larger than this are listed as external, unless the record is incomplete without their bytes.
pub const OBJECT_BYTES_MAX: usize = 1 << 20;

/// Components that decided are embedded up to this size (20 MiB): everything that a plugin host accepts without its
/// operator's leave, interpreters of other languages included.
pub const COMPONENT_BYTES_MAX: usize = 20 << 20;

/// What a referenced object is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Something a manifest names: envelope, artifact, adapter, input.
    ManifestPart,
    /// A component that the run is bound to (pattern), whether it was asked or not.
    Component,
    /// An output file.
    Output,
    /// An artifact of a plugin block.
    Artifact,
    /// A worker's event stream.
    Events,
    /// An agent's transcript.
    Transcript,
    /// A patch.
    Patch,
    /// A result record.
    Result,
    /// A component that decided (pattern): whoever wants to repeat a decision needs it.
    Decider,
    /// A dispatch manifest.
    Manifest,
    /// The list of artifacts of an attempt.
    ArtifactList,
    /// Parameters of the pattern.
    Params,
    /// What a pattern decided in one step.
    Decisions,
    /// Items added to the run.
    Items,
    /// The list of artifacts the run or added items are pinned to.
    Pins,
    /// The plan as the pattern amended it.
    Graph,
    /// The plan as submitted.
    Plan,
}

/// How much a bundle needs an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// Its bytes must be in the bundle; without them the record is incomplete.
    Embedded,
    /// In the bundle, or listed as external with its size.
    Listed,
    /// May be there.
    Optional,
}

impl Role {
    /// How much a bundle needs objects of this role.
    #[must_use]
    pub const fn need(self) -> Need {
        match self {
            Self::Plan
            | Self::Graph
            | Self::Pins
            | Self::Items
            | Self::Decisions
            | Self::Params
            | Self::ArtifactList
            | Self::Manifest => Need::Embedded,
            Self::Decider
            | Self::Result
            | Self::Patch
            | Self::Transcript
            | Self::Events
            | Self::Artifact
            | Self::Output => Need::Listed,
            Self::Component | Self::ManifestPart => Need::Optional,
        }
    }

    /// Largest object of this role that is embedded, in bytes; larger ones are listed as external. `None`: always
    /// embedded.
    #[must_use]
    pub const fn embed_bytes_max(self) -> Option<usize> {
        match (self, self.need()) {
            (_, Need::Embedded) => None,
            (Self::Decider, _) => Some(COMPONENT_BYTES_MAX),
            (_, Need::Listed | Need::Optional) => Some(OBJECT_BYTES_MAX),
        }
    }

    /// Name for messages.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ManifestPart => "part of a manifest",
            Self::Component => "component",
            Self::Output => "output",
            Self::Artifact => "artifact of a block",
            Self::ArtifactList => "artifact list",
            Self::Events => "event stream",
            Self::Transcript => "transcript",
            Self::Patch => "patch",
            Self::Result => "result record",
            Self::Decider => "component that decided",
            Self::Params => "parameters",
            Self::Decisions => "decisions",
            Self::Graph => "amended plan",
            Self::Manifest => "manifest",
            Self::Items => "added items",
            Self::Pins => "pins",
            Self::Plan => "plan",
        }
    }
}

/// Referenced digests with their most demanding role and the first entry that refers to them so.
#[derive(Debug, Clone, Default)]
pub(crate) struct References {
    by_digest: BTreeMap<Digest, (Role, u64)>,
}

impl References {
    fn add(&mut self, digest: Digest, role: Role, seq: u64) {
        let known = self.by_digest.entry(digest).or_insert((role, seq));
        if role > known.0 {
            *known = (role, seq);
        }
    }

    /// Adds what an entry refers to.
    pub(crate) fn add_entry(&mut self, entry: &Entry) {
        let seq = entry.seq;
        let mut add = |digest: Option<Digest>, role| {
            if let Some(digest) = digest {
                self.add(digest, role, seq);
            }
        };
        match &entry.body {
            EntryBody::RunSubmitted(submitted) => {
                add(Some(submitted.plan), Role::Plan);
                add(submitted.pins, Role::Pins);
                add(submitted.pattern, Role::Component);
                add(submitted.pattern_params, Role::Params);
                add(submitted.graph, Role::Graph);
            }
            EntryBody::ItemFired { manifest, .. } => add(*manifest, Role::Manifest),
            EntryBody::ItemOutputs { outputs, .. } => {
                for digest in outputs.values() {
                    add(Some(*digest), Role::Output);
                }
            }
            EntryBody::ItemReconciled { evidence, .. } | EntryBody::ItemRetried { evidence, .. } => {
                let Evidence { result, patch, outputs, block_artifacts, events, transcript, .. } =
                    &**evidence;
                add(*block_artifacts, Role::ArtifactList);
                add(*result, Role::Result);
                add(*patch, Role::Patch);
                add(*events, Role::Events);
                add(*transcript, Role::Transcript);
                for digest in outputs.values() {
                    add(Some(*digest), Role::Output);
                }
            }
            EntryBody::RunExtended { document, plugin, pins, .. } => {
                add(*pins, Role::Pins);
                add(Some(*document), Role::Items);
                add(*plugin, Role::Component);
            }
            EntryBody::PatternDecided(record) => {
                add(Some(record.decisions), Role::Decisions);
                add(Some(record.component), Role::Decider);
            }
            EntryBody::PatternMoved { from, to, .. } => {
                add(Some(*from), Role::Component);
                // The entry claims that it gave the same answers: to check that, one needs it.
                add(Some(*to), Role::Decider);
            }
            // It follows a record, which names the component as the decider.
            EntryBody::ItemTolerated { plugin, .. } => add(Some(*plugin), Role::Component),
            EntryBody::ItemSkipped { .. }
            | EntryBody::ItemDenied { .. }
            | EntryBody::ItemCancelled { .. }
            | EntryBody::RunCancelled {}
            | EntryBody::RunClosed {}
            | EntryBody::RunCompleted { .. } => {}
        }
    }

    /// Adds what a manifest refers to; `seq` is the entry that names the manifest.
    pub(crate) fn add_manifest(&mut self, manifest: &DispatchManifest, seq: u64) {
        let DispatchManifest {
            subagent, capabilities, env, pipeline, adapter, blocks, inputs, envelope, ..
        } = manifest;
        let artifacts =
            subagent.iter().chain(capabilities).chain(env).chain(pipeline).chain(adapter).chain(blocks);
        let parts =
            artifacts.map(|artifact| artifact.digest).chain(inputs.values().map(|input| input.digest));
        for digest in parts.chain(*envelope) {
            self.add(digest, Role::ManifestPart, seq);
        }
    }

    /// Adds what a list of artifacts refers to; `seq` is the entry that names the list.
    pub(crate) fn add_artifacts(&mut self, list: &ArtifactList, seq: u64) {
        for artifact in &list.artifacts {
            self.add(artifact.digest, Role::Artifact, seq);
        }
    }

    /// Role of a digest and the entry that refers to it.
    pub(crate) fn get(&self, digest: &Digest) -> Option<(Role, u64)> {
        self.by_digest.get(digest).copied()
    }

    /// All of them, by digest.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&Digest, Role, u64)> {
        self.by_digest.iter().map(|(digest, (role, seq))| (digest, *role, *seq))
    }
}
