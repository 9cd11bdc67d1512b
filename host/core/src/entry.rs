//! Ledger entries: the facts of a run. Run state is the fold of these and nothing else.
//!
//! On disk and in a bundle an entry is RFC 8785 canonical JSON of [`Entry`]: integers, strings and booleans only,
//! no floats, no nulls (absent instead), times in integer milliseconds. Its hash is its RFC 6962 leaf hash and
//! `prev` is the leaf hash of the entry before it. Encoding and hashing live in `pangolin-audit`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{
    ids::{Digest, DispatchId, ItemId, QueueName, RunId},
    outputs::OutputsTotal,
    pattern::DecisionRecord,
};

/// Version of the entry format.
pub const ENTRY_VERSION: u32 = 1;

/// Longest encoded entry in bytes (fits the uint16 length prefix of C2SP tlog-tiles entry bundles).
pub const ENTRY_BYTES_MAX: usize = 60_000;

/// One fact, with its place in the chain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// [`ENTRY_VERSION`].
    pub v: u32,
    /// The run.
    pub run: RunId,
    /// Position in the run, from 0, without gaps.
    pub seq: u64,
    /// Milliseconds since the Unix epoch, asserted by the orchestrator.
    pub at: i64,
    /// Who caused it: `human:…`, `agent:…`, `app:…`, `pattern:<queue>` or `engine`.
    pub actor: String,
    /// Leaf hash of the entry before; absent only at `seq` 0.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub prev: Option<Digest>,
    /// What happened.
    #[serde(flatten)]
    pub body: EntryBody,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind")]
pub enum EntryBody {
    /// First entry of every run.
    #[serde(rename = "run.submitted")]
    RunSubmitted(Box<RunSubmitted>),
    /// An attempt was decided. Committed before the worker is started.
    #[serde(rename = "item.fired")]
    ItemFired {
        /// The item.
        item: ItemId,
        /// Attempt number from 1.
        attempt: u32,
        /// Derived from namespace, run, item and attempt.
        dispatch: DispatchId,
        /// Digest of the dispatch manifest blob: everything the worker was given.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        manifest: Option<Digest>,
    },
    /// Some of the outputs of a running attempt that left too many for the entry that ends it. See
    /// [`crate::outputs`].
    #[serde(rename = "item.outputs")]
    ItemOutputs {
        /// The item.
        item: ItemId,
        /// The running attempt.
        attempt: u32,
        /// Its dispatch: parts of another attempt do not fit.
        dispatch: DispatchId,
        /// Number of the part. 0 starts over: what was recorded of this attempt before does not count.
        part: u64,
        /// Output files by path below `outputs/`. Every path is greater than those of the parts before.
        outputs: BTreeMap<String, Digest>,
    },
    /// An attempt ended and the item is final (or waits for input).
    #[serde(rename = "item.reconciled")]
    ItemReconciled {
        /// The item.
        item: ItemId,
        /// The attempt that ended.
        attempt: u32,
        /// Final status.
        status: FinalStatus,
        /// Why, when it is not `done`.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        failure: Option<Failure>,
        /// What the attempt left behind.
        #[serde(flatten)]
        evidence: Box<Evidence>,
    },
    /// An attempt failed and another one follows.
    #[serde(rename = "item.retried")]
    ItemRetried {
        /// The item.
        item: ItemId,
        /// The attempt that failed.
        attempt: u32,
        /// Why.
        failure: Failure,
        /// The next attempt is not started before this time (ms).
        not_before: i64,
        /// What the failed attempt left behind.
        #[serde(flatten)]
        evidence: Box<Evidence>,
    },
    /// Items that can never become ready, because of `cause`. The whole cascade is one or few entries.
    #[serde(rename = "item.skipped")]
    ItemSkipped {
        /// The skipped items, in plan order.
        items: Vec<ItemId>,
        /// The item whose end made them unreachable.
        cause: ItemId,
    },
    /// An item was refused before its first attempt (authorizer or missing hand-off).
    #[serde(rename = "item.denied")]
    ItemDenied {
        /// The item.
        item: ItemId,
        /// Why.
        failure: Failure,
    },
    /// Somebody asked to cancel one item. Waiting items are cancelled by this; a running one is stopped and
    /// ends with `item.reconciled` status `cancelled`.
    #[serde(rename = "item.cancelled")]
    ItemCancelled {
        /// The item.
        item: ItemId,
    },
    /// A pattern lets the run succeed without these items, which ended without success. Follows `pattern.decided`.
    #[serde(rename = "item.tolerated")]
    ItemTolerated {
        /// The items, in the order of the decision.
        items: Vec<ItemId>,
        /// Why, in the plugin's words.
        #[serde(skip_serializing_if = "String::is_empty", default)]
        explanation: String,
        /// Digest of the pattern component that decided.
        plugin: Digest,
    },
    /// Items were added to the run.
    #[serde(rename = "run.extended")]
    RunExtended {
        /// The item whose end caused it.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        cause: Option<ItemId>,
        /// Ids of the new items in order.
        items: Vec<ItemId>,
        /// Digest of the blob that holds the new items as a JSON array.
        document: Digest,
        /// Why, in the plugin's or producer's words.
        #[serde(skip_serializing_if = "String::is_empty", default)]
        explanation: String,
        /// Digest of the pattern component that decided.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        plugin: Option<Digest>,
        /// New item → ended item whose place it takes: the outcome of the run is judged by the new one.
        #[serde(skip_serializing_if = "BTreeMap::is_empty", default)]
        supersedes: BTreeMap<ItemId, ItemId>,
        /// Digest of the blob that lists every registered artifact the new items are pinned to.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        pins: Option<Digest>,
    },
    /// The pattern of the queue was asked. In the same commit as the `run.extended` and `item.tolerated` that
    /// follow from it, in this order.
    #[serde(rename = "pattern.decided")]
    PatternDecided(Box<DecisionRecord>),
    /// A newer version of the pattern gave the same answers to every step so far and is asked from now on.
    #[serde(rename = "pattern.moved")]
    PatternMoved {
        /// Component until now.
        from: Digest,
        /// Component from now on.
        to: Digest,
        /// Steps that were executed again and agreed.
        steps: u64,
    },
    /// Somebody asked to cancel the run: everything waiting is cancelled, running workers are stopped.
    #[serde(rename = "run.cancelled")]
    RunCancelled {},
    /// No more items will be added to an open-ended run.
    #[serde(rename = "run.closed")]
    RunClosed {},
    /// Last entry of every run.
    #[serde(rename = "run.completed")]
    RunCompleted {
        /// Overall outcome.
        outcome: RunOutcome,
        /// Items per final status.
        counts: BTreeMap<FinalStatus, u64>,
    },
}

impl EntryBody {
    /// The `kind` text.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::RunSubmitted(_) => "run.submitted",
            Self::ItemFired { .. } => "item.fired",
            Self::ItemOutputs { .. } => "item.outputs",
            Self::ItemReconciled { .. } => "item.reconciled",
            Self::ItemRetried { .. } => "item.retried",
            Self::ItemSkipped { .. } => "item.skipped",
            Self::ItemDenied { .. } => "item.denied",
            Self::ItemCancelled { .. } => "item.cancelled",
            Self::ItemTolerated { .. } => "item.tolerated",
            Self::RunExtended { .. } => "run.extended",
            Self::PatternDecided(_) => "pattern.decided",
            Self::PatternMoved { .. } => "pattern.moved",
            Self::RunCancelled {} => "run.cancelled",
            Self::RunClosed {} => "run.closed",
            Self::RunCompleted { .. } => "run.completed",
        }
    }
}

/// Everything that was fixed when the run was admitted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunSubmitted {
    /// Origin of the deployment log, e.g. `pangolin.local/0b1c…`: binds the run to its deployment.
    pub log: String,
    /// Deployment namespace (part of every dispatch id).
    pub namespace: String,
    /// Digest of the plan blob: the exact bytes that were submitted.
    pub plan: Digest,
    /// Number of items in the plan.
    pub items: u64,
    /// The queue.
    pub queue: QueueName,
    /// Digest of the blob that lists every registered artifact the run is pinned to, when there is one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub pins: Option<Digest>,
    /// Commit of the repository that workspaces start from, when there is one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub base_commit: Option<String>,
    /// Digest of the pattern component bound to the queue.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub pattern: Option<Digest>,
    /// Id of that pattern in the configuration, e.g. `map-reduce` or `acme/mine`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub pattern_id: Option<String>,
    /// Digest of the blob with the parameters of the pattern (canonical JSON), when there are any.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub pattern_params: Option<Digest>,
    /// Digest of the plan as the pattern amended it (canonical JSON), when it did. The run starts from this one;
    /// `plan` stays what was submitted.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub graph: Option<Digest>,
    /// Retry policy in force.
    pub retry: RetryPolicy,
    /// Stays open until closed.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub open_ended: bool,
}

/// Attempts and backoff. All times in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RetryPolicy {
    /// Attempts in total when the item does not say, at least 1.
    pub max_attempts: u32,
    /// Wait before the second attempt; doubles with each further one.
    pub base_ms: i64,
    /// Longest wait.
    pub cap_ms: i64,
    /// Wall time of one attempt when the item does not say, in milliseconds.
    pub timeout_ms: i64,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self { max_attempts: 2, base_ms: 2_000, cap_ms: 60_000, timeout_ms: 7_200_000 }
    }
}

/// How an attempt or item ended for good.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FinalStatus {
    /// Work was delivered and all gates passed.
    Done,
    /// No attempt succeeded.
    Failed,
    /// Could never start because of another item.
    Skipped,
    /// Stopped on request.
    Cancelled,
    /// Refused.
    Denied,
    /// The agent asked a question; the item waits (not terminal).
    NeedsInput,
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RunOutcome {
    /// Every item that was not superseded or tolerated is done.
    Done,
    /// At least one other item failed, was denied or skipped.
    Failed,
    /// The run was cancelled.
    Cancelled,
}

/// Why an attempt failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// Closed vocabulary of the worker lifecycle.
    pub reason: FailureReason,
    /// What decides whether a retry makes sense.
    pub class: FailureClass,
    /// One sentence for people, at most 2,000 bytes, secrets redacted.
    pub message: String,
}

/// The brief's `dispatch.failed.reason`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FailureReason {
    /// The worker itself, the setup script or a context requirement failed.
    WorkerFailed,
    /// The agent or a gate failed.
    ProviderFailed,
    /// The attempt took too long.
    Timeout,
    /// Stopped on request.
    Cancelled,
    /// A secret or input could not be fetched.
    FetchFailed,
    /// Bytes did not match their digest, or a bundle or result is malformed or not authentic.
    IntegrityFailed,
}

/// Decides about retry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FailureClass {
    /// Machine, engine, network: worker lost, provider 5xx, backend not answering. Retried.
    Infrastructure,
    /// The agent or a gate ended red. Retried.
    Work,
    /// Out of time. Retried.
    Timeout,
    /// The agent was refused a tool, a key was rejected, a cap was reached. Not retried.
    Refusal,
    /// Bad input, bad contract, integrity. Not retried: it would fail the same way.
    Invalid,
    /// Stopped on request. Not retried.
    Cancelled,
}

impl FailureClass {
    /// Whether another attempt may help.
    #[must_use]
    pub const fn is_retryable(self) -> bool {
        matches!(self, Self::Infrastructure | Self::Work | Self::Timeout)
    }
}

/// What an attempt left behind. Everything is a reference; the bytes are in the blob store.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Evidence {
    /// Exit code of the worker or agent.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub exit_code: Option<i32>,
    /// Digest of the result record (JSON: blocks, verify report, outputs, usage, timings).
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub result: Option<Digest>,
    /// Digest of the patch bytes. Empty diffs have no patch.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub patch: Option<Digest>,
    /// Git tree id of the workspace with the patch applied to the base commit.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub tree: Option<String>,
    /// Output files by path below `outputs/`. In an entry: empty when they were recorded in `item.outputs` before. In
    /// the state: all of them.
    #[serde(skip_serializing_if = "BTreeMap::is_empty", default)]
    pub outputs: BTreeMap<String, Digest>,
    /// What the `item.outputs` of the attempt add up to; present exactly when there are any.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub outputs_total: Option<OutputsTotal>,
    /// Digest of the list of artifacts that plugin blocks left ([`crate::artifacts::ArtifactList`]), when there are any.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub block_artifacts: Option<Digest>,
    /// Digest of the worker's event stream (JSON lines).
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub events: Option<Digest>,
    /// Digest of the agent's transcript.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub transcript: Option<Digest>,
    /// Result of self-verify.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub verify: Option<VerifyResult>,
    /// Model usage.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub usage: Option<Usage>,
    /// The isolation that was really in force.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub isolation: Option<IsolationUsed>,
    /// When the worker started (ms).
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub started_at: Option<i64>,
    /// When the worker ended (ms).
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub finished_at: Option<i64>,
}

/// Result of the report-only verify command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VerifyResult {
    /// Exit code was 0.
    pub passed: bool,
    /// Wall time in milliseconds.
    pub duration_ms: i64,
}

/// Model usage and how far to trust the numbers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Models that really served the attempt.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub models: Vec<String>,
    /// Counters by name (`input`, `cached_read`, `cache_write`, `output`, `turns`), in tokens or turns.
    #[serde(skip_serializing_if = "BTreeMap::is_empty", default)]
    pub counters: BTreeMap<String, u64>,
    /// Cost in millionths of a US dollar.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub cost_microusd: Option<u64>,
    /// How good the numbers are.
    pub quality: UsageQuality,
}

/// How good usage numbers are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum UsageQuality {
    /// From the provider's final report.
    Exact,
    /// Summed from a stream that was cut off.
    Partial,
    /// Computed by us.
    Estimated,
    /// Not known.
    Missing,
}

/// The isolation that was really in force for an attempt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IsolationUsed {
    /// The level.
    pub level: Isolation,
    /// Mechanisms by name, e.g. `userns`, `netns`, `landlock`, `no-new-privs`, `cap-drop-all`.
    pub mechanisms: Vec<String>,
    /// Network: `none`, `host` or `broker`.
    pub network: String,
    /// Image digest or id for containers.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub image: Option<String>,
}

/// How strongly a worker is separated from the host. Requested in configuration, never weakened silently.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Isolation {
    /// A plain child process.
    None,
    /// Kernel sandbox on the host: own user, mount, pid and network namespaces.
    Sandbox,
    /// A container.
    Container,
}
