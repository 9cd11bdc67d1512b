//! `cargo xtask wit`: the check of the contracts, which lives beside the plugin host because it needs its libraries.

use anyhow::Result;

use crate::{process, workspace::Workspace};

/// Runs the check with `arguments`.
pub(crate) fn run(workspace: &Workspace, arguments: &[&str]) -> Result<()> {
    process::run(
        process::cargo()
            .args(["run", "--quiet", "-p", "pangolin-plugin-host", "--example", "wit_check", "--"])
            .args(arguments)
            .current_dir(&workspace.root),
    )
}
