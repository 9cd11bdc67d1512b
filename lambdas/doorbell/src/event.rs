//! A look at an event, for the log.

use serde::Deserialize;
use serde_json::Value;

use crate::Bell;

/// Where messages to the inbox are created, and where workers leave their completion. As the stack sets the notifications of
/// its bucket.
const MESSAGES: &str = "inbox/new/";
const DISPATCHES: &str = "dispatches/";
const COMPLETION: &str = "completion.json";

/// What an event was about, in numbers. Names of objects and tasks are the sender's text and stay out of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Heard {
    /// Notices of the kind that this function is there for.
    pub expected: usize,
    /// Notices of other kinds: other objects, other states of tasks.
    pub other: usize,
}

/// A notification of S3, as far as it is looked at.
#[derive(Deserialize)]
struct Notification {
    #[serde(rename = "Records")]
    records: Vec<Value>,
}

impl Heard {
    /// Reads an event, whatever it is. Both numbers are 0 when nothing in it is known.
    #[must_use]
    pub fn read(bell: Bell, event: &str) -> Self {
        if let Ok(Notification { records }) = serde_json::from_str(event) {
            let expected = records.iter().filter(|record| is_expected_object(bell, record)).count();
            return Self { expected, other: records.len() - expected };
        }
        match serde_json::from_str::<Value>(event) {
            Ok(event) if event["source"] == "aws.ecs" => {
                let stopped = bell == Bell::Task
                    && event["detail-type"] == "ECS Task State Change"
                    && event["detail"]["lastStatus"] == "STOPPED";
                Self { expected: usize::from(stopped), other: usize::from(!stopped) }
            }
            // Also what is nested so deeply that it cannot be read.
            _ => Self::default(),
        }
    }

    /// Whether all of it is what this function is there for.
    #[must_use]
    pub const fn is_expected(self) -> bool {
        self.expected > 0 && self.other == 0
    }
}

/// The key is URL-encoded in an event; what is compared has no character that would be.
fn is_expected_object(bell: Bell, record: &Value) -> bool {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let key = text(&record["s3"]["object"]["key"]);
    let is_ours = match bell {
        Bell::Inbox => key.starts_with(MESSAGES),
        Bell::Task => key.starts_with(DISPATCHES) && key.ends_with(COMPLETION),
    };
    is_ours && record["eventSource"] == "aws:s3" && text(&record["eventName"]).starts_with("ObjectCreated:")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn object(key: &str) -> Value {
        json!({ "eventSource": "aws:s3", "eventName": "ObjectCreated:Put", "s3": { "object": { "key": key } } })
    }

    #[track_caller]
    fn check(bell: Bell, event: &Value, expected: usize, other: usize) {
        assert_eq!(Heard::read(bell, &event.to_string()), Heard { expected, other }, "{event}");
    }

    #[test]
    fn notices_are_counted_by_kind() {
        let message = object("inbox/new/a%3Db.json");
        let completion = object("dispatches/d1/completion.json");
        let both = json!({ "Records": [message, completion, message] });
        check(Bell::Inbox, &both, 2, 1);
        check(Bell::Task, &both, 1, 2);
        let mut removed = message;
        removed["eventName"] = json!("ObjectRemoved:Delete");
        check(Bell::Inbox, &json!({ "Records": [removed, object("inbox/done/a.json")] }), 0, 2);
        let stopped = json!({
            "source": "aws.ecs", "detail-type": "ECS Task State Change", "detail": { "lastStatus": "STOPPED" },
        });
        check(Bell::Task, &stopped, 1, 0);
        check(Bell::Inbox, &stopped, 0, 1);
        let mut running = stopped;
        running["detail"]["lastStatus"] = json!("RUNNING");
        check(Bell::Task, &running, 0, 1);
    }

    #[test]
    fn anything_else_is_nothing() {
        for event in
            [json!(null), json!([1]), json!("Records"), json!({ "Records": {} }), json!({ "Records": [] })]
        {
            check(Bell::Inbox, &event, 0, 0);
            check(Bell::Task, &event, 0, 0);
        }
        check(Bell::Inbox, &json!({ "Records": [null, 7, "x", {}, { "s3": [] }] }), 0, 5);
        let deep = "[".repeat(100_000) + &"]".repeat(100_000);
        assert_eq!(Heard::read(Bell::Task, &deep), Heard::default());
        assert!(!Heard::default().is_expected());
    }
}
