//! What people and scripts are shown of a run. Every top-level view carries a schema version.

use std::collections::BTreeMap;

use pangolin_core::{
    entry::{Failure, IsolationUsed, Usage, VerifyResult},
    ids::{Digest, DispatchId, ItemId, QueueName, RunId},
    pattern::PatternFailure,
};
use serde::{Deserialize, Serialize};

/// Version of the JSON that `--json` prints.
pub const VIEW_SCHEMA_VERSION: u32 = 1;

/// One line of `orch runs`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RunSummary {
    /// Run.
    pub run: RunId,
    /// Queue.
    pub queue: QueueName,
    /// `queued`, `active`, `done`, `failed` or `cancelled`.
    pub state: String,
    /// Who submitted it.
    pub actor: String,
    /// Milliseconds since the epoch.
    pub submitted_at: i64,
    /// Milliseconds since the epoch, once terminal.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub finished_at: Option<i64>,
    /// Items in total; `itemCount` in JSON, because [`RunView`] flattens this next to its own `items`.
    #[serde(rename = "itemCount")]
    pub items: u64,
}

/// A run in full.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RunView {
    /// [`VIEW_SCHEMA_VERSION`].
    pub schema_version: u32,
    /// The summary.
    #[serde(flatten)]
    pub summary: RunSummary,
    /// Items per status word.
    pub counts: BTreeMap<String, u64>,
    /// Known cost of all attempts in millionths of a US dollar.
    pub cost_microusd: u64,
    /// Whether the cost covers every attempt exactly.
    pub cost_complete: bool,
    /// Ledger entries so far.
    pub entries: u64,
    /// The last step of the pattern that failed.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub pattern_failure: Option<FailedStep>,
    /// Items in plan order.
    pub items: Vec<ItemView>,
}

/// A step of a run's pattern that failed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FailedStep {
    /// Pattern that the run was admitted with.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub pattern: Option<String>,
    /// Number of the step, as in its record.
    pub step: u64,
    /// `code`, `message` and the `policy` that applied, as recorded.
    #[serde(flatten)]
    pub failure: PatternFailure,
}

/// One item.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ItemView {
    /// Item.
    pub id: ItemId,
    /// `pending`, `ready`, `running`, `retry-wait`, `needs-input`, `done`, `failed`, `skipped`, `cancelled`, `denied`.
    pub status: String,
    /// One sentence: why the item is where it is.
    pub why: String,
    /// Unfinished dependencies.
    #[serde(rename = "blockedBy")]
    pub blocked_by: Vec<ItemId>,
    /// All dependencies.
    #[serde(rename = "depends_on")]
    pub depends_on: Vec<ItemId>,
    /// Lock keys.
    #[serde(rename = "resourceLocks")]
    pub resource_locks: Vec<String>,
    /// Attempts in order.
    pub attempts: Vec<AttemptView>,
    /// Digest of the patch of the last attempt that left one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub result_ref: Option<Digest>,
    /// Self-verify of the last attempt.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub verify: Option<VerifyResult>,
    /// Who added it after admission: `pattern:<queue>`, or the actor of a producer.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub added_by: Option<String>,
    /// Why it was added, in the words of the pattern.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub added_because: Option<String>,
    /// The item that took its place: the run's outcome is judged by that one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub superseded_by: Option<ItemId>,
    /// It ended without success, but the pattern lets the run succeed without it: why, in its words.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub tolerated: Option<String>,
}

/// One attempt.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AttemptView {
    /// From 1.
    pub attempt: u32,
    /// Dispatch.
    pub dispatch: DispatchId,
    /// `running`, `done`, `failed`, `cancelled`, `needs-input`.
    pub status: String,
    /// When it was fired, milliseconds since the epoch.
    pub fired_at: i64,
    /// When it was reconciled.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub ended_at: Option<i64>,
    /// Why it failed.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub failure: Option<Failure>,
    /// Next attempt not before, milliseconds since the epoch.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub retry_at: Option<i64>,
    /// Manifest.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub manifest_ref: Option<Digest>,
    /// Patch.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub patch: Option<Digest>,
    /// Outputs.
    #[serde(skip_serializing_if = "BTreeMap::is_empty", default)]
    pub outputs: BTreeMap<String, Digest>,
    /// List of the artifacts of plugin blocks, when there are any.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub block_artifacts: Option<Digest>,
    /// Usage.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub usage: Option<Usage>,
    /// Isolation really used.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub isolation: Option<IsolationUsed>,
    /// Worker events (JSON lines).
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub events: Option<Digest>,
    /// Agent transcript.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub transcript: Option<Digest>,
    /// Result record.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub result: Option<Digest>,
}
