//! Pure core of Pangolin: ids, the plan, ledger entries, run state and the scheduler.
//!
//! Run state is the fold of a run's ledger entries ([`state`]); the next steps are planned from that state
//! ([`scheduler`]). Deliberately not in this crate: IO, clocks, randomness, async, canonical JSON and hashing
//! of entries (`pangolin-audit`), and anything that starts a worker (`pangolin-orchestrator`). Times come in
//! as integer milliseconds since the Unix epoch. The crate compiles to wasm32.

pub mod artifacts;
pub mod entry;
pub mod glob;
pub mod ids;
pub mod manifest;
pub mod outputs;
pub mod pattern;
pub mod pins;
pub mod plan;
pub mod retry;
pub mod scheduler;
pub mod state;
pub mod validate;
