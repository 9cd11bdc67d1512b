//! The pipeline: items run one after the other, gates judge the work of an earlier item, and a red gate gets a fix, a
//! second look at it, and what was skipped behind it again.
//!
//! The red gate and what it held back stay in the run as history; nothing is edited. See `docs/plugins/patterns.md`.

mod gate;
mod planner;
mod round;
mod run_state;

use pangolin_pattern_sdk::{Decisions, Fault, Pattern, Run};

/// The pattern.
pub struct Pipeline;

impl Pattern for Pipeline {
    fn plan(run: &Run<'_>, out: &Decisions<'_>) -> Result<(), Fault> {
        planner::plan(run, out)
    }

    fn step(run: &Run<'_>, out: &Decisions<'_>) -> Result<(), Fault> {
        // Only the end of a gate has consequences. Everything else costs one look at what changed.
        let is_gate = |index| run.item(index).is_some_and(|item| item.has_input(gate::KEY));
        if run.ended().any(|brief| is_gate(brief.index)) {
            round::rounds(run, out)?;
        }
        Ok(())
    }
}

pangolin_pattern_sdk::call_memory!();

pangolin_pattern_sdk::export_pattern!(Pipeline);
