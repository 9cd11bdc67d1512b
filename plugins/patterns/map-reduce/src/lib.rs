//! Map and reduce: a splitter's outputs become one item each, and their results go into one more.
//!
//! A map that fails is visible: what follows is the plan's choice (`onMapFailure`), and is explained. See
//! `docs/plugins/patterns.md`.

mod config;
mod ids;
mod step;

use std::collections::BTreeSet;

use pangolin_pattern_sdk::{Decisions, Fault, Finding, Pattern, Run};

/// The pattern.
pub struct MapReduce;

impl Pattern for MapReduce {
    fn plan(run: &Run<'_>, out: &Decisions<'_>) -> Result<(), Fault> {
        let mut findings = Vec::new();
        let mut splitters = Vec::new();
        let mut reserved = Vec::new();
        for brief in run.items() {
            let item = run.expect(brief.index)?;
            if item.has_input(config::KEY) {
                config::of(&item, &mut findings);
                splitters.push(brief);
            } else if brief.id == ids::REDUCE || brief.id.starts_with(ids::MAP) {
                reserved.push(brief);
            }
        }
        if let Some(first) = splitters.first() {
            for other in &splitters[1..] {
                findings.push(Finding::new(
                    format!("/items/{}/inputs/{}", other.index, config::KEY),
                    format!("a run has at most one splitter, and {} is one already", first.id),
                    "split the plan, or remove one of the two",
                ));
            }
            for brief in splitters
                .iter()
                .filter(|it| it.id == ids::REDUCE || it.id.starts_with(ids::MAP))
                .chain(&reserved)
            {
                findings.push(Finding::new(
                    format!("/items/{}/id", brief.index),
                    format!("{:?} is an id of what this pattern adds: map-… and reduce", brief.id),
                    "choose another id",
                ));
            }
        }
        if !findings.is_empty() {
            findings.iter().for_each(|finding| out.finding(finding));
            return Ok(());
        }
        match splitters.first() {
            Some(splitter) => {
                out.possible("map-*", std::slice::from_ref(&splitter.id), "one per output of the splitter");
                out.possible(ids::REDUCE, &["map-*".into()], "when every map has ended");
            }
            None if !run.is_open_ended() => out.close(),
            None => {}
        }
        Ok(())
    }

    fn step(run: &Run<'_>, out: &Decisions<'_>) -> Result<(), Fault> {
        // The splitters that what ended belongs to: itself, or of a map the one it waits for.
        let mut concerned = BTreeSet::new();
        for brief in run.ended() {
            let item = run.expect(brief.index)?;
            if item.has_input(config::KEY) {
                concerned.insert(brief.index);
            } else if brief.id.starts_with(ids::MAP) {
                concerned.extend(item.depends_on());
            }
        }
        for index in concerned {
            let item = run.expect(index)?;
            if item.has_input(config::KEY) {
                step::follow(run, &item, out)?;
            }
        }
        Ok(())
    }
}

pangolin_pattern_sdk::export_pattern!(MapReduce);
