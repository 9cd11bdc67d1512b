//! Local files, opened and hashed without trusting their names.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

use nix::fcntl::OFlag;
use pangolin_core::ids::Digest;
use pangolin_ports::blob_store::BlobError;
use sha2::{Digest as _, Sha256};

/// Bytes moved at once.
pub(crate) const CHUNK: usize = 256 << 10;

/// An error of `doing` something to `path`.
pub(crate) fn failed(doing: &str, path: &Path, error: io::Error) -> BlobError {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            BlobError::Full(format!("{doing} {}", path.display()))
        }
        _ => BlobError::Other { context: format!("{doing} {}", path.display()), source: Box::new(error) },
    }
}

/// Opens a regular file and tells its size. Never follows a symlink at the end of the path and never waits for a FIFO.
pub(crate) fn open_regular(path: &Path) -> io::Result<(File, u64)> {
    let flags = OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
    let file = OpenOptions::new().read(true).custom_flags(flags.bits()).open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(io::Error::other("not a regular file"));
    }
    Ok((file, metadata.len()))
}

/// Digest and length of everything in the file.
pub(crate) fn hash(file: &mut File) -> io::Result<(Digest, u64)> {
    let (mut hasher, mut size, mut buffer) = (Sha256::new(), 0, vec![0; CHUNK]);
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok((Digest::from_bytes(hasher.finalize().into()), size)),
            Ok(count) => {
                hasher.update(&buffer[..count]);
                size += count as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}
