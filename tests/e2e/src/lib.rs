//! End-to-end tests of whole commands: the real `pangolin`, a real daemon, real sandboxed workers, real git.
//!
//! This library is the harness. It builds the two programs unless `PANGOLIN_BIN` and `PANGOLIN_WORKER` name them.
//! Deliberately not here: anything that reaches behind the command line into the crates.

pub mod daemon;
pub mod output;
pub mod watch;
pub mod world;

use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
    time::Duration,
};

/// Longest wait for anything that should happen. Generous: the machine may be busy compiling.
pub const DEADLINE: Duration = Duration::from_secs(120);

/// Target of the static worker.
const WORKER_TARGET: &str = "x86_64-unknown-linux-musl";

/// The programs under test.
#[derive(Debug)]
pub struct Binaries {
    /// `pangolin`.
    pub pangolin: PathBuf,
    /// The static `pangolin-worker`.
    pub worker: PathBuf,
}

/// Root of the repository.
#[must_use]
pub fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
}

/// The programs, built on first use.
///
/// # Panics
/// When they cannot be built.
#[must_use]
pub fn binaries() -> &'static Binaries {
    static BINARIES: OnceLock<Binaries> = OnceLock::new();
    BINARIES.get_or_init(|| Binaries {
        pangolin: std::env::var_os("PANGOLIN_BIN").map_or_else(
            || built(&["-p", "pangolin-cli", "--bin", "pangolin"], "debug/pangolin"),
            PathBuf::from,
        ),
        worker: std::env::var_os("PANGOLIN_WORKER").map_or_else(
            || {
                built(
                    &["-p", "pangolin-worker", "--bin", "pangolin-worker", "--target", WORKER_TARGET],
                    &format!("{WORKER_TARGET}/debug/pangolin-worker"),
                )
            },
            PathBuf::from,
        ),
    })
}

/// `cargo xtask` as a program: `PANGOLIN_XTASK`, else built on first use.
///
/// # Panics
/// When it cannot be built.
#[must_use]
pub fn xtask() -> &'static Path {
    static XTASK: OnceLock<PathBuf> = OnceLock::new();
    XTASK.get_or_init(|| {
        std::env::var_os("PANGOLIN_XTASK")
            .map_or_else(|| built(&["-p", "xtask", "--bin", "xtask"], "debug/xtask"), PathBuf::from)
    })
}

fn built(arguments: &[&str], product: &str) -> PathBuf {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = Command::new(cargo).arg("build").arg("--quiet").args(arguments).current_dir(root()).status();
    assert!(status.is_ok_and(|status| status.success()), "cargo build {arguments:?} failed");
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from);
    target.join(product)
}
