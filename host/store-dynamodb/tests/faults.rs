//! What no emulator does by itself: lost answers, throttling, conflicts, torn reads. And damage.

#![expect(clippy::unwrap_used, reason = "helpers of tests may panic")]

mod common;

use std::{net::Ipv4Addr, time::Duration};

use aws_sdk_dynamodb::types::AttributeValue;
use common::{Emulator, QUICK};
use pangolin_aws::faults::{Answer, Fault, FaultScript, Gate, On};
use pangolin_core::ids::Digest;
use pangolin_ports::run_store::{Append, Batch, Cell, Commit, Guard, Head, RunStore, RunStoreError, Write};
use pangolin_store_dynamodb::{DynamoRunStore, Operation};

fn transact() -> On {
    On::operation("dynamodb", "TransactWriteItems")
}

fn record(text: &str) -> (Digest, Vec<u8>) {
    (Digest::of(text.as_bytes()), text.as_bytes().to_vec())
}

fn put(key: &str) -> Write {
    Write::Put { key: key.to_owned(), value: b"value".to_vec() }
}

/// Two records, a new cell, a deletion of nothing and a guard on something else: actions of every kind.
fn batch(id: &str) -> Batch {
    Batch {
        id: id.to_owned(),
        guards: vec![
            Guard::HeadIs { stream: "run/1".to_owned(), head: Head::default() },
            Guard::Absent("other".to_owned()),
        ],
        writes: vec![put("cell"), Write::Delete("gone".to_owned())],
        appends: vec![Append {
            stream: "run/1".to_owned(),
            records: vec![record("first"), record("second")],
        }],
    }
}

/// Actions of [`batch`]: the id, the end of the stream, a segment, two cells, a check.
const ACTIONS: usize = 6;

async fn assert_applied_once(store: &DynamoRunStore, what: &str) {
    let head = Head { len: 2, hash: Some(record("second").0) };
    assert_eq!(store.head("run/1").await.unwrap(), head, "{what}");
    let records = store.read("run/1", 0, 10).await.unwrap();
    let records: Vec<_> = records.into_iter().map(|record| (record.hash, record.bytes)).collect();
    assert_eq!(records, [record("first"), record("second")], "{what}");
    let cell = Cell { version: 1, value: b"value".to_vec() };
    assert_eq!(store.get("cell").await.unwrap(), Some(cell), "{what}");
    assert!(store.was_committed("id").await.unwrap(), "{what}");
}

async fn assert_nothing_written(store: &DynamoRunStore, what: &str) {
    assert_eq!(store.head("run/1").await.unwrap(), Head::default(), "{what}");
    assert!(store.scan("", None, 10).await.unwrap().is_empty(), "{what}");
    assert!(!store.was_committed("id").await.unwrap(), "{what}");
}

fn reasons(at: usize, code: &'static str) -> Vec<&'static str> {
    let mut reasons = vec!["None"; ACTIONS];
    reasons[at] = code;
    reasons
}

/// Faults after which a request must be sent again, and whether it may have taken effect.
fn passing() -> Vec<(&'static str, Fault, bool)> {
    let answer = |name| Fault::Answer(Answer::dynamodb_error(name));
    let cancelled = |at, code| Fault::Answer(Answer::dynamodb_cancelled(&reasons(at, code)));
    vec![
        ("reset before it was sent", Fault::RefuseSend, true),
        ("answer lost", Fault::LoseAnswer, true),
        ("500", Fault::Answer(Answer::json_internal_error()), true),
        ("500 after it took effect", Fault::AnswerAfterEffect(Answer::json_internal_error()), true),
        (
            "503 of a gateway",
            Fault::AnswerAfterEffect(Answer::new(503, "text/html", "<html>busy</html>")),
            true,
        ),
        ("in progress", answer("TransactionInProgressException"), true),
        ("table throttled", Fault::Answer(Answer::dynamodb_throttled()), false),
        ("throttled", answer("ThrottlingException"), false),
        ("account throttled", answer("RequestLimitExceeded"), false),
        ("conflict on the first item", cancelled(0, "TransactionConflict"), false),
        ("conflict on a cell", cancelled(3, "TransactionConflict"), false),
        ("item throttled", cancelled(2, "ThrottlingError"), false),
        ("item beyond its throughput", cancelled(1, "ProvisionedThroughputExceeded"), false),
        ("token known with another content", answer("IdempotentParameterMismatchException"), false),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_that_fails_once_is_applied_once() {
    let Some(emulator) = Emulator::dynoxide("a_commit_that_fails_once_is_applied_once").await else { return };
    let twice = [("sent twice", Fault::SendTwice, false)];
    for (what, fault, _) in passing().into_iter().chain(twice) {
        let script = FaultScript::new();
        let store = emulator.store(&emulator.table().await, &script).await;
        script.at(transact(), 1, fault);
        assert_eq!(store.commit(batch("id")).await.unwrap(), Commit::Committed, "{what}");
        assert_applied_once(&store, what).await;
        let sent = script.count(&transact());
        assert_eq!(sent, if what == "sent twice" { 1 } else { 2 }, "{what}");
        // Long after the token has died, the item of the batch id still knows.
        let later = emulator.store(store.table(), &FaultScript::new()).await;
        assert_eq!(later.commit(batch("id")).await.unwrap(), Commit::Committed, "{what}");
        assert_applied_once(&later, what).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_batch_stays_refused_when_requests_fail() {
    let name = "a_refused_batch_stays_refused_when_requests_fail";
    let Some(emulator) = Emulator::dynoxide(name).await else { return };
    for (what, fault, _) in passing() {
        let script = FaultScript::new();
        let store = emulator.store(&emulator.table().await, &script).await;
        let other = Batch { id: "other".to_owned(), writes: vec![put("other")], ..Batch::default() };
        assert_eq!(store.commit(other).await.unwrap(), Commit::Committed, "{what}");
        script.at(transact(), 1, fault);
        let answer = store.commit(batch("id")).await.unwrap();
        let Commit::GuardFailed { guard: 1, found } = answer else { panic!("{what}: {answer:?}") };
        assert_eq!(found, "cell \"other\" exists at version 1", "{what}");
        assert_eq!(store.head("run/1").await.unwrap(), Head::default(), "{what}");
        assert!(!store.was_committed("id").await.unwrap(), "{what}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn when_the_tries_are_used_up_the_answer_is_honest() {
    let name = "when_the_tries_are_used_up_the_answer_is_honest";
    let Some(emulator) = Emulator::dynoxide(name).await else { return };
    for (what, fault, unclear) in passing() {
        let script = FaultScript::new();
        let store = emulator.store(&emulator.table().await, &script).await;
        script.always(transact(), fault.clone());
        let answer = store.commit(batch("id")).await;
        assert_eq!(script.count(&transact()), QUICK.tries as usize, "{what}");
        script.clear();
        let takes_effect = matches!(fault, Fault::LoseAnswer | Fault::AnswerAfterEffect(_));
        match (answer, takes_effect, unclear) {
            // Every answer was lost, but the item of the batch id could be read.
            (Ok(Commit::Committed), true, _) => assert_applied_once(&store, what).await,
            (Ok(Commit::Unknown), false, true) => assert_nothing_written(&store, what).await,
            (Err(RunStoreError::Busy(why)), false, false) => {
                assert!(why.contains(store.table()), "{what}: {why}");
                assert_nothing_written(&store, what).await;
            }
            (other, ..) => panic!("{what}: {other:?}"),
        }
        assert_eq!(store.commit(batch("id")).await.unwrap(), Commit::Committed, "{what}");
        assert_applied_once(&store, what).await;
    }
}

/// An answer that says "not done" is about the last request only.
#[tokio::test(flavor = "multi_thread")]
async fn throttling_after_a_lost_answer_is_not_busy() {
    let Some(emulator) = Emulator::dynoxide("throttling_after_a_lost_answer_is_not_busy").await else {
        return;
    };
    let throttled = || Fault::Answer(Answer::dynamodb_throttled());
    for (what, first, expected) in [
        ("it took effect", Fault::LoseAnswer, Commit::Committed),
        ("it did not", Fault::RefuseSend, Commit::Unknown),
    ] {
        let script = FaultScript::new();
        let store = emulator.store(&emulator.table().await, &script).await;
        script.at(transact(), 1, first.clone());
        script.always(transact(), throttled());
        assert_eq!(store.commit(batch("id")).await.unwrap(), expected, "{what}");
        // And when it cannot be looked up either.
        let script = FaultScript::new();
        let store = emulator.store(&emulator.table().await, &script).await;
        script.at(transact(), 1, first);
        script.always(On::service("dynamodb"), throttled());
        assert_eq!(store.commit(batch("id")).await.unwrap(), Commit::Unknown, "{what}");
        script.clear();
        assert_eq!(store.was_committed("id").await.unwrap(), expected == Commit::Committed, "{what}");
    }
}

/// DynamoDB does not promise to name every condition that failed.
#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_batch_is_known_though_only_a_guard_is_blamed() {
    let name = "a_repeated_batch_is_known_though_only_a_guard_is_blamed";
    let Some(emulator) = Emulator::dynoxide(name).await else { return };
    let script = FaultScript::new();
    let store = emulator.store(&emulator.table().await, &script).await;
    // Without the item, a missing end of the stream: the guard holds for that, so blame the check on `other` as absent.
    let mut wants_other = batch("id");
    wants_other.guards[1] = Guard::VersionIs { key: "other".to_owned(), version: 1 };
    let blame = || Fault::Answer(Answer::dynamodb_cancelled(&reasons(ACTIONS - 1, "ConditionalCheckFailed")));
    script.at(transact(), 1, blame());
    let answer = store.commit(wants_other.clone()).await.unwrap();
    assert!(matches!(&answer, Commit::GuardFailed { guard: 1, found } if found.contains("does not exist")));
    assert_eq!(store.commit(batch("id")).await.unwrap(), Commit::Committed);
    script.at(transact(), 1, blame());
    assert_eq!(store.commit(wants_other).await.unwrap(), Commit::Committed);
    assert_applied_once(&store, "after both").await;
}

/// The first request of a batch is on its way while the batch is committed again by somebody else.
#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_arrives_late_changes_nothing() {
    let Some(emulator) = Emulator::dynoxide("a_request_that_arrives_late_changes_nothing").await else {
        return;
    };
    let table = emulator.table().await;
    let (gate, script) = (Gate::new(), FaultScript::new());
    let slow = emulator.store(&table, &script).await;
    script.at(transact(), 1, Fault::HoldBefore(gate.clone()));
    let late = tokio::spawn(async move { slow.commit(batch("id")).await });
    gate.arrived(1).await;
    let quick = emulator.store(&table, &FaultScript::new()).await;
    assert_eq!(quick.commit(batch("id")).await.unwrap(), Commit::Committed);
    gate.open();
    assert_eq!(late.await.unwrap().unwrap(), Commit::Committed);
    assert_applied_once(&quick, "afterwards").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn reads_that_fail_once_are_repeated() {
    let Some(emulator) = Emulator::dynoxide("reads_that_fail_once_are_repeated").await else { return };
    let script = FaultScript::new();
    let table = emulator.table().await;
    let store = emulator.store(&table, &script).await;
    store.commit(batch("id")).await.unwrap();
    let cancelled = |what: &str| what.contains("item") || what.contains("conflict") || what.contains("token");
    for (what, fault, _) in passing().into_iter().filter(|(what, ..)| !cancelled(what)) {
        for operation in ["GetItem", "Query"] {
            script.clear();
            script.at(On::operation("dynamodb", operation), 1, fault.clone());
            assert_applied_once(&store, what).await;
            script.at(On::operation("dynamodb", operation), 1, fault.clone());
            assert_eq!(store.streams("run/", None, 10).await.unwrap(), ["run/1"], "{what}");
            assert_eq!(store.scan("ce", None, 10).await.unwrap().len(), 1, "{what}");
            script.always(On::operation("dynamodb", operation), fault.clone());
            let (read, head) = (store.read("run/1", 0, 1).await, store.head("run/1").await);
            assert_eq!(matches!(read, Err(RunStoreError::Busy(_))), operation == "Query", "{what}: {read:?}");
            assert_eq!(
                matches!(head, Err(RunStoreError::Busy(_))),
                operation == "GetItem",
                "{what}: {head:?}"
            );
        }
    }
    script.clear();
    for fault in [Fault::LoseAnswer, Fault::RefuseSend, Fault::Answer(Answer::dynamodb_throttled())] {
        // A new table is marked once, whatever gets lost.
        let table = emulator.table().await;
        let script = FaultScript::new();
        script.at(On::operation("dynamodb", "PutItem"), 1, fault.clone());
        script.at(On::operation("dynamodb", "GetItem"), 1, fault);
        let store = emulator.store(&table, &script).await;
        store.commit(batch("id")).await.unwrap();
        assert_applied_once(&store, "a new table").await;
    }
}

/// Opening a table that is in use writes nothing, so whoever may only read can open it.
#[tokio::test(flavor = "multi_thread")]
async fn opening_again_only_reads() {
    let Some(emulator) = Emulator::dynoxide("opening_again_only_reads").await else { return };
    let table = emulator.table().await;
    drop(emulator.store(&table, &FaultScript::new()).await);
    let script = FaultScript::new();
    script.always(
        On::operation("dynamodb", "PutItem"),
        Fault::Answer(Answer::dynamodb_error("AccessDeniedException")),
    );
    let store = emulator.store(&table, &script).await;
    assert_eq!(script.calls().len(), 1);
    assert_eq!(store.meter().used()[&Operation::Open].requests, 1);
    let error =
        DynamoRunStore::open(&emulator.client(&script), emulator.table().await, QUICK).await.unwrap_err();
    assert!(error.to_string().contains("rights"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_opened_says_why() {
    let Some(emulator) = Emulator::dynoxide("what_cannot_be_opened_says_why").await else { return };
    let client = emulator.client(&FaultScript::new());
    let error = DynamoRunStore::open(&client, "no-such-table", QUICK).await.unwrap_err();
    assert!(
        error.to_string().contains("no-such-table") && error.to_string().contains("deploy apply"),
        "{error}"
    );
    let table = emulator.table().await;
    let newer = client.put_item().table_name(&table).item("pk", AttributeValue::S("meta".to_owned()));
    let newer = newer.item("sk", AttributeValue::S("layout".to_owned()));
    newer.item("v", AttributeValue::N("2".to_owned())).send().await.unwrap();
    let error = DynamoRunStore::open(&client, &table, QUICK).await.unwrap_err();
    assert!(matches!(error, RunStoreError::Schema { found: 2, supported: 1 }), "{error}");
    // Nobody listens there.
    let port = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
    let client = common::client(&format!("http://127.0.0.1:{port}"), &FaultScript::new());
    let error = DynamoRunStore::open(&client, &table, QUICK).await.unwrap_err();
    assert!(matches!(error, RunStoreError::Busy(_)), "{error}");
}

/// A store with a stream of three segments, and a way to look at its items.
async fn long_stream(emulator: &Emulator, script: &FaultScript) -> (DynamoRunStore, Vec<String>) {
    let store = emulator.store(&emulator.table().await, script).await;
    let records: Vec<_> = (0..12_u8).map(|fill| (Digest::of(&[fill]), vec![fill; 60_000])).collect();
    let batch = Batch {
        id: "long".to_owned(),
        guards: vec![Guard::HeadIs { stream: "long".to_owned(), head: Head::default() }],
        appends: vec![Append { stream: "long".to_owned(), records }],
        ..Batch::default()
    };
    assert_eq!(store.commit(batch).await.unwrap(), Commit::Committed);
    let query = emulator.client(&FaultScript::new()).query().table_name(store.table());
    let query = query.key_condition_expression("pk = :p").projection_expression("sk");
    let found =
        query.expression_attribute_values(":p", AttributeValue::S("seg/long".to_owned())).send().await;
    let keys =
        found.unwrap().items().iter().map(|item| item["sk"].as_s().unwrap().clone()).collect::<Vec<_>>();
    assert_eq!(keys.len(), 3, "{keys:?}");
    (store, keys)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_segment_is_damage_and_not_an_end() {
    let name = "a_missing_segment_is_damage_and_not_an_end";
    let Some(emulator) = Emulator::dynoxide(name).await else { return };
    let (store, keys) = long_stream(&emulator, &FaultScript::new()).await;
    let raw = emulator.client(&FaultScript::new());
    let delete =
        raw.delete_item().table_name(store.table()).key("pk", AttributeValue::S("seg/long".to_owned()));
    delete.key("sk", AttributeValue::S(keys[1].clone())).send().await.unwrap();
    let error = store.read("long", 0, 100).await.unwrap_err();
    assert!(matches!(&error, RunStoreError::Damaged(what) if what.contains("record 4 ")), "{error}");
    assert_eq!(store.read("long", 0, 4).await.unwrap().len(), 4);
    assert_eq!(store.read("long", 10, 100).await.unwrap().len(), 2);
}

/// A query that looks while a commit becomes visible sees its last segment and not those before.
#[tokio::test(flavor = "multi_thread")]
async fn a_torn_read_is_repeated() {
    let Some(emulator) = Emulator::dynoxide("a_torn_read_is_repeated").await else { return };
    let script = FaultScript::new();
    let (store, keys) = long_stream(&emulator, &script).await;
    // As DynamoDB would show it: one record of one byte, far behind the others. Base64 of hash, length and byte.
    let packed = [Digest::of(b"x").as_bytes().as_slice(), &[0, 0, 0, 1], b"x"].concat();
    let torn = format!(
        r#"{{"Count":1,"ScannedCount":1,"Items":[{{"pk":{{"S":"seg/long"}},"sk":{{"S":"{}"}},"n":{{"N":"1"}},"r":{{"B":"{}"}}}}]}}"#,
        keys[2],
        base64(&packed)
    );
    let torn = Fault::Answer(Answer::new(200, "application/x-amz-json-1.0", torn));
    script.at(On::operation("dynamodb", "Query"), 1, torn);
    let records = store.read("long", 0, 100).await.unwrap();
    let fills: Vec<u8> = records.iter().map(|record| record.bytes[0]).collect();
    assert_eq!(fills, (0..12).collect::<Vec<u8>>());
    assert!(records.iter().all(|record| record.bytes.len() == 60_000));
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let bits =
            chunk.iter().fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for index in 0..4 {
            let digit = DIGITS[(bits >> (18 - 6 * index) & 63) as usize];
            text.push(if index <= chunk.len() { char::from(digit) } else { '=' });
        }
    }
    text
}

#[tokio::test(flavor = "multi_thread")]
async fn items_that_make_no_sense_are_damage() {
    let Some(emulator) = Emulator::dynoxide("items_that_make_no_sense_are_damage").await else { return };
    let store = emulator.store(&emulator.table().await, &FaultScript::new()).await;
    store.commit(batch("id")).await.unwrap();
    let raw = emulator.client(&FaultScript::new());
    let set = |partition: &str, sort: &str, change: &str| {
        let update = raw.update_item().table_name(store.table()).update_expression(change);
        let update = update.key("pk", AttributeValue::S(partition.to_owned()));
        update.key("sk", AttributeValue::S(sort.to_owned()))
    };
    set("stream", "run/1", "REMOVE h").send().await.unwrap();
    set("cell", "cell", "REMOVE v").send().await.unwrap();
    set("seg/run/1", "00000000000000000001", "REMOVE r").send().await.unwrap();
    let errors = [
        store.head("run/1").await.unwrap_err(),
        store.get("cell").await.unwrap_err(),
        store.scan("", None, 9).await.unwrap_err(),
        store.read("run/1", 0, 9).await.unwrap_err(),
    ];
    for (error, part) in errors.iter().zip(["\"h\"", "\"v\"", "\"v\"", "\"r\""]) {
        assert!(matches!(error, RunStoreError::Damaged(what) if what.contains(part)), "{error}");
    }
    // The end of the stream is gone, its records are not.
    let delete =
        raw.delete_item().table_name(store.table()).key("pk", AttributeValue::S("stream".to_owned()));
    delete.key("sk", AttributeValue::S("run/1".to_owned())).send().await.unwrap();
    let error = store.commit(batch("again")).await.unwrap_err();
    assert!(matches!(&error, RunStoreError::Damaged(what) if what.contains("run/1")), "{error}");
    assert!(!store.was_committed("again").await.unwrap());
}

/// Eight writers behind one head, half of them throttled or losing answers now and then: one winner each round.
#[tokio::test(flavor = "multi_thread")]
async fn one_winner_per_head_also_with_faults() {
    let Some(emulator) = Emulator::dynoxide("one_winner_per_head_also_with_faults").await else { return };
    let table = emulator.table().await;
    let mut head = Head::default();
    for round in 0..12_u64 {
        let mut tasks = tokio::task::JoinSet::new();
        for writer in 0..8_u64 {
            let script = FaultScript::new();
            match (writer + round) % 4 {
                0 => script.at(transact(), 1, Fault::LoseAnswer),
                1 => script.at(transact(), 1, Fault::Answer(Answer::dynamodb_throttled())),
                2 => script.at(transact(), 1, Fault::SendTwice),
                _ => {}
            }
            let store = emulator.store(&table, &script).await;
            let batch = Batch {
                id: format!("{round}/{writer}"),
                guards: vec![Guard::HeadIs { stream: "s".to_owned(), head }],
                appends: vec![Append {
                    stream: "s".to_owned(),
                    records: vec![record(&format!("{round}/{writer}"))],
                }],
                ..Batch::default()
            };
            tasks.spawn(async move { (writer, store.commit(batch).await.unwrap()) });
        }
        let mut winners = Vec::new();
        while let Some(answer) =
            tokio::time::timeout(Duration::from_secs(60), tasks.join_next()).await.unwrap()
        {
            let (writer, commit) = answer.unwrap();
            if commit == Commit::Committed {
                winners.push(writer);
            }
        }
        assert_eq!(winners.len(), 1, "round {round}: {winners:?}");
        head = Head { len: round + 1, hash: Some(record(&format!("{round}/{}", winners[0])).0) };
        let store = emulator.store(&table, &FaultScript::new()).await;
        assert_eq!(store.head("s").await.unwrap(), head, "round {round}");
    }
}
