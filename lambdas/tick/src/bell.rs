//! Ringing for oneself: the next look comes sooner than the schedule.

use std::time::Duration;

use pangolin_aws::{Aws, CallError, Service};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Looks in a row that may be caused by their own rings. Each of them changed something, so a deployment with much to do comes
/// this far; after that the schedule, once a minute, begins anew. It bounds what a fault in the engine can cost, since the
/// function's own recursion detection is relaxed.
const HOPS_MAX: u32 = 500;

/// Longest delay of a queue.
const DELAY_MAX: Duration = Duration::from_secs(900);

/// A message that the tick sends itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Ring {
    doorbell: String,
    hops: u32,
}

/// How many looks in a row led to this event: the most of its messages.
pub(crate) fn hops(event: &Value) -> u32 {
    let records = event["Records"].as_array();
    let of = |record: &Value| serde_json::from_str::<Ring>(record["body"].as_str()?).ok();
    records.into_iter().flatten().filter_map(of).map(|ring| ring.hops).max().unwrap_or(0)
}

/// The queue of doorbells.
pub(crate) struct Bell {
    client: aws_sdk_sqs::Client,
    queue: String,
}

impl Bell {
    pub(crate) fn new(aws: &Aws, queue: &str) -> Self {
        Self { client: aws_sdk_sqs::Client::new(&aws.sdk(Service::Sqs)), queue: queue.to_owned() }
    }

    /// Rings after `delay`, unless too many looks in a row led here; answers whether it did.
    pub(crate) async fn ring(&self, delay: Duration, hops: u32) -> Result<bool, CallError> {
        if hops >= HOPS_MAX {
            return Ok(false);
        }
        let ring = Ring { doorbell: "again".to_owned(), hops: hops + 1 };
        // Up to the next second: a look that comes too soon finds nothing to do.
        let seconds = delay.min(DELAY_MAX).as_millis().div_ceil(1000);
        let sent = self
            .client
            .send_message()
            .queue_url(&self.queue)
            .message_body(serde_json::to_string(&ring).unwrap_or_default())
            .delay_seconds(i32::try_from(seconds).unwrap_or(i32::MAX))
            .send()
            .await;
        sent.map(|_| true).map_err(CallError::new)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::hops;

    #[test]
    fn the_longest_row_counts_and_what_is_not_understood_begins_one() {
        assert_eq!(hops(&json!({"doorbell": "schedule"})), 0);
        let body = |text: &str| json!({"messageId": "1", "body": text});
        let event = json!({"Records": [
            body(r#"{"doorbell":"inbox"}"#), body(r#"{"doorbell":"again","hops":7}"#), body("poison"), {"messageId": "2"},
            body(r#"{"doorbell":"again","hops":3}"#),
        ]});
        assert_eq!(hops(&event), 7);
    }
}
