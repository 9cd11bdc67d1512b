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
            let guard = match version {
                0 => Guard::Absent(key.clone()),
                version => Guard::VersionIs { key: key.clone(), version },
            };
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
