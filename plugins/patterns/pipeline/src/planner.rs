//! At submit: the chain, the checks, the holds and the drawing.

use pangolin_pattern_sdk::{
    Decisions, Fault, Finding, ItemBrief, Run, copy_id, fix_id, generation, id_problem,
};

use crate::{
    gate::{self, GateConfig, OnRed},
    run_state::{ByPosition, Marks},
};

/// Most possible items that are drawn; a plan with many gates and rounds would hide itself behind them.
const POSSIBLE_MAX: usize = 1_000;

/// The plan with its chain.
struct Graph {
    items: Vec<ItemBrief>,
    /// By position.
    depends_on: Vec<Vec<u32>>,
    dependents: Vec<Vec<u32>>,
    /// Positions of items that wait for the one before them only because of the chain.
    chained: Vec<u32>,
    gates: ByPosition<GateConfig>,
    /// What gates judge; also of those whose configuration is wrong otherwise.
    subjects: ByPosition<String>,
}

pub(crate) fn plan(run: &Run<'_>, out: &Decisions<'_>) -> Result<(), Fault> {
    let mut findings = Vec::new();
    let graph = Graph::read(run, &mut findings)?;
    graph.check_chain(&mut findings);
    graph.check_gates(run, &mut findings);
    graph.check_ids(run, &mut findings);
    if !findings.is_empty() {
        findings.iter().for_each(|finding| out.finding(finding));
        return Ok(());
    }
    for index in &graph.chained {
        out.order_after(graph.id(*index), graph.id(index - 1))?;
    }
    for (index, _) in graph.fixing() {
        out.hold_on_red(graph.id(index))?;
    }
    if graph.gates.is_empty() && !run.is_open_ended() {
        out.close();
    }
    graph.draw(out);
    Ok(())
}

impl Graph {
    fn read(run: &Run<'_>, findings: &mut Vec<Finding>) -> Result<Self, Fault> {
        let items: Vec<ItemBrief> = run.items().collect();
        let mut graph = Self {
            depends_on: Vec::with_capacity(items.len()),
            dependents: vec![Vec::new(); items.len()],
            chained: Vec::new(),
            gates: ByPosition::new(),
            subjects: ByPosition::new(),
            items,
        };
        for brief in &graph.items {
            let item = run.expect(brief.index)?;
            let mut deps = item.depends_on();
            // Needs count as edges here, so an item that only needs something is not chained.
            if deps.is_empty() && brief.index > 0 {
                deps.push(brief.index - 1);
                graph.chained.push(brief.index);
            }
            for dep in &deps {
                graph.dependents[*dep as usize].push(brief.index);
            }
            graph.depends_on.push(deps);
            let gate = gate::partial(&item, findings).unwrap_or_default();
            if let Some(subject) = gate.subject {
                graph.subjects.insert(brief.index, subject);
            }
            if let Some(config) = gate.whole {
                graph.gates.insert(brief.index, config);
            }
        }
        Ok(graph)
    }

    fn id(&self, index: u32) -> &str {
        &self.items[index as usize].id
    }

    /// Gates that ask for fixes.
    fn fixing(&self) -> impl Iterator<Item = (u32, &GateConfig)> {
        self.gates.iter().filter(|(_, gate)| gate.on_red == OnRed::SpawnFix)
    }

    /// By position, whether it is reached from `starts` over `edges`; the starts themselves only when a way leads back.
    fn reach(&self, starts: impl IntoIterator<Item = u32>, edges: &[Vec<u32>]) -> Vec<bool> {
        let mut seen = vec![false; self.items.len()];
        let mut next: Vec<u32> = starts.into_iter().collect();
        while let Some(index) = next.pop() {
            for other in &edges[index as usize] {
                if !std::mem::replace(&mut seen[*other as usize], true) {
                    next.push(*other);
                }
            }
        }
        seen
    }

    /// The submitted plan has no cycle, so one can only come from the chain: from an item that is listed behind one that
    /// waits for it.
    fn check_chain(&self, findings: &mut Vec<Finding>) {
        let left = self.on_cycles();
        for index in self.chained.iter().filter(|index| left.contains(**index) && left.contains(**index - 1))
        {
            let (id, before) = (self.id(*index), self.id(index - 1));
            findings.push(Finding::new(
                format!("/items/{index}/depends_on"),
                format!("{id} names nothing it waits for, so it would wait for {before} before it, which waits for {id}"),
                format!("list {id} before everything that waits for it, or name what it waits for"),
            ));
        }
    }

    /// Takes away what has nothing before or nothing behind it until nothing changes.
    fn on_cycles(&self) -> Marks {
        let mut left = Marks::none(self.items.len());
        self.items.iter().for_each(|item| {
            left.insert(item.index);
        });
        for (edges, back) in [(&self.depends_on, &self.dependents), (&self.dependents, &self.depends_on)] {
            let mut open: Vec<usize> =
                edges.iter().map(|edges| edges.iter().filter(|edge| left.contains(**edge)).count()).collect();
            let mut free: Vec<u32> = left.iter().filter(|index| open[*index as usize] == 0).collect();
            while let Some(index) = free.pop() {
                left.remove(index);
                for other in &back[index as usize] {
                    open[*other as usize] = open[*other as usize].saturating_sub(1);
                    if open[*other as usize] == 0 && left.contains(*other) {
                        free.push(*other);
                    }
                }
            }
        }
        left
    }

    fn check_gates(&self, run: &Run<'_>, findings: &mut Vec<Finding>) {
        // Mostly the subject is near: the way up is searched only as far as needed.
        let mut visits = vec![0; self.items.len()];
        let mut visit = 0;
        let mut waits = |gate: u32, subject: u32| {
            visit += 1;
            let mut next = std::collections::VecDeque::from([gate]);
            while let Some(index) = next.pop_front() {
                for dep in &self.depends_on[index as usize] {
                    if *dep == subject {
                        return true;
                    }
                    if std::mem::replace(&mut visits[*dep as usize], visit) != visit {
                        next.push_back(*dep);
                    }
                }
            }
            false
        };
        for (index, subject) in self.subjects.iter() {
            let pointer = format!("/items/{index}/inputs/gate/subject");
            let id = self.id(index);
            let Some(at) = run.find(subject) else {
                let hint = "name an item of the plan that the gate waits for";
                findings.push(Finding::new(pointer, format!("there is no item {subject:?}"), hint));
                continue;
            };
            if at == index {
                let hint = "name the item whose work it judges";
                findings.push(Finding::new(pointer, format!("{id} cannot judge itself"), hint));
            } else if !waits(index, at) {
                let message = format!("{id} does not wait for {subject}, so there is no work to judge yet");
                let hint = format!("add {subject:?} to the depends_on of {id}");
                findings.push(Finding::new(pointer, message, hint));
            }
        }
    }

    /// Ids that may be added must be free and be ids.
    fn check_ids(&self, run: &Run<'_>, findings: &mut Vec<Finding>) {
        for (index, gate) in self.fixing() {
            let id = self.id(index);
            for number in 1..=gate.attempts_max {
                let fix = fix_id(id, number);
                if let Some(taken) = run.find(&fix) {
                    findings.push(Finding::new(
                        format!("/items/{taken}/id"),
                        format!("{fix} is the id of fix {number} for {id}"),
                        "choose another id",
                    ));
                }
            }
            // The longest one; the others are shorter.
            if let Some(problem) = id_problem(&fix_id(id, gate.attempts_max)) {
                let message = format!("ids of fixes: {problem}");
                findings.push(Finding::new(format!("/items/{index}/id"), message, "choose a shorter id"));
            }
        }
        if self.gates.is_empty() {
            return;
        }
        let behind = self.reach(self.gates.iter().map(|(index, _)| index), &self.dependents);
        for item in &self.items {
            let may_be_copied = behind[item.index as usize] || self.gates.get(item.index).is_some();
            let (base, number) = generation(&item.id);
            let pointer = format!("/items/{}/id", item.index);
            if number > 1 && (may_be_copied || run.find(base).is_some()) {
                let message = format!("{} ends like the id of a copy that this pattern adds", item.id);
                findings.push(Finding::new(
                    pointer,
                    message,
                    "choose an id that does not end in ~ and a number",
                ));
            } else if may_be_copied && let Some(problem) = id_problem(&copy_id(&item.id, 9_999)) {
                findings.push(Finding::new(
                    pointer,
                    format!("ids of copies: {problem}"),
                    "choose a shorter id",
                ));
            }
        }
    }

    /// What every round of every gate could add, each gate on its own.
    fn draw(&self, out: &Decisions<'_>) {
        let mut drawn: Vec<String> = Vec::new();
        for (index, gate) in self.fixing() {
            let id = self.id(index);
            let is_behind = self.reach([index], &self.dependents);
            let all = self.items.iter().map(|item| item.index);
            let behind: Vec<u32> = all.filter(|it| is_behind[*it as usize]).collect();
            let mut work = gate.subject.clone();
            for round in 1..=gate.attempts_max {
                if drawn.len() + behind.len() + 2 > POSSIBLE_MAX {
                    out.possible("more", &[], "there are more possible rounds than are drawn");
                    return;
                }
                let red = copy_id(id, round);
                let fix = fix_id(id, round);
                let why = format!("if {red} is red: fix {round} of at most {}", gate.attempts_max);
                out.possible(&fix, &[work.clone(), red], &why);
                let now = |it: u32| {
                    let moved = it == index || is_behind[it as usize];
                    if moved { copy_id(self.id(it), round + 1) } else { self.id(it).to_owned() }
                };
                for it in std::iter::once(index).chain(behind.iter().copied()) {
                    let deps = self.depends_on[it as usize].iter();
                    let mut after = Vec::new();
                    for dep in deps {
                        let id = if self.id(*dep) == gate.subject { fix.clone() } else { now(*dep) };
                        insert(&mut after, id);
                    }
                    if it == index {
                        insert(&mut after, fix.clone());
                    }
                    let copy = now(it);
                    let why = if it == index {
                        format!("judges {fix}")
                    } else {
                        format!(
                            "if {} was skipped because of {}",
                            copy_id(self.id(it), round),
                            copy_id(id, round)
                        )
                    };
                    if insert(&mut drawn, copy.clone()) {
                        out.possible(&copy, &after, &why);
                    }
                }
                insert(&mut drawn, fix.clone());
                work = fix;
            }
        }
    }
}

/// Puts a text into ascending ones; whether it was not there.
fn insert(texts: &mut Vec<String>, text: String) -> bool {
    match texts.binary_search(&text) {
        Ok(_) => false,
        Err(place) => {
            texts.insert(place, text);
            true
        }
    }
}
