//! Ticks instead of a daemon: each looks once and ends. Workers run on between them.
#![expect(clippy::unwrap_used, reason = "a test may stop anywhere")]

mod common;

use std::{
    collections::{BTreeMap, HashSet},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use async_trait::async_trait;
use common::{Hands, Workers, World};
use pangolin_core::{
    ids::{Digest, DispatchId},
    scheduler::Fire,
    state::RunState,
};
use pangolin_orchestrator::{
    driver::{Attempts, DriverError, Parts, Ticked, Ticker},
    executor::{Executor, Job, PrepareError, Reporter},
    keys,
    ledger::LedgerError,
    patterns::NoPatterns,
};
use pangolin_ports::run_store::{Batch, Cell, Commit, Head, Record, RunStore, RunStoreError, Write};

const PLAN: &str = r#"{"id":"crash","queue":"default","items":[
 {"id":"a","executor":"dispatch","inputs":{},"depends_on":[],"resourceLocks":["x"]},
 {"id":"b","executor":"dispatch","inputs":{},"depends_on":[],"resourceLocks":["x"]},
 {"id":"flaky","executor":"dispatch","inputs":{},"depends_on":["a"],"resourceLocks":[]},
 {"id":"last","executor":"dispatch","inputs":{},"depends_on":["flaky","b"],"resourceLocks":[]}]}"#;

/// Workers that run until the test lets them end. A tick that starts one which runs learns nothing new.
struct Slow {
    hands: Hands,
    workers: Arc<Workers>,
    ended: Arc<Mutex<HashSet<DispatchId>>>,
}

#[async_trait]
impl Executor for Slow {
    async fn prepare(&self, fire: &Fire, run: &RunState) -> Result<Option<Digest>, PrepareError> {
        self.hands.prepare(fire, run).await
    }
    fn start(&self, job: Job, report: Reporter) {
        if self.ended.lock().unwrap().contains(&job.dispatch) {
            self.hands.start(job, report);
        } else if self.workers.known.lock().unwrap().insert(job.dispatch.clone()) {
            *self.workers.started.lock().unwrap().entry(job.dispatch).or_default() += 1;
        }
    }
    fn stop(&self, dispatch: &DispatchId) {
        self.hands.stop(dispatch);
    }
    fn forget(&self, _dispatch: &DispatchId) {}
    async fn sweep(&self, _running: &HashSet<DispatchId>) {}
}

/// Everything is looked at within `start`.
struct AtOnce;

#[async_trait]
impl Attempts for AtOnce {
    async fn settled(&self) {}
}

struct Ticks {
    world: World,
    ended: Arc<Mutex<HashSet<DispatchId>>>,
}

impl Ticks {
    async fn new() -> Self {
        let script = Workers { fails: BTreeMap::from([("flaky", 1)]), ..Workers::default() };
        Self { world: World::new(PLAN, script, Arc::new(NoPatterns)).await, ended: Arc::default() }
    }

    fn parts(&mut self) -> Parts {
        let executor = Slow {
            hands: Hands(self.world.workers.clone()),
            workers: self.world.workers.clone(),
            ended: self.ended.clone(),
        };
        let store = self.world.store.clone();
        Parts { executor: Arc::new(executor), ..self.world.parts(store) }
    }

    async fn tick(&mut self) -> Ticked {
        Ticker::new(&self.parts()).tick(&AtOnce, std::future::pending()).await.unwrap()
    }

    /// All workers that run end now.
    fn end_all(&self) {
        self.ended.lock().unwrap().extend(self.world.workers.started.lock().unwrap().keys().cloned());
    }

    async fn check(&self) {
        self.world.bundle_is_intact("ticks").await;
        let started = self.world.workers.started.lock().unwrap();
        assert!(started.values().all(|times| *times == 1), "started twice: {started:?}");
        assert_eq!(started.len(), 5);
    }
}

#[tokio::test]
async fn ticks_drive_a_run_to_its_seal() {
    let mut ticks = Ticks::new().await;
    let first = ticks.tick().await;
    assert_eq!((first.runs, first.running, first.cut_short), (1, 1, false), "one holds the lock: {first:?}");
    assert!(first.commits > 0);
    let idle = ticks.tick().await;
    assert_eq!((idle.commits, idle.running), (0, 1), "nothing to do while the worker runs");
    let mut looks = 2;
    while ticks.world.workers.started.lock().unwrap().len() < 5 || ticks.tick().await.runs > 0 {
        ticks.end_all();
        ticks.tick().await;
        looks += 1;
        assert!(looks < 20, "no progress");
    }
    ticks.check().await;
    let after = ticks.tick().await;
    assert_eq!(
        after,
        Ticked { commits: 0, runs: 0, running: 0, next_wakeup: None, quietest: None, cut_short: false }
    );
}

#[tokio::test]
async fn two_ticks_at_once_are_safe_on_every_step() {
    let mut ticks = Ticks::new().await;
    let mut looks = 0;
    loop {
        let (one, two) = (ticks.parts(), ticks.parts());
        let (mut one, mut two) = (Ticker::new(&one), Ticker::new(&two));
        let (one, two) = tokio::join!(
            one.tick(&AtOnce, std::future::pending()),
            two.tick(&AtOnce, std::future::pending())
        );
        let mut best = None;
        for answer in [one, two] {
            match answer {
                Ok(ticked) => best = Some(ticked),
                Err(DriverError::Ledger(LedgerError::Deposed(_))) => {}
                Err(other) => panic!("{other}"),
            }
        }
        if best.is_some_and(|ticked| ticked.runs == 0) && ticks.world.is_sealed(&ticks.world.run).await {
            break;
        }
        ticks.end_all();
        looks += 1;
        assert!(looks < 40, "no progress");
    }
    ticks.check().await;
}

#[tokio::test]
async fn a_tick_without_budget_loses_nothing() {
    let mut ticks = Ticks::new().await;
    let parts = ticks.parts();
    let cut = Ticker::new(&parts).tick(&AtOnce, std::future::ready(())).await.unwrap();
    assert!(cut.cut_short);
    let mut looks = 0;
    while !ticks.world.is_sealed(&ticks.world.run).await {
        ticks.tick().await;
        ticks.end_all();
        looks += 1;
        assert!(looks < 20, "no progress");
    }
    ticks.check().await;
}

#[tokio::test]
async fn a_process_that_is_used_again_reads_no_run_twice() {
    let mut ticks = Ticks::new().await;
    let parts = ticks.parts();
    let counting = Arc::new(Counting { inner: parts.store.clone(), reads: AtomicU64::new(0) });
    let parts = Parts { store: counting.clone(), ..parts };
    let mut ticker = Ticker::new(&parts);
    let mut looks = 0;
    while !ticks.world.is_sealed(&ticks.world.run).await {
        ticker.tick(&AtOnce, std::future::pending()).await.unwrap();
        ticks.end_all();
        looks += 1;
        assert!(looks < 20, "no progress");
    }
    assert_eq!(counting.reads.load(Ordering::SeqCst), 1, "the empty log, once");
    ticks.check().await;

    // Somebody else leads for a moment: everything is read again.
    ticks.tick().await;
    ticker.tick(&AtOnce, std::future::pending()).await.unwrap();
    assert!(counting.reads.load(Ordering::SeqCst) > 1);
}

struct Counting {
    inner: Arc<dyn RunStore>,
    reads: AtomicU64,
}

#[async_trait]
impl RunStore for Counting {
    async fn commit(&self, batch: Batch) -> Result<Commit, RunStoreError> {
        self.inner.commit(batch).await
    }
    async fn was_committed(&self, id: &str) -> Result<bool, RunStoreError> {
        self.inner.was_committed(id).await
    }
    async fn head(&self, stream: &str) -> Result<Head, RunStoreError> {
        self.inner.head(stream).await
    }
    async fn read(&self, stream: &str, from: u64, limit: usize) -> Result<Vec<Record>, RunStoreError> {
        self.reads.fetch_add(1, Ordering::SeqCst);
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
async fn a_damaged_frontier_is_not_believed() {
    for damage in ["bytes", "admissions", "gone"] {
        let mut ticks = Ticks::new().await;
        ticks.tick().await;
        let cell =
            ticks.world.store.get(keys::LOG_FRONTIER).await.unwrap().expect("written with the admission");
        let mut value = cell.value;
        let write = match damage {
            "bytes" => {
                *value.last_mut().unwrap() ^= 1;
                Write::Put { key: keys::LOG_FRONTIER.to_owned(), value }
            }
            "admissions" => {
                value.truncate(7);
                Write::Put { key: keys::LOG_FRONTIER.to_owned(), value }
            }
            _ => Write::Delete(keys::LOG_FRONTIER.to_owned()),
        };
        let batch = Batch { id: "damage".to_owned(), writes: vec![write], ..Batch::default() };
        assert_eq!(ticks.world.store.commit(batch).await.unwrap(), Commit::Committed);
        while !ticks.world.is_sealed(&ticks.world.run).await {
            ticks.end_all();
            ticks.tick().await;
        }
        ticks.check().await;
    }
}
