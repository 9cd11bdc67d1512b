//! The graph of a run as a picture: what is planned, and what a pattern may add (ghosts).

mod dot;
mod mermaid;
mod svg;
mod text;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use pangolin_core::{
    pattern::Decisions,
    plan::{Plan, PlanItem},
};
use serde::Serialize;

pub(crate) use dot::dot;
pub(crate) use mermaid::mermaid;
pub(crate) use svg::{NODES_MAX, svg};
pub(crate) use text::text;

use crate::printer::one_line;

/// One box.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Node {
    /// Item id, or a pattern of ids such as `map-*` for a ghost.
    pub(crate) id: String,
    /// May be added by the pattern.
    pub(crate) possible: bool,
    /// What it is for the pattern: `gate`, `splitter`, `quorum`, else absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) role: Option<&'static str>,
    /// When a ghost would be added.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) why: String,
    /// Dependents are skipped when its verify is red.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) holds: bool,
    /// Distance from the start: 0 waits for nothing.
    pub(crate) level: usize,
}

/// One arrow, by position of its ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub(crate) struct Edge {
    pub(crate) from: usize,
    pub(crate) to: usize,
    /// Leads to or from a ghost.
    pub(crate) possible: bool,
    /// A product is handed over.
    pub(crate) hands_over: bool,
}

/// The graph of one plan.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Graph {
    pub(crate) run: String,
    pub(crate) queue: String,
    pub(crate) pattern: String,
    pub(crate) nodes: Vec<Node>,
    pub(crate) edges: Vec<Edge>,
}

impl Graph {
    /// From the plan as the pattern amended it, and the pattern's decisions (for the ghosts).
    pub(crate) fn new(plan: &Plan, pattern: &str, decisions: &Decisions) -> Self {
        let ghosts = &decisions.possible;
        let mut index: HashMap<&str, usize> = HashMap::new();
        for id in plan.items.iter().map(|item| item.id.as_str()).chain(ghosts.iter().map(|g| g.id.as_str())) {
            let next = index.len();
            index.entry(id).or_insert(next);
        }
        let mut nodes: Vec<Node> = plan.items.iter().map(planned).collect();
        let mut edges = BTreeMap::new();
        for (to, item) in plan.items.iter().enumerate() {
            let handed: BTreeSet<&str> = item.needs.values().map(|need| need.from.as_str()).collect();
            let sources = item.depends_on.iter().map(|id| id.as_str()).chain(handed.iter().copied());
            for id in sources {
                if let Some(from) = index.get(id) {
                    edges.insert((*from, to), (false, handed.contains(id)));
                }
            }
        }
        for ghost in ghosts {
            // A ghost with the id of a planned item, or named twice, is drawn once.
            if index[ghost.id.as_str()] != nodes.len() {
                continue;
            }
            let to = nodes.len();
            nodes.push(Node {
                id: one_line(&ghost.id),
                possible: true,
                role: None,
                why: one_line(&ghost.why),
                holds: false,
                level: 0,
            });
            for from in ghost.after.iter().filter_map(|id| index.get(id.as_str())) {
                edges.entry((*from, to)).or_insert((true, false));
            }
        }
        let edges: Vec<Edge> = edges
            .into_iter()
            .filter(|((from, to), _)| from != to && *from < nodes.len())
            .map(|((from, to), (possible, hands_over))| Edge { from, to, possible, hands_over })
            .collect();
        level(&mut nodes, &edges);
        Self {
            run: plan.id.to_string(),
            queue: plan.queue.to_string(),
            pattern: pattern.to_owned(),
            nodes,
            edges,
        }
    }

    /// Ids that a node waits for.
    fn sources(&self, node: usize) -> impl Iterator<Item = &Node> {
        self.edges.iter().filter(move |edge| edge.to == node).map(|edge| &self.nodes[edge.from])
    }
}

fn planned(item: &PlanItem) -> Node {
    let roles = [("gate", "gate"), ("mapReduce", "splitter"), ("quorum", "quorum")];
    let role = roles.into_iter().find(|(key, _)| item.inputs.contains_key(*key)).map(|(_, role)| role);
    let holds = item.hold_on_red;
    Node { id: item.id.to_string(), possible: false, role, why: String::new(), holds, level: 0 }
}

/// Longest path from the start. A cycle (only ghosts could make one) leaves its members at the level reached so far.
fn level(nodes: &mut [Node], edges: &[Edge]) {
    let mut unmet = vec![0_usize; nodes.len()];
    let mut next: Vec<Vec<usize>> = vec![Vec::new(); nodes.len()];
    for edge in edges {
        unmet[edge.to] += 1;
        next[edge.from].push(edge.to);
    }
    let mut open: Vec<usize> = (0..nodes.len()).filter(|node| unmet[*node] == 0).collect();
    while let Some(node) = open.pop() {
        for to in std::mem::take(&mut next[node]) {
            nodes[to].level = nodes[to].level.max(nodes[node].level + 1);
            unmet[to] -= 1;
            if unmet[to] == 0 {
                open.push(to);
            }
        }
    }
}
