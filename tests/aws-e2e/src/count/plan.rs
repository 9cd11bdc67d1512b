//! What is run.

use serde_json::{Value, json};

/// How items depend on each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// Not at all.
    Flat,
    /// Each on the one ten before.
    Layered,
}

impl Shape {
    /// Name for reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Flat => "flat",
            Self::Layered => "layered",
        }
    }
}

/// Items that run `agent`.
pub(super) fn plan(run: &str, items: usize, shape: Shape, agent: &str) -> Vec<u8> {
    let item = |number: usize| -> Value {
        let after: Vec<String> = match shape {
            Shape::Layered if number >= 10 => vec![format!("item-{}", number - 10)],
            _ => Vec::new(),
        };
        json!({
            "id": format!("item-{number}"), "executor": "dispatch", "inputs": { "subagent": agent },
            "depends_on": after, "resourceLocks": [],
        })
    };
    let items: Vec<Value> = (0..items).map(item).collect();
    json!({ "id": run, "queue": "default", "items": items }).to_string().into_bytes()
}
