//! Blocks that third parties wrote: what the host hands the worker for one, and what the worker records of it.
//!
//! The grant is a plain list of rules; who decided on it (manifest, project, operator) is `pangolin-plugin-authority`.
//! Rules have one pattern language: a path is matched segment by segment and a command line argument by argument;
//! `**` alone stands for any number of segments or arguments, `*` inside one for any run of its characters.

use std::collections::BTreeMap;

use pangolin_core::ids::Digest;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Most denials, programs, contacts and log lines that are recorded of one block; the rest is counted.
pub const RECORDS_MAX: usize = 100;

/// A component that the pipeline uses, compiled by the host and staged with the envelope.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StagedPlugin {
    /// The id that `plugin` blocks use.
    pub id: String,
    /// Digest of the component: what was approved.
    pub digest: Digest,
    /// Contract it was made for, e.g. `pangolin:block@1.0.0`.
    pub contract: String,
    /// Engine and settings that the code below was compiled for.
    pub engine: String,
    /// Digest of the staged native code. The worker loads these bytes and no others.
    pub code: Digest,
    /// Staged file.
    pub file: String,
    /// What it may do.
    pub grant: BlockGrant,
    /// Fingerprint of the grant that was approved.
    pub fingerprint: Digest,
}

/// What a block may do. Absent is denied.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BlockGrant {
    /// Programs it may start.
    pub exec: Vec<ExecGrant>,
    /// Hosts it may talk to.
    pub net: Vec<NetGrant>,
    /// Secrets that may be put somewhere on its behalf. It never sees a value.
    pub secrets: Vec<SecretGrant>,
    /// Virtual paths it may list and read: `workspace/**`, `base/**`, `outputs/**`, `changes.json`.
    pub read: Vec<String>,
    /// Artifacts it may write.
    pub write: Vec<String>,
    /// Bounds.
    pub limits: BlockLimits,
}

/// A program with its arguments.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExecGrant {
    /// Exact name or absolute path.
    pub program: String,
    /// Argument patterns in order; empty: no argument.
    #[serde(default)]
    pub args: Vec<String>,
}

/// A host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NetGrant {
    /// Exact name or address in lower case, or `*.x.y` for every name below `x.y`.
    pub host: String,
    /// Methods in upper case.
    pub methods: Vec<String>,
    /// `https` or `http`.
    #[serde(default = "https")]
    pub scheme: String,
    /// Port; absent: the scheme's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
}

fn https() -> String {
    "https".to_owned()
}

/// A secret and the one place it may be put.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SecretGrant {
    /// Name of the secret as the dispatch has it.
    pub name: String,
    /// `env:VARIABLE` of a started program, or `header:Name` of a request.
    pub place: String,
    /// Only for this program, or this host (pattern as in [`NetGrant::host`]).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
}

/// Bounds of one block.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BlockLimits {
    /// Wall time of the block with everything it starts, in milliseconds.
    pub wall_ms: u64,
    /// Linear memory in bytes.
    pub memory_bytes: u64,
    /// Evidence in bytes, keys and values together.
    pub evidence_bytes: u64,
    /// Evidence keys.
    pub evidence_keys: u32,
    /// Artifacts in bytes, all together, also what is written and not committed.
    pub artifact_bytes: u64,
    /// Artifacts.
    pub artifact_files: u32,
    /// Log in bytes; the rest is dropped and counted.
    pub log_bytes: u64,
    /// Bytes that may be read of files, all reads together.
    pub read_bytes: u64,
    /// Programs started.
    pub exec_runs: u32,
    /// Bytes kept of each of a program's two output streams.
    pub exec_output_bytes: u64,
    /// Requests sent, redirects included.
    pub fetches: u32,
    /// Bytes of one request body, and of one response body.
    pub fetch_bytes: u64,
}

impl Default for BlockLimits {
    fn default() -> Self {
        Self {
            wall_ms: 600_000,
            memory_bytes: 128 << 20,
            evidence_bytes: 1 << 20,
            evidence_keys: 1_000,
            artifact_bytes: 64 << 20,
            artifact_files: 64,
            log_bytes: 64 << 10,
            read_bytes: 8 << 30,
            exec_runs: 64,
            exec_output_bytes: 4 << 20,
            fetches: 64,
            fetch_bytes: 16 << 20,
        }
    }
}

/// What one plugin block did, and what was made of it. Texts are redacted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PluginEvidence {
    /// Id in the pipeline.
    pub id: String,
    /// Digest of the component.
    pub digest: Digest,
    /// Contract it was made for.
    pub contract: String,
    /// Engine it ran on.
    pub engine: String,
    /// Fingerprint of the grant in force.
    pub fingerprint: Digest,
    /// `gate` or `verify`.
    pub lens: String,
    /// Its answer, when it gave one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verdict: Option<Verdict>,
    /// Its evidence by key.
    #[serde(default)]
    pub evidence: BTreeMap<String, Value>,
    /// Its committed artifacts in path order.
    #[serde(default)]
    pub artifacts: Vec<BlockArtifact>,
    /// What it was refused.
    #[serde(default)]
    pub denials: Vec<BlockDenial>,
    /// Programs it started.
    #[serde(default)]
    pub programs: Vec<ProgramRun>,
    /// Hosts it talked to.
    #[serde(default)]
    pub contacts: Vec<Contact>,
    /// Names of the secrets that were put somewhere for it, with the place: `TOKEN env:GH_TOKEN gh`.
    #[serde(default)]
    pub secrets_used: Vec<String>,
    /// Its log, `level message` per line.
    #[serde(default)]
    pub log: Vec<String>,
    /// Records left out of the lists above because of their bounds, by list.
    #[serde(default)]
    pub left_out: BTreeMap<String, u64>,
    /// What it cost.
    pub bill: BlockBill,
    /// Why it has no answer that counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<PluginFailure>,
}

/// Green or red.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Verdict {
    /// Green.
    pub passed: bool,
    /// One line.
    pub summary: String,
}

/// A file that a block made. The bytes are in [`crate::result::ARTIFACTS_DIR`]`/<digest in hex>` of the result.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BlockArtifact {
    /// Path as the block named it.
    pub path: String,
    /// Digest of the bytes.
    pub digest: Digest,
    /// Size in bytes.
    pub size: u64,
}

/// Something a block was refused.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BlockDenial {
    /// `read`, `write`, `exec`, `secret`, `env`, `net`, …
    pub capability: String,
    /// Which path, program, host.
    pub subject: String,
    /// The rule that says no, and what would allow it.
    pub rule: String,
    /// How often.
    pub count: u64,
}

/// A program that ran for a block.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProgramRun {
    /// Program.
    pub program: String,
    /// Arguments, cut to 4 KiB together.
    pub args: Vec<String>,
    /// Exit code, when it exited.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// Killed because of its time limit.
    pub timed_out: bool,
    /// Wall time in milliseconds.
    pub duration_ms: u64,
}

/// One request that was sent for a block.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Contact {
    /// Method.
    pub method: String,
    /// Scheme, host and port; never the path, which may hold data.
    pub origin: String,
    /// Status, when there was an answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// Bytes of the body sent.
    pub sent: u64,
    /// Bytes of the body received.
    pub received: u64,
}

/// What a block cost.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BlockBill {
    /// Largest linear memory in bytes.
    pub peak_memory_bytes: u64,
    /// Wall time in microseconds, programs and requests included.
    pub wall_us: u64,
    /// Bytes of files read.
    pub read_bytes: u64,
    /// Calls of the host.
    pub host_calls: u64,
}

/// Why a block gave no answer that counts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PluginFailure {
    /// Code of the closed vocabulary of plugin failures, e.g. `memory-limit`.
    pub code: String,
    /// What, the limit, the next step.
    pub message: String,
    /// Whether the same work may go well another time.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub retryable: bool,
}
