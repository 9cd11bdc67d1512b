//! `pangolin capabilities|subagent|env|pipeline …`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::{Pair, PairParser};

#[derive(Debug, Subcommand)]
pub(crate) enum Capabilities {
    /// Register a directory of files under a name
    #[command(after_help = "Examples:
  pangolin capabilities register --name house-rules --from capabilities/house-rules")]
    Register {
        /// Name
        #[arg(long)]
        name: String,
        /// Directory; its files keep their paths and executable bits
        #[arg(long, value_name = "DIR")]
        from: PathBuf,
    },
    /// List what is registered
    List,
    /// Show one registration and its files
    Get {
        /// Name or pinned reference
        name: String,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Subagent {
    /// Register an agent from a TOML or JSON file or from flags
    #[command(
        after_help = "Capabilities are frozen to their digests at registration; register the agent again to pick up new ones.

Examples:
  pangolin subagent register --name code-edit --from subagents/code-edit.toml
  pangolin subagent register --name fixer --adapter claude-code --system-prompt 'You fix bugs.' \\
      --prompt-template 'Fix {{file}}' --model standard --capability house-rules
  pangolin subagent register --name lint --adapter command --param 'argv=[\"sh\",\"tools/lint.sh\"]'"
    )]
    Register(Box<SubagentRegister>),
    /// List what is registered
    List,
    /// Show one registration and its document
    Get {
        /// Name or pinned reference
        name: String,
    },
}

#[derive(Debug, Args)]
pub(crate) struct SubagentRegister {
    /// Name [default: the file's own]
    #[arg(long, required_unless_present = "from")]
    pub(crate) name: Option<String>,
    /// TOML or JSON file
    #[arg(long, value_name = "FILE", conflicts_with_all = ["system_prompt", "prompt_template", "model", "capability", "adapter", "param", "verify"])]
    pub(crate) from: Option<PathBuf>,
    /// System prompt
    #[arg(long, value_name = "TEXT")]
    pub(crate) system_prompt: Option<String>,
    /// Prompt template over the item's workerInput, e.g. 'Edit {{file}}'
    #[arg(long, value_name = "TEXT")]
    pub(crate) prompt_template: Option<String>,
    /// Model or level (fast, standard, max)
    #[arg(long)]
    pub(crate) model: Option<String>,
    /// Registered capability, in overlay order; repeatable
    #[arg(long, value_name = "NAME")]
    pub(crate) capability: Vec<String>,
    /// Adapter id, e.g. command or claude-code
    #[arg(long, required_unless_present = "from")]
    pub(crate) adapter: Option<String>,
    /// Adapter parameter; the value is JSON, or text when it is not; repeatable
    #[arg(long, value_name = "NAME=VALUE", value_parser = PairParser)]
    pub(crate) param: Vec<Pair>,
    /// Self-verify command (report only)
    #[arg(long, value_name = "COMMAND")]
    pub(crate) verify: Option<String>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Env {
    /// Register environment values and secret references under a name
    #[command(
        after_help = "References: env://NAME (the daemon's environment), file:///path (mode 0600), local-secret://name, or
inline:VALUE, which is stored as a local secret and never in the ledger. inline:- asks for the value or reads it
from stdin, which keeps it out of the process list.

Examples:
  pangolin env register --name build --value CI=1
  pangolin env register --name models --secret ANTHROPIC_API_KEY=env://ANTHROPIC_API_KEY
  pass show key | pangolin env register --name models --secret ANTHROPIC_API_KEY=inline:-"
    )]
    Register {
        /// Name
        #[arg(long)]
        name: String,
        /// Plain value; repeatable
        #[arg(long = "value", value_name = "NAME=VALUE", value_parser = PairParser)]
        values: Vec<Pair>,
        /// Secret reference; repeatable
        #[arg(long = "secret", value_name = "NAME=REFERENCE", value_parser = PairParser)]
        secrets: Vec<Pair>,
    },
    /// List what is registered
    List,
    /// Show one registration: values and secret references, never secret values
    Get {
        /// Name or pinned reference
        name: String,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Pipeline {
    /// Register a pipeline file under its own id
    Register {
        /// JSON file
        file: PathBuf,
    },
    /// Check a pipeline file; needs no configuration
    Validate {
        /// JSON file
        file: PathBuf,
    },
    /// List what is registered
    List,
    /// Show one registration and its document
    Get {
        /// Name or pinned reference
        name: String,
    },
}
