//! Engine throughput: items per second through the real driver on SQLite on disk, hash-chained and sealed, with an
//! executor that finishes at once. One JSON line per shape and durability. `--quick` runs the small shapes only.
//!
//! Peers, measured on a 2-core machine by the authors of the issue: the TypeScript original did 236 items/s
//! (layered 100), 27 (layered 1,000), 41 (fan-in 1,000), 20 (chain of 300).
#![expect(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a benchmark prints its result and may stop anywhere"
)]

use std::{collections::BTreeMap, path::Path, sync::Arc, time::Instant};

use async_trait::async_trait;
use pangolin_audit::{
    note::SigningKey,
    verify::{Trust, verify_bundle},
};
use pangolin_core::{
    entry::{Evidence, RetryPolicy},
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
    export::export_bundle,
    keys,
    leadership::Alone,
    message::{Envelope, MESSAGE_VERSION, Request},
    patterns::NoPatterns,
};
use pangolin_ports::{
    inbox::{Inbox, Message},
    memory::{MemoryBlobStore, MemoryInbox, SystemClock},
    run_store::RunStore,
};
use pangolin_store_sqlite::{Options, SqliteRunStore, Synchronous};
use serde_json::json;

struct Instantly;

#[async_trait]
impl Executor for Instantly {
    async fn prepare(&self, _fire: &Fire, _run: &RunState) -> Result<Option<Digest>, PrepareError> {
        Ok(None)
    }
    fn start(&self, job: Job, report: Reporter) {
        let _ = report.send(Report {
            job,
            end: AttemptEnd { status: AttemptStatus::Done, evidence: Evidence::default() },
        });
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
    async fn pin(&self, _plan: &Plan) -> Result<Pinned, Vec<Finding>> {
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

async fn engine(dir: &Path, shape: &str, items: usize, synchronous: Synchronous) -> (f64, u64, u64) {
    let file = dir.join(format!("{shape}-{items}-{synchronous:?}.db"));
    let store = Arc::new(SqliteRunStore::open(&file, Options { synchronous, ..Options::default() }).unwrap());
    let blobs = Arc::new(MemoryBlobStore::new());
    let inbox = Arc::new(MemoryInbox::new());
    let key = Arc::new(SigningKey::from_seed("pangolin.bench/engine", &[1; 32]).unwrap());
    let run = RunId::new(format!("{shape}-{items}")).unwrap();
    let request = Request::Submit { plan: plan(shape, items), queue: None, actor: "app:bench".to_owned() };
    let bytes = serde_json::to_vec(&Envelope { v: MESSAGE_VERSION, request }).unwrap();
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
        executor: Arc::new(Instantly),
        admission: Arc::new(Open),
        patterns: Arc::new(NoPatterns),
        queues: BTreeMap::from([(
            QueueName::new("default").unwrap(),
            QueuePolicy { concurrency: 64, paused: false },
        )]),
        holder: "bench".to_owned(),
        on_lead: Box::new(move || {
            leads.get_or_init(Instant::now);
        }),
    };
    let ended = std::sync::Mutex::new(Instant::now());
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
    if items <= 1000 {
        let bundle = export_bundle(&*store, &*blobs, &key, &run).await.unwrap();
        assert!(verify_bundle(&bundle, &Trust { keys: vec![key.verifier_key()] }).intact);
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
    for (mode, synchronous) in [(Synchronous::Full, "FULL"), (Synchronous::Normal, "NORMAL")] {
        for (shape, items) in &shapes {
            let (seconds, entries, hop_bytes) = engine(dir.path(), shape, *items, mode).await;
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
