//! What follows from the end of a splitter and of its maps.
//!
//! A step has no memory, and a run of many maps has a step for nearly every one of them. So the outputs of the splitter
//! are only read when something may be due: at its end, when maps are still to be added, and when no map is open.

use pangolin_pattern_sdk::{Decisions, Fault, Item, ItemBrief, ItemDetail, ItemSpec, Phase, Run, bad_config};
use serde_json::Value;

use crate::{
    config::{self, MapReduceConfig, OnEmpty, OnMapFailure},
    ids::{MAP, REDUCE, map_id},
};

/// Maps that one step adds to a small run. The fuel of a step grows with the run, and so does what it may add.
const MAPS_PER_STEP: u32 = 1_000;

/// Most maps that one step adds. The host takes 10,000 pieces per step.
const MAPS_PER_STEP_MAX: u32 = 9_000;

/// Most bytes of maps that one step adds. The host takes 4 MiB per step.
const BYTES_PER_STEP: usize = 3 << 20;

/// With fewer items waiting than this, the next maps are added.
const FEW: u32 = 200;

/// Input of the last map of a step when more are to follow, so that a later step sees that without asking for all
/// outputs.
const MORE: &str = "mapReduceMore";

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
    if run.find(REDUCE).is_some() || !is_due(run, splitter) {
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
    // Maps are added in order, so what is there is a beginning.
    let (mut added, mut left) = (0, keys.len());
    while left > 0 {
        let middle = added + left / 2;
        if run.find(&map_id(&keys[middle], middle)).is_some() {
            left -= middle + 1 - added;
            added = middle + 1;
        } else {
            left = middle - added;
        }
    }
    if added < keys.len() {
        return add_maps(run, splitter, &config, &keys, added, out);
    }
    if is_open(run, splitter) {
        return Ok(());
    }
    reduce(run, splitter, &config, &keys, out)
}

/// Nothing more will follow, unless a producer may still bring a splitter.
fn finish(run: &Run<'_>, out: &Decisions<'_>) -> core::result::Result<(), Fault> {
    if !run.is_open_ended() {
        out.close();
    }
    Ok(())
}

/// The maps of a splitter that are `wanted`, from the last to the first. Only of those more is asked than their briefs.
fn maps<'r>(
    run: &Run<'r>,
    splitter: &Item<'_>,
    wanted: impl Fn(&ItemBrief) -> bool,
) -> impl Iterator<Item = ItemBrief> {
    let (run, splitter) = (*run, splitter.index());
    let belongs = move |index| run.item(index).is_some_and(|item| item.depends_on().contains(&splitter));
    // Maps are behind their splitter.
    let behind = run.items_from_end().take_while(move |brief| brief.index > splitter);
    behind.filter(move |brief| brief.id.starts_with(MAP) && wanted(brief) && belongs(brief.index))
}

/// Whether a map is open. Looks from the end: maps start in order, so while many are open the last one is.
fn is_open(run: &Run<'_>, splitter: &Item<'_>) -> bool {
    run.open() > 0 && maps(run, splitter, |map| !map.has_ended()).next().is_some()
}

/// Whether there may be something to add: no maps yet, more maps when few items wait, or the reduce when no map is open.
fn is_due(run: &Run<'_>, splitter: &Item<'_>) -> bool {
    if run.open() == 0 {
        return true;
    }
    let Some(last) = maps(run, splitter, |_| true).next() else { return true };
    let more_follow = run.item(last.index).is_some_and(|item| item.has_input(MORE));
    if more_follow {
        run.count(Phase::Waiting) < FEW || !is_open(run, splitter)
    } else {
        last.has_ended() && !is_open(run, splitter)
    }
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
    added: usize,
    out: &Decisions<'_>,
) -> core::result::Result<(), Fault> {
    // More are only of use when the reduce can still come.
    for map in maps(run, splitter, |map| map.phase == Phase::Unsuccessful) {
        let map = run.expect(map.index)?;
        if config.on_map_failure == OnMapFailure::Fail || map.state() == "cancelled" {
            let left = keys.len() - added;
            let why =
                format!("{left} more maps and the reduce are not added: {} is {}", map.id(), map.ending());
            out.explain(REDUCE, &why);
            return finish(run, out);
        }
    }
    let source = splitter.id();
    let most = run.len().saturating_mul(8).clamp(MAPS_PER_STEP, MAPS_PER_STEP_MAX);
    let fixed = config.map.bytes() + config.needs_key.len() + source.len() + MORE.len() + 4;
    let (mut bytes, mut until) = (0, added);
    for key in keys.iter().skip(added).take(most as usize) {
        // An id is at most three times as long as its key.
        let size = fixed + 4 * key.len();
        if until > added && bytes + size > BYTES_PER_STEP {
            break;
        }
        bytes += size;
        until += 1;
    }
    let all = keys.len();
    for (position, key) in keys.iter().enumerate().take(until).skip(added) {
        let map = ItemSpec::from_template(&map_id(key, position), &config.map);
        let map = map.need_output(&config.needs_key, &source, key);
        out.spawn(&if position + 1 == until && until < all { map.input(MORE, true) } else { map })?;
    }
    let more =
        if until < all { format!(", the others follow ({until} of {all} are there)") } else { String::new() };
    let why = format!("{source} has {all} outputs; {} maps are added, one per output{more}", until - added);
    out.explain(&map_id(&keys[added], added), &why);
    Ok(())
}

fn reduce(
    run: &Run<'_>,
    splitter: &Item<'_>,
    config: &MapReduceConfig,
    keys: &[String],
    out: &Decisions<'_>,
) -> core::result::Result<(), Fault> {
    // Everything is asked for in a few calls, as there may be 10,000 maps.
    let ids: Vec<String> = keys.iter().enumerate().map(|(position, key)| map_id(key, position)).collect();
    let part = |key: &str| {
        let mut part = String::with_capacity(config.key_prefix.len() + 1 + key.len());
        part.push_str(&config.key_prefix);
        part.push('-');
        part.push_str(key);
        part
    };
    // Whether they are done is all that matters when nobody asks for their outputs, and when everything of the run is
    // done, they are: all of them are there.
    if config.on_map_failure == OnMapFailure::Fail && run.count(Phase::Succeeded) == run.len() {
        let parts = keys.iter().map(|key| part(key)).zip(ids);
        let spec = ItemSpec::from_template(REDUCE, &config.reduce).need_outputs(&config.output_path, parts);
        out.explain(REDUCE, &format!("all {} maps are done", keys.len()));
        out.spawn(&spec)?;
        return finish(run, out);
    }
    let found: Option<Vec<u32>> = run.find_all(&ids).into_iter().collect();
    let Some(found) = found else { return Ok(()) };
    let first = found.iter().copied().min().unwrap_or_default();
    let phases = run.phases_from(first);
    let is_plain = config.on_map_failure == OnMapFailure::Fail && !phases.contains(&Phase::Unsuccessful);
    let details: Vec<ItemDetail> = if is_plain { Vec::new() } else { run.details_from(first).collect() };
    let (mut parts, mut missing, mut reasons) = (Vec::with_capacity(keys.len()), Vec::new(), Vec::new());
    let mut unsuccessful = Vec::new();
    for ((key, id), index) in keys.iter().zip(ids).zip(found) {
        let place = (index - first) as usize;
        let Some(phase) = phases.get(place).copied() else { return Ok(()) };
        match result(phase, details.get(place), config) {
            None => return Ok(()),
            Some(Err(cancelled)) => {
                out.explain(REDUCE, &format!("not added: {cancelled}"));
                return finish(run, out);
            }
            Some(Ok(Result::Worked)) => parts.push((part(key), id)),
            Some(Ok(Result::DidNot(why))) => {
                missing.push(Value::String(key.clone()));
                if reasons.len() < NAMED_MAX {
                    reasons.push(format!("{id} {why}"));
                }
                if phase == Phase::Unsuccessful {
                    unsuccessful.push(id);
                }
            }
        }
    }
    let worked = parts.len();
    let mut spec = ItemSpec::from_template(REDUCE, &config.reduce).need_outputs(&config.output_path, parts);
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
        if !unsuccessful.is_empty() {
            out.tolerate(&unsuccessful, &format!("onMapFailure is {policy:?}"))?;
        }
    }
    out.spawn(&if worked == 0 { spec.depend_on(&splitter.id()) } else { spec })?;
    finish(run, out)
}

/// What became of a map: `None` while it is open, an error when somebody cancelled it. `detail` is there when more counts
/// than the phase.
fn result(
    phase: Phase,
    detail: Option<&ItemDetail>,
    config: &MapReduceConfig,
) -> Option<core::result::Result<Result, String>> {
    match (phase, detail) {
        (Phase::Waiting | Phase::Active, _) => None,
        (Phase::Unsuccessful, Some(map)) if map.state == "cancelled" => {
            Some(Err(format!("{} was cancelled", map.brief.id)))
        }
        (Phase::Unsuccessful, map) => {
            Some(Ok(Result::DidNot(map.map(ItemDetail::ending).unwrap_or_default())))
        }
        // With `fail` the reduce says itself what it lacks: it names the output and fails the run.
        (Phase::Succeeded, Some(map))
            if config.on_map_failure != OnMapFailure::Fail && !map.has_output(&config.output_path) =>
        {
            Some(Ok(Result::DidNot(format!("is done without output {:?}", config.output_path))))
        }
        (Phase::Succeeded, _) => Some(Ok(Result::Worked)),
    }
}
