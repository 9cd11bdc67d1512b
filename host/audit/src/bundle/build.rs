//! Builds a bundle from a run's records, its objects and what was signed.

use std::collections::BTreeMap;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use pangolin_core::{
    artifacts::ArtifactList,
    ids::{Digest, RunId},
    manifest::DispatchManifest,
};
use serde_json::value::RawValue;
use thiserror::Error;

use super::{Anchor, Bundle, LogLeaf, LogPart, WITH_EVIDENCE, version_for};
use crate::{
    canon::{DecodeError, INTEGER_MAX, decode_entry},
    note::{Note, VerifierKey},
    refs::{Need, References, Role},
};

/// Why a bundle cannot be built.
#[derive(Debug, Error)]
pub enum BundleError {
    /// A record of the run is not an entry.
    #[error("entry {seq} of run {run} cannot be bundled; run `pangolin doctor`")]
    Entry {
        /// The run.
        run: RunId,
        /// Position.
        seq: usize,
        /// Why.
        #[source]
        source: DecodeError,
    },
    /// A record or leaf is not UTF-8 JSON.
    #[error("{what} is not JSON text")]
    NotJson {
        /// Which one.
        what: String,
        /// Why, when the parser said so.
        #[source]
        source: Option<serde_json::Error>,
    },
    /// Nothing in the run refers to this object.
    #[error("object {0} is not referred to by the run")]
    NotReferenced(Digest),
    /// This object's bytes must be in the bundle.
    #[error("{} {digest} must be embedded, it cannot be external", .role.as_str())]
    MustEmbed {
        /// The object.
        digest: Digest,
        /// What it is.
        role: Role,
    },
    /// Larger than canonical JSON can say.
    #[error("size {size} of {digest} is beyond 2^53-1")]
    Size {
        /// The object.
        digest: Digest,
        /// Its size.
        size: u64,
    },
    /// Writing failed.
    #[error("the bundle of run {run} cannot be written as JSON")]
    Write {
        /// The run.
        run: RunId,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
}

/// An object that the run refers to and the builder does not have yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wanted {
    /// The object.
    pub digest: Digest,
    /// What it is.
    pub role: Role,
    /// How much it is needed.
    pub need: Need,
    /// The entry that refers to it.
    pub seq: u64,
}

/// What became of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Placement {
    /// Its bytes are in the bundle.
    Embedded,
    /// It is listed with its size.
    External,
}

/// A leaf of the deployment log, as stored, with its inclusion proof.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeafEvidence {
    /// The leaf's bytes.
    pub event: Vec<u8>,
    /// Position in the log.
    pub index: u64,
    /// Proof towards [`LogEvidence::checkpoint`].
    pub proof: Vec<Digest>,
}

/// What the deployment log says about the run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogEvidence {
    /// Origin of the log.
    pub origin: String,
    /// Signed checkpoint of the log.
    pub checkpoint: Note,
    /// The admission.
    pub admit: LeafEvidence,
    /// The end, once sealed.
    pub seal: Option<LeafEvidence>,
}

/// Collects the parts of a bundle.
///
/// Give it the run's records, then an object (or an external size) for everything that [`BundleBuilder::wanted`]
/// lists, then [`BundleBuilder::finish`]. Missing objects do not stop it: the verifier calls the result incomplete.
#[derive(Debug)]
pub struct BundleBuilder {
    run: RunId,
    entries: Vec<Box<RawValue>>,
    references: References,
    objects: BTreeMap<Digest, String>,
    external: BTreeMap<Digest, u64>,
    schema_version: u32,
}

impl BundleBuilder {
    /// Starts with the run's records in order, as stored. Records of unknown kinds are carried along.
    ///
    /// # Errors
    /// [`BundleError::Entry`] when a record is not a canonical entry.
    pub fn new(run: RunId, records: impl IntoIterator<Item = Vec<u8>>) -> Result<Self, BundleError> {
        let mut entries = Vec::new();
        let mut references = References::default();
        let mut schema_version = 1;
        for (seq, record) in records.into_iter().enumerate() {
            match decode_entry(&record) {
                Ok(entry) => {
                    references.add_entry(&entry);
                    schema_version = schema_version.max(version_for(&entry.body));
                }
                Err(DecodeError::UnknownKind(_)) => {}
                Err(source) => return Err(BundleError::Entry { run, seq, source }),
            }
            entries.push(raw(record, || format!("entry {seq} of run {run}"))?);
        }
        let (objects, external) = (BTreeMap::new(), BTreeMap::new());
        Ok(Self { run, entries, references, objects, external, schema_version })
    }

    /// What is referred to and neither embedded nor listed yet, by digest. Adding a manifest or a
    /// list of artifacts can add more.
    #[must_use]
    pub fn wanted(&self) -> Vec<Wanted> {
        let missing = self.references.iter().filter(|(digest, _, _)| {
            !self.objects.contains_key(*digest) && !self.external.contains_key(*digest)
        });
        missing.map(|(digest, role, seq)| Wanted { digest: *digest, role, need: role.need(), seq }).collect()
    }

    /// Adds an object's bytes. Large ones that are not essential are listed as external instead
    /// ([`Role::embed_bytes_max`]).
    ///
    /// # Errors
    /// [`BundleError::NotReferenced`].
    pub fn add_object(&mut self, bytes: &[u8]) -> Result<Placement, BundleError> {
        let digest = Digest::of(bytes);
        let (role, seq) = self.references.get(&digest).ok_or(BundleError::NotReferenced(digest))?;
        if role.embed_bytes_max().is_some_and(|max| bytes.len() > max) {
            self.add_external(digest, bytes.len() as u64)?;
            return Ok(Placement::External);
        }
        // One that does not parse is embedded all the same: the verifier has to see and name it.
        match role {
            Role::Manifest => {
                if let Ok(manifest) = serde_json::from_slice::<DispatchManifest>(bytes) {
                    self.references.add_manifest(&manifest, seq);
                }
            }
            Role::ArtifactList => {
                if let Ok(list) = serde_json::from_slice::<ArtifactList>(bytes) {
                    self.references.add_artifacts(&list, seq);
                }
            }
            _ => {}
        }
        self.external.remove(&digest);
        self.objects.insert(digest, STANDARD.encode(bytes));
        Ok(Placement::Embedded)
    }

    /// Lists an object with its size, without its bytes.
    ///
    /// # Errors
    /// [`BundleError::NotReferenced`], or [`BundleError::MustEmbed`] for objects the record is incomplete without.
    pub fn add_external(&mut self, digest: Digest, size: u64) -> Result<(), BundleError> {
        let (role, _) = self.references.get(&digest).ok_or(BundleError::NotReferenced(digest))?;
        if role.need() == Need::Embedded {
            return Err(BundleError::MustEmbed { digest, role });
        }
        if size > INTEGER_MAX {
            return Err(BundleError::Size { digest, size });
        }
        if !self.objects.contains_key(&digest) {
            self.external.insert(digest, size);
        }
        Ok(())
    }

    /// The bundle's bytes.
    ///
    /// `checkpoint` is the signed checkpoint of the run's tree over exactly the given records. `anchor` is absent
    /// while the run is not sealed.
    ///
    /// # Errors
    /// [`BundleError`] when a log leaf is not JSON.
    pub fn finish(
        self,
        key: &VerifierKey,
        checkpoint: &Note,
        log: LogEvidence,
        anchor: Option<Anchor>,
    ) -> Result<Vec<u8>, BundleError> {
        let LogEvidence { origin, checkpoint: log_checkpoint, admit, seal } = log;
        let admit_event = raw(admit.event, || "admission leaf of the log".to_owned())?;
        let seal = match seal {
            Some(leaf) => {
                Some((raw(leaf.event, || "seal leaf of the log".to_owned())?, leaf.index, leaf.proof))
            }
            None => None,
        };
        let with_evidence = anchor.as_ref().is_some_and(|anchor| anchor.evidence.is_some());
        let mut bundle = Bundle {
            anchor,
            checkpoint: checkpoint.to_string(),
            digest: Digest::from_bytes([0; 32]),
            entries: self.entries.iter().map(|entry| &**entry).collect(),
            external: self.external,
            key: key.to_string(),
            log: LogPart {
                admit: LogLeaf { event: &admit_event, index: admit.index, proof: admit.proof },
                checkpoint: log_checkpoint.to_string(),
                origin,
                seal: seal.as_ref().map(|(event, index, proof)| LogLeaf {
                    event,
                    index: *index,
                    proof: proof.clone(),
                }),
            },
            objects: self.objects.iter().map(|(digest, text)| (*digest, text.as_str())).collect(),
            run: self.run,
            schema_version: if with_evidence { WITH_EVIDENCE } else { self.schema_version },
        };
        let write = |bundle: &Bundle<'_>| {
            serde_json::to_vec(bundle)
                .map_err(|source| BundleError::Write { run: bundle.run.clone(), source })
        };
        bundle.digest = bundle.digest_of(&write(&bundle)?);
        write(&bundle)
    }
}

fn raw(bytes: Vec<u8>, what: impl Fn() -> String) -> Result<Box<RawValue>, BundleError> {
    let text = String::from_utf8(bytes).map_err(|_| BundleError::NotJson { what: what(), source: None })?;
    RawValue::from_string(text).map_err(|source| BundleError::NotJson { what: what(), source: Some(source) })
}
