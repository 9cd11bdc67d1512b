//! Exit codes, the contract with scripts. `docs/exit-codes.md` says the same.

use std::process::ExitCode;

/// What the process tells its caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Exit {
    /// The verb did what it says. Also when the reader of stdout went away.
    #[default]
    Ok,
    /// It did not work, the plan is invalid, the bundle is not intact.
    Failed,
    /// Wrong arguments or configuration (clap uses the same number).
    Usage,
    /// The bundle may be fine, but this program or this machine cannot tell.
    Unverifiable,
    /// The run has not ended, or the bundle lacks an object.
    Incomplete,
    /// No such run, item, attempt, registration, dispatch or stack.
    NotFound,
    /// The record is intact, but a pattern does not decide what was recorded.
    Differs,
    /// A daemon serves and has not answered in time: what was asked for waits in its inbox. Or a stack still changes.
    Unanswered,
    /// Ctrl-C.
    Interrupted,
    /// SIGTERM, where a verb catches it to put the terminal back.
    Terminated,
}

impl Exit {
    /// The number.
    pub(crate) const fn code(self) -> u8 {
        match self {
            Self::Ok => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::Unverifiable => 3,
            Self::Incomplete => 4,
            Self::NotFound => 5,
            Self::Differs => 6,
            Self::Unanswered => 7,
            Self::Interrupted => 130,
            Self::Terminated => 143,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}
