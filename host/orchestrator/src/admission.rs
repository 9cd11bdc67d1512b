//! Deciding whether a submission becomes a run.

use std::sync::Arc;

use crate::message::Base;
use async_trait::async_trait;
use pangolin_core::{
    entry::RetryPolicy,
    ids::Digest,
    plan::{Plan, PlanItem},
    state::RunState,
    validate::{Finding, PlanContext},
};

/// What is fixed for a run when it is admitted.
#[derive(Debug, Clone, Default)]
pub struct Pinned {
    /// Blob that lists the registered artifacts by reference and digest.
    pub pins: Option<Digest>,
    /// Commit that workspaces start from.
    pub base_commit: Option<String>,
}

/// Code of a finding that is no judgement: a store did not answer. Whatever is asked stays where it is and is asked again.
pub const UNJUDGED: &str = "storage";

/// The deployment's side of admission.
#[async_trait]
pub trait Admission: Send + Sync {
    /// Names that a plan may use.
    fn context(&self) -> Arc<PlanContext>;

    /// Deployment namespace.
    fn namespace(&self) -> &str;

    /// Retry policy for new runs.
    fn retry(&self) -> RetryPolicy;

    /// Resolves everything the plan refers to; it is the plan as the pattern amended it. `base` is what the submitter
    /// brought. All findings at once, or one with [`UNJUDGED`]; nothing is stored but blobs.
    async fn pin(&self, plan: &Plan, base: Option<&Base>) -> Result<Pinned, Vec<Finding>>;

    /// Resolves what added items refer to, first in what the run is pinned to; answers the blob that lists it. Pointers
    /// of findings start at the array of items.
    async fn pin_added(&self, run: &RunState, items: &[PlanItem]) -> Result<Option<Digest>, Vec<Finding>>;
}
