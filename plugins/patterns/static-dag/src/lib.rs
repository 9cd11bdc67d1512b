//! The static pattern: the submitted plan is all there is. It adds nothing, whatever happens; the host's scheduler
//! does the rest.

use pangolin_pattern_sdk::{Decisions, Fault, Pattern, RunView};

struct StaticDag;

impl Pattern for StaticDag {
    fn step(_: &RunView, _: &Decisions) -> Result<(), Fault> {
        Ok(())
    }
}

pangolin_pattern_sdk::export_pattern!(StaticDag);
