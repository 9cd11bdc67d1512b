//! Tables, migrations and the settings of connections.

use std::{
    fs::{File, OpenOptions},
    io,
    os::unix::fs::OpenOptionsExt,
    path::Path,
    time::{Duration, Instant},
};

use pangolin_ports::run_store::RunStoreError;
use rusqlite::{Connection, OpenFlags, config::DbConfig};
use rusqlite_migration::{M, Migrations};

use crate::{
    Options, Synchronous,
    error::{failed, is_busy, other, refused},
};

/// Marks the file as ours ("PNGL"), so that a wrong path in a configuration does not get our tables.
const APPLICATION_ID: i32 = 0x504e_474c;

/// Older libraries can lose commits when a WAL is reset while another connection writes.
const OLDEST_SQLITE: i32 = 3_051_003;

/// Never edit a released step; append one.
///
/// `records.pos` is `stream id << 32 | seq`: the position is the row id, so a stream is one range of the table and
/// needs no index. `cells.value` is NULL after deletion, which keeps the version for the next creation.
const MIGRATIONS: &[M<'static>] = &[M::up(
    "CREATE TABLE streams (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE) STRICT;
     CREATE TABLE records (pos INTEGER PRIMARY KEY, hash BLOB NOT NULL, bytes BLOB NOT NULL) STRICT;
     CREATE TABLE cells (key TEXT PRIMARY KEY, version INTEGER NOT NULL, value BLOB) STRICT, WITHOUT ROWID;
     CREATE TABLE batches (id TEXT PRIMARY KEY) STRICT, WITHOUT ROWID;
     PRAGMA application_id = 1347307340;",
)];

/// Newest schema version this program understands.
const SUPPORTED: i64 = MIGRATIONS.len() as i64;

/// Opens, creates or migrates.
pub(crate) fn open_for_writing(path: &Path, options: &Options) -> Result<Connection, RunStoreError> {
    create_private(path)?;
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut connection = open(path, flags, options.busy_timeout)?;
    switch_to_wal(&connection, path, options.busy_timeout)?;
    let synchronous = match options.synchronous {
        Synchronous::Full => "FULL",
        Synchronous::Normal => "NORMAL",
    };
    // Pages are rewritten often, so fewer, larger checkpoints write less; the limit gives the space back.
    let pragmas =
        [("synchronous", synchronous), ("wal_autocheckpoint", "4000"), ("journal_size_limit", "67108864")];
    for (name, value) in pragmas {
        connection.pragma_update(None, name, value).map_err(|error| failed(path, "setting up", error))?;
    }
    migrate(&mut connection, path)?;
    Ok(connection)
}

/// Opens an up-to-date database for reading.
pub(crate) fn open_for_reading(path: &Path, busy_timeout: Duration) -> Result<Connection, RunStoreError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = open(path, flags, busy_timeout)?;
    let found = version(&connection, path)?;
    if found != SUPPORTED {
        return Err(RunStoreError::Schema { found, supported: SUPPORTED });
    }
    Ok(connection)
}

fn open(path: &Path, flags: OpenFlags, busy_timeout: Duration) -> Result<Connection, RunStoreError> {
    if rusqlite::version_number() < OLDEST_SQLITE {
        let why = format!("SQLite {} is too old, 3.51.3 or newer is needed", rusqlite::version());
        return Err(refused(path, "opening", &why));
    }
    let error = |error| failed(path, "opening", error);
    let connection = Connection::open_with_flags(path, flags).map_err(error)?;
    connection.busy_timeout(busy_timeout).map_err(error)?;
    connection.set_prepared_statement_cache_capacity(32);
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true).map_err(error)?;
    connection.pragma_update(None, "trusted_schema", "OFF").map_err(error)?;
    connection.pragma_update(None, "cell_size_check", "ON").map_err(error)?;
    connection.pragma_update(None, "cache_size", "-8000").map_err(error)?;
    Ok(connection)
}

/// Creates the file with mode 0600 before SQLite would create it for everybody; `-wal` and `-shm` inherit the mode.
fn create_private(path: &Path) -> Result<(), RunStoreError> {
    let created = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    match created {
        Ok(_) => sync_parent(path).map_err(|error| other(path, "creating", error)),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::StorageFull => {
            Err(RunStoreError::Full(format!("creating {}: {error}", path.display())))
        }
        Err(error) => Err(other(path, "creating", error)),
    }
}

fn sync_parent(path: &Path) -> io::Result<()> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    File::open(parent.unwrap_or(Path::new(".")))?.sync_all()
}

/// The switch needs the file alone for a moment and SQLite does not wait for that, so we do.
fn switch_to_wal(connection: &Connection, path: &Path, busy_timeout: Duration) -> Result<(), RunStoreError> {
    let deadline = Instant::now() + busy_timeout;
    loop {
        let mode: Result<String, _> =
            connection.pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get(0));
        match mode {
            Ok(mode) if mode == "wal" => return Ok(()),
            Ok(mode) => {
                let why =
                    format!("the file system supports only journal mode {mode:?}, not WAL; use a local disk");
                return Err(refused(path, "opening", &why));
            }
            Err(error) if is_busy(&error) && Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(5));
            }
            Err(error) => return Err(failed(path, "opening", error)),
        }
    }
}

fn version(connection: &Connection, path: &Path) -> Result<i64, RunStoreError> {
    // In one statement, so that another process that creates the database meanwhile is seen as a whole or not at all.
    let row = connection.query_row(
        "SELECT (SELECT user_version FROM pragma_user_version),
                (SELECT application_id FROM pragma_application_id),
                (SELECT count(*) FROM sqlite_schema)",
        (),
        |row| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?, row.get::<_, i64>(2)?)),
    );
    let (version, application, tables) = row.map_err(|error| failed(path, "opening", error))?;
    if application != i64::from(APPLICATION_ID) && (version, tables) != (0, 0) {
        return Err(refused(path, "opening", "it is the SQLite database of another program"));
    }
    Ok(version)
}

fn migrate(connection: &mut Connection, path: &Path) -> Result<(), RunStoreError> {
    // Another process may migrate at the same moment; the loser finds the tables there and looks again.
    for last_try in [false, false, true] {
        let found = version(connection, path)?;
        if found > SUPPORTED {
            return Err(RunStoreError::Schema { found, supported: SUPPORTED });
        }
        match Migrations::from_slice(MIGRATIONS).to_latest(connection) {
            Ok(()) => break,
            Err(rusqlite_migration::Error::RusqliteError { err, .. }) if last_try || is_busy(&err) => {
                return Err(failed(path, "migrating", err));
            }
            Err(rusqlite_migration::Error::RusqliteError { .. }) => {}
            Err(error) => return Err(other(path, "migrating", error)),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn migrations_apply_and_set_our_mark() {
        Migrations::from_slice(MIGRATIONS).validate().unwrap();
        let mut connection = Connection::open_in_memory().unwrap();
        migrate(&mut connection, Path::new("memory")).unwrap();
        let id: i32 = connection.pragma_query_value(None, "application_id", |row| row.get(0)).unwrap();
        assert_eq!(id, APPLICATION_ID);
    }

    #[test]
    fn the_bundled_library_is_new_enough() {
        assert!(rusqlite::version_number() >= OLDEST_SQLITE, "{}", rusqlite::version());
    }
}
