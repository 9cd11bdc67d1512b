//! Requests and units of typical commits and reads, counted and not timed: one JSON line each.
//!
//! `cargo run -p pangolin-store-dynamodb --example counts`, with dynoxide installed as the tests want it. Its figures for
//! consumed capacity follow the sizes of items as DynamoDB bills them; `docs/aws-claims.md` says what shows that.

#![expect(clippy::print_stdout, reason = "the figures are its output")]

#[path = "../tests/common/mod.rs"]
mod common;

use std::error::Error;

use common::Emulator;
use pangolin_aws::faults::FaultScript;
use pangolin_core::ids::Digest;
use pangolin_ports::{
    commit_limits::CommitCost,
    run_store::{Append, Batch, Commit, Guard, Head, RunStore, Write},
};
use pangolin_store_dynamodb::DynamoRunStore;
use serde_json::json;

type Outcome = Result<(), Box<dyn Error>>;

fn record(bytes: usize, fill: u64) -> (Digest, Vec<u8>) {
    let bytes: Vec<u8> = fill.to_string().into_bytes().into_iter().cycle().take(bytes).collect();
    (Digest::of(&bytes), bytes)
}

struct Bench {
    store: DynamoRunStore,
    batches: u64,
    /// Version of the fence: guarded by every commit of a driver.
    fence: u64,
}

impl Bench {
    fn batch(&mut self) -> Batch {
        self.batches += 1;
        let fence = Guard::VersionIs { key: "lease/fence".to_owned(), version: self.fence };
        Batch {
            id: format!("d/1/0123456789abcdef/{}", self.batches),
            guards: vec![fence],
            ..Batch::default()
        }
    }

    async fn append(&self, batch: &mut Batch, stream: &str, records: Vec<(Digest, Vec<u8>)>) -> Outcome {
        let head = self.store.head(stream).await?;
        batch.guards.push(Guard::HeadIs { stream: stream.to_owned(), head });
        batch.appends.push(Append { stream: stream.to_owned(), records });
        Ok(())
    }

    async fn commit(&self, what: &str, batch: Batch) -> Outcome {
        let (cost, records) =
            (CommitCost::of(&batch), batch.appends.iter().map(|append| append.records.len()));
        let records: usize = records.sum();
        self.store.meter().take();
        let answer = self.store.commit(batch).await?;
        if answer != Commit::Committed {
            return Err(format!("{what}: {answer:?}").into());
        }
        self.report(what, json!({ "records": records, "actions": cost.actions, "bytes": cost.bytes }));
        Ok(())
    }

    fn report(&self, what: &str, more: serde_json::Value) {
        let used = self.store.meter().take();
        let mut line = json!({ "schemaVersion": 1, "bench": "store-dynamodb", "case": what });
        line["requests"] = json!(used.values().map(|usage| usage.requests).sum::<u64>());
        line["writeUnits"] = json!(used.values().map(|usage| usage.write_units).sum::<f64>());
        line["readUnits"] = json!(used.values().map(|usage| usage.read_units).sum::<f64>());
        if let (Some(line), serde_json::Value::Object(more)) = (line.as_object_mut(), more) {
            line.extend(more);
        }
        println!("{line}");
    }
}

#[tokio::main]
async fn main() -> Outcome {
    let Some(emulator) = Emulator::dynoxide("counts").await else {
        return Err("dynoxide is not installed".into());
    };
    let store = emulator.store(&emulator.table().await, &FaultScript::new()).await;
    let mut bench = Bench { store, batches: 0, fence: 1 };
    bench.report("open a new table", json!({}));
    let fence = Batch {
        id: "fence/1/holder".to_owned(),
        guards: vec![Guard::Absent("lease/fence".to_owned())],
        writes: vec![Write::Put { key: "lease/fence".to_owned(), value: b"holder".to_vec() }],
        ..Batch::default()
    };
    bench.commit("take the fence", fence).await?;

    let put = |key: &str, bytes: usize| Write::Put { key: key.to_owned(), value: vec![b'x'; bytes] };
    let mut admit = bench.batch();
    admit.writes = vec![put("receipt/run-1", 900), put("summary/run-1", 350), put("active/run-1", 0)];
    bench.append(&mut admit, "run/run-1", vec![record(6_000, 1)]).await?;
    bench.append(&mut admit, "log", vec![record(350, 2)]).await?;
    bench.commit("admit a run of 6 kB", admit).await?;

    for (what, entries, bytes) in [
        ("fire one item", 1, 700),
        ("fire 20 items", 20, 700),
        ("one item ends", 1, 2_500),
        ("20 items end", 20, 2_500),
        ("100 items end", 100, 2_500),
        ("1,000 items end", 1_000, 2_500),
        ("a largest entry", 1, 60_000),
    ] {
        let mut batch = bench.batch();
        bench
            .append(&mut batch, "run/run-1", (0..entries).map(|index| record(bytes, index)).collect())
            .await?;
        bench.commit(what, batch).await?;
    }

    let mut seal = bench.batch();
    seal.writes =
        vec![put("seal/run-1", 900), put("summary/run-1", 420), Write::Delete("active/run-1".to_owned())];
    bench.append(&mut seal, "run/run-1", vec![record(500, 3)]).await?;
    bench.append(&mut seal, "log", vec![record(450, 4)]).await?;
    bench.commit("seal a run", seal).await?;

    bench.store.meter().take();
    let mut stale = bench.batch();
    stale.guards = vec![Guard::VersionIs { key: "lease/fence".to_owned(), version: 9 }];
    let answer = bench.store.commit(stale).await?;
    bench.report("a commit that loses", json!({ "answer": format!("{answer:?}") }));
    let records = bench.store.read("run/run-1", 0, usize::MAX).await?;
    let bytes: usize = records.iter().map(|record| record.bytes.len()).sum();
    bench.report("read the run", json!({ "records": records.len(), "bytes": bytes }));
    let found = bench.store.scan("active/", None, usize::MAX).await?;
    bench.report("scan for active runs", json!({ "cells": found.len() }));
    let head: Head = bench.store.head("log").await?;
    bench.report("head of the log", json!({ "records": head.len }));
    Ok(())
}
