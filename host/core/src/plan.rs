//! The plan: what a user submits. Exactly the schema of the brief plus optional per-item fields.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::ids::{ItemId, QueueName, RunId};

/// A plan as submitted (`plan.json`). Build one with `validate::parse_plan`, which reports every finding at once.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Plan {
    /// The run's id.
    pub id: RunId,
    /// The queue that schedules the run.
    pub queue: QueueName,
    /// The items in submission order; order breaks ties when scheduling.
    pub items: Vec<PlanItem>,
    /// An open-ended run is sealed only after it was closed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub open_ended: bool,
}

/// One unit of work.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PlanItem {
    /// Unique in the run.
    pub id: ItemId,
    /// Name of the configured executor, usually `dispatch`.
    pub executor: String,
    /// Executor inputs; reserved keys are listed in the brief (`subagent`, `workerInput`, `env`, …).
    pub inputs: Map<String, Value>,
    /// Items that must be `done` first. After normalisation this includes every `needs[*].from`.
    pub depends_on: Vec<ItemId>,
    /// Exclusive lock keys, global to the deployment, taken all or nothing.
    #[serde(rename = "resourceLocks")]
    pub resource_locks: Vec<String>,
    /// Typed shape, recorded only.
    #[serde(rename = "subagentShape", default, skip_serializing_if = "Option::is_none")]
    pub subagent_shape: Option<String>,
    /// Products of other items that are handed to this one as `inputs/<key>`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub needs: BTreeMap<String, Need>,
    /// Attempts in total, at least 1. Overrides the deployment's default.
    #[serde(rename = "maxAttempts", default, skip_serializing_if = "Option::is_none")]
    pub max_attempts: Option<u32>,
    /// Wall time of one attempt in seconds.
    #[serde(rename = "timeoutSeconds", default, skip_serializing_if = "Option::is_none")]
    pub timeout_seconds: Option<u32>,
    /// Larger goes first within a queue; default 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<i32>,
    /// Container image for this item.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// Requested model or level (`fast`, `standard`, `max`, or a provider's id).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Money cap handed to the agent, in US dollars.
    #[serde(rename = "budgetUsd", default, skip_serializing_if = "Option::is_none")]
    pub budget_usd: Option<f64>,
    /// When this item ends `done` but its verify did not pass, what waits for it is skipped instead of started. Items
    /// added after that end may still depend on it: they know the verdict.
    #[serde(rename = "holdOnRed", default, skip_serializing_if = "std::ops::Not::not")]
    pub hold_on_red: bool,
    /// Plain environment values for the agent.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
}

/// One typed hand-off.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Need {
    /// The producing item.
    pub from: ItemId,
    /// Which of its products.
    pub select: Select,
}

/// Which product of an item.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Select {
    /// The captured workspace diff.
    Patch,
    /// A file below `outputs/`.
    Output {
        /// Path relative to `outputs/`.
        path: String,
    },
}
