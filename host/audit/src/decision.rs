//! Digests of what a pattern saw and decided: the one definition that the engine, replay and the verifier share.
//!
//! # View digest, version 1
//! Chained over the steps of a run, so that a step costs what changed and still covers the whole view:
//!
//! ```text
//! view(n) = SHA-256( "pangolin pattern view v1\n"
//!                    view(n-1), 32 bytes (32 zero bytes for step 0)
//!                    frame(header) frame(item) frame(item) ... )
//! frame(x) = length of x in bytes as 4 bytes, most significant first; then x
//! ```
//!
//! Header and items are canonical JSON (RFC 8785). The header has the members `run`, `tick`, `now`, `seed`, `params`
//! (digest of the bytes of the parameter text), `items` (number of items in the run) and `attrs`. There is one item for
//! each entry of `changed`, in that order, with `index`, `id`, `phase`, `state`, `attempts`, `depends_on` (indexes),
//! `verify` (absent when it did not run), `outputs` (paths), `attrs` and `spec` (digest of the item's canonical JSON).
//! At step 0 every item counts as changed.

use std::{collections::BTreeMap, sync::Arc};

use pangolin_core::{
    ids::{Digest, RunId},
    pattern::{Decisions, ItemPhase, RunItem, RunView},
    plan::PlanItem,
};
use serde::Serialize;
use sha2::{Digest as _, Sha256};

use crate::canon::{self, CanonError, INTEGER_MAX};

/// First bytes of every view digest.
pub const VIEW_DOMAIN: &[u8] = b"pangolin pattern view v1\n";

/// Canonical JSON of what a pattern decided: the bytes of the blob that `pattern.decided` names.
///
/// # Errors
/// [`CanonError::Unserialisable`] when an input holds a number that JSON has no form for.
pub fn decisions_bytes(decisions: &Decisions) -> Result<Vec<u8>, CanonError> {
    canon::to_vec(decisions)
}

/// Digest of [`decisions_bytes`].
///
/// # Errors
/// As [`decisions_bytes`].
pub fn decisions_digest(decisions: &Decisions) -> Result<Digest, CanonError> {
    Ok(Digest::of(&decisions_bytes(decisions)?))
}

/// The seed of a run: the first 53 bits of SHA-256 over a domain, the namespace and the run id, separated by NUL. The
/// same in every process and below 2^53, so that every language and canonical JSON carry it exactly.
#[must_use]
pub fn seed(namespace: &str, run: &RunId) -> u64 {
    let digest = Digest::of(format!("pangolin pattern seed v1\0{namespace}\0{run}").as_bytes());
    let first = digest.as_bytes().iter().take(8).fold(0, |seed: u64, byte| seed << 8 | u64::from(*byte));
    (first >> 11) & INTEGER_MAX
}

#[derive(Serialize)]
struct Header<'a> {
    run: &'a str,
    tick: u64,
    now: u64,
    seed: u64,
    params: Digest,
    items: usize,
    attrs: &'a BTreeMap<String, String>,
}

#[derive(Serialize)]
struct Changed<'a> {
    index: u32,
    id: &'a str,
    phase: ItemPhase,
    state: &'a str,
    attempts: u32,
    depends_on: &'a [u32],
    #[serde(skip_serializing_if = "Option::is_none")]
    verify: Option<bool>,
    outputs: &'a [String],
    attrs: &'a BTreeMap<String, String>,
    spec: Digest,
}

/// Chains the view digests of one run.
#[derive(Debug, Clone, Default)]
pub struct ViewDigest {
    last: Option<Digest>,
    /// By position: items change several times, their specs hardly ever.
    specs: Vec<Option<(Arc<PlanItem>, Digest)>>,
}

impl ViewDigest {
    /// Before step 0.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// After a step with this digest.
    #[must_use]
    pub fn after(last: Digest) -> Self {
        Self { last: Some(last), specs: Vec::new() }
    }

    /// The digest of the last step; `None` before step 0.
    #[must_use]
    pub const fn last(&self) -> Option<Digest> {
        self.last
    }

    /// The digest of the next step. `view.changed` must list everything that changed since the last one.
    ///
    /// # Errors
    /// [`CanonError::Unserialisable`] when the view has no canonical form; nothing has changed then.
    pub fn advance(&mut self, view: &RunView) -> Result<Digest, CanonError> {
        let mut hash = Sha256::new();
        hash.update(VIEW_DOMAIN);
        hash.update(self.last.as_ref().map_or(&[0; 32], Digest::as_bytes));
        let header = Header {
            run: &view.run_id,
            tick: view.tick,
            now: view.now_ms,
            seed: view.seed,
            params: Digest::of(view.params_json.as_bytes()),
            items: view.items().len(),
            attrs: &view.attrs,
        };
        frame(&mut hash, &canon::to_vec(&header)?);
        for index in &view.changed {
            let Some(item) = view.items().get(*index as usize) else { continue };
            let spec = self.spec(*index as usize, item)?;
            let changed = Changed {
                index: *index,
                id: item.id().as_str(),
                phase: item.phase,
                state: &item.state,
                attempts: item.attempts,
                depends_on: &item.depends_on,
                verify: item.verify_passed,
                outputs: &item.output_keys,
                attrs: &item.attrs,
                spec,
            };
            frame(&mut hash, &canon::to_vec(&changed)?);
        }
        let digest = Digest::from_bytes(hash.finalize().into());
        self.last = Some(digest);
        Ok(digest)
    }

    fn spec(&mut self, index: usize, item: &RunItem) -> Result<Digest, CanonError> {
        if let Some(Some((known, digest))) = self.specs.get(index)
            && Arc::ptr_eq(known, &item.spec)
        {
            return Ok(*digest);
        }
        let digest = Digest::of(&canon::to_vec(&*item.spec)?);
        if self.specs.len() <= index {
            self.specs.resize(index + 1, None);
        }
        self.specs[index] = Some((Arc::clone(&item.spec), digest));
        Ok(digest)
    }
}

fn frame(hash: &mut Sha256, bytes: &[u8]) {
    // Four gigabytes of one item cannot be: plans are at most 64 MiB.
    hash.update(u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_be_bytes());
    hash.update(bytes);
}
