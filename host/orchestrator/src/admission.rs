//! Deciding whether a submission becomes a run.

use std::sync::Arc;

use async_trait::async_trait;
use pangolin_core::{
    entry::RetryPolicy,
    ids::Digest,
    plan::Plan,
    validate::{Finding, PlanContext},
};

/// What is fixed for a run when it is admitted.
#[derive(Debug, Clone, Default)]
pub struct Pinned {
    /// Blob that lists the registered artifacts by reference and digest.
    pub pins: Option<Digest>,
    /// Commit that workspaces start from.
    pub base_commit: Option<String>,
    /// Pattern component of the queue.
    pub pattern: Option<Digest>,
}

/// The deployment's side of admission.
#[async_trait]
pub trait Admission: Send + Sync {
    /// Names that a plan may use.
    fn context(&self) -> Arc<PlanContext>;

    /// Deployment namespace.
    fn namespace(&self) -> &str;

    /// Retry policy for new runs.
    fn retry(&self) -> RetryPolicy;

    /// Resolves everything the plan refers to. All findings at once; nothing is stored but blobs.
    async fn pin(&self, plan: &Plan) -> Result<Pinned, Vec<Finding>>;
}
