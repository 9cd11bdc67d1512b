//! `pangolin dispatch …`.

use clap::{Args, Subcommand};
use pangolin_core::ids::DispatchId;

use super::{Actor, Wait};

#[derive(Debug, Subcommand)]
pub(crate) enum Dispatch {
    /// Run one worker and wait for its result
    #[command(
        after_help = "Prints the dispatch result as JSON. Exit code 1 when the worker did not finish its work.

Examples:
  pangolin dispatch run --subagent code-edit --input '{\"file\":\"alpha.ts\"}'
  pangolin dispatch run --subagent code-edit --input @input.json --env models"
    )]
    Run(Run),
    /// Show what is known about a dispatch as JSON
    Describe {
        /// Dispatch id (d-…)
        id: DispatchId,
    },
    /// Stop a running dispatch
    Cancel {
        /// Dispatch id (d-…)
        id: DispatchId,
        #[command(flatten)]
        actor: Actor,
        #[command(flatten)]
        wait: Wait,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Run {
    /// Registered agent
    #[arg(long)]
    pub(crate) subagent: String,
    /// Configured executor [default: dispatch]
    #[arg(long, visible_alias = "target")]
    pub(crate) executor: Option<String>,
    /// Configured queue [default: the first one]
    #[arg(long)]
    pub(crate) queue: Option<String>,
    /// Registered env bundle, in merge order; repeatable
    #[arg(long, value_name = "NAME")]
    pub(crate) env: Vec<String>,
    /// JSON input of the worker, or @file, or - for stdin
    #[arg(long, value_name = "JSON|@FILE|-", default_value = "{}")]
    pub(crate) input: String,
    /// Capability instead of the agent's own, in overlay order; repeatable
    #[arg(long, value_name = "NAME")]
    pub(crate) capability: Vec<String>,
    #[command(flatten)]
    pub(crate) actor: Actor,
}
