//! What a block works on, as a port. The worker implements it over the real workspace; [`crate::MemoryWorld`] holds
//! everything in memory, for tests of plugins.

use std::{any::Any, collections::BTreeMap, sync::Arc, time::Duration};

use pangolin_core::ids::Digest;

/// Where a block's host calls end up. The grant has been checked and the limits of the grant applied before a method
/// is called; an implementation adds what only it can know (network policy, missing secrets, links in the way).
///
/// # Contract
/// - **Paths** are virtual: `workspace/<path>` (now), `base/<path>` (before the agent; changed or deleted files only),
///   `outputs/<path>`, and `changes.json`. A path is percent-encoded where a byte is not printable ASCII or is `%`. It has no
///   empty, `.` or `..` segment. Only what [`BlockWorld::files`] names can be read. Symbolic links are listed, never
///   followed.
/// - **Bounds**: a call returns in bounded time: reads within the size asked for, commands and requests within their
///   timeout. Calls block; nobody else runs on the thread meanwhile.
/// - **Atomicity**: [`BlockWorld::commit_artifact`] makes the whole artifact visible or nothing of it, whenever the process
///   is killed. What was not committed is gone when the world is dropped.
/// - **Secrets**: values are put in place by the world and never returned; output of commands and answers of hosts are
///   redacted before they are returned.
pub trait BlockWorld: Any + Send {
    /// All files in byte order of their paths, each once. The same list until something ran.
    ///
    /// # Errors
    /// [`WorldError`].
    fn files(&mut self) -> Result<Arc<Vec<FileEntry>>, WorldError>;

    /// Bytes of a file from `offset` on, at most `length`, fewer only at its end. Nothing at or behind the end.
    ///
    /// # Errors
    /// [`WorldError::Missing`] for what [`Self::files`] does not name.
    fn read(&mut self, path: &str, offset: u64, length: u32) -> Result<Vec<u8>, WorldError>;

    /// Record of an earlier block as JSON text, by its plugin id (the latest) or its position.
    fn earlier(&mut self, block: &str) -> Option<String>;

    /// Starts an artifact that nobody else sees.
    ///
    /// # Errors
    /// [`WorldError::Refused`] when the path cannot be one.
    fn begin_artifact(&mut self, path: &str) -> Result<ArtifactId, WorldError>;

    /// Appends to it.
    ///
    /// # Errors
    /// [`WorldError`]; then it cannot be committed any more.
    fn write_artifact(&mut self, id: ArtifactId, data: &[u8]) -> Result<(), WorldError>;

    /// Makes it visible under its path, replacing an earlier one of that path as a whole. Answers digest and size.
    ///
    /// # Errors
    /// [`WorldError`]; then nothing has changed.
    fn commit_artifact(&mut self, id: ArtifactId) -> Result<(Digest, u64), WorldError>;

    /// Forgets an artifact that was not committed.
    fn drop_artifact(&mut self, id: ArtifactId);

    /// Runs a program in the workspace to its end; nothing of its process tree is left afterwards.
    ///
    /// # Errors
    /// [`WorldError::Refused`] when it cannot be started as asked.
    fn run(&mut self, command: &ExecRequest) -> Result<ExecOutcome, WorldError>;

    /// Sends one request and reads the answer. Redirects are answers, not followed.
    ///
    /// # Errors
    /// [`WorldError::Transport`] when the transfer failed, [`WorldError::Refused`] when there is no network.
    fn fetch(&mut self, request: &FetchRequest) -> Result<FetchResponse, WorldError>;

    /// Whether somebody asked for the end of all work. Looked at about every 10 ms while a guest computes.
    fn stopped(&self) -> bool;
}

/// A file of the listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileEntry {
    /// Virtual path.
    pub path: String,
    /// Bytes; of a link, of its target.
    pub size: u64,
    /// Digest of the content, where it is known without reading.
    pub digest: Option<Digest>,
}

/// Names an artifact being written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ArtifactId(pub u32);

/// A program to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExecRequest {
    /// Program.
    pub program: String,
    /// Arguments.
    pub args: Vec<String>,
    /// Variables on top of the world's own.
    pub env: BTreeMap<String, String>,
    /// Variable → name of the secret.
    pub env_secrets: BTreeMap<String, String>,
    /// Wall time.
    pub timeout: Duration,
    /// Bytes kept of each output stream.
    pub output_bytes: u64,
}

/// How a program ended.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ExecOutcome {
    /// Exit code, if it exited.
    pub exit_code: Option<i32>,
    /// Killed because of its time limit.
    pub timed_out: bool,
    /// Its stdout, redacted.
    pub stdout: Vec<u8>,
    /// Its stderr, redacted.
    pub stderr: Vec<u8>,
    /// Output was left out.
    pub truncated: bool,
    /// Wall time in milliseconds.
    pub duration_ms: u64,
}

/// A request to send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FetchRequest {
    /// Method, upper case.
    pub method: String,
    /// Absolute http or https URL without user and fragment.
    pub url: String,
    /// Headers in order.
    pub headers: Vec<(String, String)>,
    /// Header → name of the secret.
    pub header_secrets: Vec<(String, String)>,
    /// Body.
    pub body: Vec<u8>,
    /// Wall time of the whole exchange.
    pub timeout: Duration,
    /// Largest body of the answer; a larger one is [`WorldError::Transport`].
    pub response_bytes: u64,
}

/// An answer, redacted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FetchResponse {
    /// Status.
    pub status: u16,
    /// Headers in order, names in lower case.
    pub headers: Vec<(String, String)>,
    /// Body.
    pub body: Vec<u8>,
}

/// Why a world does not do it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WorldError {
    /// There is nothing of that name.
    #[error("there is no such file; list-files names those that there are")]
    Missing,
    /// Not allowed or not possible here: the rule.
    #[error("{0}")]
    Refused(String),
    /// A transfer failed.
    #[error("transport: {0}")]
    Transport(String),
    /// The world itself is broken; ends the block as `host-error`.
    #[error("{0}")]
    Broken(String),
}
