//! The contract between the host and the worker.
//!
//! The host stages one directory per dispatch (read-only for the worker), a workspace (read-write) and an empty
//! result directory. The worker reads [`envelope::Envelope`] from `envelope.json`, does the steps of the brief and
//! leaves [`result::SignedResult`] in `result.json`, authenticated with a key that the agent cannot read. Events
//! go to the worker's stdout as JSON lines ([`events`]).
//!
//! Deliberately not here: how a worker is started (`pangolin-ports`), plugins (the host asks the adapter component
//! for a launch plan before it stages the envelope, so no guest code runs inside the isolation), blobs.

pub mod capability;
pub mod envelope;
pub mod events;
pub mod pipeline;
pub mod result;
