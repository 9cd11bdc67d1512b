//! Keys, prefixes and pages.

use super::{Fresh, append, must_commit, put, record, write};
use crate::{
    conformance::{Outcome, ensure},
    run_store::Head,
};

/// Texts that a careless adapter confuses: wildcards, escapes, quotes, case, Unicode forms and plane 1.
const NASTY: &[&str] = &[
    "%",
    "_",
    "\\",
    "a%b",
    "a_b",
    "a\\b",
    "axb",
    "a%",
    "a_",
    "a\\",
    "a\\%",
    "a*",
    "a?",
    "a[b]",
    "'",
    "''",
    "\"",
    "; DROP TABLE cells",
    "A",
    "a",
    "ä",
    "a\u{308}",
    "ß",
    "SS",
    "é",
    "É",
    "日本",
    "日",
    "🦀",
    "🦀/x",
    "\u{d7ff}",
    "\u{e000}",
    "\u{10ffff}",
    "\u{10ffff}a",
    "a\u{0}b",
    "a/",
    "a//b",
    "a/b",
    " ",
    "a ",
    "run/1",
    "run/10",
    "run/2",
    "run0",
    "\u{1}",
];

/// Keys differ when their bytes differ, and come back as they are.
pub(super) async fn any_text_is_a_key(fresh: &Fresh<'_>) -> Outcome {
    let place = fresh();
    let store = place.open().await;
    for (index, name) in NASTY.iter().enumerate() {
        let mut batch = append(&format!("id {name}"), name, Head::default(), vec![record(*name)]);
        batch.writes.push(put(name, format!("{index}")));
        must_commit(&*store, batch).await?;
    }
    drop(store);
    let store = place.open().await;
    for (index, name) in NASTY.iter().enumerate() {
        let value = store.get(name).await?.map(|cell| cell.value);
        ensure!(value == Some(format!("{index}").into_bytes()), "cell {name:?} has the value {value:?}");
        let found = store.read(name, 0, 9).await?;
        ensure!(found.len() == 1 && found[0].bytes == name.as_bytes(), "stream {name:?} has {found:?}");
        ensure!(store.was_committed(&format!("id {name}")).await?, "batch id {name:?} is not known");
    }
    Ok(())
}

/// A prefix is text, not a pattern, and results are in byte order.
pub(super) async fn prefixes_are_literal(fresh: &Fresh<'_>) -> Outcome {
    let place = fresh();
    let store = place.open().await;
    for name in NASTY {
        let mut batch = append(&format!("id {name}"), name, Head::default(), vec![record(*name)]);
        batch.writes.push(put(name, "v"));
        must_commit(&*store, batch).await?;
    }
    for prefix in NASTY.iter().chain(&["", "run/", "nothing"]) {
        let mut expected: Vec<&str> = NASTY.iter().copied().filter(|name| name.starts_with(prefix)).collect();
        expected.sort_unstable();
        let cells: Vec<String> =
            store.scan(prefix, None, 1_000).await?.into_iter().map(|(key, _)| key).collect();
        ensure!(cells == expected, "scan({prefix:?}) gives {cells:?} instead of {expected:?}");
        let streams = store.streams(prefix, None, 1_000).await?;
        ensure!(streams == expected, "streams({prefix:?}) gives {streams:?} instead of {expected:?}");
        for after in NASTY {
            let expected: Vec<&str> = expected.iter().copied().filter(|name| name > after).collect();
            let cells: Vec<String> =
                store.scan(prefix, Some(after), 1_000).await?.into_iter().map(|(key, _)| key).collect();
            ensure!(
                cells == expected,
                "scan({prefix:?}) after {after:?} gives {cells:?} instead of {expected:?}"
            );
            let streams = store.streams(prefix, Some(after), 1_000).await?;
            ensure!(streams == expected, "streams({prefix:?}) after {after:?} gives {streams:?}");
        }
    }
    Ok(())
}

/// Pages of any size put together are the whole, also with deleted cells in between.
pub(super) async fn paging_misses_and_repeats_nothing(fresh: &Fresh<'_>) -> Outcome {
    let place = fresh();
    let store = place.open().await;
    let keys: Vec<String> = (0..100).map(|index| format!("lock/{index:03}")).collect();
    let mut writes: Vec<_> = keys.iter().map(|key| put(key, "v")).collect();
    writes.push(put("lock0", "not below lock/"));
    writes.push(put("loc", "not below lock/"));
    // In two batches: together they are more than every store takes.
    let more = writes.split_off(60);
    must_commit(&*store, write("create", Vec::new(), writes)).await?;
    must_commit(&*store, write("create more", Vec::new(), more)).await?;
    let gone = |index: usize| index.is_multiple_of(3) || (40..60).contains(&index);
    let deletes = (0..100)
        .filter(|index| gone(*index))
        .map(|index| crate::run_store::Write::Delete(keys[index].clone()));
    must_commit(&*store, write("delete", Vec::new(), deletes.collect())).await?;
    let expected: Vec<String> =
        (0..100).filter(|index| !gone(*index)).map(|index| keys[index].clone()).collect();
    for limit in [1, 2, 7, 53, 54, 55, 1_000] {
        let mut found: Vec<String> = Vec::new();
        loop {
            let page = store.scan("lock/", found.last().map(String::as_str), limit).await?;
            ensure!(page.len() <= limit, "a page of {limit} has {} cells", page.len());
            if page.is_empty() {
                break;
            }
            found.extend(page.into_iter().map(|(key, _)| key));
            ensure!(found.len() <= expected.len(), "pages of {limit} repeat something");
        }
        ensure!(found == expected, "pages of {limit} give {found:?}");
    }
    Ok(())
}
