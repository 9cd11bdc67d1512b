//! Checks between items: duplicate ids, unknown dependencies, cycles. And normalisation.

use std::collections::{HashMap, HashSet};

use super::{
    graph,
    item::Draft,
    report::{Pointer, Report},
};
use crate::{ids::ItemId, state::RunState};

/// Most ids of a cycle in a message.
const CYCLE_IDS_MAX: usize = 1_000;

/// Checks all items against each other, and against `run` when they are added to one. Afterwards `depends_on` of each
/// item includes the producers of its needs and names nothing twice.
pub(super) fn check(
    drafts: &mut [Option<Draft>],
    at: &Pointer<'_>,
    run: Option<&RunState>,
    report: &mut Report,
) {
    let edges = {
        let index = index(drafts, at, run, report);
        edges(drafts, &index, at, run, report)
    };
    for cycle in cycles(&edges) {
        let ids: Vec<&str> = cycle
            .iter()
            .chain(cycle.first())
            .take(CYCLE_IDS_MAX)
            .filter_map(|node| drafts[*node as usize].as_ref())
            .map(|draft| draft.item.id.as_str())
            .collect();
        let more = cycle.len().saturating_sub(CYCLE_IDS_MAX);
        let more = if more > 0 { format!(" … and {more} more") } else { String::new() };
        let first = cycle.first().copied().unwrap_or(0);
        let item = Pointer::Index(at, first as usize);
        let text = format!("dependency cycle: {}{more}", ids.join(" → "));
        let hint = Some("remove one of these dependencies".to_owned());
        report.error(&Pointer::Key(&item, "depends_on"), "dependency-cycle", text, hint);
    }
    for draft in drafts.iter_mut().flatten() {
        let needed: Vec<ItemId> = draft.item.needs.values().map(|need| need.from.clone()).collect();
        draft.item.depends_on.extend(needed);
        if draft.item.depends_on.len() > 1 {
            let mut seen = HashSet::with_capacity(draft.item.depends_on.len());
            draft.item.depends_on.retain(|id| seen.insert(id.clone()));
        }
    }
}

fn cycles(edges: &[Vec<u32>]) -> Vec<Vec<u32>> {
    let deps = |node: u32| edges[node as usize].iter().copied();
    let left = graph::leftover(edges.len(), deps);
    if left.is_empty() { Vec::new() } else { graph::cycles(&left, edges.len(), deps) }
}

fn index<'a>(
    drafts: &'a [Option<Draft>],
    at: &Pointer<'_>,
    run: Option<&RunState>,
    report: &mut Report,
) -> HashMap<&'a ItemId, u32> {
    let mut index = HashMap::with_capacity(drafts.len());
    for (number, draft) in (0_u32..).zip(drafts) {
        let Some(draft) = draft else { continue };
        let id = &draft.item.id;
        let earlier = index.get(id).copied();
        let in_run = run.is_some_and(|run| run.item(id).is_some());
        if earlier.is_none() && !in_run {
            index.insert(id, number);
            continue;
        }
        let owner =
            earlier.map_or_else(|| "an item of the run".to_owned(), |earlier| format!("item {earlier}"));
        let item = Pointer::Index(at, number as usize);
        let text = format!("id {id} is used by {owner} already");
        report.error(
            &Pointer::Key(&item, "id"),
            "duplicate-id",
            text,
            Some("ids are unique in a run".to_owned()),
        );
    }
    index
}

/// Dependencies by position, unknown ones and those on the item itself left out.
fn edges(
    drafts: &[Option<Draft>],
    index: &HashMap<&ItemId, u32>,
    at: &Pointer<'_>,
    run: Option<&RunState>,
    report: &mut Report,
) -> Vec<Vec<u32>> {
    let mut edges = vec![Vec::new(); drafts.len()];
    for (number, draft) in (0_u32..).zip(drafts) {
        let Some(draft) = draft else { continue };
        let item = Pointer::Index(at, number as usize);
        let mut note = |place: &Pointer<'_>, id: &ItemId, report: &mut Report| {
            if *id == draft.item.id {
                report.error(place, "self-dependency", format!("item {id} depends on itself"), None);
            } else if let Some(dep) = index.get(id) {
                edges[number as usize].push(*dep);
            } else if run.is_none_or(|run| run.item(id).is_none()) {
                let known = drafts.iter().flatten().map(|draft| draft.item.id.as_str());
                let known = known.filter(|known| *known != draft.item.id.as_str());
                let hint = report.did_you_mean(id.as_str(), known);
                report.error(place, "unknown-item", format!("there is no item {id}"), hint);
            }
        };
        let list = Pointer::Key(&item, "depends_on");
        for (id, position) in draft.item.depends_on.iter().zip(&draft.depends_at) {
            note(&Pointer::Index(&list, *position), id, report);
        }
        let needs = Pointer::Key(&item, "needs");
        for (key, need) in &draft.item.needs {
            note(&Pointer::Key(&Pointer::Key(&needs, key), "from"), &need.from, report);
        }
    }
    edges
}
