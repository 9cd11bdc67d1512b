//! Sizes and long streams.

use pangolin_core::ids::Digest;

use super::{Fresh, append, dump, must_commit, put, record, write};
use crate::{
    batch_rules::{CELL_BYTES_MAX, RECORD_BYTES_MAX},
    commit_limits::{CommitCost, CommitLimits},
    conformance::{Outcome, Violation, ensure},
    run_store::{Batch, Commit, Guard, Head, RunStore, RunStoreError},
};

fn refused<T: std::fmt::Debug>(what: &str, answer: Result<T, RunStoreError>) -> Outcome {
    match answer {
        Err(RunStoreError::InvalidBatch { .. }) => Ok(()),
        other => Err(Violation::new(format!("{what}: expected InvalidBatch, got {other:?}"))),
    }
}

/// Records of 60,000 bytes are kept exactly, 60,001 are refused, empty ones are fine.
pub(super) async fn record_size_limit(fresh: &Fresh<'_>) -> Outcome {
    let place = fresh();
    let store = place.open().await;
    let largest: Vec<u8> = (0..RECORD_BYTES_MAX).map(|index| (index % 251) as u8).collect();
    let records = vec![record(largest.clone()), record(Vec::new()), record(largest)];
    let too_large = vec![record("small"), record(vec![7; RECORD_BYTES_MAX + 1])];
    refused("60,001 bytes", store.commit(append("big", "s", Head::default(), too_large)).await)?;
    ensure!(store.head("s").await? == Head::default(), "part of a refused append is there");
    must_commit(&*store, append("ok", "s", Head::default(), records.clone())).await?;
    let read = store.read("s", 0, 10).await?;
    let read: Vec<_> = read.into_iter().map(|record| (record.hash, record.bytes)).collect();
    ensure!(read == records, "large records came back different");
    Ok(())
}

/// Values of 64 KiB are kept exactly, one byte more is refused.
pub(super) async fn cell_size_limit(fresh: &Fresh<'_>) -> Outcome {
    let place = fresh();
    let store = place.open().await;
    let largest: Vec<u8> = (0..CELL_BYTES_MAX).map(|index| (index % 253) as u8).collect();
    let too_large = vec![put("other", "x"), put("cell", vec![0; CELL_BYTES_MAX + 1])];
    refused("64 KiB and one byte", store.commit(write("big", Vec::new(), too_large)).await)?;
    ensure!(store.get("other").await?.is_none(), "part of a refused batch is there");
    must_commit(&*store, write("ok", Vec::new(), vec![put("cell", largest.clone()), put("empty", "")]))
        .await?;
    ensure!(
        store.get("cell").await?.is_some_and(|cell| cell.value == largest),
        "a large value came back different"
    );
    ensure!(
        store.get("empty").await?.is_some_and(|cell| cell.value.is_empty()),
        "an empty value came back different"
    );
    Ok(())
}

/// A batch of 200 guards, writes and records is one atomic commit: guards meet writes and records are packed, so that is
/// within [`CommitLimits::LEAST`].
pub(super) async fn two_hundred_changes(fresh: &Fresh<'_>) -> Outcome {
    const CHANGES: usize = 200;
    let place = fresh();
    let store = place.open().await;
    let third = CHANGES / 3;
    let records = (0..CHANGES - 2 * third).map(|index| record(format!("r{index}"))).collect();
    let mut batch = append("many", "s", Head::default(), records);
    batch.guards.extend((1..third).map(|index| Guard::Absent(format!("k/{index}"))));
    batch.writes.extend((0..third).map(|index| put(&format!("k/{index}"), "v")));
    let mut bad = batch.clone();
    bad.id = "bad".to_owned();
    bad.guards.push(Guard::VersionIs { key: "k/1".to_owned(), version: 1 });
    ensure!(store.commit(bad).await? != Commit::Committed, "a failing guard was not seen");
    ensure!(dump(&*store, "").await? == super::Dump::default(), "part of a refused batch is there");
    must_commit(&*store, batch).await?;
    let found = dump(&*store, "").await?;
    ensure!(found.cells.len() == third, "{} of {third} cells are there", found.cells.len());
    ensure!(store.head("s").await?.len as usize == CHANGES - 2 * third, "records are missing");
    Ok(())
}

/// Puts and guards that take exactly `actions`, half of them each.
fn many_actions(id: &str, actions: usize) -> Batch {
    let cells = actions - CommitCost::of(&write(id, Vec::new(), Vec::new())).actions;
    let key = |index| format!("{id}/{index:05}");
    let guards = (cells / 2..cells).map(|index| Guard::Absent(key(index)));
    write(id, guards.collect(), (0..cells / 2).map(|index| put(&key(index), "v")).collect())
}

/// Records of one stream and a cell that take exactly `bytes`.
fn many_bytes(id: &str, bytes: usize) -> Batch {
    let mut batch = append(id, id, Head::default(), Vec::new());
    // Uneven sizes, so that segments do not end where it would be convenient.
    for size in (0..).map(|index: usize| RECORD_BYTES_MAX - index * 977 % 40_000) {
        batch.appends[0].records.push(record(vec![b'r'; size]));
        // What is left is more than an empty cell takes and less than a full one.
        if CommitCost::of(&batch).bytes > bytes - 1_000 {
            batch.appends[0].records.pop();
            break;
        }
    }
    batch.writes.push(put(&format!("{id}/cell"), ""));
    let rest = bytes.saturating_sub(CommitCost::of(&batch).bytes);
    batch.writes = vec![put(&format!("{id}/cell"), vec![b'c'; rest])];
    batch
}

async fn takes(store: &dyn RunStore, what: &str, batch: Batch, cost: CommitCost) -> Outcome {
    let (id, found) = (batch.id.clone(), CommitCost::of(&batch));
    ensure!(found == cost, "the suite built a batch of {found:?} instead of {cost:?}");
    let expected = (batch.writes.len(), batch.appends.first().map_or(0, |append| append.records.len()));
    let answer = store.commit(batch).await;
    ensure!(
        matches!(answer, Ok(Commit::Committed)),
        "{what}: {cost:?} is within the limits, but the answer is {answer:?}"
    );
    let found = dump(store, &id).await?;
    let records: usize = found.streams.iter().map(|(_, _, records)| records.len()).sum();
    ensure!((found.cells.len(), records) == expected, "{what}: committed, but only part of it is there");
    Ok(())
}

/// The store takes what it says it takes, and at least what every store takes; what is beyond is refused as a whole.
pub(super) async fn batches_up_to_the_limits(fresh: &Fresh<'_>) -> Outcome {
    let place = fresh();
    let store = place.open().await;
    let (limits, least) = (store.limits(), CommitLimits::LEAST);
    ensure!(
        limits.actions >= least.actions && limits.bytes >= least.bytes,
        "{limits:?} are below {least:?}, which everybody may rely on"
    );
    // Somewhere above what any real store limits, for those that take anything.
    let actions = if limits.actions == usize::MAX { 3 * least.actions } else { limits.actions };
    let bytes = if limits.bytes == usize::MAX { 3 * least.bytes } else { limits.bytes };
    let batch = many_actions("a", actions);
    let cost = CommitCost { actions, ..CommitCost::of(&batch) };
    takes(&*store, "most actions", batch, cost).await?;
    let batch = many_bytes("b", bytes);
    let cost = CommitCost { bytes, ..CommitCost::of(&batch) };
    takes(&*store, "most bytes", batch, cost).await?;
    let before = dump(&*store, "").await?;
    if let Some(beyond) = limits.actions.checked_add(1) {
        refused("one action too many", store.commit(many_actions("c", beyond)).await)?;
    }
    if let Some(beyond) = limits.bytes.checked_add(1) {
        refused("one byte too many", store.commit(many_bytes("c", beyond)).await)?;
    }
    ensure!(dump(&*store, "").await? == before, "part of a refused batch is there");
    ensure!(!store.was_committed("c").await?, "the id of a refused batch counts as committed");
    Ok(())
}

/// 100,000 records, read back in pages from both ends.
pub(super) async fn long_stream_in_pages(fresh: &Fresh<'_>) -> Outcome {
    const RECORDS: u64 = 100_000;
    const PER_BATCH: u64 = 199;
    let place = fresh();
    let store = place.open().await;
    let numbered = |seq: u64| record(format!("record {seq}"));
    let mut head = Head::default();
    while head.len < RECORDS {
        let end = RECORDS.min(head.len + PER_BATCH);
        let records: Vec<(Digest, Vec<u8>)> = (head.len..end).map(numbered).collect();
        let hash = records.last().map(|(hash, _)| *hash);
        must_commit(&*store, append(&format!("b{}", head.len), "long", head, records)).await?;
        head = Head { len: end, hash };
    }
    drop(store);
    let store = place.open().await;
    ensure!(store.head("long").await? == head, "the long stream ends at {:?}", store.head("long").await?);
    let mut from = 0;
    while from < RECORDS {
        let page = store.read("long", from, 7_919).await?;
        ensure!(!page.is_empty(), "reading from {from} gives nothing");
        for found in page {
            let (hash, bytes) = numbered(from);
            ensure!(
                found.seq == from && found.hash == hash && found.bytes == bytes,
                "record {from} is {found:?}"
            );
            from += 1;
        }
    }
    let last = store.read("long", RECORDS - 1, 10).await?;
    ensure!(last.len() == 1 && last[0].seq == RECORDS - 1, "the last record reads as {last:?}");
    Ok(())
}

/// Reading nothing, past the end and from unknown streams; a stream exists from its first record on.
pub(super) async fn reading_edges(fresh: &Fresh<'_>) -> Outcome {
    let place = fresh();
    let store = place.open().await;
    ensure!(store.read("none", 0, 10).await?.is_empty(), "an unknown stream has records");
    ensure!(store.head("none").await? == Head::default(), "an unknown stream has a head");
    must_commit(&*store, append("nothing", "s", Head::default(), Vec::new())).await?;
    ensure!(store.streams("", None, 10).await?.is_empty(), "a stream without records exists");
    must_commit(&*store, append("one", "s", Head::default(), vec![record("0"), record("1")])).await?;
    // A neighbour, to find out whether a read runs over the end.
    must_commit(&*store, append("two", "t", Head::default(), vec![record("other")])).await?;
    for (from, limit, expected) in [
        (0, 0, 0),
        (0, 1, 1),
        (0, 2, 2),
        (0, usize::MAX, 2),
        (1, 5, 1),
        (2, 5, 0),
        (3, 5, 0),
        (u64::MAX, 5, 0),
    ] {
        let found = store.read("s", from, limit).await?;
        ensure!(found.len() == expected, "read({from}, {limit}) gives {} records", found.len());
        ensure!(found.first().is_none_or(|first| first.seq == from), "read({from}) starts elsewhere");
    }
    ensure!(store.scan("", None, 0).await?.is_empty(), "a scan with limit 0 gives something");
    ensure!(store.streams("", None, 0).await?.is_empty(), "a listing with limit 0 gives something");
    Ok(())
}
