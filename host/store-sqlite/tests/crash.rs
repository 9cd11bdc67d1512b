//! A writing process is killed with -9 again and again; the store keeps every promise it made before.

#![expect(clippy::unwrap_used, reason = "helpers of tests may panic")]

use std::{
    io::{BufRead, BufReader, Write as _},
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use pangolin_core::ids::Digest;
use pangolin_ports::run_store::{Append, Batch, Commit, Guard, Head, RunStore, Write};
use pangolin_store_sqlite::{Options, SqliteRunStore};

const CHILD_DB: &str = "PANGOLIN_CRASH_TEST_DB";
const STREAMS: u64 = 4;
const RECORDS: u64 = 3;

fn open(path: &Path) -> SqliteRunStore {
    SqliteRunStore::open(path, Options::default()).unwrap()
}

fn id(stream: u64, number: u64) -> String {
    format!("{stream}/{number}")
}

/// Not a test of its own: the process that is killed. Says `<stream> <number>` after each acknowledged batch.
#[tokio::test(flavor = "multi_thread")]
async fn child_writer() {
    let Some(path) = std::env::var_os(CHILD_DB) else { return };
    let store = std::sync::Arc::new(open(Path::new(&path)));
    let mut tasks = tokio::task::JoinSet::new();
    for stream in 0..STREAMS {
        let store = std::sync::Arc::clone(&store);
        tasks.spawn(async move {
            let name = format!("run/{stream}");
            let mut head = store.head(&name).await.unwrap();
            loop {
                let number = head.len / RECORDS;
                let records: Vec<_> = (0..RECORDS)
                    .map(|index| {
                        let bytes = format!("{stream}/{number}/{index}").into_bytes();
                        (Digest::of(&bytes), bytes)
                    })
                    .collect();
                let hash = records.last().map(|(hash, _)| *hash);
                let batch = Batch {
                    id: id(stream, number),
                    guards: vec![Guard::HeadIs { stream: name.clone(), head }],
                    writes: vec![Write::Put { key: name.clone(), value: number.to_string().into_bytes() }],
                    appends: vec![Append { stream: name.clone(), records }],
                };
                assert_eq!(store.commit(batch).await.unwrap(), Commit::Committed);
                head = Head { len: head.len + RECORDS, hash };
                // One write call, so that a kill cannot cut the line from its newline unnoticed.
                std::io::stdout().write_all(format!("ack {stream} {number}\n").as_bytes()).unwrap();
            }
        });
    }
    tasks.join_all().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_writer_loses_nothing_it_acknowledged_and_leaves_nothing_half() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("db");
    drop(open(&path));
    for round in 0..8_u64 {
        let reader = SqliteRunStore::open_read_only(&path, Options::default()).unwrap();
        let mut watch = reader.watch().unwrap();
        watch.changed().await.unwrap();
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "child_writer", "--nocapture"])
            .env(CHILD_DB, &path)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut acknowledged = Vec::new();
        let enough = 40 + round * 37;
        for line in lines {
            let Ok(line) = line else { break };
            // The harness prints its own text, also in front of a line of ours.
            let Some((_, ack)) = line.split_once("ack ") else { continue };
            let Some((stream, number)) = ack.split_once(' ') else { continue };
            acknowledged.push((stream.parse::<u64>().unwrap(), number.parse::<u64>().unwrap()));
            if acknowledged.len() as u64 == enough {
                // SIGKILL; what the pipe still holds was acknowledged too and is read on.
                child.kill().unwrap();
            }
        }
        child.wait().unwrap();
        assert!(acknowledged.len() as u64 >= enough, "round {round}: the child ended too early");
        // Another process committed: a watcher that was there before hears of it.
        tokio::time::timeout(Duration::from_secs(20), watch.changed()).await.unwrap().unwrap();

        let store = open(&path);
        for (stream, number) in acknowledged {
            assert!(
                store.was_committed(&id(stream, number)).await.unwrap(),
                "round {round}: {stream}/{number} is lost"
            );
        }
        for stream in 0..STREAMS {
            let name = format!("run/{stream}");
            let records = store.read(&name, 0, usize::MAX).await.unwrap();
            assert_eq!(records.len() as u64 % RECORDS, 0, "round {round}: half a batch on {name}");
            let batches = records.len() as u64 / RECORDS;
            for (position, record) in (0..).zip(&records) {
                let expected = format!("{stream}/{}/{}", position / RECORDS, position % RECORDS);
                assert_eq!(record.bytes, expected.as_bytes());
            }
            let cell = store.get(&name).await.unwrap();
            assert_eq!(
                cell.map_or(0, |cell| cell.version),
                batches,
                "round {round}: cell and stream disagree"
            );
            if batches > 0 {
                assert!(store.was_committed(&id(stream, batches - 1)).await.unwrap());
            }
            assert!(
                !store.was_committed(&id(stream, batches)).await.unwrap(),
                "round {round}: an id without effect"
            );
        }
        assert_eq!(store.check().await.unwrap(), Vec::<String>::new());
    }
}
