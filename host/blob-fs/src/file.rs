//! Opening, hashing and syncing of files, with errors that name them.

use std::{
    fs::{DirBuilder, File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::Path,
};

use nix::fcntl::OFlag;
use pangolin_core::ids::Digest;
use pangolin_ports::blob_store::BlobError;
use sha2::{Digest as _, Sha256};

/// Bytes moved at once.
const CHUNK: usize = 128 << 10;

/// An error of `doing` something to `path`.
pub(crate) fn failed(doing: &str, path: &Path, error: io::Error) -> BlobError {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            BlobError::Full(format!("{doing} {}", path.display()))
        }
        _ => BlobError::Other { context: format!("{doing} {}", path.display()), source: Box::new(error) },
    }
}

/// Opens a regular file. Never follows a symlink at the end of the path and never waits for a FIFO.
pub(crate) fn open_regular(path: &Path) -> io::Result<File> {
    let flags = OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
    let file = OpenOptions::new().read(true).custom_flags(flags.bits()).open(path)?;
    if file.metadata()?.is_file() { Ok(file) } else { Err(io::Error::other("not a regular file")) }
}

/// Why a copy stopped.
pub(crate) enum CopyError {
    Reading(io::Error),
    Writing(io::Error),
}

/// Copies everything and hashes what was copied.
pub(crate) fn copy_hashing(from: &mut impl Read, to: &mut impl Write) -> Result<(Digest, u64), CopyError> {
    let (mut hasher, mut size, mut buffer) = (Sha256::new(), 0, vec![0; CHUNK]);
    loop {
        let count = match from.read(&mut buffer) {
            Ok(0) => return Ok((Digest::from_bytes(hasher.finalize().into()), size)),
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(CopyError::Reading(error)),
        };
        hasher.update(&buffer[..count]);
        to.write_all(&buffer[..count]).map_err(CopyError::Writing)?;
        size += count as u64;
    }
}

/// Makes the entries of a directory durable.
pub(crate) fn sync_dir(dir: &Path) -> Result<(), BlobError> {
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(|error| failed("syncing", dir, error))
}

/// Creates a private directory if it is missing; whether it was.
pub(crate) fn create_dir(dir: &Path) -> Result<bool, BlobError> {
    match DirBuilder::new().mode(0o700).create(dir) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(failed("creating", dir, error)),
    }
}
