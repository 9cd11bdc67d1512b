//! What one worker gives back.

use hmac::{Hmac, KeyInit, Mac};
use pangolin_core::{
    entry::{FailureReason, VerifyResult},
    ids::{Digest, DispatchId},
};
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use thiserror::Error;

/// Version of the result payload.
pub const RESULT_VERSION: u32 = 1;

/// Name of the result file in the result directory, written atomically as the worker's last act.
pub const RESULT_FILE: &str = "result.json";

/// Captured workspace changes: `before/` and `after/` hold only the changed paths, as the files were (symlinks as
/// symlinks, executable bit kept).
pub const CAPTURE_DIR: &str = "capture";

/// Captured output files, by path.
pub const OUTPUTS_DIR: &str = "outputs";

/// Artifacts of plugin blocks, each under its digest in hex; which are committed is in the result.
pub const ARTIFACTS_DIR: &str = "artifacts";

/// Agent stdout, raw and bounded.
pub const AGENT_STDOUT_FILE: &str = "agent.stdout";

/// Agent stderr, raw and bounded.
pub const AGENT_STDERR_FILE: &str = "agent.stderr";

/// The payload of `result.json`. File names are relative to the result directory.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WorkerResult {
    /// [`RESULT_VERSION`].
    pub v: u32,
    /// The dispatch; must equal the one that was started.
    pub dispatch: DispatchId,
    /// How it ended.
    pub ending: Ending,
    /// The agent process, if one ran.
    pub agent: Option<AgentRun>,
    /// Outcome of each block in order.
    pub blocks: Vec<BlockOutcome>,
    /// Self-verify, with its bounded report.
    pub verify: Option<VerifyResult>,
    /// Bounded, redacted output of self-verify.
    pub verify_report: Option<String>,
    /// Captured change, if a patch capture ran. Kept for failed attempts too.
    pub capture: Option<Capture>,
    /// Captured outputs: path below `outputs/`, digest, size.
    pub outputs: Vec<OutputFile>,
    /// What could not be captured and why (over limit, unreadable, name not UTF-8).
    pub not_captured: Vec<String>,
    /// Content of `.pangolin/needs_input.json`, when valid.
    pub needs_input: Option<serde_json::Value>,
    /// Mechanisms that really confined the commands (`userns`, `pidns`, `netns`, `no-new-privs`, `rlimits`, …).
    pub mechanisms: Vec<String>,
    /// Milliseconds since the epoch.
    pub started_at: i64,
    /// Milliseconds since the epoch.
    pub finished_at: i64,
}

/// How a worker ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "status", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Ending {
    /// All blocks passed.
    Finished {},
    /// A question waits.
    NeedsInput {},
    /// Failed.
    Failed {
        /// Closed vocabulary.
        reason: FailureReason,
        /// For people, redacted, bounded.
        message: String,
        /// Exit code of the agent or gate.
        exit_code: Option<i32>,
    },
    /// Stopped on request.
    Cancelled {},
}

/// The agent process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AgentRun {
    /// Exit code, if it exited.
    pub exit_code: Option<i32>,
    /// Signal, if it was killed.
    pub signal: Option<i32>,
    /// Killed because of its time limit.
    pub timed_out: bool,
    /// Output was cut at its limit.
    pub truncated: bool,
    /// Digest of [`AGENT_STDOUT_FILE`].
    pub stdout: Digest,
    /// Digest of [`AGENT_STDERR_FILE`].
    pub stderr: Digest,
    /// Milliseconds.
    pub duration_ms: i64,
}

/// One block.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BlockOutcome {
    /// `agent`, `script`, `capture` or `plugin`.
    pub kind: String,
    /// Position from 0.
    pub ordinal: u32,
    /// Passed, or not.
    pub ok: bool,
    /// Exit code where there is one.
    pub exit_code: Option<i32>,
    /// Milliseconds.
    pub duration_ms: i64,
    /// What a plugin block did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plugin: Option<Box<crate::plugin::PluginEvidence>>,
}

/// A captured change: the changed paths with their state before and after.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Capture {
    /// Changed paths in byte order.
    pub changes: Vec<Change>,
}

/// One changed path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Change {
    /// Path relative to the workspace, percent-encoded where a byte is not printable ASCII or is `%`.
    pub path: String,
    /// State before; absent for a new path.
    pub before: Option<FileState>,
    /// State after; absent for a deleted path.
    pub after: Option<FileState>,
}

/// A file at one point in time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileState {
    /// Git mode: `100644`, `100755` or `120000`.
    pub mode: String,
    /// Digest of the content (of the target text for a symlink).
    pub digest: Digest,
    /// Size in bytes.
    pub size: u64,
}

/// One captured output.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OutputFile {
    /// Path below `outputs/`, UTF-8.
    pub path: String,
    /// Digest of the bytes.
    pub digest: Digest,
    /// Size in bytes.
    pub size: u64,
}

/// `result.json`: the payload as text plus its HMAC-SHA256.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignedResult {
    /// JSON text of [`WorkerResult`].
    pub payload: String,
    /// HMAC-SHA256 over the payload's UTF-8 bytes, hex.
    pub hmac: String,
}

/// Why a result cannot be used.
#[derive(Debug, Error)]
pub enum ResultError {
    /// The key is not 64 hex digits.
    #[error("result key is malformed")]
    BadKey,
    /// Not made by the worker of this dispatch.
    #[error("result of {0} is not authentic: its HMAC does not match")]
    NotAuthentic(DispatchId),
    /// Authentic, but about another dispatch.
    #[error("result is of dispatch {found}, expected {expected}")]
    WrongDispatch {
        /// Expected.
        expected: DispatchId,
        /// Found.
        found: DispatchId,
    },
    /// Not the expected JSON.
    #[error("result of {dispatch} is malformed")]
    Malformed {
        /// The dispatch.
        dispatch: DispatchId,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
}

fn mac(key_hex: &str, payload: &[u8]) -> Result<Hmac<Sha256>, ResultError> {
    let key: Option<Vec<u8>> = (key_hex.len() == 64 && key_hex.is_ascii())
        .then(|| (0..64).step_by(2).map(|i| u8::from_str_radix(&key_hex[i..i + 2], 16).ok()).collect())
        .flatten();
    let mut mac =
        Hmac::<Sha256>::new_from_slice(&key.ok_or(ResultError::BadKey)?).map_err(|_| ResultError::BadKey)?;
    mac.update(payload);
    Ok(mac)
}

impl SignedResult {
    /// Signs a result with the per-dispatch key (64 hex digits).
    ///
    /// # Errors
    /// [`ResultError::BadKey`] or, never in practice, a serialisation failure.
    pub fn sign(result: &WorkerResult, key_hex: &str) -> Result<Self, ResultError> {
        let payload = serde_json::to_string(result)
            .map_err(|source| ResultError::Malformed { dispatch: result.dispatch.clone(), source })?;
        let tag = mac(key_hex, payload.as_bytes())?.finalize().into_bytes();
        let hmac = tag.iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(Self { payload, hmac })
    }

    /// Checks and opens a result.
    ///
    /// # Errors
    /// [`ResultError`] says why it must not be used.
    pub fn open(&self, key_hex: &str, expected: &DispatchId) -> Result<WorkerResult, ResultError> {
        let not_authentic = || ResultError::NotAuthentic(expected.clone());
        let tag: Option<Vec<u8>> = (self.hmac.len() == 64 && self.hmac.is_ascii())
            .then(|| (0..64).step_by(2).map(|i| u8::from_str_radix(&self.hmac[i..i + 2], 16).ok()).collect())
            .flatten();
        mac(key_hex, self.payload.as_bytes())?
            .verify_slice(&tag.ok_or_else(not_authentic)?)
            .map_err(|_| not_authentic())?;
        let result: WorkerResult = serde_json::from_str(&self.payload)
            .map_err(|source| ResultError::Malformed { dispatch: expected.clone(), source })?;
        if result.dispatch != *expected {
            return Err(ResultError::WrongDispatch { expected: expected.clone(), found: result.dispatch });
        }
        Ok(result)
    }
}
