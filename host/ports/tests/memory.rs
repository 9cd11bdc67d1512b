//! The in-memory adapters pass the public suites, and the manual clock wakes sleepers.

#![expect(clippy::unwrap_used, reason = "helpers of tests may panic")]

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use pangolin_core::ids::Digest;
use pangolin_ports::{
    blob_store::BlobStore,
    clock::Clock,
    conformance::{blob_store, inbox, run_store},
    inbox::Inbox,
    memory::{ManualClock, MemoryBlobStore, MemoryInbox, MemoryRunStore, SystemClock},
    run_store::RunStore,
};

struct Runs(Arc<MemoryRunStore>);

#[async_trait]
impl run_store::RunStorePlace for Runs {
    async fn open(&self) -> Arc<dyn RunStore> {
        self.0.clone()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn run_store_conforms() {
    run_store::suite(&|| Box::new(Runs(Arc::default()))).await.assert_passed();
}

struct Blobs(Arc<MemoryBlobStore>);

#[async_trait]
impl blob_store::BlobPlace for Blobs {
    async fn open(&self) -> Arc<dyn BlobStore> {
        self.0.clone()
    }

    async fn corrupt(&self, digest: &Digest) {
        assert!(self.0.corrupt(digest));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn blob_store_conforms() {
    blob_store::suite(&|| Box::new(Blobs(Arc::default()))).await.assert_passed();
}

struct Mail(Arc<MemoryInbox>);

#[async_trait]
impl inbox::InboxPlace for Mail {
    async fn open(&self) -> Arc<dyn Inbox> {
        self.0.clone()
    }

    async fn plant_unreadable(&self) -> Vec<String> {
        self.0.plant_unreadable("planted").unwrap();
        vec!["planted".to_owned()]
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn inbox_conforms() {
    inbox::suite(&|| Box::new(Mail(Arc::default()))).await.assert_passed();
}

#[tokio::test]
async fn moving_the_manual_clock_wakes_those_whose_time_has_come() {
    let clock = Arc::new(ManualClock::new(1_000));
    clock.sleep_until(1_000).await;
    let sleepers: Vec<_> = [1_500, 2_000]
        .map(|at| {
            let clock = Arc::clone(&clock);
            tokio::spawn(async move { clock.sleep_until(at).await })
        })
        .into_iter()
        .collect();
    while clock.sleepers() < 2 {
        tokio::task::yield_now().await;
    }
    clock.set(900);
    clock.advance(Duration::from_millis(599));
    assert_eq!(clock.now_ms(), 1_499);
    tokio::task::yield_now().await;
    assert_eq!(clock.sleepers(), 2);
    clock.advance(Duration::from_millis(1));
    while clock.sleepers() > 1 {
        tokio::task::yield_now().await;
    }
    assert!(sleepers.iter().filter(|task| task.is_finished()).count() <= 1);
    clock.advance(Duration::from_secs(10));
    for sleeper in sleepers {
        sleeper.await.unwrap();
    }
}

#[tokio::test]
async fn the_system_clock_sleeps_until_its_time() {
    let at = SystemClock.now_ms() + 30;
    SystemClock.sleep_until(at).await;
    assert!(SystemClock.now_ms() >= at);
    SystemClock.sleep_until(i64::MIN).await;
}
