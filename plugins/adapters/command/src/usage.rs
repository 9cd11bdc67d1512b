//! Usage lines.

use pangolin_adapter_sdk::Report;
use serde_json::Value;

const COUNTERS: [&str; 7] =
    ["input", "cached_read", "cache_write", "output", "reasoning", "turns", "cost_usd"];

/// Reports what a usage line says. Anything else is ignored.
pub(crate) fn read(line: &str, report: &Report) {
    let line = line.trim();
    // Cheap test first: an agent may print megabytes.
    if !line.starts_with('{') || !line.contains("\"pangolin\"") {
        return;
    }
    let Ok(Value::Object(object)) = serde_json::from_str::<Value>(line) else { return };
    if object.get("pangolin").and_then(Value::as_str) != Some("usage") {
        return;
    }
    for key in COUNTERS {
        if let Some(amount) = object.get(key).and_then(Value::as_f64).filter(|amount| *amount >= 0.0) {
            report.usage(key, amount.min(9e9));
        }
    }
    if let Some(model) = object.get("model").and_then(Value::as_str) {
        report.model_used(model);
    }
    if let Some(session) = object.get("session").and_then(Value::as_str) {
        report.session_id(session);
    }
    let quality = object.get("quality").and_then(Value::as_str);
    let quality = quality.filter(|known| matches!(*known, "exact" | "partial")).unwrap_or("estimated");
    report.usage_quality(quality);
}
