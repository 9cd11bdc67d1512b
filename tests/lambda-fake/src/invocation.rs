//! What became of an invocation.

use std::time::Duration;

use bytes::Bytes;
use thiserror::Error;

/// Why there was no invocation.
#[derive(Debug, Error)]
pub enum LambdaError {
    /// `ResourceNotFoundException`.
    #[error("there is no function {0:?}")]
    NotFound(String),
    /// `InvalidParameterValueException`: everything that is wrong with a function.
    #[error("function {name:?}: {}", .findings.join("; "))]
    Function {
        /// Its name.
        name: String,
        /// What is wrong.
        findings: Vec<String>,
    },
    /// `InvalidRequestContentException`.
    #[error("the payload is not JSON: {0}")]
    NotJson(String),
    /// `RequestEntityTooLargeException`.
    #[error("the payload has {bytes} bytes, the limit is {limit}")]
    TooLarge {
        /// Its size.
        bytes: usize,
        /// What is allowed.
        limit: usize,
    },
    /// `TooManyRequestsException`: all environments are busy.
    #[error("all {concurrency} environments of {name:?} are busy")]
    Throttled {
        /// The function.
        name: String,
        /// How many it may have.
        concurrency: usize,
    },
    /// This program's own trouble, not the function's.
    #[error("cannot run {name:?}: {source}")]
    Io {
        /// The function.
        name: String,
        /// What went wrong.
        source: std::io::Error,
    },
}

/// How an invocation ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The function answered with this.
    Answered(Bytes),
    /// The function reported an error, or the service could not take its answer.
    Failed {
        /// Kind of error, as reported.
        error_type: String,
        /// In words, as reported.
        message: String,
    },
    /// Killed at the time limit.
    TimedOut,
    /// Its process ended by itself; the text says how.
    Exited(String),
    /// Killed because [`crate::LambdaFake::kill_next`] said so.
    Killed,
    /// The environment did not come up; the text says why.
    NotStarted(String),
}

/// The start of an environment, from the start of its process to its first poll.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Init {
    /// How long it took.
    pub duration: Duration,
    /// Processor time until then.
    pub cpu: Duration,
    /// Largest resident memory until then, in bytes.
    pub peak_rss: u64,
}

/// One invocation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invocation {
    /// Its request id; repetitions of an event have the same.
    pub request_id: String,
    /// How it ended.
    pub outcome: Outcome,
    /// From the event to the answer, or to the end of the process. Without the start of the environment.
    pub duration: Duration,
    /// User and system time of the process and of the processes that it waited for (those in steps of 10 ms). Zero when
    /// the process ended by itself.
    pub cpu: Duration,
    /// Largest resident memory of the process during this invocation, in bytes, without its children. Zero when the process
    /// ended by itself.
    pub peak_rss: u64,
    /// The start of its environment, when it was a new one.
    pub init: Option<Init>,
    /// Which environment it was; counted from 1 over all functions.
    pub environment: u64,
}

impl Invocation {
    /// Whether the function answered.
    #[must_use]
    pub const fn is_success(&self) -> bool {
        matches!(self.outcome, Outcome::Answered(_))
    }

    /// The answer as text; empty when there is none.
    #[must_use]
    pub fn answer(&self) -> &str {
        match &self.outcome {
            Outcome::Answered(bytes) => std::str::from_utf8(bytes).unwrap_or_default(),
            _ => "",
        }
    }
}

/// What became of an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    /// Every try, in order. The last one decides.
    pub attempts: Vec<Invocation>,
}

impl Delivery {
    /// Whether the event was handled. Otherwise it is a dead letter.
    #[must_use]
    pub fn is_success(&self) -> bool {
        self.attempts.last().is_some_and(Invocation::is_success)
    }
}
