//! What can go wrong with a plugin: a closed vocabulary, each with its number and the next step.

use pangolin_core::ids::Digest;
use thiserror::Error;

/// A failure of one plugin.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("plugin {}: {failure}", short(.plugin))]
pub struct PluginError {
    /// The component.
    pub plugin: Digest,
    /// What happened.
    #[source]
    pub failure: Failure,
}

fn short(digest: &Digest) -> String {
    format!("sha256:{}", &digest.hex()[..12])
}

impl PluginError {
    /// The kebab-case name of the failure.
    #[must_use]
    pub fn code(&self) -> &'static str {
        self.failure.code()
    }
}

/// The closed list. Guest text in it is bounded to 4 KiB.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Failure {
    /// More instructions than allowed.
    #[error(
        "cpu-budget: used more than its {budget} units of fuel; if the input is really that large, raise the budget, \
         else report it to the plugin's author"
    )]
    CpuBudget {
        /// Units of fuel.
        budget: u64,
    },
    /// Too slow.
    #[error(
        "deadline: still running after {limit_ms} ms; look for a loop in the plugin or raise its time limit"
    )]
    Deadline {
        /// Milliseconds.
        limit_ms: u64,
    },
    /// Wanted more memory than allowed.
    #[error(
        "memory-limit: wanted {wanted_bytes} bytes, the limit is {limit_bytes}; give it less input or raise the limit"
    )]
    MemoryLimit {
        /// Bytes it asked for, all memories together.
        wanted_bytes: u64,
        /// Bytes it may have.
        limit_bytes: u64,
    },
    /// Recursed too deep.
    #[error("stack: used more than {limit_bytes} bytes of stack; look for unbounded recursion in the plugin")]
    Stack {
        /// Bytes.
        limit_bytes: u64,
    },
    /// Handed over more than allowed.
    #[error("output-limit: {what} has {size}, the cap is {cap}; make the plugin produce less")]
    OutputLimit {
        /// Which output.
        what: String,
        /// Bytes or pieces.
        size: u64,
        /// Bytes or pieces.
        cap: u64,
    },
    /// Panicked, with the text from the SDK's panic hook.
    #[error("guest-panic: {message}; this is a bug of the plugin")]
    GuestPanic {
        /// The plugin's words.
        message: String,
    },
    /// Trapped for any other reason.
    #[error("guest-abort: {trap}; this is a bug of the plugin")]
    GuestAbort {
        /// The trap.
        trap: String,
    },
    /// Called `exit`.
    #[error("guest-exit: called exit with status {status}; a plugin must return instead")]
    GuestExit {
        /// The status.
        status: i32,
    },
    /// The plugin says it cannot.
    #[error("fault: {code}: {message}")]
    Fault {
        /// The plugin's own code.
        code: String,
        /// The plugin's words.
        message: String,
        /// Whether the plugin believes that another try helps.
        retryable: bool,
        /// More of its words.
        detail: Option<String>,
    },
    /// The host does not allow it.
    #[error("refused: {capability} {subject:?}: {reason}")]
    Refused {
        /// What kind of thing, e.g. `import`, `program`.
        capability: String,
        /// Which one.
        subject: String,
        /// The rule.
        reason: String,
    },
    /// Not made for a contract this host serves.
    #[error("contract-mismatch: {problem}; rebuild it against the wit/ folder of this release")]
    ContractMismatch {
        /// What is missing or different.
        problem: String,
    },
    /// Bytes are not what they should be.
    #[error("integrity: {problem}")]
    Integrity {
        /// Which bytes, and how they differ.
        problem: String,
    },
    /// The component could not be compiled.
    #[error("not-compiled: {problem}; check the file with `wasm-tools validate`")]
    NotCompiled {
        /// Why.
        problem: String,
    },
    /// Something of ours failed.
    #[error("host-error: {problem}; this is not the plugin's fault, please report it")]
    HostError {
        /// What.
        problem: String,
    },
    /// No room now.
    #[error("host-busy: {problem}; try again")]
    HostBusy {
        /// What is exhausted.
        problem: String,
    },
}

impl Failure {
    /// The kebab-case name.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::CpuBudget { .. } => "cpu-budget",
            Self::Deadline { .. } => "deadline",
            Self::MemoryLimit { .. } => "memory-limit",
            Self::Stack { .. } => "stack",
            Self::OutputLimit { .. } => "output-limit",
            Self::GuestPanic { .. } => "guest-panic",
            Self::GuestAbort { .. } => "guest-abort",
            Self::GuestExit { .. } => "guest-exit",
            Self::Fault { .. } => "fault",
            Self::Refused { .. } => "refused",
            Self::ContractMismatch { .. } => "contract-mismatch",
            Self::Integrity { .. } => "integrity",
            Self::NotCompiled { .. } => "not-compiled",
            Self::HostError { .. } => "host-error",
            Self::HostBusy { .. } => "host-busy",
        }
    }

    /// Whether the same call may work later. Everything else is deterministic.
    #[must_use]
    pub const fn is_retryable(&self) -> bool {
        matches!(self, Self::HostBusy { .. } | Self::Fault { retryable: true, .. })
    }
}

/// Raised by our host functions to end the guest with a known reason.
#[derive(Debug, Error)]
#[error("{0}")]
pub(crate) struct Stop(pub(crate) Failure);

/// Longest piece of guest text that reaches a message.
pub(crate) const GUEST_TEXT_BYTES: usize = 4 << 10;

/// Cuts guest text at a character boundary.
pub(crate) fn clip(mut text: String, bytes: usize) -> String {
    if text.len() > bytes {
        let end = text.floor_char_boundary(bytes);
        text.truncate(end);
        text.push('…');
    }
    text
}
