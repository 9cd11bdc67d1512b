//! The program itself, behind a runtime API, with an emulated queue.

#[path = "../../doorbell/tests/common/mod.rs"]
mod common;

use common::Stack;
use pangolin_aws::{Aws, Service};
use pangolin_lambda_fake::{Disorder, Kill, Notifications, Outcome, Rule};
use pangolin_s3_fake::S3Fake;
use serde_json::json;

const PROGRAM: &str = env!("CARGO_BIN_EXE_pangolin-lambda-inbox");

const BODY: &str = r#"{"doorbell":"inbox"}"#;

async fn stack() -> Option<Stack> {
    Stack::start("Inbox", "inbox", PROGRAM).await
}

fn event() -> String {
    let record = json!({
        "eventSource": "aws:s3", "eventName": "ObjectCreated:Put", "s3": { "object": { "key": "inbox/new/a.json" } },
    });
    json!({ "Records": [record] }).to_string()
}

#[tokio::test]
async fn every_message_rings_also_twice_and_out_of_order() {
    let Some(stack) = stack().await else { return };
    let s3 = S3Fake::start().await.expect("a server");
    s3.create_bucket("data");
    let aws = Aws::for_tests(&s3.endpoint(), 3, Aws::http()).expect("clients");
    let config = aws_sdk_s3::config::Builder::from(&aws.sdk(Service::S3)).force_path_style(true).build();
    let client = aws_sdk_s3::Client::from_conf(config);
    let rule = Rule {
        bucket: "data".to_owned(),
        prefix: "inbox/new/".to_owned(),
        suffix: String::new(),
        function: stack.name.to_owned(),
    };
    let disorder = Disorder { copies: 2, reversed: true, lose_every: None };
    let mut notifications = Notifications::new(s3.created(), vec![rule], disorder);
    for key in ["inbox/new/one two.json", "inbox/done/one.json", "blobs/ab", "inbox/new/üñ.json"] {
        let put = client.put_object().bucket("data").key(key).body(b"{}".to_vec().into());
        put.if_none_match("*").send().await.expect("put");
    }
    let deliveries = notifications.deliver(&stack.service).await.expect("delivered");
    assert_eq!(deliveries.len(), 4, "two messages, each twice");
    assert_eq!(stack.rings().await, [BODY; 4]);
    let log = stack.log();
    assert!(log.iter().all(|line| line["level"] == "INFO" && line["expected"] == 1), "{log:#?}");
}

#[tokio::test]
async fn odd_events_ring_too() {
    let Some(stack) = stack().await else { return };
    stack.odd_events_ring(BODY).await;
}

#[tokio::test]
async fn a_silent_doorbell_is_a_failure() {
    let Some(stack) = stack().await else { return };
    stack.silence_is_a_failure(&event()).await;
    stack.must_ring(event(), BODY).await;
}

#[tokio::test]
async fn whoever_dies_is_repeated() {
    let Some(stack) = stack().await else { return };
    for kill in [Kill::AtInvocation, Kill::AtResponse] {
        stack.service.kill_next("inbox", kill).expect("known");
    }
    let delivery = stack.service.invoke_event("inbox", event()).await.expect("handed over");
    let outcomes: Vec<_> = delivery.attempts.iter().map(|attempt| &attempt.outcome).collect();
    assert_eq!(outcomes[..2], [&Outcome::Killed, &Outcome::Killed]);
    assert!(delivery.is_success(), "{delivery:?}");
    // The second rang before it died.
    assert_eq!(stack.rings().await, [BODY; 2]);
}

#[tokio::test]
async fn without_a_queue_it_does_not_start() {
    let Some(stack) = stack().await else { return };
    stack.deploy(|function| {
        function.env.remove("PANGOLIN_DOORBELL_URL").expect("the stack sets it");
    });
    let invocation = stack.service.invoke("inbox", event()).await.expect("invoked");
    assert!(matches!(&invocation.outcome, Outcome::NotStarted(_)), "{invocation:?}");
    let log = stack.log();
    let problem = log[0]["problem"].as_str().unwrap_or_default();
    assert!(problem.contains("PANGOLIN_DOORBELL_URL is not set"), "{log:#?}");
}
