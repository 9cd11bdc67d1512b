//! Guards decide, and they decide about everything in a batch.

use pangolin_core::ids::Digest;

use super::{Fresh, append, dump, must_commit, put, record, write};
use crate::{
    conformance::{Outcome, ensure},
    run_store::{Append, Batch, Commit, Guard, Head, RunStore, Write},
};

/// What a case starts from: `s` has two records, `once` and `twice` were written that often, `gone` was deleted.
async fn set_up(store: &dyn RunStore, case: &str) -> Result<Head, super::Violation> {
    let (first, second) = (record(format!("{case} first")), record(format!("{case} second")));
    let head = Head { len: 2, hash: Some(second.0) };
    let mut batch = append(&format!("{case}/a"), &format!("{case}/s"), Head::default(), vec![first, second]);
    batch.writes =
        ["once", "twice", "gone"].iter().map(|name| put(&format!("{case}/{name}"), "v1")).collect();
    must_commit(store, batch).await?;
    let writes = vec![put(&format!("{case}/twice"), "v2"), Write::Delete(format!("{case}/gone"))];
    must_commit(store, write(&format!("{case}/b"), Vec::new(), writes)).await?;
    Ok(head)
}

fn guards(case: &str, head: Head) -> Vec<(&'static str, Guard, bool)> {
    let key = |name: &str| format!("{case}/{name}");
    let head_is = |stream: &str, head| Guard::HeadIs { stream: key(stream), head };
    let version_is = |name: &str, version| Guard::VersionIs { key: key(name), version };
    let other = Some(Digest::of(b"something else"));
    vec![
        ("head as it is", head_is("s", head), true),
        ("head too short", head_is("s", Head { len: 1, ..head }), false),
        ("head too long", head_is("s", Head { len: 3, ..head }), false),
        ("head with another hash", head_is("s", Head { hash: other, ..head }), false),
        ("head without hash", head_is("s", Head { hash: None, ..head }), false),
        ("empty head of a stream with records", head_is("s", Head::default()), false),
        ("empty head of no stream", head_is("none", Head::default()), true),
        ("some head of no stream", head_is("none", head), false),
        ("absent and never written", Guard::Absent(key("never")), true),
        ("absent and deleted", Guard::Absent(key("gone")), true),
        ("absent but there", Guard::Absent(key("once")), false),
        ("first version", version_is("once", 1), true),
        ("second version", version_is("twice", 2), true),
        ("old version", version_is("twice", 1), false),
        ("future version", version_is("once", 2), false),
        ("version of a deleted cell", version_is("gone", 1), false),
        ("version of no cell", version_is("never", 1), false),
        ("version zero of no cell", version_is("never", 0), false),
    ]
}

/// One change of each kind; the appends bring the head guard that they need.
fn changes(case: &str, head: Head) -> Vec<(&'static str, Batch)> {
    let key = |name: &str| format!("{case}/{name}");
    vec![
        ("create a cell", write("", Vec::new(), vec![put(&key("new"), "n")])),
        ("replace a cell", write("", Vec::new(), vec![put(&key("once"), "v9")])),
        ("create a deleted cell again", write("", Vec::new(), vec![put(&key("gone"), "back")])),
        ("delete a cell", write("", Vec::new(), vec![Write::Delete(key("twice"))])),
        ("delete no cell", write("", Vec::new(), vec![Write::Delete(key("never"))])),
        ("start a stream", append("", &key("t"), Head::default(), vec![record("t0")])),
        ("go on with a stream", append("", &key("s"), head, vec![record("s2"), record("s3")])),
        (
            "everything",
            Batch {
                writes: vec![put(&key("new"), "n"), Write::Delete(key("twice"))],
                appends: vec![
                    Append { stream: key("s"), records: vec![record("s2")] },
                    Append { stream: key("t"), records: vec![record("t0")] },
                ],
                guards: vec![
                    Guard::HeadIs { stream: key("s"), head },
                    Guard::HeadIs { stream: key("t"), head: Head::default() },
                ],
                id: String::new(),
            },
        ),
    ]
}

/// Each guard, holding and not, with each kind of change: applied completely or not at all.
pub(super) async fn guard_table(fresh: &Fresh<'_>) -> Outcome {
    let place = fresh();
    let store = place.open().await;
    let kinds = (guards("", Head::default()).len(), changes("", Head::default()).len());
    for (guard_index, change_index) in
        (0..kinds.0).flat_map(|guard| (0..kinds.1).map(move |change| (guard, change)))
    {
        let case = format!("case-{guard_index}-{change_index}");
        let head = set_up(&*store, &case).await?;
        let (guard_name, guard, holds) = guards(&case, head).swap_remove(guard_index);
        let (change_name, mut batch) = changes(&case, head).swap_remove(change_index);
        let what = format!("guard {guard_name:?} with {change_name:?}");
        batch.id = format!("{case}/c");
        batch.guards.push(guard);
        let guard_position = batch.guards.len() - 1;
        let before = dump(&*store, &format!("{case}/")).await?;
        let answer = store.commit(batch).await?;
        let after = dump(&*store, &format!("{case}/")).await?;
        let known = store.was_committed(&format!("{case}/c")).await?;
        match answer {
            Commit::Committed => {
                ensure!(holds, "{what}: committed though the guard does not hold");
                ensure!(known, "{what}: committed, but the batch id is not known");
                let expect_change = change_name != "delete no cell";
                ensure!((before != after) == expect_change, "{what}: committed, but the state is {after:?}");
            }
            Commit::GuardFailed { guard, found } => {
                ensure!(!holds, "{what}: refused ({found}) though the guard holds");
                ensure!(
                    guard == guard_position,
                    "{what}: guard {guard} was blamed instead of {guard_position}"
                );
                ensure!(!found.is_empty(), "{what}: the answer does not say what was found");
                ensure!(!known, "{what}: refused, but the batch id counts as committed");
                ensure!(
                    before == after,
                    "{what}: refused, but something changed from {before:?} to {after:?}"
                );
            }
            Commit::Unknown => ensure!(false, "{what}: the answer is Unknown"),
        }
    }
    Ok(())
}

/// With several guards, the first one that fails is named.
pub(super) async fn first_failing_guard_is_named(fresh: &Fresh<'_>) -> Outcome {
    let place = fresh();
    let store = place.open().await;
    must_commit(&*store, write("1", Vec::new(), vec![put("there", "v")])).await?;
    let holds = || Guard::Absent("free".to_owned());
    let fails = || Guard::Absent("there".to_owned());
    for (guards, first) in [
        (vec![fails(), holds(), fails()], 0),
        (vec![holds(), fails(), fails()], 1),
        (vec![holds(), holds(), holds(), fails()], 3),
    ] {
        let answer = store.commit(write("2", guards, vec![put("free", "v")])).await?;
        ensure!(
            matches!(answer, Commit::GuardFailed { guard, .. } if guard == first),
            "guard {first} fails first, the answer is {answer:?}"
        );
    }
    ensure!(store.get("free").await?.is_none(), "a refused write was applied");
    Ok(())
}

/// Guards are about the state before the batch, never about what the batch itself writes.
pub(super) async fn guards_see_the_state_before_the_batch(fresh: &Fresh<'_>) -> Outcome {
    let place = fresh();
    let store = place.open().await;
    let create = write("1", vec![Guard::Absent("k".to_owned())], vec![put("k", "v")]);
    must_commit(&*store, create).await?;
    let version_is = |version| Guard::VersionIs { key: "k".to_owned(), version };
    let answer = store.commit(write("2", vec![version_is(2)], vec![put("k", "w")])).await?;
    ensure!(matches!(answer, Commit::GuardFailed { .. }), "a guard saw the batch's own write: {answer:?}");
    must_commit(&*store, write("3", vec![version_is(1)], vec![Write::Delete("k".to_owned())])).await
}
