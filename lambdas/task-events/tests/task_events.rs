//! The program itself, behind a runtime API, with an emulated queue.

#[path = "../../doorbell/tests/common/mod.rs"]
mod common;

use common::Stack;
use pangolin_lambda_fake::{Kill, Outcome};
use serde_json::{Value, json};

const PROGRAM: &str = env!("CARGO_BIN_EXE_pangolin-lambda-task-events");

const BODY: &str = r#"{"doorbell":"task"}"#;

async fn stack() -> Option<Stack> {
    Stack::start("TaskEvents", "task-events", PROGRAM).await
}

fn stopped() -> Value {
    json!({
        "version": "0",
        "id": "00000000-0000-4000-8000-000000000001",
        "detail-type": "ECS Task State Change",
        "source": "aws.ecs",
        "detail": { "lastStatus": "STOPPED", "stopCode": "EssentialContainerExited" },
    })
}

fn completed() -> Value {
    let record = json!({
        "eventSource": "aws:s3",
        "eventName": "ObjectCreated:Put",
        "s3": { "object": { "key": "dispatches/d-1/completion.json" } },
    });
    json!({ "Records": [record, record] })
}

#[tokio::test]
async fn ended_workers_and_completions_ring() {
    let Some(stack) = stack().await else { return };
    stack.must_ring(stopped().to_string(), BODY).await;
    stack.must_ring(stopped().to_string(), BODY).await;
    stack.must_ring(completed().to_string(), BODY).await;
    let log = stack.log();
    assert!(log.iter().all(|line| line["level"] == "INFO" && line["doorbell"] == "task"), "{log:#?}");
    assert_eq!(log[2]["expected"], 2);

    let mut running = stopped();
    running["detail"]["lastStatus"] = json!("RUNNING");
    stack.must_ring(running.to_string(), BODY).await;
    assert!(stack.log().iter().any(|line| line["level"] == "WARN" && line["other"] == 1));
}

#[tokio::test]
async fn odd_events_ring_too() {
    let Some(stack) = stack().await else { return };
    stack.odd_events_ring(BODY).await;
}

#[tokio::test]
async fn a_silent_doorbell_is_a_failure() {
    let Some(stack) = stack().await else { return };
    stack.silence_is_a_failure(&stopped().to_string()).await;
    stack.must_ring(stopped().to_string(), BODY).await;
}

#[tokio::test]
async fn whoever_dies_is_repeated() {
    let Some(stack) = stack().await else { return };
    for kill in [Kill::AtInvocation, Kill::AtResponse] {
        stack.service.kill_next("task-events", kill).expect("known");
    }
    let delivery =
        stack.service.invoke_event("task-events", stopped().to_string()).await.expect("handed over");
    let outcomes: Vec<_> = delivery.attempts.iter().map(|attempt| &attempt.outcome).collect();
    assert_eq!(outcomes[..2], [&Outcome::Killed, &Outcome::Killed]);
    assert!(delivery.is_success(), "{delivery:?}");
    assert_eq!(stack.rings().await, [BODY; 2], "the second rang before it died");
}
