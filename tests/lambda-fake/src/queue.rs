//! Queues: where dead letters go, and a queue that calls a function.

use aws_sdk_sqs::{
    Client,
    types::{Message, MessageSystemAttributeName},
};
use futures_util::future::join_all;
use pangolin_aws::{Aws, CallError, Service};
use serde_json::{Map, Value, json};
use thiserror::Error;

use crate::{Background, Invocation, LambdaError, LambdaFake};

/// A queue of SQS, or of an emulator.
#[derive(Debug, Clone)]
pub struct Queue {
    client: Client,
    url: String,
}

impl Queue {
    /// A queue that exists.
    #[must_use]
    pub fn new(aws: &Aws, url: &str) -> Self {
        Self { client: Client::new(&aws.sdk(Service::Sqs)), url: url.to_owned() }
    }

    /// Its URL.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Sends a message.
    ///
    /// # Errors
    /// What SQS said.
    pub async fn send(&self, body: &str) -> Result<(), CallError> {
        let send = self.client.send_message().queue_url(&self.url).message_body(body).send();
        send.await.map(|_| ()).map_err(CallError::new)
    }

    /// Takes messages out, at most ten, and answers their bodies. Waits so many seconds for the first.
    ///
    /// # Errors
    /// What SQS said.
    pub async fn take(&self, wait_seconds: i32) -> Result<Vec<String>, CallError> {
        let messages = self.receive(10, wait_seconds).await?;
        for message in &messages {
            self.delete(message).await?;
        }
        Ok(messages.into_iter().filter_map(|message| message.body).collect())
    }

    async fn receive(&self, count: i32, wait_seconds: i32) -> Result<Vec<Message>, CallError> {
        let receive = self
            .client
            .receive_message()
            .queue_url(&self.url)
            .max_number_of_messages(count)
            .wait_time_seconds(wait_seconds)
            .message_system_attribute_names(MessageSystemAttributeName::All);
        let received = receive.send().await.map_err(CallError::new)?;
        Ok(received.messages.unwrap_or_default())
    }

    async fn delete(&self, message: &Message) -> Result<(), CallError> {
        let handle = message.receipt_handle().unwrap_or_default();
        let delete = self.client.delete_message().queue_url(&self.url).receipt_handle(handle);
        delete.send().await.map(|_| ()).map_err(CallError::new)
    }

    async fn release(&self, message: &Message) -> Result<(), CallError> {
        let handle = message.receipt_handle().unwrap_or_default();
        let change = self.client.change_message_visibility().queue_url(&self.url).receipt_handle(handle);
        change.visibility_timeout(0).send().await.map(|_| ()).map_err(CallError::new)
    }
}

/// When a message that failed comes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AfterFailure {
    /// When the queue's visibility timeout is over, as on AWS.
    Wait,
    /// At once, so that a test need not wait. It counts as received all the same.
    Release,
}

/// A queue that calls a function, as an event source mapping does.
#[derive(Debug, Clone)]
pub struct QueueSource {
    /// The queue.
    pub queue: Queue,
    /// The function.
    pub function: String,
    /// Messages of one call, from 1 to 10.
    pub batch_size: i32,
    /// Whether the answer names the messages that failed (`ReportBatchItemFailures`).
    pub reports_failures: bool,
    /// When failed messages come back.
    pub after_failure: AfterFailure,
}

/// What became of a batch.
#[derive(Debug, Clone)]
pub struct Batch {
    /// The call; `None` when it was throttled, and then all messages failed.
    pub invocation: Option<Invocation>,
    /// Ids of the messages.
    pub messages: Vec<String>,
    /// Ids of those that stay in the queue.
    pub failed: Vec<String>,
}

/// Why a queue could not call.
#[derive(Debug, Error)]
pub enum SourceError {
    /// SQS did not answer as it should.
    #[error("the queue: {0}")]
    Queue(#[from] CallError),
    /// The service refused.
    #[error(transparent)]
    Lambda(#[from] LambdaError),
}

impl QueueSource {
    /// As the stack makes it: ten messages, failures reported. Failed messages come back at once.
    #[must_use]
    pub fn new(queue: Queue, function: &str) -> Self {
        Self {
            queue,
            function: function.to_owned(),
            batch_size: 10,
            reports_failures: true,
            after_failure: AfterFailure::Release,
        }
    }

    /// Takes what is there, calls, and deletes what was handled. `None` when there was nothing for so many seconds.
    ///
    /// # Errors
    /// [`SourceError`].
    pub async fn poll(&self, service: &LambdaFake, wait_seconds: i32) -> Result<Option<Batch>, SourceError> {
        let messages = self.queue.receive(self.batch_size, wait_seconds).await?;
        if messages.is_empty() {
            return Ok(None);
        }
        let records: Vec<Value> = messages.iter().map(|message| self.record(message)).collect();
        let invocation = match service.invoke(&self.function, json!({ "Records": records }).to_string()).await
        {
            Ok(invocation) => Some(invocation),
            Err(LambdaError::Throttled { .. }) => None,
            Err(error) => return Err(error.into()),
        };
        let ids: Vec<String> = messages.iter().map(id).collect();
        let failed = match &invocation {
            Some(invocation) if invocation.is_success() && self.reports_failures => {
                failures(invocation.answer(), &ids).unwrap_or_else(|| ids.clone())
            }
            Some(invocation) if invocation.is_success() => Vec::new(),
            _ => ids.clone(),
        };
        for (message, id) in messages.iter().zip(&ids) {
            if !failed.contains(id) {
                self.queue.delete(message).await?;
            } else if self.after_failure == AfterFailure::Release {
                self.queue.release(message).await?;
            }
        }
        Ok(Some(Batch { invocation, messages: ids, failed }))
    }

    /// Polls with so many pollers until the answer is dropped. What goes wrong is tried again.
    #[must_use]
    pub fn run(self, service: &LambdaFake, pollers: usize) -> Background {
        let service = service.clone();
        Background::new(async move {
            let poller = || async {
                loop {
                    let polled = self.poll(&service, 1).await;
                    let throttled = |batch: &Option<Batch>| {
                        batch.as_ref().is_some_and(|batch| batch.invocation.is_none())
                    };
                    // The queue is out of reach, or everything that may run does: not at full speed.
                    if polled.as_ref().map_or(true, throttled) {
                        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                    }
                }
            };
            join_all((0..pollers).map(|_| poller())).await;
        })
    }

    fn record(&self, message: &Message) -> Value {
        let attributes = message.attributes().into_iter().flatten();
        let attributes: Map<String, Value> =
            attributes.map(|(name, value)| (name.as_str().to_owned(), json!(value))).collect();
        let name = self.queue.url.rsplit('/').next().unwrap_or_default();
        json!({
            "messageId": id(message),
            "receiptHandle": message.receipt_handle(),
            "body": message.body(),
            "attributes": attributes,
            "messageAttributes": {},
            "md5OfBody": message.md5_of_body(),
            "eventSource": "aws:sqs",
            "eventSourceARN": format!("arn:aws:sqs:us-east-1:000000000000:{name}"),
            "awsRegion": "us-east-1",
        })
    }
}

fn id(message: &Message) -> String {
    message.message_id().unwrap_or_default().to_owned()
}

/// The messages that an answer names as failed. `None` when all of them failed, because the answer is not what the guide
/// asks for: no JSON, an entry without an id, an id that is empty or none of the batch.
fn failures(answer: &str, ids: &[String]) -> Option<Vec<String>> {
    if answer.trim().is_empty() {
        return Some(Vec::new());
    }
    let answer: Value = serde_json::from_str(answer).ok()?;
    match answer.get("batchItemFailures") {
        None | Some(Value::Null) => Some(Vec::new()),
        Some(Value::Array(entries)) => entries
            .iter()
            .map(|entry| {
                let found = entry.get("itemIdentifier").and_then(Value::as_str)?;
                ids.iter().find(|id| *id == found).cloned()
            })
            .collect(),
        Some(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_of_a_batch() {
        let ids = ["a".to_owned(), "b".to_owned()];
        let check = |answer: &str, expected: Option<&[&str]>| {
            let expected = expected.map(|ids| ids.iter().map(|id| (*id).to_owned()).collect::<Vec<_>>());
            assert_eq!(failures(answer, &ids), expected, "{answer}");
        };
        check("", Some(&[]));
        check("null", Some(&[]));
        check("{}", Some(&[]));
        check(r#"{"batchItemFailures":null}"#, Some(&[]));
        check(r#"{"batchItemFailures":[]}"#, Some(&[]));
        check(r#"{"batchItemFailures":[{"itemIdentifier":"b"}]}"#, Some(&["b"]));
        check("nonsense", None);
        check(r#"{"batchItemFailures":7}"#, None);
        check(r#"{"batchItemFailures":[{"itemIdentifier":""}]}"#, None);
        check(r#"{"batchItemFailures":[{"itemIdentifier":null}]}"#, None);
        check(r#"{"batchItemFailures":[{"bad":"a"}]}"#, None);
        check(r#"{"batchItemFailures":[{"itemIdentifier":"a"},{"itemIdentifier":"z"}]}"#, None);
    }
}
