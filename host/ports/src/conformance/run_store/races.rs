//! Concurrent writers.

use std::sync::Arc;

use super::{Fresh, append, must_commit, put, record, write};
use crate::{
    conformance::{Outcome, Violation, ensure},
    run_store::{Batch, Commit, Guard, Head, RunStore},
};

const WRITERS: usize = 16;
const ROUNDS: usize = 20;

/// Commits all batches at once, spread over two adapters on the same place; how many were committed.
async fn race(stores: &[Arc<dyn RunStore>; 2], batches: Vec<Batch>) -> Result<usize, Violation> {
    let mut tasks = tokio::task::JoinSet::new();
    let start = Arc::new(tokio::sync::Barrier::new(batches.len()));
    for (index, batch) in batches.into_iter().enumerate() {
        let (store, start) = (Arc::clone(&stores[index % 2]), Arc::clone(&start));
        tasks.spawn(async move {
            start.wait().await;
            store.commit(batch).await
        });
    }
    let mut committed = 0;
    while let Some(answer) = tasks.join_next().await {
        match answer?? {
            Commit::Committed => committed += 1,
            Commit::GuardFailed { .. } => {}
            Commit::Unknown => return Err(Violation::new("the answer to a commit is Unknown")),
        }
    }
    Ok(committed)
}

pub(super) async fn one_winner_per_head(fresh: &Fresh<'_>) -> Outcome {
    let place = fresh();
    let stores = [place.open().await, place.open().await];
    for round in 0..ROUNDS {
        let head = stores[0].head("s").await?;
        let batches = (0..WRITERS).map(|writer| {
            append(&format!("{round}/{writer}"), "s", head, vec![record(format!("{round}/{writer}"))])
        });
        let winners = race(&stores, batches.collect()).await?;
        ensure!(winners == 1, "round {round}: {winners} writers appended behind one head");
        let len = stores[1].head("s").await?.len;
        ensure!(len == round as u64 + 1, "round {round}: the stream has {len} records");
    }
    Ok(())
}

pub(super) async fn one_winner_per_absent_cell(fresh: &Fresh<'_>) -> Outcome {
    let place = fresh();
    let stores = [place.open().await, place.open().await];
    for round in 0..ROUNDS {
        let key = format!("lock/{round}");
        let batches = (0..WRITERS).map(|writer| {
            write(&format!("{round}/{writer}"), vec![Guard::Absent(key.clone())], vec![put(&key, "mine")])
        });
        let winners = race(&stores, batches.collect()).await?;
        ensure!(winners == 1, "round {round}: {winners} writers created one cell");
        let version = stores[1].get(&key).await?.map(|cell| cell.version);
        ensure!(version == Some(1), "round {round}: the cell is at {version:?}");
    }
    Ok(())
}

pub(super) async fn one_winner_per_version(fresh: &Fresh<'_>) -> Outcome {
    let place = fresh();
    let stores = [place.open().await, place.open().await];
    must_commit(&*stores[0], write("start", Vec::new(), vec![put("k", "0")])).await?;
    for round in 1..=ROUNDS as u64 {
        let batches = (0..WRITERS).map(|writer| {
            let guard = Guard::VersionIs { key: "k".to_owned(), version: round };
            write(&format!("{round}/{writer}"), vec![guard], vec![put("k", format!("{writer}"))])
        });
        let winners = race(&stores, batches.collect()).await?;
        ensure!(winners == 1, "version {round}: {winners} writers replaced it");
    }
    Ok(())
}

/// The same batch from many senders (a retry that overtakes its first try) takes effect once.
pub(super) async fn one_effect_per_batch_id(fresh: &Fresh<'_>) -> Outcome {
    let place = fresh();
    let stores = [place.open().await, place.open().await];
    for round in 1..=ROUNDS as u64 {
        let batches =
            (0..WRITERS).map(|_| write(&format!("id-{round}"), Vec::new(), vec![put("counter", "x")]));
        let committed = race(&stores, batches.collect()).await?;
        ensure!(committed == WRITERS, "round {round}: only {committed} of {WRITERS} senders got Committed");
        let version = stores[1].get("counter").await?.map(|cell| cell.version);
        ensure!(version == Some(round), "round {round}: the counter is at {version:?}");
    }
    Ok(())
}

/// Writers that reload and try again after losing all get their record in, each exactly once.
pub(super) async fn writers_on_one_stream_lose_nothing(fresh: &Fresh<'_>) -> Outcome {
    const EACH: usize = 10;
    let place = fresh();
    let stores = [place.open().await, place.open().await];
    let mut tasks = tokio::task::JoinSet::new();
    for writer in 0..8_usize {
        let store = Arc::clone(&stores[writer % 2]);
        tasks.spawn(async move {
            for step in 0..EACH {
                // The id names the try, so that each try is a new batch.
                for attempt in 0.. {
                    let head = store.head("s").await?;
                    let records = vec![record(format!("{writer}/{step}"))];
                    if store.commit(append(&format!("{writer}/{step}/{attempt}"), "s", head, records)).await?
                        == Commit::Committed
                    {
                        break;
                    }
                }
            }
            Ok::<_, Violation>(())
        });
    }
    while let Some(answer) = tasks.join_next().await {
        answer??;
    }
    let mut found: Vec<Vec<u8>> =
        stores[0].read("s", 0, 1_000).await?.into_iter().map(|record| record.bytes).collect();
    found.sort_unstable();
    found.dedup();
    ensure!(found.len() == 8 * EACH, "{} different records of {} are there", found.len(), 8 * EACH);
    let head: Head = stores[1].head("s").await?;
    ensure!(head.len == 8 * EACH as u64, "the stream has {} records instead of {}", head.len, 8 * EACH);
    Ok(())
}
