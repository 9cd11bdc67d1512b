//! What happens when the file, the disk or another process misbehaves.

#![expect(clippy::unwrap_used, clippy::print_stderr, reason = "helpers of tests may panic and complain")]

use std::{
    fs,
    io::{Seek, SeekFrom, Write as _},
    path::Path,
    sync::{Arc, Barrier},
    time::Duration,
};

use pangolin_core::ids::Digest;
use pangolin_ports::run_store::{Append, Batch, Commit, Guard, Head, RunStore, RunStoreError, Write};
use pangolin_store_sqlite::{Options, SqliteRunStore};
use rusqlite::Connection;

fn open(path: &Path) -> SqliteRunStore {
    SqliteRunStore::open(path, Options::default()).unwrap()
}

/// Appends one record and counts in a cell.
fn batch(id: &str, head: Head, bytes: Vec<u8>) -> (Batch, Head) {
    let hash = Digest::of(&bytes);
    let batch = Batch {
        id: id.to_owned(),
        guards: vec![Guard::HeadIs { stream: "s".to_owned(), head }],
        writes: vec![Write::Put { key: "count".to_owned(), value: (head.len + 1).to_string().into_bytes() }],
        appends: vec![Append { stream: "s".to_owned(), records: vec![(hash, bytes)] }],
    };
    (batch, Head { len: head.len + 1, hash: Some(hash) })
}

async fn fill(store: &SqliteRunStore, count: u64) -> Head {
    let mut head = store.head("s").await.unwrap();
    for _ in 0..count {
        let (next, after) = batch(&format!("b{}", head.len), head, vec![7; 2_000]);
        assert_eq!(store.commit(next).await.unwrap(), Commit::Committed);
        head = after;
    }
    head
}

#[tokio::test]
async fn a_locked_database_is_busy_and_works_again_afterwards() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("db");
    let options = Options { busy_timeout: Duration::from_millis(50), ..Options::default() };
    let store = SqliteRunStore::open(&path, options).unwrap();
    let head = fill(&store, 1).await;
    let other = Connection::open(&path).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let (next, after) = batch("later", head, vec![1]);
    let answer = store.commit(next.clone()).await;
    assert!(matches!(answer, Err(RunStoreError::Busy(_))), "{answer:?}");
    // Readers do not care about the lock.
    assert_eq!(store.head("s").await.unwrap(), head);
    assert!(!store.was_committed("later").await.unwrap());
    other.execute_batch("ROLLBACK").unwrap();
    assert_eq!(store.commit(next).await.unwrap(), Commit::Committed);
    assert_eq!(store.head("s").await.unwrap(), after);
}

#[test]
fn processes_that_open_a_new_database_at_once_agree() {
    for _ in 0..5 {
        let dir = tempfile::tempdir().unwrap();
        let path = Arc::new(dir.path().join("db"));
        let start = Arc::new(Barrier::new(8));
        let threads: Vec<_> = (0..8)
            .map(|_| {
                let (path, start) = (Arc::clone(&path), Arc::clone(&start));
                std::thread::spawn(move || {
                    start.wait();
                    SqliteRunStore::open(&*path, Options::default()).map(drop)
                })
            })
            .collect();
        for thread in threads {
            thread.join().unwrap().unwrap();
        }
    }
}

#[tokio::test]
async fn newer_schemas_and_foreign_databases_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("newer");
    fill(&open(&path), 1).await;
    Connection::open(&path).unwrap().pragma_update(None, "user_version", 99).unwrap();
    for answer in [
        SqliteRunStore::open(&path, Options::default()),
        SqliteRunStore::open_read_only(&path, Options::default()),
    ] {
        assert!(matches!(answer.map(drop), Err(RunStoreError::Schema { found: 99, supported: 1 })));
    }

    let path = dir.path().join("foreign");
    Connection::open(&path).unwrap().execute_batch("CREATE TABLE theirs (x)").unwrap();
    let error = SqliteRunStore::open(&path, Options::default()).map(drop).unwrap_err();
    assert!(error.to_string().contains("foreign"), "{error}");
    let tables: i64 = Connection::open(&path)
        .unwrap()
        .query_row("SELECT count(*) FROM sqlite_schema", (), |row| row.get(0))
        .unwrap();
    assert_eq!(tables, 1, "the foreign database got our tables");
}

#[tokio::test]
async fn read_only_reads_and_commits_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("db");
    let missing = SqliteRunStore::open_read_only(&path, Options::default()).map(drop).unwrap_err();
    assert!(missing.to_string().contains("db"), "{missing}");
    assert!(!path.exists(), "opening read-only created the file");
    let writer = open(&path);
    let head = fill(&writer, 3).await;
    let reader = SqliteRunStore::open_read_only(&path, Options::default()).unwrap();
    assert_eq!(reader.head("s").await.unwrap(), head);
    let (next, _) = batch("no", head, vec![1]);
    assert!(matches!(reader.commit(next).await, Err(RunStoreError::Other { .. })));
    let head = fill(&writer, 1).await;
    assert_eq!(reader.head("s").await.unwrap(), head, "a reader does not see a later commit");
    drop(writer);
    assert_eq!(reader.head("s").await.unwrap(), head, "a reader lost the data when the writer closed");
}

#[tokio::test]
async fn damage_is_reported_and_never_returned_as_data() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("header");
    fs::write(&path, vec![0x5a; 8_192]).unwrap();
    let answer = SqliteRunStore::open(&path, Options::default()).map(drop);
    assert!(matches!(answer, Err(RunStoreError::Damaged(_))), "{answer:?}");

    let path = dir.path().join("pages");
    {
        let store = open(&path);
        fill(&store, 400).await;
        assert_eq!(store.check().await.unwrap(), Vec::<String>::new());
    }
    let length = fs::metadata(&path).unwrap().len();
    let mut file = fs::OpenOptions::new().write(true).open(&path).unwrap();
    for offset in (length / 4..length * 3 / 4).step_by(4_096) {
        file.seek(SeekFrom::Start(offset / 4_096 * 4_096)).unwrap();
        file.write_all(&[0xaa; 64]).unwrap();
    }
    drop(file);
    let store = open(&path);
    let answer = store.read("s", 0, 1_000).await.map(|records| records.len());
    assert!(matches!(answer, Err(RunStoreError::Damaged(_))), "{answer:?}");
    let findings = store.check().await;
    assert!(!matches!(&findings, Ok(list) if list.is_empty()), "the check found nothing");

    let path = dir.path().join("gap");
    let store = open(&path);
    fill(&store, 5).await;
    Connection::open(&path).unwrap().execute_batch("DELETE FROM records WHERE pos & 0xffffffff = 2").unwrap();
    let answer = store.read("s", 0, 10).await;
    assert!(matches!(&answer, Err(RunStoreError::Damaged(what)) if what.contains("record 2")), "{answer:?}");
    assert_eq!(store.check().await.unwrap().len(), 1);
}

/// A small file system of its own, unmounted when dropped.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn mount(size: &str) -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let options = format!("size={size}");
        let flags = nix::mount::MsFlags::empty();
        match nix::mount::mount(Some("tmpfs"), dir.path(), Some("tmpfs"), flags, Some(options.as_str())) {
            Ok(()) => Some(Self(dir)),
            Err(error) => {
                // Past the harness, which swallows what `eprintln!` says in a test that passes.
                let text =
                    format!("NOT TESTED: disk full, because a tmpfs cannot be mounted here: {error}\n");
                std::io::stderr().write_all(text.as_bytes()).unwrap();
                None
            }
        }
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        if let Err(error) = nix::mount::umount2(self.0.path(), nix::mount::MntFlags::MNT_DETACH) {
            eprintln!("unmounting {} failed: {error}", self.0.path().display());
        }
    }
}

#[tokio::test]
async fn a_full_disk_loses_nothing_and_works_again_afterwards() {
    let Some(disk) = SmallDisk::mount("3m") else { return };
    let path = disk.0.path().join("db");
    let ballast = disk.0.path().join("ballast");
    fs::write(&ballast, vec![0; 1_000_000]).unwrap();
    let store = open(&path);
    let mut head = Head::default();
    let refused = loop {
        let (next, after) = batch(&format!("b{}", head.len), head, vec![1; 50_000]);
        match store.commit(next.clone()).await {
            Ok(Commit::Committed) => head = after,
            Err(RunStoreError::Full(_)) => break next,
            other => panic!("expected Committed or Full, got {other:?}"),
        }
        assert!(head.len < 1_000, "the disk never got full");
    };
    assert!(head.len > 5, "the disk was full at once");
    // A group in which every batch is too much: each hears it, and a small one may still fit.
    let (left, right) = tokio::join!(store.commit(refused.clone()), store.commit(refused.clone()));
    assert!(
        matches!((&left, &right), (Err(RunStoreError::Full(_)), Err(RunStoreError::Full(_)))),
        "{left:?} {right:?}"
    );
    let check = async |store: &SqliteRunStore, head: Head| {
        assert_eq!(store.head("s").await.unwrap(), head);
        assert_eq!(store.read("s", 0, 10_000).await.unwrap().len() as u64, head.len);
        let count = store.get("count").await.unwrap().unwrap();
        assert_eq!(count.value, head.len.to_string().into_bytes());
        assert_eq!(count.version, head.len);
        assert_eq!(store.check().await.unwrap(), Vec::<String>::new());
    };
    check(&store, head).await;
    assert!(!store.was_committed(&refused.id).await.unwrap());
    fs::remove_file(&ballast).unwrap();
    assert_eq!(store.commit(refused).await.unwrap(), Commit::Committed);
    let head = store.head("s").await.unwrap();
    check(&store, head).await;
    drop(store);
    check(&open(&path), head).await;
}
