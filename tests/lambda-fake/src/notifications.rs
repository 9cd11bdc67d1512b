//! S3 calls functions for objects that were created.

use bytes::Bytes;
use futures_util::future::join_all;
pub use pangolin_s3_fake::Created;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};
use tokio::sync::mpsc::UnboundedReceiver;

use crate::{Background, Delivery, LambdaError, LambdaFake};

/// What stays as it is in the key of an event; a space becomes `+`.
const KEPT: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'/').remove(b'-').remove(b'_').remove(b'.').remove(b'*').remove(b' ');

/// Which objects a function is called for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// The bucket.
    pub bucket: String,
    /// How keys begin.
    pub prefix: String,
    /// How keys end.
    pub suffix: String,
    /// The function.
    pub function: String,
}

/// What S3 says about notifications: at least once, in any order. That one is lost it does not say; it happens when
/// permissions or the function are being changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Disorder {
    /// How often each is delivered.
    pub copies: usize,
    /// Whether those that wait together come in the opposite order.
    pub reversed: bool,
    /// Every so many is lost.
    pub lose_every: Option<u64>,
}

impl Default for Disorder {
    /// Each once, in order, none lost.
    fn default() -> Self {
        Self { copies: 1, reversed: false, lose_every: None }
    }
}

/// The notifications of a server's buckets.
#[derive(Debug)]
pub struct Notifications {
    created: UnboundedReceiver<Created>,
    rules: Vec<Rule>,
    disorder: Disorder,
    count: u64,
}

impl Notifications {
    /// For objects that are created from now on: `created` is `S3Fake::created()`.
    #[must_use]
    pub fn new(created: UnboundedReceiver<Created>, rules: Vec<Rule>, disorder: Disorder) -> Self {
        Self { created, rules, disorder, count: 0 }
    }

    /// Delivers what is waiting, one after the other.
    ///
    /// # Errors
    /// What the service refuses.
    pub async fn deliver(&mut self, service: &LambdaFake) -> Result<Vec<Delivery>, LambdaError> {
        let mut waiting = Vec::new();
        while let Ok(created) = self.created.try_recv() {
            waiting.push(created);
        }
        let mut deliveries = Vec::new();
        for (function, event) in self.events(waiting) {
            deliveries.push(service.invoke_event(&function, event).await?);
        }
        Ok(deliveries)
    }

    /// Delivers as objects are created, those that wait together at the same time, until the answer is dropped.
    #[must_use]
    pub fn run(mut self, service: &LambdaFake) -> Background {
        let service = service.clone();
        Background::new(async move {
            while let Some(first) = self.created.recv().await {
                let mut waiting = vec![first];
                while let Ok(created) = self.created.try_recv() {
                    waiting.push(created);
                }
                let events = self.events(waiting);
                // Failures are among the service's invocations and dead letters.
                join_all(events.into_iter().map(|(function, event)| {
                    let service = service.clone();
                    async move { service.invoke_event(&function, event).await }
                }))
                .await;
            }
        })
    }

    fn events(&mut self, waiting: Vec<Created>) -> Vec<(String, Bytes)> {
        let mut events = Vec::new();
        for created in waiting {
            let rules = self.rules.iter().filter(|rule| rule.is_for(&created));
            for rule in rules {
                self.count += 1;
                if self.disorder.lose_every.is_some_and(|every| self.count.is_multiple_of(every)) {
                    continue;
                }
                let event = Bytes::from(event(&created, self.count).to_string());
                events.extend((0..self.disorder.copies).map(|_| (rule.function.clone(), event.clone())));
            }
        }
        if self.disorder.reversed {
            events.reverse();
        }
        events
    }
}

impl Rule {
    fn is_for(&self, created: &Created) -> bool {
        created.bucket == self.bucket
            && created.key.starts_with(&self.prefix)
            && created.key.ends_with(&self.suffix)
    }
}

/// Event structure 2.1 of the S3 guide.
fn event(created: &Created, sequence: u64) -> Value {
    let key = utf8_percent_encode(&created.key, KEPT).to_string().replace(' ', "+");
    json!({ "Records": [{
        "eventVersion": "2.1",
        "eventSource": "aws:s3",
        "awsRegion": "us-east-1",
        "eventTime": created.time,
        "eventName": "ObjectCreated:Put",
        "userIdentity": { "principalId": "AWS:TEST" },
        "requestParameters": { "sourceIPAddress": "127.0.0.1" },
        "responseElements": { "x-amz-request-id": format!("{sequence:016X}"), "x-amz-id-2": "test" },
        "s3": {
            "s3SchemaVersion": "1.0",
            "configurationId": "pangolin",
            "bucket": {
                "name": created.bucket,
                "ownerIdentity": { "principalId": "TEST" },
                "arn": format!("arn:aws:s3:::{}", created.bucket),
            },
            "object": {
                "key": key,
                "size": created.size,
                "eTag": created.etag.trim_matches('"'),
                "sequencer": format!("{sequence:016X}"),
            },
        },
    }] })
}
