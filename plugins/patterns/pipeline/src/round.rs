//! A round: what is added when gates are red.
//!
//! All gates of one piece of work decide together. When each of them has ended and one is red, every red one gets a fix,
//! each on the work of the one before, and every one of them judges the result again. What was skipped behind them is
//! added again behind their next generation. Edges go to the newest generation of everything, so a second round works
//! on the work of the first.

use pangolin_pattern_sdk::{
    Decisions, Fault, ItemSpec, Phase, Run, SpawnTemplate, fault, fix_id, generation, json,
};
use serde_json::Value;

use crate::run_state::{ByPosition, Gate, Marks, State, Stuck, Wait, behind, next_id};

/// The output in which a gate says what is to be fixed.
const FINDINGS: &str = "findings";

/// What goes to which id now, by the position of what it went to; `None` drops the edge.
type Moves = ByPosition<Option<String>>;

/// Gates that judge the same work.
struct Group<'s> {
    subject: &'s str,
    gates: Vec<&'s Gate>,
}

pub(crate) fn rounds(run: &Run<'_>, out: &Decisions<'_>) -> Result<(), Fault> {
    let state = State::read(run)?;
    let mut ended = Marks::none(state.items.len());
    run.ended().for_each(|brief| {
        ended.insert(brief.index);
    });
    explain_ends(&state, &ended, out);
    let stuck = state.stuck()?;
    let groups = groups(&state);
    let mut due: Vec<&Group<'_>> = Vec::new();
    for group in groups.iter().filter(|group| group.is_decided()) {
        match group.stopped(&state, &stuck)? {
            None => due.push(group),
            Some((gate, why)) if group.gates.iter().any(|gate| ended.contains(gate.index)) => {
                out.explain(&gate, &format!("no fix is added: {why}"));
            }
            Some(_) => {}
        }
    }
    let released = released(&state, &stuck, &ended);
    if due.is_empty() && released.is_empty() {
        return Ok(());
    }

    let mut moves = Moves::new();
    let mut sources = released;
    for gate in failed_advice(&state) {
        moves.insert(gate.index, None);
    }
    for group in &due {
        let work = group.add_fixes(&state, out)?;
        let at = run.find(group.subject);
        at.into_iter().for_each(|at| moves.insert(at, Some(work.clone())));
        for gate in group.judges() {
            moves.insert(gate.index, Some(gate.next_id()));
        }
        sources.extend(group.red().map(|gate| gate.index));
    }
    let again = copyable(&state, &stuck, &behind(&stuck, sources, state.items.len()), &moves, out)?;
    for index in again.iter() {
        moves.insert(index, Some(next_id(&state.items[index as usize].id)));
    }
    for group in &due {
        group.add_gates(&state, &moves, out)?;
    }
    for index in again.iter() {
        let id = &state.items[index as usize].id;
        let spec = copy(&state, id, &moves)?.supersede(id);
        out.spawn(&spec)?;
        out.explain(
            spec.id(),
            &format!("{id} was skipped behind a red gate; this one waits for what comes after it"),
        );
    }
    Ok(())
}

/// Gates that ask for fixes, newest generation only, by the work they judge.
fn groups<'s>(state: &'s State<'_>) -> Vec<Group<'s>> {
    let mut groups: Vec<Group<'_>> = Vec::new();
    for gate in state.gates.values().filter(|gate| gate.is_newest && gate.asks_for_fixes()) {
        let subject = gate.config.subject.as_str();
        match groups.binary_search_by_key(&subject, |group| group.subject) {
            Ok(place) => groups[place].gates.push(gate),
            Err(place) => groups.insert(place, Group { subject, gates: vec![gate] }),
        }
    }
    groups
}

/// Gates that only advise and failed: nothing waits for them any more.
fn failed_advice<'s>(state: &'s State<'_>) -> impl Iterator<Item = &'s Gate> {
    state.gates.values().filter(|gate| !gate.asks_for_fixes() && gate.state == "failed")
}

/// Those that failed now and behind which something was skipped that can go on without them.
fn released(state: &State<'_>, stuck: &ByPosition<Stuck>, ended: &Marks) -> Vec<u32> {
    let goes_on = |gate: &&Gate| {
        let behind = behind(stuck, [gate.index], state.items.len());
        behind.iter().next().is_some() && !behind.iter().any(|index| is_cancelled(stuck, index))
    };
    let now = failed_advice(state).filter(|gate| ended.contains(gate.index));
    now.filter(goes_on).map(|gate| gate.index).collect()
}

fn is_cancelled(stuck: &ByPosition<Stuck>, index: u32) -> bool {
    stuck.get(index).is_some_and(|it| it.is_cancelled)
}

impl<'s> Group<'s> {
    fn red(&self) -> impl Iterator<Item = &'s Gate> {
        self.gates.iter().copied().filter(|gate| gate.is_red)
    }

    /// Gates that gave a verdict on the work. Others of the group were skipped or refused.
    fn judges(&self) -> impl Iterator<Item = &'s Gate> {
        self.gates.iter().copied().filter(|gate| gate.is_red || gate.phase == Phase::Succeeded)
    }

    /// Whether every gate has ended and one of them is red.
    fn is_decided(&self) -> bool {
        self.gates.iter().all(|gate| gate.phase.has_ended()) && self.red().next().is_some()
    }

    /// The gate because of which no fix follows, and why.
    fn stopped(
        &self,
        state: &State<'_>,
        stuck: &ByPosition<Stuck>,
    ) -> Result<Option<(String, String)>, Fault> {
        if state.run.find(self.subject).is_none() {
            let id = self.gates.first().map_or_else(String::new, |gate| gate.id.clone());
            return Err(fault(
                "bad-config",
                format!("gate {id}: there is no item {:?} to judge", self.subject),
            ));
        }
        if let Some(gate) = self.gates.iter().find(|gate| gate.state == "cancelled") {
            return Ok(Some((gate.id.clone(), format!("{} was cancelled", gate.id))));
        }
        for gate in self.red() {
            let stop = |why: String| Ok(Some((gate.id.clone(), why)));
            let (used, max) = (fixes(state, gate), gate.config.attempts_max);
            if gate.config.fix.is_none() {
                return stop(format!("{} has no fixTemplate", gate.id));
            }
            if used >= max {
                return stop(format!("{} is red and {used} of {max} fixes were tried", gate.id));
            }
            for number in 1..=used {
                let fix = fix_id(generation(&gate.id).0, number);
                if state.run.get(&fix).is_some_and(|item| item.state() == "cancelled") {
                    return stop(format!("{fix} was cancelled"));
                }
            }
        }
        let behind = behind(stuck, self.red().map(|gate| gate.index), state.items.len());
        let cancelled = behind.iter().find(|index| is_cancelled(stuck, *index));
        Ok(cancelled.and_then(|index| {
            let red = self.red().next()?;
            Some((red.id.clone(), format!("{} was cancelled", state.items[index as usize].id)))
        }))
    }

    /// Adds a fix per red gate, each on the work of the one before, and answers the newest work.
    fn add_fixes(&self, state: &State<'_>, out: &Decisions<'_>) -> Result<String, Fault> {
        let mut work = self.subject.to_owned();
        for gate in self.red() {
            let Some(template) = &gate.config.fix else { continue };
            let number = fixes(state, gate) + 1;
            let id = fix_id(generation(&gate.id).0, number);
            out.spawn(&fix(state, gate, template, &id, &work)?)?;
            let ending = state.run.expect(gate.index)?.ending();
            let max = gate.config.attempts_max;
            out.explain(
                &id,
                &format!("{} is red: {ending}; fix {number} of {max}, on the work of {work}", gate.id),
            );
            work = id;
        }
        Ok(work)
    }

    /// Adds the next generation of every gate.
    fn add_gates(&self, state: &State<'_>, moves: &Moves, out: &Decisions<'_>) -> Result<(), Fault> {
        let moved = state.run.find(self.subject).and_then(|at| moves.get(at));
        let Some(Some(work)) = moved else { return Ok(()) };
        for gate in self.judges() {
            // The gate may wait for its subject only through others.
            let mut spec = copy(state, &gate.id, moves)?.depend_on(work);
            if gate.is_red {
                spec = spec.supersede(&gate.id);
            }
            out.spawn(&spec)?;
            out.explain(spec.id(), &format!("judges {work} as {} judged {}", gate.id, self.subject));
        }
        Ok(())
    }
}

/// How many fixes a gate's lineage has had.
fn fixes(state: &State<'_>, gate: &Gate) -> u32 {
    let base = generation(&gate.id).0;
    (1..).take_while(|number| state.run.find(&fix_id(base, *number)).is_some()).last().unwrap_or(0)
}

fn fix(
    state: &State<'_>,
    gate: &Gate,
    template: &SpawnTemplate,
    id: &str,
    work: &str,
) -> Result<ItemSpec, Fault> {
    let mut spec = ItemSpec::from_template(id, template).depend_on(work);
    // Work that is not in the run yet is a fix of this step, which will have a patch.
    if state.run.get(work).is_none_or(|item| item.has_patch()) {
        spec = spec.need_patch("work", work);
    }
    let item = state.run.expect(gate.index)?;
    // Only a gate that is done can be waited for.
    if gate.phase == Phase::Succeeded && item.has_output(FINDINGS) {
        return Ok(spec.need_output(FINDINGS, &gate.id, FINDINGS));
    }
    Ok(spec.tell("gateReason", format!("{}: {}", gate.id, item.ending())))
}

/// The next generation of an item, with every edge at what stands in its place now.
fn copy(state: &State<'_>, id: &str, moves: &Moves) -> Result<ItemSpec, Fault> {
    let edge = |id: &str| {
        let newest = state.newest(id);
        let moved = state.run.find(&newest).and_then(|at| moves.get(at)).cloned();
        moved.unwrap_or(Some(newest))
    };
    let item = state.run.get(id).ok_or_else(|| fault("gone", format!("the run has no item {id}")))?;
    let spec = ItemSpec::copy_of(&item, &next_id(id), edge)?;
    let Some(gate) = state.gate(id) else { return Ok(spec) };
    let mut config = spec.input_value("gate").unwrap_or(Value::Null);
    let subject = edge(&gate.config.subject).unwrap_or_else(|| gate.config.subject.clone());
    config["subject"] = subject.into();
    let spec = spec.input("gate", config);
    Ok(if gate.asks_for_fixes() { spec.attr("holdOnRed", true) } else { spec })
}

/// What of the skipped items can be added again: not what also waits for something that will never be done.
fn copyable(
    state: &State<'_>,
    stuck: &ByPosition<Stuck>,
    behind: &Marks,
    moves: &Moves,
    out: &Decisions<'_>,
) -> Result<Marks, Fault> {
    let mut again = behind.clone();
    behind.iter().filter(|index| is_cancelled(stuck, *index)).for_each(|index| again.remove(index));
    loop {
        let mut blocked = Vec::new();
        for it in again.iter().filter_map(|index| stuck.get(index)) {
            for wait in &it.waits {
                if let Some(why) = obstacle(state, it.index, wait, &again, moves)? {
                    blocked.push((it.index, why));
                    break;
                }
            }
        }
        if blocked.is_empty() {
            return Ok(again);
        }
        for (index, why) in blocked {
            again.remove(index);
            out.explain(&state.items[index as usize].id, &format!("not added again: {why}"));
        }
    }
}

/// Why an item that waits for something could not start.
fn obstacle(
    state: &State<'_>,
    index: u32,
    wait: &Wait,
    again: &Marks,
    moves: &Moves,
) -> Result<Option<String>, Fault> {
    let (id, newest) = (&wait.id, &wait.newest);
    match wait.at.and_then(|at| moves.get(at)) {
        Some(Some(_)) => return Ok(None),
        Some(None) => {
            let spec: Value = json::parse(&state.run.expect(index)?.spec_json()).unwrap_or_default();
            let mut needs = spec["needs"].as_object().into_iter().flat_map(|needs| needs.values());
            let needed = needs.any(|need| need["from"] == *id);
            return Ok(needed.then(|| format!("it needs a product of {id}, which failed")));
        }
        None => {}
    }
    let Some(brief) = wait.at.and_then(|at| state.items.get(at as usize)) else {
        return Ok(Some(format!("it waits for {newest}, which is not there")));
    };
    if again.contains(brief.index) {
        return Ok(None);
    }
    let holds = |gate: &Gate| gate.asks_for_fixes() && gate.is_red;
    Ok(match brief.phase {
        Phase::Waiting | Phase::Active => None,
        Phase::Succeeded => state
            .gates
            .get(brief.index)
            .filter(|gate| holds(gate))
            .map(|_| format!("it also waits for {newest}, which is red")),
        Phase::Unsuccessful => {
            let ending = state.run.expect(brief.index)?.ending();
            Some(format!("it also waits for {newest}, which is {ending}"))
        }
    })
}

/// Says why a lineage ends when its second look cannot take place.
fn explain_ends(state: &State<'_>, ended: &Marks, out: &Decisions<'_>) {
    for gate in state.gates.values().filter(|gate| ended.contains(gate.index)) {
        if gate.state != "skipped" || generation(&gate.id).1 == 1 {
            continue;
        }
        let Some(subject) = state.run.get(&gate.config.subject) else { continue };
        if subject.phase() == Phase::Unsuccessful {
            let why = format!("no further fix is added: {} is {}", gate.config.subject, subject.ending());
            out.explain(&gate.id, &why);
        }
    }
}
