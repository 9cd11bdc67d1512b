//! Limits: wishes of a manifest, caps of a project or operator. What applies is the smallest.

use serde::Serialize;
use serde_json::Value;

use crate::finding::{Node, Walk, shown};

/// Bounds that a manifest wishes or a policy caps. Absent means: no word about it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LimitSet {
    /// Instructions: fixed part.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fuel_base: Option<u64>,
    /// Instructions per item.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fuel_per_item: Option<u64>,
    /// Linear memory in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_bytes: Option<u64>,
    /// Wall time of one call in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wall_ms: Option<u64>,
}

/// Numbers must survive canonical JSON.
const MAX: u64 = pangolin_audit::canon::INTEGER_MAX;

fn scaled(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().ok()?;
    let factor = units.iter().find(|(name, _)| *name == unit)?.1;
    number.checked_mul(factor).filter(|value| (1..=MAX).contains(value))
}

const COUNT: [(&str, u64); 4] = [("", 1), ("k", 1_000), ("M", 1_000_000), ("G", 1_000_000_000)];
const BYTES: [(&str, u64); 3] = [("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30)];
const TIME: [(&str, u64); 2] = [("ms", 1), ("s", 1_000)];

impl LimitSet {
    pub(crate) const KEYS: [&'static str; 3] = ["fuel", "memory", "wall"];

    /// Reads `{ fuel = "base=2M, per-item=5k", memory = "32MiB", wall = "5s" }`.
    pub(crate) fn read(walk: &mut Walk, node: &Node<'_>) -> Self {
        let mut set = Self::default();
        if walk.table(node, &Self::KEYS).is_none() {
            return set;
        }
        if let Some(node) = Walk::child(node, "fuel")
            && let Some(text) = walk.text(&node)
        {
            for part in text.split(',') {
                let (key, value) = part.trim().split_once('=').unwrap_or(("", part));
                let place = match key {
                    "base" => &mut set.fuel_base,
                    "per-item" => &mut set.fuel_per_item,
                    _ => {
                        walk.report(&node.at, format!("{} is not \"base=2M, per-item=5k\"", shown(text)));
                        break;
                    }
                };
                match scaled(value, &COUNT) {
                    Some(value) if place.is_none() => *place = Some(value),
                    _ => walk.report(
                        &node.at,
                        format!("{} is not one number above 0, with k, M or G", shown(part.trim())),
                    ),
                }
            }
        }
        if let Some(node) = Walk::child(node, "memory") {
            set.memory_bytes = Self::bytes(walk, &node);
        }
        if let Some(node) = Walk::child(node, "wall") {
            set.wall_ms = Self::one(walk, &node, &TIME, "5s (units ms, s)");
        }
        set
    }

    /// A size like `32MiB`.
    pub(crate) fn bytes(walk: &mut Walk, node: &Node<'_>) -> Option<u64> {
        Self::one(walk, node, &BYTES, "32MiB (units KiB, MiB, GiB)")
    }

    fn one(walk: &mut Walk, node: &Node<'_>, units: &[(&str, u64)], expected: &str) -> Option<u64> {
        let text = walk.text(node)?;
        let value = scaled(text, units);
        if value.is_none() {
            walk.report(&node.at, format!("{} is not a value like {expected}", shown(text)));
        }
        value
    }

    /// Reads the form that [`Serialize`] writes.
    pub(crate) fn read_numbers(walk: &mut Walk, node: &Node<'_>) -> Self {
        let mut set = Self::default();
        if walk.table(node, &["fuelBase", "fuelPerItem", "memoryBytes", "wallMs"]).is_none() {
            return set;
        }
        let mut number = |key: &str| {
            let node = Walk::child(node, key)?;
            let value = node.value.as_u64().filter(|value| (1..=MAX).contains(value));
            if value.is_none() {
                walk.report(&node.at, "must be a whole number above 0");
            }
            value
        };
        set.fuel_base = number("fuelBase");
        set.fuel_per_item = number("fuelPerItem");
        set.memory_bytes = number("memoryBytes");
        set.wall_ms = number("wallMs");
        set
    }

    /// The smaller of each; an absent one has no say.
    #[must_use]
    pub fn min(self, other: Self) -> Self {
        let min = |left: Option<u64>, right: Option<u64>| match (left, right) {
            (Some(left), Some(right)) => Some(left.min(right)),
            (one, None) | (None, one) => one,
        };
        Self {
            fuel_base: min(self.fuel_base, other.fuel_base),
            fuel_per_item: min(self.fuel_per_item, other.fuel_per_item),
            memory_bytes: min(self.memory_bytes, other.memory_bytes),
            wall_ms: min(self.wall_ms, other.wall_ms),
        }
    }

    /// Each with its key, in the order of the fields.
    #[must_use]
    pub fn values(&self) -> [(&'static str, Option<u64>); 4] {
        [
            ("fuel base", self.fuel_base),
            ("fuel per item", self.fuel_per_item),
            ("memory bytes", self.memory_bytes),
            ("wall ms", self.wall_ms),
        ]
    }

    /// No word about anything.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    pub(crate) fn to_value(self) -> Option<Value> {
        if self.is_empty() { None } else { serde_json::to_value(self).ok() }
    }
}
