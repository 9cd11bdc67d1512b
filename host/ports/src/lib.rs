//! Ports to the outside world. Each trait's doc comments are its specification: durability, atomicity,
//! idempotence, concurrency. In-memory adapters live here and pass the same public conformance suites
//! (feature `conformance`) as every other adapter.
//!
//! Deliberately not here: anything that knows a technology.

pub mod anchor;
#[cfg(feature = "conformance")]
pub mod backend_conformance;
pub mod batch_rules;
pub mod blob_store;
pub mod clock;
pub mod commit_limits;
pub mod commit_meter;
#[cfg(feature = "conformance")]
pub mod conformance;
pub mod inbox;
pub mod memory;
pub mod message_name;
pub mod run_store;
pub mod worker_backend;
pub mod worker_output;
