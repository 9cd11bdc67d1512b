//! Files of the mailbox: safe reading, delivery without overwriting.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt},
    path::Path,
    time::{Duration, SystemTime},
};

use nix::{errno::Errno, fcntl::OFlag};
use pangolin_ports::inbox::InboxError;
use tracing::debug;

/// Marks temporary files of ours.
const PREFIX: &str = "new-";

/// A leftover is at least this old: a younger file may not be locked yet.
const STALE_AFTER: Duration = Duration::from_secs(60);

/// An error of `doing` something to `path`.
pub(crate) fn failed(doing: &str, path: &Path, error: io::Error) -> InboxError {
    InboxError::Other { context: format!("{doing} {}", path.display()), source: Box::new(error) }
}

/// Creates a private directory if it is missing.
pub(crate) fn create_dir(dir: &Path) -> Result<(), InboxError> {
    match DirBuilder::new().mode(0o700).create(dir) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(failed("creating", dir, error)),
        _ => Ok(()),
    }
}

pub(crate) fn sync_dir(dir: &Path) -> Result<(), InboxError> {
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(|error| failed("syncing", dir, error))
}

/// Whether anything has this name, be it a dangling link.
pub(crate) fn exists(path: &Path) -> Result<bool, InboxError> {
    match fs::symlink_metadata(path) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(failed("inspecting", path, error)),
    }
}

/// Why a file was not read.
pub(crate) enum ReadError {
    /// It is gone; somebody else took it.
    Gone,
    /// The file is at fault, with the reason for people.
    BadFile(String),
    /// The machine is at fault (for instance too many open files): the file may be fine.
    Trouble(io::Error),
}

/// Reads a regular file of at most `limit` bytes. Never follows a link and never waits for a FIFO.
pub(crate) fn read_regular(path: &Path, limit: u64) -> Result<Vec<u8>, ReadError> {
    let flags = OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
    let file = OpenOptions::new().read(true).custom_flags(flags.bits()).open(path).map_err(judge)?;
    let metadata = file.metadata().map_err(judge)?;
    if !metadata.is_file() {
        return Err(ReadError::BadFile("it is not a regular file".to_owned()));
    }
    let mut bytes = Vec::with_capacity(usize::try_from(metadata.len().min(limit)).unwrap_or(0));
    file.take(limit + 1).read_to_end(&mut bytes).map_err(judge)?;
    if bytes.len() as u64 > limit { Err(ReadError::BadFile(too_large(limit))) } else { Ok(bytes) }
}

pub(crate) fn too_large(limit: u64) -> String {
    format!("it has more than {limit} bytes")
}

fn judge(error: io::Error) -> ReadError {
    match error.raw_os_error().map(Errno::from_raw) {
        Some(Errno::ENOENT) => ReadError::Gone,
        Some(Errno::ELOOP) => ReadError::BadFile("it is a symbolic link".to_owned()),
        Some(Errno::EMFILE | Errno::ENFILE | Errno::ENOMEM | Errno::EINTR) => ReadError::Trouble(error),
        _ => ReadError::BadFile(format!("it cannot be read: {error}")),
    }
}

/// Writes a file at `to` whole or not at all, durably. `false` when something has that name already.
pub(crate) fn create_whole(
    tmp: &Path,
    to: &Path,
    parts: &[&[u8]],
    modified: Option<SystemTime>,
) -> Result<bool, InboxError> {
    create_new(tmp, to, parts, modified).map(|created| created.is_some())
}

/// Which file it is, whatever its name becomes: device and inode.
pub(crate) type FileIdentity = (u64, u64);

/// As [`create_whole`]; answers which file was made.
pub(crate) fn create_new(
    tmp: &Path,
    to: &Path,
    parts: &[&[u8]],
    modified: Option<SystemTime>,
) -> Result<Option<FileIdentity>, InboxError> {
    let write = || {
        let mut file = tempfile::Builder::new().prefix(PREFIX).tempfile_in(tmp)?;
        // Tells `remove_stale` that the file is in use.
        file.as_file().lock()?;
        for part in parts {
            file.write_all(part)?;
        }
        if let Some(modified) = modified {
            file.as_file().set_modified(modified)?;
        }
        file.as_file().sync_all()?;
        Ok(file)
    };
    let file = write().map_err(|error| failed("writing a file for", to, error))?;
    match file.persist_noclobber(to) {
        Ok(file) => {
            let metadata = file.metadata().map_err(|error| failed("inspecting", to, error))?;
            if let Some(dir) = to.parent() {
                sync_dir(dir)?;
            }
            Ok(Some((metadata.dev(), metadata.ino())))
        }
        Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => Ok(None),
        Err(error) => Err(failed("creating", to, error.error)),
    }
}

/// Which file has this name, if any.
pub(crate) fn identity(path: &Path) -> Result<Option<FileIdentity>, InboxError> {
    match fs::symlink_metadata(path) {
        Ok(metadata) => Ok(Some((metadata.dev(), metadata.ino()))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed("inspecting", path, error)),
    }
}

/// Moves whatever `from` is to `to`, without overwriting: when `to` exists, `from` is a duplicate and goes away.
pub(crate) fn move_aside(from: &Path, to: &Path) -> io::Result<()> {
    if fs::symlink_metadata(from)?.is_dir() {
        return fs::rename(from, to);
    }
    match fs::hard_link(from, to) {
        Ok(()) => fs::remove_file(from),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => fs::remove_file(from),
        // The kernel may forbid links to other users' files, and some file systems have none.
        Err(error) if error.kind() != io::ErrorKind::NotFound => fs::rename(from, to),
        Err(error) => Err(error),
    }
}

/// Removes what killed processes left in `tmp`. Only tidying: an error here stops nobody.
pub(crate) fn remove_stale(tmp: &Path) {
    for entry in fs::read_dir(tmp).into_iter().flatten().flatten() {
        let path = entry.path();
        let ours = entry.file_name().to_str().is_some_and(|name| name.starts_with(PREFIX));
        if ours
            && is_stale(&path).unwrap_or(false)
            && let Err(error) = fs::remove_file(&path)
        {
            debug!(path = %path.display(), %error, "cannot remove a leftover");
        }
    }
}

fn is_stale(path: &Path) -> io::Result<bool> {
    let flags = OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
    let file = OpenOptions::new().read(true).custom_flags(flags.bits()).open(path)?;
    let age = file.metadata()?.modified()?.elapsed().unwrap_or_default();
    Ok(age >= STALE_AFTER && file.try_lock().is_ok())
}
