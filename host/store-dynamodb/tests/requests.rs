//! What the store sends, where no emulator would notice a difference.

#![expect(clippy::unwrap_used, reason = "helpers of tests may panic")]

mod common;

use std::sync::{Arc, Mutex};

use aws_sdk_dynamodb::{
    Client,
    config::{ConfigBag, Intercept, RuntimeComponents, interceptors::BeforeTransmitInterceptorContextRef},
    error::BoxError,
};
use common::{Emulator, QUICK};
use pangolin_aws::faults::{Answer, Fault, FaultScript, On};
use pangolin_core::ids::Digest;
use pangolin_ports::run_store::{Append, Batch, Commit, Guard, Head, RunStore, Write};
use pangolin_store_dynamodb::DynamoRunStore;
use serde_json::Value;

/// Keeps the operation and body of every request.
#[derive(Debug, Clone, Default)]
struct Recorder(Arc<Mutex<Vec<(String, Value)>>>);

impl Intercept for Recorder {
    fn name(&self) -> &'static str {
        "recorder"
    }

    fn read_before_transmit(
        &self,
        context: &BeforeTransmitInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let request = context.request();
        let target = request.headers().get("x-amz-target").unwrap_or_default();
        let operation = target.rsplit('.').next().unwrap_or_default().to_owned();
        let body = serde_json::from_slice(request.body().bytes().unwrap_or_default())?;
        self.0.lock().unwrap().push((operation, body));
        Ok(())
    }
}

impl Recorder {
    /// What was sent since the last call.
    fn take(&self) -> Vec<(String, Value)> {
        std::mem::take(&mut *self.0.lock().unwrap())
    }
}

async fn recorded(emulator: &Emulator, script: &FaultScript) -> (DynamoRunStore, Recorder) {
    let recorder = Recorder::default();
    let config = emulator.client(script).config().to_builder().interceptor(recorder.clone()).build();
    let store =
        DynamoRunStore::open(&Client::from_conf(config), emulator.table().await, QUICK).await.unwrap();
    (store, recorder)
}

fn batch(id: &str) -> Batch {
    Batch {
        id: id.to_owned(),
        guards: vec![Guard::HeadIs { stream: "s".to_owned(), head: Head::default() }],
        writes: vec![Write::Put { key: "k".to_owned(), value: Vec::new() }],
        appends: vec![Append { stream: "s".to_owned(), records: vec![(Digest::of(b"r"), b"r".to_vec())] }],
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_read_is_consistent() {
    let Some(emulator) = Emulator::dynoxide("every_read_is_consistent").await else { return };
    let (store, recorder) = recorded(&emulator, &FaultScript::new()).await;
    assert_eq!(store.commit(batch("id")).await.unwrap(), Commit::Committed);
    // Refused, so the store looks for the batch id.
    assert!(matches!(store.commit(batch("other")).await.unwrap(), Commit::GuardFailed { .. }));
    store.was_committed("id").await.unwrap();
    store.head("s").await.unwrap();
    store.read("s", 0, 9).await.unwrap();
    store.get("k").await.unwrap();
    store.streams("", None, 9).await.unwrap();
    store.scan("", None, 9).await.unwrap();
    let (writes, reads): (Vec<_>, Vec<_>) = recorder
        .take()
        .into_iter()
        .partition(|(name, _)| ["PutItem", "TransactWriteItems"].contains(&name.as_str()));
    assert_eq!((writes.len(), reads.len()), (3, 8), "{writes:?} {reads:?}");
    for (operation, body) in reads {
        assert_eq!(body["ConsistentRead"], true, "{operation}: {body}");
        assert_eq!(body.get("IndexName"), None, "{operation}: {body}");
    }
}

/// After a lost answer the same request is sent again, so that DynamoDB can recognise it. After a clear one the token is
/// new: a cancelled transaction must not be remembered.
#[tokio::test(flavor = "multi_thread")]
async fn tokens_follow_what_is_known() {
    let Some(emulator) = Emulator::dynoxide("tokens_follow_what_is_known").await else { return };
    let conflict = Answer::dynamodb_cancelled(&["None", "TransactionConflict", "None", "None"]);
    for (what, fault, same) in [
        ("lost", Fault::LoseAnswer, true),
        ("500", Fault::Answer(Answer::json_internal_error()), true),
        ("in progress", Fault::Answer(Answer::dynamodb_error("TransactionInProgressException")), true),
        ("conflict", Fault::Answer(conflict), false),
        ("throttled", Fault::Answer(Answer::dynamodb_throttled()), false),
    ] {
        let script = FaultScript::new();
        let (store, recorder) = recorded(&emulator, &script).await;
        recorder.take();
        script.at(On::operation("dynamodb", "TransactWriteItems"), 1, fault);
        assert_eq!(store.commit(batch("id")).await.unwrap(), Commit::Committed, "{what}");
        assert_eq!(store.commit(batch("id")).await.unwrap(), Commit::Committed, "{what}");
        let sent: Vec<Value> = recorder.take().into_iter().map(|(_, body)| body).collect();
        let [first, second, again] = sent.as_slice() else { panic!("{what}: {sent:?}") };
        let token = |body: &Value| body["ClientRequestToken"].as_str().unwrap().to_owned();
        assert_eq!(token(first) == token(second), same, "{what}");
        assert_eq!(first["TransactItems"], second["TransactItems"], "{what}");
        // Another call is another request, also for the same batch.
        assert_ne!(token(second), token(again), "{what}");
        assert!(sent.iter().all(|body| (1..=36).contains(&token(body).len())), "{what}");
    }
}
