//! What a step needs to know about the run, read once when a gate has ended.

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

/// Some items of the run, by position. Plain memory: a tree for it is a lot of code, and code is what loading costs.
#[derive(Debug, Clone)]
pub(crate) struct Marks(Vec<bool>);

impl Marks {
    /// None of a run of this many items.
    pub(crate) fn none(items: usize) -> Self {
        Self(vec![false; items])
    }

    /// Whether it was not there.
    pub(crate) fn insert(&mut self, index: u32) -> bool {
        self.0.get_mut(index as usize).is_some_and(|mark| !std::mem::replace(mark, true))
    }

    pub(crate) fn remove(&mut self, index: u32) {
        if let Some(mark) = self.0.get_mut(index as usize) {
            *mark = false;
        }
    }

    pub(crate) fn contains(&self, index: u32) -> bool {
        self.0.get(index as usize).copied().unwrap_or_default()
    }

    /// Ascending.
    pub(crate) fn iter(&self) -> impl Iterator<Item = u32> {
        (0..).zip(&self.0).filter(|(_, mark)| **mark).map(|(index, _)| index)
    }
}

/// Something of some items of the run, ascending by position.
#[derive(Debug)]
pub(crate) struct ByPosition<T>(Vec<(u32, T)>);

impl<T> ByPosition<T> {
    pub(crate) const fn new() -> Self {
        Self(Vec::new())
    }

    fn place(&self, index: u32) -> Result<usize, usize> {
        // Mostly the items come in their order.
        match self.0.last() {
            Some((last, _)) if *last >= index => self.0.binary_search_by_key(&index, |pair| pair.0),
            _ => Err(self.0.len()),
        }
    }

    /// Puts it in, or in the place of what is there.
    pub(crate) fn insert(&mut self, index: u32, it: T) {
        match self.place(index) {
            Ok(place) => self.0[place].1 = it,
            Err(place) => self.0.insert(place, (index, it)),
        }
    }

    pub(crate) fn get(&self, index: u32) -> Option<&T> {
        self.place(index).ok().map(|place| &self.0[place].1)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (u32, &T)> {
        self.0.iter().map(|(index, it)| (*index, it))
    }

    pub(crate) fn values(&self) -> impl Iterator<Item = &T> {
        self.0.iter().map(|pair| &pair.1)
    }
}

/// An item that was skipped or cancelled and has no copy.
#[derive(Debug)]
pub(crate) struct Stuck {
    pub(crate) index: u32,
    pub(crate) is_cancelled: bool,
    /// What it waits for as it was added, and the newest of that.
    pub(crate) waits: Vec<Wait>,
}

/// Something that an item waits for.
#[derive(Debug)]
pub(crate) struct Wait {
    pub(crate) id: String,
    pub(crate) newest: String,
    /// Position of the newest.
    pub(crate) at: Option<u32>,
}

/// The run.
pub(crate) struct State<'a> {
    pub(crate) run: Run<'a>,
    pub(crate) items: Vec<ItemBrief>,
    pub(crate) gates: ByPosition<Gate>,
    /// The work that earlier rounds put in the place of other work.
    moved: ByPosition<String>,
}

impl<'a> State<'a> {
    pub(crate) fn read(run: &Run<'a>) -> Result<Self, Fault> {
        let items: Vec<ItemBrief> = run.items().collect();
        let mut findings = Vec::new();
        let mut gates = ByPosition::new();
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
        let mut moved = ByPosition::new();
        for gate in gates.values() {
            let Some(later) = run.find(&gate.next_id()).and_then(|index| gates.get(index)) else { continue };
            let (before, after) = (&gate.config.subject, &later.config.subject);
            if before != after
                && let Some(index) = run.find(before)
            {
                moved.insert(index, after.clone());
            }
        }
        Ok(Self { run: *run, items, gates, moved })
    }

    /// What stands in the place of an item now: its newest generation, and of a gate's subject the newest work.
    pub(crate) fn newest(&self, id: &str) -> String {
        let mut id = id.to_owned();
        loop {
            // Without an earlier round there is nothing to ask for.
            let index = if self.moved.is_empty() { None } else { self.run.find(&id) };
            let moved = index.and_then(|index| self.moved.get(index));
            let later = moved.map_or_else(|| next_id(&id), Clone::clone);
            if self.run.find(&later).is_none() {
                return id;
            }
            id = later;
        }
    }

    /// The gate of this id.
    pub(crate) fn gate(&self, id: &str) -> Option<&Gate> {
        self.gates.get(self.run.find(id)?)
    }

    /// Everything that was skipped or cancelled and has no copy, by position.
    pub(crate) fn stuck(&self) -> Result<ByPosition<Stuck>, Fault> {
        let mut all = ByPosition::new();
        for brief in self.items.iter().filter(|brief| brief.phase == Phase::Unsuccessful) {
            let item = self.run.expect(brief.index)?;
            let state = item.state();
            let is_cancelled = state == "cancelled";
            if !(is_cancelled || state == "skipped") || self.run.find(&next_id(&brief.id)).is_some() {
                continue;
            }
            let deps = item.depends_on();
            let ids = deps.iter().filter_map(|dep| self.items.get(*dep as usize)).map(|dep| dep.id.clone());
            let waits = ids.map(|id| {
                let newest = self.newest(&id);
                Wait { at: self.run.find(&newest), id, newest }
            });
            let waits = waits.collect();
            all.insert(brief.index, Stuck { index: brief.index, is_cancelled, waits });
        }
        Ok(all)
    }
}

/// What of `stuck` waits for one of `sources`, directly or through others of it, in a run of this many items.
pub(crate) fn behind(
    stuck: &ByPosition<Stuck>,
    sources: impl IntoIterator<Item = u32>,
    items: usize,
) -> Marks {
    let mut waiting: Vec<Vec<u32>> = vec![Vec::new(); items];
    for it in stuck.values() {
        for at in it.waits.iter().filter_map(|wait| wait.at) {
            waiting[at as usize].push(it.index);
        }
    }
    let mut found = Marks::none(items);
    let mut next: Vec<u32> = sources.into_iter().collect();
    while let Some(index) = next.pop() {
        for index in &waiting[index as usize] {
            if found.insert(*index) {
                next.push(*index);
            }
        }
    }
    found
}
