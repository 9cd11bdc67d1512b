//! One batch inside a transaction that the writer has begun.

use std::collections::HashMap;

use pangolin_core::ids::Digest;
use pangolin_ports::run_store::{Append, Batch, Commit, Guard, Head, Write};
use rusqlite::{Connection, OptionalExtension, Result, params};

/// Most stream ids remembered.
const STREAM_IDS: usize = 4_096;

/// First position of a stream.
pub(crate) const fn first_pos(stream: i64) -> i64 {
    stream << 32
}

/// End of a stream, given its id.
pub(crate) fn head_of(connection: &Connection, stream: i64) -> Result<Head> {
    let mut last = connection.prepare_cached(
        "SELECT pos, hash FROM records WHERE pos >= ?1 AND pos < ?2 ORDER BY pos DESC LIMIT 1",
    )?;
    let head = last.query_row(params![first_pos(stream), first_pos(stream + 1)], |row| {
        let len = row.get::<_, i64>(0)? - first_pos(stream) + 1;
        Ok(Head { len: len.unsigned_abs(), hash: Some(Digest::from_bytes(row.get(1)?)) })
    });
    Ok(head.optional()?.unwrap_or_default())
}

/// Id of a stream, when it has records.
pub(crate) fn stream_id(connection: &Connection, name: &str) -> Result<Option<i64>> {
    connection
        .prepare_cached("SELECT id FROM streams WHERE name = ?1")?
        .query_row([name], |row| row.get(0))
        .optional()
}

/// Applies batches; remembers what never changes.
#[derive(Default)]
pub(crate) struct Applier {
    /// Ids of streams. Streams are never deleted, so other processes cannot make this wrong; only a rollback can.
    ids: HashMap<String, i64>,
}

impl Applier {
    /// Forgets what a rolled-back transaction may have created.
    pub(crate) fn forget(&mut self) {
        self.ids.clear();
    }

    /// Checks the guards and writes. A refused batch has written nothing, so the transaction can go on without a
    /// savepoint; after an error it must be rolled back.
    pub(crate) fn apply(&mut self, connection: &Connection, batch: &Batch) -> Result<Commit> {
        for (index, guard) in batch.guards.iter().enumerate() {
            if let Some(found) = self.contradiction(connection, guard)? {
                // Asked only now: a replayed batch nearly always fails its guards, a new one nearly never does.
                let known =
                    connection.prepare_cached("SELECT 1 FROM batches WHERE id = ?1")?.exists([&batch.id])?;
                return Ok(if known {
                    Commit::Committed
                } else {
                    Commit::GuardFailed { guard: index, found }
                });
            }
        }
        let new = connection
            .prepare_cached("INSERT OR IGNORE INTO batches (id) VALUES (?1)")?
            .execute([&batch.id])?;
        if new == 1 {
            for write in &batch.writes {
                apply_write(connection, write)?;
            }
            for append in &batch.appends {
                self.append(connection, batch, append)?;
            }
        }
        Ok(Commit::Committed)
    }

    /// What is there instead, when the guard does not hold.
    fn contradiction(&mut self, connection: &Connection, guard: &Guard) -> Result<Option<String>> {
        Ok(match guard {
            Guard::HeadIs { stream, head } => {
                let found = match self.id(connection, stream)? {
                    Some(id) => head_of(connection, id)?,
                    None => Head::default(),
                };
                (found != *head).then(|| match found.hash {
                    Some(hash) => format!("stream {stream:?} has {} records and ends with {hash}", found.len),
                    None => format!("stream {stream:?} is empty"),
                })
            }
            Guard::Absent(key) => {
                version(connection, key)?.map(|found| format!("cell {key:?} exists at version {found}"))
            }
            Guard::VersionIs { key, version: expected } => match version(connection, key)? {
                Some(found) if found == *expected => None,
                Some(found) => Some(format!("cell {key:?} is at version {found}")),
                None => Some(format!("cell {key:?} does not exist")),
            },
        })
    }

    fn id(&mut self, connection: &Connection, stream: &str) -> Result<Option<i64>> {
        if let Some(id) = self.ids.get(stream) {
            return Ok(Some(*id));
        }
        let id = stream_id(connection, stream)?;
        if let Some(id) = id {
            self.remember(stream, id);
        }
        Ok(id)
    }

    fn remember(&mut self, stream: &str, id: i64) {
        if self.ids.len() == STREAM_IDS {
            self.ids.clear();
        }
        self.ids.insert(stream.to_owned(), id);
    }

    fn append(&mut self, connection: &Connection, batch: &Batch, append: &Append) -> Result<()> {
        if append.records.is_empty() {
            return Ok(());
        }
        let id = match self.id(connection, &append.stream)? {
            Some(id) => id,
            None => {
                connection
                    .prepare_cached("INSERT INTO streams (name) VALUES (?1)")?
                    .execute([&append.stream])?;
                let id = connection.last_insert_rowid();
                self.remember(&append.stream, id);
                id
            }
        };
        // The guard on this head is mandatory and has just been checked, so it is the truth.
        let len = batch.guards.iter().find_map(|guard| match guard {
            Guard::HeadIs { stream, head } if *stream == append.stream => Some(head.len),
            _ => None,
        });
        let first = first_pos(id) + i64::try_from(len.unwrap_or(0)).unwrap_or(i64::MAX);
        let mut insert =
            connection.prepare_cached("INSERT INTO records (pos, hash, bytes) VALUES (?1, ?2, ?3)")?;
        for (pos, (hash, bytes)) in (first..).zip(&append.records) {
            insert.execute(params![pos, hash.as_bytes(), bytes])?;
        }
        Ok(())
    }
}

fn version(connection: &Connection, key: &str) -> Result<Option<u64>> {
    let mut select =
        connection.prepare_cached("SELECT version FROM cells WHERE key = ?1 AND value IS NOT NULL")?;
    select.query_row([key], |row| row.get::<_, i64>(0).map(i64::unsigned_abs)).optional()
}

fn apply_write(connection: &Connection, write: &Write) -> Result<()> {
    match write {
        Write::Put { key, value } => {
            let mut upsert = connection.prepare_cached(
                "INSERT INTO cells (key, version, value) VALUES (?1, 1, ?2)
                 ON CONFLICT (key) DO UPDATE SET version = version + 1, value = excluded.value",
            )?;
            upsert.execute(params![key, value])?;
        }
        Write::Delete(key) => {
            let mut clear = connection
                .prepare_cached("UPDATE cells SET value = NULL WHERE key = ?1 AND value IS NOT NULL")?;
            clear.execute([key])?;
        }
    }
    Ok(())
}
