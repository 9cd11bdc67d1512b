//! Finding and running the programs that a language brings along.

use std::{
    env,
    ffi::{OsStr, OsString},
    io,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use thiserror::Error;

use crate::build::BuildError;

/// A program that is not installed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{program} is not installed; {hint}")]
pub struct MissingTool {
    /// What was looked for.
    pub program: String,
    /// The command that installs it.
    pub hint: String,
}

/// Where programs are looked for: in the project first, then in `extra`, then in `PATH`.
#[derive(Debug, Clone, Default)]
pub struct Tools {
    /// More directories with programs.
    pub extra: Vec<PathBuf>,
    /// Instead of the variable `PATH`.
    pub path: Option<OsString>,
}

impl Tools {
    /// The program called `name`. `local` is a directory of the project that may hold it.
    pub(crate) fn find(&self, local: Option<&Path>, name: &str) -> Option<PathBuf> {
        let path = self.inherited();
        local
            .map(Path::to_owned)
            .into_iter()
            .chain(self.extra.iter().cloned())
            .chain(env::split_paths(&path))
            .map(|dir| dir.join(name))
            .find(|file| {
                file.metadata().is_ok_and(|data| data.is_file() && data.permissions().mode() & 0o111 != 0)
            })
    }

    fn inherited(&self) -> OsString {
        self.path.clone().or_else(|| env::var_os("PATH")).unwrap_or_default()
    }

    /// Like [`Self::find`], with the command that installs it.
    pub(crate) fn need(&self, local: Option<&Path>, name: &str, hint: &str) -> Result<PathBuf, MissingTool> {
        self.find(local, name).ok_or_else(|| MissingTool { program: name.to_owned(), hint: hint.to_owned() })
    }

    /// `PATH` with the extra directories in front, for programs that start others.
    pub(crate) fn path(&self) -> Result<OsString, BuildError> {
        let path = self.inherited();
        env::join_paths(self.extra.iter().cloned().chain(env::split_paths(&path)))
            .map_err(|error| BuildError::Tool { what: "PATH".to_owned(), log: error.to_string() })
    }
}

/// A variable that an outer cargo or compiler run left behind. An inner build must not see it.
pub(crate) fn is_of_outer_build(name: &OsStr) -> bool {
    let Some(name) = name.to_str() else { return false };
    let prefixes = [
        "CARGO_ENCODED_",
        "CARGO_CFG_",
        "CARGO_FEATURE_",
        "CARGO_PKG_",
        "CARGO_MANIFEST_",
        "CARGO_BUILD_",
        "CARGO_PROFILE_",
        "CARGO_BIN_",
        "CARGO_CRATE_",
        "CARGO_PRIMARY_",
        "CARGO_TARGET_",
        "DEP_",
    ];
    let exact = [
        "RUSTFLAGS",
        "RUSTC",
        "RUSTC_WRAPPER",
        "RUSTC_WORKSPACE_WRAPPER",
        "CARGO_MAKEFLAGS",
        "TARGET",
        "HOST",
        "OUT_DIR",
    ];
    exact.contains(&name) || prefixes.iter().any(|prefix| name.starts_with(prefix))
}

/// Runs to the end and gives standard output. `what` names it in errors, which hold all it printed.
pub(crate) fn run(command: &mut Command, what: &str) -> Result<Vec<u8>, BuildError> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .map_err(|source| BuildError::Start { what: what.to_owned(), source })?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    let mut log = String::from_utf8_lossy(&output.stderr).into_owned();
    if log.trim().is_empty() {
        log = String::from_utf8_lossy(&output.stdout).into_owned();
    }
    Err(BuildError::Tool { what: format!("{what} ({})", output.status), log: log.trim_end().to_owned() })
}

/// Reads a file, naming it when that fails.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>, BuildError> {
    std::fs::read(path).map_err(|source| io_error(path, source))
}

/// A failure to read or write `path`.
pub(crate) fn io_error(path: &Path, source: io::Error) -> BuildError {
    BuildError::File { path: path.to_owned(), source }
}
