//! From what a step decided to items that may be added: the engine's own rules on top of the pattern's.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde_json::Value;
use thiserror::Error;

use super::{Decisions, ItemPhase, RunView, SpawnItem};
use crate::{
    ids::ItemId,
    outputs::escaped_len,
    plan::PlanItem,
    state::{RunState, Violation},
    validate::{Finding, PlanContext, Severity, parse_items},
};

/// Most bytes of ids, successors and explanation in one `run.extended`, far below the limit of an entry.
const IDS_BYTES_MAX: usize = 40_000;

/// Most bytes of an explanation in a `run.extended`; the whole text is in the decisions.
const WHY_BYTES_MAX: usize = 8_000;

/// Why the decisions of a step are not taken. Deterministic: asking again would not help.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Unfit {
    /// The run would get too large.
    #[error("the run would have {items} items, at most {max} are allowed")]
    TooMany {
        /// Items with the added ones.
        items: usize,
        /// The cap.
        max: usize,
    },
    /// An id is taken by another item.
    #[error("item {0} exists already and is different; a pattern must use new ids")]
    Taken(ItemId),
    /// The items would be refused in a plan as well.
    #[error("{}", findings(.0))]
    Invalid(Vec<Finding>),
    /// An item cannot be superseded.
    #[error("item {item}: {violation}")]
    Supersedes {
        /// The old item.
        item: ItemId,
        /// The rule.
        violation: Violation,
    },
    /// An item cannot be tolerated.
    #[error("item {item}: {violation}")]
    Tolerates {
        /// The item.
        item: ItemId,
        /// The rule.
        violation: Violation,
    },
    /// One step says two things about an item.
    #[error(
        "item {0} is superseded and tolerated in the same step; its successor is judged, so leave out the other"
    )]
    Both(ItemId),
}

impl Unfit {
    /// Code for the record, of the plugin host's vocabulary.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::TooMany { .. } => "output-limit",
            Self::Taken(_)
            | Self::Invalid(_)
            | Self::Supersedes { .. }
            | Self::Tolerates { .. }
            | Self::Both(_) => "refused",
        }
    }
}

fn findings(findings: &[Finding]) -> String {
    let text: Vec<String> = findings
        .iter()
        .filter(|finding| finding.severity == Severity::Error)
        .map(|finding| format!("{}: {}", finding.pointer, finding.message))
        .collect();
    format!("the added items are not valid: {}", text.join("; "))
}

/// The content of one `run.extended`.
#[derive(Debug, Clone, PartialEq)]
pub struct Addition {
    /// New items; what they depend on is in the run, in an earlier addition or in this one.
    pub items: Vec<PlanItem>,
    /// New item → ended item.
    pub supersedes: BTreeMap<ItemId, ItemId>,
    /// Why, in the pattern's words.
    pub explanation: String,
}

/// Checks what a step decided against the run and cuts it into additions that fit into entries. An item that is in the
/// run already, exactly like this, is left out.
///
/// # Errors
/// [`Unfit`]; nothing of the step may be taken then.
pub fn additions(
    decisions: &Decisions,
    run: &RunState,
    context: &PlanContext,
) -> Result<Vec<Addition>, Unfit> {
    let mut fresh = Vec::with_capacity(decisions.spawned.len());
    for spec in &decisions.spawned {
        match run.item(&spec.id) {
            None => fresh.push(spec),
            Some(there) => {
                let same = normalised(&spec.item.to_json()).as_ref() == Some(there.plan)
                    && spec.supersedes.as_ref().is_none_or(|old| run.successor(old) == Some(&spec.id));
                if !same {
                    return Err(Unfit::Taken(spec.id.clone()));
                }
            }
        }
    }
    if fresh.is_empty() {
        return Ok(Vec::new());
    }
    let items = run.item_count() + fresh.len();
    if items > context.items_max {
        return Err(Unfit::TooMany { items, max: context.items_max });
    }
    let values: Vec<&SpawnItem> = fresh.iter().map(|spec| &spec.item).collect();
    let bytes = serde_json::to_vec(&values).unwrap_or_default();
    let parsed = parse_items(&bytes, run, context).map_err(Unfit::Invalid)?.items;
    let supersedes: BTreeMap<ItemId, ItemId> =
        fresh.iter().filter_map(|spec| Some((spec.id.clone(), spec.supersedes.clone()?))).collect();
    run.check_supersedes(&supersedes).map_err(|(item, violation)| Unfit::Supersedes { item, violation })?;
    Ok(split(in_order(parsed), supersedes, decisions))
}

/// Cuts the items of a producer, which were checked, into additions that fit into entries, dependencies first.
#[must_use]
pub fn produced(items: Vec<PlanItem>) -> Vec<Addition> {
    if items.is_empty() { Vec::new() } else { split(in_order(items), BTreeMap::new(), &Decisions::default()) }
}

/// The item that an addition of a step is said to follow from: one that ended in the step and that one of the new items
/// waits for, else any that ended. `None` when nothing did, e.g. after the close of a producer.
#[must_use]
pub fn cause(view: &RunView, items: &[PlanItem]) -> Option<ItemId> {
    let ended = |index: &u32| {
        let item = view.items().get(*index as usize)?;
        matches!(item.phase, ItemPhase::Succeeded | ItemPhase::Unsuccessful).then(|| item.id())
    };
    let waited = items
        .iter()
        .take(16)
        .flat_map(|item| &item.depends_on)
        .filter_map(|id| view.find(id.as_str()))
        .find(|index| view.changed.binary_search(index).is_ok() && ended(index).is_some());
    waited.as_ref().and_then(ended).or_else(|| view.changed.iter().find_map(ended)).cloned()
}

/// An item as validation makes it, without validating it: to compare it with one that is there.
#[must_use]
pub fn normalised(item: &serde_json::Map<String, Value>) -> Option<PlanItem> {
    let mut item: PlanItem = serde_json::from_value(Value::Object(item.clone())).ok()?;
    item.depends_on.extend(item.needs.values().map(|need| need.from.clone()));
    let mut seen = BTreeSet::new();
    item.depends_on.retain(|id| seen.insert(id.clone()));
    Some(item)
}

/// Dependencies first, else as they came. There is no cycle: that was checked.
fn in_order(items: Vec<PlanItem>) -> Vec<PlanItem> {
    let index: HashMap<&ItemId, usize> = items.iter().map(|item| &item.id).zip(0..).collect();
    let sorted = items
        .iter()
        .enumerate()
        .all(|(here, item)| item.depends_on.iter().all(|id| index.get(id).is_none_or(|there| *there < here)));
    if sorted {
        return items;
    }
    let mut unmet: Vec<usize> = Vec::with_capacity(items.len());
    let mut dependents: Vec<Vec<usize>> = vec![Vec::new(); items.len()];
    for (here, item) in items.iter().enumerate() {
        let fresh: Vec<usize> = item.depends_on.iter().filter_map(|id| index.get(id).copied()).collect();
        unmet.push(fresh.len());
        for there in fresh {
            dependents[there].push(here);
        }
    }
    let mut ready: BTreeSet<usize> = (0..items.len()).filter(|here| unmet[*here] == 0).collect();
    let mut order = Vec::with_capacity(items.len());
    while let Some(here) = ready.pop_first() {
        order.push(here);
        for dependent in &dependents[here] {
            unmet[*dependent] -= 1;
            if unmet[*dependent] == 0 {
                ready.insert(*dependent);
            }
        }
    }
    let mut items: Vec<Option<PlanItem>> = items.into_iter().map(Some).collect();
    order.into_iter().filter_map(|here| items[here].take()).collect()
}

fn split(
    items: Vec<PlanItem>,
    mut supersedes: BTreeMap<ItemId, ItemId>,
    decisions: &Decisions,
) -> Vec<Addition> {
    let mut why: HashMap<&str, Vec<&str>> = HashMap::new();
    for explanation in &decisions.explanations {
        why.entry(&explanation.item).or_default().push(&explanation.why);
    }
    let mut additions = Vec::new();
    let mut now = Addition { items: Vec::new(), supersedes: BTreeMap::new(), explanation: String::new() };
    let mut bytes = 0;
    for item in items {
        let old = supersedes.remove_entry(&item.id);
        // Quotes, comma and colon on top; an id has no character that would be escaped.
        let cost = item.id.as_str().len()
            + 3
            + old.as_ref().map_or(0, |(new, old)| new.as_str().len() + old.as_str().len() + 6);
        if bytes + cost > IDS_BYTES_MAX && !now.items.is_empty() {
            additions.push(std::mem::replace(
                &mut now,
                Addition { items: Vec::new(), supersedes: BTreeMap::new(), explanation: String::new() },
            ));
            bytes = 0;
        }
        bytes += cost;
        now.supersedes.extend(old);
        now.items.push(item);
    }
    additions.push(now);
    for addition in &mut additions {
        addition.explanation = explain(&addition.items, &why);
    }
    additions
}

/// `item: why` for each; the bare reason when it is one and the same for all.
fn explain(items: &[PlanItem], why: &HashMap<&str, Vec<&str>>) -> String {
    let reasons: Vec<(&str, String)> = items
        .iter()
        .filter_map(|item| Some((item.id.as_str(), why.get(item.id.as_str())?.join("; "))))
        .collect();
    let text = match reasons.first() {
        None => return String::new(),
        Some((_, first)) if reasons.len() == items.len() && reasons.iter().all(|(_, why)| why == first) => {
            first.clone()
        }
        Some(_) => {
            let lines: Vec<String> = reasons.iter().map(|(item, why)| format!("{item}: {why}")).collect();
            lines.join("\n")
        }
    };
    shortened(text)
}

/// Short enough for an entry.
pub(super) fn shortened(mut text: String) -> String {
    if escaped_len(&text) > WHY_BYTES_MAX {
        let mut end = text.len().min(WHY_BYTES_MAX);
        while escaped_len(&text[..text.floor_char_boundary(end)]) > WHY_BYTES_MAX {
            end /= 2;
        }
        text.truncate(text.floor_char_boundary(end));
        text.push('…');
    }
    text
}
