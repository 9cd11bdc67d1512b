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
use common::{Hands, Open, Workers, World};
use pangolin_core::{
    entry::RetryPolicy,
    ids::{Digest, DispatchId, RunId},
    plan::{Plan, PlanItem},
    scheduler::Fire,
    state::RunState,
    validate::{Finding, PlanContext, Severity},
};
use pangolin_orchestrator::{
    admission::{Admission, Pinned, UNJUDGED},
    driver::{Attempts, DriverError, Parts, Ticked, Ticker},
    executor::{Executor, Job, PrepareError, Reporter},
    keys,
    ledger::LedgerError,
    message::{Base, Request},
    patterns::NoPatterns,
};
use pangolin_ports::{
    inbox::{Inbox as _, Message},
    run_store::{Batch, Cell, Commit, Head, Record, RunStore, RunStoreError, Write},
};

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
        Ticker::new(Arc::new(self.parts())).tick(&AtOnce, std::future::pending()).await.unwrap()
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

/// Admission whose registry does not answer at first.
struct Silent(AtomicU64);

#[async_trait]
impl Admission for Silent {
    fn context(&self) -> Arc<PlanContext> {
        Open.context()
    }
    fn namespace(&self) -> &str {
        "test"
    }
    fn retry(&self) -> RetryPolicy {
        Open.retry()
    }
    async fn pin(&self, plan: &Plan, base: Option<&Base>) -> Result<Pinned, Vec<Finding>> {
        if self.0.fetch_add(1, Ordering::SeqCst) > 0 {
            return Open.pin(plan, base).await;
        }
        let message = "the store does not answer".to_owned();
        Err(vec![Finding {
            pointer: String::new(),
            code: UNJUDGED,
            severity: Severity::Error,
            message,
            hint: None,
        }])
    }
    async fn pin_added(&self, run: &RunState, items: &[PlanItem]) -> Result<Option<Digest>, Vec<Finding>> {
        Open.pin_added(run, items).await
    }
}

/// However many messages wait, a look whose budget is spent ends, and the next one goes on.
#[tokio::test]
async fn a_full_inbox_does_not_hold_a_look_longer_than_its_budget() {
    const JUNK: usize = 200;
    let mut ticks = Ticks::new().await;
    for number in 0..JUNK {
        let message = Message { name: format!("junk-{number:03}"), bytes: b"junk".to_vec() };
        ticks.world.inbox.send(message).await.unwrap();
    }
    let mut looks = 0;
    while !ticks.world.inbox.waiting(1).await.unwrap().is_empty() {
        let ticked =
            Ticker::new(Arc::new(ticks.parts())).tick(&AtOnce, std::future::ready(())).await.unwrap();
        assert!(ticked.cut_short);
        looks += 1;
    }
    assert!(looks > 10, "a look took more than its turn: {looks}");
    assert!(!ticks.tick().await.cut_short);
}

#[tokio::test]
async fn a_submission_that_cannot_be_judged_now_waits_for_the_next_look() {
    let mut ticks = Ticks::new().await;
    let admission = Arc::new(Silent(AtomicU64::new(0)));
    for answer in ["waiting", "accepted"] {
        let parts = Parts { admission: admission.clone(), ..ticks.parts() };
        Ticker::new(Arc::new(parts)).tick(&AtOnce, std::future::pending()).await.unwrap();
        let found = ticks.world.answer("submit-1").await;
        assert!(found.starts_with(answer), "{found}");
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
        let (mut one, mut two) = (Ticker::new(Arc::new(one)), Ticker::new(Arc::new(two)));
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
    let cut = Ticker::new(Arc::new(parts)).tick(&AtOnce, std::future::ready(())).await.unwrap();
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
    let counting = Arc::new(Counting::new(parts.store.clone()));
    let parts = Parts { store: counting.clone(), ..parts };
    let mut ticker = Ticker::new(Arc::new(parts));
    let mut looks = 0;
    while !ticks.world.is_sealed(&ticks.world.run).await {
        ticker.tick(&AtOnce, std::future::pending()).await.unwrap();
        ticks.end_all();
        looks += 1;
        assert!(looks < 20, "no progress");
    }
    assert_eq!(counting.reads.load(Ordering::SeqCst), 1, "the empty log, once");
    ticks.check().await;

    // Somebody else leads for a moment: what came since is read.
    ticks.tick().await;
    ticker.tick(&AtOnce, std::future::pending()).await.unwrap();
    assert!(counting.reads.load(Ordering::SeqCst) > 1);
}

#[tokio::test]
async fn processes_that_take_turns_read_every_entry_once_each() {
    let mut ticks = Ticks::new().await;
    let (mut stores, mut tickers) = (Vec::new(), Vec::new());
    for _ in 0..2 {
        let parts = ticks.parts();
        let store = Arc::new(Counting::new(parts.store.clone()));
        stores.push(store.clone());
        tickers.push(Ticker::new(Arc::new(Parts { store, ..parts })));
    }
    let mut looks = 0;
    while !ticks.world.is_sealed(&ticks.world.run).await {
        // The third look of each is cut short; what it folded is used all the same.
        let cut = looks / 2 == 2;
        let budget = async move {
            if !cut {
                std::future::pending::<()>().await;
            }
        };
        tickers[looks % 2].tick(&AtOnce, budget).await.unwrap();
        ticks.end_all();
        looks += 1;
        assert!(looks < 30, "no progress");
    }
    assert!(looks > 4, "they took turns {looks} times");
    let entries = ticks.world.store.head(&keys::run_stream(&ticks.world.run)).await.unwrap().len;
    for store in &stores {
        let read = store.of_runs.load(Ordering::SeqCst);
        assert!(read > 0 && read < entries, "{read} records were read of a run of {entries}");
    }
    ticks.check().await;
}

/// A store that does not answer at all while it is asked to keep silent: a look gives up, whether its commits took effect or not,
/// and the next one goes on.
#[tokio::test]
async fn a_look_that_learns_nothing_of_its_commit_ends_and_the_next_goes_on() {
    for takes_effect in [false, true] {
        let mut ticks = Ticks::new().await;
        let parts = ticks.parts();
        let store = Arc::new(Counting::new(parts.store.clone()));
        let parts = Parts { store: store.clone(), commit_tries: Some(2), ..parts };
        let mut ticker = Ticker::new(Arc::new(parts));
        let (mut looks, mut given_up) = (0, 0);
        while !ticks.world.is_sealed(&ticks.world.run).await {
            store.keep_silent(if looks % 2 == 0 { 2 } else { 0 }, takes_effect);
            match ticker.tick(&AtOnce, std::future::pending()).await {
                Ok(_) => {}
                Err(DriverError::Ledger(LedgerError::Unanswered { tried: 2, .. })) => given_up += 1,
                Err(other) => panic!("{other}"),
            }
            ticks.end_all();
            looks += 1;
            assert!(looks < 40, "no progress");
        }
        assert!(given_up > 0, "every commit was answered");
        ticks.check().await;
    }
}

struct Counting {
    inner: Arc<dyn RunStore>,
    /// How many commits with entries get no answer, and whether they take effect.
    silent: Mutex<(u64, bool)>,
    reads: AtomicU64,
    /// Records of runs that were read.
    of_runs: AtomicU64,
}

impl Counting {
    fn new(inner: Arc<dyn RunStore>) -> Self {
        Self { inner, silent: Mutex::default(), reads: AtomicU64::new(0), of_runs: AtomicU64::new(0) }
    }

    fn keep_silent(&self, commits: u64, takes_effect: bool) {
        *self.silent.lock().unwrap() = (commits, takes_effect);
    }
}

#[async_trait]
impl RunStore for Counting {
    async fn commit(&self, batch: Batch) -> Result<Commit, RunStoreError> {
        let takes_effect = {
            let mut silent = self.silent.lock().unwrap();
            let (left, takes_effect) = *silent;
            if left > 0 && !batch.appends.is_empty() {
                silent.0 -= 1;
                Some(takes_effect)
            } else {
                None
            }
        };
        match takes_effect {
            None => self.inner.commit(batch).await,
            Some(takes_effect) => {
                if takes_effect {
                    self.inner.commit(batch).await?;
                }
                Err(RunStoreError::Busy("no answer".to_owned()))
            }
        }
    }
    async fn was_committed(&self, id: &str) -> Result<bool, RunStoreError> {
        self.inner.was_committed(id).await
    }
    async fn head(&self, stream: &str) -> Result<Head, RunStoreError> {
        self.inner.head(stream).await
    }
    async fn read(&self, stream: &str, from: u64, limit: usize) -> Result<Vec<Record>, RunStoreError> {
        self.reads.fetch_add(1, Ordering::SeqCst);
        let found = self.inner.read(stream, from, limit).await?;
        if stream.starts_with(keys::RUN_PREFIX) {
            self.of_runs.fetch_add(found.len() as u64, Ordering::SeqCst);
        }
        Ok(found)
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

/// Cells that mark active runs are used again: what a scan passes over does not grow with the runs that ever were.
#[tokio::test]
async fn marks_of_ended_runs_leave_no_trace_behind() {
    let mut ticks = Ticks::new().await;
    let mark = keys::active(0);
    for number in 1..=5 {
        let run = ticks.world.run.clone();
        ticks.tick().await;
        let marks = ticks.world.store.scan(keys::ACTIVE_PREFIX, None, 9).await.unwrap();
        let found: Vec<_> =
            marks.iter().map(|(key, cell)| (key.clone(), keys::active_run(key, &cell.value))).collect();
        assert_eq!(found, [(mark.clone(), Some(run.clone()))]);
        while !ticks.world.is_sealed(&run).await {
            ticks.end_all();
            ticks.tick().await;
        }
        assert_eq!(ticks.world.store.scan(keys::ACTIVE_PREFIX, None, 9).await.unwrap(), []);
        let next = format!("next-{number}");
        let plan = PLAN.replace("\"crash\"", &format!("\"{next}\""));
        let request = Request::Submit { plan, queue: None, actor: "human:test".to_owned(), base: None };
        ticks.world.send(&next, request).await;
        ticks.world.run = RunId::new(next).unwrap();
    }
}

/// As earlier programs marked runs: the cell has the run's name and is empty.
#[tokio::test]
async fn runs_that_an_earlier_program_marked_are_driven_and_unmarked() {
    let mut ticks = Ticks::new().await;
    ticks.tick().await;
    let earlier = format!("{}{}", keys::ACTIVE_PREFIX, ticks.world.run);
    let writes = vec![Write::Delete(keys::active(0)), Write::Put { key: earlier.clone(), value: Vec::new() }];
    let batch = Batch { id: "as before".to_owned(), writes, ..Batch::default() };
    assert_eq!(ticks.world.store.commit(batch).await.unwrap(), Commit::Committed);
    while !ticks.world.is_sealed(&ticks.world.run).await {
        ticks.end_all();
        ticks.tick().await;
    }
    assert_eq!(ticks.world.store.get(&earlier).await.unwrap(), None);
    ticks.check().await;
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
