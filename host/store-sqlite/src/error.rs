//! SQLite's errors as the port's.

use std::{io, path::Path};

use pangolin_ports::run_store::RunStoreError;
use rusqlite::{Error, ErrorCode, ffi};

/// Maps an error of `doing` something to the database at `path`.
pub(crate) fn failed(path: &Path, doing: &str, error: Error) -> RunStoreError {
    let what = || format!("{doing} {}: {error}", path.display());
    match &error {
        Error::SqliteFailure(failure, _) => match failure.code {
            ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked => RunStoreError::Busy(what()),
            ErrorCode::DiskFull => RunStoreError::Full(what()),
            // The shared-memory index could not grow: on every real file system that is a full one.
            _ if failure.extended_code == ffi::SQLITE_IOERR_SHMSIZE => RunStoreError::Full(what()),
            ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase => RunStoreError::Damaged(what()),
            _ => other(path, doing, error),
        },
        // A column holds something that this program never writes there.
        Error::FromSqlConversionFailure(..)
        | Error::IntegralValueOutOfRange(..)
        | Error::InvalidColumnType(..) => RunStoreError::Damaged(what()),
        _ => other(path, doing, error),
    }
}

pub(crate) fn other(
    path: &Path,
    doing: &str,
    source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
) -> RunStoreError {
    RunStoreError::Other { context: format!("{doing} {}", path.display()), source: source.into() }
}

/// An error of our own, with the reason as its source.
pub(crate) fn refused(path: &Path, doing: &str, why: &str) -> RunStoreError {
    other(path, doing, io::Error::other(why.to_owned()))
}

/// Whether SQLite reports trouble with the disk.
pub(crate) fn is_io(error: &Error) -> bool {
    error.sqlite_error_code() == Some(ErrorCode::SystemIoFailure)
}

pub(crate) fn is_busy(error: &Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked))
}
