//! Why a worker was stopped: the one fact that a container cannot keep.

use std::{
    fs,
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

use serde::{Deserialize, Serialize};

/// In the envelope directory, which the container has read-only, so no agent can forge it.
const FILE: &str = ".pangolin-stop.json";

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Reason {
    TimedOut,
    Cancelled,
}

/// A stop that was asked for.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Stop {
    pub(crate) reason: Reason,
    /// When to kill, in milliseconds since the epoch.
    pub(crate) kill_at: i64,
}

pub(crate) fn read(envelope_dir: &Path) -> Option<Stop> {
    serde_json::from_slice(&fs::read(envelope_dir.join(FILE)).ok()?).ok()
}

/// Notes the stop, unless one is noted already: the first reason stays.
pub(crate) fn note(envelope_dir: &Path, stop: Stop) -> io::Result<()> {
    let temp = envelope_dir.join(format!("{FILE}-{}-{:?}", std::process::id(), std::thread::current().id()));
    let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temp)?;
    file.write_all(&serde_json::to_vec(&stop)?)?;
    file.sync_data()?;
    let linked = fs::hard_link(&temp, envelope_dir.join(FILE));
    fs::remove_file(&temp)?;
    match linked {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        linked => linked,
    }
}

/// Forgets it, with the container.
pub(crate) fn forget(envelope_dir: &Path) {
    // Nothing depends on it any more; a directory that is gone is fine.
    let _ = fs::remove_file(envelope_dir.join(FILE));
}
