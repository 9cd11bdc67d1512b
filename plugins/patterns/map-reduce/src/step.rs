//! What follows from the end of a splitter and of its maps.
//!
//! A step has no memory, and a run of many maps has a step for nearly every one of them. So the outputs of the splitter
//! are only read when something may be due: at its end, when maps are still to be added, and when no map is open.

use pangolin_pattern_sdk::{Decisions, Fault, Item, ItemBrief, ItemSpec, Phase, Run, Texts, bad_config};
use serde_json::Value;

use crate::{
    config::{self, MapReduceConfig, OnEmpty, OnMapFailure},
    ids::{MAP, REDUCE, map_id, map_ids},
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
        if run.find(&map_id(key(&keys, middle), middle)).is_some() {
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

fn key(keys: &Texts, position: usize) -> &str {
    keys.get(position).unwrap_or_default()
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
    keys: &Texts,
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
    out.explain(&map_id(key(keys, added), added), &why);
    Ok(())
}

fn reduce(
    run: &Run<'_>,
    splitter: &Item<'_>,
    config: &MapReduceConfig,
    keys: &Texts,
    out: &Decisions<'_>,
) -> core::result::Result<(), Fault> {
    // Everything is asked for in a few calls, as there may be 10,000 maps.
    let ids = map_ids(keys);
    // Whether they are done is all that matters when nobody asks for their outputs, and when everything of the run is
    // done, they are: all of them are there.
    if config.on_map_failure == OnMapFailure::Fail && run.count(Phase::Succeeded) == run.len() {
        out.explain(REDUCE, &format!("all {} maps are done", keys.len()));
        out.spawn(&over(config, keys, ids, &[]))?;
        return finish(run, out);
    }
    let Some(places) = places(run, &ids) else { return Ok(()) };
    let first = places.iter().copied().min().unwrap_or_default();
    let phases = run.phases_from(first);
    // With `fail` the reduce says itself what it lacks: it names the output and fails the run.
    let outputs = (config.on_map_failure != OnMapFailure::Fail).then(|| run.output_keys_from(first));
    let states = phases.contains(&Phase::Unsuccessful).then(|| run.states_from(first));
    // Numbers of the keys without a result, ascending.
    let mut without = Vec::new();
    let (mut missing, mut reasons, mut unsuccessful) = (Vec::new(), Vec::new(), Vec::new());
    for (number, index) in places.into_iter().enumerate() {
        let place = (index - first) as usize;
        let id = || ids.get(number).unwrap_or_default();
        let why = match phases.get(place) {
            None | Some(Phase::Waiting | Phase::Active) => return Ok(()),
            Some(Phase::Unsuccessful) => {
                if states.as_ref().and_then(|states| states.get(place)) == Some("cancelled") {
                    out.explain(REDUCE, &format!("not added: {} was cancelled", id()));
                    return finish(run, out);
                }
                unsuccessful.push(id().to_owned());
                None
            }
            Some(Phase::Succeeded) => {
                if outputs.as_ref().is_none_or(|all| all.of(place).any(|it| it == config.output_path)) {
                    continue;
                }
                Some(format!("is done without output {:?}", config.output_path))
            }
        };
        without.push(number);
        missing.push(Value::from(key(keys, number)));
        if reasons.len() < NAMED_MAX {
            let why = why.map_or_else(|| run.expect(index).map(|map| map.ending()), Ok)?;
            reasons.push(format!("{} {why}", id()));
        }
    }
    let failed = without.len();
    let worked = keys.len() - failed;
    let mut spec = over(config, keys, ids, &without);
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

/// The reduce over all maps, without those of the keys of these numbers (ascending).
fn over(config: &MapReduceConfig, keys: &Texts, ids: Texts, without: &[usize]) -> ItemSpec {
    let worked = keys.len() - without.len();
    let mut parts = Texts::with_capacity(worked, keys.bytes() + worked * (config.key_prefix.len() + 1));
    let mut sources = Texts::default();
    let all_worked = without.is_empty();
    let mut without = without.iter().peekable();

    for (number, key) in keys.iter().enumerate() {
        if without.next_if_eq(&&number).is_some() {
            continue;
        }
        parts.push_joined([&config.key_prefix, "-", key]);
        if !all_worked {
            sources.push(ids.get(number).unwrap_or_default());
        }
    }
    let sources = if all_worked { ids } else { sources };
    ItemSpec::from_template(REDUCE, &config.reduce).need_outputs(&config.output_path, parts, sources)
}

/// Where the maps are in the run; `None` when one of them is not there.
fn places(run: &Run<'_>, ids: &Texts) -> Option<Vec<u32>> {
    // They were added in order, so that mostly one look through the ids behind the first of them finds all.
    let first = run.find(ids.get(0)?)?;
    let there = run.ids_from(first);
    let mut index = first;
    let mut there = there.iter();
    let mut places = Vec::with_capacity(ids.len());
    for id in ids.iter() {
        loop {
            let Some(next) = there.next() else { return run.find_all(ids).into_iter().collect() };
            index += 1;
            if next == id {
                places.push(index - 1);
                break;
            }
        }
    }
    Some(places)
}
