//! Requests that go wrong, events that come twice or never, floods.

#![expect(clippy::unwrap_used, reason = "helpers of tests may panic")]

use std::time::Duration;

use pangolin_aws::{
    Aws,
    faults::{Answer, Fault, FaultScript, Gate, On},
};
use pangolin_inbox_s3::{Polling, S3Inbox};
use pangolin_ports::inbox::{Disposition, Inbox, InboxError, Message};
use pangolin_s3_fake::S3Fake;

async fn server() -> S3Fake {
    let server = S3Fake::start().await.unwrap();
    server.create_bucket("b");
    server
}

fn inbox(server: &S3Fake, script: &FaultScript, attempts: u32) -> S3Inbox {
    let aws = Aws::for_tests(&server.endpoint(), attempts, script.around(Aws::http())).unwrap();
    let polling = Polling { first: Duration::from_millis(1), max: Duration::from_millis(20) };
    S3Inbox::new(&aws, "b", "").with_polling(polling)
}

fn message(name: &str) -> Message {
    Message { name: name.to_owned(), bytes: format!("{{\"id\": \"{name}\"}}").into_bytes() }
}

fn accepted(text: &str) -> Disposition {
    Disposition::Accepted(text.as_bytes().to_vec())
}

async fn names(inbox: &S3Inbox) -> Vec<String> {
    inbox.waiting(10_000).await.unwrap().into_iter().map(|message| message.name).collect()
}

/// A sender and a daemon, each step repeated when it fails. What a step answered is part of the result: a message of ours may
/// not be said to be another's.
async fn scenario(inbox: &S3Inbox) -> Result<(), InboxError> {
    for name in ["first", "second", "third"] {
        inbox.send(message(name)).await?;
    }
    let waiting = loop_until_ok(async || inbox.waiting(10).await).await;
    assert_eq!(waiting, [message("first"), message("second"), message("third")]);
    loop_until_ok(async || inbox.settle("first", accepted("receipt")).await).await;
    loop_until_ok(async || inbox.settle("second", Disposition::Rejected(b"no".to_vec())).await).await;
    let left = loop_until_ok(async || inbox.waiting(10).await).await;
    assert_eq!(left, [message("third")]);
    for (name, expected) in [
        ("first", Some(accepted("receipt"))),
        ("second", Some(Disposition::Rejected(b"no".to_vec()))),
        ("third", Some(Disposition::Waiting)),
        ("fourth", None),
    ] {
        assert_eq!(loop_until_ok(async || inbox.disposition(name).await).await, expected, "{name}");
    }
    Ok(())
}

/// One fault is planned: the second try succeeds.
async fn loop_until_ok<T>(mut step: impl AsyncFnMut() -> Result<T, InboxError>) -> T {
    match step().await {
        Ok(value) => value,
        Err(_) => step().await.unwrap(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_call_failing_once_loses_and_doubles_nothing() {
    let faults = [
        Fault::RefuseSend,
        Fault::LoseAnswer,
        Fault::SendTwice,
        Fault::Answer(Answer::s3_conflict()),
        Fault::Answer(Answer::s3_slow_down()),
        Fault::Answer(Answer::too_many_requests()),
        Fault::AnswerAfterEffect(Answer::s3_error(500, "InternalError")),
    ];
    let (first, script) = (server().await, FaultScript::new());
    scenario(&inbox(&first, &script, 1)).await.unwrap();
    let calls = script.calls().len();
    assert!(calls > 20, "only {calls} calls");
    for fault in faults {
        for attempts in [1, 4] {
            for nth in 1..=calls {
                let (server, script) = (server().await, FaultScript::new());
                script.at(On::any(), nth as u64, fault.clone());
                let inbox = inbox(&server, &script, attempts);
                let done = scenario(&inbox).await;
                // A send never fails: it repeats by itself, because a caller who repeats it is another sender.
                assert!(done.is_ok(), "{fault:?} at call {nth} with {attempts} attempts: {done:?}");
                // What a failed removal left is removed by the next look.
                assert_eq!(names(&inbox).await, ["third"]);
                assert_eq!(server.keys("b"), ["inbox/done/first", "inbox/done/second", "inbox/new/third"]);
            }
        }
    }
}

/// The answer to a PUT is lost, a quick daemon settles and removes the message, and the SDK sends the PUT again.
#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_comes_again_after_it_was_settled_is_not_seen_twice() {
    let (server, script) = (server().await, FaultScript::new());
    let (sender, daemon) = (inbox(&server, &script, 1), inbox(&server, &FaultScript::new(), 1));
    let gate = Gate::new();
    script.at(On::operation("s3", "PutObject"), 1, Fault::LoseAnswer);
    script.at(On::operation("s3", "PutObject"), 2, Fault::HoldBefore(gate.clone()));
    let sending = tokio::spawn(async move { sender.send(message("m")).await });
    gate.arrived(1).await;
    assert_eq!(names(&daemon).await, ["m"]);
    daemon.settle("m", accepted("receipt")).await.unwrap();
    gate.open();
    sending.await.unwrap().unwrap();
    assert_eq!(names(&daemon).await, Vec::<String>::new());
    assert_eq!(daemon.disposition("m").await.unwrap(), Some(accepted("receipt")));
    assert_eq!(server.keys("b"), ["inbox/done/m"]);
}

/// The same, but it is another sender's message that was settled in between.
#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_was_settled_meanwhile_is_taken() {
    let (server, script) = (server().await, FaultScript::new());
    let (slow, other) = (inbox(&server, &script, 1), inbox(&server, &FaultScript::new(), 1));
    let gate = Gate::new();
    script.at(On::operation("s3", "PutObject"), 1, Fault::HoldBefore(gate.clone()));
    let sending = tokio::spawn(async move { slow.send(message("m")).await });
    gate.arrived(1).await;
    other.send(message("m")).await.unwrap();
    other.settle("m", accepted("other's")).await.unwrap();
    gate.open();
    let sent = sending.await.unwrap();
    assert!(matches!(&sent, Err(InboxError::AlreadyExists(name)) if name == "m"), "{sent:?}");
    assert_eq!(names(&other).await, Vec::<String>::new());
    assert_eq!(other.disposition("m").await.unwrap(), Some(accepted("other's")));
}

/// A daemon that was killed between answer and removal.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_answered_and_not_removed_is_removed() {
    let (server, script) = (server().await, FaultScript::new());
    let daemon = inbox(&server, &script, 1);
    daemon.send(message("m")).await.unwrap();
    script.at(On::operation("s3", "DeleteObject"), 1, Fault::RefuseSend);
    daemon.settle("m", accepted("receipt")).await.unwrap();
    assert_eq!(server.keys("b"), ["inbox/done/m", "inbox/new/m"]);
    assert_eq!(daemon.disposition("m").await.unwrap(), Some(accepted("receipt")));
    assert_eq!(names(&daemon).await, Vec::<String>::new());
    assert_eq!(server.keys("b"), ["inbox/done/m"]);
}

/// 1,200 messages, more than one page of a listing; taken in portions, in the order of sending, each once. One question per
/// message is enough for the order.
#[tokio::test(flavor = "multi_thread")]
async fn a_flood_is_taken_in_order_and_once() {
    const MESSAGES: usize = 1_200;
    let (server, script) = (server().await, FaultScript::new());
    let inbox = inbox(&server, &script, 1);
    for index in 0..MESSAGES {
        // Not in the order of the alphabet.
        inbox.send(message(&format!("m{}", (index * 7_919) % 10_007))).await.unwrap();
    }
    let expected: Vec<String> = (0..MESSAGES).map(|index| format!("m{}", (index * 7_919) % 10_007)).collect();
    let mut taken = Vec::new();
    let heads = || script.count(&On::operation("s3", "HeadObject"));
    let before = heads();
    loop {
        let portion = inbox.waiting(100).await.unwrap();
        if portion.is_empty() {
            break;
        }
        assert!(portion.len() <= 100);
        for message in portion {
            inbox.settle(&message.name, accepted("{}")).await.unwrap();
            taken.push(message.name);
        }
    }
    assert_eq!(taken, expected);
    // Per message: when it was sent, whether it has an answer, whether it is there to be settled.
    assert!(heads() - before <= 3 * MESSAGES, "{} questions", heads() - before);
    assert!(server.keys("b").iter().all(|key| key.starts_with("inbox/done/")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bell_cuts_a_pause_short_and_too_many_bells_do_no_harm() {
    let (server, script) = (server().await, FaultScript::new());
    let aws = Aws::for_tests(&server.endpoint(), 1, script.around(Aws::http())).unwrap();
    // Without a bell nothing would be seen in this test's life.
    let polling = Polling { first: Duration::from_secs(3_600), max: Duration::from_secs(3_600) };
    let daemon = std::sync::Arc::new(S3Inbox::new(&aws, "b", "").with_polling(polling));
    assert_eq!(names(&daemon).await, Vec::<String>::new());
    let waiting = tokio::spawn({
        let daemon = std::sync::Arc::clone(&daemon);
        async move { daemon.changed().await }
    });
    // A bell without a message: it looks and waits on.
    let looks = script.count(&On::operation("s3", "ListObjectsV2"));
    daemon.ring();
    while script.count(&On::operation("s3", "ListObjectsV2")) == looks {
        tokio::task::yield_now().await;
    }
    assert!(!waiting.is_finished());
    inbox(&server, &FaultScript::new(), 1).send(message("m")).await.unwrap();
    for _ in 0..3 {
        daemon.ring();
    }
    tokio::time::timeout(Duration::from_secs(20), waiting).await.unwrap().unwrap();
    assert_eq!(names(&daemon).await, ["m"]);
}

/// The driver drops and calls `changed` with every turn of its loop; that may not cost a request each.
#[tokio::test(flavor = "multi_thread")]
async fn waiting_in_many_short_pieces_asks_no_more_often() {
    let (server, script) = (server().await, FaultScript::new());
    let aws = Aws::for_tests(&server.endpoint(), 1, script.around(Aws::http())).unwrap();
    let polling = Polling { first: Duration::from_secs(3_600), max: Duration::from_secs(3_600) };
    let daemon = S3Inbox::new(&aws, "b", "").with_polling(polling);
    assert_eq!(names(&daemon).await, Vec::<String>::new());
    for _ in 0..1_000 {
        tokio::select! {
            biased;
            () = daemon.changed() => panic!("woken for nothing"),
            () = tokio::task::yield_now() => {}
        }
    }
    assert_eq!(script.count(&On::any()), 1);
}

/// An outage is no news and no end: whoever waits goes on waiting and sees what comes after it.
#[tokio::test(flavor = "multi_thread")]
async fn an_outage_is_waited_out() {
    let (server, script) = (server().await, FaultScript::new());
    let daemon = inbox(&server, &script, 1);
    assert_eq!(names(&daemon).await, Vec::<String>::new());
    // More than the adapter repeats by itself.
    script.between(On::operation("s3", "ListObjectsV2"), 1, 15, Fault::Answer(Answer::s3_slow_down()));
    inbox(&server, &FaultScript::new(), 1).send(message("m")).await.unwrap();
    tokio::time::timeout(Duration::from_secs(60), daemon.changed()).await.unwrap();
    assert_eq!(names(&daemon).await, ["m"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_absent_bucket_is_an_error_with_its_name() {
    let server = S3Fake::start().await.unwrap();
    let inbox = inbox(&server, &FaultScript::new(), 1);
    for error in [
        inbox.send(message("m")).await.unwrap_err(),
        inbox.waiting(1).await.unwrap_err(),
        inbox.settle("m", accepted("")).await.unwrap_err(),
        inbox.disposition("m").await.unwrap_err(),
    ] {
        let InboxError::Other { context, source } = &error else { panic!("{error:?}") };
        assert!(context.contains("s3://b/inbox/"), "{context}");
        assert!(source.to_string().contains("NoSuchBucket"), "{source}");
    }
}

/// A foreign object among the answers.
#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_is_none_is_an_error() {
    let (server, script) = (server().await, FaultScript::new());
    let inbox = inbox(&server, &script, 1);
    server.plant("b", "inbox/done/m", b"hello");
    let error = inbox.disposition("m").await.unwrap_err();
    assert!(error.to_string().contains("s3://b/inbox/done/m"), "{error}");
}

/// A message that is older than a flood, and behind it in the alphabet, is not seen by the first listing. The second one goes
/// on where that was cut.
#[tokio::test(flavor = "multi_thread")]
async fn more_than_a_listing_takes_starves_nobody() {
    let (server, script) = (server().await, FaultScript::new());
    let inbox = inbox(&server, &script, 1);
    server.plant("b", "inbox/new/z", b"{}");
    server.advance_ms(60_000);
    for index in 0..20_500 {
        server.plant("b", &format!("inbox/new/m{index:05}"), b"{}");
    }
    let mut first = Vec::new();
    while !first.contains(&"z".to_owned()) {
        assert!(script.count(&On::operation("s3", "ListObjectsV2")) <= 20, "z is not seen");
        let portion = inbox.waiting(1).await.unwrap();
        first.extend(portion.into_iter().map(|message| message.name));
    }
    assert_eq!(first, ["m00000", "z"]);
}

/// Senders choose how their objects are stored: in an archive, or encrypted with a key that nobody else has.
#[tokio::test(flavor = "multi_thread")]
async fn an_object_that_s3_does_not_hand_out_stops_nobody() {
    for (code, of_object) in [("InvalidObjectState", true), ("AccessDenied", false)] {
        let (server, script) = (server().await, FaultScript::new());
        let inbox = inbox(&server, &script, 1);
        let refuse = || {
            script.at(On::operation("s3", "GetObject"), 1, Fault::Answer(Answer::s3_error(403, code)));
        };
        inbox.send(message("only")).await.unwrap();
        refuse();
        assert_eq!(names(&inbox).await, Vec::<String>::new(), "{code}");
        let answer = inbox.disposition("only").await.unwrap().unwrap();
        if of_object {
            assert!(matches!(answer, Disposition::Rejected(_)), "{code}: {answer:?}");
        } else {
            // It may be for our own rights, so it stays.
            assert_eq!(answer, Disposition::Waiting);
            assert_eq!(names(&inbox).await, ["only"]);
        }
        inbox.send(message("other")).await.unwrap();
        inbox.send(message("third")).await.unwrap();
        refuse();
        let handed = names(&inbox).await;
        let mut rejected = 0;
        for name in ["other", "third"] {
            if let Some(Disposition::Rejected(reason)) = inbox.disposition(name).await.unwrap() {
                let reason = String::from_utf8(reason).unwrap();
                assert!(reason.contains("does not hand it out") && reason.contains(code), "{reason}");
                assert!(!handed.contains(&name.to_owned()));
                rejected += 1;
            }
        }
        let refused_first =
            !of_object && inbox.disposition("only").await.unwrap() != Some(Disposition::Waiting);
        assert_eq!(rejected + usize::from(refused_first), 1, "{code}: {handed:?}");
    }
}

/// Keys with characters that no XML document has.
#[tokio::test(flavor = "multi_thread")]
async fn keys_that_xml_cannot_show_stop_nobody() {
    let (server, script) = (server().await, FaultScript::new());
    let inbox = inbox(&server, &script, 1);
    for key in ["a\u{1}b", "a\u{fffe}b", "a+b %2F\u{e4}&<"] {
        server.plant("b", &format!("inbox/new/{key}"), b"{}");
    }
    inbox.send(message("good")).await.unwrap();
    assert_eq!(names(&inbox).await, ["good"]);
    let keys = server.keys("b");
    let new: Vec<_> = keys.iter().filter(|key| key.starts_with("inbox/new/")).collect();
    assert_eq!(new, ["inbox/new/good"], "{keys:?}");
}

/// Whoever plants objects that are no messages cannot keep a look from what else there is to do.
#[tokio::test(flavor = "multi_thread")]
async fn a_look_takes_a_bounded_number_of_useless_objects_out_of_the_way() {
    let (server, script) = (server().await, FaultScript::new());
    let inbox = inbox(&server, &script, 1);
    for index in 0..600 {
        server.plant("b", &format!("inbox/new/not a name {index}"), b"{}");
    }
    inbox.send(message("good")).await.unwrap();
    let new = || server.keys("b").iter().filter(|key| key.starts_with("inbox/new/")).count();
    for left in [345, 89, 1] {
        assert_eq!(names(&inbox).await, ["good"]);
        assert_eq!(new(), left);
    }
}
