//! Where things are.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use crate::process;

/// Rust target of the static worker.
pub(crate) const MUSL_TARGET: &str = "x86_64-unknown-linux-musl";

/// Rust target that proves that the pure crates do no IO.
pub(crate) const PURE_TARGET: &str = "wasm32-unknown-unknown";

/// Rust target of the plugins.
pub(crate) const GUEST_TARGET: &str = "wasm32-wasip2";

/// The checkout.
pub(crate) struct Workspace {
    /// Directory of the root manifest.
    pub(crate) root: PathBuf,
    /// Cargo's target directory.
    pub(crate) target: PathBuf,
}

impl Workspace {
    /// Asks cargo, so that a configured target directory is respected.
    pub(crate) fn locate() -> Result<Self> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"))
            .parent()
            .context("xtask has no parent directory")?
            .to_owned();
        let text = process::output(
            process::cargo().args(["metadata", "--no-deps", "--format-version", "1"]).current_dir(&root),
        )?;
        let metadata: Value =
            serde_json::from_str(&text).context("cargo metadata printed something else than JSON")?;
        let target =
            metadata["target_directory"].as_str().context("cargo metadata names no target_directory")?;
        Ok(Self { root, target: PathBuf::from(target) })
    }

    /// Directory of the guest workspace, if the checkout has one.
    pub(crate) fn plugins(&self) -> Option<PathBuf> {
        let dir = self.root.join("plugins");
        dir.join("Cargo.toml").is_file().then_some(dir)
    }
}

/// Makes sure that rustup has the targets of `rust-toolchain.toml`, and says how to get them otherwise.
pub(crate) fn ensure_rust_targets(workspace: &Workspace, targets: &[&str]) -> Result<()> {
    let sysroot =
        process::output(process::command("rustc", ["--print", "sysroot"]).current_dir(&workspace.root))?;
    let is_missing =
        |target: &&str| !Path::new(sysroot.trim()).join("lib/rustlib").join(target).join("lib").is_dir();
    let missing: Vec<&str> = targets.iter().copied().filter(is_missing).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let hint = format!("rustup target add {}", missing.join(" "));
    if !process::is_on_path("rustup") {
        bail!(
            "the Rust targets {} are not installed and there is no rustup; with rustup it is `{hint}`",
            missing.join(", ")
        );
    }
    process::run(process::command("rustup", ["target", "add"]).args(&missing).current_dir(&workspace.root))
        .with_context(|| format!("cannot install Rust targets; try `{hint}` in {}", workspace.root.display()))
}
