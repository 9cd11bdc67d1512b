//! Builds a bundle of a long run and verifies it; prints one JSON line.
//!
//! `cargo run --release -p pangolin-audit --example bench_verify [entries]` (default 100,000). Every attempt has a
//! manifest, a result record and a patch; each item but the first ten is handed the patch of the item ten before.
//! `peak_rss_mib` is the peak of a verification alone: it runs in a child process that only reads the file.

#![expect(clippy::print_stdout, reason = "a benchmark reports on stdout")]

use std::{collections::BTreeMap, env, fs, process::Command, time::Instant};

use pangolin_audit::{
    bundle::{Anchor, BundleBuilder, LeafEvidence, LogEvidence},
    canon,
    chain::RunChain,
    checkpoint::Checkpoint,
    log::{Admit, LOG_VERSION, LogEvent, Seal},
    merkle,
    note::SigningKey,
    verify::{Trust, verify_bundle},
};
use pangolin_core::{
    entry::{
        EntryBody, Evidence, FinalStatus, Isolation, IsolationUsed, RetryPolicy, RunOutcome, RunSubmitted,
    },
    ids::{Digest, DispatchId, ItemId, QueueName, RunId},
    manifest::{DispatchManifest, MANIFEST_VERSION, ManifestInput},
};
use serde_json::json;

type Failure = Box<dyn std::error::Error>;

const LOG: &str = "pangolin.local/bench";
const START: i64 = 1_780_185_600_000;
const LAYER: usize = 10;

/// The run's records, its objects, and the nanoseconds that one append took.
struct Built {
    run: RunId,
    plan: Digest,
    chain: RunChain,
    records: Vec<Vec<u8>>,
    objects: BTreeMap<Digest, Vec<u8>>,
    append_ns: f64,
}

fn build(items: usize) -> Result<Built, Failure> {
    let run = RunId::new("bench-verify")?;
    let queue = QueueName::new("default")?;
    let ids: Vec<ItemId> =
        (0..items).map(|n| ItemId::new(format!("item-{n:06}"))).collect::<Result<_, _>>()?;
    let plan_items: Vec<_> = (0..items)
        .map(|n| {
            let needs = match n.checked_sub(LAYER) {
                Some(from) => json!({ "before": { "from": ids[from], "select": { "kind": "patch" } } }),
                None => json!({}),
            };
            json!({ "id": ids[n], "executor": "dispatch", "inputs": {}, "depends_on": [], "resourceLocks": [], "needs": needs })
        })
        .collect();
    let plan_bytes = serde_json::to_vec(&json!({ "id": run, "queue": queue, "items": plan_items }))?;
    let plan = Digest::of(&plan_bytes);
    let mut objects = BTreeMap::from([(plan, plan_bytes)]);
    let mut bodies = vec![EntryBody::RunSubmitted(Box::new(RunSubmitted {
        log: LOG.to_owned(),
        namespace: "bench".to_owned(),
        plan,
        items: items as u64,
        queue,
        pins: None,
        base_commit: Some("4b825dc642cb6eb9a060e54bf8d69288fbee4904".to_owned()),
        pattern: None,
        pattern_id: None,
        pattern_params: None,
        graph: None,
        retry: RetryPolicy::default(),
        open_ended: false,
    }))];
    let mut patches = Vec::with_capacity(items);
    for (n, item) in ids.iter().enumerate() {
        let dispatch = DispatchId::derive("bench", &run, item, 1);
        let inputs = n.checked_sub(LAYER).map(|from| {
            ("before".to_owned(), ManifestInput { from: ids[from].clone(), digest: patches[from] })
        });
        let manifest = canon::to_vec(&DispatchManifest {
            v: MANIFEST_VERSION,
            run: run.clone(),
            item: item.clone(),
            attempt: 1,
            dispatch: dispatch.clone(),
            executor: "dispatch".to_owned(),
            backend: "process".to_owned(),
            isolation: Isolation::Sandbox,
            network: "none".to_owned(),
            image: None,
            subagent: None,
            capabilities: Vec::new(),
            env: Vec::new(),
            pipeline: None,
            adapter: None,
            blocks: Vec::new(),
            model: String::new(),
            inputs: inputs.into_iter().collect(),
            secret_names: Vec::new(),
            envelope: Some(Digest::of(item.as_str().as_bytes())),
            base_commit: Some("4b825dc642cb6eb9a060e54bf8d69288fbee4904".to_owned()),
            base_pack: None,
        })?;
        let result =
            format!("{{\"item\":\"{item}\",\"blocks\":[{{\"kind\":\"agent\",\"ok\":true}}]}}").into_bytes();
        let patch =
            format!("--- a/src/{item}.rs\n+++ b/src/{item}.rs\n@@ -1 +1 @@\n-old\n+new {n}\n").into_bytes();
        let [manifest, result, patch] = [manifest, result, patch].map(|bytes| {
            let digest = Digest::of(&bytes);
            objects.insert(digest, bytes);
            digest
        });
        patches.push(patch);
        bodies.push(EntryBody::ItemFired {
            item: item.clone(),
            attempt: 1,
            dispatch,
            manifest: Some(manifest),
        });
        let evidence = Evidence {
            exit_code: Some(0),
            result: Some(result),
            patch: Some(patch),
            isolation: Some(IsolationUsed {
                level: Isolation::Sandbox,
                mechanisms: ["userns", "netns", "pidns", "no-new-privs"].map(str::to_owned).to_vec(),
                network: "none".to_owned(),
                image: None,
            }),
            started_at: Some(START),
            finished_at: Some(START + 1_000),
            ..Evidence::default()
        };
        let evidence = Box::new(evidence);
        bodies.push(EntryBody::ItemReconciled {
            item: item.clone(),
            attempt: 1,
            status: FinalStatus::Done,
            failure: None,
            evidence,
        });
    }
    let counts = BTreeMap::from([(FinalStatus::Done, items as u64)]);
    bodies.push(EntryBody::RunCompleted { outcome: RunOutcome::Done, counts });
    let (mut chain, mut records) = (RunChain::new(), Vec::with_capacity(bodies.len()));
    let (count, start) = (bodies.len(), Instant::now());
    for (at, body) in (START..).zip(bodies) {
        records.push(chain.append(&run, at, "engine", body)?.2);
    }
    let append_ns = start.elapsed().as_nanos() as f64 / count as f64;
    Ok(Built { run, plan, chain, records, objects, append_ns })
}

fn bundle(built: Built, key: &SigningKey) -> Result<Vec<u8>, Failure> {
    let Built { run, plan, chain, records, objects, .. } = built;
    let admit = Admit {
        v: LOG_VERSION,
        seq: 0,
        run: run.clone(),
        plan,
        queue: QueueName::new("default")?,
        actor: "engine".to_owned(),
        at: START,
    };
    let seal = Seal {
        v: LOG_VERSION,
        run: run.clone(),
        outcome: RunOutcome::Done,
        entries: chain.len(),
        root: chain.root(),
        at: START,
        admission: 0,
    };
    let events = [LogEvent::Admit(admit).encode()?, LogEvent::Seal(seal).encode()?];
    let leaves = [merkle::leaf_hash(&events[0]), merkle::leaf_hash(&events[1])];
    let [admit, seal] = events;
    let leaf = |event, index| {
        Ok::<_, Failure>(LeafEvidence { event, index, proof: merkle::inclusion_proof(&leaves, index)? })
    };
    let checkpoint = Checkpoint { origin: LOG.to_owned(), size: 2, root: merkle::root(&leaves) };
    let log = LogEvidence {
        origin: LOG.to_owned(),
        checkpoint: checkpoint.sign(key)?,
        admit: leaf(admit, 0)?,
        seal: Some(leaf(seal, 1)?),
    };
    let note = chain.checkpoint(LOG, &run).sign(key)?;
    let mut builder = BundleBuilder::new(run, records)?;
    for bytes in objects.values() {
        builder.add_object(bytes)?;
    }
    Ok(builder.finish(&key.verifier_key(), &note, log, Some(Anchor::local(START)))?)
}

/// Peak resident memory of this process in MiB, from /proc.
fn peak_rss_mib() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kib| kib / 1_024)
}

/// The child: reads, verifies, prints its part of the line.
fn verify(path: &str) -> Result<(), Failure> {
    let bytes = fs::read(path)?;
    let key = SigningKey::from_seed(LOG, &[7; 32])?.verifier_key();
    let start = Instant::now();
    let report = verify_bundle(&bytes, &Trust { keys: vec![key], ..Trust::default() });
    let seconds = start.elapsed().as_secs_f64();
    println!(
        "{}",
        json!({
            "bench": "verify",
            "entries": report.entries,
            "bytes": bytes.len(),
            "verdict": report.verdict,
            "verify_s": (seconds * 1_000.0).round() / 1_000.0,
            "entries_per_s": (report.entries as f64 / seconds).round(),
            "peak_rss_mib": peak_rss_mib(),
        })
    );
    if report.intact { Ok(()) } else { Err(report.to_json().into()) }
}

fn main() -> Result<(), Failure> {
    let mut arguments = env::args().skip(1);
    let first = arguments.next();
    if first.as_deref() == Some("--verify") {
        return verify(&arguments.next().ok_or("--verify needs a file")?);
    }
    let entries: usize = first.map_or(Ok(100_000), |text| text.parse())?;
    let key = SigningKey::from_seed(LOG, &[7; 32])?;
    let built = build(entries.saturating_sub(2) / 2)?;
    let append_ns = built.append_ns.round();
    let start = Instant::now();
    let bytes = bundle(built, &key)?;
    let build_s = (start.elapsed().as_secs_f64() * 1_000.0).round() / 1_000.0;
    let path = env::temp_dir().join(format!("pangolin-bench-verify-{}.json", std::process::id()));
    fs::write(&path, &bytes)?;
    drop(bytes);
    let output = Command::new(env::current_exe()?).arg("--verify").arg(&path).output();
    fs::remove_file(&path)?;
    let output = output?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned().into());
    }
    let mut line: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    line["append_ns"] = append_ns.into();
    line["bundle_s"] = build_s.into();
    println!("{line}");
    Ok(())
}
