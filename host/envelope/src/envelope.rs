//! What one worker is given.

use std::collections::BTreeMap;

use pangolin_core::{
    entry::Isolation,
    ids::{Digest, DispatchId, ItemId, RunId},
};
use serde::{Deserialize, Serialize};

use crate::{pipeline::PipelineSpec, plugin::StagedPlugin};

/// Version of `envelope.json`.
pub const ENVELOPE_VERSION: u32 = 1;

/// Name of the envelope file in the envelope directory.
pub const ENVELOPE_FILE: &str = "envelope.json";

/// Secret values by name, beside the envelope (mode 0600). Read once into memory; never sealed.
pub const SECRETS_FILE: &str = "secrets.json";

/// Environment variables of the worker process itself (never of the agent).
pub mod worker_env {
    /// Absolute path of the envelope directory as the worker sees it.
    pub const ENVELOPE_DIR: &str = "PANGOLIN_ENVELOPE_DIR";
    /// Absolute path of the workspace as the worker sees it.
    pub const WORKSPACE_DIR: &str = "PANGOLIN_WORKSPACE_DIR";
    /// Absolute path of the result directory as the worker sees it.
    pub const RESULT_DIR: &str = "PANGOLIN_RESULT_DIR";
    /// Hex key that authenticates the result.
    pub const RESULT_KEY: &str = "PANGOLIN_RESULT_KEY";
}

/// Everything a worker needs for one dispatch. Paths of staged files are relative to the envelope directory.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Envelope {
    /// [`ENVELOPE_VERSION`].
    pub v: u32,
    /// Identity of the dispatch.
    pub dispatch: DispatchId,
    /// Deployment namespace.
    pub namespace: String,
    /// Run.
    pub run: RunId,
    /// Item.
    pub item: ItemId,
    /// Attempt from 1.
    pub attempt: u32,
    /// Capability bundles in overlay order, verified by digest before use.
    pub capabilities: Vec<CapabilityBundle>,
    /// Immutable input files, placed at `inputs/<key>` in the workspace.
    pub inputs: Vec<InputFile>,
    /// Item input as the agent sees it (`PANGOLIN_INPUT_JSON`).
    pub worker_input: serde_json::Value,
    /// Environment layers in merge order: env bundles, then the item's own.
    pub env: Vec<EnvLayer>,
    /// Additional host variables the agent may inherit (operator's list; never credentials).
    pub env_allow: Vec<String>,
    /// How to start the agent; made by the adapter component on the host.
    pub agent: Option<LaunchPlan>,
    /// The pipeline to run. The host fills in the default one when the item declares none.
    pub pipeline: PipelineSpec,
    /// Whether the item declared the pipeline (then `blocks` evidence is reported).
    pub pipeline_declared: bool,
    /// Self-verify command of the subagent.
    pub verify: Option<VerifySpec>,
    /// What must be there before the agent starts.
    pub context_requires: Vec<ContextRequirement>,
    /// How commands are confined. `Sandbox`: the worker wraps each command in its own namespaces. `Container` and
    /// `None`: the worker starts them directly.
    pub isolation: Isolation,
    /// Whether commands may use the network (`host`) or not (`none`).
    pub network: String,
    /// Limits for commands.
    pub limits: CommandLimits,
    /// Extra read-only host directories for sandboxed commands (toolchains).
    pub read_only_paths: Vec<String>,
    /// Components of the pipeline's `plugin` blocks, each id once.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub plugins: Vec<StagedPlugin>,
}

/// A capability: files to overlay onto the workspace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CapabilityBundle {
    /// Registered name.
    pub name: String,
    /// Digest of the bundle bytes (format: `capability` module of the runtime).
    pub digest: Digest,
    /// Staged file.
    pub file: String,
}

/// One input handed to the item.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InputFile {
    /// Relative path below `inputs/`: the `needs` key, or `deps/<item>.patch` for patches of `depends_on` items.
    pub key: String,
    /// Digest of the bytes.
    pub digest: Digest,
    /// Staged file.
    pub file: String,
}

/// One layer of environment variables.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EnvLayer {
    /// Where it comes from, for messages (`env bundle "ci"`, `item`).
    pub source: String,
    /// Plain values. Registered for redaction too.
    pub values: BTreeMap<String, String>,
    /// Variable name → secret name in `secrets.json`.
    pub secrets: BTreeMap<String, String>,
}

/// How to start the agent, as decided by a runtime-adapter component.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LaunchPlan {
    /// Adapter id, e.g. `claude-code`.
    pub adapter: String,
    /// Digest of the adapter component.
    pub adapter_digest: Option<Digest>,
    /// Program: an absolute path or a name looked up on the agent's PATH.
    pub program: String,
    /// Arguments.
    pub args: Vec<String>,
    /// Plain variables.
    pub env: BTreeMap<String, String>,
    /// Variable name → secret name, substituted by the worker at exec.
    pub env_secrets: BTreeMap<String, String>,
    /// Bytes for stdin as text; stdin is always closed afterwards.
    pub stdin: String,
    /// Files to write below the workspace before the start (path → text).
    pub files: BTreeMap<String, String>,
}

/// The subagent's self-verify.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VerifySpec {
    /// Shell command, run in the workspace.
    pub command: String,
    /// Seconds.
    pub timeout: u32,
}

/// Something that must exist after setup and before the agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase", deny_unknown_fields)]
pub enum ContextRequirement {
    /// At least `minCount` paths match the glob (`**` and `*`).
    Paths {
        /// Pattern relative to the workspace.
        glob: String,
        /// At least 1.
        #[serde(rename = "minCount", default = "one")]
        min_count: u32,
    },
    /// A program on the agent's PATH.
    Exec {
        /// Name.
        bin: String,
    },
    /// A git work tree, or one with history.
    Git {
        /// `worktree` or `history`.
        needs: String,
    },
}

fn one() -> u32 {
    1
}

/// Bounds for the commands a worker starts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CommandLimits {
    /// Wall time of the agent in milliseconds.
    pub agent_timeout_ms: u64,
    /// Wall time of `pangolin-setup.sh` in milliseconds.
    pub setup_timeout_ms: u64,
    /// Between SIGTERM and SIGKILL in milliseconds.
    pub grace_ms: u64,
    /// Bytes kept of a command's stdout.
    pub stdout_bytes: u64,
    /// Bytes kept of a command's stderr.
    pub stderr_bytes: u64,
    /// Memory in bytes (resource limit of sandboxed commands).
    pub memory_bytes: u64,
    /// Processes and threads of sandboxed commands.
    pub pids: u32,
    /// Largest file a command may write, in bytes.
    pub file_bytes: u64,
    /// Largest captured output file in bytes.
    pub output_file_bytes: u64,
    /// Most captured output files.
    pub output_files: u32,
    /// Largest captured change in bytes, all files together.
    pub capture_bytes: u64,
}

impl Default for CommandLimits {
    fn default() -> Self {
        Self {
            agent_timeout_ms: 7_200_000,
            setup_timeout_ms: 120_000,
            grace_ms: 10_000,
            stdout_bytes: 4 << 20,
            stderr_bytes: 256 << 10,
            memory_bytes: 4 << 30,
            pids: 512,
            file_bytes: 4 << 30,
            output_file_bytes: 100 << 20,
            output_files: pangolin_core::outputs::OUTPUTS_MAX as u32,
            capture_bytes: 1 << 30,
        }
    }
}
