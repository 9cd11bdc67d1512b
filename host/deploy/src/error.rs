//! What can go wrong.

use pangolin_aws::CallError;
use thiserror::Error;

/// Why a deployment could not be planned, applied, looked at or removed.
#[derive(Debug, Error)]
pub enum DeployError {
    /// The settings are wrong; all findings.
    #[error("settings of the stack: {}", .0.join("; "))]
    Settings(Vec<String>),
    /// Code of functions that is not there; all of it.
    #[error("code of the functions for {architecture}: {}", problems.join("; "))]
    Packages {
        /// Processor that was asked for.
        architecture: &'static str,
        /// Each with its file.
        problems: Vec<String>,
    },
    /// A call failed.
    #[error("{doing}: {source}")]
    Call {
        /// What was being done, with the name of the resource.
        doing: String,
        /// What the service said.
        #[source]
        source: CallError,
    },
    /// The stack is changing or is in a state that CloudFormation does not leave by itself.
    #[error("stack {stack} is {status}; {next}")]
    State {
        /// The stack.
        stack: String,
        /// Its status.
        status: String,
        /// What to do.
        next: String,
    },
    /// No such stack.
    #[error(
        "there is no stack {0}; make it with `pangolin deploy apply --stack {0}`, or check region and account"
    )]
    NoStack(String),
    /// CloudFormation could not do it; every resource that failed, with the reason.
    #[error("stack {stack} ended as {status}:\n  {}\nFix what is named and apply again", .failed.join("\n  "))]
    Failed {
        /// The stack.
        stack: String,
        /// Its status.
        status: String,
        /// `resource: reason`.
        failed: Vec<String>,
    },
    /// The plan would replace or remove something that holds data.
    #[error("not carried out, because data would be left behind: {}; deploy under another stack name, or take the change back", .0.join("; "))]
    DataAtRisk(Vec<String>),
    /// What was to be done must not be done.
    #[error("refused: {0}")]
    Refused(String),
    /// An answer that cannot be right.
    #[error("{0}")]
    Unexpected(String),
    /// The deployment document.
    #[error(transparent)]
    Document(#[from] pangolin_stack::DocumentError),
    /// It takes too long.
    #[error(
        "stack {stack} is still {status} after {seconds} s; it goes on: look with `pangolin deploy status`"
    )]
    Slow {
        /// The stack.
        stack: String,
        /// Its status.
        status: String,
        /// How long was waited.
        seconds: u64,
    },
}

impl DeployError {
    pub(crate) fn call(doing: impl Into<String>) -> impl FnOnce(CallError) -> Self {
        let doing = doing.into();
        move |source| Self::Call { doing, source }
    }
}
