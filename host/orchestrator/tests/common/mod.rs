//! A deployment in memory whose driver may die.
#![allow(dead_code, reason = "every test program uses its own part")]

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
    plan::{Plan, PlanItem},
    scheduler::{AttemptEnd, AttemptStatus, Fire, QueuePolicy},
    state::RunState,
    validate::{Finding, PlanContext},
};
use pangolin_orchestrator::{
    admission::{Admission, Pinned},
    driver::{Parts, serve},
    executor::{Executor, Job, PrepareError, Report, Reporter},
    export::{Author, export_bundle},
    keys,
    leadership::Alone,
    ledger::Summary,
    message::{Base, Envelope, MESSAGE_VERSION, Request},
    patterns::Patterns,
};
use pangolin_ports::{
    blob_store::BlobStore,
    commit_limits::CommitLimits,
    inbox::{Disposition, Inbox, Message},
    memory::{ManualClock, MemoryBlobStore, MemoryInbox, MemoryRunStore},
    run_store::{Batch, Cell, Commit, Head, Record, RunStore, RunStoreError},
};

/// Lets `alive` commits through, then fails as if the process had died: with the commit applied or not.
pub(crate) struct Mortal {
    pub(crate) inner: Arc<MemoryRunStore>,
    pub(crate) left: AtomicI64,
    pub(crate) last_is_applied: bool,
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

/// Takes little in one commit, so that the ledger has to cut.
pub(crate) struct Narrow {
    store: Arc<dyn RunStore>,
    limits: CommitLimits,
}

impl Narrow {
    /// Everything is cut that may be cut.
    pub(crate) fn fully(store: Arc<dyn RunStore>) -> Arc<dyn RunStore> {
        Self::to(CommitLimits { actions: 1, bytes: 1 }, store)
    }

    pub(crate) fn to(limits: CommitLimits, store: Arc<dyn RunStore>) -> Arc<dyn RunStore> {
        Arc::new(Self { store, limits })
    }
}

#[async_trait]
impl RunStore for Narrow {
    fn limits(&self) -> CommitLimits {
        self.limits
    }
    async fn commit(&self, batch: Batch) -> Result<Commit, RunStoreError> {
        self.store.commit(batch).await
    }
    async fn was_committed(&self, id: &str) -> Result<bool, RunStoreError> {
        self.store.was_committed(id).await
    }
    async fn head(&self, stream: &str) -> Result<Head, RunStoreError> {
        self.store.head(stream).await
    }
    async fn read(&self, stream: &str, from: u64, limit: usize) -> Result<Vec<Record>, RunStoreError> {
        self.store.read(stream, from, limit).await
    }
    async fn streams(&self, p: &str, a: Option<&str>, l: usize) -> Result<Vec<String>, RunStoreError> {
        self.store.streams(p, a, l).await
    }
    async fn get(&self, key: &str) -> Result<Option<Cell>, RunStoreError> {
        self.store.get(key).await
    }
    async fn scan(&self, p: &str, a: Option<&str>, l: usize) -> Result<Vec<(String, Cell)>, RunStoreError> {
        self.store.scan(p, a, l).await
    }
}

/// Workers that survive the driver. Obeys the executor's contract: a dispatch is started once, ever.
#[derive(Default)]
pub(crate) struct Workers {
    /// How often the worker of a dispatch was really started.
    pub(crate) started: Mutex<HashMap<DispatchId, u32>>,
    /// What was handed to `start` at least once, so that re-adoption can be told from a second start.
    pub(crate) known: Mutex<HashSet<DispatchId>>,
    /// Fired but never committed must not run: everything started must be in the ledger at the end.
    pub(crate) stopped: Mutex<HashSet<DispatchId>>,
    /// Items that fail their first attempt, and one that fails for good.
    pub(crate) fails: BTreeMap<&'static str, u32>,
    /// What an item leaves behind.
    pub(crate) leaves: BTreeMap<&'static str, Evidence>,
    pub(crate) blobs: Arc<MemoryBlobStore>,
}

pub(crate) struct Hands(pub(crate) Arc<Workers>);

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
        let evidence = self.0.leaves.get(job.item.as_str()).cloned().unwrap_or_default();
        let _ = report.send(Report { job, end: AttemptEnd { status, evidence } });
    }

    fn stop(&self, dispatch: &DispatchId) {
        self.0.stopped.lock().unwrap().insert(dispatch.clone());
    }

    fn forget(&self, _dispatch: &DispatchId) {}

    async fn sweep(&self, _running: &HashSet<DispatchId>) {}
}

pub(crate) struct Open;

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
    async fn pin(&self, _plan: &Plan, _base: Option<&Base>) -> Result<Pinned, Vec<Finding>> {
        Ok(Pinned::default())
    }
    async fn pin_added(&self, _run: &RunState, _items: &[PlanItem]) -> Result<Option<Digest>, Vec<Finding>> {
        Ok(None)
    }
}

pub(crate) struct World {
    pub(crate) store: Arc<MemoryRunStore>,
    pub(crate) blobs: Arc<MemoryBlobStore>,
    pub(crate) inbox: Arc<MemoryInbox>,
    pub(crate) workers: Arc<Workers>,
    pub(crate) patterns: Arc<dyn Patterns>,
    pub(crate) key: Arc<SigningKey>,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) lives: u32,
    pub(crate) run: RunId,
}

impl World {
    /// A deployment with one submission in its inbox.
    pub(crate) async fn new(plan: &str, script: Workers, patterns: Arc<dyn Patterns>) -> Self {
        let plan_json: serde_json::Value = serde_json::from_str(plan).unwrap();
        let world = Self {
            store: Arc::new(MemoryRunStore::new()),
            blobs: script.blobs.clone(),
            inbox: Arc::new(MemoryInbox::new()),
            workers: Arc::new(script),
            patterns,
            key: Arc::new(SigningKey::from_seed("pangolin.test/crash", &[7; 32]).unwrap()),
            clock: Arc::new(ManualClock::new(1_700_000_000_000)),
            lives: 0,
            run: RunId::new(plan_json["id"].as_str().unwrap()).unwrap(),
        };
        // The "components" of scripted patterns: what a record names must be there.
        for name in ["scripted", "builtin", "newer"] {
            world.blobs.put(name.as_bytes()).await.unwrap();
        }
        let request = Request::Submit {
            plan: plan.to_owned(),
            queue: None,
            actor: "human:test".to_owned(),
            base: None,
        };
        world.send("submit-1", request).await;
        world
    }

    pub(crate) async fn send(&self, name: &str, request: Request) {
        let bytes = serde_json::to_vec(&Envelope { v: MESSAGE_VERSION, request, note: None }).unwrap();
        self.inbox.send(Message { name: name.to_owned(), bytes }).await.unwrap();
    }

    pub(crate) fn parts(&mut self, store: Arc<dyn RunStore>) -> Parts {
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
            patterns: self.patterns.clone(),
            queues: BTreeMap::from([(
                QueueName::new("default").unwrap(),
                QueuePolicy { concurrency: 2, paused: false },
            )]),
            holder: format!("life-{}", self.lives),
            senders: Default::default(),
            commit_tries: None,
            on_lead: Box::new(|| {}),
        }
    }

    pub(crate) async fn is_sealed(&self, run: &RunId) -> bool {
        let cell = self.store.get(&keys::summary(run)).await.unwrap();
        cell.is_some_and(|cell| serde_json::from_slice::<Summary>(&cell.value).unwrap().outcome.is_some())
    }

    /// Drives until `done` resolves or the driver dies; answers whether it died.
    pub(crate) async fn serve_until(
        &mut self,
        store: Arc<dyn RunStore>,
        done: impl Future<Output = ()> + Send,
    ) -> bool {
        let parts = self.parts(store);
        let served = tokio::time::timeout(Duration::from_secs(20), serve(parts, done)).await;
        served.expect("it must end").is_err()
    }

    /// Drives until the run is sealed or the driver dies; answers whether it died.
    pub(crate) async fn live(&mut self, store: Arc<dyn RunStore>) -> bool {
        let (cells, run) = (self.store.clone(), self.run.clone());
        let sealed = async move {
            while cells.get(&keys::seal(&run)).await.unwrap().is_none() {
                tokio::task::yield_now().await;
            }
        };
        self.serve_until(store, sealed).await
    }

    pub(crate) async fn bundle_is_intact(&self, context: &str) {
        assert!(self.is_sealed(&self.run).await, "{context}");
        let bundle =
            export_bundle(&*self.store, &*self.blobs, Author::Deployment(&self.key), None, &self.run)
                .await
                .unwrap();
        let report =
            verify_bundle(&bundle, &Trust { keys: vec![self.key.verifier_key()], ..Trust::default() });
        assert_eq!(report.verdict, Verdict::Intact, "{context}: {report:?}");
    }

    pub(crate) async fn blobs_has(&self, bytes: &[u8]) -> bool {
        self.blobs.size(&Digest::of(bytes)).await.unwrap().is_some()
    }

    pub(crate) async fn answer(&self, name: &str) -> String {
        match self.inbox.disposition(name).await.unwrap() {
            Some(Disposition::Accepted(bytes)) => format!("accepted {}", String::from_utf8_lossy(&bytes)),
            Some(Disposition::Rejected(bytes)) => format!("rejected {}", String::from_utf8_lossy(&bytes)),
            Some(Disposition::Waiting) => "waiting".to_owned(),
            None => "gone".to_owned(),
        }
    }
}
