//! Watching for commits.

use std::{sync::Arc, time::Duration};

use pangolin_ports::run_store::{Batch, Commit, RunStore, Write};
use pangolin_store_sqlite::{Options, SqliteRunStore};

fn batch(id: &str) -> Batch {
    let writes = vec![Write::Put { key: "k".to_owned(), value: id.as_bytes().to_vec() }];
    Batch { id: id.to_owned(), writes, ..Batch::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_commit_wakes_and_nothing_else_does() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("db");
    let writer = Arc::new(SqliteRunStore::open(&path, Options::default()).unwrap());
    let reader = SqliteRunStore::open_read_only(&path, Options::default()).unwrap();
    reader.changed().await.unwrap();
    for round in 0..50 {
        let id = format!("b{round}");
        let commit = {
            let (writer, id) = (Arc::clone(&writer), id.clone());
            tokio::spawn(async move { writer.commit(batch(&id)).await })
        };
        // Whether the commit comes before or after the watch: it wakes, and the commit is visible then.
        tokio::time::timeout(Duration::from_secs(20), reader.changed()).await.unwrap().unwrap();
        assert_eq!(reader.get("k").await.unwrap().unwrap().value, id.as_bytes());
        assert_eq!(commit.await.unwrap().unwrap(), Commit::Committed);
    }
    // Reading, a replay and a refused batch change nothing.
    assert_eq!(writer.commit(batch("b1")).await.unwrap(), Commit::Committed);
    assert!(writer.was_committed("b1").await.unwrap());
    let quiet = tokio::time::timeout(Duration::from_millis(300), reader.changed()).await;
    assert!(quiet.is_err(), "woken although nothing was committed");
}

#[tokio::test(flavor = "multi_thread")]
async fn dropping_a_store_waits_for_what_was_handed_in() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("db");
    let store = SqliteRunStore::open(&path, Options::default()).unwrap();
    // Handed in by the first poll, then abandoned.
    for round in 0..20 {
        let mut commit = store.commit(batch(&format!("b{round}")));
        let _ = futures_poll_once(&mut commit).await;
    }
    drop(store);
    let store = SqliteRunStore::open(&path, Options::default()).unwrap();
    for round in 0..20 {
        assert!(
            store.was_committed(&format!("b{round}")).await.unwrap(),
            "batch {round} was dropped half-way"
        );
    }
}

/// Polls a future once, whatever comes out.
async fn futures_poll_once<F: Future + Unpin>(future: &mut F) -> Option<F::Output> {
    std::future::poll_fn(|context| match std::pin::Pin::new(&mut *future).poll(context) {
        std::task::Poll::Ready(output) => std::task::Poll::Ready(Some(output)),
        std::task::Poll::Pending => std::task::Poll::Ready(None),
    })
    .await
}
