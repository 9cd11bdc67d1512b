//! Seeded random operations, on the adapter and on [`MemoryRunStore`], which is the model.

use pangolin_core::ids::Digest;

use super::{Fresh, dump, put, record};
use crate::{
    batch_rules::RECORD_BYTES_MAX,
    conformance::{Outcome, Rng, Violation, ensure},
    memory::MemoryRunStore,
    run_store::{Append, Batch, Commit, Guard, Head, RunStore, RunStoreError, Write},
};

const KEYS: &[&str] = &["lock/a", "lock/b", "lock/ä", "lock", "lock%", "lock_", "lease/x", "🦀", "lock/a/b"];
const STREAMS: &[&str] = &["run/1", "run/10", "run/2", "log"];

/// Runs `steps` random operations and compares every answer and every read.
pub(super) async fn random_operations(fresh: &Fresh<'_>, seed: u64, steps: usize) -> Outcome {
    let place = fresh();
    let mut store = place.open().await;
    let model = MemoryRunStore::new();
    let mut rng = Rng(seed);
    for step in 0..steps {
        let at = format!("seed {seed} step {step}");
        if rng.below(50) == 0 {
            drop(store);
            store = place.open().await;
        }
        let batch = random_batch(&mut rng, &model, step).await?;
        let expected = answer(model.commit(batch.clone()).await)?;
        let found = answer(store.commit(batch.clone()).await)?;
        ensure!(expected == found, "{at}: {batch:?} was answered {found:?}, the model says {expected:?}");
        compare_reads(&mut rng, &*store, &model, &at).await?;
    }
    let (expected, found) = (dump(&model, "").await?, dump(&*store, "").await?);
    ensure!(expected == found, "seed {seed}: at the end the store has {found:?}, the model {expected:?}");
    Ok(())
}

/// Answers without their texts, which adapters may word as they like.
#[derive(Debug, PartialEq, Eq)]
enum Answer {
    Committed,
    GuardFailed(usize),
    Invalid,
}

fn answer(answer: Result<Commit, RunStoreError>) -> Result<Answer, Violation> {
    match answer {
        Ok(Commit::Committed) => Ok(Answer::Committed),
        Ok(Commit::GuardFailed { guard, .. }) => Ok(Answer::GuardFailed(guard)),
        Err(RunStoreError::InvalidBatch { .. }) => Ok(Answer::Invalid),
        Ok(Commit::Unknown) => Err(Violation::new("the answer to a commit is Unknown")),
        Err(error) => Err(error.into()),
    }
}

async fn random_batch(rng: &mut Rng, model: &MemoryRunStore, step: usize) -> Result<Batch, Violation> {
    // Now and then the id of an earlier batch, committed or not.
    let number = if rng.below(10) == 0 { rng.below(step + 1) } else { step };
    let mut batch = Batch { id: format!("batch {number}"), ..Batch::default() };
    for _ in 0..rng.below(3) {
        let key = (*rng.pick(KEYS)).to_owned();
        let found = model.get(&key).await?.map(|cell| cell.version);
        let truth = match found {
            Some(version) => Guard::VersionIs { key, version },
            None => Guard::Absent(key),
        };
        batch.guards.push(if rng.below(6) == 0 { lie(rng, truth) } else { truth });
    }
    for _ in 0..rng.below(4) {
        let key = *rng.pick(KEYS);
        let taken = batch
            .writes
            .iter()
            .any(|write| matches!(write, Write::Put { key: k, .. } | Write::Delete(k) if k == key));
        // Two writes of a key are a mistake that must be refused, so make it only now and then.
        if taken && rng.below(10) > 0 {
            continue;
        }
        batch.writes.push(match rng.below(3) {
            0 => Write::Delete(key.to_owned()),
            _ => put(key, format!("value of step {step}")),
        });
    }
    for stream in STREAMS {
        if rng.below(3) > 0 {
            continue;
        }
        let head = model.head(stream).await?;
        let guard = Guard::HeadIs { stream: (*stream).to_owned(), head };
        match rng.below(25) {
            0 => {}
            1 | 2 => batch.guards.push(lie(rng, guard)),
            _ => batch.guards.push(guard),
        }
        let records = (0..rng.below(4)).map(|index| random_record(rng, step, index)).collect();
        batch.appends.push(Append { stream: (*stream).to_owned(), records });
    }
    Ok(batch)
}

fn random_record(rng: &mut Rng, step: usize, index: usize) -> (Digest, Vec<u8>) {
    let size = match rng.below(60) {
        0 => RECORD_BYTES_MAX,
        1 => RECORD_BYTES_MAX + 1,
        2 => 0,
        _ => rng.below(900),
    };
    let mut bytes = format!("{step} {index} ").into_bytes();
    bytes.resize(size, b'.');
    record(bytes)
}

/// A guard close to the true one that does not hold.
fn lie(rng: &mut Rng, truth: Guard) -> Guard {
    match truth {
        Guard::Absent(key) => Guard::VersionIs { key, version: rng.below(3) as u64 },
        Guard::VersionIs { key, version } => match rng.below(3) {
            0 => Guard::Absent(key),
            1 => Guard::VersionIs { key, version: version + 1 },
            _ => Guard::VersionIs { key, version: version - 1 },
        },
        Guard::HeadIs { stream, head } => match rng.below(2) {
            0 => Guard::HeadIs { stream, head: Head { len: head.len + 1, ..head } },
            _ => Guard::HeadIs { stream, head: Head { hash: Some(Digest::of(b"lie")), ..head } },
        },
    }
}

async fn compare_reads(rng: &mut Rng, store: &dyn RunStore, model: &MemoryRunStore, at: &str) -> Outcome {
    let stream = *rng.pick(STREAMS);
    let head = model.head(stream).await?;
    ensure!(store.head(stream).await? == head, "{at}: the head of {stream:?} is not {head:?}");
    let (from, limit) = (rng.below(head.len as usize + 2) as u64, rng.below(9));
    let (found, expected) = (store.read(stream, from, limit).await?, model.read(stream, from, limit).await?);
    ensure!(found == expected, "{at}: read({stream:?}, {from}, {limit}) gives {found:?}");
    let key = *rng.pick(KEYS);
    ensure!(store.get(key).await? == model.get(key).await?, "{at}: get({key:?}) differs from the model");
    let (prefix, after, limit) =
        (*rng.pick(&["", "lock", "lock/", "lock_", "run/1", "🦀"]), *rng.pick(KEYS), rng.below(9));
    let after = (rng.below(2) == 0).then_some(after);
    let (found, expected) =
        (store.scan(prefix, after, limit).await?, model.scan(prefix, after, limit).await?);
    ensure!(found == expected, "{at}: scan({prefix:?}, {after:?}, {limit}) gives {found:?}");
    let (found, expected) =
        (store.streams(prefix, after, limit).await?, model.streams(prefix, after, limit).await?);
    ensure!(found == expected, "{at}: streams({prefix:?}, {after:?}, {limit}) gives {found:?}");
    let id = format!("batch {}", rng.below(40));
    ensure!(
        store.was_committed(&id).await? == model.was_committed(&id).await?,
        "{at}: was_committed({id:?}) differs"
    );
    Ok(())
}
