//! [`MemoryRunStore`]: the model of the ledger, as plain as possible.

use std::{
    collections::{BTreeMap, HashSet},
    ops::Bound,
    sync::Mutex,
};

use async_trait::async_trait;
use pangolin_core::ids::Digest;

use super::lock;
use crate::{
    batch_rules::check_batch,
    run_store::{
        Batch, Cell, CellKey, Commit, Guard, Head, Record, RunStore, RunStoreError, StreamName, Write,
    },
};

/// A ledger in memory.
#[derive(Debug, Default)]
pub struct MemoryRunStore {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    streams: BTreeMap<StreamName, Vec<(Digest, Vec<u8>)>>,
    cells: BTreeMap<CellKey, Slot>,
    committed: HashSet<String>,
}

/// A cell that may be deleted; its version stays so that it can go on growing.
#[derive(Debug)]
struct Slot {
    version: u64,
    value: Option<Vec<u8>>,
}

impl MemoryRunStore {
    /// An empty ledger.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }
}

impl State {
    fn head(&self, stream: &str) -> Head {
        self.streams.get(stream).map_or_else(Head::default, |records| Head {
            len: records.len() as u64,
            hash: records.last().map(|(hash, _)| *hash),
        })
    }

    fn version(&self, key: &str) -> Option<u64> {
        self.cells.get(key).filter(|slot| slot.value.is_some()).map(|slot| slot.version)
    }

    /// What is there instead, when the guard does not hold.
    fn check(&self, guard: &Guard) -> Result<(), String> {
        match guard {
            Guard::HeadIs { stream, head } => {
                let found = self.head(stream);
                if found == *head { Ok(()) } else { Err(describe_head(stream, found)) }
            }
            Guard::Absent(key) => match self.version(key) {
                None => Ok(()),
                Some(version) => Err(format!("cell {key:?} exists at version {version}")),
            },
            Guard::VersionIs { key, version } => match self.version(key) {
                Some(found) if found == *version => Ok(()),
                Some(found) => Err(format!("cell {key:?} is at version {found}")),
                None => Err(format!("cell {key:?} does not exist")),
            },
        }
    }

    fn apply(&mut self, batch: Batch) {
        for write in batch.writes {
            match write {
                Write::Put { key, value } => {
                    let slot = self.cells.entry(key).or_insert(Slot { version: 0, value: None });
                    slot.version += 1;
                    slot.value = Some(value);
                }
                Write::Delete(key) => {
                    if let Some(slot) = self.cells.get_mut(&key) {
                        slot.value = None;
                    }
                }
            }
        }
        for append in batch.appends {
            if !append.records.is_empty() {
                self.streams.entry(append.stream).or_default().extend(append.records);
            }
        }
        self.committed.insert(batch.id);
    }
}

fn describe_head(stream: &str, head: Head) -> String {
    match head.hash {
        Some(hash) => format!("stream {stream:?} has {} records and ends with {hash}", head.len),
        None => format!("stream {stream:?} is empty"),
    }
}

/// Lower bound of a prefix scan that goes on after `after`.
fn scan_start<'a>(prefix: &'a str, after: Option<&'a str>) -> Bound<&'a str> {
    match after {
        Some(after) if after >= prefix => Bound::Excluded(after),
        _ => Bound::Included(prefix),
    }
}

#[async_trait]
impl RunStore for MemoryRunStore {
    async fn commit(&self, batch: Batch) -> Result<Commit, RunStoreError> {
        check_batch(&batch)?;
        let mut state = lock(&self.state);
        if state.committed.contains(&batch.id) {
            return Ok(Commit::Committed);
        }
        for (index, guard) in batch.guards.iter().enumerate() {
            if let Err(found) = state.check(guard) {
                return Ok(Commit::GuardFailed { guard: index, found });
            }
        }
        state.apply(batch);
        Ok(Commit::Committed)
    }

    async fn was_committed(&self, batch_id: &str) -> Result<bool, RunStoreError> {
        Ok(lock(&self.state).committed.contains(batch_id))
    }

    async fn head(&self, stream: &str) -> Result<Head, RunStoreError> {
        Ok(lock(&self.state).head(stream))
    }

    async fn read(&self, stream: &str, from: u64, limit: usize) -> Result<Vec<Record>, RunStoreError> {
        let state = lock(&self.state);
        let records = state.streams.get(stream).map_or(&[][..], Vec::as_slice);
        let from_index = usize::try_from(from).unwrap_or(usize::MAX);
        let page = records.iter().skip(from_index).take(limit);
        let numbered = (from..).zip(page);
        Ok(numbered.map(|(seq, (hash, bytes))| Record { seq, hash: *hash, bytes: bytes.clone() }).collect())
    }

    async fn streams(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<StreamName>, RunStoreError> {
        let state = lock(&self.state);
        let from = state.streams.range::<str, _>((scan_start(prefix, after), Bound::Unbounded));
        Ok(from
            .map(|(name, _)| name)
            .take_while(|name| name.starts_with(prefix))
            .take(limit)
            .cloned()
            .collect())
    }

    async fn get(&self, key: &str) -> Result<Option<Cell>, RunStoreError> {
        let state = lock(&self.state);
        let slot = state.cells.get(key);
        Ok(slot.and_then(|slot| slot.value.clone().map(|value| Cell { version: slot.version, value })))
    }

    async fn scan(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<(CellKey, Cell)>, RunStoreError> {
        let state = lock(&self.state);
        let from = state.cells.range::<str, _>((scan_start(prefix, after), Bound::Unbounded));
        let live = from.take_while(|(key, _)| key.starts_with(prefix)).filter_map(|(key, slot)| {
            let value = slot.value.clone()?;
            Some((key.clone(), Cell { version: slot.version, value }))
        });
        Ok(live.take(limit).collect())
    }
}
