//! Building the `pangolin` binary and the static worker that it looks for beside itself.

use std::{
    env,
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};

use crate::{
    process,
    workspace::{GUEST_TARGET, MUSL_TARGET, Workspace, ensure_rust_targets},
};

/// What was built.
pub(crate) struct Binaries {
    /// The command line tool and daemon.
    pub(crate) pangolin: PathBuf,
    /// The worker, static.
    pub(crate) worker: PathBuf,
}

impl Binaries {
    /// A `pangolin` command that uses the static worker, in `dir`.
    pub(crate) fn pangolin<S: AsRef<OsStr>>(&self, dir: &Path, args: impl IntoIterator<Item = S>) -> Command {
        let mut command = process::command(&self.pangolin, args);
        command.current_dir(dir).env("PANGOLIN_WORKER", &self.worker);
        // Plugins are compiled at their first submission.
        command.env("PANGOLIN_WAIT", "60");
        command
    }
}

/// Debug builds of both, with the worker placed beside `pangolin`.
pub(crate) fn build(workspace: &Workspace) -> Result<Binaries> {
    compile(workspace, None)?;
    place_worker(workspace)?;
    Ok(binaries(workspace, "debug"))
}

/// Both as they are: `PANGOLIN_BIN` and `PANGOLIN_WORKER`, else the last debug builds.
pub(crate) fn built(workspace: &Workspace) -> Result<Binaries> {
    let last = binaries(workspace, "debug");
    let named = |name: &str, built: PathBuf| env::var_os(name).map_or(built, PathBuf::from);
    let there = Binaries {
        pangolin: named("PANGOLIN_BIN", last.pangolin),
        worker: named("PANGOLIN_WORKER", last.worker),
    };
    for file in [&there.pangolin, &there.worker] {
        if !file.is_file() {
            bail!("{} is not there; build it with `cargo xtask build`", file.display());
        }
    }
    Ok(there)
}

/// Release builds of both.
pub(crate) fn build_release(workspace: &Workspace) -> Result<Binaries> {
    compile(workspace, Some("--release"))?;
    Ok(binaries(workspace, "release"))
}

/// One static program in the release profile.
pub(crate) fn release_musl(workspace: &Workspace, package: &str, bin: &str) -> Result<PathBuf> {
    ensure_rust_targets(workspace, &[MUSL_TARGET])?;
    let mut cargo = process::cargo();
    cargo.args(["build", "--release", "-p", package, "--bin", bin, "--target", MUSL_TARGET]);
    process::run(cargo.current_dir(&workspace.root))?;
    Ok(workspace.target.join(MUSL_TARGET).join("release").join(bin))
}

fn compile(workspace: &Workspace, profile: Option<&str>) -> Result<()> {
    ensure_rust_targets(workspace, &[MUSL_TARGET, GUEST_TARGET])?;
    let cargo = || {
        let mut cargo = process::cargo();
        cargo.arg("build").args(profile).current_dir(&workspace.root);
        cargo
    };
    process::run(cargo().args(["-p", "pangolin-cli", "--bin", "pangolin"]))?;
    process::run(cargo().args(["-p", "pangolin-worker", "--target", MUSL_TARGET]))
}

pub(crate) fn binaries(workspace: &Workspace, profile: &str) -> Binaries {
    Binaries {
        pangolin: workspace.target.join(profile).join("pangolin"),
        worker: workspace.target.join(MUSL_TARGET).join(profile).join("pangolin-worker"),
    }
}

/// Puts the static worker to `target/debug/pangolin-worker`, for a `pangolin` that is started by hand.
///
/// A test run of the workspace puts a dynamically linked one there, which would not start in a small image. The file
/// is replaced, never written to: cargo keeps a hard link to it.
pub(crate) fn place_worker(workspace: &Workspace) -> Result<()> {
    let built = binaries(workspace, "debug");
    let place = built.pangolin.with_file_name("pangolin-worker");
    let new = built.pangolin.with_file_name("pangolin-worker.new");
    fs::copy(&built.worker, &new)
        .with_context(|| format!("cannot copy {} to {}", built.worker.display(), new.display()))?;
    fs::rename(&new, &place).with_context(|| format!("cannot move {} to {}", new.display(), place.display()))
}
