//! What a block can ask its host, as a trait with two implementations: the component's imports and the mock host.

use std::{fmt, io};

/// A file of the listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Virtual path: `workspace/…`, `base/…`, `outputs/…` or `changes.json`.
    pub path: String,
    /// Bytes.
    pub size: u64,
    /// Content digest, where the host knows it.
    pub digest: Option<String>,
}

/// The host said no. The block may go on without.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// What was needed, e.g. `read`.
    pub capability: String,
    /// On what, e.g. a path.
    pub subject: String,
    /// Why not.
    pub reason: String,
}

impl Refusal {
    /// Whether a file was not read because it is a symbolic link. Hosts list links and do not follow them.
    #[must_use]
    pub fn is_link(&self) -> bool {
        self.reason.starts_with("it is a symbolic link")
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} {:?}: {}", self.capability, self.subject, self.reason)
    }
}

impl std::error::Error for Refusal {}

/// The block cannot do its job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Kebab-case, an open vocabulary; `bad-params`, `refused` and `unreadable` come from this crate.
    pub code: String,
    /// One or more sentences: the thing and the next step.
    pub message: String,
    /// Whether the same call could succeed later.
    pub retryable: bool,
    /// JSON for machines.
    pub detail: Option<String>,
}

impl fmt::Display for Fault {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}: {}", self.code, self.message)
    }
}

impl std::error::Error for Fault {}

/// A fault with a code and a sentence; not retryable.
#[must_use]
pub fn fault(code: &str, message: impl Into<String>) -> Fault {
    Fault { code: code.to_owned(), message: message.into(), retryable: false, detail: None }
}

/// A refusal that the block cannot work around.
#[must_use]
pub fn refused(refusal: &Refusal) -> Fault {
    fault("refused", refusal.to_string())
}

/// A file that the block cannot do without and could not read.
#[must_use]
pub fn unreadable(path: &str, error: &io::Error) -> Fault {
    fault("unreadable", format!("{path}: {error}"))
}

/// How loud a log line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogLevel {
    /// For the author.
    Debug,
    /// For the curious.
    Info,
    /// For the operator.
    Warn,
    /// Something is broken.
    Error,
}

/// The host's side of a block. Paths are the virtual ones of [`Entry::path`].
pub trait Stage {
    /// Parameters of the pipeline step, JSON text.
    fn params_json(&self) -> String;

    /// Place of the step in the pipeline, from 0.
    fn position(&self) -> u32;

    /// Record of an earlier step by its id or position: verdict and evidence, JSON text.
    fn earlier_json(&self, block: &str) -> Option<String>;

    /// Files whose path starts with `prefix`, in path order: at most `limit` from number `offset` on. An empty page is
    /// the end; a short one is not.
    ///
    /// # Errors
    /// Not granted, or the listing failed.
    fn list_files(&self, prefix: &str, offset: u32, limit: u32) -> Result<Vec<Entry>, Refusal>;

    /// Bytes of a file from `offset` on, at most `length`. No bytes means the end; fewer than asked does not.
    ///
    /// # Errors
    /// Not granted, no such file, or not readable.
    fn read(&self, path: &str, offset: u64, length: u32) -> Result<Vec<u8>, Refusal>;

    /// A fact about the dispatch: `run`, `item`, `attempt`, … `None` for what the host does not know.
    fn attr(&self, key: &str) -> Option<String>;

    /// Starts an artifact. It does not exist before its commit.
    ///
    /// # Errors
    /// Not granted, or the path is not allowed.
    fn artifact(&self, path: &str) -> Result<Box<dyn ArtifactWriter>, Refusal>;

    /// Answers green or red with one line. The last call counts.
    fn verdict(&self, passed: bool, summary: &str);

    /// Machine-readable evidence under a key. A key that comes again is replaced.
    fn evidence(&self, key: &str, json: &str);

    /// A line for the operator.
    fn log(&self, level: LogLevel, message: &str);
}

/// An artifact being written. Dropped without commit it leaves nothing.
pub trait ArtifactWriter {
    /// Appends.
    ///
    /// # Errors
    /// Over a limit, or the disk is full.
    fn write(&mut self, data: &[u8]) -> Result<(), Refusal>;

    /// Makes the artifact visible, whole. Answers its digest.
    ///
    /// # Errors
    /// As [`Self::write`].
    fn commit(self: Box<Self>) -> Result<String, Refusal>;
}
