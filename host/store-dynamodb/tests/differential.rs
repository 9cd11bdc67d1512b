//! The same random operations on memory, SQLite and DynamoDB give the same answers and the same ledgers.
//!
//! The lists are the same in every run. `PANGOLIN_SEED=<number>` gives other ones.

#![expect(clippy::unwrap_used, reason = "helpers of tests may panic")]

mod common;

use std::collections::BTreeSet;

use common::Emulator;
use pangolin_aws::faults::FaultScript;
use pangolin_core::ids::Digest;
use pangolin_ports::{
    batch_rules::{CELL_BYTES_MAX, RECORD_BYTES_MAX},
    commit_limits::CommitLimits,
    memory::MemoryRunStore,
    run_store::{Append, Batch, Cell, Commit, Guard, Head, Record, RunStore, RunStoreError, Write},
};
use pangolin_store_dynamodb::DynamoRunStore;
use pangolin_store_sqlite::{Options, SqliteRunStore, Synchronous};
use proptest::{
    collection::vec,
    prelude::*,
    sample::Index,
    test_runner::{Config, RngAlgorithm, TestRng, TestRunner},
};

/// What a generated guard says about the present state.
#[derive(Debug, Clone, Copy)]
enum Claim {
    True,
    /// A version or length too high by this.
    Ahead(u64),
    /// The other kind of guard; for a stream, another hash.
    Other,
}

#[derive(Debug, Clone)]
struct Plan {
    /// Batches share few ids, so that some are repeated.
    id: u8,
    cells: Vec<(Index, Claim)>,
    puts: Vec<(Index, Option<usize>)>,
    appends: Vec<(Index, Claim, Vec<usize>)>,
    heads: Vec<(Index, Claim)>,
}

#[derive(Debug, Clone)]
enum Step {
    Commit(Plan),
    Reopen,
    Read { stream: Index, from: u64, limit: usize },
    Scan { prefix: Index, cut: Index, after: Option<Index>, limit: usize },
}

#[derive(Debug, Clone)]
struct Case {
    keys: Vec<String>,
    streams: Vec<String>,
    steps: Vec<Step>,
}

fn name() -> impl Strategy<Value = String> {
    let plain =
        prop::sample::select(vec!["lock/a", "lock/ä", "lock", "run/1", "run/10", "🦀", "\u{10ffff}", "a\0b"]);
    prop_oneof![
        plain.prop_map(str::to_owned),
        "lock/\\PC{1,9}",
        any::<String>().prop_filter("names are not empty", |text| !text.is_empty() && text.len() < 1_000),
    ]
}

fn claim() -> impl Strategy<Value = Claim> {
    prop_oneof![9 => Just(Claim::True), 1 => (1..3_u64).prop_map(Claim::Ahead), 1 => Just(Claim::Other)]
}

fn cell_size() -> impl Strategy<Value = usize> {
    prop_oneof![8 => 0..300_usize, 1 => Just(CELL_BYTES_MAX), 1 => Just(CELL_BYTES_MAX + 1)]
}

fn record_sizes() -> impl Strategy<Value = Vec<usize>> {
    prop_oneof![
        8 => vec(0..900_usize, 0..5),
        2 => vec(0..RECORD_BYTES_MAX + 1, 1..40),
        1 => vec(0..60_usize, 200..400),
        1 => Just(vec![RECORD_BYTES_MAX + 1]),
    ]
}

fn plan() -> impl Strategy<Value = Plan> {
    let cells = vec((any::<Index>(), claim()), 0..4);
    let puts = vec((any::<Index>(), prop::option::weighted(0.7, cell_size())), 0..5);
    let appends = vec((any::<Index>(), claim(), record_sizes()), 0..3);
    let heads = vec((any::<Index>(), claim()), 0..2);
    (0..24_u8, cells, puts, appends, heads).prop_map(|(id, cells, puts, appends, heads)| Plan {
        id,
        cells,
        puts,
        appends,
        heads,
    })
}

fn step() -> impl Strategy<Value = Step> {
    let limit = || prop_oneof![0..9_usize, Just(usize::MAX)];
    prop_oneof![
        12 => plan().prop_map(Step::Commit),
        1 => Just(Step::Reopen),
        3 => (any::<Index>(), 0..30_u64, limit()).prop_map(|(stream, from, limit)| Step::Read { stream, from, limit }),
        3 => (any::<Index>(), any::<Index>(), prop::option::of(any::<Index>()), limit())
            .prop_map(|(prefix, cut, after, limit)| Step::Scan { prefix, cut, after, limit }),
    ]
}

fn case() -> impl Strategy<Value = Case> {
    (vec(name(), 2..7), vec(name(), 1..4), vec(step(), 1..30)).prop_map(|(keys, streams, steps)| Case {
        keys,
        streams,
        steps,
    })
}

/// Answers without their texts; those of SQLite and DynamoDB are compared too.
#[derive(Debug, PartialEq, Eq)]
enum Answer {
    Committed,
    Guard(usize, String),
    Invalid,
}

fn answer(answer: Result<Commit, RunStoreError>) -> Answer {
    match answer {
        Ok(Commit::Committed) => Answer::Committed,
        Ok(Commit::GuardFailed { guard, found }) => Answer::Guard(guard, found),
        Err(RunStoreError::InvalidBatch { .. }) => Answer::Invalid,
        other => panic!("unexpected answer {other:?}"),
    }
}

async fn head_guard(model: &MemoryRunStore, stream: &str, claim: Claim) -> Guard {
    let mut head = model.head(stream).await.unwrap();
    match claim {
        Claim::True => {}
        Claim::Ahead(by) => head.len += by,
        Claim::Other => head.hash = Some(Digest::of(b"another")),
    }
    Guard::HeadIs { stream: stream.to_owned(), head }
}

async fn cell_guard(model: &MemoryRunStore, key: &str, claim: Claim) -> Guard {
    let key = key.to_owned();
    let version = model.get(&key).await.unwrap().map(|cell| cell.version);
    match (claim, version) {
        (Claim::True, None) | (Claim::Other, Some(_)) => Guard::Absent(key),
        (Claim::True, Some(version)) => Guard::VersionIs { key, version },
        (Claim::Ahead(by), version) => Guard::VersionIs { key, version: version.unwrap_or(0) + by },
        (Claim::Other, None) => Guard::VersionIs { key, version: 0 },
    }
}

async fn batch(case: &Case, plan: &Plan, number: usize, model: &MemoryRunStore) -> Batch {
    let mut batch = Batch { id: format!("batch {} ä", plan.id), ..Batch::default() };
    for (key, claim) in &plan.cells {
        batch.guards.push(cell_guard(model, key.get::<String>(&case.keys), *claim).await);
    }
    for (key, size) in &plan.puts {
        let key = key.get(&case.keys).clone();
        batch.writes.push(match size {
            Some(size) => Write::Put {
                key,
                value: format!("{number:09}").into_bytes().into_iter().cycle().take(*size).collect(),
            },
            None => Write::Delete(key),
        });
    }
    for (stream, claim, sizes) in &plan.appends {
        let stream = stream.get(&case.streams).clone();
        batch.guards.push(head_guard(model, &stream, *claim).await);
        let records = sizes.iter().enumerate().map(|(index, size)| {
            let bytes: Vec<u8> =
                format!("{number} {index} ").into_bytes().into_iter().cycle().take(*size).collect();
            (Digest::of(&bytes), bytes)
        });
        batch.appends.push(Append { stream, records: records.collect() });
    }
    for (stream, claim) in &plan.heads {
        batch.guards.push(head_guard(model, stream.get::<String>(&case.streams), *claim).await);
    }
    batch
}

type Dump = (Vec<(String, Head, Vec<Record>)>, Vec<(String, Cell)>, Vec<bool>);

async fn dump(store: &dyn RunStore, ids: &BTreeSet<String>) -> Dump {
    let mut streams = Vec::new();
    for name in store.streams("", None, usize::MAX).await.unwrap() {
        let head = store.head(&name).await.unwrap();
        let records = store.read(&name, 0, usize::MAX).await.unwrap();
        streams.push((name, head, records));
    }
    let cells = store.scan("", None, usize::MAX).await.unwrap();
    let mut known = Vec::new();
    for id in ids {
        known.push(store.was_committed(id).await.unwrap());
    }
    (streams, cells, known)
}

/// Counts what happened, to be sure that the lists are worth something.
#[derive(Debug, Default)]
struct Seen {
    committed: usize,
    repeated: usize,
    refused: usize,
    invalid: usize,
    too_large: usize,
    records: usize,
}

async fn run(emulator: &Emulator, case: &Case, seen: &mut Seen) -> Result<(), TestCaseError> {
    let dir = tempfile::tempdir().unwrap();
    let options = Options { synchronous: Synchronous::Normal, ..Options::default() };
    let open_sqlite = || SqliteRunStore::open(dir.path().join("ledger.db"), options.clone()).unwrap();
    let table = emulator.table().await;
    let memory = MemoryRunStore::new();
    let mut sqlite = open_sqlite();
    let mut dynamo: DynamoRunStore = emulator.store(&table, &FaultScript::new()).await;
    let mut ids = BTreeSet::new();
    for (number, step) in case.steps.iter().enumerate() {
        match step {
            Step::Commit(plan) => {
                let batch = batch(case, plan, number, &memory).await;
                if !CommitLimits::LEAST.fits(&batch) {
                    // Only a store with limits refuses it, so the others must not see it.
                    prop_assert_eq!(answer(dynamo.commit(batch).await), Answer::Invalid);
                    seen.too_large += 1;
                    continue;
                }
                let repeated = memory.was_committed(&batch.id).await.unwrap();
                ids.insert(batch.id.clone());
                let expected = answer(memory.commit(batch.clone()).await);
                let other = answer(sqlite.commit(batch.clone()).await);
                let found = answer(dynamo.commit(batch.clone()).await);
                prop_assert_eq!(&other, &expected, "SQLite, step {}: {:?}", number, batch);
                prop_assert_eq!(&found, &expected, "DynamoDB, step {}: {:?}", number, batch);
                match expected {
                    Answer::Committed if repeated => seen.repeated += 1,
                    Answer::Committed => {
                        seen.committed += 1;
                        seen.records +=
                            batch.appends.iter().map(|append| append.records.len()).sum::<usize>();
                    }
                    Answer::Guard(..) => seen.refused += 1,
                    Answer::Invalid => seen.invalid += 1,
                }
            }
            Step::Reopen => {
                drop(sqlite);
                sqlite = open_sqlite();
                dynamo = emulator.store(&table, &FaultScript::new()).await;
            }
            Step::Read { stream, from, limit } => {
                let stream = stream.get(&case.streams);
                let expected = memory.read(stream, *from, *limit).await.unwrap();
                prop_assert_eq!(&sqlite.read(stream, *from, *limit).await.unwrap(), &expected);
                prop_assert_eq!(&dynamo.read(stream, *from, *limit).await.unwrap(), &expected);
            }
            Step::Scan { prefix, cut, after, limit } => {
                let name = prefix.get(&case.keys);
                let ends: Vec<usize> =
                    name.char_indices().map(|(index, _)| index).chain([name.len()]).collect();
                let prefix = &name[..*cut.get(&ends)];
                let after = after.map(|after| after.get(&case.keys).as_str());
                let expected = memory.scan(prefix, after, *limit).await.unwrap();
                prop_assert_eq!(&sqlite.scan(prefix, after, *limit).await.unwrap(), &expected);
                prop_assert_eq!(&dynamo.scan(prefix, after, *limit).await.unwrap(), &expected);
                let expected = memory.streams(prefix, after, *limit).await.unwrap();
                prop_assert_eq!(&sqlite.streams(prefix, after, *limit).await.unwrap(), &expected);
                prop_assert_eq!(&dynamo.streams(prefix, after, *limit).await.unwrap(), &expected);
            }
        }
    }
    let expected = dump(&memory, &ids).await;
    prop_assert_eq!(&dump(&sqlite, &ids).await, &expected);
    prop_assert_eq!(&dump(&dynamo, &ids).await, &expected);
    Ok(())
}

fn agree(start: impl AsyncFnOnce() -> Option<Emulator>, cases: u32) {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let Some(emulator) = runtime.block_on(start()) else { return };
    let seed: u64 = std::env::var("PANGOLIN_SEED").map_or(4, |seed| seed.parse().unwrap());
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let config = Config { cases, failure_persistence: None, max_shrink_iters: 400, ..Config::default() };
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let seen = std::cell::RefCell::new(Seen::default());
    let outcome = TestRunner::new_with_rng(config, rng)
        .run(&case(), |case| runtime.block_on(run(&emulator, &case, &mut seen.borrow_mut())));
    assert!(outcome.is_ok(), "PANGOLIN_SEED={seed}: {}", outcome.unwrap_err());
    let seen = seen.into_inner();
    let all = [seen.committed, seen.repeated, seen.refused, seen.invalid, seen.records];
    assert!(
        all.iter().all(|count| *count > 0),
        "PANGOLIN_SEED={seed}: the lists leave something out: {seen:?}"
    );
}

#[test]
fn stores_agree_with_dynoxide() {
    agree(async || Emulator::dynoxide("stores_agree_with_dynoxide").await, 48);
}

#[test]
fn stores_agree_with_ministack() {
    agree(async || Emulator::ministack("stores_agree_with_ministack").await, 16);
}
