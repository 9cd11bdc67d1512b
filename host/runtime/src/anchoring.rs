//! Publishing the checkpoints of seals outside of the deployment.

use std::sync::Arc;

use pangolin_audit::log::LogEvent;
use pangolin_core::ids::RunId;
use pangolin_orchestrator::{keys, ledger::SealRecord};
use pangolin_ports::{
    anchor::Anchor,
    run_store::{Batch, RunStore, RunStoreError, Write},
};
use serde::{Deserialize, Serialize};

use crate::deployment::RuntimeError;

/// Cell with the position in the deployment log up to which every seal was published.
const PUBLISHED: &str = "anchor/published";

/// Records read at once.
const PAGE: usize = 256;

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
        let begun = match self.store.get(PUBLISHED).await? {
            Some(cell) => {
                serde_json::from_slice::<Position>(&cell.value)
                    .map_err(|error| damaged(format!("cell {PUBLISHED}: {error}")))?
                    .next
            }
            None => 0,
        };
        let (mut next, mut published) = (begun, 0);
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
        }
        if next > begun {
            let value = serde_json::to_vec(&Position { next }).unwrap_or_default();
            let batch = Batch {
                // Going back by a concurrent call would only publish again.
                id: format!("{PUBLISHED}/{next}"),
                guards: Vec::new(),
                writes: vec![Write::Put { key: PUBLISHED.to_owned(), value }],
                appends: Vec::new(),
            };
            self.store.commit(batch).await?;
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
