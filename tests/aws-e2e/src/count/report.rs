//! Sums and lines.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::{Map, Value, json};

/// What one kind of call took.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Used {
    pub(super) calls: u64,
    pub(super) read_units: f64,
    pub(super) write_units: f64,
}

impl Used {
    pub(super) fn call() -> Self {
        Self { calls: 1, ..Self::default() }
    }

    pub(super) fn add(&mut self, other: Self) {
        self.calls += other.calls;
        self.read_units += other.read_units;
        self.write_units += other.write_units;
    }
}

/// Which price a call has.
fn class_of(kind: &str) -> &'static str {
    let mut words = kind.split(' ');
    match (words.next().unwrap_or_default(), words.next().unwrap_or_default()) {
        ("dynamodb", "TransactWriteItems") => "transactions",
        ("dynamodb", _) => "dynamodbReads",
        ("s3", "PUT" | "PutObject" | "LIST" | "ListObjectsV2" | "ListObjectVersions" | "POST" | "COPY") => {
            "s3Writes"
        }
        ("s3", "DELETE" | "DeleteObject" | "DeleteObjects") => "s3Deletes",
        ("s3", _) => "s3Reads",
        ("ecs", "RunTask") => "runTask",
        ("ecs", _) => "ecsReads",
        ("sqs", _) => "sqs",
        ("secretsmanager", _) => "secrets",
        _ => "other",
    }
}

fn round(value: f64) -> f64 {
    (value * 1e3).round() / 1e3
}

/// A line: `head`, then sums by price class in all and per item, then the kinds.
pub(super) fn line(head: Value, items: usize, used: &BTreeMap<String, Used>) -> Value {
    let mut classes: BTreeMap<&str, f64> = BTreeMap::new();
    for (kind, used) in used {
        #[expect(clippy::cast_precision_loss, reason = "counts")]
        let calls = used.calls as f64;
        *classes.entry(class_of(kind)).or_default() += calls;
        for (name, units) in [("readUnits", used.read_units), ("writeUnits", used.write_units)] {
            if units > 0.0 {
                *classes.entry(name).or_default() += units;
            }
        }
    }
    #[expect(clippy::cast_precision_loss, reason = "counts")]
    let items_f = items.max(1) as f64;
    let mut line = match head {
        Value::Object(head) => head,
        _ => Map::new(),
    };
    let per_item: Map<String, Value> =
        classes.iter().map(|(name, sum)| ((*name).to_owned(), json!(round(sum / items_f)))).collect();
    line.insert("items".to_owned(), json!(items));
    line.insert("perItem".to_owned(), Value::Object(per_item));
    line.insert("sums".to_owned(), json!(classes));
    line.insert("kinds".to_owned(), json!(used));
    Value::Object(line)
}
