//! Metrics, as lines of the log in CloudWatch's embedded metric format.

use pangolin_stack::names::{METRIC_STALLED, METRICS_NAMESPACE};
use serde_json::{Value, json};

const MS_PER_MINUTE: f64 = 60_000.0;

/// The line that says for how long the run that waits longest has had no new entry.
pub(crate) fn stalled(stack: &str, now_ms: i64, stalled_ms: i64) -> Value {
    #[expect(clippy::cast_precision_loss, reason = "minutes")]
    let minutes = stalled_ms as f64 / MS_PER_MINUTE;
    json!({
        "_aws": {
            "Timestamp": now_ms,
            "CloudWatchMetrics": [{
                "Namespace": METRICS_NAMESPACE,
                "Dimensions": [["Stack"]],
                "Metrics": [{ "Name": METRIC_STALLED, "Unit": "None" }],
            }],
        },
        "Stack": stack,
        METRIC_STALLED: minutes,
    })
}
