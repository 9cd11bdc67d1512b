//! Executes the recorded decisions of a run again and names the first difference.
//!
//! Every answer of a pattern is sealed with the digest of what it saw, of the component that was asked and of what it
//! decided. [`replay`] takes a bundle and nothing else, rebuilds each view from the entries, asks the component that
//! travels in the bundle again and compares. [`replay_steps`] does the same with another component: may it take over in
//! the middle of a run?
//!
//! A different use of fuel or another version of the engine is a note, never a difference. A recorded failure must
//! happen again with the same code, except those that only say something about a machine or a deployment's limits.
//!
//! Deliberately not here: signatures, chain and everything else that can be checked without executing
//! (`pangolin-audit`), the sandbox and its limits (`pangolin-plugin-host`).

mod ask;
mod bundle;
mod compare;
mod judge;
mod report;
mod steps;

pub use ask::{Answer, Ask, Failed};
pub use bundle::{Given, Progress, replay};
pub use compare::{Differs, first_difference};
pub use report::{
    Component, Difference, NotExecuted, REPLAY_REPORT_VERSION, ReplayReport, ReplayVerdict, render_replay,
};
pub use steps::{Comparison, ReplayError, replay_steps};
