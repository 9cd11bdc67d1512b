//! The record directory of one dispatch: what survives the daemon.
//!
//! | file | written by | when |
//! | --- | --- | --- |
//! | `intent.json` | backend, first one wins | before a supervisor is spawned |
//! | `claim.json` | supervisor, only one can; durable | before the worker is spawned |
//! | `worker.json` | supervisor | after the worker was spawned |
//! | `cancel.json` | backend, which then wakes the supervisor with SIGUSR1 | on cancel |
//! | `exit.json` | supervisor, or the backend that found it dead | last |
//!
//! Files appear complete or not at all. The result key is in none of them.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

use pangolin_core::entry::IsolationUsed;
use pangolin_ports::worker_backend::WorkerExit;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::identity::Identity;

const INTENT: &str = "intent.json";
const CLAIM: &str = "claim.json";
const WORKER: &str = "worker.json";
const CANCEL: &str = "cancel.json";
const EXIT: &str = "exit.json";
const LOCK: &str = "lock";
/// stderr of the supervisor itself.
pub(crate) const SUPERVISOR_STDERR: &str = "supervisor.stderr";

/// What was asked for, as far as a later host needs it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Intent {
    pub(crate) isolation: IsolationUsed,
    pub(crate) result_dir: PathBuf,
    pub(crate) grace_ms: u64,
}

/// A request to stop.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Cancel {
    pub(crate) grace_ms: u64,
}

/// How it ended.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "ended", rename_all = "kebab-case")]
pub(crate) enum Exit {
    Exited { code: i32 },
    TimedOut,
    Cancelled,
    Lost { detail: String },
}

impl From<Exit> for WorkerExit {
    fn from(exit: Exit) -> Self {
        match exit {
            Exit::Exited { code } => Self::Exited { code },
            Exit::TimedOut => Self::TimedOut,
            Exit::Cancelled => Self::Cancelled,
            Exit::Lost { detail } => Self::Lost { detail },
        }
    }
}

/// One record directory.
#[derive(Debug, Clone)]
pub(crate) struct Record {
    dir: PathBuf,
}

impl Record {
    pub(crate) const fn at(dir: PathBuf) -> Self {
        Self { dir }
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(crate) fn exists(&self) -> bool {
        self.dir.is_dir()
    }

    /// Creates the directory and the intent; an existing intent stays.
    pub(crate) fn create(&self, intent: &Intent) -> io::Result<()> {
        match DirBuilder::new().mode(0o700).create(&self.dir) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        self.write_first(INTENT, intent, false).map(drop)
    }

    pub(crate) fn intent(&self) -> io::Result<Option<Intent>> {
        self.read(INTENT)
    }

    pub(crate) fn claim(&self) -> io::Result<Option<Identity>> {
        match self.read(CLAIM) {
            // Cut short by a power failure; whoever wrote it did not survive that. It still is a claim.
            Err(error) if error.kind() == io::ErrorKind::InvalidData => Ok(Some(Identity::of_another_boot())),
            read => read,
        }
    }

    /// Claims the right to start the worker. `false` when somebody did before, ever.
    pub(crate) fn take_claim(&self, own: &Identity) -> io::Result<bool> {
        let taken = self.write_first(CLAIM, own, true)?;
        if taken {
            // The entry of this directory in its parent must be as durable as the claim in it.
            sync_dir(self.dir.parent().unwrap_or(Path::new("/")))?;
        }
        Ok(taken)
    }

    /// Gives the claim back. Only for its holder, and only when no worker was spawned.
    pub(crate) fn drop_claim(&self) -> io::Result<()> {
        fs::remove_file(self.dir.join(CLAIM))?;
        sync_dir(&self.dir)
    }

    pub(crate) fn worker(&self) -> io::Result<Option<Identity>> {
        self.read(WORKER)
    }

    pub(crate) fn write_worker(&self, worker: &Identity) -> io::Result<()> {
        self.write_first(WORKER, worker, false).map(drop)
    }

    pub(crate) fn cancel(&self) -> io::Result<Option<Cancel>> {
        self.read(CANCEL)
    }

    pub(crate) fn write_cancel(&self, cancel: Cancel) -> io::Result<()> {
        let (temp, _file) = self.write_temp(CANCEL, &cancel)?;
        fs::rename(temp, self.dir.join(CANCEL))
    }

    pub(crate) fn exit(&self) -> io::Result<Option<Exit>> {
        match self.read(EXIT) {
            Err(error) if error.kind() == io::ErrorKind::InvalidData => Ok(Some(Exit::Lost {
                detail: "the record of its end was cut short by a failure of the host".to_owned(),
            })),
            read => read,
        }
    }

    /// Records the end. The first record stays. It survives the end of any process at once, and a power failure
    /// once it is on disk: waiting for that is left to [`Self::sync_exit`], because a dependent item is waiting.
    pub(crate) fn write_exit(&self, exit: &Exit) -> io::Result<()> {
        self.write_first(EXIT, exit, false).map(drop)
    }

    /// Brings the record of the end to disk.
    pub(crate) fn sync_exit(&self) -> io::Result<()> {
        match File::open(self.dir.join(EXIT)) {
            // Removed meanwhile.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            file => file?.sync_all().and_then(|()| sync_dir(&self.dir)),
        }
    }

    /// Serialises those who clean up after a dead supervisor. Held until dropped or until this process ends.
    pub(crate) fn lock(&self) -> io::Result<File> {
        let file = OpenOptions::new().create(true).append(true).mode(0o600).open(self.dir.join(LOCK))?;
        file.lock()?;
        Ok(file)
    }

    /// Opens the file that gets the supervisor's own stderr.
    pub(crate) fn supervisor_stderr(&self) -> io::Result<File> {
        OpenOptions::new().create(true).append(true).mode(0o600).open(self.dir.join(SUPERVISOR_STDERR))
    }

    /// Removes the record. A crash midway leaves a hidden directory that the next [`sweep`] removes, never a
    /// record without its claim.
    pub(crate) fn remove(&self) -> io::Result<()> {
        let name = self.dir.file_name().unwrap_or_default().to_string_lossy();
        let trash = self.dir.with_file_name(format!(".removed-{}-{name}", unique()));
        match fs::rename(&self.dir, &trash) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
            Ok(()) => fs::remove_dir_all(trash),
        }
    }

    fn read<T: DeserializeOwned>(&self, name: &str) -> io::Result<Option<T>> {
        let path = self.dir.join(name);
        match fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
            Ok(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(|error| {
                let problem = format!("{} is damaged ({error}); remove that directory", path.display());
                io::Error::new(io::ErrorKind::InvalidData, problem)
            }),
        }
    }

    fn write_temp(&self, name: &str, value: &impl Serialize) -> io::Result<(PathBuf, File)> {
        let temp = self.dir.join(format!(".{name}-{}", unique()));
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temp)?;
        file.write_all(&serde_json::to_vec(value)?)?;
        Ok((temp, file))
    }

    /// Creates `name` with its full content unless it exists. `true` if it was created.
    fn write_first(&self, name: &str, value: &impl Serialize, sync: bool) -> io::Result<bool> {
        let (temp, file) = self.write_temp(name, value)?;
        // A hard link, unlike a rename, never replaces.
        let linked = fs::hard_link(&temp, self.dir.join(name));
        fs::remove_file(temp)?;
        match linked {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
            Err(error) => Err(error),
            Ok(()) => {
                if sync {
                    // Synced after all names are in place, so that a journalling file system commits only once.
                    file.sync_all()?;
                    sync_dir(&self.dir)?;
                }
                Ok(true)
            }
        }
    }
}

/// Finishes removals that a crash cut short.
pub(crate) fn sweep(state_dir: &Path) -> io::Result<()> {
    for entry in fs::read_dir(state_dir)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(".removed-") {
            match fs::remove_dir_all(entry.path()) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
    }
    Ok(())
}

fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// A suffix no other process of this host uses at the same time.
fn unique() -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    format!("{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed))
}
