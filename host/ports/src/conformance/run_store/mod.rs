//! What every [`RunStore`] must do.

mod batches;
mod guards;
mod limits;
mod model;
mod races;
mod scans;

use std::sync::Arc;

use async_trait::async_trait;
use pangolin_core::ids::Digest;

use super::{Outcome, Report, Violation, ensure};
use crate::run_store::{Append, Batch, Cell, Commit, Guard, Head, Record, RunStore, Write};

/// Where one ledger lives.
#[async_trait]
pub trait RunStorePlace: Send + Sync {
    /// Opens the ledger. May be called while an earlier one is open and after it was dropped; each time
    /// everything that was committed before must be there.
    async fn open(&self) -> Arc<dyn RunStore>;
}

/// Makes an empty place.
pub type Fresh<'a> = dyn Fn() -> Box<dyn RunStorePlace> + Send + Sync + 'a;

/// Runs all checks.
pub async fn suite(fresh: &Fresh<'_>) -> Report {
    let mut report = Report::default();
    report.run("guard_table", guards::guard_table(fresh)).await;
    report.run("first_failing_guard_is_named", guards::first_failing_guard_is_named(fresh)).await;
    report
        .run("guards_see_the_state_before_the_batch", guards::guards_see_the_state_before_the_batch(fresh))
        .await;
    report.run("same_id_is_committed_once", batches::same_id_is_committed_once(fresh)).await;
    report.run("refused_id_can_be_used_again", batches::refused_id_can_be_used_again(fresh)).await;
    report.run("versions_never_go_back", batches::versions_never_go_back(fresh)).await;
    report.run("invalid_batches_are_refused", batches::invalid_batches_are_refused(fresh)).await;
    report.run("reopening_shows_everything", batches::reopening_shows_everything(fresh)).await;
    report.run("two_open_stores_see_each_other", batches::two_open_stores_see_each_other(fresh)).await;
    report.run("record_size_limit", limits::record_size_limit(fresh)).await;
    report.run("cell_size_limit", limits::cell_size_limit(fresh)).await;
    report.run("two_hundred_changes", limits::two_hundred_changes(fresh)).await;
    report.run("batches_up_to_the_limits", limits::batches_up_to_the_limits(fresh)).await;
    report.run("long_stream_in_pages", limits::long_stream_in_pages(fresh)).await;
    report.run("reading_edges", limits::reading_edges(fresh)).await;
    report.run("any_text_is_a_key", scans::any_text_is_a_key(fresh)).await;
    report.run("prefixes_are_literal", scans::prefixes_are_literal(fresh)).await;
    report.run("paging_misses_and_repeats_nothing", scans::paging_misses_and_repeats_nothing(fresh)).await;
    report.run("one_winner_per_head", races::one_winner_per_head(fresh)).await;
    report.run("one_winner_per_absent_cell", races::one_winner_per_absent_cell(fresh)).await;
    report.run("one_winner_per_version", races::one_winner_per_version(fresh)).await;
    report.run("one_effect_per_batch_id", races::one_effect_per_batch_id(fresh)).await;
    report.run("writers_on_one_stream_lose_nothing", races::writers_on_one_stream_lose_nothing(fresh)).await;
    for seed in 1..=4 {
        report.run("random_operations_match_the_model", model::random_operations(fresh, seed, 300)).await;
    }
    report
}

/// A record whose hash follows from its bytes.
fn record(text: impl Into<Vec<u8>>) -> (Digest, Vec<u8>) {
    let bytes = text.into();
    (Digest::of(&bytes), bytes)
}

fn put(key: &str, value: impl Into<Vec<u8>>) -> Write {
    Write::Put { key: key.to_owned(), value: value.into() }
}

/// A batch that appends `records` behind `head`.
fn append(id: &str, stream: &str, head: Head, records: Vec<(Digest, Vec<u8>)>) -> Batch {
    Batch {
        id: id.to_owned(),
        guards: vec![Guard::HeadIs { stream: stream.to_owned(), head }],
        writes: Vec::new(),
        appends: vec![Append { stream: stream.to_owned(), records }],
    }
}

fn write(id: &str, guards: Vec<Guard>, writes: Vec<Write>) -> Batch {
    Batch { id: id.to_owned(), guards, writes, appends: Vec::new() }
}

async fn must_commit(store: &dyn RunStore, batch: Batch) -> Outcome {
    let id = batch.id.clone();
    let answer = store.commit(batch).await?;
    ensure!(answer == Commit::Committed, "batch {id} was answered with {answer:?} instead of Committed");
    Ok(())
}

/// Everything below a prefix.
#[derive(Debug, Default, PartialEq, Eq)]
struct Dump {
    streams: Vec<(String, Head, Vec<Record>)>,
    cells: Vec<(String, Cell)>,
}

async fn dump(store: &dyn RunStore, prefix: &str) -> Result<Dump, Violation> {
    let mut dump = Dump::default();
    for name in store.streams(prefix, None, usize::MAX).await? {
        let head = store.head(&name).await?;
        let records = store.read(&name, 0, usize::MAX).await?;
        ensure!(
            records.len() as u64 == head.len,
            "stream {name:?} has {} records, its head says {head:?}",
            records.len()
        );
        ensure!(
            records.last().map(|last| last.hash) == head.hash,
            "the head of {name:?} has not the last record's hash"
        );
        dump.streams.push((name, head, records));
    }
    dump.cells = store.scan(prefix, None, usize::MAX).await?;
    Ok(dump)
}
