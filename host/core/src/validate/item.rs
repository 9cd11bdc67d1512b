//! One item of a plan.

use std::collections::{BTreeMap, HashSet};

use serde_json::{Map, Value};

use super::{
    ATTEMPTS_MAX, PlanContext,
    fields::{self, Object},
    report::{Pointer, Report},
};
use crate::{
    ids::ItemId,
    plan::{Need, PlanItem, Select},
};

const KNOWN: &[&str] = &[
    "id",
    "executor",
    "inputs",
    "depends_on",
    "resourceLocks",
    "subagentShape",
    "needs",
    "maxAttempts",
    "timeoutSeconds",
    "priority",
    "image",
    "model",
    "budgetUsd",
    "holdOnRed",
    "env",
];

/// An item as far as it could be read, for checks against the others.
pub(super) struct Draft {
    pub(super) item: PlanItem,
    /// Position in the array of each entry of `depends_on` that is an id.
    pub(super) depends_at: Vec<usize>,
}

/// Reads an item. `None` only when it has no usable id; everything else is noted and left out.
pub(super) fn read(
    value: Value,
    at: &Pointer<'_>,
    context: &PlanContext,
    report: &mut Report,
) -> Option<Draft> {
    let mut object = Object::take(value, at, report)?;
    let id =
        object.required("id", report).and_then(|(at, value)| fields::id(value, &at, report, ItemId::new));
    let executor = object.required("executor", report).and_then(|(at, value)| {
        let name = fields::name(value, &at, report)?;
        if let Some(known) = &context.executors
            && !known.contains(&name)
        {
            let hint = report.did_you_mean(&name, known.iter().map(String::as_str));
            let hint = hint.or_else(|| Some(fields::list("configured executors", known)));
            report.error(&at, "unknown-executor", format!("executor {name:?} is not configured"), hint);
        }
        Some(name)
    });
    let inputs =
        object.required("inputs", report).map(|(at, value)| inputs(value, &at, report)).unwrap_or_default();
    let mut depends_on = Vec::new();
    let mut depends_at = Vec::new();
    if let Some((at, value)) = object.required("depends_on", report) {
        for (position, value) in
            fields::array(value, &at, "an array of item ids", report).into_iter().enumerate()
        {
            if let Some(id) = fields::id(value, &Pointer::Index(&at, position), report, ItemId::new) {
                depends_on.push(id);
                depends_at.push(position);
            }
        }
    }
    let resource_locks = object
        .required("resourceLocks", report)
        .map(|(at, value)| locks(value, &at, report))
        .unwrap_or_default();
    let subagent_shape = object.optional("subagentShape").and_then(|(at, value)| {
        let shape = fields::name(value, &at, report)?;
        if let Some(known) = &context.shapes
            && !known.contains(&shape)
        {
            let hint = report.did_you_mean(&shape, known.iter().map(String::as_str));
            report.error(&at, "unknown-shape", format!("subagent shape {shape:?} is not known"), hint);
        }
        Some(shape)
    });
    let needs = object.optional("needs").map(|(at, value)| needs(value, &at, report)).unwrap_or_default();
    let mut whole = |key: &'static str, low: i64, high: i64, report: &mut Report| {
        let (at, value) = object.optional(key)?;
        fields::integer(&value, &at, report, low, high)
    };
    let max_attempts = whole("maxAttempts", 1, i64::from(ATTEMPTS_MAX), report);
    let timeout_seconds = whole("timeoutSeconds", 1, i64::from(u32::MAX), report);
    let priority = whole("priority", i64::from(i32::MIN), i64::from(i32::MAX), report);
    let image = object.optional("image").and_then(|(at, value)| fields::name(value, &at, report));
    let model = object.optional("model").and_then(|(at, value)| fields::name(value, &at, report));
    let budget_usd = object.optional("budgetUsd").and_then(|(at, value)| {
        let Some(budget) = value.as_f64() else {
            report.wrong_type(&at, "a number", &value);
            return None;
        };
        if !budget.is_finite() || budget < 0.0 {
            report.error(&at, "out-of-range", format!("{budget} is not an amount of money"), None);
        }
        Some(budget)
    });
    let hold_on_red = object.optional("holdOnRed").is_some_and(|(at, value)| match value {
        Value::Bool(hold) => hold,
        other => {
            report.wrong_type(&at, "true or false", &other);
            false
        }
    });
    let env =
        object.optional("env").map(|(at, value)| fields::environment(value, &at, report)).unwrap_or_default();
    object.finish(KNOWN, report);
    let item = PlanItem {
        id: id?,
        executor: executor.unwrap_or_default(),
        inputs,
        depends_on,
        resource_locks,
        subagent_shape,
        needs,
        max_attempts: max_attempts.and_then(|number| u32::try_from(number).ok()),
        timeout_seconds: timeout_seconds.and_then(|number| u32::try_from(number).ok()),
        priority: priority.and_then(|number| i32::try_from(number).ok()),
        image,
        model,
        budget_usd,
        hold_on_red,
        env,
    };
    Some(Draft { item, depends_at })
}

/// Keys of `inputs` that mean something to Pangolin or its patterns.
pub(super) const INPUT_KEYS: [&str; 11] = [
    "subagent",
    "workerInput",
    "env",
    "capabilities",
    "addCapabilities",
    "pipeline",
    "gate",
    "mapReduce",
    "quorum",
    "approverRole",
    "onBehalfOf",
];

/// The reserved keys of `inputs`; all others belong to the executor.
fn inputs(value: Value, at: &Pointer<'_>, report: &mut Report) -> Map<String, Value> {
    let Value::Object(map) = value else {
        report.wrong_type(at, "an object", &value);
        return Map::new();
    };
    let is_strings =
        |value: &Value| value.as_array().is_some_and(|values| values.iter().all(Value::is_string));
    for (key, value) in &map {
        let at = Pointer::Key(at, key);
        match key.as_str() {
            "env" if !value.is_string() && !is_strings(value) => {
                report.wrong_type(&at, "a string or an array of strings (names of env bundles)", value);
            }
            "capabilities" | "addCapabilities" if !is_strings(value) => {
                report.wrong_type(&at, "an array of strings (names of capabilities)", value);
            }
            "subagent" | "pipeline" if value.as_str().is_none_or(str::is_empty) => {
                report.wrong_type(&at, "a string that is not empty", value);
            }
            "workerInput" if !value.is_object() => report.wrong_type(&at, "an object", value),
            known if INPUT_KEYS.contains(&known) => (),
            unknown => {
                let hint = report.did_you_mean(unknown, INPUT_KEYS.iter().copied());
                let hint = hint.unwrap_or_else(|| "data for the agent goes into workerInput".to_owned());
                let text = "the input is not one that the dispatch executor knows".to_owned();
                report.warning(&at, "unknown-input", text, Some(hint));
            }
        }
    }
    if map.contains_key("capabilities") && map.contains_key("addCapabilities") {
        let text =
            "\"capabilities\" replaces the subagent's set and \"addCapabilities\" extends it".to_owned();
        let hint = "keep one of the two".to_owned();
        report.error(&Pointer::Key(at, "addCapabilities"), "contradiction", text, Some(hint));
    }
    map
}

fn locks(value: Value, at: &Pointer<'_>, report: &mut Report) -> Vec<String> {
    let mut seen = HashSet::new();
    let mut locks = Vec::new();
    for (position, value) in fields::array(value, at, "an array of lock keys", report).into_iter().enumerate()
    {
        let at = Pointer::Index(at, position);
        let Some(key) = fields::name(value, &at, report) else { continue };
        if seen.insert(key.clone()) {
            locks.push(key);
        } else {
            let text = format!("lock {key:?} is listed twice");
            report.error(&at, "duplicate-lock", text, Some("remove one".to_owned()));
        }
    }
    locks
}

fn needs(value: Value, at: &Pointer<'_>, report: &mut Report) -> BTreeMap<String, Need> {
    let Value::Object(map) = value else {
        report.wrong_type(at, "an object", &value);
        return BTreeMap::new();
    };
    let mut needs = BTreeMap::new();
    for (key, value) in map {
        let at = Pointer::Key(at, &key);
        if let Some(problem) = fields::unsafe_path(&key) {
            let hint = "use a relative path such as \"data/report.json\"".to_owned();
            report.error(&at, "unsafe-key", format!("the key {problem}"), Some(hint));
        } else if key.starts_with("deps/") {
            let text = "keys below \"deps/\" are used for the patches of the items it depends on".to_owned();
            report.error(&at, "reserved-key", text, Some("choose another folder".to_owned()));
        }
        if let Some(need) = need(value, &at, report) {
            needs.insert(key, need);
        }
    }
    for key in needs.keys() {
        let folder =
            key.match_indices('/').map(|(end, _)| &key[..end]).find(|folder| needs.contains_key(*folder));
        if let Some(folder) = folder {
            let text = format!("{folder:?} is a file already and cannot be a folder too");
            report.error(&Pointer::Key(at, key), "conflicting-key", text, None);
        }
    }
    needs
}

fn need(value: Value, at: &Pointer<'_>, report: &mut Report) -> Option<Need> {
    let mut object = Object::take(value, at, report)?;
    let from =
        object.required("from", report).and_then(|(at, value)| fields::id(value, &at, report, ItemId::new));
    let select = object.required("select", report).and_then(|(at, value)| select(value, &at, report));
    object.finish(&["from", "select"], report);
    // A broken select still depends on its producer, which is checked like every other.
    Some(Need { from: from?, select: select.unwrap_or(Select::Patch) })
}

fn select(value: Value, at: &Pointer<'_>, report: &mut Report) -> Option<Select> {
    let mut object = Object::take(value, at, report)?;
    let (kind_at, kind) = object.required("kind", report)?;
    let kind = fields::string(kind, &kind_at, report)?;
    let (select, known): (_, &[&str]) = match kind.as_str() {
        "patch" => (Some(Select::Patch), &["kind"]),
        "output" => {
            let path = object.required("path", report).and_then(|(at, value)| {
                let path = fields::string(value, &at, report)?;
                if let Some(problem) = fields::unsafe_path(&path) {
                    let hint = "give the path below outputs/".to_owned();
                    report.error(&at, "unsafe-path", format!("the path {problem}"), Some(hint));
                }
                Some(path)
            });
            (path.map(|path| Select::Output { path }), &["kind", "path"])
        }
        other => {
            let mut shown = other.to_owned();
            shown.truncate(shown.floor_char_boundary(100));
            let hint = report.did_you_mean(other, ["patch", "output"].into_iter());
            let hint = hint.or_else(|| Some("use \"patch\" or \"output\"".to_owned()));
            report.error(&kind_at, "unknown-select", format!("cannot select {shown:?}"), hint);
            return None;
        }
    };
    object.finish(known, report);
    select
}
