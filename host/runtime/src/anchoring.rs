//! Publishing the checkpoints of seals outside of the deployment.

use std::sync::Arc;

use pangolin_audit::log::LogEvent;
use pangolin_core::ids::RunId;
use pangolin_orchestrator::{keys, ledger::SealRecord};
use pangolin_ports::{
    anchor::Anchor,
    run_store::{Batch, Commit, Guard, RunStore, RunStoreError, Write},
};
use serde::{Deserialize, Serialize};

use crate::deployment::RuntimeError;

/// Cell with the position in the deployment log up to which every seal was published.
const PUBLISHED: &str = "anchor/published";

/// Records read at once. After each page the position is kept, so that a look that ends before everything is published has
/// published something for good.
const PAGE: usize = 64;

#[derive(Serialize, Deserialize)]
struct Position {
    next: u64,
}

/// Publishes the checkpoint of each seal once it is in the ledger. Publishing is idempotent, so that nothing is lost or wrong
/// when this stops anywhere, or runs twice at once.
pub(crate) struct Anchoring {
    store: Arc<dyn RunStore>,
    anchor: Arc<dyn Anchor>,
}

fn damaged(problem: String) -> RuntimeError {
    RunStoreError::Damaged(problem).into()
}

impl Anchoring {
    pub(crate) fn new(store: Arc<dyn RunStore>, anchor: Arc<dyn Anchor>) -> Self {
        Self { store, anchor }
    }

    /// Goes on where the last call ended; answers how many checkpoints were published.
    pub(crate) async fn catch_up(&self) -> Result<usize, RuntimeError> {
        let (mut next, mut version) = match self.store.get(PUBLISHED).await? {
            Some(cell) => {
                let position = serde_json::from_slice::<Position>(&cell.value)
                    .map_err(|error| damaged(format!("cell {PUBLISHED}: {error}")))?;
                (position.next, cell.version)
            }
            None => (0, 0),
        };
        let mut published = 0;
        loop {
            let page = self.store.read(keys::LOG, next, PAGE).await?;
            let Some(last) = page.last().map(|record| record.seq) else { break };
            for record in &page {
                let event = LogEvent::decode(&record.bytes)
                    .map_err(|error| damaged(format!("leaf {} of the log: {error}", record.seq)))?;
                if let LogEvent::Seal(seal) = event {
                    self.publish(&seal.run).await?;
                    published += 1;
                }
            }
            next = last + 1;
            let key = PUBLISHED.to_owned();
            let guard = Guard::seen(key.clone(), version);
            version += 1;
            let value = serde_json::to_vec(&Position { next }).unwrap_or_default();
            let batch = Batch {
                id: format!("{PUBLISHED}/{version}/{next}"),
                guards: vec![guard],
                writes: vec![Write::Put { key, value }],
                appends: Vec::new(),
            };
            // Anything else leaves it to whoever publishes at the same time, or to the next call.
            if self.store.commit(batch).await? != Commit::Committed {
                break;
            }
        }
        Ok(published)
    }

    async fn publish(&self, run: &RunId) -> Result<(), RuntimeError> {
        let key = keys::seal(run);
        let cell = self.store.get(&key).await?.ok_or_else(|| damaged(format!("cell {key} is missing")))?;
        let seal: SealRecord =
            serde_json::from_slice(&cell.value).map_err(|error| damaged(format!("cell {key}: {error}")))?;
        let published = self.anchor.publish(&seal.log_checkpoint).await?;
        tracing::info!(%run, locator = %published.locator, created = published.created, "seal anchored");
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use async_trait::async_trait;
    use pangolin_audit::{log::Seal, note::VerifierKey};
    use pangolin_core::{entry::RunOutcome, ids::Digest};
    use pangolin_ports::{
        anchor::{AnchorError, AnchorEvidence, Published},
        memory::MemoryRunStore,
        run_store::{Append, Head},
    };

    use super::*;

    /// Takes so many and then nothing, as S3 at the end of a look's time.
    struct Tiring {
        left: AtomicUsize,
    }

    #[async_trait]
    impl Anchor for Tiring {
        fn id(&self) -> &str {
            "tiring"
        }
        async fn publish(&self, note: &str) -> Result<Published, AnchorError> {
            let taken =
                self.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
            match taken {
                Ok(_) => Ok(Published { locator: note.to_owned(), created: true }),
                Err(_) => {
                    Err(AnchorError::Refused { anchor: "tiring".to_owned(), problem: "tired".to_owned() })
                }
            }
        }
        async fn sizes(&self, _: &str, _: u64, _: usize) -> Result<Vec<u64>, AnchorError> {
            Ok(Vec::new())
        }
        async fn examine(&self, _: &str, _: u64, _: &[VerifierKey]) -> Result<AnchorEvidence, AnchorError> {
            Err(AnchorError::BadNote("not asked".to_owned()))
        }
    }

    /// A store with the seals of so many runs.
    async fn sealed(runs: u64) -> Arc<MemoryRunStore> {
        let store = Arc::new(MemoryRunStore::new());
        let mut records = Vec::new();
        let mut writes = Vec::new();
        for number in 0..runs {
            let run = RunId::new(format!("run-{number}")).unwrap();
            let root = Digest::of(run.as_str().as_bytes());
            let (outcome, at) = (RunOutcome::Done, 0);
            let seal = LogEvent::Seal(Seal {
                v: 1,
                run: run.clone(),
                outcome,
                entries: 1,
                root,
                at,
                admission: number,
            });
            let bytes = seal.encode().unwrap();
            records.push((Digest::of(&bytes), bytes));
            let record = SealRecord {
                run_checkpoint: String::new(),
                admit_index: 0,
                seal_index: number,
                log_checkpoint: format!("checkpoint {number}"),
                at: 0,
            };
            writes.push(Write::Put { key: keys::seal(&run), value: serde_json::to_vec(&record).unwrap() });
        }
        let stream = keys::LOG.to_owned();
        let head = Guard::HeadIs { stream: stream.clone(), head: Head { len: 0, hash: None } };
        let appends = vec![Append { stream, records }];
        let batch = Batch { id: "seals".to_owned(), guards: vec![head], writes, appends };
        assert_eq!(store.commit(batch).await.unwrap(), Commit::Committed);
        store
    }

    /// However short a look is, what it published stays published, and a backlog comes to its end.
    #[tokio::test]
    async fn a_backlog_that_no_single_call_publishes_is_published_by_many() {
        let store = sealed(300).await;
        let (mut calls, mut asked) = (0, 0);
        loop {
            let anchor = Arc::new(Tiring { left: AtomicUsize::new(PAGE + 1) });
            let done = Anchoring::new(store.clone(), anchor.clone()).catch_up().await;
            asked += PAGE + 1 - anchor.left.load(Ordering::SeqCst);
            calls += 1;
            assert!(calls <= 300 / PAGE + 1, "no progress");
            if done.is_ok() {
                break;
            }
        }
        assert!(asked < 310, "{asked} were published for 300");
        let anchor = Arc::new(Tiring { left: AtomicUsize::new(0) });
        assert_eq!(Anchoring::new(store, anchor).catch_up().await.unwrap(), 0, "all are known");
    }
}
