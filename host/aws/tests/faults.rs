//! The fault layer does what its script says, seen through a real client and a server that keeps things.

#![expect(clippy::unwrap_used, reason = "helpers of tests may panic")]

use aws_sdk_s3::Client;
use pangolin_aws::{
    Aws, CallError, Service,
    faults::{Answer, Fault, FaultScript, Gate, On},
};
use pangolin_s3_fake::S3Fake;

async fn server() -> S3Fake {
    let server = S3Fake::start().await.unwrap();
    server.create_bucket("b");
    server
}

fn client(server: &S3Fake, script: &FaultScript, attempts: u32) -> Client {
    use aws_sdk_s3::config::{Builder, RequestChecksumCalculation};
    let aws = Aws::for_tests(&server.endpoint(), attempts, script.around(Aws::http())).unwrap();
    let config = Builder::from(&aws.sdk(Service::S3))
        .force_path_style(aws.path_style())
        .request_checksum_calculation(RequestChecksumCalculation::WhenRequired);
    Client::from_conf(config.build())
}

async fn put(client: &Client, key: &str) -> Result<(), CallError> {
    let put = client.put_object().bucket("b").key(key).if_none_match("*").body(b"x".to_vec().into());
    put.send().await.map(drop).map_err(CallError::new)
}

/// One fault for one PUT without retries: what the caller is told and what the server has.
#[tokio::test]
async fn each_fault_is_what_it_is_called() {
    for (fault, status, may_have, stored) in [
        (Fault::RefuseSend, None, true, false),
        (Fault::LoseAnswer, None, true, true),
        (Fault::Answer(Answer::s3_conflict()), Some(409), false, false),
        (Fault::Answer(Answer::s3_slow_down()), Some(503), true, false),
        (Fault::Answer(Answer::too_many_requests()), Some(429), false, false),
        (Fault::AnswerAfterEffect(Answer::s3_error(500, "InternalError")), Some(500), true, true),
        // The second one meets the first.
        (Fault::SendTwice, Some(412), false, true),
    ] {
        let (server, script) = (server().await, FaultScript::new());
        script.at(On::operation("s3", "PutObject"), 1, fault.clone());
        let error = put(&client(&server, &script, 1), "k").await.unwrap_err();
        assert_eq!(error.status(), status, "{fault:?}: {error}");
        assert_eq!(error.may_have_taken_effect(), may_have, "{fault:?}: {error}");
        assert_eq!(!server.keys("b").is_empty(), stored, "{fault:?}: {error}");
    }
}

#[tokio::test]
async fn the_sdk_repeats_what_it_can() {
    for (fault, calls) in [
        (Fault::RefuseSend, 2),
        (Fault::Answer(Answer::s3_slow_down()), 2),
        (Fault::Answer(Answer::s3_error(500, "InternalError")), 2),
        // Ours to repeat.
        (Fault::Answer(Answer::s3_conflict()), 1),
    ] {
        let (server, script) = (server().await, FaultScript::new());
        script.at(On::any(), 1, fault.clone());
        let answer = put(&client(&server, &script, 3), "k").await;
        assert_eq!(script.calls().len(), calls, "{fault:?}: {answer:?}");
        assert_eq!(answer.is_ok(), calls == 2, "{fault:?}: {answer:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gate_holds_before_or_after_the_effect() {
    for before in [true, false] {
        let (server, script, gate) = (server().await, FaultScript::new(), Gate::new());
        let fault = if before { Fault::HoldBefore(gate.clone()) } else { Fault::HoldAfter(gate.clone()) };
        script.at(On::operation("s3", "PutObject"), 1, fault);
        let held = client(&server, &script, 1);
        let putting = tokio::spawn(async move { put(&held, "k").await });
        gate.arrived(1).await;
        assert_eq!(server.keys("b").is_empty(), before);
        assert!(!putting.is_finished());
        gate.open();
        putting.await.unwrap().unwrap();
        assert_eq!(server.keys("b"), ["k"]);
    }
}

#[tokio::test]
async fn rules_count_only_what_they_are_about() {
    let (server, script) = (server().await, FaultScript::new());
    let client = client(&server, &script, 1);
    script.at(On::operation("s3", "PutObject"), 2, Fault::RefuseSend);
    script.always(On::service("dynamodb"), Fault::RefuseSend);
    put(&client, "a").await.unwrap();
    client.head_object().bucket("b").key("a").send().await.unwrap();
    put(&client, "b").await.unwrap_err();
    put(&client, "c").await.unwrap();
    script.between(On::any(), 1, 2, Fault::RefuseSend);
    put(&client, "d").await.unwrap_err();
    script.clear();
    put(&client, "d").await.unwrap();
    let named: Vec<_> = script.calls().into_iter().map(|call| call.operation).collect();
    let expected = ["PutObject", "HeadObject", "PutObject", "PutObject", "PutObject", "PutObject"];
    assert_eq!(named, expected);
    assert!(script.calls().iter().all(|call| call.service == "s3"), "{:?}", script.calls());
    assert_eq!(script.calls()[0].target, "/b/a?x-id=PutObject");
    assert_eq!(script.count(&On::operation("s3", "PutObject")), 5);
    assert_eq!(server.keys("b"), ["a", "c", "d"]);
}

#[tokio::test]
async fn operations_of_s3_have_their_names() {
    let (server, script) = (server().await, FaultScript::new());
    server.create_locked_bucket("locked");
    let client = client(&server, &script, 1);
    put(&client, "k").await.unwrap();
    client.get_object().bucket("b").key("k").send().await.unwrap();
    client.head_bucket().bucket("b").send().await.unwrap();
    client.list_objects_v2().bucket("b").send().await.unwrap();
    client.list_object_versions().bucket("b").send().await.unwrap();
    client.get_bucket_versioning().bucket("b").send().await.unwrap();
    client.get_object_lock_configuration().bucket("locked").send().await.unwrap();
    client.delete_object().bucket("b").key("k").send().await.unwrap();
    let named: Vec<_> = script.calls().into_iter().map(|call| call.operation).collect();
    let expected = [
        "PutObject",
        "GetObject",
        "HeadBucket",
        "ListObjectsV2",
        "ListObjectVersions",
        "GetBucketVersioning",
        "GetObjectLockConfiguration",
        "DeleteObject",
    ];
    assert_eq!(named, expected);
}

#[tokio::test]
async fn errors_say_the_code_and_a_next_step() {
    let server = server().await;
    let client = client(&server, &FaultScript::new(), 1);
    let get = client.get_object().bucket("absent").key("k").send().await.map(drop).map_err(CallError::new);
    let text = get.unwrap_err().to_string();
    assert_eq!(
        text,
        "NoSuchBucket: The specified bucket does not exist (status 404); check the bucket's name and the account"
    );
}
