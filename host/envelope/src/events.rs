//! The worker's stdout: one JSON object per line. The six `dispatch.*` kinds are a closed vocabulary.

use pangolin_core::{entry::FailureReason, ids::DispatchId};
use serde::{Deserialize, Serialize};

/// One line of the worker's stdout. Texts are redacted and bounded before they get here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all_fields = "camelCase")]
pub enum Event {
    /// The worker runs.
    #[serde(rename = "worker.boot")]
    WorkerBoot {
        /// Dispatch.
        dispatch_id: DispatchId,
    },
    /// The host validated names and resolved refs (emitted by the host).
    #[serde(rename = "dispatch.accepted")]
    Accepted {
        /// Dispatch.
        dispatch_id: DispatchId,
        /// Milliseconds since the epoch.
        at: i64,
    },
    /// Bundles verified, ready to overlay.
    #[serde(rename = "dispatch.started")]
    Started {
        /// Dispatch.
        dispatch_id: DispatchId,
        /// Milliseconds since the epoch.
        at: i64,
    },
    /// `pangolin-setup.sh` ended.
    #[serde(rename = "setup-script.ran")]
    SetupScriptRan {
        /// Exit code; absent when killed.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        exit_code: Option<i32>,
        /// Milliseconds.
        duration_ms: i64,
        /// Captured output.
        stdout: String,
        /// Captured errors.
        stderr: String,
    },
    /// The agent process ended.
    #[serde(rename = "runtime.adapter.ran")]
    RuntimeAdapterRan {
        /// Exit code; 124 on timeout, 128 + n on signal n.
        exit_code: i32,
        /// Milliseconds.
        duration_ms: i64,
        /// Captured output.
        stdout: String,
        /// Captured errors.
        stderr: String,
    },
    /// A gate script ended.
    #[serde(rename = "script.gate.ran")]
    ScriptGateRan {
        /// Position of the block.
        ordinal: u32,
        /// Exit code; 124 on timeout.
        exit_code: i32,
        /// Milliseconds.
        duration_ms: i64,
        /// Captured output.
        stdout: String,
        /// Captured errors.
        stderr: String,
    },
    /// A plugin block ended.
    #[serde(rename = "plugin.block.ran")]
    PluginBlockRan {
        /// Position of the block.
        ordinal: u32,
        /// Id of the plugin.
        plugin: String,
        /// Its verdict; absent when it gave none.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        passed: Option<bool>,
        /// Its words, or what went wrong.
        summary: String,
        /// Code of the failure, if the plugin failed.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        failure: Option<String>,
        /// Milliseconds.
        duration_ms: i64,
    },
    /// Self-verify ended.
    #[serde(rename = "verify.ran")]
    VerifyRan {
        /// Dispatch.
        dispatch_id: DispatchId,
        /// Exit code was 0.
        passed: bool,
        /// Milliseconds.
        duration_ms: i64,
    },
    /// Something that should be captured could not be.
    #[serde(rename = "escape.failed")]
    EscapeFailed {
        /// What and why.
        message: String,
    },
    /// The agent delivered.
    #[serde(rename = "dispatch.finished")]
    Finished {
        /// Dispatch.
        dispatch_id: DispatchId,
        /// Milliseconds since the epoch.
        at: i64,
        /// 0.
        exit_code: i32,
        /// Milliseconds since the worker started.
        duration_ms: i64,
    },
    /// The agent asked a question.
    #[serde(rename = "dispatch.needs_input")]
    NeedsInput {
        /// Dispatch.
        dispatch_id: DispatchId,
        /// Milliseconds since the epoch.
        at: i64,
        /// The question.
        question: String,
    },
    /// Anything else.
    #[serde(rename = "dispatch.failed")]
    Failed {
        /// Dispatch.
        dispatch_id: DispatchId,
        /// Milliseconds since the epoch.
        at: i64,
        /// Closed vocabulary.
        reason: FailureReason,
        /// For people.
        message: String,
    },
    /// SIGTERM was honoured.
    #[serde(rename = "dispatch.cancelled")]
    Cancelled {
        /// Dispatch.
        dispatch_id: DispatchId,
        /// Milliseconds since the epoch.
        at: i64,
    },
}
