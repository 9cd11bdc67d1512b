//! Times the scheduler alone: plan, entries and apply of one run, without storage, encoding or workers.
//!
//! `cargo run --release -p pangolin-core --example bench_core [layered|fan-in|chain|one-lock|locks] [items]` prints
//! one JSON line. Run it in a fresh process per shape: the memory is the peak of the process.
#![expect(clippy::print_stdout, reason = "a benchmark prints its result")]
#![expect(clippy::unwrap_used, reason = "a benchmark on data of its own")]

use std::{collections::BTreeMap, time::Instant};

use pangolin_core::{
    entry::{Entry, EntryBody, Evidence, RetryPolicy, RunSubmitted},
    ids::{Digest, QueueName},
    scheduler::{AttemptEnd, AttemptStatus, QueuePolicy, Scheduler},
    state::RunState,
    validate::{PlanContext, parse_plan},
};
use serde_json::json;

/// Peak resident memory of this process so far, in MiB.
fn peak_mib() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().trim_end_matches(" kB").parse().ok().map(|kib: u64| kib / 1024)
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let shape = arguments.next().unwrap_or_else(|| "layered".to_owned());
    let items: usize = arguments.next().map_or(100_000, |text| text.parse().unwrap());
    let item = |index: usize| {
        let depends_on: Vec<String> = match shape.as_str() {
            "layered" if index >= 10 => vec![format!("item-{}", index - 10)],
            "chain" if index >= 1 => vec![format!("item-{}", index - 1)],
            "fan-in" if index + 1 == items => (0..index).map(|dep| format!("item-{dep}")).collect(),
            _ => Vec::new(),
        };
        let locks = match shape.as_str() {
            "one-lock" => vec!["only".to_owned()],
            "locks" => vec![format!("key-{}", index % 97), format!("key-{}", (index * 7 + 1) % 97 + 97)],
            _ => Vec::new(),
        };
        json!({"id": format!("item-{index}"), "executor": "dispatch",
               "inputs": {"subagent": "code-edit", "workerInput": {"file": format!("src/file-{index}.ts")}},
               "depends_on": depends_on, "resourceLocks": locks})
    };
    // Written item by item: the memory figure is about the core, not about this example.
    let mut bytes = br#"{"id":"bench","queue":"default","items":["#.to_vec();
    for index in 0..items {
        if index > 0 {
            bytes.push(b',');
        }
        serde_json::to_writer(&mut bytes, &item(index)).unwrap();
    }
    bytes.extend_from_slice(b"]}");

    let parsing = Instant::now();
    let plan = parse_plan(&bytes, &PlanContext::default()).unwrap().plan;
    let parse = parsing.elapsed();
    let parse_peak = peak_mib();

    let whole = Instant::now();
    let mut seq = 0;
    let run = plan.id.clone();
    let mut entry = |body: EntryBody| {
        let prev = (seq > 0).then(|| Digest::from_bytes([7; 32]));
        let entry = Entry { v: 1, run: run.clone(), seq, at: 1_000, actor: "engine".to_owned(), prev, body };
        seq += 1;
        entry
    };
    let first = entry(EntryBody::RunSubmitted(Box::new(RunSubmitted {
        log: "bench/log".to_owned(),
        namespace: "bench".to_owned(),
        plan: Digest::of(&bytes),
        items: items as u64,
        queue: plan.queue.clone(),
        pins: None,
        base_commit: None,
        pattern: None,
        pattern_id: None,
        pattern_params: None,
        graph: None,
        retry: RetryPolicy::default(),
        open_ended: false,
    })));
    let policy = QueuePolicy { concurrency: 64, paused: false };
    let mut scheduler = Scheduler::new(BTreeMap::from([(QueueName::new("default").unwrap(), policy)]));
    scheduler.insert_run(RunState::start(plan, &first).unwrap());
    let mut plans = 0_u64;
    let started = Instant::now();
    while scheduler.run(&run).unwrap().outcome().is_none() {
        let step = scheduler.plan(1_000, 64);
        plans += 1;
        assert!(!step.is_empty(), "the run is stuck");
        for fire in &step.fires {
            let body = EntryBody::ItemFired {
                item: fire.item.clone(),
                attempt: fire.attempt,
                dispatch: fire.dispatch.clone(),
                manifest: Some(Digest::from_bytes([3; 32])),
            };
            scheduler.apply(&entry(body), None).unwrap();
        }
        for fire in step.fires {
            let evidence = Evidence { exit_code: Some(0), ..Evidence::default() };
            let end = AttemptEnd { status: AttemptStatus::Done, evidence };
            for body in scheduler.reconcile(&fire.run, &fire.item, fire.attempt, end, 1_000) {
                scheduler.apply(&entry(body), None).unwrap();
            }
        }
        for (_, body) in step.entries {
            scheduler.apply(&entry(body), None).unwrap();
        }
    }
    let scheduling = started.elapsed();
    let total = whole.elapsed();
    #[expect(clippy::cast_precision_loss, reason = "a figure for people")]
    let per_item = |elapsed: std::time::Duration| (elapsed.as_secs_f64() * 1e9 / items as f64).round() / 1e3;
    let line = json!({"bench": "core", "shape": shape, "items": items, "plans": plans, "entries": seq,
        "us_per_item": per_item(scheduling), "start_us_per_item": per_item(total - scheduling),
        "parse_us_per_item": per_item(parse), "parse_peak_mib": parse_peak, "peak_mib": peak_mib()});
    println!("{line}");
}
