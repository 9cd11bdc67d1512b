//! What can go wrong with a plugin: a closed vocabulary, each with its number and the next step.

use std::fmt;

use pangolin_core::ids::Digest;
use pangolin_envelope::plugin::PluginFailure;
use serde::Deserialize;
use thiserror::Error;

use crate::call::CallRecord;

/// A failure of one plugin.
///
/// People know plugins by their ids, which are not known here: whoever knows one says it and shows `failure` alone.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("plugin {}: {failure}", short(.plugin))]
pub struct PluginError {
    /// The component.
    pub plugin: Digest,
    /// What happened.
    #[source]
    pub failure: Failure,
    /// What the call had used and said until then; `None` when it failed before a call.
    pub call: Option<Box<CallRecord>>,
}

fn short(digest: &Digest) -> String {
    format!("sha256:{}", &digest.hex()[..12])
}

impl PluginError {
    /// A failure outside of a call.
    #[must_use]
    pub const fn new(plugin: Digest, failure: Failure) -> Self {
        Self { plugin, failure, call: None }
    }

    /// The kebab-case name of the failure.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        self.failure.code()
    }
}

/// The closed list. Guest text in it is bounded to 4 KiB. Each message has the number, the limit and the next step.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Failure {
    /// More instructions than allowed.
    #[error(
        "cpu-budget: used {used} units of fuel and wanted more, the budget for {items} items is {budget}; if the \
         input is really that large, raise the budget, else report it to the plugin's author"
    )]
    CpuBudget {
        /// Units of fuel.
        used: u64,
        /// Units of fuel.
        budget: u64,
        /// Items of the run, which the budget depends on.
        items: u64,
    },
    /// Too slow.
    #[error(
        "deadline: still running after {ran_ms} ms, the limit is {limit_ms} ms; look for a loop in the plugin or \
         raise its time limit"
    )]
    Deadline {
        /// Milliseconds until it was stopped.
        ran_ms: u64,
        /// Milliseconds.
        limit_ms: u64,
    },
    /// Wanted more room than allowed.
    #[error(
        "memory-limit: wanted {wanted} {what}, the limit is {limit}; give it less input or raise the limit"
    )]
    MemoryLimit {
        /// What there is too little of.
        what: Room,
        /// How much it asked for.
        wanted: u64,
        /// How much it may have.
        limit: u64,
    },
    /// Recursed too deep.
    #[error("stack: used more than {limit_bytes} bytes of stack; look for unbounded recursion in the plugin")]
    Stack {
        /// Bytes.
        limit_bytes: u64,
    },
    /// Handed over more than allowed.
    #[error("output-limit: {what}: {size}, the cap is {cap}; make the plugin produce less")]
    OutputLimit {
        /// Which output, with its unit.
        what: String,
        /// Bytes or pieces; when the guest was stopped before the end was known, the smallest number it can be.
        size: u64,
        /// Bytes or pieces.
        cap: u64,
    },
    /// Panicked, with the text from the SDK's panic hook.
    #[error("guest-panic: {message}; this is a bug of the plugin, report it to its author")]
    GuestPanic {
        /// The plugin's words.
        message: String,
    },
    /// Trapped for any other reason.
    #[error("guest-abort: {trap}; this is a bug of the plugin, report it to its author")]
    GuestAbort {
        /// The trap.
        trap: String,
    },
    /// Called `exit`.
    #[error(
        "guest-exit: called exit with status {status}; a plugin must return instead, report it to its author"
    )]
    GuestExit {
        /// The status.
        status: i32,
    },
    /// The plugin says it cannot.
    #[error("fault: {code}: {message}{}", fault_next(*.retryable))]
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
        /// The rule, and what to change.
        reason: String,
    },
    /// Not made for a contract this host serves.
    #[error("contract-mismatch: {problem}; rebuild it against the wit/ folder of this release")]
    ContractMismatch {
        /// What is missing or different.
        problem: String,
    },
    /// Nobody has approved what it asks for.
    #[error(
        "not-approved: {plugin} asks for more than was approved: {difference}; look at it and run `{command}`"
    )]
    NotApproved {
        /// Its id.
        plugin: String,
        /// Approved and present fingerprint, and what is wider.
        difference: String,
        /// The one command that approves.
        command: String,
    },
    /// Bytes are not what they should be.
    #[error("integrity: {problem}; nothing of it was used")]
    Integrity {
        /// Which bytes, how they differ and what to do.
        problem: String,
    },
    /// There is no native code for it on this engine.
    #[error("not-compiled: {problem} (engine {engine}); {next}")]
    NotCompiled {
        /// Why, with the number and the limit where there is one.
        problem: String,
        /// Engine and profile it was to run on.
        engine: String,
        /// What to do.
        next: String,
    },
    /// The same input gave other decisions.
    #[error(
        "nondeterminism: {first_difference}; its decisions depend on something that is not recorded: stay on the \
         recorded decisions and report it to the plugin's author"
    )]
    Nondeterminism {
        /// The first decision that differs, both versions.
        first_difference: String,
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
        /// What is exhausted, with its number.
        problem: String,
    },
}

const fn fault_next(retryable: bool) -> &'static str {
    if retryable {
        "; the plugin says that another try may help"
    } else {
        "; the plugin gave up on this input, its documentation knows the code"
    }
}

/// One thing that a plugin finds wrong with what it was given.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Problem {
    /// JSON pointer (RFC 6901): below `/params`, or below `/input` about the input of an item. Empty when it is about neither.
    pub pointer: String,
    /// What, with the next step.
    pub problem: String,
}

impl Problem {
    /// It is about the parameters, and so does not depend on the item.
    #[must_use]
    pub fn is_of_params(&self) -> bool {
        self.is_below("/params")
    }

    /// It is about the input of the item.
    #[must_use]
    pub fn is_of_input(&self) -> bool {
        self.is_below("/input")
    }

    fn is_below(&self, root: &str) -> bool {
        self.pointer.strip_prefix(root).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.pointer.as_str() {
            "" => f.write_str(&self.problem),
            pointer => write!(f, "{pointer}: {}", self.problem),
        }
    }
}

/// The code of a fault about parameters.
const BAD_PARAMS: &str = "bad-params";

/// What a guest may run out of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Room {
    /// Linear memory, all memories together.
    MemoryBytes,
    /// Entries of one table.
    TableEntries,
    /// Linear memories.
    Memories,
    /// Tables.
    Tables,
    /// Core instances.
    Instances,
}

impl fmt::Display for Room {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::MemoryBytes => "bytes of memory",
            Self::TableEntries => "entries in a table",
            Self::Memories => "memories",
            Self::Tables => "tables",
            Self::Instances => "core instances",
        })
    }
}

/// Every code there is, in the order of the documentation.
pub const FAILURE_CODES: [&str; 17] = [
    "cpu-budget",
    "deadline",
    "memory-limit",
    "stack",
    "output-limit",
    "guest-panic",
    "guest-abort",
    "guest-exit",
    "fault",
    "refused",
    "contract-mismatch",
    "not-approved",
    "integrity",
    "not-compiled",
    "nondeterminism",
    "host-busy",
    "host-error",
];

impl Failure {
    /// The kebab-case name, one of [`FAILURE_CODES`].
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
            Self::NotApproved { .. } => "not-approved",
            Self::Integrity { .. } => "integrity",
            Self::NotCompiled { .. } => "not-compiled",
            Self::Nondeterminism { .. } => "nondeterminism",
            Self::HostError { .. } => "host-error",
            Self::HostBusy { .. } => "host-busy",
        }
    }

    /// What a worker's result says about it.
    #[must_use]
    pub fn record(&self) -> PluginFailure {
        let (code, message) = (self.code().to_owned(), self.to_string());
        PluginFailure { code, message, retryable: self.is_retryable() }
    }

    /// What the plugin says is wrong, piece by piece: the detail of its fault when that is a JSON list of objects with
    /// `pointer` and `problem`, else its message. With the code `bad-params` that message is about `/params`. Nothing for
    /// what is not the plugin's word.
    #[must_use]
    pub fn problems(&self) -> Vec<Problem> {
        let Self::Fault { code, message, detail, .. } = self else { return Vec::new() };
        let listed = detail.as_deref().and_then(|detail| serde_json::from_str::<Vec<Problem>>(detail).ok());
        if let Some(listed) = listed.filter(|listed| !listed.is_empty()) {
            return listed;
        }
        if code == BAD_PARAMS {
            // Many say the pointer in the words.
            let pointed = message.split_once(": ").filter(|(pointer, _)| pointer.starts_with("/params"));
            let (pointer, problem) = pointed.unwrap_or(("/params", message));
            return vec![Problem { pointer: pointer.to_owned(), problem: problem.to_owned() }];
        }
        vec![Problem { pointer: String::new(), problem: format!("{code}: {message}") }]
    }

    /// The same input ends in the same failure on every machine at every time. What is left is a matter of load, of time or
    /// of this host.
    #[must_use]
    pub const fn is_certain(&self) -> bool {
        !self.is_retryable()
            && !matches!(self, Self::Deadline { .. } | Self::HostError { .. } | Self::NotCompiled { .. })
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
