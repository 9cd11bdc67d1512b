//! What the scripted worker can be told to do. It reads `script.json` (an array of steps) from its envelope
//! directory, after appending `start <pid>` to `starts` in the result directory.

use serde::Serialize;

/// One step of the script, in order. The worker blocks SIGTERM throughout, so only [`Step::AwaitTerm`] heeds it.
#[derive(Debug, Clone, Serialize)]
#[serde(tag = "do", rename_all = "kebab-case")]
pub enum Step {
    /// End with this code.
    Exit {
        /// Exit code.
        code: i32,
    },
    /// Wait for SIGTERM, append `term` to `starts`, go on.
    AwaitTerm,
    /// Sleep forever, deaf to SIGTERM.
    Hang,
    /// Start a process that appends a byte to `beat-<escape>` in the workspace every few milliseconds, forever;
    /// go on when the first byte is there.
    Spawn {
        /// How it gets away from the worker.
        escape: Escape,
    },
    /// Print a line so many times.
    Print {
        /// `stdout` or `stderr`.
        stream: &'static str,
        /// The line, without its end.
        line: String,
        /// How often.
        times: u64,
    },
    /// Go on when this file is in the workspace.
    AwaitFile {
        /// File name.
        name: &'static str,
    },
    /// Write `inspect.json` to the result directory: environment names, which of `paths` exist, whether the
    /// envelope directory and `/` are writable, the user id, network interfaces.
    Inspect {
        /// Paths to look for.
        paths: Vec<String>,
    },
}

/// How a descendant tries to outlive its worker.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Escape {
    /// It does not: an ordinary child.
    Plain,
    /// Own session.
    Setsid,
    /// Own session, and its parent is gone.
    Orphan,
    /// Two generations of that.
    OrphanOfOrphan,
}

/// All of them.
pub const ESCAPES: [Escape; 4] = [Escape::Plain, Escape::Setsid, Escape::Orphan, Escape::OrphanOfOrphan];

impl Escape {
    /// The name in the script and of the heartbeat file.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Setsid => "setsid",
            Self::Orphan => "orphan",
            Self::OrphanOfOrphan => "orphan-of-orphan",
        }
    }
}
