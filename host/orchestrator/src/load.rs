//! Rebuilding a run from its ledger: the ordinary path at start, in views and in tests.

use pangolin_audit::{
    canon::{self, DecodeError},
    chain::RunChain,
    merkle::leaf_hash,
};
use pangolin_core::{
    entry::{Entry, EntryBody},
    ids::{Digest, RunId},
    plan::{Plan, PlanItem},
    state::{IllegalEntry, RunState},
    validate::{PlanContext, parse_plan},
};
use pangolin_ports::{
    blob_store::{BlobError, BlobStore},
    inbox::MESSAGE_BYTES_MAX,
    run_store::{RunStore, RunStoreError},
};
use thiserror::Error;

use crate::keys;

/// Why a run cannot be rebuilt.
#[derive(Debug, Error)]
pub enum LoadError {
    /// No such run.
    #[error("run {0} does not exist; `pangolin orch runs` lists them")]
    NotFound(RunId),
    /// A stored entry is not what its hash says, or not an entry.
    #[error("entry {seq} of run {run} is damaged: {problem}; restore the ledger from a backup")]
    Damaged {
        /// The run.
        run: RunId,
        /// Position.
        seq: u64,
        /// What is wrong.
        problem: String,
    },
    /// A stored entry cannot be decoded.
    #[error("entry {seq} of run {run} cannot be read")]
    Decode {
        /// The run.
        run: RunId,
        /// Position.
        seq: u64,
        /// Why.
        #[source]
        source: DecodeError,
    },
    /// The entries do not form a run.
    #[error("the ledger of run {run} is not legal")]
    Illegal {
        /// The run.
        run: RunId,
        /// Why.
        #[source]
        source: Box<IllegalEntry>,
    },
    /// The stored plan is not a plan any more.
    #[error("plan {plan} of run {run} cannot be read: {problem}")]
    Plan {
        /// The run.
        run: RunId,
        /// The plan's blob.
        plan: Digest,
        /// What is wrong.
        problem: String,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] RunStoreError),
    /// A blob is missing or damaged.
    #[error("run {run} needs a blob that cannot be read")]
    Blob {
        /// The run.
        run: RunId,
        /// Why.
        #[source]
        source: BlobError,
    },
}

/// A run as it stands in the ledger.
pub struct LoadedRun {
    /// The fold of its entries.
    pub state: RunState,
    /// Its chain.
    pub chain: RunChain,
    /// The entries themselves.
    pub entries: Vec<Entry>,
}

/// Loads a run, checking every entry's hash and legality on the way.
///
/// # Errors
/// [`LoadError`] names the entry or blob.
pub async fn load_run(
    store: &dyn RunStore,
    blobs: &dyn BlobStore,
    run: &RunId,
) -> Result<LoadedRun, LoadError> {
    let stream = keys::run_stream(run);
    let mut loaded: Option<LoadedRun> = None;
    let mut from = 0;
    loop {
        let page = store.read(&stream, from, 4096).await?;
        if page.is_empty() {
            return loaded.ok_or_else(|| LoadError::NotFound(run.clone()));
        }
        for record in page {
            let seq = record.seq;
            let leaf = leaf_hash(&record.bytes);
            if leaf != record.hash {
                let problem = format!("its bytes hash to {leaf}, not {}", record.hash);
                return Err(LoadError::Damaged { run: run.clone(), seq, problem });
            }
            let entry = canon::decode_entry(&record.bytes).map_err(|source| LoadError::Decode {
                run: run.clone(),
                seq,
                source,
            })?;
            let illegal = |source| LoadError::Illegal { run: run.clone(), source: Box::new(source) };
            match &mut loaded {
                None => {
                    let EntryBody::RunSubmitted(first) = &entry.body else {
                        let problem = format!("the first entry is {}, not run.submitted", entry.body.kind());
                        return Err(LoadError::Damaged { run: run.clone(), seq, problem });
                    };
                    let mut plan = load_plan(blobs, run, &first.plan).await?;
                    plan.queue = first.queue.clone();
                    let mut chain = RunChain::new();
                    chain.push_leaf(leaf);
                    let state = RunState::start(plan, &entry).map_err(illegal)?;
                    loaded = Some(LoadedRun { state, chain, entries: vec![entry] });
                }
                Some(loaded) => {
                    let added = match &entry.body {
                        EntryBody::RunExtended { document, .. } => {
                            Some(load_items(blobs, run, document).await?)
                        }
                        _ => None,
                    };
                    loaded.state.apply(&entry, added).map_err(illegal)?;
                    loaded.chain.push_leaf(leaf);
                    loaded.entries.push(entry);
                }
            }
            from = seq + 1;
        }
    }
}

async fn load_plan(blobs: &dyn BlobStore, run: &RunId, digest: &Digest) -> Result<Plan, LoadError> {
    let bytes = blob(blobs, run, digest).await?;
    // Names were checked against the configuration of the time; the fold does not depend on today's.
    match parse_plan(&bytes, &PlanContext::default()) {
        Ok(parsed) => Ok(parsed.plan),
        Err(findings) => Err(LoadError::Plan {
            run: run.clone(),
            plan: *digest,
            problem: findings.iter().map(|f| f.message.clone()).collect::<Vec<_>>().join("; "),
        }),
    }
}

async fn load_items(blobs: &dyn BlobStore, run: &RunId, digest: &Digest) -> Result<Vec<PlanItem>, LoadError> {
    let bytes = blob(blobs, run, digest).await?;
    serde_json::from_slice(&bytes).map_err(|error| LoadError::Plan {
        run: run.clone(),
        plan: *digest,
        problem: error.to_string(),
    })
}

async fn blob(blobs: &dyn BlobStore, run: &RunId, digest: &Digest) -> Result<Vec<u8>, LoadError> {
    blobs.get(digest, MESSAGE_BYTES_MAX).await.map_err(|source| LoadError::Blob { run: run.clone(), source })
}
