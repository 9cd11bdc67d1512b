//! Doorbells and what could not be handled.

use serde_json::json;

use super::document::{Resource, Template, attribute, reference};
use super::functions::TICK_TIMEOUT_SECONDS;

/// A doorbell that failed so often is put aside.
const TRIES: u32 = 5;

pub(super) fn add(template: &mut Template) {
    let dead = json!({
        "MessageRetentionPeriod": 14 * 86_400,
        "SqsManagedSseEnabled": true,
    });
    template.resource("DeadLetters", Resource::new("AWS::SQS::Queue", dead).tagged());
    let doorbell = json!({
        // Six times the time limit of the reader, as Lambda's guide says; the schedule looks meanwhile.
        "VisibilityTimeout": 6 * TICK_TIMEOUT_SECONDS,
        // A doorbell only says "look". One that is a day old says nothing.
        "MessageRetentionPeriod": 86_400,
        "SqsManagedSseEnabled": true,
        "RedrivePolicy": { "deadLetterTargetArn": attribute("DeadLetters", "Arn"), "maxReceiveCount": TRIES },
    });
    template.resource("Doorbell", Resource::new("AWS::SQS::Queue", doorbell).tagged());
    let tls = |queue: &str| {
        json!({
            "Sid": "EncryptedTransport",
            "Effect": "Deny",
            "Principal": "*",
            "Action": "sqs:*",
            "Resource": attribute(queue, "Arn"),
            "Condition": { "Bool": { "aws:SecureTransport": "false" } },
        })
    };
    let policy = json!({
        "Queues": [reference("Doorbell")],
        "PolicyDocument": { "Version": "2012-10-17", "Statement": [tls("Doorbell")] },
    });
    template.resource("DoorbellPolicy", Resource::new("AWS::SQS::QueuePolicy", policy));
    let policy = json!({
        "Queues": [reference("DeadLetters")],
        "PolicyDocument": { "Version": "2012-10-17", "Statement": [
            tls("DeadLetters"),
            {
                // Events about tasks that could not be delivered to their function.
                "Sid": "UndeliveredEvents",
                "Effect": "Allow",
                "Principal": { "Service": "events.amazonaws.com" },
                "Action": "sqs:SendMessage",
                "Resource": attribute("DeadLetters", "Arn"),
                "Condition": { "StringEquals": { "aws:SourceAccount": reference("AWS::AccountId") } },
            },
        ] },
    });
    template.resource("DeadLettersPolicy", Resource::new("AWS::SQS::QueuePolicy", policy));
    template.output("DoorbellUrl", "Queue of doorbells", reference("Doorbell"));
    template.output("DeadLettersUrl", "Queue of what could not be handled", reference("DeadLetters"));
}
