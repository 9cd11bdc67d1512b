//! What a run asks of AWS does not grow with its size, and an item takes at most six transactions.
#![expect(clippy::unwrap_used, reason = "a test may stop anywhere")]

use pangolin_aws_e2e::count::{Load, Shape, engine};
use serde_json::Value;

/// Transactions of an item from submit to seal, amortised.
const TRANSACTIONS_MAX: f64 = 6.0;

async fn run(load: Load) -> Option<Value> {
    let mut lines = engine(load).await.unwrap();
    let line = lines.pop()?;
    let transactions = line["perItem"]["transactions"].as_f64().unwrap();
    assert!(transactions > 0.0 && transactions <= TRANSACTIONS_MAX, "{line}");
    Some(line)
}

/// Each worker ends alone, so that its end has a look of its own: the most that there can be.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_of_an_item_do_not_grow_with_the_run() {
    let load = Load { items: 20, shape: Shape::Flat, concurrency: 5, ends: 1, engines: 1, cold: 0 };
    let Some(small) = run(load).await else { return };
    let large = run(Load { items: 80, shape: Shape::Layered, ..load }).await.unwrap();
    for class in
        ["transactions", "writeUnits", "dynamodbReads", "readUnits", "s3Reads", "s3Writes", "ecsReads"]
    {
        let per_item = |line: &Value| line["perItem"][class].as_f64().unwrap();
        let (before, after) = (per_item(&small), per_item(&large));
        assert!(before > 0.0 && after <= before * 1.1, "{class}: {before} of 20 items, {after} of 80");
    }
}

/// Two execution environments take turns: each reads what the other one did, and not the run.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn environments_that_take_turns_read_what_is_new() {
    let load = Load { items: 15, shape: Shape::Flat, concurrency: 5, ends: 1, engines: 2, cold: 0 };
    let Some(small) = run(load).await else { return };
    let large = run(Load { items: 60, ..load }).await.unwrap();
    let per_item = |line: &Value| line["perItem"]["readUnits"].as_f64().unwrap();
    let (before, after) = (per_item(&small), per_item(&large));
    assert!(after <= before * 1.1, "read units: {before} for each of 15 items, {after} for each of 60");
}
