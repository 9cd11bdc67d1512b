//! A stand-in for the Lambda *service* in tests. It runs real function binaries, one process per execution environment, behind
//! a real runtime API (version 2018-06-01) on loopback, and calls them as AWS would: directly, as events with repetitions,
//! from a queue, for created objects, for events of a rule, by the clock.
//!
//! As on AWS: an environment serves one invocation at a time, is kept for later ones, and is frozen (SIGSTOP) in between; up
//! to a limit there are several; at the time limit it ends with SIGKILL, and so does everything that it started. Payloads
//! must be JSON of at most 6 MB (1 MB as an event), answers have at most 6 MB, reserved variables cannot be set. A runtime
//! that breaks the protocol is refused and written down ([`LambdaFake::violations`]).
//!
//! Measured per invocation: time, processor time, peak memory; per environment: from the start to the first poll.
//!
//! Not as on AWS: pauses before repetitions are left out; a function is an ordinary process of this user, with the whole file
//! system (`TMPDIR` is its own), no memory limit, and as much processor as there is. Throttled events wait for a free
//! environment and not longer and longer. Not here: versions, aliases, streaming answers, extensions, layers, SnapStart.
//! From the developer guide; rows of `docs/aws-claims.md` say what only this program shows.

mod api;
mod background;
mod environment;
mod function;
mod invocation;
mod measure;
mod notifications;
mod package;
mod process;
mod queue;
mod rule;
mod service;

pub use background::Background;
pub use function::{Function, Kill};
pub use invocation::{Delivery, Init, Invocation, LambdaError, Outcome};
pub use notifications::{Created, Disorder, Notifications, Rule};
pub use package::unpack;
pub use queue::{AfterFailure, Batch, Queue, QueueSource, SourceError};
pub use rule::{is_stopped_task, rule_target};
pub use service::LambdaFake;
