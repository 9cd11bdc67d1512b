//! What a planner's answer makes of the submitted plan. One function for the engine, which stores the result as
//! `graph`, and for the verifier, which makes it again from the plan and the recorded step 0.

use std::collections::{BTreeSet, HashMap};

use serde_json::{Map, Value};
use thiserror::Error;

use super::Decisions;
use crate::ids::ItemId;

/// Largest integer that canonical JSON carries exactly: 2^53 − 1.
const INTEGER_MAX: u64 = (1 << 53) - 1;

/// Why decisions of a planner do not fit the plan.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum AmendError {
    /// The plan is not an object with an array of items that have ids.
    #[error("the plan has no list of items with ids at {pointer}; validate it first")]
    Plan {
        /// JSON pointer.
        pointer: String,
    },
    /// An item that is ordered or held is not in the submitted plan.
    #[error("{what} names item {item}, which is not in the submitted plan")]
    Unknown {
        /// The decision.
        what: &'static str,
        /// The item.
        item: ItemId,
    },
    /// An added item has an id that is taken.
    #[error("item {0} is added, but its id is taken")]
    Taken(ItemId),
    /// The document of an added item has another id.
    #[error("item {0} is added with a document of another id")]
    OtherId(ItemId),
    /// Nothing has ended yet, so nothing can be superseded.
    #[error("item {0} supersedes another one, but at admission no item has ended")]
    Supersedes(ItemId),
    /// Nothing has ended yet, so nothing can be tolerated.
    #[error("item {0} is tolerated, but at admission no item has ended")]
    Tolerates(ItemId),
    /// The planner refused the plan, so there is no amended one.
    #[error("the planner has {0} findings; a plan with findings is rejected")]
    Findings(usize),
    /// The amended plan is stored as canonical JSON, which would change this number.
    #[error("the integer at {pointer} is beyond 2^53-1 and cannot be kept exactly; write it as text")]
    Integer {
        /// JSON pointer into the amended plan.
        pointer: String,
    },
}

impl Decisions {
    /// Whether a planner's answer changes the plan. Only then a run has a `graph`.
    #[must_use]
    pub fn amends_plan(&self) -> bool {
        !(self.spawned.is_empty() && self.ordered.is_empty() && self.held.is_empty())
    }
}

/// The plan as the planner amended it: added items at the end in the order in which they were added, `order-after` as
/// a further entry of `depends_on`, `hold-on-red` as `holdOnRed`. Everything else stays as submitted. The canonical
/// JSON (RFC 8785) of the result is the `graph` of the run; validate it like a plan, it may have a cycle.
///
/// # Errors
/// Everything that does not fit.
pub fn apply_plan_decisions(mut plan: Value, decisions: &Decisions) -> Result<Value, Vec<AmendError>> {
    let mut errors = Vec::new();
    if !decisions.findings.is_empty() {
        errors.push(AmendError::Findings(decisions.findings.len()));
    }
    let tolerated = decisions.tolerated.iter().flat_map(|tolerated| &tolerated.items);
    errors.extend(tolerated.map(|item| AmendError::Tolerates(item.clone())));
    let Some(items) = plan.get_mut("items").and_then(Value::as_array_mut) else {
        return Err(vec![AmendError::Plan { pointer: "/items".to_owned() }]);
    };
    let index = match index(items) {
        Ok(index) => index,
        Err(error) => return Err(vec![error]),
    };
    let mut known = |what: &'static str, item: &ItemId| {
        let position = index.get(item.as_str()).copied();
        if position.is_none() {
            errors.push(AmendError::Unknown { what, item: item.clone() });
        }
        position
    };
    for ordering in &decisions.ordered {
        let (item, after) = (known("order-after", &ordering.item), known("order-after", &ordering.after));
        if let (Some(item), Some(_)) = (item, after) {
            wait_for(&mut items[item], ordering.after.as_str());
        }
    }
    for item in &decisions.held {
        if let Some(Value::Object(item)) = known("hold-on-red", item).map(|item| &mut items[item]) {
            item.insert("holdOnRed".to_owned(), Value::Bool(true));
        }
    }
    let mut taken: BTreeSet<&str> = BTreeSet::new();
    for spec in &decisions.spawned {
        let id = spec.id.as_str();
        if index.contains_key(id) || !taken.insert(id) {
            errors.push(AmendError::Taken(spec.id.clone()));
        }
        if spec.item.member("id").and_then(Value::as_str) != Some(id) {
            errors.push(AmendError::OtherId(spec.id.clone()));
        }
        if spec.supersedes.is_some() {
            errors.push(AmendError::Supersedes(spec.id.clone()));
        }
        items.push(Value::Object(spec.item.to_json()));
    }
    if decisions.amends_plan() {
        inexact(&plan, &mut String::new(), &mut errors);
    }
    if errors.is_empty() { Ok(plan) } else { Err(errors) }
}

fn index(items: &[Value]) -> Result<HashMap<String, usize>, AmendError> {
    let mut index = HashMap::with_capacity(items.len());
    for (position, item) in items.iter().enumerate() {
        let Some(id) = item.get("id").and_then(Value::as_str) else {
            return Err(AmendError::Plan { pointer: format!("/items/{position}/id") });
        };
        index.insert(id.to_owned(), position);
    }
    Ok(index)
}

/// An edge that is there already is not added again.
fn wait_for(item: &mut Value, after: &str) {
    let Value::Object(item) = item else { return };
    let depends_on = item.entry("depends_on").or_insert_with(|| Value::Array(Vec::new()));
    if let Value::Array(depends_on) = depends_on
        && !depends_on.iter().any(|known| known.as_str() == Some(after))
    {
        depends_on.push(Value::String(after.to_owned()));
    }
}

/// Integers that canonical JSON would change.
fn inexact(value: &Value, pointer: &mut String, errors: &mut Vec<AmendError>) {
    let mut inside = |key: &str, value: &Value| {
        let length = pointer.len();
        pointer.push('/');
        pointer.push_str(&key.replace('~', "~0").replace('/', "~1"));
        inexact(value, pointer, errors);
        pointer.truncate(length);
    };
    match value {
        Value::Number(number) => {
            let integer =
                number.as_u64().or_else(|| number.as_i64().map(i64::unsigned_abs)).unwrap_or_default();
            if integer > INTEGER_MAX {
                errors.push(AmendError::Integer { pointer: pointer.clone() });
            }
        }
        Value::Array(values) => {
            for (position, value) in values.iter().enumerate() {
                if is_worth_a_look(value) {
                    inside(&position.to_string(), value);
                }
            }
        }
        Value::Object(members) => visit(members, &mut inside),
        Value::Null | Value::Bool(_) | Value::String(_) => (),
    }
}

fn visit(members: &Map<String, Value>, inside: &mut impl FnMut(&str, &Value)) {
    for (key, value) in members {
        if is_worth_a_look(value) {
            inside(key, value);
        }
    }
}

const fn is_worth_a_look(value: &Value) -> bool {
    matches!(value, Value::Number(_) | Value::Array(_) | Value::Object(_))
}
