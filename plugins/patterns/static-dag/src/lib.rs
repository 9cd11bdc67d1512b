//! The static pattern: the submitted plan is all there is. It says so at once and is not asked again; the host's
//! scheduler does the rest.

use pangolin_pattern_sdk::{Decisions, Fault, Pattern, Run};

/// The pattern.
pub struct StaticDag;

impl Pattern for StaticDag {
    fn plan(_: &Run<'_>, out: &Decisions<'_>) -> Result<(), Fault> {
        out.close();
        Ok(())
    }

    /// Only reached on a host that asks although the pattern is done.
    fn step(_: &Run<'_>, out: &Decisions<'_>) -> Result<(), Fault> {
        out.close();
        Ok(())
    }
}

pangolin_pattern_sdk::call_memory!();

pangolin_pattern_sdk::export_pattern!(StaticDag);
