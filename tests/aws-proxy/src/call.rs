//! What was called.

use std::fmt;

/// What a call is, as far as its name goes. Two calls of one kind differ in names and content only.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Kind {
    /// Name of the front that the call came through, or `worker` for pre-signed requests.
    pub caller: String,
    /// `dynamodb`, `ecs`, `s3`, `secretsmanager`, `sqs`, or what stands before the dot of an unknown target.
    pub service: String,
    /// Name of the operation in the API: `PutObject`, `TransactWriteItems`, …
    pub operation: String,
    /// What it is about. S3: where the key lies, without names. DynamoDB: the partition, with the first part of the key for
    /// cells and streams; of a transaction its streams, or its cells without one. Empty elsewhere.
    pub class: String,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { caller, service, operation, class } = self;
        write!(f, "{caller} {service} {operation}")?;
        if class.is_empty() { Ok(()) } else { write!(f, " {class}") }
    }
}

/// One HTTP request, as a rule sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// Its kind.
    pub kind: Kind,
    /// How many requests of its kind came, this one included.
    pub nth: u64,
    /// What the SDK calls an invocation: its tries have the same id. Without one: the number of the request.
    pub logical: String,
    /// Which try it is, from 1.
    pub attempt: u32,
    /// Path of the URL, without its query: the object, for S3.
    pub path: String,
    /// Whether it is a conditional write of S3: nothing may be there.
    pub creates: bool,
    /// Actions of a transaction; 0 elsewhere.
    pub actions: usize,
}

/// What became of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It went through and was answered with this status.
    Answered(u16),
    /// It was not forwarded.
    FailedBefore,
    /// It took effect and the answer was not this one's.
    FailedAfter,
    /// The emulator did not answer.
    Unreachable,
}

/// Sums over the requests of one kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Count {
    /// Requests, also those that were made to fail.
    pub calls: u64,
    /// Those that reached the service.
    pub forwarded: u64,
    /// Those that a rule made to fail before they had an effect.
    pub failed_before: u64,
    /// Those that a rule made to fail afterwards.
    pub failed_after: u64,
    /// Bytes of the bodies of requests, as far as they reached the service.
    pub sent: u64,
    /// Bytes of the bodies of the service's answers.
    pub received: u64,
}
