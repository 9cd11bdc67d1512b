//! The evidence bundle of a run, from the ledger and the blob store.

use std::collections::BTreeMap;

use pangolin_audit::{
    bundle::{Anchor, BundleBuilder, BundleError, LeafEvidence, LogEvidence},
    chain::run_origin,
    checkpoint::Checkpoint,
    merkle,
    note::{Note, SigningKey, VerifierKey},
};
use pangolin_core::ids::{Digest, RunId};
use pangolin_ports::{
    anchor::{Anchor as OutsideAnchor, AnchorError, check_note},
    blob_store::{BlobError, BlobStore},
    run_store::{RunStore, RunStoreError},
};
use thiserror::Error;

use crate::{
    keys,
    ledger::{SealRecord, Summary},
};

/// Blobs above this size are listed with their size and not embedded.
const BLOB_BYTES_MAX: u64 = 256 << 20;

/// Why a run cannot be exported.
#[derive(Debug, Error)]
pub enum ExportError {
    /// The ledger lacks or contradicts something that only it can know.
    #[error("the record of run {run} cannot be exported: {problem}")]
    Record {
        /// The run.
        run: RunId,
        /// What is wrong.
        problem: String,
    },
    /// Its end is not signed yet, and nobody here can sign the present moment.
    #[error(
        "run {run} has not ended, and only the deployment itself can sign how far it is; wait for its seal"
    )]
    Open {
        /// The run.
        run: RunId,
    },
    /// The bundle cannot be put together.
    #[error(transparent)]
    Bundle(#[from] BundleError),
    /// The anchor cannot be asked.
    #[error(transparent)]
    Anchor(#[from] AnchorError),
    /// The ledger.
    #[error(transparent)]
    Store(#[from] RunStoreError),
    /// The blob store; a missing or damaged blob is no error, the verifier names it.
    #[error(transparent)]
    Blob(#[from] BlobError),
}

/// In whose name a bundle is made.
#[derive(Clone, Copy)]
pub enum Author<'k> {
    /// The deployment: can sign checkpoints of the present moment.
    Deployment(&'k SigningKey),
    /// A reader who knows the deployment's public key: can only hand on what was signed.
    Reader(&'k VerifierKey),
}

impl Author<'_> {
    fn name(self) -> String {
        match self {
            Self::Deployment(key) => key.name().to_owned(),
            Self::Reader(key) => key.name().to_owned(),
        }
    }

    fn verifier_key(self) -> VerifierKey {
        match self {
            Self::Deployment(key) => key.verifier_key(),
            Self::Reader(key) => key.clone(),
        }
    }

    fn sign(self, run: &RunId, checkpoint: &Checkpoint) -> Result<Note, ExportError> {
        match self {
            Self::Deployment(key) => checkpoint
                .sign(key)
                .map_err(|error| ExportError::Record { run: run.clone(), problem: error.to_string() }),
            Self::Reader(_) => Err(ExportError::Open { run: run.clone() }),
        }
    }
}

/// Builds the bundle of a run: canonical bytes. A run that has not ended gets checkpoints of the present moment and
/// no anchor; the verifier calls it incomplete. With an anchor `outside`, the bundle says what that holds of the run's
/// seal at this moment.
///
/// # Errors
/// [`ExportError`].
pub async fn export_bundle(
    store: &dyn RunStore,
    blobs: &dyn BlobStore,
    author: Author<'_>,
    outside: Option<&dyn OutsideAnchor>,
    run: &RunId,
) -> Result<Vec<u8>, ExportError> {
    let problem = |problem: String| ExportError::Record { run: run.clone(), problem };
    let summary: Summary = cell(store, run, &keys::summary(run))
        .await?
        .ok_or_else(|| problem("it has no summary".to_owned()))?;
    let seal: Option<SealRecord> = cell(store, run, &keys::seal(run)).await?;
    let (records, leaves) = read_all(store, &keys::run_stream(run), u64::MAX).await?;
    let mut builder = BundleBuilder::new(run.clone(), records)?;
    loop {
        let mut progressed = false;
        for want in builder.wanted() {
            progressed |= add_object(blobs, &mut builder, &want.digest).await?;
        }
        // What is missing stays missing: the verifier names it and calls the bundle incomplete.
        if !progressed {
            break;
        }
    }
    let checkpoint = match &seal {
        Some(seal) => Note::parse(&seal.run_checkpoint).map_err(|error| problem(error.to_string()))?,
        None => {
            let size = leaves.len() as u64;
            let origin = run_origin(&author.name(), run);
            author.sign(run, &Checkpoint { origin, size, root: merkle::root(&leaves) })?
        }
    };
    let log = log_evidence(store, author, run, &summary, seal.as_ref()).await?;
    let anchor = match (&seal, outside) {
        (None, _) => None,
        (Some(seal), None) => Some(Anchor::local(seal.at)),
        (Some(seal), Some(outside)) => {
            let keys = [author.verifier_key()];
            Some(Anchor::external(check_note(outside, &seal.log_checkpoint, &keys).await?))
        }
    };
    Ok(builder.finish(&author.verifier_key(), &checkpoint, log, anchor)?)
}

async fn cell<T: serde::de::DeserializeOwned>(
    store: &dyn RunStore,
    run: &RunId,
    key: &str,
) -> Result<Option<T>, ExportError> {
    let Some(cell) = store.get(key).await? else { return Ok(None) };
    serde_json::from_slice(&cell.value).map(Some).map_err(|error| ExportError::Record {
        run: run.clone(),
        problem: format!("cell {key} is malformed: {error}"),
    })
}

async fn read_all(
    store: &dyn RunStore,
    stream: &str,
    end: u64,
) -> Result<(Vec<Vec<u8>>, Vec<Digest>), RunStoreError> {
    let (mut records, mut leaves) = (Vec::new(), Vec::new());
    while (leaves.len() as u64) < end {
        let page = store.read(stream, leaves.len() as u64, 4096).await?;
        if page.is_empty() {
            break;
        }
        for record in page.into_iter().take_while(|record| record.seq < end) {
            leaves.push(record.hash);
            records.push(record.bytes);
        }
    }
    Ok((records, leaves))
}

async fn add_object(
    blobs: &dyn BlobStore,
    builder: &mut BundleBuilder,
    digest: &Digest,
) -> Result<bool, ExportError> {
    match blobs.get(digest, BLOB_BYTES_MAX).await {
        Ok(bytes) => {
            builder.add_object(&bytes)?;
            Ok(true)
        }
        Err(BlobError::TooLarge { size, .. }) => {
            builder.add_external(*digest, size)?;
            Ok(true)
        }
        Err(BlobError::NotFound(_) | BlobError::Damaged { .. }) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

async fn log_evidence(
    store: &dyn RunStore,
    author: Author<'_>,
    run: &RunId,
    summary: &Summary,
    seal: Option<&SealRecord>,
) -> Result<LogEvidence, ExportError> {
    let problem = |problem: String| ExportError::Record { run: run.clone(), problem };
    let end = seal.map_or(u64::MAX, |seal| seal.seal_index + 1);
    let (events, leaves) = read_all(store, keys::LOG, end).await?;
    let mut events: BTreeMap<u64, Vec<u8>> = (0u64..).zip(events).collect();
    let mut leaf = |index: u64| {
        let missing = || problem(format!("leaf {index} of the deployment log is missing"));
        let event = events.remove(&index).ok_or_else(missing)?;
        let proof = merkle::inclusion_proof(&leaves, index).map_err(|error| problem(error.to_string()))?;
        Ok::<_, ExportError>(LeafEvidence { event, index, proof })
    };
    let admit = leaf(summary.log_index)?;
    let seal_leaf = seal.map(|seal| leaf(seal.seal_index)).transpose()?;
    let origin = author.name();
    let checkpoint = match seal {
        Some(seal) => Note::parse(&seal.log_checkpoint).map_err(|error| problem(error.to_string()))?,
        None => {
            let size = leaves.len() as u64;
            author.sign(run, &Checkpoint { origin: origin.clone(), size, root: merkle::root(&leaves) })?
        }
    };
    Ok(LogEvidence { origin, checkpoint, admit, seal: seal_leaf })
}
