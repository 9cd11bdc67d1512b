//! What people and other programs do to the directory.

#![expect(clippy::unwrap_used, reason = "helpers of tests may panic")]

use std::{fs, os::unix::fs::PermissionsExt, time::Duration};

use pangolin_inbox_dir::DirInbox;
use pangolin_ports::inbox::{Disposition, Inbox, InboxError, Message};

fn message(name: &str) -> Message {
    Message { name: name.to_owned(), bytes: b"{}".to_vec() }
}

async fn names(inbox: &DirInbox) -> Vec<String> {
    inbox.waiting(100).await.unwrap().into_iter().map(|message| message.name).collect()
}

#[tokio::test]
async fn files_of_other_tools_are_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let inbox = DirInbox::open(dir.path()).unwrap();
    for stray in
        [".DS_Store", "notes.txt", "waiting/.plan.json.swp", "accepted/readme", "answers/.keep", "tmp/mine"]
    {
        fs::write(dir.path().join(stray), b"stray").unwrap();
    }
    inbox.send(message("m")).await.unwrap();
    assert_eq!(names(&inbox).await, ["m"]);
    inbox.settle("m", Disposition::Accepted(b"ok".to_vec())).await.unwrap();
    drop(inbox);
    let inbox = DirInbox::open(dir.path()).unwrap();
    assert_eq!(names(&inbox).await, Vec::<String>::new());
    for stray in
        [".DS_Store", "notes.txt", "waiting/.plan.json.swp", "accepted/readme", "answers/.keep", "tmp/mine"]
    {
        assert_eq!(fs::read(dir.path().join(stray)).unwrap(), b"stray", "{stray}");
    }
}

#[tokio::test]
async fn messages_stay_for_people_to_look_at() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().join("deep/inbox");
    let inbox = DirInbox::open(&dir).unwrap();
    for name in ["good", "bad"] {
        inbox.send(message(name)).await.unwrap();
    }
    inbox.settle("good", Disposition::Accepted(b"receipt".to_vec())).await.unwrap();
    inbox.settle("bad", Disposition::Rejected(b"{\"reason\": \"no\"}".to_vec())).await.unwrap();
    assert_eq!(fs::read(dir.join("accepted/good")).unwrap(), b"{}");
    assert_eq!(fs::read(dir.join("rejected/bad")).unwrap(), b"{}");
    assert_eq!(fs::read(dir.join("answers/bad")).unwrap(), b"rejected\n{\"reason\": \"no\"}");
    assert_eq!(fs::read_dir(dir.join("waiting")).unwrap().count(), 0);
    assert_eq!(fs::read_dir(dir.join("tmp")).unwrap().count(), 0);
    assert_eq!(fs::metadata(&dir).unwrap().permissions().mode() & 0o777, 0o700);
}

#[tokio::test]
async fn a_message_moved_in_by_hand_arrives_and_wakes() {
    let dir = tempfile::tempdir().unwrap();
    let inbox = DirInbox::open(dir.path()).unwrap();
    inbox.changed().await;
    assert_eq!(names(&inbox).await, Vec::<String>::new());
    let ready = dir.path().join("tmp/by-hand");
    fs::write(&ready, b"{}").unwrap();
    fs::rename(&ready, dir.path().join("waiting/by-hand")).unwrap();
    tokio::time::timeout(Duration::from_secs(20), inbox.changed()).await.unwrap();
    assert_eq!(names(&inbox).await, ["by-hand"]);
}

#[tokio::test]
async fn looking_and_settling_do_not_wake_the_one_who_does_it() {
    let dir = tempfile::tempdir().unwrap();
    let inbox = DirInbox::open(dir.path()).unwrap();
    let other = DirInbox::open(dir.path()).unwrap();
    for name in ["a", "b"] {
        other.send(message(name)).await.unwrap();
    }
    // Take the events of the two messages, however many there are.
    while tokio::time::timeout(Duration::from_millis(200), inbox.changed()).await.is_ok() {}
    assert_eq!(names(&inbox).await, ["a", "b"]);
    inbox.settle("a", Disposition::Accepted(Vec::new())).await.unwrap();
    assert_eq!(names(&inbox).await, ["b"]);
    let woken = tokio::time::timeout(Duration::from_millis(200), inbox.changed()).await;
    assert!(woken.is_err(), "an idle daemon would spin");
}

/// A daemon killed between writing the answer and moving the message.
#[tokio::test]
async fn a_half_settled_message_is_settled() {
    let dir = tempfile::tempdir().unwrap();
    let inbox = DirInbox::open(dir.path()).unwrap();
    inbox.send(message("m")).await.unwrap();
    fs::write(dir.path().join("answers/m"), b"accepted\nreceipt").unwrap();
    assert_eq!(inbox.disposition("m").await.unwrap(), Some(Disposition::Accepted(b"receipt".to_vec())));
    assert_eq!(names(&inbox).await, Vec::<String>::new());
    assert_eq!(fs::read(dir.path().join("accepted/m")).unwrap(), b"{}");
    assert!(!dir.path().join("waiting/m").exists());
    assert!(matches!(inbox.send(message("m")).await, Err(InboxError::AlreadyExists(_))));
    // Between linking and unlinking: the message has both names.
    fs::hard_link(dir.path().join("accepted/m"), dir.path().join("waiting/m")).unwrap();
    assert_eq!(names(&inbox).await, Vec::<String>::new());
    assert!(!dir.path().join("waiting/m").exists());
}

#[tokio::test]
async fn damaged_answers_and_missing_directories_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let inbox = DirInbox::open(dir.path().join("inbox")).unwrap();
    inbox.send(message("m")).await.unwrap();
    fs::write(dir.path().join("inbox/answers/m"), b"maybe").unwrap();
    let error = inbox.disposition("m").await.unwrap_err();
    assert!(error.to_string().contains("answers/m"), "{error}");
    fs::remove_dir_all(dir.path().join("inbox")).unwrap();
    let error = inbox.waiting(1).await.unwrap_err();
    assert!(error.to_string().contains("inbox/waiting"), "{error}");
    assert!(inbox.send(message("n")).await.is_err());
    fs::write(dir.path().join("file"), b"").unwrap();
    let error = DirInbox::open(dir.path().join("file/inbox")).unwrap_err();
    assert!(error.to_string().contains("file/inbox"), "{error}");
}

/// The daemon may answer, and even move the message out, before the sender has finished looking.
#[tokio::test]
async fn a_quick_answer_does_not_make_the_message_look_taken() {
    let dir = tempfile::tempdir().unwrap();
    let inbox = DirInbox::open(dir.path()).unwrap();
    let root = dir.path().to_owned();
    // Quicker than any real daemon, which waits for the disk before the answer counts.
    let daemon = std::thread::spawn(move || {
        for number in 0..100 {
            let name = format!("m{number}");
            let waiting = root.join("waiting").join(&name);
            while !waiting.exists() {
                std::hint::spin_loop();
            }
            let whole = root.join("tmp/answer");
            fs::write(&whole, b"accepted\nok").unwrap();
            fs::rename(whole, root.join("answers").join(&name)).unwrap();
            if number % 2 == 0 {
                fs::rename(waiting, root.join("accepted").join(&name)).unwrap();
            }
        }
    });
    for number in 0..100 {
        let name = format!("m{number}");
        inbox.send(message(&name)).await.unwrap();
        while inbox.disposition(&name).await.unwrap() != Some(Disposition::Accepted(b"ok".to_vec())) {}
        assert!(matches!(inbox.send(message(&name)).await, Err(InboxError::AlreadyExists(_))), "{name}");
    }
    daemon.join().unwrap();
}
