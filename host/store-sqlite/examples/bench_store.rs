//! Commits per second of this store against bare SQLite with the same bytes, one JSON line per shape.
//!
//! `cargo run --release -p pangolin-store-sqlite --example bench_store [directory] [seconds per shape]`
//!
//! A store's commit and a bare one take turns in short slices, because the speed of a shared disk changes from one
//! second to the next. `ratio` is ours divided by bare.

#![expect(clippy::print_stdout, reason = "the figures are the output")]

use std::{
    error::Error,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use pangolin_core::ids::Digest;
use pangolin_ports::run_store::{Append, Batch, Commit, Guard, Head, RunStore, Write};
use pangolin_store_sqlite::{Options, SqliteRunStore, Synchronous};
use rusqlite::Connection;
use tokio::runtime::Runtime;

type Outcome<T = ()> = Result<T, Box<dyn Error + Send + Sync>>;

const RECORD_BYTES: usize = 400;
const SLICE: Duration = Duration::from_millis(100);

/// What one commit of ours carries.
#[derive(Clone, Copy)]
struct Shape {
    name: &'static str,
    records: usize,
    cells: usize,
    writers: usize,
}

const SHAPES: &[Shape] = &[
    Shape { name: "2-records", records: 2, cells: 0, writers: 1 },
    Shape { name: "20-records", records: 20, cells: 0, writers: 1 },
    Shape { name: "2-records-and-lock", records: 2, cells: 1, writers: 1 },
    Shape { name: "2-records-16-writers", records: 2, cells: 0, writers: 16 },
];

fn main() -> Outcome {
    let mut arguments = std::env::args().skip(1);
    let dir = arguments.next();
    let duration = Duration::from_secs_f64(arguments.next().map_or(Ok(3.0), |text| text.parse())?);
    let temporary = tempfile::tempdir_in(dir.as_deref().unwrap_or("."))?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    for (name, synchronous) in [("FULL", Synchronous::Full), ("NORMAL", Synchronous::Normal)] {
        for shape in SHAPES {
            let path = |kind: &str| temporary.path().join(format!("{kind}-{}-{name}", shape.name));
            let bare = Bare::open(&path("bare"), name)?;
            let ours = Ours::open(&path("ours"), synchronous, *shape)?;
            let (mut bare_total, mut ours_total) = (Total::default(), Total::default());
            let start = Instant::now();
            while start.elapsed() < duration * 2 {
                bare_total.add(|| bare.slice(shape.records))?;
                ours_total.add(|| ours.slice(&runtime))?;
            }
            let (bare, ours) = (bare_total.per_s(), ours_total.per_s());
            let line = serde_json::json!({
                "bench": "store", "shape": shape.name, "synchronous": name,
                "records_per_commit": shape.records, "record_bytes": RECORD_BYTES,
                "bare_commits_per_s": bare.round(), "commits_per_s": ours.round(),
                "ratio": (ours / bare * 100.0).round() / 100.0,
            });
            println!("{line}");
        }
    }
    Ok(())
}

#[derive(Default)]
struct Total {
    commits: u64,
    time: Duration,
}

impl Total {
    fn add(&mut self, slice: impl FnOnce() -> Outcome<u64>) -> Outcome {
        let start = Instant::now();
        self.commits += slice()?;
        self.time += start.elapsed();
        Ok(())
    }

    fn per_s(&self) -> f64 {
        self.commits as f64 / self.time.as_secs_f64()
    }
}

/// The same bytes with nothing around: one table, one prepared insert, one transaction per commit.
struct Bare(Connection);

impl Bare {
    fn open(path: &Path, synchronous: &str) -> Outcome<Self> {
        let connection = Connection::open(path)?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", synchronous)?;
        connection
            .execute_batch("CREATE TABLE records (id INTEGER PRIMARY KEY, bytes BLOB NOT NULL) STRICT")?;
        Ok(Self(connection))
    }

    fn slice(&self, records: usize) -> Outcome<u64> {
        let bytes = vec![7_u8; RECORD_BYTES];
        let (mut begin, mut commit) = (self.0.prepare("BEGIN IMMEDIATE")?, self.0.prepare("COMMIT")?);
        let mut insert = self.0.prepare("INSERT INTO records (bytes) VALUES (?1)")?;
        let (start, mut count) = (Instant::now(), 0);
        while start.elapsed() < SLICE {
            begin.execute(())?;
            for _ in 0..records {
                insert.execute([&bytes])?;
            }
            commit.execute(())?;
            count += 1;
        }
        Ok(count)
    }
}

struct Ours {
    store: Arc<SqliteRunStore>,
    shape: Shape,
}

impl Ours {
    fn open(path: &Path, synchronous: Synchronous, shape: Shape) -> Outcome<Self> {
        let store = SqliteRunStore::open(path, Options { synchronous, ..Options::default() })?;
        Ok(Self { store: Arc::new(store), shape })
    }

    fn slice(&self, runtime: &Runtime) -> Outcome<u64> {
        runtime.block_on(async {
            // On worker threads, as the engine's tasks are.
            let mut tasks = tokio::task::JoinSet::new();
            for writer in 0..self.shape.writers {
                tasks.spawn(write(Arc::clone(&self.store), format!("run/{writer}"), self.shape));
            }
            let mut count = 0;
            while let Some(done) = tasks.join_next().await {
                count += done??;
            }
            Ok(count)
        })
    }
}

/// Appends behind the head again and again, as an engine does for one run.
async fn write(store: Arc<SqliteRunStore>, stream: String, shape: Shape) -> Outcome<u64> {
    let hash = Digest::of(stream.as_bytes());
    let mut head = store.head(&stream).await?;
    let (start, mut count) = (Instant::now(), 0);
    while start.elapsed() < SLICE {
        let lock = |cell: usize| Write::Put { key: format!("lock/{stream}/{cell}"), value: vec![1; 40] };
        let batch = Batch {
            id: format!("{stream}@{}", head.len),
            guards: vec![Guard::HeadIs { stream: stream.clone(), head }],
            writes: (0..shape.cells).map(lock).collect(),
            appends: vec![Append {
                stream: stream.clone(),
                records: (0..shape.records).map(|_| (hash, vec![7_u8; RECORD_BYTES])).collect(),
            }],
        };
        match store.commit(batch).await? {
            Commit::Committed => {}
            other => return Err(format!("unexpected answer {other:?}").into()),
        }
        head = Head { len: head.len + shape.records as u64, hash: Some(hash) };
        count += 1;
    }
    Ok(count)
}
