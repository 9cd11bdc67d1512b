//! What is being done, for whoever watches.

use std::fmt;

/// One piece of news.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Progress {
    /// A step begins.
    Step(String),
    /// A resource of the stack changed its status.
    Resource {
        /// Logical id.
        id: String,
        /// CloudFormation's status, as `CREATE_COMPLETE`.
        status: String,
        /// Why, when CloudFormation says it.
        reason: Option<String>,
    },
}

impl fmt::Display for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Step(text) => f.write_str(text),
            Self::Resource { id, status, reason: None } => write!(f, "  {id}: {status}"),
            Self::Resource { id, status, reason: Some(reason) } => write!(f, "  {id}: {status}: {reason}"),
        }
    }
}

/// Whoever watches.
pub type Watch<'a> = &'a (dyn Fn(Progress) + Send + Sync);
