//! What clients of the SDK see behind the proxy.

#![expect(clippy::unwrap_used, reason = "a test ends at the first surprise")]

use aws_sdk_dynamodb::{
    operation::transact_write_items::TransactWriteItemsError,
    types::{AttributeValue, ConditionCheck, TransactWriteItem},
};
use aws_sdk_s3::primitives::ByteStream;
use pangolin_aws::{Aws, CallError, Service};
use pangolin_aws_proxy::{Fault, Outcome, Proxy, Refusal};
use pangolin_ecs_fake::EcsFake;
use pangolin_s3_fake::S3Fake;

/// Nobody listens there: what is refused by a rule needs no service.
const NOWHERE: &str = "http://127.0.0.1:9";

async fn s3(proxy: &Proxy, fake: &S3Fake) -> aws_sdk_s3::Client {
    fake.create_bucket("data");
    let url = proxy.front("test", &fake.endpoint()).await.unwrap();
    let aws = Aws::for_tests(&url, 3, Aws::http()).unwrap();
    let config = aws_sdk_s3::config::Builder::from(&aws.sdk(Service::S3)).force_path_style(true);
    aws_sdk_s3::Client::from_conf(config.build())
}

async fn create(client: &aws_sdk_s3::Client, key: &str, bytes: Vec<u8>) -> Result<(), CallError> {
    let put = client.put_object().bucket("data").key(key).if_none_match("*").body(ByteStream::from(bytes));
    put.send().await.map(|_| ()).map_err(CallError::new)
}

#[tokio::test]
async fn bodies_pass_and_are_counted_by_kind() {
    let (proxy, fake) = (Proxy::new(), S3Fake::start().await.unwrap());
    let client = s3(&proxy, &fake).await;
    // Several frames in each direction.
    let bytes: Vec<u8> = (0..3_000_000_u32).map(|number| number.to_le_bytes()[1]).collect();
    create(&client, "blobs/a", bytes.clone()).await.unwrap();
    create(&client, "blobs/b", b"b".to_vec()).await.unwrap();
    let found = client.get_object().bucket("data").key("blobs/a").send().await.unwrap();
    assert_eq!(found.body.collect().await.unwrap().to_vec(), bytes);
    client.head_object().bucket("data").key("blobs/a").send().await.unwrap();
    let absent = client.get_object().bucket("data").key("blobs/c").send().await;
    assert_eq!(CallError::new(absent.unwrap_err()).code(), Some("NoSuchKey"));

    let counts = proxy.counts();
    let of = |text: &str| *counts.iter().find(|(kind, _)| kind.to_string() == text).unwrap().1;
    let put = of("test s3 PutObject data:blobs");
    assert_eq!((put.calls, put.forwarded, put.failed_before, put.failed_after), (2, 2, 0, 0));
    // Chunks of the SDK's encoding come on top.
    assert!((3_000_001..3_010_000).contains(&put.sent), "{put:?}");
    let get = of("test s3 GetObject data:blobs");
    assert_eq!(get.calls, 2);
    assert!((3_000_000..3_001_000).contains(&get.received), "{get:?}");
    assert_eq!(of("test s3 HeadObject data:blobs").received, 0);
    let statuses: Vec<Outcome> = proxy.calls().into_iter().map(|(_, outcome)| outcome).collect();
    assert_eq!(statuses, [200, 200, 200, 200, 404].map(Outcome::Answered));
}

#[tokio::test]
async fn a_call_fails_before_or_after_its_effect_and_the_next_try_sees_which() {
    let (proxy, fake) = (Proxy::new(), S3Fake::start().await.unwrap());
    let client = s3(&proxy, &fake).await;
    proxy.rule(|call| (call.attempt == 1).then_some(Fault::Reset));
    create(&client, "blobs/before", b"x".to_vec()).await.unwrap();
    proxy.rule(|call| (call.attempt == 1).then_some(Fault::LoseAnswer));
    let after = create(&client, "blobs/after", b"x".to_vec()).await.unwrap_err();
    assert_eq!(after.status(), Some(412), "the first try created it");
    proxy.rule(|call| (call.attempt == 1).then_some(Fault::RefuseAfterEffect(Refusal::Internal)));
    assert_eq!(create(&client, "blobs/error", b"x".to_vec()).await.unwrap_err().status(), Some(412));
    proxy.no_rule();
    assert_eq!(fake.keys("data"), ["blobs/after", "blobs/before", "blobs/error"]);

    let calls = proxy.calls();
    let of: Vec<(u64, u32, Outcome)> =
        calls.iter().map(|(call, outcome)| (call.nth, call.attempt, *outcome)).collect();
    let expected = [
        (1, 1, Outcome::FailedBefore),
        (2, 2, Outcome::Answered(200)),
        (3, 1, Outcome::FailedAfter),
        (4, 2, Outcome::Answered(412)),
        (5, 1, Outcome::FailedAfter),
        (6, 2, Outcome::Answered(412)),
    ];
    assert_eq!(of, expected);
    assert_eq!(calls[0].0.logical, calls[1].0.logical);
    assert_ne!(calls[1].0.logical, calls[2].0.logical);
}

/// Every service says it in its own way, and the SDK understands each: as many tries as it has.
#[tokio::test]
async fn refusals_have_the_form_of_their_service() {
    let (proxy, fake) = (Proxy::new(), S3Fake::start().await.unwrap());
    let ecs_fake = EcsFake::start().await.unwrap();
    let s3 = s3(&proxy, &fake).await;
    let json = Aws::for_tests(&proxy.front("test", NOWHERE).await.unwrap(), 3, Aws::http()).unwrap();
    let ecs_url = proxy.front("test", &ecs_fake.endpoint()).await.unwrap();
    let json = json.with_endpoint(Service::Ecs, &ecs_url);
    let dynamo = aws_sdk_dynamodb::Client::new(&json.sdk(Service::DynamoDb));
    let sqs = aws_sdk_sqs::Client::new(&json.sdk(Service::Sqs));
    let ecs = aws_sdk_ecs::Client::new(&json.sdk(Service::Ecs));
    let key = || AttributeValue::S("k".to_owned());
    for (refusal, codes, tries) in [
        (
            Refusal::Throttled,
            ["SlowDown", "ProvisionedThroughputExceededException", "RequestThrottled", "ThrottlingException"],
            3,
        ),
        (Refusal::Unavailable, ["ServiceUnavailable"; 4], 3),
        (Refusal::Error(400, "Nonsense"), ["Nonsense"; 4], 1),
    ] {
        let before = proxy.calls().len();
        let rule = refusal.clone();
        proxy.rule(move |_| Some(Fault::Refuse(rule.clone())));
        let get = dynamo.get_item().table_name("t").key("pk", key()).key("sk", key());
        let found = [
            create(&s3, "k", b"x".to_vec()).await.unwrap_err(),
            CallError::new(get.send().await.unwrap_err()),
            CallError::new(sqs.send_message().queue_url("q").message_body("b").send().await.unwrap_err()),
            CallError::new(ecs.list_tasks().send().await.unwrap_err()),
        ];
        assert_eq!(found.each_ref().map(|error| error.code().unwrap_or_default()), codes);
        assert_eq!(proxy.calls().len() - before, tries * codes.len(), "{refusal:?}");
    }
    assert_eq!(fake.keys("data"), Vec::<String>::new());
}

#[tokio::test]
async fn a_cancelled_transaction_has_a_reason_for_each_action() {
    let proxy = Proxy::new();
    let aws = Aws::for_tests(&proxy.front("test", NOWHERE).await.unwrap(), 1, Aws::http()).unwrap();
    let dynamo = aws_sdk_dynamodb::Client::new(&aws.sdk(Service::DynamoDb));
    let check = |sort: &str| {
        let check = ConditionCheck::builder()
            .table_name("t")
            .key("pk", AttributeValue::S("cell".to_owned()))
            .key("sk", AttributeValue::S(sort.to_owned()))
            .condition_expression("attribute_exists(pk)");
        TransactWriteItem::builder().condition_check(check.build().unwrap()).build()
    };
    for (refusal, last) in [
        (Refusal::Conflict, "TransactionConflict"),
        (Refusal::Cancelled("ThrottlingError"), "ThrottlingError"),
    ] {
        proxy.rule(move |_| Some(Fault::Refuse(refusal.clone())));
        let sent = dynamo.transact_write_items().transact_items(check("a/1")).transact_items(check("b/2"));
        let error = sent.send().await.unwrap_err();
        let Some(TransactWriteItemsError::TransactionCanceledException(cancelled)) = error.as_service_error()
        else {
            panic!("{error:?}")
        };
        let codes: Vec<&str> =
            cancelled.cancellation_reasons().iter().map(|reason| reason.code().unwrap()).collect();
        assert_eq!(codes, ["None", last]);
    }
    let kinds: Vec<String> = proxy.counts().keys().map(ToString::to_string).collect();
    assert_eq!(kinds, ["test dynamodb TransactWriteItems cell:a+cell:b"]);
}

#[tokio::test]
async fn a_service_that_is_not_there_is_no_fault_of_a_rule() {
    let proxy = Proxy::new();
    let aws = Aws::for_tests(&proxy.front("test", NOWHERE).await.unwrap(), 1, Aws::http()).unwrap();
    let sqs = aws_sdk_sqs::Client::new(&aws.sdk(Service::Sqs));
    let error = sqs.send_message().queue_url("q").message_body("b").send().await.unwrap_err();
    assert_eq!(CallError::new(error).status(), Some(502));
    assert_eq!(proxy.calls()[0].1, Outcome::Unreachable);
    assert!(proxy.front("test", "ftp://nowhere").await.is_err());
}
