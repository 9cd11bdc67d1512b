//! Batch ids, versions, refusal of malformed batches, and what a second open shows.

use super::{Fresh, append, dump, must_commit, put, record, write};
use crate::{
    conformance::{Outcome, Violation, ensure},
    run_store::{Append, Batch, Commit, Guard, Head, RunStoreError, Write},
};

/// A second commit of an id answers `Committed` and does nothing, even when its guards no longer hold, its content
/// differs or the store was opened again.
pub(super) async fn same_id_is_committed_once(fresh: &Fresh<'_>) -> Outcome {
    let place = fresh();
    let store = place.open().await;
    let mut batch = append("id-1", "run/a", Head::default(), vec![record("r0")]);
    batch.writes.push(put("k", "v"));
    must_commit(&*store, batch.clone()).await?;
    let before = dump(&*store, "").await?;
    must_commit(&*store, batch.clone()).await?;
    must_commit(&*store, write("id-1", Vec::new(), vec![put("k", "other")])).await?;
    ensure!(dump(&*store, "").await? == before, "the second commit of an id changed something");
    ensure!(store.was_committed("id-1").await?, "a committed id is not known");
    ensure!(!store.was_committed("id-2").await?, "an id that was never committed is known");
    drop(store);
    let store = place.open().await;
    ensure!(store.was_committed("id-1").await?, "after reopening, a committed id is not known");
    must_commit(&*store, batch).await?;
    ensure!(
        dump(&*store, "").await? == before,
        "after reopening, the second commit of an id changed something"
    );
    Ok(())
}

/// A batch that was refused left its id free.
pub(super) async fn refused_id_can_be_used_again(fresh: &Fresh<'_>) -> Outcome {
    let place = fresh();
    let store = place.open().await;
    let wants_k =
        || write("later", vec![Guard::VersionIs { key: "k".to_owned(), version: 1 }], vec![put("done", "")]);
    let answer = store.commit(wants_k()).await?;
    ensure!(
        matches!(answer, Commit::GuardFailed { guard: 0, .. }),
        "no such cell, but the answer is {answer:?}"
    );
    must_commit(&*store, write("k", Vec::new(), vec![put("k", "")])).await?;
    must_commit(&*store, wants_k()).await?;
    ensure!(store.get("done").await?.is_some(), "the id was refused once and its second commit did nothing");
    Ok(())
}

/// Versions go up by one with each put and survive deletion.
pub(super) async fn versions_never_go_back(fresh: &Fresh<'_>) -> Outcome {
    let place = fresh();
    let mut expected = 0;
    for round in 0..3 {
        let store = place.open().await;
        for step in 0..3 {
            must_commit(&*store, write(&format!("put-{round}-{step}"), Vec::new(), vec![put("k", "v")]))
                .await?;
            expected += 1;
            let found = store.get("k").await?.map(|cell| cell.version);
            ensure!(found == Some(expected), "after {expected} puts the version is {found:?}");
        }
        let delete =
            |id: &str| write(&format!("{id}-{round}"), Vec::new(), vec![Write::Delete("k".to_owned())]);
        must_commit(&*store, delete("delete")).await?;
        ensure!(store.get("k").await?.is_none(), "a deleted cell is there");
        must_commit(&*store, delete("delete-again")).await?;
    }
    Ok(())
}

/// Every rule of a well-formed batch is enforced and nothing of a malformed one is applied.
pub(super) async fn invalid_batches_are_refused(fresh: &Fresh<'_>) -> Outcome {
    let place = fresh();
    let store = place.open().await;
    let head_is = |stream: &str| Guard::HeadIs { stream: stream.to_owned(), head: Head::default() };
    let append_to = |stream: &str| Append { stream: stream.to_owned(), records: vec![record("r")] };
    let batch = |guards, writes, appends| Batch { id: "bad".to_owned(), guards, writes, appends };
    let cases = [
        ("no head guard", batch(vec![], vec![put("x", "")], vec![append_to("s")])),
        ("head guard on another stream", batch(vec![head_is("t")], vec![put("x", "")], vec![append_to("s")])),
        ("two puts of a key", batch(vec![], vec![put("x", "1"), put("x", "2")], vec![])),
        (
            "put and delete of a key",
            batch(vec![], vec![put("x", "1"), Write::Delete("x".to_owned())], vec![]),
        ),
        ("two appends to a stream", batch(vec![head_is("s")], vec![], vec![append_to("s"), append_to("s")])),
        ("no id", Batch { id: String::new(), ..batch(vec![], vec![put("x", "")], vec![]) }),
        ("cell without name", batch(vec![], vec![put("", ""), put("x", "")], vec![])),
        ("stream without name", batch(vec![head_is("")], vec![put("x", "")], vec![append_to("")])),
    ];
    for (what, batch) in cases {
        match store.commit(batch).await {
            Err(RunStoreError::InvalidBatch { problem, .. }) => {
                ensure!(!problem.is_empty(), "{what}: the error does not name the rule");
            }
            other => return Err(Violation::new(format!("{what}: expected InvalidBatch, got {other:?}"))),
        }
    }
    ensure!(dump(&*store, "").await? == super::Dump::default(), "something of a malformed batch was applied");
    ensure!(!store.was_committed("bad").await?, "the id of a malformed batch counts as committed");
    Ok(())
}

/// What was committed is there for whoever opens the ledger next.
pub(super) async fn reopening_shows_everything(fresh: &Fresh<'_>) -> Outcome {
    let place = fresh();
    let mut head = Head::default();
    for round in 0..5_u64 {
        let store = place.open().await;
        let found = store.head("run/a").await?;
        ensure!(found == head, "round {round}: the stream ended at {head:?} and now ends at {found:?}");
        for step in 0..4_u64 {
            let next = record(format!("{round}/{step}"));
            let hash = next.0;
            let mut batch = append(&format!("{round}/{step}"), "run/a", head, vec![next]);
            batch.writes.push(put(&format!("cell/{step}"), format!("{round}")));
            must_commit(&*store, batch).await?;
            head = Head { len: head.len + 1, hash: Some(hash) };
        }
        let before = dump(&*store, "").await?;
        drop(store);
        let after = dump(&*place.open().await, "").await?;
        ensure!(before == after, "round {round}: before {before:?}, after reopening {after:?}");
    }
    Ok(())
}

/// Two adapters open on one place: what one committed, the other reads at once.
pub(super) async fn two_open_stores_see_each_other(fresh: &Fresh<'_>) -> Outcome {
    let place = fresh();
    let (left, right) = (place.open().await, place.open().await);
    for round in 0..20 {
        let (writer, reader) = if round % 2 == 0 { (&left, &right) } else { (&right, &left) };
        let head = reader.head("run/a").await?;
        let next = record(format!("r{round}"));
        let hash = next.0;
        must_commit(&**writer, append(&format!("b{round}"), "run/a", head, vec![next])).await?;
        let seen = reader.head("run/a").await?;
        ensure!(
            seen.hash == Some(hash),
            "round {round}: the other store does not see the record, but {seen:?}"
        );
        ensure!(
            reader.was_committed(&format!("b{round}")).await?,
            "the other store does not know the batch id"
        );
    }
    ensure!(dump(&*left, "").await? == dump(&*right, "").await?, "the two stores show different things");
    Ok(())
}
