//! The server refuses what ECS refuses. Spoken to with nothing but a socket.

#![expect(clippy::unwrap_used, reason = "helpers of tests may panic")]

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use pangolin_ecs_fake::{EcsFake, StandIn};
use serde_json::{Value, json};

/// Makes one call and answers status and body.
fn call(endpoint: &str, operation: &str, body: &Value) -> (u16, Value) {
    let host = endpoint.strip_prefix("http://").unwrap();
    let text = body.to_string();
    let mut stream = TcpStream::connect(host).unwrap();
    let head = format!(
        "POST / HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\nx-amz-target: AmazonEC2ContainerServiceV20141113.{operation}\r\ncontent-length: {}\r\n\r\n",
        text.len()
    );
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(text.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), serde_json::from_str(body).unwrap())
}

/// A copy with one member changed; `null` takes it away.
fn with(base: &Value, pointer: &str, value: Value) -> Value {
    let mut changed = base.clone();
    let (parent, name) = pointer.rsplit_once('/').unwrap();
    let parent = changed.pointer_mut(parent).unwrap().as_object_mut().unwrap();
    if value.is_null() {
        parent.remove(name);
    } else {
        parent.insert(name.to_owned(), value);
    }
    changed
}

fn definition() -> Value {
    json!({
        "family": "f", "networkMode": "awsvpc", "requiresCompatibilities": ["FARGATE"], "cpu": "256", "memory": "512",
        "containerDefinitions": [{"name": "worker", "image": "i", "stopTimeout": 2}],
    })
}

fn task() -> Value {
    json!({
        "taskDefinition": "f", "launchType": "FARGATE", "clientToken": "t", "startedBy": "me",
        "networkConfiguration": {"awsvpcConfiguration": {"subnets": ["s"]}},
        "overrides": {"containerOverrides": [{"name": "worker", "environment": [{"name": "SAY", "value": "hello"}]}]},
    })
}

async fn fake() -> EcsFake {
    let fake = EcsFake::start().await.unwrap();
    fake.add_image("i", StandIn { program: "/bin/cat".into(), env: Vec::new() });
    fake
}

/// Blocking calls beside the server.
async fn refused(fake: &EcsFake, operation: &'static str, body: Value, code: &str) -> Value {
    let endpoint = fake.endpoint();
    let asked = body.clone();
    let (status, answer) =
        tokio::task::spawn_blocking(move || call(&endpoint, operation, &asked)).await.unwrap();
    assert_eq!((status, answer["__type"].as_str()), (400, Some(code)), "{operation} {body}: {answer}");
    answer
}

async fn done(fake: &EcsFake, operation: &'static str, body: Value) -> Value {
    let endpoint = fake.endpoint();
    let (status, answer) =
        tokio::task::spawn_blocking(move || call(&endpoint, operation, &body)).await.unwrap();
    assert_eq!(status, 200, "{operation}: {answer}");
    answer
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn task_definitions_must_be_ones_that_fargate_has() {
    let fake = fake().await;
    let good = definition();
    for (pointer, value) in [
        ("/memory", json!("1536")),
        ("/memory", json!("4096")),
        ("/cpu", json!("300")),
        ("/networkMode", json!("bridge")),
        ("/family", json!("a b")),
        ("/containerDefinitions/0/stopTimeout", json!(121)),
        ("/containerDefinitions/0/memory", json!(513)),
        ("/containerDefinitions/0/privileged", json!(true)),
        ("/containerDefinitions/0/linuxParameters", json!({"capabilities": {"add": ["SYS_ADMIN"]}})),
        ("/containerDefinitions/0/mountPoints", json!([{"sourceVolume": "v", "containerPath": "/v"}])),
        ("/containerDefinitions/0/logConfiguration", json!({"logDriver": "awslogs"})),
    ] {
        // Arrays have no members by name.
        let bad = match pointer.strip_prefix("/containerDefinitions/0") {
            None => with(&good, pointer, value),
            Some(rest) => with(
                &good,
                "/containerDefinitions",
                json!([with(&good["containerDefinitions"][0], rest, value)]),
            ),
        };
        refused(&fake, "RegisterTaskDefinition", bad, "ClientException").await;
    }
    refused(
        &fake,
        "RegisterTaskDefinition",
        with(&good, "/pidMode", json!("host")),
        "UnsupportedFeatureException",
    )
    .await;
    refused(&fake, "DescribeTaskDefinition", json!({"taskDefinition": "f"}), "ClientException").await;
    for revision in 1..=2 {
        let made = done(&fake, "RegisterTaskDefinition", good.clone()).await;
        assert_eq!(made["taskDefinition"]["revision"], revision);
    }
    let found = done(&fake, "DescribeTaskDefinition", json!({"taskDefinition": "f"})).await;
    assert_eq!(found["taskDefinition"]["revision"], 2, "a family means its newest revision");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tasks_are_started_once_for_a_token() {
    let fake = fake().await;
    done(&fake, "RegisterTaskDefinition", definition()).await;
    let good = task();
    let named = |name: &str| json!({"containerOverrides": [{"name": name}]});
    let long = json!({"containerOverrides": [{"name": "worker", "environment": [{"name": "N", "value": "v".repeat(8_192)}]}]});
    for (pointer, value, code) in [
        ("/taskDefinition", json!("other"), "ClientException"),
        ("/cluster", json!("other"), "ClusterNotFoundException"),
        ("/launchType", Value::Null, "InvalidParameterException"),
        (
            "/capacityProviderStrategy",
            json!([{"capacityProvider": "FARGATE_SPOT"}]),
            "InvalidParameterException",
        ),
        ("/networkConfiguration", Value::Null, "InvalidParameterException"),
        (
            "/networkConfiguration",
            json!({"awsvpcConfiguration": {"subnets": []}}),
            "InvalidParameterException",
        ),
        ("/clientToken", json!("t".repeat(65)), "InvalidParameterException"),
        ("/clientToken", json!("a b"), "InvalidParameterException"),
        ("/startedBy", json!("s".repeat(129)), "InvalidParameterException"),
        ("/count", json!(11), "InvalidParameterException"),
        ("/overrides", named("other"), "InvalidParameterException"),
        ("/overrides", long, "InvalidParameterException"),
        ("/volumeConfigurations", json!([]), "UnsupportedFeatureException"),
    ] {
        refused(&fake, "RunTask", with(&good, pointer, value), code).await;
    }
    assert!(fake.tasks().is_empty());
    let first = done(&fake, "RunTask", good.clone()).await;
    let arn = first["tasks"][0]["taskArn"].clone();
    assert_eq!(done(&fake, "RunTask", good.clone()).await["tasks"][0]["taskArn"], arn, "the same task");
    let conflict =
        refused(&fake, "RunTask", with(&good, "/startedBy", json!("you")), "ConflictException").await;
    assert_eq!(conflict["resourceIds"], json!([arn]));
    assert_eq!(fake.tasks().len(), 1);
    done(&fake, "RunTask", with(&good, "/clientToken", json!("u"))).await;
    assert_eq!(fake.tasks().len(), 2, "another token, another task");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reads_are_late_and_stopped_tasks_vanish() {
    let fake = fake().await;
    done(&fake, "RegisterTaskDefinition", definition()).await;
    fake.set_visibility_delay_ms(60_000);
    let arn = done(&fake, "RunTask", task()).await["tasks"][0]["taskArn"].clone();
    let describe = json!({"tasks": [arn]});
    let missing = done(&fake, "DescribeTasks", describe.clone()).await;
    assert_eq!(missing["failures"][0]["reason"], "MISSING");
    fake.advance_ms(60_000);
    // `cat` of nothing ends at once.
    let begin = Instant::now();
    let stopped = loop {
        let seen = done(&fake, "DescribeTasks", describe.clone()).await["tasks"][0].clone();
        if seen["lastStatus"] == "STOPPED" {
            break seen;
        }
        assert!(begin.elapsed() < Duration::from_secs(30), "{seen}");
    };
    assert_eq!(
        (&stopped["stopCode"], &stopped["containers"][0]["exitCode"]),
        (&json!("EssentialContainerExited"), &json!(0))
    );
    let list = |desired: &str| json!({"startedBy": "me", "desiredStatus": desired});
    assert_eq!(done(&fake, "ListTasks", list("STOPPED")).await["taskArns"], json!([arn]));
    assert_eq!(done(&fake, "ListTasks", list("RUNNING")).await["taskArns"], json!([]));
    refused(&fake, "ListTasks", json!({"startedBy": "me", "family": "f"}), "InvalidParameterException").await;
    fake.advance_ms(3_600_000);
    assert_eq!(done(&fake, "DescribeTasks", describe).await["failures"][0]["reason"], "MISSING");
    assert_eq!(done(&fake, "ListTasks", list("STOPPED")).await["taskArns"], json!([]));
    refused(&fake, "StopTask", json!({"task": arn}), "InvalidParameterException").await;
    refused(&fake, "DeleteCluster", json!({}), "UnsupportedFeatureException").await;
}

#[test]
fn it_is_a_program_too() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_pangolin-ecs-fake"))
        .args(["--worker", "/bin/true", "--cluster", "mine"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let (status, answer) = call(line.trim(), "ListTasks", &json!({"cluster": "mine"}));
    assert_eq!((status, answer), (200, json!({"taskArns": []})));
    nix::sys::signal::kill(
        nix::unistd::Pid::from_raw(child.id().try_into().unwrap()),
        nix::sys::signal::SIGTERM,
    )
    .unwrap();
    assert!(child.wait().unwrap().success());
    let refused = Command::new(env!("CARGO_BIN_EXE_pangolin-ecs-fake"))
        .args(["--worker", "/bin/true", "--listen", "0.0.0.0:0"])
        .output()
        .unwrap();
    assert!(!refused.status.success() && String::from_utf8_lossy(&refused.stderr).contains("loopback"));
}
