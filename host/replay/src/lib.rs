//! Executes the recorded decisions of a run again and names the first difference.

mod ask;
mod compare;
mod report;

pub use ask::{Answer, Ask, Failed};
pub use compare::{Differs, first_difference};
pub use report::{
    Component, Difference, NotExecuted, REPLAY_REPORT_VERSION, ReplayReport, ReplayVerdict, render_replay,
};
