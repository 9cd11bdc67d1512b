//! What every [`Inbox`] must do.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;

use super::{Outcome, Report, Violation, ensure};
use crate::inbox::{Disposition, Inbox, InboxError, MESSAGE_BYTES_MAX, Message, WAITING_BYTES};

/// Where one mailbox lives.
#[async_trait]
pub trait InboxPlace: Send + Sync {
    /// Opens the mailbox, also a second time, as another process would.
    async fn open(&self) -> Arc<dyn Inbox>;

    /// Lets messages arrive that cannot be read, of every kind that can happen here, and returns the names under
    /// which their disposition can be asked.
    async fn plant_unreadable(&self) -> Vec<String>;
}

/// Makes an empty place.
pub type Fresh<'a> = dyn Fn() -> Box<dyn InboxPlace> + Send + Sync + 'a;

/// A wake-up that takes longer than this was lost.
const WAKE_DEADLINE: Duration = Duration::from_secs(20);

/// Runs all checks.
pub async fn suite(fresh: &Fresh<'_>) -> Report {
    suite_with(fresh, WAKE_DEADLINE).await
}

/// Runs all checks; a wake-up that takes longer than `deadline` counts as lost.
pub async fn suite_with(fresh: &Fresh<'_>, deadline: Duration) -> Report {
    let mut report = Report::default();
    report.run("messages_arrive_in_order", messages_arrive_in_order(fresh)).await;
    report.run("bytes_handed_out_are_bounded", bytes_handed_out_are_bounded(fresh)).await;
    report.run("names_are_taken_for_ever", names_are_taken_for_ever(fresh)).await;
    report.run("one_sender_wins", one_sender_wins(fresh)).await;
    report.run("bad_messages_are_refused", bad_messages_are_refused(fresh)).await;
    report.run("unreadable_messages_stop_nobody", unreadable_messages_stop_nobody(fresh)).await;
    report.run("first_answer_stays", first_answer_stays(fresh)).await;
    report.run("racing_answers_agree", racing_answers_agree(fresh)).await;
    report.run("answers_survive_reopening", answers_survive_reopening(fresh)).await;
    report.run("changed_wakes", changed_wakes(fresh, deadline)).await;
    report.run("no_wake_up_is_lost", no_wake_up_is_lost(fresh, deadline)).await;
    report.run("settled_wakes", settled_wakes(fresh, deadline)).await;
    report
}

fn message(name: &str) -> Message {
    Message { name: name.to_owned(), bytes: format!("{{\"id\": \"{name}\"}}").into_bytes() }
}

async fn names(inbox: &dyn Inbox, limit: usize) -> Result<Vec<String>, Violation> {
    Ok(inbox.waiting(limit).await?.into_iter().map(|message| message.name).collect())
}

fn accepted(text: &str) -> Disposition {
    Disposition::Accepted(text.as_bytes().to_vec())
}

async fn messages_arrive_in_order(fresh: &Fresh<'_>) -> Outcome {
    let place = fresh();
    let (sender, reader) = (place.open().await, place.open().await);
    ensure!(reader.waiting(10).await?.is_empty(), "a fresh inbox has messages");
    // Not in the order of the alphabet.
    let sent: Vec<String> = (0..40).map(|index| format!("run-{:02}", (index * 7) % 40)).collect();
    for name in &sent {
        sender.send(message(name)).await?;
    }
    let found = reader.waiting(1_000).await?;
    let expected: Vec<Message> = sent.iter().map(|name| message(name)).collect();
    ensure!(found == expected, "messages arrived as {:?}", names(&*reader, 1_000).await?);
    ensure!(names(&*reader, 3).await? == sent[..3], "a limit of 3 gives {:?}", names(&*reader, 3).await?);
    ensure!(names(&*reader, 0).await?.is_empty(), "a limit of 0 gives messages");
    reader.settle(&sent[1], accepted("{}")).await?;
    let left = names(&*reader, 3).await?;
    ensure!(left == [&*sent[0], &*sent[2], &*sent[3]], "after settling the second, waiting are {left:?}");
    Ok(())
}

async fn bytes_handed_out_are_bounded(fresh: &Fresh<'_>) -> Outcome {
    let place = fresh();
    let inbox = place.open().await;
    let large = usize::try_from(WAITING_BYTES / 2).unwrap_or(usize::MAX);
    let all = ["large-0", "large-1", "large-2"];
    for name in all {
        inbox.send(Message { name: name.to_owned(), bytes: vec![b'x'; large] }).await?;
    }
    let found = names(&*inbox, 10).await?;
    ensure!(found == all[..2], "of three messages that have half of the bytes each, it gives {found:?}");
    for name in all {
        inbox.settle(name, accepted("{}")).await?;
    }
    let most = usize::try_from(MESSAGE_BYTES_MAX).unwrap_or(usize::MAX);
    inbox.send(Message { name: "largest".to_owned(), bytes: vec![b'x'; most] }).await?;
    let found = names(&*inbox, 10).await?;
    ensure!(found == ["largest"], "of the largest message, it gives {found:?}");
    Ok(())
}

async fn names_are_taken_for_ever(fresh: &Fresh<'_>) -> Outcome {
    let place = fresh();
    let inbox = place.open().await;
    let answers = [None, Some(accepted("{}")), Some(Disposition::Rejected(b"{}".to_vec()))];
    for (index, answer) in answers.into_iter().enumerate() {
        let name = format!("m{index}");
        inbox.send(message(&name)).await?;
        if let Some(answer) = answer {
            inbox.settle(&name, answer).await?;
        }
        let before = inbox.disposition(&name).await?;
        for inbox in [&inbox, &place.open().await] {
            let again = inbox.send(Message { name: name.clone(), bytes: b"other".to_vec() }).await;
            let refused = matches!(&again, Err(InboxError::AlreadyExists(taken)) if *taken == name);
            ensure!(refused, "the name of a message that is {before:?} was given again: {again:?}");
        }
        ensure!(inbox.disposition(&name).await? == before, "a refused sender changed the disposition");
    }
    ensure!(inbox.waiting(10).await? == [message("m0")], "a refused sender changed what waits");
    Ok(())
}

async fn one_sender_wins(fresh: &Fresh<'_>) -> Outcome {
    const SENDERS: usize = 16;
    let place = fresh();
    for round in 0..10 {
        let name = format!("run-{round}");
        let start = Arc::new(tokio::sync::Barrier::new(SENDERS));
        let mut tasks = tokio::task::JoinSet::new();
        for sender in 0..SENDERS {
            let (inbox, start, name) = (place.open().await, Arc::clone(&start), name.clone());
            tasks.spawn(async move {
                start.wait().await;
                let bytes = format!("from {sender}").into_bytes();
                inbox.send(Message { name, bytes: bytes.clone() }).await.map(|()| bytes)
            });
        }
        let mut winners = Vec::new();
        while let Some(answer) = tasks.join_next().await {
            match answer? {
                Ok(bytes) => winners.push(bytes),
                Err(InboxError::AlreadyExists(_)) => {}
                Err(error) => return Err(error.into()),
            }
        }
        ensure!(winners.len() == 1, "round {round}: {} senders won the name", winners.len());
        let waiting = place.open().await.waiting(1_000).await?;
        let found = waiting.iter().find(|message| message.name == name).map(|message| &message.bytes);
        ensure!(found == winners.first(), "round {round}: the message is not the winner's");
    }
    Ok(())
}

async fn bad_messages_are_refused(fresh: &Fresh<'_>) -> Outcome {
    let place = fresh();
    let inbox = place.open().await;
    for name in ["", ".", "..", "../x", "a/b", ".hidden", "a b", "ä", "a\0b", &"n".repeat(200)] {
        let answer = inbox.send(message(name)).await;
        ensure!(
            matches!(answer, Err(InboxError::BadName(_))),
            "a message named {name:?} was answered {answer:?}"
        );
        ensure!(inbox.disposition(name).await?.is_none(), "the refused message {name:?} has a disposition");
    }
    let size = usize::try_from(MESSAGE_BYTES_MAX)? + 1;
    let answer = inbox.send(Message { name: "large".to_owned(), bytes: vec![b' '; size] }).await;
    ensure!(
        matches!(answer, Err(InboxError::TooLarge { .. })),
        "a message of {size} bytes was answered {answer:?}"
    );
    ensure!(inbox.waiting(10).await?.is_empty(), "a refused message is waiting");
    for name in ["empty", "nightly@2026-05-31T00:00:00.000Z", "a~b:c+d", &"n".repeat(128)] {
        inbox.send(Message { name: name.to_owned(), bytes: Vec::new() }).await?;
        ensure!(names(&*inbox, 10).await?.iter().any(|found| found == name), "{name:?} did not arrive");
    }
    Ok(())
}

async fn unreadable_messages_stop_nobody(fresh: &Fresh<'_>) -> Outcome {
    let place = fresh();
    let inbox = place.open().await;
    inbox.send(message("before")).await?;
    let planted = place.plant_unreadable().await;
    ensure!(!planted.is_empty(), "the place planted nothing");
    inbox.send(message("after")).await?;
    for _ in 0..2 {
        let found = names(&*inbox, 1_000).await?;
        ensure!(found == ["before", "after"], "beside unreadable messages, waiting are {found:?}");
    }
    for name in &planted {
        let disposition = inbox.disposition(name).await?;
        let Some(Disposition::Rejected(reason)) = &disposition else {
            return Err(Violation::new(format!("the unreadable message {name:?} is {disposition:?}")));
        };
        let reason: serde_json::Value = serde_json::from_slice(reason)?;
        let text = reason.get("reason").and_then(serde_json::Value::as_str).unwrap_or_default();
        ensure!(!text.is_empty(), "the reason for {name:?} is {reason}");
    }
    Ok(())
}

async fn first_answer_stays(fresh: &Fresh<'_>) -> Outcome {
    let place = fresh();
    let inbox = place.open().await;
    ensure!(inbox.disposition("m").await?.is_none(), "a message that was never sent has a disposition");
    ensure!(inbox.settle("m", accepted("{}")).await.is_err(), "a message that was never sent was settled");
    ensure!(inbox.disposition("m").await?.is_none(), "settling nothing left a disposition");
    inbox.send(message("m")).await?;
    ensure!(inbox.disposition("m").await? == Some(Disposition::Waiting), "a sent message is not waiting");
    // The answer is bytes: nothing is added or taken away.
    let first = Disposition::Rejected(b"{\"reason\": \"no\"}\n\n\0\xff".to_vec());
    inbox.settle("m", first.clone()).await?;
    for again in [first.clone(), accepted("{}"), Disposition::Rejected(b"other".to_vec())] {
        inbox.settle("m", again).await?;
        let found = inbox.disposition("m").await?;
        ensure!(found.as_ref() == Some(&first), "the first answer became {found:?}");
    }
    ensure!(inbox.waiting(10).await?.is_empty(), "a settled message is waiting");
    Ok(())
}

async fn racing_answers_agree(fresh: &Fresh<'_>) -> Outcome {
    let place = fresh();
    for round in 0..10 {
        let name = format!("m{round}");
        place.open().await.send(message(&name)).await?;
        let mut tasks = tokio::task::JoinSet::new();
        for daemon in 0..8 {
            let (inbox, name) = (place.open().await, name.clone());
            let answer = format!("{daemon}").into_bytes();
            let answer =
                if daemon % 2 == 0 { Disposition::Accepted(answer) } else { Disposition::Rejected(answer) };
            tasks.spawn(async move {
                inbox.settle(&name, answer).await?;
                inbox.disposition(&name).await
            });
        }
        let mut seen = Vec::new();
        while let Some(answer) = tasks.join_next().await {
            seen.push(answer??);
        }
        seen.dedup();
        ensure!(seen.len() == 1, "round {round}: after settling, daemons saw {seen:?}");
    }
    Ok(())
}

async fn answers_survive_reopening(fresh: &Fresh<'_>) -> Outcome {
    let place = fresh();
    let inbox = place.open().await;
    for name in ["a", "b", "c"] {
        inbox.send(message(name)).await?;
    }
    inbox.settle("a", accepted("receipt")).await?;
    inbox.settle("b", Disposition::Rejected(b"why".to_vec())).await?;
    drop(inbox);
    let inbox = place.open().await;
    ensure!(inbox.disposition("a").await? == Some(accepted("receipt")), "an acceptance is lost");
    ensure!(
        inbox.disposition("b").await? == Some(Disposition::Rejected(b"why".to_vec())),
        "a rejection is lost"
    );
    ensure!(inbox.waiting(10).await? == [message("c")], "the waiting message is lost");
    Ok(())
}

async fn wakes(what: &str, deadline: Duration, future: impl Future<Output = ()>) -> Outcome {
    tokio::time::timeout(deadline, future).await.map_err(|_| Violation::new(format!("{what} did not wake")))
}

/// A waiting daemon notices what somebody else sends.
async fn changed_wakes(fresh: &Fresh<'_>, deadline: Duration) -> Outcome {
    let place = fresh();
    let daemon = place.open().await;
    for round in 0..5 {
        let name = format!("m{round}");
        let (sender, sent) = (place.open().await, name.clone());
        let (begin, began) = tokio::sync::oneshot::channel::<()>();
        let sending = tokio::spawn(async move {
            let _ = began.await;
            sender.send(message(&sent)).await
        });
        let mut begin = Some(begin);
        loop {
            if names(&*daemon, 100).await?.contains(&name) {
                break;
            }
            // From here on the message may come at any time: before, during or after `changed` starts to wait.
            if let Some(begin) = begin.take() {
                let _ = begin.send(());
            }
            wakes("changed", deadline, daemon.changed()).await?;
        }
        sending.await??;
    }
    Ok(())
}

/// A message sent between `waiting` and `changed` wakes, whoever else was woken by earlier ones.
async fn no_wake_up_is_lost(fresh: &Fresh<'_>, deadline: Duration) -> Outcome {
    let place = fresh();
    let (daemon, sender) = (place.open().await, place.open().await);
    for round in 0..20 {
        let name = format!("m{round}");
        ensure!(!names(&*daemon, 1_000).await?.contains(&name), "a message is there before it was sent");
        sender.send(message(&name)).await?;
        while !names(&*daemon, 1_000).await?.contains(&name) {
            wakes("changed", deadline, daemon.changed()).await?;
        }
        // Sent and not returned by a `waiting` call: the very next `changed` must resolve.
        let late = format!("late{round}");
        sender.send(message(&late)).await?;
        wakes("changed after a send", deadline, daemon.changed()).await?;
    }
    Ok(())
}

/// A sender notices the answer, also when it came before it started to wait.
async fn settled_wakes(fresh: &Fresh<'_>, deadline: Duration) -> Outcome {
    let place = fresh();
    let (sender, daemon) = (place.open().await, place.open().await);
    for round in 0..10 {
        let name = format!("m{round}");
        sender.send(message(&name)).await?;
        let (daemon, settled) = (Arc::clone(&daemon), name.clone());
        let settling = tokio::spawn(async move {
            if round % 2 == 0 {
                tokio::task::yield_now().await;
            }
            daemon.settle(&settled, accepted("{}")).await
        });
        if round % 3 == 0 {
            settling.await??;
        }
        while sender.disposition(&name).await? == Some(Disposition::Waiting) {
            wakes("settled", deadline, sender.settled(&name)).await?;
        }
        wakes("settled after the answer", deadline, sender.settled(&name)).await?;
    }
    Ok(())
}
