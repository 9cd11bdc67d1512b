//! [`WorkerBackend`](pangolin_ports::worker_backend::WorkerBackend) that runs each worker as an ECS task on Fargate.
//!
//! One dispatch is one task. It is started with one variable, the signed URL of its start document
//! (`pangolin_envelope::start`), and its role needs no right at all. Everything about a dispatch is in S3:
//!
//! ```text
//! <prefix>starts/<dispatch>.json                 start document: secrets and signed URLs, deleted when the worker began
//! <prefix>dispatches/<dispatch>/memo.json        what was asked for, written before anything is started
//! <prefix>dispatches/<dispatch>/task.json        ARN of the task
//! <prefix>dispatches/<dispatch>/starter.json     which call started it, when another one wrote task.json
//! <prefix>dispatches/<dispatch>/claim.json       by the worker: it began
//! <prefix>dispatches/<dispatch>/stop.json        why it is being stopped
//! <prefix>dispatches/<dispatch>/result.tar       by the worker: its result directory
//! <prefix>dispatches/<dispatch>/completion.json  by the worker: how it ended. The truth
//! <prefix>dispatches/<dispatch>/verdict.json     how it ended when there is no completion
//! ```
//! All but the start document are create-only. ECS itself is a hint: reads may be behind, and stopped tasks are forgotten
//! after an hour. The workspace and the files of the envelope (but not the secrets) are blobs, named by digest, so what many
//! dispatches share is uploaded once.
//!
//! Exactly once rests on three things: `clientToken` and `startedBy` are derived from the dispatch; an existing task is looked
//! for before one is started; and a worker claims its dispatch with a create-only object before it does anything, so that
//! of two tasks, were there ever two, one ends without having done anything.
//!
//! Offered is the level `container` with network `host`. Fargate cannot take the network from an agent while its worker
//! uploads results, so network `none` is refused.
//!
//! Deliberately not here: events (they are doorbells; who hears one calls `poll`), clusters and roles (`pangolin deploy`),
//! logs (the task's log driver), limits on the number of processes, which Fargate does not enforce.

mod archive;
mod backend;
mod config;
mod definition;
mod error;
mod glance;
mod keys;
mod objects;
mod records;
mod size;
mod stage;
mod tasks;

pub use backend::FargateBackend;
pub use config::{Architecture, ConfigError, FargateConfig, Launch};
pub use definition::is_by_digest;
pub use size::TaskSize;
