//! The evidence bundle of a run, from the ledger and the blob store.

use std::collections::BTreeMap;

use pangolin_audit::{
    bundle::{Anchor, BundleBuilder, BundleError, LeafEvidence, LogEvidence},
    chain::run_origin,
    checkpoint::Checkpoint,
    merkle,
    note::{Note, SigningKey},
};
use pangolin_core::ids::{Digest, RunId};
use pangolin_ports::{
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
    /// The bundle cannot be put together.
    #[error(transparent)]
    Bundle(#[from] BundleError),
    /// The ledger.
    #[error(transparent)]
    Store(#[from] RunStoreError),
    /// The blob store; a missing or damaged blob is no error, the verifier names it.
    #[error(transparent)]
    Blob(#[from] BlobError),
}

/// Builds the bundle of a run: canonical bytes. A run that has not ended gets checkpoints of the present moment and
/// no anchor; the verifier calls it incomplete.
///
/// # Errors
/// [`ExportError`].
pub async fn export_bundle(
    store: &dyn RunStore,
    blobs: &dyn BlobStore,
    key: &SigningKey,
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
            Checkpoint { origin: run_origin(key.name(), run), size, root: merkle::root(&leaves) }
                .sign(key)
                .map_err(|error| problem(error.to_string()))?
        }
    };
    let log = log_evidence(store, key, run, &summary, seal.as_ref()).await?;
    let anchor = seal.as_ref().map(|seal| Anchor::local(seal.at));
    Ok(builder.finish(&key.verifier_key(), &checkpoint, log, anchor)?)
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
    key: &SigningKey,
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
    let origin = key.name().to_owned();
    let checkpoint = match seal {
        Some(seal) => Note::parse(&seal.log_checkpoint).map_err(|error| problem(error.to_string()))?,
        None => {
            let size = leaves.len() as u64;
            Checkpoint { origin: origin.clone(), size, root: merkle::root(&leaves) }
                .sign(key)
                .map_err(|error| problem(error.to_string()))?
        }
    };
    Ok(LogEvidence { origin, checkpoint, admit, seal: seal_leaf })
}
