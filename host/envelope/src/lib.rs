//! The contract between the host and the worker.
//!
//! The host stages one directory per dispatch (read-only for the worker), a workspace (read-write) and an empty
//! result directory. The worker reads [`envelope::Envelope`] from `envelope.json`, does the steps of the brief and
//! leaves [`result::SignedResult`] in `result.json`, authenticated with a key that the agent cannot read. Events
//! go to the worker's stdout as JSON lines ([`events`]).
//!
//! Deliberately not here: how a worker is started (`pangolin-ports`), how plugins run (`pangolin-plugin-host`), what
//! they may do and who says so (`pangolin-plugin-authority`), blobs.

pub mod capability;
pub mod envelope;
pub mod events;
pub mod pipeline;
pub mod plugin;
pub mod result;
pub mod start;
