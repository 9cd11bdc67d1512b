//! What asks the pattern of a queue.

use std::{collections::BTreeMap, sync::Arc};

use async_trait::async_trait;
use pangolin_core::{
    entry::Entry,
    ids::{Digest, QueueName},
    pattern::{Decisions, RunView, StepLimits},
};
use pangolin_ports::blob_store::BlobError;

/// The pattern that a queue is bound to now.
#[derive(Debug, Clone, PartialEq)]
pub struct Binding {
    /// Id in the configuration.
    pub id: String,
    /// Its component; the bytes are in the blob store.
    pub component: Digest,
    /// Parameters for it, `{}` when there are none.
    pub params: serde_json::Map<String, serde_json::Value>,
}

/// What a call was made with and what it cost.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CallFacts {
    /// Contract that was served, e.g. `pangolin:pattern@1.1.0`.
    pub contract: String,
    /// Engine, e.g. `wasmtime 48.0.8`.
    pub engine: String,
    /// Engine profile with its version, e.g. `pure/1`.
    pub profile: String,
    /// Fingerprint of the effective grant, when the plugin has one.
    pub grant: Option<Digest>,
    /// Limits in force; `None` when nothing was called. The driver sets the number of items.
    pub limits: Option<StepLimits>,
    /// Fuel used.
    pub fuel: u64,
    /// Largest linear memory in bytes.
    pub peak_memory: u64,
}

/// An answer.
#[derive(Debug, Clone, PartialEq)]
pub struct StepAnswer {
    /// What was decided.
    pub decisions: Decisions,
    /// How.
    pub facts: CallFacts,
}

/// A failure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StepFailure {
    /// Code of the plugin host's closed vocabulary, or [`UNJUDGED`](crate::admission::UNJUDGED) when a store did not answer: then
    /// nothing was asked, and the same is asked again until there is an answer.
    pub code: String,
    /// One sentence.
    pub message: String,
    /// The same call may work later. Everything else is deterministic.
    pub retryable: bool,
    /// How it was called.
    pub facts: Box<CallFacts>,
}

/// What the binding of a queue makes of a failed step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OnFailure {
    /// The run fails; what is in the graph goes on.
    Closed,
    /// The run goes on without a pattern.
    Open,
    /// This pattern, which ships with Pangolin, takes over.
    Builtin {
        /// Its id.
        id: String,
        /// Its component; the bytes are in the blob store.
        component: Digest,
    },
}

/// Why a queue has no pattern that can be asked.
#[derive(Debug, thiserror::Error)]
pub enum BindingError {
    /// It cannot be used before somebody does something: one sentence that says what.
    #[error("{0}")]
    Unusable(String),
    /// No judgement: a store did not answer. It may later.
    #[error(transparent)]
    Store(#[from] BlobError),
}

/// Which component is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// Id in the configuration; for messages and limits, the digest decides.
    pub id: String,
    /// The component, from the blob store: the binding of the queue may have moved on.
    pub component: Digest,
}

/// Asks patterns. A call is deterministic, bounded in time and memory and has no effect: the driver may repeat it after
/// a crash, and drops an answer that comes too late.
#[async_trait]
pub trait Patterns: Send + Sync {
    /// The pattern of a queue; `None` when none is asked. The component can be loaded and its bytes are stored.
    ///
    /// # Errors
    /// [`BindingError`].
    async fn binding(&self, queue: &QueueName) -> Result<Option<Binding>, BindingError>;

    /// Asks the planner about a plan. A pattern without one answers with empty decisions.
    ///
    /// # Errors
    /// [`StepFailure`].
    async fn plan(&self, asked: &Asked, view: Arc<RunView>) -> Result<StepAnswer, StepFailure>;

    /// Asks what follows from what changed. The view must not be held any more when the answer is there: otherwise the
    /// next step costs a copy of it.
    ///
    /// # Errors
    /// [`StepFailure`].
    async fn step(&self, asked: &Asked, view: Arc<RunView>) -> Result<StepAnswer, StepFailure>;

    /// What to make of a failure in this queue.
    ///
    /// # Errors
    /// The blob store does not answer, so that nobody can tell whether another pattern can take over. It may later.
    async fn on_failure(&self, queue: &QueueName) -> Result<OnFailure, BlobError>;

    /// Executes every recorded step of a run on another component; answers how many agreed. `documents` holds what
    /// [`pangolin_audit::rebuild::documents_of`] names for each entry.
    ///
    /// # Errors
    /// The first difference, or why the steps cannot be compared, as one sentence.
    async fn compare(
        &self,
        entries: &[Entry],
        documents: &BTreeMap<Digest, Vec<u8>>,
        asked: &Asked,
    ) -> Result<u64, String>;
}

/// No queue has a pattern.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoPatterns;

#[async_trait]
impl Patterns for NoPatterns {
    async fn binding(&self, _queue: &QueueName) -> Result<Option<Binding>, BindingError> {
        Ok(None)
    }

    async fn plan(&self, asked: &Asked, view: Arc<RunView>) -> Result<StepAnswer, StepFailure> {
        self.step(asked, view).await
    }

    async fn step(&self, asked: &Asked, _view: Arc<RunView>) -> Result<StepAnswer, StepFailure> {
        Err(StepFailure {
            code: "host-error".to_owned(),
            message: format!("this deployment cannot run patterns, also not {}", asked.id),
            retryable: false,
            facts: Box::default(),
        })
    }

    async fn on_failure(&self, _queue: &QueueName) -> Result<OnFailure, BlobError> {
        Ok(OnFailure::Closed)
    }

    async fn compare(
        &self,
        _entries: &[Entry],
        _documents: &BTreeMap<Digest, Vec<u8>>,
        asked: &Asked,
    ) -> Result<u64, String> {
        Err(format!("this deployment cannot run patterns, also not {}", asked.id))
    }
}
