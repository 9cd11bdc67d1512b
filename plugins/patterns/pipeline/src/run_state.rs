//! What a step needs to know about the run, read once when a gate has ended.

use std::collections::{BTreeMap, BTreeSet};

use pangolin_pattern_sdk::{Fault, ItemBrief, Phase, Run, bad_config, copy_id, generation};

use crate::gate::{self, GateConfig, OnRed};

/// A gate of the run.
#[derive(Debug)]
pub(crate) struct Gate {
    pub(crate) index: u32,
    pub(crate) id: String,
    pub(crate) config: GateConfig,
    pub(crate) phase: Phase,
    pub(crate) state: String,
    /// Failed, or done with a verify that did not pass.
    pub(crate) is_red: bool,
    /// No later generation of it is in the run.
    pub(crate) is_newest: bool,
}

impl Gate {
    /// Id of its next generation.
    pub(crate) fn next_id(&self) -> String {
        next_id(&self.id)
    }

    pub(crate) fn asks_for_fixes(&self) -> bool {
        self.config.on_red == OnRed::SpawnFix
    }
}

/// Id of the next generation of an item.
pub(crate) fn next_id(id: &str) -> String {
    let (base, number) = generation(id);
    copy_id(base, number + 1)
}

/// A set of these. One by one: making it in one go takes several times the code, and code is what loading costs.
pub(crate) fn set<T: Ord>(members: impl IntoIterator<Item = T>) -> BTreeSet<T> {
    let mut set = BTreeSet::new();
    for member in members {
        set.insert(member);
    }
    set
}

/// An item that was skipped or cancelled and has no copy.
#[derive(Debug)]
pub(crate) struct Stuck {
    pub(crate) index: u32,
    pub(crate) is_cancelled: bool,
    /// What it waits for as it was added, and the newest of that.
    pub(crate) waits: Vec<(String, String)>,
}

/// The run.
pub(crate) struct State<'a> {
    pub(crate) run: Run<'a>,
    pub(crate) items: Vec<ItemBrief>,
    pub(crate) gates: BTreeMap<u32, Gate>,
    /// The work that earlier rounds put in the place of other work.
    moved: BTreeMap<String, String>,
}

impl<'a> State<'a> {
    pub(crate) fn read(run: &Run<'a>) -> Result<Self, Fault> {
        let items: Vec<ItemBrief> = run.items().collect();
        let mut findings = Vec::new();
        let mut gates = BTreeMap::new();
        for brief in &items {
            let item = run.expect(brief.index)?;
            let Some(config) = gate::of(&item, &mut findings) else { continue };
            let state = if brief.has_ended() { item.state() } else { String::new() };
            let is_red = state == "failed" || (brief.succeeded() && item.verify_passed() == Some(false));
            let is_newest = run.find(&next_id(&brief.id)).is_none();
            let (index, id, phase) = (brief.index, brief.id.clone(), brief.phase);
            gates.insert(index, Gate { index, id, config, phase, state, is_red, is_newest });
        }
        if !findings.is_empty() {
            // Planned gates are right, so these were added by a producer.
            return Err(bad_config(&findings));
        }
        let mut state = Self { run: *run, items, gates, moved: BTreeMap::new() };
        let later = |gate: &Gate| state.gates.get(&run.find(&gate.next_id())?);
        let moves: Vec<(String, String)> = state
            .gates
            .values()
            .filter_map(|gate| Some((gate.config.subject.clone(), later(gate)?.config.subject.clone())))
            .filter(|(before, after)| before != after)
            .collect();
        state.moved.extend(moves);
        Ok(state)
    }

    /// What stands in the place of an item now: its newest generation, and of a gate's subject the newest work.
    pub(crate) fn newest(&self, id: &str) -> String {
        let mut id = id.to_owned();
        loop {
            let later = match self.moved.get(&id) {
                Some(work) => work.clone(),
                None => next_id(&id),
            };
            if self.run.find(&later).is_none() {
                return id;
            }
            id = later;
        }
    }

    pub(crate) fn brief(&self, id: &str) -> Option<&ItemBrief> {
        self.items.get(self.run.find(id)? as usize)
    }

    /// The gate of this id.
    pub(crate) fn gate(&self, id: &str) -> Option<&Gate> {
        self.gates.get(&self.run.find(id)?)
    }

    /// Everything that was skipped or cancelled and has no copy, by position.
    pub(crate) fn stuck(&self) -> Result<BTreeMap<u32, Stuck>, Fault> {
        let mut all = BTreeMap::new();
        for brief in self.items.iter().filter(|brief| brief.phase == Phase::Unsuccessful) {
            let item = self.run.expect(brief.index)?;
            let state = item.state();
            let is_cancelled = state == "cancelled";
            if !(is_cancelled || state == "skipped") || self.run.find(&next_id(&brief.id)).is_some() {
                continue;
            }
            let deps = item.depends_on();
            let ids = deps.iter().filter_map(|dep| self.items.get(*dep as usize)).map(|dep| dep.id.clone());
            let waits = ids.map(|id| (id.clone(), self.newest(&id))).collect();
            all.insert(brief.index, Stuck { index: brief.index, is_cancelled, waits });
        }
        Ok(all)
    }
}

/// What of `stuck` waits for one of `sources`, directly or through others of it.
pub(crate) fn behind(
    stuck: &BTreeMap<u32, Stuck>,
    sources: &BTreeSet<String>,
    items: &[ItemBrief],
) -> BTreeSet<u32> {
    let mut waiting: BTreeMap<&str, Vec<u32>> = BTreeMap::new();
    for it in stuck.values() {
        for (_, newest) in &it.waits {
            waiting.entry(newest).or_default().push(it.index);
        }
    }
    let mut found = BTreeSet::new();
    let mut next: Vec<&str> = sources.iter().map(String::as_str).collect();
    while let Some(id) = next.pop() {
        for index in waiting.get(id).into_iter().flatten() {
            if found.insert(*index) {
                next.push(&items[*index as usize].id);
            }
        }
    }
    found
}
