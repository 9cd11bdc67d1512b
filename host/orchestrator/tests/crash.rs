//! The driver dies after every commit, before the effects, and in the middle of a commit whose answer is lost. Each
//! time the next driver finishes the run, no attempt is started twice, and the bundle verifies.
#![expect(clippy::unwrap_used, reason = "a test may stop anywhere")]

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::{
        Arc, Mutex,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use pangolin_audit::{
    note::SigningKey,
    report::Verdict,
    verify::{Trust, verify_bundle},
};
use pangolin_core::{
    entry::{Evidence, Failure, FailureClass, FailureReason, RetryPolicy},
    ids::{Digest, DispatchId, QueueName, RunId},
    plan::Plan,
    scheduler::{AttemptEnd, AttemptStatus, Fire, QueuePolicy},
    state::RunState,
    validate::{Finding, PlanContext},
};
use pangolin_orchestrator::{
    admission::{Admission, Pinned},
    driver::{Parts, serve},
    executor::{Executor, Job, PrepareError, Report, Reporter},
    export::export_bundle,
    keys,
    leadership::Alone,
    ledger::Summary,
    message::{Envelope, MESSAGE_VERSION, Request},
};
use pangolin_ports::{
    blob_store::BlobStore,
    inbox::{Inbox, Message},
    memory::{ManualClock, MemoryBlobStore, MemoryInbox, MemoryRunStore},
    run_store::{Batch, Cell, Commit, Head, Record, RunStore, RunStoreError},
};

/// Lets `alive` commits through, then fails as if the process had died: with the commit applied or not.
struct Mortal {
    inner: Arc<MemoryRunStore>,
    left: AtomicI64,
    last_is_applied: bool,
}

#[async_trait]
impl RunStore for Mortal {
    async fn commit(&self, batch: Batch) -> Result<Commit, RunStoreError> {
        let left = self.left.fetch_sub(1, Ordering::SeqCst);
        let dead = || RunStoreError::Other { context: "died".to_owned(), source: "killed".into() };
        if left > 0 {
            return self.inner.commit(batch).await;
        }
        if left == 0 && self.last_is_applied {
            self.inner.commit(batch).await?;
        }
        Err(dead())
    }
    async fn was_committed(&self, id: &str) -> Result<bool, RunStoreError> {
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

/// Workers that survive the driver. Obeys the executor's contract: a dispatch is started once, ever.
#[derive(Default)]
struct Workers {
    /// How often the worker of a dispatch was really started.
    started: Mutex<HashMap<DispatchId, u32>>,
    /// What was handed to `start` at least once, so that re-adoption can be told from a second start.
    known: Mutex<HashSet<DispatchId>>,
    /// Fired but never committed must not run: everything started must be in the ledger at the end.
    stopped: Mutex<HashSet<DispatchId>>,
    /// Items that fail their first attempt, and one that fails for good.
    fails: BTreeMap<&'static str, u32>,
    blobs: Arc<MemoryBlobStore>,
}

struct Hands(Arc<Workers>);

#[async_trait]
impl Executor for Hands {
    async fn prepare(&self, fire: &Fire, _run: &RunState) -> Result<Option<Digest>, PrepareError> {
        let manifest = serde_json::json!({
            "v": 1, "run": fire.run, "item": fire.item, "attempt": fire.attempt, "dispatch": fire.dispatch,
            "executor": "dispatch", "backend": "process", "isolation": "none", "network": "none", "model": "",
        });
        let bytes = pangolin_audit::canon::to_vec(&manifest).unwrap();
        self.0.blobs.put(&bytes).await.map(Some).map_err(|error| PrepareError::Later(error.to_string()))
    }

    fn start(&self, job: Job, report: Reporter) {
        if self.0.known.lock().unwrap().insert(job.dispatch.clone()) {
            *self.0.started.lock().unwrap().entry(job.dispatch.clone()).or_default() += 1;
        }
        let failing = self.0.fails.get(job.item.as_str()).is_some_and(|times| job.attempt <= *times);
        let status = if failing {
            AttemptStatus::Failed(Failure {
                reason: FailureReason::ProviderFailed,
                class: FailureClass::Work,
                message: "red".to_owned(),
            })
        } else {
            AttemptStatus::Done
        };
        let _ = report.send(Report { job, end: AttemptEnd { status, evidence: Evidence::default() } });
    }

    fn stop(&self, dispatch: &DispatchId) {
        self.0.stopped.lock().unwrap().insert(dispatch.clone());
    }

    fn forget(&self, _dispatch: &DispatchId) {}

    async fn sweep(&self, _running: &HashSet<DispatchId>) {}
}

struct Open;

#[async_trait]
impl Admission for Open {
    fn context(&self) -> Arc<PlanContext> {
        Arc::new(PlanContext::default())
    }
    fn namespace(&self) -> &str {
        "test"
    }
    fn retry(&self) -> RetryPolicy {
        RetryPolicy { max_attempts: 2, base_ms: 0, cap_ms: 0, timeout_ms: 60_000 }
    }
    async fn pin(&self, _plan: &Plan) -> Result<Pinned, Vec<Finding>> {
        Ok(Pinned::default())
    }
}

const PLAN: &str = r#"{"id":"crash","queue":"default","items":[
 {"id":"a","executor":"dispatch","inputs":{},"depends_on":[],"resourceLocks":["x"]},
 {"id":"b","executor":"dispatch","inputs":{},"depends_on":[],"resourceLocks":["x"]},
 {"id":"flaky","executor":"dispatch","inputs":{},"depends_on":["a"],"resourceLocks":[]},
 {"id":"broken","executor":"dispatch","inputs":{},"depends_on":["b"],"resourceLocks":[]},
 {"id":"after","executor":"dispatch","inputs":{},"depends_on":["broken"],"resourceLocks":[]},
 {"id":"last","executor":"dispatch","inputs":{},"depends_on":["flaky"],"resourceLocks":[]}]}"#;

struct World {
    store: Arc<MemoryRunStore>,
    blobs: Arc<MemoryBlobStore>,
    inbox: Arc<MemoryInbox>,
    workers: Arc<Workers>,
    key: Arc<SigningKey>,
    clock: Arc<ManualClock>,
    lives: u32,
}

impl World {
    async fn new() -> Self {
        let blobs = Arc::new(MemoryBlobStore::new());
        let world = Self {
            store: Arc::new(MemoryRunStore::new()),
            blobs: blobs.clone(),
            inbox: Arc::new(MemoryInbox::new()),
            workers: Arc::new(Workers {
                fails: BTreeMap::from([("flaky", 1), ("broken", 9)]),
                blobs,
                ..Workers::default()
            }),
            key: Arc::new(SigningKey::from_seed("pangolin.test/crash", &[7; 32]).unwrap()),
            clock: Arc::new(ManualClock::new(1_700_000_000_000)),
            lives: 0,
        };
        let request = Request::Submit { plan: PLAN.to_owned(), queue: None, actor: "human:test".to_owned() };
        let bytes = serde_json::to_vec(&Envelope { v: MESSAGE_VERSION, request }).unwrap();
        world.inbox.send(Message { name: "submit-1".to_owned(), bytes }).await.unwrap();
        world
    }

    fn parts(&mut self, store: Arc<dyn RunStore>) -> Parts {
        self.lives += 1;
        Parts {
            store,
            blobs: self.blobs.clone(),
            inbox: self.inbox.clone(),
            clock: self.clock.clone(),
            key: self.key.clone(),
            leadership: Arc::new(Alone),
            executor: Arc::new(Hands(self.workers.clone())),
            admission: Arc::new(Open),
            queues: BTreeMap::from([(
                QueueName::new("default").unwrap(),
                QueuePolicy { concurrency: 2, paused: false },
            )]),
            holder: format!("life-{}", self.lives),
            on_lead: Box::new(|| {}),
        }
    }

    fn run(&self) -> RunId {
        RunId::new("crash").unwrap()
    }

    async fn is_sealed(&self) -> bool {
        let cell = self.store.get(&keys::summary(&self.run())).await.unwrap();
        cell.is_some_and(|cell| serde_json::from_slice::<Summary>(&cell.value).unwrap().outcome.is_some())
    }

    /// Drives until the run is sealed or the driver dies; answers whether it died.
    async fn live(&mut self, store: Arc<dyn RunStore>) -> bool {
        let parts = self.parts(store);
        let sealed = async {
            while !self.is_sealed().await {
                tokio::task::yield_now().await;
            }
        };
        let served = tokio::time::timeout(Duration::from_secs(20), serve(parts, sealed)).await;
        served.expect("the run must end").is_err()
    }

    async fn check(&self, context: &str) {
        assert!(self.is_sealed().await, "{context}");
        let bundle = export_bundle(&*self.store, &*self.blobs, &self.key, &self.run()).await.unwrap();
        let report = verify_bundle(&bundle, &Trust { keys: vec![self.key.verifier_key()] });
        assert_eq!(report.verdict, Verdict::Intact, "{context}: {report:?}");
        let started = self.workers.started.lock().unwrap();
        assert!(started.values().all(|times| *times == 1), "{context}: started twice");
        // a, b, flaky twice, broken twice, last; `after` is skipped.
        assert_eq!(started.len(), 7, "{context}");
    }
}

#[tokio::test]
async fn every_commit_may_be_the_last_one_of_a_driver() {
    for last_is_applied in [false, true] {
        let mut survived = false;
        for alive in 0.. {
            let mut world = World::new().await;
            let mortal = Mortal { inner: world.store.clone(), left: AtomicI64::new(alive), last_is_applied };
            let died = world.live(Arc::new(mortal)).await;
            if died {
                let store = world.store.clone();
                assert!(!world.live(store).await);
            }
            world.check(&format!("alive {alive}, applied {last_is_applied}")).await;
            if !died {
                survived = true;
                assert!(alive > 5, "the run takes several commits");
                break;
            }
        }
        assert!(survived);
    }
}

#[tokio::test]
async fn a_driver_that_dies_again_and_again_still_finishes() {
    let mut world = World::new().await;
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
    world.check("one commit a life").await;
}

#[tokio::test]
async fn a_deposed_driver_writes_nothing_more() {
    let mut world = World::new().await;
    let store = world.store.clone();
    let one = world.parts(store.clone());
    let two = world.parts(store);
    let sealed = || async {
        while !world.is_sealed().await {
            tokio::task::yield_now().await;
        }
    };
    let both = async { tokio::join!(serve(one, sealed()), serve(two, sealed())) };
    let (one, two) = tokio::time::timeout(Duration::from_secs(20), both).await.expect("both must end");
    one.unwrap();
    two.unwrap();
    world.check("two drivers").await;
}

#[tokio::test]
async fn the_clock_may_step_back() {
    let mut world = World::new().await;
    let mortal = Mortal { inner: world.store.clone(), left: AtomicI64::new(4), last_is_applied: true };
    world.live(Arc::new(mortal)).await;
    world.clock.set(1_600_000_000_000);
    let store = world.store.clone();
    assert!(!world.live(store).await);
    world.check("clock").await;
}

#[tokio::test]
async fn a_bad_message_stops_nobody_and_the_same_plan_is_the_same_run() {
    let mut world = World::new().await;
    let submit = |plan: &str| {
        let request = Request::Submit { plan: plan.to_owned(), queue: None, actor: "human:other".to_owned() };
        serde_json::to_vec(&Envelope { v: MESSAGE_VERSION, request }).unwrap()
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
    world.check("messages").await;
    let answer = |name: &'static str| {
        let inbox = world.inbox.clone();
        async move {
            format!(
                "{:?}",
                inbox.disposition(name).await.unwrap().map(|d| match d {
                    pangolin_ports::inbox::Disposition::Accepted(bytes) =>
                        format!("accepted {}", String::from_utf8_lossy(&bytes)),
                    pangolin_ports::inbox::Disposition::Rejected(bytes) =>
                        format!("rejected {}", String::from_utf8_lossy(&bytes)),
                    pangolin_ports::inbox::Disposition::Waiting => "waiting".to_owned(),
                })
            )
        }
    };
    assert!(answer("bad-json").await.contains("rejected"));
    assert!(answer("bad-plan").await.contains("findings"));
    assert!(answer("again").await.contains("accepted"));
    assert!(answer("again").await.contains("checkpoint"));
    assert!(answer("other").await.contains("another plan"));
}
