//! What calls functions: a queue of an emulator, created objects, events of a rule.

use std::{
    collections::BTreeMap,
    io::Write as _,
    time::{Duration, Instant},
};

use pangolin_aws::{Aws, Service};
use pangolin_lambda_fake::{
    Created, Disorder, Function, LambdaFake, Notifications, Queue, QueueSource, Rule, is_stopped_task,
    rule_target,
};
use pangolin_s3_fake::Ministack;
use serde_json::{Value, json};
use tokio::sync::mpsc;

const PROBE: &str = env!("CARGO_BIN_EXE_pangolin-lambda-probe");

fn service() -> LambdaFake {
    let service = LambdaFake::start().expect("a service");
    let mut function = Function::new("probe", PROBE);
    function.timeout = Duration::from_secs(30);
    service.function(function).expect("a good function");
    service
}

/// A queue whose messages go to a second one after they were received twice.
async fn queues(server: &Ministack) -> (Queue, Queue) {
    let aws = Aws::for_tests(&server.endpoint(), 3, Aws::http()).expect("clients");
    let client = aws_sdk_sqs::Client::new(&aws.sdk(Service::Sqs));
    let dead = client.create_queue().queue_name("dead").send().await.expect("made");
    let policy = json!({
        "deadLetterTargetArn": "arn:aws:sqs:us-east-1:000000000000:dead",
        "maxReceiveCount": 2,
    });
    let main = client
        .create_queue()
        .queue_name("doorbell")
        .attributes(aws_sdk_sqs::types::QueueAttributeName::RedrivePolicy, policy.to_string())
        .send()
        .await
        .expect("made");
    let queue = |url: Option<&str>| Queue::new(&aws, url.expect("a URL"));
    (queue(main.queue_url()), queue(dead.queue_url()))
}

#[tokio::test]
async fn a_queue_keeps_what_failed_and_gives_it_up_in_the_end() {
    let Some(server) = Ministack::start("a queue that calls a function").await else { return };
    let (queue, dead) = queues(&server).await;
    let service = service();
    let source = QueueSource::new(queue.clone(), "probe");
    assert!(source.poll(&service, 0).await.expect("polled").is_none());
    for body in ["one", "bad two", "three"] {
        queue.send(body).await.expect("sent");
    }
    let mut received = 0;
    let mut failures = BTreeMap::<String, u32>::new();
    while let Some(batch) = source.poll(&service, 0).await.expect("polled") {
        assert!(batch.invocation.as_ref().is_some_and(pangolin_lambda_fake::Invocation::is_success));
        received += batch.messages.len();
        for id in batch.failed {
            *failures.entry(id).or_default() += 1;
        }
        assert!(received < 20, "it does not end");
    }
    assert_eq!((received, failures.values().copied().collect::<Vec<_>>()), (4, vec![2]), "{failures:?}");
    assert_eq!(dead.take(1).await.expect("taken"), ["bad two"]);

    // The whole call fails: nothing is deleted.
    for body in ["all", "four"] {
        queue.send(body).await.expect("sent");
    }
    let batch = source.poll(&service, 1).await.expect("polled").expect("a batch");
    assert_eq!(batch.failed, batch.messages);
    assert!(batch.invocation.is_some_and(|invocation| !invocation.is_success()));
    assert!(service.logs("probe").trim_end().ends_with(": null"), "{}", service.logs("probe"));
}

#[tokio::test]
async fn a_queue_is_polled_in_the_background() {
    let Some(server) = Ministack::start("a queue in the background").await else { return };
    let (queue, dead) = queues(&server).await;
    let service = service();
    let background = QueueSource::new(queue.clone(), "probe").run(&service, 2);
    for number in 0..25 {
        let body = if number == 7 { "bad".to_owned() } else { number.to_string() };
        queue.send(&body).await.expect("sent");
    }
    let begin = Instant::now();
    let mut gone = Vec::new();
    while gone.is_empty() {
        assert!(begin.elapsed() < Duration::from_secs(60), "{}", service.logs("probe"));
        gone = dead.take(1).await.expect("taken");
    }
    assert_eq!(gone, ["bad"]);
    while seen(&service) < 26 {
        assert!(begin.elapsed() < Duration::from_secs(60), "{}", service.logs("probe"));
        tokio::task::yield_now().await;
    }
    drop(background);
    assert!(queue.take(0).await.expect("taken").is_empty(), "everything was handled");
}

/// How many messages the function saw.
fn seen(service: &LambdaFake) -> usize {
    let logs = service.logs("probe");
    let counts = logs
        .lines()
        .filter_map(|line| line.strip_prefix("batch of ")?.split_once(':')?.0.parse::<usize>().ok());
    counts.sum()
}

fn created(key: &str) -> Created {
    Created {
        bucket: "data".to_owned(),
        key: key.to_owned(),
        size: 3,
        etag: "\"abc\"".to_owned(),
        time: "2026-01-02T03:04:05.000Z".to_owned(),
    }
}

/// Keys of the events that the probe answered with, in order.
fn keys(service: &LambdaFake) -> Vec<String> {
    let logs = service.logs("probe");
    let lines = logs.lines().filter_map(|line| line.strip_prefix("key "));
    lines.map(str::to_owned).collect()
}

#[tokio::test]
async fn created_objects_call_in_any_disorder() {
    let rule = Rule {
        bucket: "data".to_owned(),
        prefix: "inbox/new/".to_owned(),
        suffix: ".json".to_owned(),
        function: "probe".to_owned(),
    };
    let objects = [
        "inbox/new/a b=1.json",
        "inbox/done/x.json",
        "inbox/new/b.txt",
        "inbox/new/b.json",
        "inbox/new/c.json",
    ];
    let check = async |disorder: Disorder, expected: &[&str]| {
        let service = service();
        let (sender, receiver) = mpsc::unbounded_channel();
        let mut source = Notifications::new(receiver, vec![rule.clone()], disorder);
        for key in objects {
            sender.send(created(key)).expect("heard");
        }
        let deliveries = source.deliver(&service).await.expect("delivered");
        assert!(deliveries.iter().all(pangolin_lambda_fake::Delivery::is_success));
        assert_eq!(keys(&service), expected, "{disorder:?}");
        assert!(source.deliver(&service).await.expect("delivered").is_empty());
    };
    let (a, b, c) = ("inbox/new/a+b%3D1.json", "inbox/new/b.json", "inbox/new/c.json");
    check(Disorder::default(), &[a, b, c]).await;
    check(Disorder { copies: 2, ..Disorder::default() }, &[a, a, b, b, c, c]).await;
    check(Disorder { reversed: true, ..Disorder::default() }, &[c, b, a]).await;
    check(Disorder { lose_every: Some(2), ..Disorder::default() }, &[a, c]).await;
}

#[tokio::test]
async fn events_of_a_rule_call_when_they_match() {
    let service = service();
    let (url, _target) = rule_target(&service, "probe", is_stopped_task).await.expect("a target");
    let host = url.trim_start_matches("http://").trim_end_matches('/').to_owned();
    let event = |status: &str| json!({ "source": "aws.ecs", "detail-type": "ECS Task State Change", "detail": { "lastStatus": status } });
    let post = |body: Value| {
        let (host, body) = (host.clone(), body.to_string());
        tokio::task::spawn_blocking(move || {
            let mut stream = std::net::TcpStream::connect(&host).expect("connected");
            write!(
                stream,
                "POST / HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
                body.len()
            )
            .expect("sent");
            let mut answer = String::new();
            std::io::Read::read_to_string(&mut stream, &mut answer).expect("answered");
            assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        })
    };
    for body in [event("RUNNING"), json!([1]), event("STOPPED")] {
        post(body).await.expect("posted");
    }
    let begin = Instant::now();
    let mut all = Vec::new();
    while all.is_empty() {
        assert!(begin.elapsed() < Duration::from_secs(60), "nothing was called");
        tokio::task::yield_now().await;
        all = service.invocations("probe").expect("known");
    }
    assert_eq!(all.len(), 1, "{all:?}");
    let answer: Value = serde_json::from_str(all[0].answer()).expect("JSON");
    assert_eq!(answer["event"], event("STOPPED"));
}
