//! The stages between the worker and a command. The worker re-executes its own program instead of running code
//! between fork and exec, so no unsafe code is needed:
//!
//! ```text
//! worker ── __exec ─────────────────────────────▶ command      (isolation none, container)
//! worker ── __sandbox ── __init (pid 1) ── __exec ▶ command      (isolation sandbox)
//! ```
//!
//! A stage reads its orders from a file, not from arguments or variables: the command's variables may hold secrets
//! and may change how a program is loaded, so they are set in the very last exec only. What a stage reports goes
//! back through the same open file.

pub(crate) mod exec;
pub(crate) mod init;
mod loopback;
pub(crate) mod mounts;
pub(crate) mod outer;

use std::{
    collections::BTreeMap,
    fs::{File, OpenOptions},
    io::{self, Read, Seek, SeekFrom, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use nix::fcntl::OFlag;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

/// Exit code of a stage that could not do its work; the file says why.
pub(crate) const STAGE_FAILED: i32 = 125;

/// The program itself, also when its file is not visible any more.
pub(crate) const SELF: &str = "/proc/self/exe";

/// What to run, for the last stage.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct ExecOrder {
    /// Program, looked up on `PATH` of `env` when it has no slash.
    pub(crate) program: String,
    /// Arguments.
    pub(crate) args: Vec<String>,
    /// All variables.
    pub(crate) env: BTreeMap<String, String>,
    /// Working directory.
    pub(crate) directory: PathBuf,
    /// Resource limits.
    pub(crate) limits: ResourceLimits,
    /// Enter a user namespace of its own, so that the command has no rights over the sandbox's mounts.
    pub(crate) nested_user: bool,
}

/// Resource limits of a command; absent ones stay as they are.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct ResourceLimits {
    /// Largest file.
    pub(crate) file_bytes: Option<u64>,
    /// Data segment and private memory of each process.
    pub(crate) data_bytes: Option<u64>,
    /// Processes and threads of the sandbox.
    pub(crate) processes: Option<u64>,
    /// Open files.
    pub(crate) open_files: Option<u64>,
}

/// The sandbox around a command.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct SandboxOrder {
    /// Empty directory that becomes the root.
    pub(crate) root: PathBuf,
    /// Working tree, writable, at the same path.
    pub(crate) workspace: PathBuf,
    /// Paths in the workspace that are not writable.
    pub(crate) workspace_read_only: Vec<PathBuf>,
    /// Directory that becomes [`HOME`].
    pub(crate) home: PathBuf,
    /// Visible, not writable.
    pub(crate) read_only: Vec<PathBuf>,
    /// Must not be visible, whatever else is bound.
    pub(crate) hidden: Vec<PathBuf>,
    /// A network namespace with nothing but its own loopback.
    pub(crate) no_network: bool,
    /// Bytes of `/tmp`.
    pub(crate) tmp_bytes: u64,
    /// Processes in the namespace.
    pub(crate) processes: u64,
    /// Pid of the worker, to notice when it died before the stage could ask for a signal.
    pub(crate) parent: i32,
    /// The command.
    pub(crate) command: ExecOrder,
}

/// Home directory inside the sandbox.
pub(crate) const HOME: &str = "/home/agent";

/// Uid and gid inside the sandbox.
pub(crate) const SANDBOX_ID: u32 = 1000;

/// What a stage reports.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Report {
    /// Mechanisms in force.
    pub(crate) mechanisms: Vec<String>,
    /// Why the command could not be started.
    pub(crate) error: Option<String>,
    /// Exit code of the command.
    pub(crate) code: Option<i32>,
    /// Signal that ended the command.
    pub(crate) signal: Option<i32>,
}

/// A file with orders in it that takes a report.
#[derive(Debug)]
pub(crate) struct OrderFile {
    file: File,
}

impl OrderFile {
    /// Writes orders to a new file, only for this user.
    pub(crate) fn create(path: &Path, order: &impl Serialize) -> io::Result<Self> {
        let flags = OFlag::O_NOFOLLOW.bits();
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .mode(0o600)
            .custom_flags(flags)
            .open(path)?;
        serde_json::to_writer(&mut file, order)?;
        Ok(Self { file })
    }

    /// Reads orders.
    pub(crate) fn open<T: DeserializeOwned>(path: &Path) -> io::Result<(Self, T)> {
        let flags = OFlag::O_NOFOLLOW.bits();
        let mut file = OpenOptions::new().read(true).write(true).custom_flags(flags).open(path)?;
        let mut text = Vec::new();
        file.read_to_end(&mut text)?;
        Ok((Self { file }, serde_json::from_slice(&text)?))
    }

    /// Replaces the content by a report, or by nothing.
    pub(crate) fn report(&mut self, report: Option<&Report>) -> io::Result<()> {
        self.file.set_len(0)?;
        self.file.seek(SeekFrom::Start(0))?;
        if let Some(report) = report {
            self.file.write_all(&serde_json::to_vec(report)?)?;
        }
        Ok(())
    }

    /// The report; `None` when there is none (or still the orders).
    pub(crate) fn read_report(&mut self) -> Option<Report> {
        let mut text = Vec::new();
        self.file.seek(SeekFrom::Start(0)).ok()?;
        self.file.read_to_end(&mut text).ok()?;
        // Orders have other fields, and `mechanisms` is required.
        serde_json::from_slice(&text).ok()
    }
}

/// Runs a stage if the arguments name one. Does not return then.
pub(crate) fn run_if_stage() {
    let mut args = std::env::args_os().skip(1);
    let Some(stage) = args.next() else { return };
    let path = PathBuf::from(args.next().unwrap_or_default());
    let code = match stage.to_str() {
        Some("__exec") => exec::run(&path),
        Some("__init") => init::run(&path),
        Some("__sandbox") => outer::run(&path),
        _ => return,
    };
    std::process::exit(code);
}

/// Reports a failure and answers the exit code for it.
fn fail(mut file: OrderFile, mechanisms: Vec<String>, error: String) -> i32 {
    file.report(Some(&Report { mechanisms, error: Some(error), ..Report::default() })).ok();
    STAGE_FAILED
}
