//! Quorum: reviewers look at the work of an item, and when enough of them approve, it is committed. When not, a fix may
//! follow, and everybody looks again. See `docs/plugins/patterns.md`.

mod config;
mod ids;
mod planner;
mod vote;

use pangolin_pattern_sdk::{Decisions, Fault, Pattern, Run, bad_config};

/// The pattern.
pub struct Quorum;

impl Pattern for Quorum {
    fn plan(run: &Run<'_>, out: &Decisions<'_>) -> Result<(), Fault> {
        planner::plan(run, out)
    }

    fn step(run: &Run<'_>, out: &Decisions<'_>) -> Result<(), Fault> {
        // The subjects that what ended belongs to: the item itself, or whom a reviewer looked at.
        let mut concerned: Vec<u32> = Vec::new();
        for brief in run.ended() {
            let subject = ids::reviewed(&brief.id).and_then(|subject| run.find(subject));
            for index in std::iter::once(brief.index).chain(subject) {
                if let Err(place) = concerned.binary_search(&index) {
                    concerned.insert(place, index);
                }
            }
        }
        let mut findings = Vec::new();
        for index in concerned {
            let item = run.expect(index)?;
            if let Some(config) = config::of(&item, &mut findings) {
                vote::follow(run, &item, &config, out)?;
            }
        }
        if !findings.is_empty() {
            // Planned subjects are right, so these were added by a producer.
            return Err(bad_config(&findings));
        }
        if run.open() == 0 && out.spawned() == 0 && !run.is_open_ended() {
            vote::conclude(run)?;
            out.close();
        }
        Ok(())
    }
}

pangolin_pattern_sdk::call_memory!();

pangolin_pattern_sdk::export_pattern!(Quorum);
