//! How long `verify --replay` takes over a long run; prints one JSON line.
//!
//! `cargo run --release -p pangolin-replay --example bench_replay [items]` (default 10,000): a run of that many items
//! with the shipped map-reduce pattern, whose splitter adds 600 of them (what fits into one ledger entry), asked after
//! every 8 ends. Compiling the component is measured on its own.
//!
//! `... --example bench_replay -- --write <pattern> <file> [--lie]` writes the bundle of a small run instead. With `--lie` it records an explanation that the pattern did not give
//! (`tests/fixtures/replay-differs.json`).

#![expect(clippy::print_stdout, reason = "a benchmark reports on stdout")]

#[path = "../tests/grower/mod.rs"]
mod grower;

use std::{env, fs, time::Instant};

use grower::{Failure, grow, grow_with, key};
use pangolin_audit::{
    report::Verdict,
    verify::{Trust, verify_bundle},
};
use pangolin_core::{ids::ItemId, pattern::Explanation};
use pangolin_plugin_host::{CacheKey, Compiler, HostOptions, PluginHost, engine_id};
use pangolin_replay::{Given, ReplayVerdict, replay};
use serde_json::{Value, json};

/// Outputs of one item that a ledger entry of 60,000 bytes can name.
const MAPS: usize = 600;

/// Ends per commit.
const BATCH: usize = 8;

fn item(id: &str, inputs: &Value) -> Value {
    json!({ "id": id, "executor": "dispatch", "inputs": inputs, "depends_on": [], "resourceLocks": [] })
}

fn splitter() -> Value {
    let template = json!({ "executor": "dispatch", "inputs": {} });
    item("split", &json!({ "mapReduce": { "map": template, "reduce": template } }))
}

fn millis(since: Instant) -> f64 {
    (since.elapsed().as_secs_f64() * 1e4).round() / 10.0
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let dir = tempfile::tempdir()?;
    let options = HostOptions { compiler: Compiler::InProcess, ..HostOptions::default() };
    let host = PluginHost::with_options(dir.path(), CacheKey::from_bytes([1; 32]), options)?;
    let arguments: Vec<String> = env::args().skip(1).collect();
    if let [flag, pattern, file, rest @ ..] = arguments.as_slice()
        && flag == "--write"
    {
        return write(&host, pattern, file, rest.iter().any(|flag| flag == "--lie")).await;
    }
    let count: usize = arguments.first().map_or(Ok(10_000), |text| text.parse())?;

    let bytes = pangolin_builtin_plugins::pattern("map-reduce").ok_or("map-reduce does not ship")?;
    let started = Instant::now();
    let component = host.load_pattern(bytes).map_err(|error| error.failure)?;
    let compile_ms = millis(started);
    let plain = count.saturating_sub(MAPS + 2);
    let items: Vec<Value> = std::iter::once(splitter())
        .chain((0..plain).map(|n| item(&format!("item-{n:05}"), &json!({}))))
        .collect();
    let outputs = |id: &ItemId| match id.as_str() {
        "split" => (0..MAPS).map(|n| format!("{n:03}")).collect(),
        _ => vec!["result".to_owned()],
    };
    let started = Instant::now();
    let grown = grow(&component, bytes, &items, outputs, BATCH).await?;
    let build_ms = millis(started);

    let trust = Trust { keys: vec![key().verifier_key()], ..Trust::default() };
    let started = Instant::now();
    let report = verify_bundle(&grown.bundle, &trust);
    let verify_ms = millis(started);
    if report.verdict != Verdict::Intact {
        return Err(report.to_json().into());
    }
    let started = Instant::now();
    let replayed = replay(&grown.bundle, &host, &Given::default(), |_| ()).await?;
    let replay_ms = millis(started);
    if replayed.verdict != ReplayVerdict::Agrees {
        return Err(format!("{replayed:#?}").into());
    }
    let line = json!({
        "bench": "replay",
        "items": grown.items,
        "steps": grown.steps,
        "ends_per_step": BATCH,
        "entries": report.entries,
        "bundle_bytes": grown.bundle.len(),
        "compile_ms": compile_ms,
        "build_ms": build_ms,
        "verify_ms": verify_ms,
        "replay_ms": replay_ms,
        "engine": engine_id(),
    });
    println!("{line}");
    Ok(())
}

async fn write(host: &PluginHost, pattern: &str, file: &str, lie: bool) -> Result<(), Failure> {
    let bytes = pangolin_builtin_plugins::pattern(pattern).ok_or("this pattern does not ship")?;
    let component = host.load_pattern(bytes).map_err(|error| error.failure)?;
    let items = match pattern {
        "map-reduce" => vec![splitter()],
        _ => vec![item("one", &json!({})), item("two", &json!({}))],
    };
    let outputs = |id: &ItemId| match id.as_str() {
        "split" => vec!["a".to_owned(), "b.txt".to_owned(), "c".to_owned()],
        _ => vec!["result".to_owned()],
    };
    let grown = grow_with(&component, bytes, &items, outputs, 1, |decisions| {
        if lie {
            let why = "so they say".to_owned();
            decisions.explanations.push(Explanation { item: "one".to_owned(), why });
        }
    });
    fs::write(file, grown.await?.bundle)?;
    Ok(())
}
