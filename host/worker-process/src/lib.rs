//! [`WorkerBackend`](pangolin_ports::worker_backend::WorkerBackend) that runs each worker as a process of this
//! host, under a small supervisor that outlives the daemon.
//!
//! ```text
//! daemon ── ProcessBackend ──spawns──▶ supervisor ──spawns──▶ pangolin-worker ──▶ commands …
//!               │   ▲                    │  own session, subreaper, timeout, output, whole-tree kill
//!               ▼   │ pidfd              ▼
//!           <state>/<dispatch>/  intent.json claim.json worker.json cancel.json exit.json
//! ```
//!
//! Exactly once rests on one file: a supervisor creates `claim.json` durably before it starts the worker, and only
//! one supervisor per dispatch can. A crash before the claim started nothing, so `ensure` may try again; a crash
//! after it is at worst a [`Lost`](pangolin_ports::worker_backend::WorkerExit::Lost) worker, never a second one.
//! Processes are identified by pid, start time and boot id, and signalled through pidfds, so a recycled pid is
//! neither adopted nor killed.
//!
//! Deliberately not here: the sandbox. The worker confines each command itself as its envelope says; this crate
//! only asks it beforehand whether it can (`pangolin-worker probe`). Memory, processor and process limits of
//! [`Limits`](pangolin_ports::worker_backend::Limits) are likewise applied by the worker to its commands; this
//! backend enforces time and output.

mod backend;
mod identity;
mod probe;
mod record;
mod sink;
mod supervise;
mod tree;

pub use backend::{ProcessBackend, SupervisorCommand};
pub use supervise::{SUPERVISE_COMMAND, supervise_main};
