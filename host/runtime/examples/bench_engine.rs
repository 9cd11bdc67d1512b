//! Engine throughput: items per second through the real driver on SQLite on disk, hash-chained and sealed, with an
//! executor that finishes at once. One JSON line per shape and durability. `--quick` runs the small shapes only,
//! `--growth` only the runs that a pattern makes grow.
//!
//! Peers, measured on a 2-core machine by the authors of the issue: the TypeScript original did 236 items/s
//! (layered 100), 27 (layered 1,000), 41 (fan-in 1,000), 20 (chain of 300).
#![expect(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a benchmark prints its result and may stop anywhere"
)]

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{Arc, Mutex},
    time::Instant,
};

use async_trait::async_trait;
use pangolin_audit::{
    note::SigningKey,
    verify::{Trust, verify_bundle},
};
use pangolin_core::{
    entry::{Entry, Evidence, RetryPolicy},
    ids::{Digest, DispatchId, QueueName, RunId},
    pattern::RunView,
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
    message::{Base, Envelope, MESSAGE_VERSION, Request},
    patterns::{
        Asked, Binding, BindingError, CallFacts, NoPatterns, OnFailure, Patterns, StepAnswer, StepFailure,
    },
};
use pangolin_plugin_host::{Allocation, CacheKey, Compiler, HostOptions, PatternComponent, PluginHost};
use pangolin_ports::{
    blob_store::{BlobError, BlobStore as _},
    inbox::{Inbox, Message},
    memory::{MemoryBlobStore, MemoryInbox, SystemClock},
    run_store::RunStore,
};
use pangolin_store_sqlite::{Options, SqliteRunStore, Synchronous};
use serde_json::json;

/// Ends every item at once; the item `split` leaves these outputs and each of its maps a result.
struct Instantly {
    outputs: BTreeMap<String, Digest>,
}

#[async_trait]
impl Executor for Instantly {
    async fn prepare(&self, _fire: &Fire, _run: &RunState) -> Result<Option<Digest>, PrepareError> {
        Ok(None)
    }
    fn start(&self, job: Job, report: Reporter) {
        let outputs = match job.item.as_str() {
            "split" => self.outputs.clone(),
            id if id.starts_with("map-") => BTreeMap::from([("result".to_owned(), Digest::of(b"part"))]),
            _ => BTreeMap::new(),
        };
        let evidence = Evidence { outputs, ..Evidence::default() };
        let _ = report.send(Report { job, end: AttemptEnd { status: AttemptStatus::Done, evidence } });
    }
    fn stop(&self, _dispatch: &DispatchId) {}
    fn forget(&self, _dispatch: &DispatchId) {}
    async fn sweep(&self, _running: &std::collections::HashSet<DispatchId>) {}
}

struct Open;

#[async_trait]
impl Admission for Open {
    fn context(&self) -> Arc<PlanContext> {
        Arc::new(PlanContext::default())
    }
    fn namespace(&self) -> &str {
        "bench"
    }
    fn retry(&self) -> RetryPolicy {
        RetryPolicy::default()
    }
    async fn pin(&self, _plan: &Plan, _base: Option<&Base>) -> Result<Pinned, Vec<Finding>> {
        Ok(Pinned::default())
    }
    async fn pin_added(&self, _run: &RunState, _items: &[PlanItem]) -> Result<Option<Digest>, Vec<Finding>> {
        Ok(None)
    }
}

fn plan(shape: &str, items: usize) -> String {
    let name = |index: usize| format!("item-{index:06}");
    let deps = |index: usize| match shape {
        "layered" => index.checked_sub(10).map(name).into_iter().collect(),
        "chain" => index.checked_sub(1).map(name).into_iter().collect(),
        "fan-in" if index + 1 == items => (0..index).map(name).collect(),
        _ => Vec::new(),
    };
    let list: Vec<_> = (0..items)
        .map(|index| json!({"id": name(index), "executor": "dispatch", "inputs": {}, "depends_on": deps(index), "resourceLocks": []}))
        .collect();
    json!({"id": format!("{shape}-{items}"), "queue": "default", "items": list}).to_string()
}

/// One run through the engine.
struct Case {
    shape: &'static str,
    items: usize,
    plan: String,
    outputs: BTreeMap<String, Digest>,
    patterns: Arc<dyn Patterns>,
    /// What the record refers to and the engine does not store: components, contents of outputs.
    documents: Vec<Vec<u8>>,
}

async fn engine(dir: &Path, case: Case, synchronous: Synchronous) -> (f64, u64, u64) {
    let Case { shape, items, plan, outputs, patterns, documents } = case;
    let file = dir.join(format!("{shape}-{items}-{synchronous:?}.db"));
    let store = Arc::new(SqliteRunStore::open(&file, Options { synchronous, ..Options::default() }).unwrap());
    let blobs = Arc::new(MemoryBlobStore::new());
    let inbox = Arc::new(MemoryInbox::new());
    let key = Arc::new(SigningKey::from_seed("pangolin.bench/engine", &[1; 32]).unwrap());
    let run = RunId::new(format!("{shape}-{items}")).unwrap();
    let request = Request::Submit { plan, queue: None, actor: "app:bench".to_owned(), base: None };
    let bytes = serde_json::to_vec(&Envelope { v: MESSAGE_VERSION, request, note: None }).unwrap();
    inbox.send(Message { name: "submit".to_owned(), bytes }).await.unwrap();
    // A daemon that serves already is what a submitter meets: the clock starts when it leads, before it has seen
    // the plan, and stops when the run is sealed.
    let started = Arc::new(std::sync::OnceLock::new());
    let leads = started.clone();
    let parts = Parts {
        store: store.clone(),
        blobs: blobs.clone(),
        inbox,
        clock: Arc::new(SystemClock),
        key: key.clone(),
        leadership: Arc::new(Alone),
        executor: Arc::new(Instantly { outputs }),
        admission: Arc::new(Open),
        patterns,
        queues: BTreeMap::from([(
            QueueName::new("default").unwrap(),
            QueuePolicy { concurrency: 64, paused: false },
        )]),
        holder: "bench".to_owned(),
        senders: Default::default(),
        commit_tries: None,
        on_lead: Box::new(move || {
            leads.get_or_init(Instant::now);
        }),
    };
    let ended = Mutex::new(Instant::now());
    let sealed = async {
        let mut watch = store.watch().unwrap();
        while store.get(&keys::seal(&run)).await.unwrap().is_none() {
            watch.changed().await.unwrap();
        }
        *ended.lock().unwrap() = Instant::now();
    };
    serve(parts, sealed).await.unwrap();
    let seconds = ended.lock().unwrap().duration_since(*started.get().unwrap()).as_secs_f64();
    let head = store.head(&keys::run_stream(&run)).await.unwrap();
    let records = store.read(&keys::run_stream(&run), 1, 2).await.unwrap();
    let bytes: u64 = records.iter().map(|record| record.bytes.len() as u64).sum();
    if items <= 1000 || shape == "growth" {
        for bytes in documents {
            blobs.put(&bytes).await.unwrap();
        }
        let bundle = export_bundle(&*store, &*blobs, Author::Deployment(&key), None, &run).await.unwrap();
        let report = verify_bundle(&bundle, &Trust { keys: vec![key.verifier_key()], ..Trust::default() });
        assert!(report.intact, "{}", report.to_json());
        if shape == "growth" {
            // The splitter, its maps and the reduce.
            let expected = format!("{0} of {0} items final", items + 2);
            assert!(report.checks.state.detail.ends_with(&expected), "{}", report.to_json());
        }
    }
    (seconds, head.len, bytes)
}

/// Commits of two rows with the bytes of one hop, as plain as SQLite allows.
fn bare(dir: &Path, bytes: u64, synchronous: &str) -> f64 {
    let commits = 3000u32;
    let db = rusqlite::Connection::open(dir.join(format!("bare-{synchronous}.db"))).unwrap();
    db.pragma_update(None, "journal_mode", "WAL").unwrap();
    db.pragma_update(None, "synchronous", synchronous).unwrap();
    db.execute_batch("CREATE TABLE t (id INTEGER PRIMARY KEY, bytes BLOB NOT NULL) STRICT").unwrap();
    let row = vec![b'x'; usize::try_from(bytes / 2).unwrap()];
    let started = Instant::now();
    for _ in 0..commits {
        db.execute_batch("BEGIN IMMEDIATE").unwrap();
        for _ in 0..2 {
            db.prepare_cached("INSERT INTO t (bytes) VALUES (?1)").unwrap().execute([&row]).unwrap();
        }
        db.execute_batch("COMMIT").unwrap();
    }
    f64::from(commits) / started.elapsed().as_secs_f64()
}

fn peak_rss_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmHWM")).unwrap_or("0 0");
    line.split_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok()).unwrap_or(0) / 1024
}

/// Asks the map-reduce pattern that ships, in the engine that it has in a deployment, and adds up how long that takes.
struct Timed {
    pattern: PatternComponent,
    /// Of each step, in microseconds.
    asked_us: Mutex<Vec<u64>>,
}

impl Timed {
    async fn ask(&self, view: Arc<RunView>, plan: bool) -> Result<StepAnswer, StepFailure> {
        let started = Instant::now();
        let outcome =
            if plan { self.pattern.plan(&view).await } else { self.pattern.step(&view).await.map(Some) };
        let outcome = outcome.unwrap().unwrap();
        let took = u64::try_from(started.elapsed().as_micros()).unwrap();
        self.asked_us.lock().unwrap().push(took);
        Ok(StepAnswer { decisions: outcome.decisions, facts: CallFacts::default() })
    }
}

#[async_trait]
impl Patterns for Timed {
    async fn binding(&self, _queue: &QueueName) -> Result<Option<Binding>, BindingError> {
        let component = self.pattern.digest();
        Ok(Some(Binding { id: "map-reduce".to_owned(), component, params: serde_json::Map::new() }))
    }
    async fn plan(&self, _asked: &Asked, view: Arc<RunView>) -> Result<StepAnswer, StepFailure> {
        self.ask(view, true).await
    }
    async fn step(&self, _asked: &Asked, view: Arc<RunView>) -> Result<StepAnswer, StepFailure> {
        self.ask(view, false).await
    }
    async fn on_failure(&self, _queue: &QueueName) -> Result<OnFailure, BlobError> {
        Ok(OnFailure::Closed)
    }
    async fn compare(
        &self,
        _entries: &[Entry],
        _documents: &BTreeMap<Digest, Vec<u8>>,
        _asked: &Asked,
    ) -> Result<u64, String> {
        Err("a benchmark does not upgrade".to_owned())
    }
}

/// A run with the map-reduce pattern: one splitter with so many outputs, a map for each, and a reduce that needs the
/// results of all.
async fn growth(dir: &Path, maps: usize, (synchronous, mode): (Synchronous, &str)) -> serde_json::Value {
    let bytes = pangolin_builtin_plugins::pattern("map-reduce").expect("map-reduce ships");
    let key = CacheKey::load_or_create(&dir.join("key")).unwrap();
    // Compiling is no part of what is measured.
    // Memory for guests as `serve` has it.
    let allocation = Allocation::Pool { calls: 64 };
    let options = HostOptions { compiler: Compiler::InProcess, allocation, ..HostOptions::default() };
    let host = PluginHost::with_options(&dir.join("cache"), key, options).unwrap();
    let pattern = host.load_pattern(bytes).unwrap();
    let timed = Arc::new(Timed { pattern, asked_us: Mutex::default() });
    let template = json!({"executor": "dispatch", "inputs": {}});
    let plan = json!({"id": format!("growth-{maps}"), "queue": "default", "items": [{
        "id": "split", "executor": "dispatch", "depends_on": [], "resourceLocks": [],
        "inputs": {"mapReduce": {"map": template, "reduce": template}},
    }]});
    let outputs: BTreeMap<String, Digest> =
        (0..maps).map(|index| (format!("part-{index:06}"), Digest::of(b"part"))).collect();
    let case = Case {
        shape: "growth",
        items: maps,
        plan: plan.to_string(),
        outputs,
        patterns: timed.clone(),
        documents: vec![bytes.to_vec(), b"part".to_vec()],
    };
    let (seconds, entries, _) = engine(dir, case, synchronous).await;
    let items = maps + 2;
    let mut steps = timed.asked_us.lock().unwrap().clone();
    steps.sort_unstable();
    let asked = steps.iter().sum::<u64>() as f64 / 1e6;
    json!({
        "bench": "engine", "shape": "growth", "items": items, "maps": maps, "synchronous": mode, "concurrency": 64,
        "items_per_s": (items as f64 / seconds).round(), "seconds": (seconds * 1000.0).round() / 1000.0,
        "entries": entries, "steps": steps.len(), "step_us_median": steps[steps.len() / 2],
        "pattern_seconds": (asked * 1000.0).round() / 1000.0,
        "pattern_share": (asked / seconds * 1000.0).round() / 1000.0, "peak_rss_mib": peak_rss_mib(),
    })
}

#[tokio::main]
async fn main() {
    let quick = std::env::args().any(|arg| arg == "--quick");
    // On disk beside the build, not in /tmp: that may be memory.
    let root = std::env::current_dir().unwrap().join("target");
    let dir = tempfile::Builder::new().prefix("bench-engine-").tempdir_in(root).unwrap();
    let mut shapes =
        vec![("layered", 100), ("layered", 1_000), ("fan-in", 1_000), ("chain", 300), ("chain", 3_000)];
    if !quick {
        shapes.push(("layered", 100_000));
    }
    let modes = [(Synchronous::Full, "FULL"), (Synchronous::Normal, "NORMAL")];
    let growing: &[usize] = if quick { &[1_000] } else { &[1_000, 10_000] };
    for maps in growing {
        for mode in modes {
            println!("{}", growth(dir.path(), *maps, mode).await);
        }
    }
    if std::env::args().any(|arg| arg == "--growth") {
        return;
    }
    for (mode, synchronous) in modes {
        for (shape, items) in &shapes {
            let case = Case {
                shape,
                items: *items,
                plan: plan(shape, *items),
                outputs: BTreeMap::new(),
                patterns: Arc::new(NoPatterns),
                documents: Vec::new(),
            };
            let (seconds, entries, hop_bytes) = engine(dir.path(), case, mode).await;
            let mut line = json!({
                "bench": "engine", "shape": shape, "items": items, "synchronous": synchronous, "concurrency": 64,
                "items_per_s": (*items as f64 / seconds).round(), "seconds": (seconds * 1000.0).round() / 1000.0,
                "entries": entries, "peak_rss_mib": peak_rss_mib(),
            });
            if *shape == "chain" {
                line["bare_commits_per_s"] = json!(bare_rate(dir.path(), hop_bytes, synchronous).round());
                let ratio = (*items as f64 / seconds) / line["bare_commits_per_s"].as_f64().unwrap();
                line["share_of_bare"] = json!((ratio * 1000.0).round() / 1000.0);
            }
            println!("{line}");
        }
    }
}

fn bare_rate(dir: &Path, bytes: u64, synchronous: &str) -> f64 {
    let dir = tempfile::Builder::new().prefix("bare-").tempdir_in(dir).unwrap();
    bare(dir.path(), bytes, synchronous)
}
