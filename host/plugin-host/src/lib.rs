//! Loads and runs WebAssembly component plugins under limits.
//!
//! A plugin is one component made for a world in `wit/`. [`PluginHost`] compiles it once (ahead of time, into an
//! authenticated [`Cache`]), refuses it when it imports more than its world and the 14 inert WASI interfaces that
//! ordinary guests cannot avoid, and then runs every call in a fresh store with bounds on time, memory, output and
//! handles. What can go wrong is a closed list: [`Failure`].
//!
//! The calls are `async`: a guest that computes gives the thread back every 10 ms. They need a tokio runtime with
//! time enabled. Loading is blocking (up to seconds when it must compile).
//!
//! Deliberately not here: which plugins exist (`pangolin-builtin-plugins`), starting agents (a plan made here is
//! carried out by the worker), policy about retries, and a compiler sandbox: only compile components you would
//! also run.

mod adapter;
mod bindings;
mod cache;
mod call;
mod engine;
mod failure;
mod graph;
mod limits;
mod pattern;
mod report;
mod session;
mod state;
mod ticker;
mod wasi;

pub use adapter::{AdapterComponent, AdapterTask, ExitInfo, attr};
pub use cache::{Cache, CacheKey, LoadedFrom};
pub use call::Bill;
pub use engine::{COMPONENT_BYTES_MAX, PluginHost, Profile, engine_config};
pub use failure::{Failure, PluginError};
pub use limits::Limits;
pub use pattern::{PATTERN_CONTRACT, PatternComponent, StepOutcome};
pub use report::{AdapterReport, Channel, Denial, Outcome, OutcomeCode, ReportEvent};
