//! Looks at every item of a run in pages and says what it counted. For the benchmark: what a pattern costs that must
//! look at everything. Its parameters are the JSON text `"phases"` or `"details"`.

use pangolin_pattern_sdk::{Decisions, Fault, Pattern, Phase, Run};

/// The pattern.
pub struct Scan;

impl Pattern for Scan {
    fn step(run: &Run<'_>, out: &Decisions<'_>) -> Result<(), Fault> {
        let what: String = run.params()?;
        let (mut seen, mut done, mut outputs) = (0_usize, 0_usize, 0_usize);
        if what == "phases" {
            let phases = run.phases_from(0);
            seen = phases.len();
            done = phases.iter().filter(|phase| **phase == Phase::Succeeded).count();
        } else {
            for item in run.details_from(0).iter() {
                seen += 1;
                done += usize::from(item.phase() == Phase::Succeeded);
                outputs += item.outputs();
            }
        }
        out.explain("", &format!("{seen} items, {done} done, {outputs} outputs"));
        Ok(())
    }
}

pangolin_pattern_sdk::call_memory!();

pangolin_pattern_sdk::export_pattern!(Scan);
