//! Reading connections and what is read through them.

use std::{
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use pangolin_core::ids::Digest;
use pangolin_ports::{
    batch_rules::prefix_end,
    run_store::{Cell, CellKey, Head, Record, RunStoreError, StreamName},
};
use rusqlite::{Connection, OptionalExtension, Params, Row, params};

use crate::{
    apply::{first_pos, head_of, stream_id},
    error::{failed, other},
    schema::open_for_reading,
};

/// Idle connections kept. More readers at once get a connection of their own that is closed afterwards.
const IDLE_MAX: usize = 4;

/// Rows reserved at most before any is read: a limit is the caller's wish, not a size.
const RESERVE_MAX: usize = 1_024;

/// Opens connections as needed and keeps some.
pub(crate) struct Readers {
    path: PathBuf,
    busy_timeout: Duration,
    idle: Mutex<Vec<Reader>>,
}

impl Readers {
    pub(crate) fn new(path: &Path, busy_timeout: Duration) -> Self {
        Self { path: path.to_owned(), busy_timeout, idle: Mutex::default() }
    }

    pub(crate) fn busy_timeout(&self) -> Duration {
        self.busy_timeout
    }

    /// Opens a first connection.
    pub(crate) fn warm_up(&self) -> Result<(), RunStoreError> {
        let reader = self.open()?;
        self.lock().push(reader);
        Ok(())
    }

    pub(crate) fn close_idle(&self) {
        self.lock().clear();
    }

    /// Runs a query on a thread that may block.
    pub(crate) async fn run<T: Send + 'static>(
        self: &std::sync::Arc<Self>,
        query: impl FnOnce(&Reader) -> Result<T, RunStoreError> + Send + 'static,
    ) -> Result<T, RunStoreError> {
        let readers = std::sync::Arc::clone(self);
        let task = tokio::task::spawn_blocking(move || {
            let idle = readers.lock().pop();
            let reader = match idle {
                Some(reader) => reader,
                None => readers.open()?,
            };
            let result = query(&reader);
            let mut idle = readers.lock();
            if idle.len() < IDLE_MAX {
                idle.push(reader);
            }
            result
        });
        task.await.map_err(|error| other(&self.path, "reading", error))?
    }

    fn open(&self) -> Result<Reader, RunStoreError> {
        let connection = open_for_reading(&self.path, self.busy_timeout)?;
        Ok(Reader { connection, path: self.path.clone() })
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Reader>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One connection.
pub(crate) struct Reader {
    connection: Connection,
    path: PathBuf,
}

impl Reader {
    fn error(&self, error: rusqlite::Error) -> RunStoreError {
        failed(&self.path, "reading", error)
    }

    fn damaged(&self, what: String) -> RunStoreError {
        RunStoreError::Damaged(format!("{}: {what}", self.path.display()))
    }

    fn rows<T>(
        &self,
        sql: &str,
        params: impl Params,
        limit: usize,
        row: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Vec<T>, RunStoreError> {
        let query = || {
            let mut statement = self.connection.prepare_cached(sql)?;
            let mut found = Vec::with_capacity(limit.min(RESERVE_MAX));
            for item in statement.query_map(params, row)? {
                found.push(item?);
            }
            Ok(found)
        };
        query().map_err(|error| self.error(error))
    }

    pub(crate) fn was_committed(&self, id: &str) -> Result<bool, RunStoreError> {
        let query = || self.connection.prepare_cached("SELECT 1 FROM batches WHERE id = ?1")?.exists([id]);
        query().map_err(|error| self.error(error))
    }

    pub(crate) fn head(&self, stream: &str) -> Result<Head, RunStoreError> {
        let query = || match stream_id(&self.connection, stream)? {
            Some(id) => head_of(&self.connection, id),
            None => Ok(Head::default()),
        };
        query().map_err(|error| self.error(error))
    }

    pub(crate) fn read(&self, stream: &str, from: u64, limit: usize) -> Result<Vec<Record>, RunStoreError> {
        let id = stream_id(&self.connection, stream).map_err(|error| self.error(error))?;
        // Sequence numbers have 32 bits, so nothing can be at or behind a larger one.
        let (Some(id), Ok(first)) = (id, u32::try_from(from)) else { return Ok(Vec::new()) };
        let start = first_pos(id) + i64::from(first);
        let records = self.rows(
            "SELECT pos, hash, bytes FROM records WHERE pos >= ?1 AND pos < ?2 ORDER BY pos LIMIT ?3",
            params![start, first_pos(id + 1), sql_limit(limit)],
            limit,
            |row| {
                let seq = (row.get::<_, i64>(0)? - first_pos(id)).unsigned_abs();
                Ok(Record { seq, hash: Digest::from_bytes(row.get(1)?), bytes: row.get(2)? })
            },
        )?;
        for (record, expected) in records.iter().zip(from..) {
            if record.seq != expected {
                return Err(self.damaged(format!("record {expected} of stream {stream:?} is missing")));
            }
        }
        Ok(records)
    }

    pub(crate) fn streams(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<StreamName>, RunStoreError> {
        let (start, limit_value) = (scan_start(prefix, after), sql_limit(limit));
        match prefix_end(prefix) {
            Some(end) => self.rows(
                "SELECT name FROM streams WHERE name >= ?1 AND name < ?2 ORDER BY name LIMIT ?3",
                params![start, end, limit_value],
                limit,
                |row| row.get(0),
            ),
            None => self.rows(
                "SELECT name FROM streams WHERE name >= ?1 ORDER BY name LIMIT ?2",
                params![start, limit_value],
                limit,
                |row| row.get(0),
            ),
        }
    }

    pub(crate) fn get(&self, key: &str) -> Result<Option<Cell>, RunStoreError> {
        let query = || {
            let sql = "SELECT version, value FROM cells WHERE key = ?1 AND value IS NOT NULL";
            let mut select = self.connection.prepare_cached(sql)?;
            let cell = select.query_row([key], |row| {
                Ok(Cell { version: row.get::<_, i64>(0)?.unsigned_abs(), value: row.get(1)? })
            });
            cell.optional()
        };
        query().map_err(|error| self.error(error))
    }

    pub(crate) fn scan(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<(CellKey, Cell)>, RunStoreError> {
        let (start, limit_value) = (scan_start(prefix, after), sql_limit(limit));
        let row = |row: &Row<'_>| {
            Ok((row.get(0)?, Cell { version: row.get::<_, i64>(1)?.unsigned_abs(), value: row.get(2)? }))
        };
        match prefix_end(prefix) {
            Some(end) => self.rows(
                "SELECT key, version, value FROM cells
                 WHERE key >= ?1 AND key < ?2 AND value IS NOT NULL ORDER BY key LIMIT ?3",
                params![start, end, limit_value],
                limit,
                row,
            ),
            None => self.rows(
                "SELECT key, version, value FROM cells
                 WHERE key >= ?1 AND value IS NOT NULL ORDER BY key LIMIT ?2",
                params![start, limit_value],
                limit,
                row,
            ),
        }
    }

    pub(crate) fn check(&self) -> Result<Vec<String>, RunStoreError> {
        let mut findings: Vec<String> = self.rows("PRAGMA integrity_check(100)", (), 1, |row| row.get(0))?;
        findings.retain(|line| line != "ok");
        let gaps = self.rows(
            "SELECT s.name, count(r.pos), max(r.pos) - (s.id << 32) + 1 FROM streams s
             LEFT JOIN records r ON r.pos >= s.id << 32 AND r.pos < (s.id + 1) << 32
             GROUP BY s.id HAVING count(r.pos) IS NOT max(r.pos) - (s.id << 32) + 1",
            (),
            1,
            |row| {
                let (name, count, len): (String, i64, Option<i64>) = (row.get(0)?, row.get(1)?, row.get(2)?);
                Ok(format!("stream {name:?} has {count} of {} records", len.unwrap_or(0)))
            },
        )?;
        findings.extend(gaps);
        Ok(findings)
    }
}

/// Smallest key that a scan may return. The text right behind `after` is `after` and a NUL.
fn scan_start(prefix: &str, after: Option<&str>) -> String {
    match after {
        Some(after) if after >= prefix => format!("{after}\0"),
        _ => prefix.to_owned(),
    }
}

fn sql_limit(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}
