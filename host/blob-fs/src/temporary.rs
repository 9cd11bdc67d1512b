//! Files on their way to a name.

use std::{
    fs::{File, Permissions},
    io,
    os::unix::fs::PermissionsExt,
    path::Path,
    time::Duration,
};

use tempfile::NamedTempFile;
use tracing::debug;

const PREFIX: &str = "put-";

/// A leftover is at least this old: a younger file may not be locked yet.
const STALE_AFTER: Duration = Duration::from_secs(60);

/// A new file in `dir`, removed unless it is moved to its name. Locked as long as it is open, so that
/// [`remove_stale`] of another process leaves it alone.
pub(crate) fn create(dir: &Path) -> io::Result<NamedTempFile> {
    let file = tempfile::Builder::new().prefix(PREFIX).tempfile_in(dir)?;
    file.as_file().lock()?;
    Ok(file)
}

/// Sets the mode; what the process's umask says does not matter.
pub(crate) fn set_mode(file: &File, mode: u32) -> io::Result<()> {
    file.set_permissions(Permissions::from_mode(mode))
}

/// Removes what killed processes left. Only tidying: an error here stops nobody.
pub(crate) fn remove_stale(dir: &Path) {
    let entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) => {
            debug!(dir = %dir.display(), %error, "cannot look for leftovers");
            return;
        }
    };
    for entry in entries.flatten() {
        let path = entry.path();
        if entry.file_name().to_str().is_some_and(|name| name.starts_with(PREFIX))
            && is_stale(&path).unwrap_or(false)
            && let Err(error) = std::fs::remove_file(&path)
        {
            debug!(path = %path.display(), %error, "cannot remove a leftover");
        }
    }
}

fn is_stale(path: &Path) -> io::Result<bool> {
    let file = crate::file::open_regular(path)?;
    let age = file.metadata()?.modified()?.elapsed().unwrap_or_default();
    Ok(age >= STALE_AFTER && file.try_lock().is_ok())
}
