//! Noticing commits of other processes.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    time::Duration,
};

use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use pangolin_ports::run_store::RunStoreError;
use rusqlite::Connection;
use tokio::sync::watch;

use crate::{
    error::{failed, other},
    schema::open_for_reading,
};

/// A writer killed between its commit and its bump leaves watchers asleep; they look again after this long.
const LOOK_AGAIN: Duration = Duration::from_secs(2);

/// `<db>.bump`.
pub(crate) fn bump_path(path: &Path) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(".bump");
    PathBuf::from(name)
}

/// Tells when something was committed to a database, by any process. Several commits may be told as one.
pub struct ChangeWatch {
    path: PathBuf,
    connection: Connection,
    /// SQLite's `data_version` when we last told; `None` before the first time.
    told: Option<i64>,
    events: watch::Receiver<u64>,
    /// Stops watching when dropped.
    _watcher: RecommendedWatcher,
}

impl ChangeWatch {
    pub(crate) fn new(path: &Path, busy_timeout: Duration) -> Result<Self, RunStoreError> {
        let bump = bump_path(path);
        let (sender, events) = watch::channel(0);
        let handler = move |event: notify::Result<notify::Event>| {
            // Somebody opening or closing the file says nothing. An error may hide an event, so it counts as one.
            if !event.is_ok_and(|event| matches!(event.kind, EventKind::Access(_))) {
                sender.send_modify(|count| *count += 1);
            }
        };
        let mut watcher =
            notify::recommended_watcher(handler).map_err(|error| other(&bump, "watching", error))?;
        watcher.watch(&bump, RecursiveMode::NonRecursive).map_err(|error| other(&bump, "watching", error))?;
        let connection = open_for_reading(path, busy_timeout)?;
        Ok(Self { path: path.to_owned(), connection, told: None, events, _watcher: watcher })
    }

    /// Resolves when something was committed since the last call; the first call resolves at once. Cancel-safe.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn changed(&mut self) -> Result<(), RunStoreError> {
        loop {
            // First forget the events so far, then look: what comes after the look leaves an event.
            self.events.borrow_and_update();
            let version = self.connection.pragma_query_value(None, "data_version", |row| row.get(0));
            let version: i64 = version.map_err(|error| failed(&self.path, "reading", error))?;
            if self.told != Some(version) {
                self.told = Some(version);
                return Ok(());
            }
            let woken = tokio::time::timeout(LOOK_AGAIN, self.events.changed()).await;
            if let Ok(Err(_)) = woken {
                // The thread that delivers events has died: look now and then instead of spinning.
                tokio::time::sleep(LOOK_AGAIN).await;
            }
        }
    }
}
