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
//! Compiling hostile bytes can take minutes and gigabytes, so it happens in a child process with limits: a program that
//! loads plugins calls [`compile_main`] when its first argument is [`COMPILE_COMMAND`].
//!
//! Deliberately not here: which plugins exist (`pangolin-builtin-plugins`), what they may do
//! (`pangolin-plugin-authority`), starting agents (a plan made here is carried out by the worker), and policy about
//! retries.

mod adapter;
mod bindings;
mod block;
mod block_exec;
mod block_fetch;
mod block_memory;
mod block_rules;
mod block_stage;
mod block_state;
mod block_world;
mod bulk;
mod cache;
mod call;
mod code_memory;
mod columns;
mod compile;
#[cfg(feature = "compile")]
mod compile_child;
mod crossing;
mod engine;
mod failure;
mod graph;
mod limits;
mod offered;
mod pattern;
mod policy;
mod processor;
mod report;
mod session;
mod state;
#[cfg(feature = "compile")]
mod strip;
mod ticker;
mod wasi;

pub use adapter::{AdapterComponent, AdapterTask, ExitInfo, attr};
pub use block::{BLOCK_CONTRACT, BlockCall, BlockCode, BlockComponent};
pub use block_memory::MemoryWorld;
pub use block_world::{
    ArtifactId, BlockWorld, ExecOutcome, ExecRequest, FetchRequest, FetchResponse, FileEntry, WorldError,
};
pub use cache::{Cache, CacheKey, LoadedFrom, Swept};
pub use call::{Bill, CallRecord};
pub use compile::{COMPILE_COMMAND, CompileCommand, CompileLimits, Compiler};
#[cfg(feature = "compile")]
pub use compile_child::compile_main;
pub use engine::{
    Allocation, COMPONENT_BYTES_CEILING, COMPONENT_BYTES_MAX, HostOptions, PluginHost, Profile,
    engine_config, engine_id, engine_name,
};
pub use failure::{FAILURE_CODES, Failure, PluginError, Problem, Room};
pub use limits::{Limits, Probe};
pub use pattern::{PATTERN_CONTRACT, PatternComponent, StepOutcome};
pub use policy::{BadOnFailure, OnFailure};
pub use processor::Processor;
pub use report::{AdapterReport, Channel, Denial, Outcome, OutcomeCode, ReportEvent};
pub use state::{LogLevel, LogLine};
