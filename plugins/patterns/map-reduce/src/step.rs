//! What follows from the end of a splitter and of its maps.
//!
//! A step has no memory, and a run of many maps has a step for nearly every one of them. So the outputs of the splitter
//! are only read when something may be due: at its end, when maps are still to be added, and when no map is open.

use pangolin_pattern_sdk::{Decisions, Fault, Item, ItemSpec, Phase, Run, bad_config};
use serde_json::Value;

use crate::{
    config::{self, MapReduceConfig, OnEmpty, OnMapFailure},
    ids::{MAP, REDUCE, map_id},
};

/// Most maps that one step adds. The host takes 10,000 pieces and 4 MiB per step; the rest follows when these have ended.
const MAPS_PER_STEP: usize = 9_000;

/// Most bytes of maps that one step adds.
const BYTES_PER_STEP: usize = 3 << 20;

/// Most failed maps that an explanation names.
const NAMED_MAX: usize = 10;

/// What became of a map.
enum Result {
    Worked,
    /// With the reason.
    DidNot(String),
}

pub(crate) fn follow(
    run: &Run<'_>,
    splitter: &Item<'_>,
    out: &Decisions<'_>,
) -> core::result::Result<(), Fault> {
    match splitter.phase() {
        Phase::Waiting | Phase::Active => return Ok(()),
        Phase::Unsuccessful => {
            out.explain(
                REDUCE,
                &format!("no maps and no reduce are added: {} is {}", splitter.id(), splitter.ending()),
            );
            return finish(run, out);
        }
        Phase::Succeeded => {}
    }
    if run.find(REDUCE).is_some() || is_waiting_for_maps(run, splitter) {
        return Ok(());
    }
    let mut findings = Vec::new();
    let Some(config) = config::of(splitter, &mut findings) else { return Err(bad_config(&findings)) };
    if let Some(first) = other_splitter(run, splitter)? {
        out.explain(
            &splitter.id(),
            &format!("its outputs are left alone: a run has one splitter, and that is {first}"),
        );
        return Ok(());
    }
    let keys = splitter.output_keys();
    if keys.is_empty() {
        return empty(run, splitter, &config, out);
    }
    let ids: Vec<String> = keys.iter().enumerate().map(|(position, key)| map_id(key, position)).collect();
    // Maps are added in order, so what is there is a beginning.
    let added = ids.partition_point(|id| run.find(id).is_some());
    if added < ids.len() {
        return add_maps(run, splitter, &config, &keys, &ids, added, out);
    }
    reduce(run, splitter, &config, &keys, &ids, out)
}

/// Nothing more will follow, unless a producer may still bring a splitter.
fn finish(run: &Run<'_>, out: &Decisions<'_>) -> core::result::Result<(), Fault> {
    if !run.is_open_ended() {
        out.close();
    }
    Ok(())
}

/// Whether all maps are there and one of them is open. Looks from the end: maps start in order, so while many are open
/// the last one is.
fn is_waiting_for_maps(run: &Run<'_>, splitter: &Item<'_>) -> bool {
    if run.open() == 0 {
        return false;
    }
    let belongs = |index| run.item(index).is_some_and(|item| item.depends_on().contains(&splitter.index()));
    for brief in run.items_from_end() {
        // Maps are behind their splitter.
        if brief.index <= splitter.index() {
            return false;
        }
        if !brief.has_ended() && brief.id.starts_with(MAP) && belongs(brief.index) {
            return true;
        }
    }
    false
}

/// A splitter before this one. A plan has none; a producer may have added this one.
fn other_splitter(run: &Run<'_>, splitter: &Item<'_>) -> core::result::Result<Option<String>, Fault> {
    for brief in run.items().take_while(|brief| brief.index < splitter.index()) {
        if run.expect(brief.index)?.has_input(config::KEY) {
            return Ok(Some(brief.id));
        }
    }
    Ok(None)
}

fn empty(
    run: &Run<'_>,
    splitter: &Item<'_>,
    config: &MapReduceConfig,
    out: &Decisions<'_>,
) -> core::result::Result<(), Fault> {
    let id = splitter.id();
    match config.on_empty {
        OnEmpty::Finish => {
            out.explain(REDUCE, &format!("not added: {id} has no outputs, and onEmpty is \"finish\""));
        }
        OnEmpty::Reduce => {
            out.spawn(&ItemSpec::from_template(REDUCE, &config.reduce).depend_on(&id))?;
            out.explain(REDUCE, &format!("{id} has no outputs, and onEmpty is \"reduce\""));
        }
    }
    finish(run, out)
}

fn add_maps(
    run: &Run<'_>,
    splitter: &Item<'_>,
    config: &MapReduceConfig,
    keys: &[String],
    ids: &[String],
    added: usize,
    out: &Decisions<'_>,
) -> core::result::Result<(), Fault> {
    // The ones before have all ended. More are only of use when the reduce can still come.
    for map in
        ids[..added].iter().filter_map(|id| run.get(id)).filter(|map| map.phase() == Phase::Unsuccessful)
    {
        if config.on_map_failure == OnMapFailure::Fail || map.state() == "cancelled" {
            let left = ids.len() - added;
            let why =
                format!("{left} more maps and the reduce are not added: {} is {}", map.id(), map.ending());
            out.explain(REDUCE, &why);
            return finish(run, out);
        }
    }
    let source = splitter.id();
    let (mut bytes, mut until) = (0, added);
    for (key, id) in keys.iter().zip(ids).skip(added).take(MAPS_PER_STEP) {
        let size = config.map.bytes() + id.len() + config.needs_key.len() + source.len() + key.len();
        if until > added && bytes + size > BYTES_PER_STEP {
            break;
        }
        let map = ItemSpec::from_template(id, &config.map).need_output(&config.needs_key, &source, key);
        out.spawn(&map)?;
        bytes += size;
        until += 1;
    }
    let all = ids.len();
    let more = if until < all {
        format!(", the others follow when these have ended ({until} of {all} are there)")
    } else {
        String::new()
    };
    let why = format!("{source} has {all} outputs; {} maps are added, one per output{more}", until - added);
    out.explain(&ids[added], &why);
    Ok(())
}

fn reduce(
    run: &Run<'_>,
    splitter: &Item<'_>,
    config: &MapReduceConfig,
    keys: &[String],
    ids: &[String],
    out: &Decisions<'_>,
) -> core::result::Result<(), Fault> {
    let mut spec = ItemSpec::from_template(REDUCE, &config.reduce);
    let (mut worked, mut missing, mut reasons) = (0_usize, Vec::new(), Vec::new());
    for (key, id) in keys.iter().zip(ids) {
        let Some(map) = run.get(id) else { return Ok(()) };
        match result(&map, config) {
            None => return Ok(()),
            Some(Err(cancelled)) => {
                out.explain(REDUCE, &format!("not added: {cancelled}"));
                return finish(run, out);
            }
            Some(Ok(Result::Worked)) => {
                worked += 1;
                spec = spec.need_output(&format!("{}-{key}", config.key_prefix), id, &config.output_path);
            }
            Some(Ok(Result::DidNot(why))) => {
                missing.push(Value::String(key.clone()));
                if reasons.len() < NAMED_MAX {
                    reasons.push(format!("{id} {why}"));
                }
            }
        }
    }
    let failed = missing.len();
    let more = failed - reasons.len();
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    let failures = format!("{failed} of {} maps did not work: {}{more}", keys.len(), reasons.join("; "));
    let policy = match config.on_map_failure {
        OnMapFailure::Fail => "fail",
        OnMapFailure::Skip => "skip",
        OnMapFailure::Reduce => "reduce",
    };
    let is_due = match config.on_map_failure {
        OnMapFailure::Fail => failed == 0,
        OnMapFailure::Skip => worked > 0,
        OnMapFailure::Reduce => true,
    };
    if !is_due {
        out.explain(REDUCE, &format!("not added, as onMapFailure is {policy:?}: {failures}"));
        return finish(run, out);
    }
    if failed == 0 {
        out.explain(REDUCE, &format!("all {worked} maps are done"));
    } else {
        spec = spec.tell("missing", missing);
        out.explain(REDUCE, &format!("added over {worked} maps, as onMapFailure is {policy:?}: {failures}"));
    }
    out.spawn(&if worked == 0 { spec.depend_on(&splitter.id()) } else { spec })?;
    finish(run, out)
}

/// What became of a map: `None` while it is open, an error when somebody cancelled it.
fn result(map: &Item<'_>, config: &MapReduceConfig) -> Option<core::result::Result<Result, String>> {
    match map.phase() {
        Phase::Waiting | Phase::Active => None,
        Phase::Unsuccessful if map.state() == "cancelled" => Some(Err(format!("{} was cancelled", map.id()))),
        Phase::Unsuccessful => Some(Ok(Result::DidNot(map.ending()))),
        // With `fail` the reduce says itself what it lacks: it names the output and fails the run.
        Phase::Succeeded
            if config.on_map_failure == OnMapFailure::Fail || map.has_output(&config.output_path) =>
        {
            Some(Ok(Result::Worked))
        }
        Phase::Succeeded => {
            Some(Ok(Result::DidNot(format!("is done without output {:?}", config.output_path))))
        }
    }
}
