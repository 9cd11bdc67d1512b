//! What is written down about a dispatch.

use pangolin_core::{entry::IsolationUsed, ids::Digest};
use pangolin_ports::worker_backend::{Limits, WorkerExit};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

pub(crate) const VERSION: u32 = 1;

pub(crate) const MEMO: &str = "memo.json";
pub(crate) const TASK: &str = "task.json";
pub(crate) const STARTER: &str = "starter.json";
pub(crate) const STOP: &str = "stop.json";
pub(crate) const CLAIM: &str = "claim.json";
pub(crate) const ARCHIVE: &str = "result.tar";
pub(crate) const COMPLETION: &str = "completion.json";
pub(crate) const VERDICT: &str = "verdict.json";

/// Largest record.
pub(crate) const RECORD_BYTES_MAX: u64 = 64 << 10;

/// What was asked for.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct Memo {
    pub(crate) schema_version: u32,
    pub(crate) isolation: IsolationUsed,
    pub(crate) limits: Limits,
    /// Digest of the result key: who asks again must have the same.
    pub(crate) key: Digest,
    /// Of the host that asked first.
    pub(crate) result_dir: PathBuf,
    pub(crate) at: i64,
}

/// The task.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct TaskRecord {
    pub(crate) schema_version: u32,
    pub(crate) arn: String,
    /// Of the `ensure` that wrote this and that ECS had given the task to; empty when it was found by one who did not start it.
    pub(crate) nonce: String,
    pub(crate) at: i64,
}

/// Why a dispatch is being stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Reason {
    Cancelled,
    TimedOut,
}

impl Reason {
    pub(crate) const fn exit(self) -> WorkerExit {
        match self {
            Self::Cancelled => WorkerExit::Cancelled,
            Self::TimedOut => WorkerExit::TimedOut,
        }
    }

    /// For ECS, which shows it to people.
    pub(crate) const fn why(self) -> &'static str {
        match self {
            Self::Cancelled => "Pangolin: cancelled",
            Self::TimedOut => "Pangolin: over its time limit",
        }
    }
}

/// A stop that was asked for. The first reason stays.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct Stop {
    pub(crate) schema_version: u32,
    pub(crate) reason: Reason,
    pub(crate) at: i64,
}

/// How a dispatch without a completion ended, as the first host that judged saw it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "ended", rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) enum Verdict {
    Exited { code: i32 },
    TimedOut {},
    Cancelled {},
    Lost { detail: String },
}

impl From<WorkerExit> for Verdict {
    fn from(exit: WorkerExit) -> Self {
        match exit {
            WorkerExit::Exited { code } => Self::Exited { code },
            WorkerExit::TimedOut => Self::TimedOut {},
            WorkerExit::Cancelled => Self::Cancelled {},
            WorkerExit::Lost { detail } => Self::Lost { detail },
        }
    }
}

impl From<Verdict> for WorkerExit {
    fn from(verdict: Verdict) -> Self {
        match verdict {
            Verdict::Exited { code } => Self::Exited { code },
            Verdict::TimedOut {} => Self::TimedOut,
            Verdict::Cancelled {} => Self::Cancelled,
            Verdict::Lost { detail } => Self::Lost { detail },
        }
    }
}
