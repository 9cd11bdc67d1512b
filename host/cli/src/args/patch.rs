//! `pangolin patch …`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::Target;

#[derive(Debug, Subcommand)]
pub(crate) enum Patch {
    /// List the patches of a run with their files
    List {
        /// <run> or <run>/<item>
        target: Target,
    },
    /// Print a patch: its bytes on stdout, a summary on stderr
    #[command(
        after_help = "For a run with several patches name the item; without one they are printed one after the other
in plan order.

Examples:
  pangolin patch show fanout-1/edit-alpha
  pangolin patch show fanout-1/edit-alpha | git apply --check"
    )]
    Show {
        /// <run> or <run>/<item>
        target: Target,
        /// Attempt [default: the last one that left a patch]
        #[arg(long)]
        attempt: Option<u32>,
    },
    /// Apply patches to a repository and check the result against the sealed tree
    #[command(
        after_help = "The changes are staged, nothing is committed. Without an item the patches of all done items are applied
in plan order, all or none; a patch whose changes are all there already is skipped. The repository must have no uncommitted changes.

Examples:
  pangolin patch apply fanout-1/edit-alpha
  pangolin patch apply fanout-1 --repo ~/src/project --three-way
  pangolin patch apply fanout-1 --check"
    )]
    Apply(Apply),
}

#[derive(Debug, Args)]
pub(crate) struct Apply {
    /// <run> or <run>/<item>
    pub(crate) target: Target,
    /// Repository
    #[arg(long, default_value = ".")]
    pub(crate) repo: PathBuf,
    /// Fall back to a three-way merge when the context differs
    #[arg(long = "three-way", short = '3')]
    pub(crate) three_way: bool,
    /// Only check whether it would apply
    #[arg(long)]
    pub(crate) check: bool,
}
