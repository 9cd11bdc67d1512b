//! Building and committing batches: run chains, the deployment log, signatures.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use pangolin_audit::{
    canon::EncodeError,
    chain::RunChain,
    checkpoint::{Checkpoint, CheckpointError},
    log::{LogError, LogEvent, RECEIPT_VERSION, Receipt},
    merkle::Frontier,
    note::SigningKey,
};
use pangolin_core::{
    entry::{Entry, EntryBody, RunOutcome},
    ids::{Digest, QueueName, RunId},
};
use pangolin_ports::{
    commit_limits::CommitLimits,
    commit_meter::CommitMeter,
    run_store::{Append, Batch, Commit, Guard, Head, RunStore, RunStoreError, Write},
};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::keys;

/// One line about a run, kept up to date in its summary cell. A cache: everything in it follows from the entries.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Summary {
    /// Queue.
    pub queue: QueueName,
    /// Who submitted.
    pub actor: String,
    /// Milliseconds since the epoch.
    pub submitted_at: i64,
    /// Milliseconds since the epoch, once sealed.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub finished_at: Option<i64>,
    /// Outcome, once sealed.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub outcome: Option<RunOutcome>,
    /// Items in the plan.
    pub items: u64,
    /// Digest of the plan.
    pub plan: Digest,
    /// Admission number.
    pub admission: u64,
    /// Index of the admission in the deployment log.
    pub log_index: u64,
}

/// The local anchor: what was signed when a run ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SealRecord {
    /// Signed checkpoint of the run's tree.
    pub run_checkpoint: String,
    /// Index of the admission in the deployment log.
    pub admit_index: u64,
    /// Index of the seal in the deployment log.
    pub seal_index: u64,
    /// Signed checkpoint of the deployment log that covers both.
    pub log_checkpoint: String,
    /// Milliseconds since the epoch.
    pub at: i64,
}

/// Failures of the ledger.
#[derive(Debug, Error)]
pub enum LedgerError {
    /// Another driver leads now, or the ledger moved on without us. Reload.
    #[error("the ledger moved on ({0}); another daemon leads this deployment")]
    Deposed(String),
    /// An entry cannot be encoded.
    #[error("cannot encode an entry of run {run}")]
    Encode {
        /// The run.
        run: RunId,
        /// Why.
        #[source]
        source: EncodeError,
    },
    /// The deployment log cannot be extended.
    #[error("cannot extend the deployment log")]
    Log(#[source] LogError),
    /// A checkpoint cannot be signed.
    #[error("cannot sign a checkpoint")]
    Sign(#[source] CheckpointError),
    /// The store was asked to commit and did not say what became of it, as often as it is asked.
    #[error("what became of batch {batch} is not known after {tried} tries; it is there whole or not at all")]
    Unanswered {
        /// Id of the batch.
        batch: String,
        /// Tries.
        tried: u32,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] RunStoreError),
}

/// Wait between tries when the store is busy or full.
const RETRY_PAUSE: Duration = Duration::from_millis(500);

/// Leaf hash and bytes.
type NewRecord = (Digest, Vec<u8>);

/// What is committed together or not at all.
#[derive(Default)]
struct Unit {
    /// With the head that each run had before. In the order in which they were appended to.
    runs: Vec<(RunId, Head, Vec<NewRecord>)>,
    /// Records of the deployment log with the admissions up to each.
    log: Vec<(NewRecord, u64)>,
    writes: HashMap<String, Option<Vec<u8>>>,
}

impl Unit {
    fn measure(&self, meter: &mut CommitMeter) {
        for (key, value) in &self.writes {
            meter.cell(key, value.as_ref().map_or(0, Vec::len));
        }
        for (run, _, records) in &self.runs {
            let stream = keys::run_stream(run);
            for (_, bytes) in records {
                meter.record(&stream, bytes.len());
            }
        }
        for ((_, bytes), _) in &self.log {
            meter.record(keys::LOG, bytes.len());
        }
    }
}

/// What waits for a commit, in order: a commit may end after any unit.
#[derive(Default)]
struct Pending {
    units: Vec<Unit>,
    /// Whether what comes next belongs to the last unit.
    together: bool,
}

impl Pending {
    fn is_empty(&self) -> bool {
        self.units.is_empty()
    }

    /// The unit that an entry goes into.
    fn next(&mut self) -> &mut Unit {
        if !self.together || self.units.is_empty() {
            self.units.push(Unit::default());
        }
        self.last()
    }

    /// The unit of what was appended last.
    fn last(&mut self) -> &mut Unit {
        if self.units.is_empty() {
            self.units.push(Unit::default());
        }
        let last = self.units.len() - 1;
        &mut self.units[last]
    }
}

/// The writer's view of the ledger. What was appended becomes durable with [`Ledger::commit`]; after a failed
/// commit the whole value is stale and must be dropped.
pub struct Ledger {
    store: Arc<dyn RunStore>,
    key: Arc<SigningKey>,
    fence: u64,
    nonce: String,
    /// How often a commit is tried while the store does not answer. `None`: until it does.
    tries: Option<u32>,
    batches: u64,
    chains: HashMap<RunId, RunChain>,
    /// The cell that marks each run which is not sealed ([`keys::ACTIVE_PREFIX`]).
    markers: HashMap<RunId, String>,
    /// Numbers of those cells that are taken.
    numbers: BTreeSet<u64>,
    /// Of everything appended, also of what waits for a commit.
    log: Frontier,
    admissions: u64,
    /// What the store has of the log.
    committed_log: Frontier,
    log_head: Head,
    pending: Pending,
}

impl Ledger {
    /// Takes the fence: from here on every other driver's commits fail.
    ///
    /// # Errors
    /// [`LedgerError::Deposed`] when another driver took it at the same moment.
    pub async fn take_over(
        store: Arc<dyn RunStore>,
        key: Arc<SigningKey>,
        holder: &str,
    ) -> Result<Self, LedgerError> {
        let current = store.get(keys::FENCE).await?;
        let version = current.map_or(0, |cell| cell.version);
        let batch = Batch {
            id: format!("fence/{}/{holder}", version + 1),
            guards: vec![Guard::seen(keys::FENCE.to_owned(), version)],
            writes: vec![Write::Put { key: keys::FENCE.to_owned(), value: holder.as_bytes().to_vec() }],
            appends: Vec::new(),
        };
        if store.commit(batch).await? != Commit::Committed {
            return Err(LedgerError::Deposed("somebody else took the fence".to_owned()));
        }
        let mut ledger = Self {
            store,
            key,
            fence: version + 1,
            nonce: holder.to_owned(),
            tries: None,
            batches: 0,
            chains: HashMap::new(),
            markers: HashMap::new(),
            numbers: BTreeSet::new(),
            log: Frontier::new(),
            admissions: 0,
            committed_log: Frontier::new(),
            log_head: Head::default(),
            pending: Pending::default(),
        };
        ledger.load_log().await?;
        Ok(ledger)
    }

    /// A commit is tried so often while the store does not answer, and fails then. Without this it waits until the store does.
    pub const fn try_at_most(&mut self, tries: Option<u32>) {
        self.tries = tries;
    }

    async fn load_log(&mut self) -> Result<(), LedgerError> {
        if let Some(cell) = self.store.get(keys::LOG_FRONTIER).await? {
            // A frontier that contradicts itself or the log is not used: the log is read instead.
            if let Some(saved) = SavedFrontier::decode(&cell.value) {
                let last = self.store.read(keys::LOG, saved.frontier.len().wrapping_sub(1), 1).await?;
                if last.first().is_some_and(|record| record.hash == saved.last) {
                    self.log_head = Head { len: saved.frontier.len(), hash: Some(saved.last) };
                    self.admissions = saved.admissions;
                    self.log = saved.frontier;
                }
            }
        }
        loop {
            let page = self.store.read(keys::LOG, self.log_head.len, 4096).await?;
            if page.is_empty() {
                self.committed_log = self.log.clone();
                return Ok(());
            }
            for record in page {
                if let LogEvent::Admit(_) = LogEvent::decode(&record.bytes).map_err(LedgerError::Log)? {
                    self.admissions += 1;
                }
                self.log.push(record.hash);
                self.log_head = Head { len: record.seq + 1, hash: Some(record.hash) };
            }
        }
    }

    /// Origin of the deployment log: the name of its key.
    #[must_use]
    pub fn origin(&self) -> &str {
        self.key.name()
    }

    /// The store behind the ledger.
    #[must_use]
    pub fn store(&self) -> &Arc<dyn RunStore> {
        &self.store
    }

    /// Registers the chain of a loaded run.
    pub fn adopt(&mut self, run: RunId, chain: RunChain) {
        self.chains.insert(run, chain);
    }

    /// Registers a cell that marks a run which is not sealed. Call for all of them before anything is admitted.
    pub fn marked(&mut self, run: RunId, cell: String) {
        self.numbers.extend(keys::active_number(&cell));
        self.markers.insert(run, cell);
    }

    /// Where the chain of a run stands, with what waits for a commit.
    #[must_use]
    pub fn chain(&self, run: &RunId) -> Option<&RunChain> {
        self.chains.get(run)
    }

    /// Appends an entry to a run (a new run starts with its first entry).
    ///
    /// # Errors
    /// [`LedgerError::Encode`]; the chain is unchanged then.
    pub fn append(
        &mut self,
        run: &RunId,
        at: i64,
        actor: &str,
        body: EntryBody,
    ) -> Result<Entry, LedgerError> {
        let chain = self.chains.entry(run.clone()).or_default();
        let head = Head { len: chain.len(), hash: chain.head() };
        let (entry, leaf, bytes) = chain
            .append(run, at, actor, body)
            .map_err(|source| LedgerError::Encode { run: run.clone(), source })?;
        let unit = self.pending.next();
        match unit.runs.iter_mut().find(|(found, ..)| found == run) {
            Some((_, _, records)) => records.push((leaf, bytes)),
            None => unit.runs.push((run.clone(), head, vec![(leaf, bytes)])),
        }
        Ok(entry)
    }

    /// What is appended from here to [`Ledger::apart`] is committed together, whatever the store's limits: a prefix of it
    /// would be a ledger that nobody meant. Keep it small.
    pub fn together(&mut self) {
        self.pending.units.push(Unit::default());
        self.pending.together = true;
    }

    /// Ends what [`Ledger::together`] began.
    pub fn apart(&mut self) {
        self.pending.together = false;
        self.pending.units.pop_if(|unit| unit.runs.is_empty() && unit.writes.is_empty());
    }

    /// Appends an event to the deployment log. Returns its index, its inclusion proof and the signed checkpoint
    /// of the log that ends with it.
    fn append_log(&mut self, event: &LogEvent) -> Result<(u64, Vec<Digest>, String), LedgerError> {
        let bytes = event.encode().map_err(LedgerError::Log)?;
        let leaf = pangolin_audit::merkle::leaf_hash(&bytes);
        let index = self.log.len();
        let proof = self.log.proof_of_next();
        self.log.push(leaf);
        let checkpoint =
            Checkpoint { origin: self.origin().to_owned(), size: index + 1, root: self.log.root() };
        let note = checkpoint.sign(&self.key).map_err(LedgerError::Sign)?.to_string();
        let admissions = self.admissions + u64::from(matches!(event, LogEvent::Admit(_)));
        self.pending.last().log.push(((leaf, bytes), admissions));
        Ok((index, proof, note))
    }

    /// Admits a run: the leaf in the deployment log, its receipt and the run's marker cells.
    ///
    /// # Errors
    /// [`LedgerError`].
    pub fn admit(
        &mut self,
        run: &RunId,
        plan: Digest,
        queue: &QueueName,
        actor: &str,
        items: u64,
        at: i64,
    ) -> Result<(Receipt, Summary), LedgerError> {
        let event = LogEvent::Admit(pangolin_audit::log::Admit {
            v: pangolin_audit::log::LOG_VERSION,
            seq: self.admissions,
            run: run.clone(),
            plan,
            queue: queue.clone(),
            actor: actor.to_owned(),
            at,
        });
        let (index, proof, checkpoint) = self.append_log(&event)?;
        let receipt = Receipt { checkpoint, event, index, proof, schema_version: RECEIPT_VERSION };
        let summary = Summary {
            queue: queue.clone(),
            actor: actor.to_owned(),
            submitted_at: at,
            finished_at: None,
            outcome: None,
            items,
            plan,
            admission: self.admissions,
            log_index: index,
        };
        self.admissions += 1;
        self.put(keys::receipt(run), receipt.to_bytes().map_err(LedgerError::Log)?);
        self.put_summary(run, &summary);
        let number = (0..).find(|number| !self.numbers.contains(number)).unwrap_or_default();
        let cell = keys::active(number);
        self.put(cell.clone(), run.as_str().as_bytes().to_vec());
        self.marked(run.clone(), cell);
        Ok((receipt, summary))
    }

    /// Seals a run whose last entry was just appended.
    ///
    /// # Errors
    /// [`LedgerError`].
    pub fn seal(
        &mut self,
        run: &RunId,
        outcome: RunOutcome,
        summary: &Summary,
        at: i64,
    ) -> Result<(), LedgerError> {
        let chain = self.chains.get(run).cloned().unwrap_or_default();
        let run_checkpoint =
            chain.checkpoint(self.origin(), run).sign(&self.key).map_err(LedgerError::Sign)?.to_string();
        let event = LogEvent::Seal(pangolin_audit::log::Seal {
            v: pangolin_audit::log::LOG_VERSION,
            run: run.clone(),
            outcome,
            entries: chain.len(),
            root: chain.root(),
            at,
            admission: summary.admission,
        });
        let (seal_index, _, log_checkpoint) = self.append_log(&event)?;
        let record =
            SealRecord { run_checkpoint, admit_index: summary.log_index, seal_index, log_checkpoint, at };
        self.put(keys::seal(run), to_json(&record));
        self.put_summary(run, &Summary { finished_at: Some(at), outcome: Some(outcome), ..summary.clone() });
        if let Some(cell) = self.markers.remove(run) {
            if let Some(number) = keys::active_number(&cell) {
                self.numbers.remove(&number);
            }
            self.delete(cell);
        }
        Ok(())
    }

    fn put_summary(&mut self, run: &RunId, summary: &Summary) {
        self.put(keys::summary(run), to_json(summary));
    }

    fn put(&mut self, key: String, value: Vec<u8>) {
        self.pending.last().writes.insert(key, Some(value));
    }

    fn delete(&mut self, key: String) {
        self.pending.last().writes.insert(key, None);
    }

    /// Whether something waits for [`Ledger::commit`].
    #[must_use]
    pub fn is_dirty(&self) -> bool {
        !self.pending.is_empty()
    }

    /// Whether nobody took the fence since.
    ///
    /// # Errors
    /// The store.
    pub async fn leads(&self) -> Result<bool, LedgerError> {
        Ok(self.store.get(keys::FENCE).await?.is_some_and(|cell| cell.version == self.fence))
    }

    /// Batches committed since the fence was taken.
    #[must_use]
    pub const fn commits(&self) -> u64 {
        self.batches
    }

    /// Makes everything appended since the last commit durable: in one batch, or in several in order when the store takes
    /// less at once ([`RunStore::limits`]). A busy or full store is waited for, unless [`Ledger::try_at_most`] says for how long:
    /// nothing is lost and nothing is done twice.
    ///
    /// A crash between two of them is harmless:
    /// - units are committed in the order in which they were recorded, over all runs: whoever takes a lock or a slot stands
    ///   behind the one who gave it back;
    /// - every entry may be the last one of a ledger, but those that [`Ledger::together`] keeps in one unit. Parts of
    ///   outputs (`item.outputs`) count only once the end of their attempt is recorded;
    /// - nothing is done about any of them before the last commit is durable.
    ///
    /// # Errors
    /// [`LedgerError::Deposed`] when another driver leads, [`LedgerError::Unanswered`] when what became of it is not known. Drop
    /// this value then; whoever takes the fence next reads what there is.
    pub async fn commit(&mut self) -> Result<(), LedgerError> {
        let limits = self.store.limits();
        let mut units = std::mem::take(&mut self.pending).units.into_iter().peekable();
        while units.peek().is_some() {
            self.batches += 1;
            let id = format!("d/{}/{}/{}", self.fence, self.nonce, self.batches);
            let mut meter = CommitMeter::new(id.len());
            meter.cell(keys::FENCE, 0);
            let mut taken = Vec::new();
            while let Some(unit) = units.peek() {
                if limits != CommitLimits::UNLIMITED {
                    let mut with = meter.clone();
                    unit.measure(&mut with);
                    if !unit.log.is_empty() {
                        with.cell(keys::LOG_FRONTIER, SAVED_FRONTIER_BYTES_MAX);
                    }
                    if !taken.is_empty() && !limits.admit(with.cost()) {
                        break;
                    }
                    meter = with;
                }
                taken.extend(units.next());
            }
            let batch = self.batch(id, taken);
            self.commit_batch(batch).await?;
        }
        Ok(())
    }

    /// One batch of these units.
    fn batch(&mut self, id: String, units: Vec<Unit>) -> Batch {
        let mut runs: HashMap<RunId, (Head, Vec<NewRecord>)> = HashMap::new();
        let mut writes = HashMap::new();
        let mut log = Vec::new();
        for unit in units {
            for (run, head, records) in unit.runs {
                runs.entry(run).or_insert_with(|| (head, Vec::new())).1.extend(records);
            }
            writes.extend(unit.writes);
            log.extend(unit.log);
        }
        let mut batch = Batch {
            id,
            guards: vec![Guard::VersionIs { key: keys::FENCE.to_owned(), version: self.fence }],
            writes: writes
                .into_iter()
                .map(|(key, value)| match value {
                    Some(value) => Write::Put { key, value },
                    None => Write::Delete(key),
                })
                .collect(),
            appends: Vec::with_capacity(runs.len() + 1),
        };
        for (run, (head, records)) in runs {
            let stream = keys::run_stream(&run);
            batch.guards.push(Guard::HeadIs { stream: stream.clone(), head });
            batch.appends.push(Append { stream, records });
        }
        if let Some(((last, _), admissions)) = log.last() {
            let (last, admissions) = (*last, *admissions);
            self.committed_log.extend(log.iter().map(|((hash, _), _)| *hash));
            let saved = SavedFrontier { admissions, last, frontier: self.committed_log.clone() };
            batch.writes.push(Write::Put { key: keys::LOG_FRONTIER.to_owned(), value: saved.encode() });
            batch.guards.push(Guard::HeadIs { stream: keys::LOG.to_owned(), head: self.log_head });
            let records = log.into_iter().map(|(record, _)| record).collect();
            batch.appends.push(Append { stream: keys::LOG.to_owned(), records });
            self.log_head = Head { len: self.committed_log.len(), hash: Some(last) };
        }
        batch
    }

    async fn commit_batch(&self, batch: Batch) -> Result<(), LedgerError> {
        // The first try consumes the batch; a copy is made only when it has to be repeated.
        let id = batch.id.clone();
        let mut again = batch.clone();
        let mut next = Some(batch);
        let mut warned = false;
        let mut tried = 0;
        loop {
            tried += 1;
            let batch = next.take().unwrap_or_else(|| again.clone());
            match self.store.commit(batch).await {
                Ok(Commit::Committed) => return Ok(()),
                Ok(Commit::GuardFailed { guard, found }) => {
                    let guard = again.guards.swap_remove(guard.min(again.guards.len() - 1));
                    return Err(LedgerError::Deposed(format!("{guard:?} found {found}")));
                }
                Ok(Commit::Unknown) => match self.store.was_committed(&id).await {
                    Ok(true) => return Ok(()),
                    // Not there yet; the same id again is safe.
                    Ok(false) => {}
                    Err(error) => wait_for(error, &mut warned)?,
                },
                Err(error) => wait_for(error, &mut warned)?,
            }
            if self.tries.is_some_and(|tries| tried >= tries) {
                return Err(LedgerError::Unanswered { batch: id, tried });
            }
            tokio::time::sleep(RETRY_PAUSE).await;
        }
    }

    /// Forgets the chain of a sealed run.
    pub fn release(&mut self, run: &RunId) {
        self.chains.remove(run);
    }
}

/// Lets a store that is busy or full be asked again; every other failure is one.
fn wait_for(error: RunStoreError, warned: &mut bool) -> Result<(), LedgerError> {
    if !matches!(error, RunStoreError::Busy(_) | RunStoreError::Full(_)) {
        return Err(error.into());
    }
    if !std::mem::replace(warned, true) {
        tracing::warn!(%error, "the ledger cannot be written; work goes on when it can");
    }
    Ok(())
}

/// Most bytes of a [`SavedFrontier`]: numbers, two hashes and one for each bit of the length.
const SAVED_FRONTIER_BYTES_MAX: usize = 8 + 32 + 32 + 8 + 64 * 32;

/// The right edge of the deployment log's tree, so that nobody has to read the log to extend it. A cache.
struct SavedFrontier {
    admissions: u64,
    last: Digest,
    frontier: Frontier,
}

impl SavedFrontier {
    /// Admissions (8 bytes, big endian), hash of the last leaf, root, frontier. The root is there to find damage.
    fn encode(&self) -> Vec<u8> {
        let mut bytes = self.admissions.to_be_bytes().to_vec();
        bytes.extend_from_slice(self.last.as_bytes());
        bytes.extend_from_slice(self.frontier.root().as_bytes());
        bytes.extend(self.frontier.to_bytes());
        bytes
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (admissions, rest) = bytes.split_first_chunk::<8>()?;
        let (last, rest) = rest.split_first_chunk::<32>()?;
        let (root, rest) = rest.split_first_chunk::<32>()?;
        let frontier = Frontier::from_bytes(rest).ok().filter(|frontier| !frontier.is_empty())?;
        (frontier.root().as_bytes() == root).then_some(Self {
            admissions: u64::from_be_bytes(*admissions),
            last: Digest::from_bytes(*last),
            frontier,
        })
    }
}

fn to_json<T: Serialize>(value: &T) -> Vec<u8> {
    serde_json::to_vec(value).expect("plain data serialises")
}
