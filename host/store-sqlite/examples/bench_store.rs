//! Commits per second of this store against bare SQLite with the same bytes, one JSON line per shape.
//!
//! `cargo run --release -p pangolin-store-sqlite --example bench_store [directory] [seconds per shape]`

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

type Outcome<T = ()> = Result<T, Box<dyn Error + Send + Sync>>;

const RECORD_BYTES: usize = 400;

fn main() -> Outcome {
    let mut arguments = std::env::args().skip(1);
    let dir = arguments.next();
    let duration = Duration::from_secs_f64(arguments.next().map_or(Ok(3.0), |text| text.parse())?);
    let temporary = tempfile::tempdir_in(dir.as_deref().unwrap_or("."))?;
    let dir = temporary.path();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    for (name, synchronous) in [("FULL", Synchronous::Full), ("NORMAL", Synchronous::Normal)] {
        // Bare before and after ours: the machine's speed changes while we measure.
        for (shape, batches) in [("bare-2-first", 2), ("bare-20", 20)] {
            let count = bare(&dir.join(format!("{shape}-{name}")), name, batches, duration)?;
            print(shape, name, count, batches, duration);
        }
        for (shape, records, cells) in [("ours-2", 2, 0), ("ours-20", 20, 0), ("ours-2-with-lock-cell", 2, 1)]
        {
            let path = dir.join(format!("{shape}-{name}"));
            let count = runtime.block_on(async {
                let store =
                    Arc::new(SqliteRunStore::open(path, Options { synchronous, ..Options::default() })?);
                // On a worker thread, as the engine's tasks are.
                tokio::spawn(writer(store, "run/a".to_owned(), records, cells, duration)).await?
            })?;
            print(shape, name, count, records, duration);
        }
        let count = bare(&dir.join(format!("bare-2-last-{name}")), name, 2, duration)?;
        print("bare-2-last", name, count, 2, duration);
        let path = dir.join(format!("group-{name}"));
        let count: u64 = runtime.block_on(async {
            let store = Arc::new(SqliteRunStore::open(path, Options { synchronous, ..Options::default() })?);
            let mut tasks = tokio::task::JoinSet::new();
            for index in 0..16 {
                tasks.spawn(writer(Arc::clone(&store), format!("run/{index}"), 2, 0, duration));
            }
            let mut count = 0;
            while let Some(done) = tasks.join_next().await {
                count += done??;
            }
            Outcome::Ok(count)
        })?;
        print("ours-2-by-16-writers", name, count, 2, duration);
    }
    Ok(())
}

fn print(shape: &str, synchronous: &str, commits: u64, records: usize, duration: Duration) {
    let per_s = commits as f64 / duration.as_secs_f64();
    let line = serde_json::json!({
        "bench": "store", "shape": shape, "synchronous": synchronous, "records_per_commit": records,
        "record_bytes": RECORD_BYTES, "commits": commits, "commits_per_s": per_s.round(),
    });
    println!("{line}");
}

/// The same bytes with nothing around: one table, one prepared insert, one transaction per commit.
fn bare(path: &Path, synchronous: &str, records: usize, duration: Duration) -> Outcome<u64> {
    let connection = Connection::open(path)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", synchronous)?;
    connection.execute_batch("CREATE TABLE records (id INTEGER PRIMARY KEY, bytes BLOB NOT NULL) STRICT")?;
    let bytes = vec![7_u8; RECORD_BYTES];
    let (mut begin, mut commit) = (connection.prepare("BEGIN IMMEDIATE")?, connection.prepare("COMMIT")?);
    let mut insert = connection.prepare("INSERT INTO records (bytes) VALUES (?1)")?;
    let (start, mut count) = (Instant::now(), 0);
    while start.elapsed() < duration {
        begin.execute(())?;
        for _ in 0..records {
            insert.execute([&bytes])?;
        }
        commit.execute(())?;
        count += 1;
    }
    Ok(count)
}

/// Appends behind the head again and again, as an engine does for one run.
async fn writer(
    store: Arc<SqliteRunStore>,
    stream: String,
    records: usize,
    cells: usize,
    duration: Duration,
) -> Outcome<u64> {
    let hash = Digest::of(stream.as_bytes());
    let (start, mut count, mut head) = (Instant::now(), 0, Head::default());
    while start.elapsed() < duration {
        let batch = Batch {
            id: format!("{stream}@{}", head.len),
            guards: vec![Guard::HeadIs { stream: stream.clone(), head }],
            writes: (0..cells)
                .map(|cell| Write::Put { key: format!("lock/{cell}"), value: vec![1; 40] })
                .collect(),
            appends: vec![Append {
                stream: stream.clone(),
                records: (0..records).map(|_| (hash, vec![7_u8; RECORD_BYTES])).collect(),
            }],
        };
        match store.commit(batch).await? {
            Commit::Committed => {}
            other => return Err(format!("unexpected answer {other:?}").into()),
        }
        head = Head { len: head.len + records as u64, hash: Some(hash) };
        count += 1;
    }
    Ok(count)
}
