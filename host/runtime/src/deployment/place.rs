//! Where a deployment lies, and what a driver of it needs besides.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc, time::Duration};

use async_trait::async_trait;
use pangolin_audit::note::VerifierKey;
use pangolin_orchestrator::leadership::Leadership;
use pangolin_ports::{
    anchor::Anchor,
    blob_store::BlobStore,
    inbox::Inbox,
    run_store::{RunStore, RunStoreError},
    worker_backend::WorkerBackend,
};

use super::{Deployment, RuntimeError};
use crate::{
    config::WorkspaceConfig,
    dispatch::{Patience, Workspaces},
    keys::{self, DeploymentKey},
    plugins::Plugins,
    secrets::Secrets,
};

/// How often a stack in AWS is looked at by somebody who watches.
pub(super) const PAUSE: Duration = Duration::from_secs(2);

/// What a ledger on this machine can do besides what every ledger can.
#[async_trait]
pub(crate) trait LocalLedger: Send + Sync {
    /// Resolves when it may have changed since the last call.
    async fn changed(&self) -> Result<(), RunStoreError>;

    /// Tells of changes from now on.
    #[cfg(feature = "local")]
    fn watch(&self) -> Result<Box<dyn LedgerWatch>, RunStoreError>;

    /// Problems of its file.
    #[cfg(feature = "local")]
    async fn check(&self) -> Result<Vec<String>, RunStoreError>;
}

/// Tells of changes of a ledger on this machine.
#[cfg(feature = "local")]
#[async_trait]
pub(crate) trait LedgerWatch: Send {
    /// Resolves when it may have changed since the last call.
    async fn changed(&mut self) -> Result<(), RunStoreError>;
}

/// Where a deployment lies.
pub(crate) enum Place {
    /// On this machine.
    #[cfg_attr(not(feature = "local"), expect(dead_code, reason = "made by `super::here` only"))]
    Here {
        /// The ledger, which can be watched.
        store: Arc<dyn LocalLedger>,
        /// Its key.
        key: DeploymentKey,
        /// Where checkpoints of seals are held besides, if anywhere.
        anchor: Option<Arc<dyn Anchor>>,
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

impl Deployment {
    pub(super) fn author_key(&self) -> VerifierKey {
        match &self.place {
            Place::Here { key, .. } => key.signing.verifier_key(),
            Place::Stack { key, .. } => key.clone(),
        }
    }
}
