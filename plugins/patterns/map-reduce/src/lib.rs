//! Map and reduce: a splitter's outputs become one item each, and their results go into one more.
//!
//! A map that fails is visible: what follows is the plan's choice (`onMapFailure`), and is explained. See
//! `docs/plugins/patterns.md`.

mod config;
mod ids;
mod step;

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
        let mut concerned: Vec<u32> = Vec::new();
        let mut has_owner = false;
        for brief in run.ended() {
            let item = run.expect(brief.index)?;
            let more = if item.has_input(config::KEY) {
                vec![brief.index]
            } else if brief.id.starts_with(ids::MAP) && !has_owner {
                // Maps belong to one splitter: a run has one that adds any.
                let owners = item.depends_on();
                has_owner =
                    owners.iter().any(|index| run.item(*index).is_some_and(|it| it.has_input(config::KEY)));
                owners
            } else {
                continue;
            };
            // In the order of the run. A step has few of them.
            for index in more {
                if let Err(place) = concerned.binary_search(&index) {
                    concerned.insert(place, index);
                }
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

pangolin_pattern_sdk::call_memory!();

pangolin_pattern_sdk::export_pattern!(MapReduce);
