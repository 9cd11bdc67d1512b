//! Rebuilding a run from its ledger: the ordinary path at start, in views and in tests.

use std::collections::VecDeque;

use pangolin_audit::{
    canon::{self, DecodeError},
    chain::RunChain,
    merkle::leaf_hash,
};
use pangolin_core::{
    entry::{Entry, EntryBody, RunSubmitted},
    ids::{Digest, RunId},
    pattern::Tracker,
    plan::{Plan, PlanItem},
    state::{Growth, IllegalEntry, RunState},
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
    /// What the next step of a live pattern will see; `None` when no pattern is asked any more.
    pub tracker: Option<Tracker>,
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
    let (entries, chain) = read_entries(store, run, RunChain::new()).await?;
    let Some(first) = entries.first() else { return Err(LoadError::NotFound(run.clone())) };
    let EntryBody::RunSubmitted(submitted) = &first.body else {
        let problem = format!("the first entry is {}, not run.submitted", first.body.kind());
        return Err(LoadError::Damaged { run: run.clone(), seq: 0, problem });
    };
    let illegal = |source| LoadError::Illegal { run: run.clone(), source: Box::new(source) };
    let plan = load_plan(blobs, run, submitted, submitted.graph.as_ref().unwrap_or(&submitted.plan)).await?;
    let mut state = RunState::start(plan, first).map_err(illegal)?;
    let mut tracker = start_tracker(blobs, &state, &entries).await?;
    let mut cuts = step_starts(&entries);
    for entry in &entries[1..] {
        if let (Some(tracker), Some((_, now))) =
            (&mut tracker, cuts.pop_front_if(|(seen, _)| *seen == entry.seq))
        {
            drop(tracker.cut(&state, now));
        }
        apply(&mut state, blobs, run, entry).await?;
        if let Some(tracker) = &mut tracker {
            tracker.note(&state, entry);
        }
    }
    let is_live = state.growth().is_some_and(Growth::is_live) && state.outcome().is_none();
    Ok(LoadedRun { tracker: tracker.filter(|_| is_live), state, chain, entries })
}

/// A run that was folded before, and where its chain stood then.
pub(crate) struct Known {
    pub(crate) state: RunState,
    pub(crate) chain: RunChain,
}

/// Folds what was appended since. `None` when that does not follow on what is known; then the run has to be loaded. Not for
/// runs whose pattern is asked: what its next step sees follows from all entries.
///
/// # Errors
/// [`LoadError`] names the entry or blob.
pub(crate) async fn catch_up(
    store: &dyn RunStore,
    blobs: &dyn BlobStore,
    run: &RunId,
    known: Known,
) -> Result<Option<Known>, LoadError> {
    let Known { mut state, chain } = known;
    let head = store.head(&keys::run_stream(run)).await?;
    if (head.len, head.hash) == (chain.len(), chain.head()) {
        return Ok(Some(Known { state, chain }));
    }
    let before = chain.head();
    let (entries, chain) = read_entries(store, run, chain).await?;
    if entries.first().is_none_or(|entry| entry.prev != before) {
        return Ok(None);
    }
    for entry in &entries {
        apply(&mut state, blobs, run, entry).await?;
    }
    Ok(Some(Known { state, chain }))
}

async fn apply(
    state: &mut RunState,
    blobs: &dyn BlobStore,
    run: &RunId,
    entry: &Entry,
) -> Result<(), LoadError> {
    let added = match &entry.body {
        EntryBody::RunExtended { document, .. } => Some(load_items(blobs, run, document).await?),
        _ => None,
    };
    state
        .apply(entry, added)
        .map_err(|source| LoadError::Illegal { run: run.clone(), source: Box::new(source) })
}

/// Where steps after the first began, with their time: what came later belongs to the step after.
fn step_starts(entries: &[Entry]) -> VecDeque<(u64, i64)> {
    let start = |entry: &Entry| match &entry.body {
        EntryBody::PatternDecided(record) if record.step > 0 => Some((record.seen, record.now)),
        _ => None,
    };
    entries.iter().filter_map(start).collect()
}

/// Reads what stands behind `chain`.
async fn read_entries(
    store: &dyn RunStore,
    run: &RunId,
    mut chain: RunChain,
) -> Result<(Vec<Entry>, RunChain), LoadError> {
    let stream = keys::run_stream(run);
    let mut entries: Vec<Entry> = Vec::new();
    loop {
        let page = store.read(&stream, chain.len(), 4096).await?;
        if page.is_empty() {
            return Ok((entries, chain));
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
            chain.push_leaf(leaf);
            entries.push(entry);
        }
    }
}

/// The tracker after `run.submitted`, when a pattern was asked about the plan and still is.
async fn start_tracker(
    blobs: &dyn BlobStore,
    state: &RunState,
    entries: &[Entry],
) -> Result<Option<Tracker>, LoadError> {
    let Some(EntryBody::PatternDecided(record)) = entries.get(1).map(|entry| &entry.body) else {
        return Ok(None);
    };
    let last = entries.last().map(|entry| &entry.body);
    if record.closes || matches!(last, Some(EntryBody::RunCompleted { .. })) {
        return Ok(None);
    }
    let (run, submitted) = (state.id(), state.submitted());
    let plan = match &submitted.graph {
        Some(_) => load_plan(blobs, run, submitted, &submitted.plan).await?,
        None => (**state.plan()).clone(),
    };
    let params = match &submitted.pattern_params {
        Some(digest) => String::from_utf8_lossy(&blob(blobs, run, digest).await?).into_owned(),
        None => "{}".to_owned(),
    };
    Ok(Some(Tracker::start(Tracker::planning(&plan, params, record.seed, record.now), state)))
}

async fn load_plan(
    blobs: &dyn BlobStore,
    run: &RunId,
    submitted: &RunSubmitted,
    digest: &Digest,
) -> Result<Plan, LoadError> {
    let bytes = blob(blobs, run, digest).await?;
    // Names were checked against the configuration of the time; the fold does not depend on today's.
    match parse_plan(&bytes, &PlanContext::default()) {
        // The entry says where the run is queued; the sealed plan keeps the submitter's own words.
        Ok(parsed) => Ok(Plan { queue: submitted.queue.clone(), ..parsed.plan }),
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
