//! What is deployed.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use crate::queue::Queue;

/// Names that Lambda sets itself and lets nobody set.
const RESERVED: [&str; 18] = [
    "_HANDLER",
    "_X_AMZN_TRACE_ID",
    "AWS_ACCESS_KEY",
    "AWS_ACCESS_KEY_ID",
    "AWS_DEFAULT_REGION",
    "AWS_EXECUTION_ENV",
    "AWS_LAMBDA_FUNCTION_MEMORY_SIZE",
    "AWS_LAMBDA_FUNCTION_NAME",
    "AWS_LAMBDA_FUNCTION_VERSION",
    "AWS_LAMBDA_INITIALIZATION_TYPE",
    "AWS_LAMBDA_LOG_GROUP_NAME",
    "AWS_LAMBDA_LOG_STREAM_NAME",
    "AWS_LAMBDA_RUNTIME_API",
    "AWS_REGION",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "LAMBDA_RUNTIME_DIR",
    "LAMBDA_TASK_ROOT",
];

/// Names and values of the environment, together, in bytes.
const ENV_LIMIT: usize = 4_096;

/// A function.
#[derive(Debug, Clone)]
pub struct Function {
    /// Its name.
    pub name: String,
    /// The program; its directory is the root of the unpacked package. See [`crate::unpack`].
    pub program: PathBuf,
    /// Environment variables.
    pub env: BTreeMap<String, String>,
    /// Time limit of an invocation.
    pub timeout: Duration,
    /// Environments at once.
    pub concurrency: usize,
    /// What the function is told about its memory. Not enforced: compare it with [`crate::Invocation::peak_rss`].
    pub memory_mb: u32,
    /// How often an event is repeated after a failure, from 0 to 2.
    pub retries: u32,
    /// Where events go that failed every time, beside [`crate::LambdaFake::dead_letters`].
    pub on_failure: Option<Queue>,
}

impl Function {
    /// As Lambda has it by default: 3 s, 128 MB, two repetitions. Ten environments at once.
    #[must_use]
    pub fn new(name: &str, program: impl Into<PathBuf>) -> Self {
        Self {
            name: name.to_owned(),
            program: program.into(),
            env: BTreeMap::new(),
            timeout: Duration::from_secs(3),
            concurrency: 10,
            memory_mb: 128,
            retries: 2,
            on_failure: None,
        }
    }

    /// With one more variable.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.env.insert(name.to_owned(), value.to_owned());
        self
    }

    /// Everything that the service would refuse.
    pub(crate) fn findings(&self) -> Vec<String> {
        let mut findings = Vec::new();
        let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
        if self.name.is_empty() || self.name.len() > 64 || !self.name.chars().all(is_name) {
            findings.push(format!("the name {:?} is not 1 to 64 letters, digits, - or _", self.name));
        }
        if !self.program.is_file() {
            findings.push(format!("the program {} is not there", self.program.display()));
        }
        for name in self.env.keys() {
            if RESERVED.contains(&name.as_str()) {
                findings.push(format!("the variable {name} is reserved"));
            }
        }
        let bytes: usize = self.env.iter().map(|(name, value)| name.len() + value.len()).sum();
        if bytes > ENV_LIMIT {
            findings.push(format!("the environment has {bytes} bytes, the limit is {ENV_LIMIT}"));
        }
        if self.timeout.is_zero() || self.timeout > Duration::from_secs(900) {
            findings.push(format!("the time limit is {:?}, it must be up to 900 s", self.timeout));
        }
        if self.concurrency == 0 {
            findings.push("the concurrency is 0: nothing could run".to_owned());
        }
        if self.retries > 2 {
            findings.push(format!("an event is repeated at most twice, not {} times", self.retries));
        }
        findings
    }
}

/// When an environment is killed on purpose, with SIGKILL and everything that it started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kill {
    /// As it gets its event: nothing was done.
    AtInvocation,
    /// So many milliseconds after it got its event, unless it answered before.
    AfterMillis(u64),
    /// As it answers: everything was done and nobody knows.
    AtResponse,
}
