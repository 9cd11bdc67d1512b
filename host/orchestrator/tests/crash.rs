//! The driver dies after every commit, before the effects, and in the middle of a commit whose answer is lost. Each
//! time the next driver finishes the run, no attempt is started twice, and the bundle verifies.
#![expect(clippy::unwrap_used, reason = "a test may stop anywhere")]

mod common;

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use common::{Mortal, Narrow, Workers, World};
use pangolin_orchestrator::{
    driver::{Parts, serve},
    message::{Envelope, MESSAGE_VERSION, Request},
    patterns::NoPatterns,
};
use pangolin_ports::{
    inbox::{Disposition, Inbox, InboxError, Message},
    memory::{MemoryInbox, MemoryRunStore},
    run_store::{Batch, Cell, Commit, Head, Record, RunStore, RunStoreError},
};

const PLAN: &str = r#"{"id":"crash","queue":"default","items":[
 {"id":"a","executor":"dispatch","inputs":{},"depends_on":[],"resourceLocks":["x"]},
 {"id":"b","executor":"dispatch","inputs":{},"depends_on":[],"resourceLocks":["x"]},
 {"id":"flaky","executor":"dispatch","inputs":{},"depends_on":["a"],"resourceLocks":[]},
 {"id":"broken","executor":"dispatch","inputs":{},"depends_on":["b"],"resourceLocks":[]},
 {"id":"after","executor":"dispatch","inputs":{},"depends_on":["broken"],"resourceLocks":[]},
 {"id":"last","executor":"dispatch","inputs":{},"depends_on":["flaky"],"resourceLocks":[]}]}"#;

async fn world() -> World {
    let script = Workers { fails: BTreeMap::from([("flaky", 1), ("broken", 9)]), ..Workers::default() };
    World::new(PLAN, script, Arc::new(NoPatterns)).await
}

async fn check(world: &World, context: &str) {
    world.bundle_is_intact(context).await;
    let started = world.workers.started.lock().unwrap();
    assert!(started.values().all(|times| *times == 1), "{context}: started twice");
    // a, b, flaky twice, broken twice, last; `after` is skipped.
    assert_eq!(started.len(), 7, "{context}");
}

#[tokio::test]
async fn every_commit_may_be_the_last_one_of_a_driver() {
    die_after_every_commit(false).await;
}

/// A store that takes little at once: a turn is several commits, and the driver may die between any two of them.
#[tokio::test]
async fn every_part_of_a_commit_may_be_the_last_one_of_a_driver() {
    die_after_every_commit(true).await;
}

async fn die_after_every_commit(narrow: bool) {
    let may_be_narrow = |store: Arc<dyn RunStore>| if narrow { Narrow::fully(store) } else { store };
    let mut commits = 0;
    for last_is_applied in [false, true] {
        let mut survived = false;
        for alive in 0.. {
            let mut world = world().await;
            let mortal = Mortal { inner: world.store.clone(), left: AtomicI64::new(alive), last_is_applied };
            let died = world.live(may_be_narrow(Arc::new(mortal))).await;
            if died {
                let store = may_be_narrow(world.store.clone());
                assert!(!world.live(store).await);
            }
            check(&world, &format!("alive {alive}, applied {last_is_applied}, narrow {narrow}")).await;
            if !died {
                survived = true;
                commits = alive;
                break;
            }
        }
        assert!(survived);
    }
    // 7 attempts fired and ended, one skipped, run admitted and sealed: 17 entries, of which the last is sealed with its log leaf.
    let least = if narrow { 17 } else { 6 };
    assert!(commits >= least, "{commits} commits");
}

#[tokio::test]
async fn a_driver_that_dies_again_and_again_still_finishes() {
    let mut world = world().await;
    let mut lives = 0;
    loop {
        // Taking over costs one commit; each life gets one more.
        let mortal = Mortal { inner: world.store.clone(), left: AtomicI64::new(1), last_is_applied: true };
        if !world.live(Arc::new(mortal)).await {
            break;
        }
        lives += 1;
        assert!(lives < 100, "no progress");
    }
    check(&world, "one commit a life").await;
}

#[tokio::test]
async fn a_deposed_driver_writes_nothing_more() {
    let mut world = world().await;
    let store = world.store.clone();
    let one = world.parts(store.clone());
    let two = world.parts(store);
    let sealed = || async {
        while !world.is_sealed(&world.run).await {
            tokio::task::yield_now().await;
        }
    };
    let both = async { tokio::join!(serve(one, sealed()), serve(two, sealed())) };
    let (one, two) = tokio::time::timeout(Duration::from_secs(20), both).await.expect("both must end");
    one.unwrap();
    two.unwrap();
    check(&world, "two drivers").await;
}

#[tokio::test]
async fn the_clock_may_step_back() {
    let mut world = world().await;
    let mortal = Mortal { inner: world.store.clone(), left: AtomicI64::new(4), last_is_applied: true };
    world.live(Arc::new(mortal)).await;
    world.clock.set(1_600_000_000_000);
    let store = world.store.clone();
    assert!(!world.live(store).await);
    check(&world, "clock").await;
}

#[tokio::test]
async fn a_bad_message_stops_nobody_and_the_same_plan_is_the_same_run() {
    let mut world = world().await;
    let submit = |plan: &str| {
        let request = Request::Submit {
            plan: plan.to_owned(),
            queue: None,
            actor: "human:other".to_owned(),
            base: None,
        };
        serde_json::to_vec(&Envelope { v: MESSAGE_VERSION, request, note: None }).unwrap()
    };
    let other_plan = PLAN.replace("\"last\"", "\"final\"");
    for (name, bytes) in [
        ("bad-json", b"{".to_vec()),
        ("bad-plan", submit("{\"id\":\"x\"}")),
        ("again", submit(PLAN)),
        ("other", submit(&other_plan)),
    ] {
        world.inbox.send(Message { name: name.to_owned(), bytes }).await.unwrap();
    }
    let store = world.store.clone();
    assert!(!world.live(store).await);
    check(&world, "messages").await;
    assert!(world.answer("bad-json").await.contains("rejected"));
    assert!(world.answer("bad-plan").await.contains("findings"));
    assert!(world.answer("again").await.contains("accepted"));
    assert!(world.answer("again").await.contains("checkpoint"));
    assert!(world.answer("other").await.contains("another plan"));
}

/// Out of reach for some looks.
struct Flaky {
    inner: Arc<MemoryInbox>,
    fails: AtomicI64,
}

#[async_trait]
impl Inbox for Flaky {
    async fn send(&self, message: Message) -> Result<(), InboxError> {
        self.inner.send(message).await
    }
    async fn waiting(&self, limit: usize) -> Result<Vec<Message>, InboxError> {
        if self.fails.fetch_sub(1, Ordering::SeqCst) > 0 {
            return Err(InboxError::Other { context: "list".to_owned(), source: "no route".into() });
        }
        self.inner.waiting(limit).await
    }
    async fn settle(&self, name: &str, disposition: Disposition) -> Result<(), InboxError> {
        self.inner.settle(name, disposition).await
    }
    async fn disposition(&self, name: &str) -> Result<Option<Disposition>, InboxError> {
        self.inner.disposition(name).await
    }
    async fn changed(&self) {
        self.inner.changed().await;
    }
    async fn settled(&self, name: &str) {
        self.inner.settled(name).await;
    }
}

#[tokio::test]
async fn an_inbox_out_of_reach_is_asked_again_and_ends_nobody() {
    let mut world = world().await;
    let inbox = Arc::new(Flaky { inner: world.inbox.clone(), fails: AtomicI64::new(3) });
    let store = world.store.clone();
    let parts = Parts { inbox, ..world.parts(store) };
    let sealed = async {
        while !world.is_sealed(&world.run).await {
            // Every pause is over as soon as it began.
            if world.clock.sleepers() > 0 {
                world.clock.advance(Duration::from_secs(1));
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), serve(parts, sealed)).await.expect("it must end").unwrap();
    check(&world, "inbox").await;
}

/// Answers a commit with *unknown* twice and cannot be asked about it at once. Not more often,
/// because the ledger pauses after each.
struct Unclear {
    inner: Arc<MemoryRunStore>,
    calls: AtomicI64,
}

#[async_trait]
impl RunStore for Unclear {
    async fn commit(&self, batch: Batch) -> Result<Commit, RunStoreError> {
        // The fence is taken before there is a ledger that could wait.
        if batch.id.starts_with("fence/") {
            return self.inner.commit(batch).await;
        }
        match self.calls.fetch_add(1, Ordering::SeqCst) {
            // Done, and nobody knows: asked about, which fails; committed again, which changes nothing.
            0 => self.inner.commit(batch).await.map(|_| Commit::Unknown),
            // The same again, and nobody knows again.
            2 => Ok(Commit::Unknown),
            _ => self.inner.commit(batch).await,
        }
    }
    async fn was_committed(&self, id: &str) -> Result<bool, RunStoreError> {
        if self.calls.fetch_add(1, Ordering::SeqCst) == 1 {
            return Err(RunStoreError::Busy("throttled".to_owned()));
        }
        self.inner.was_committed(id).await
    }
    async fn head(&self, stream: &str) -> Result<Head, RunStoreError> {
        self.inner.head(stream).await
    }
    async fn read(&self, stream: &str, from: u64, limit: usize) -> Result<Vec<Record>, RunStoreError> {
        self.inner.read(stream, from, limit).await
    }
    async fn streams(&self, p: &str, a: Option<&str>, l: usize) -> Result<Vec<String>, RunStoreError> {
        self.inner.streams(p, a, l).await
    }
    async fn get(&self, key: &str) -> Result<Option<Cell>, RunStoreError> {
        self.inner.get(key).await
    }
    async fn scan(&self, p: &str, a: Option<&str>, l: usize) -> Result<Vec<(String, Cell)>, RunStoreError> {
        self.inner.scan(p, a, l).await
    }
}

#[tokio::test]
async fn unclear_answers_of_a_busy_store_are_waited_for() {
    let mut world = world().await;
    let store = Arc::new(Unclear { inner: world.store.clone(), calls: AtomicI64::new(0) });
    assert!(!world.live(store).await);
    check(&world, "unclear").await;
}
