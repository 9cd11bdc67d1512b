//! Where a deployment lies, and what a driver of it needs besides.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc, time::Duration};

use pangolin_audit::note::VerifierKey;
use pangolin_orchestrator::leadership::Leadership;
use pangolin_ports::{
    anchor::Anchor, blob_store::BlobStore, inbox::Inbox, run_store::RunStore, worker_backend::WorkerBackend,
};
use pangolin_store_sqlite::{ChangeWatch, SqliteRunStore};

use super::{Deployment, RuntimeError};
use crate::{
    config::WorkspaceConfig,
    dispatch::{Patience, Workspaces},
    keys::{self, DeploymentKey},
    plugins::Plugins,
    secrets::Secrets,
};

/// How often a stack in AWS is looked at by somebody who watches.
const PAUSE: Duration = Duration::from_secs(2);

/// Where a deployment lies.
pub(crate) enum Place {
    /// On this machine.
    Here {
        /// The ledger, which can be watched.
        store: Arc<SqliteRunStore>,
        /// Its key.
        key: DeploymentKey,
    },
    /// In a stack in AWS, which alone can sign.
    #[cfg_attr(not(feature = "aws"), expect(dead_code, reason = "made by `crate::aws` only"))]
    Stack {
        /// Its public key.
        key: VerifierKey,
        /// Where the submitter's commits are.
        workspace: Option<WorkspaceConfig>,
        /// Where checkpoints of seals are held.
        anchor: Arc<dyn Anchor>,
    },
}

/// What a deployment consists of.
pub(crate) struct Stores {
    pub(crate) store: Arc<dyn RunStore>,
    pub(crate) blobs: Arc<dyn BlobStore>,
    pub(crate) inbox: Arc<dyn Inbox>,
}

/// What a driver needs besides.
pub(crate) struct EngineParts {
    pub(crate) key: DeploymentKey,
    pub(crate) plugins: Arc<Plugins>,
    pub(crate) backends: BTreeMap<String, Arc<dyn WorkerBackend>>,
    pub(crate) secrets: Arc<dyn Secrets>,
    pub(crate) workspaces: Workspaces,
    pub(crate) patience: Patience,
    pub(crate) leadership: Arc<dyn Leadership>,
    pub(crate) holder: String,
    pub(crate) on_lead: Box<dyn Fn() + Send + Sync>,
}

/// A name for one process, ever.
pub(crate) fn holder() -> Result<String, RuntimeError> {
    let mut nonce = [0u8; 8];
    getrandom::fill(&mut nonce).map_err(|error| RuntimeError::Io {
        path: PathBuf::from("/dev/urandom"),
        source: std::io::Error::other(error.to_string()),
    })?;
    Ok(format!("{}-{}", std::process::id(), keys::hex(&nonce)))
}

/// Tells of changes of a ledger.
pub(crate) enum Watch {
    /// As they happen.
    Local(ChangeWatch),
    /// Now and then there may have been one.
    Pause,
}

impl Watch {
    /// Resolves when something may have changed since the last call.
    pub(crate) async fn changed(&mut self) -> Result<(), RuntimeError> {
        match self {
            Self::Local(watch) => Ok(watch.changed().await?),
            Self::Pause => {
                tokio::time::sleep(PAUSE).await;
                Ok(())
            }
        }
    }
}

impl Deployment {
    pub(super) fn watch(&self) -> Result<Watch, RuntimeError> {
        match &self.place {
            Place::Here { store, .. } => Ok(Watch::Local(store.watch()?)),
            Place::Stack { .. } => Ok(Watch::Pause),
        }
    }

    pub(super) fn author_key(&self) -> VerifierKey {
        match &self.place {
            Place::Here { key, .. } => key.signing.verifier_key(),
            Place::Stack { key, .. } => key.clone(),
        }
    }
}
