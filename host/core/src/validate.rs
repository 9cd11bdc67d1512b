//! From the bytes of a plan to a [`Plan`], or to everything that is wrong with them.
//!
//! All findings come at once, each with a JSON pointer (RFC 6901), a stable code and, where one is known, a hint. The
//! bytes may be hostile: size, depth, number of values and length of strings are bounded, and the time is linear.
//!
//! Not here: what needs the registry or the file system (subagents, capabilities, images), and anything about a run
//! that exists already, except when items are added to it ([`parse_items`]).

mod cross;
mod fields;
pub(crate) mod graph;
mod hint;
mod item;
mod json;
mod report;

use std::collections::BTreeSet;

use serde_json::Value;

pub use report::{FINDINGS_MAX, Finding, Severity};

use crate::{
    ids::{QueueName, RunId},
    plan::{Plan, PlanItem},
    state::RunState,
};
use fields::Object;
use report::{Pointer, Report};

/// Largest plan in bytes.
pub const PLAN_BYTES_MAX: usize = 64 << 20;

/// Deepest nesting of arrays and objects.
pub const DEPTH_MAX: u32 = 64;

/// Most JSON values in a plan: what bounds the memory that hostile bytes can take.
pub const VALUES_MAX: u32 = 4_000_000;

/// Longest string in bytes.
pub const STRING_BYTES_MAX: usize = 1 << 20;

/// Longest lock key, file key, path, executor, image or model in bytes.
pub const NAME_BYTES_MAX: usize = 1_024;

/// Largest `maxAttempts`.
pub const ATTEMPTS_MAX: u32 = 100;

/// What the deployment knows; `None` means that this is not known and not checked.
#[derive(Debug, Clone)]
pub struct PlanContext {
    /// Configured queues.
    pub queues: Option<BTreeSet<String>>,
    /// Configured executors.
    pub executors: Option<BTreeSet<String>>,
    /// Most items in a plan.
    pub items_max: usize,
    /// Known subagent shapes.
    pub shapes: Option<BTreeSet<String>>,
}

impl Default for PlanContext {
    fn default() -> Self {
        Self { queues: None, executors: None, items_max: 100_000, shapes: None }
    }
}

/// A plan that can be run.
#[derive(Debug, Clone, PartialEq)]
pub struct ParsedPlan {
    /// Normalised: `depends_on` includes every `needs[*].from` and names nothing twice.
    pub plan: Plan,
    /// Findings that do not prevent a run.
    pub warnings: Vec<Finding>,
}

/// Items that can be added to a run.
#[derive(Debug, Clone, PartialEq)]
pub struct ParsedItems {
    /// Normalised like those of a plan.
    pub items: Vec<PlanItem>,
    /// Findings that do not prevent adding them.
    pub warnings: Vec<Finding>,
}

/// The key of `inputs` that `key` was probably meant to be: a slip there could silently drop a gate.
#[must_use]
pub fn meant_input(key: &str) -> Option<&'static str> {
    if item::INPUT_KEYS.contains(&key) {
        return None;
    }
    hint::Budget::default().closest(key, item::INPUT_KEYS.iter().copied())
}

/// Reads a plan.
///
/// # Errors
/// Every finding, warnings included, when at least one is an error.
pub fn parse_plan(bytes: &[u8], context: &PlanContext) -> Result<ParsedPlan, Vec<Finding>> {
    let mut report = Report::default();
    let plan = json::parse(bytes, &mut report).and_then(|value| read_plan(value, context, &mut report));
    let (failed, findings) = report.finish();
    match plan {
        Some(plan) if !failed => Ok(ParsedPlan { plan, warnings: findings }),
        _ => Err(findings),
    }
}

/// Reads the JSON array of items that a `run.extended` adds to `run`. They may depend on items of the run.
///
/// # Errors
/// Every finding, warnings included, when at least one is an error.
pub fn parse_items(bytes: &[u8], run: &RunState, context: &PlanContext) -> Result<ParsedItems, Vec<Finding>> {
    let mut report = Report::default();
    let root = Pointer::Root;
    let items = json::parse(bytes, &mut report).and_then(|value| {
        let Value::Array(values) = value else {
            report.wrong_type(&root, "an array of items", &value);
            return None;
        };
        let room = context.items_max.saturating_sub(run.item_count());
        Some(read_items(values, &root, room, Some(run), context, &mut report))
    });
    let (failed, findings) = report.finish();
    match items {
        Some(items) if !failed => Ok(ParsedItems { items, warnings: findings }),
        _ => Err(findings),
    }
}

fn read_plan(value: Value, context: &PlanContext, report: &mut Report) -> Option<Plan> {
    let root = Pointer::Root;
    let mut object = Object::take(value, &root, report)?;
    let id = object.required("id", report).and_then(|(at, value)| fields::id(value, &at, report, RunId::new));
    let queue = object.required("queue", report).and_then(|(at, value)| {
        let queue = fields::id(value, &at, report, QueueName::new)?;
        if let Some(known) = &context.queues
            && !known.contains(queue.as_str())
        {
            let hint = report.did_you_mean(queue.as_str(), known.iter().map(String::as_str));
            let hint = hint.or_else(|| Some(fields::list("configured queues", known)));
            report.error(
                &at,
                "unknown-queue",
                format!("queue {queue:?} is not configured", queue = queue.as_str()),
                hint,
            );
        }
        Some(queue)
    });
    let open_ended = object.optional("openEnded").is_some_and(|(at, value)| match value {
        Value::Bool(open) => open,
        other => {
            report.wrong_type(&at, "true or false", &other);
            false
        }
    });
    let items = object.required("items", report).and_then(|(at, value)| {
        let Value::Array(values) = value else {
            report.wrong_type(&at, "an array of items", &value);
            return None;
        };
        if values.is_empty() && !open_ended {
            let hint = "add at least one item, or set \"openEnded\": true to add items later";
            report.error(&at, "empty-plan", "the plan has no items".to_owned(), Some(hint.to_owned()));
        }
        Some(read_items(values, &at, context.items_max, None, context, report))
    });
    object.finish(&["id", "queue", "items", "openEnded"], report);
    Some(Plan { id: id?, queue: queue?, items: items?, open_ended })
}

fn read_items(
    values: Vec<Value>,
    at: &Pointer<'_>,
    items_max: usize,
    run: Option<&RunState>,
    context: &PlanContext,
    report: &mut Report,
) -> Vec<PlanItem> {
    if values.len() > items_max {
        let text = format!("{} items, at most {items_max} are allowed", values.len());
        report.error(at, "too-many-items", text, Some("split the work into several plans".to_owned()));
        return Vec::new();
    }
    let mut drafts = Vec::with_capacity(values.len());
    for (position, value) in values.into_iter().enumerate() {
        drafts.push(item::read(value, &Pointer::Index(at, position), context, report));
    }
    cross::check(&mut drafts, at, run, report);
    drafts.into_iter().flatten().map(|draft| draft.item).collect()
}
