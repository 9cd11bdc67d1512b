//! Plugins that were compiled once and are kept: all of them link and run on every build.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

mod support;

use std::{collections::BTreeMap, fs, path::PathBuf, sync::Arc};

use pangolin_core::{
    ids::Digest,
    pattern::{Decisions, RunView},
};
use pangolin_envelope::plugin::BlockGrant;
use pangolin_plugin_host::{
    BLOCK_CONTRACT, BlockCall, Channel, ExitInfo, MemoryWorld, PluginHost, Profile, engine_name,
};

fn corpus() -> PathBuf {
    support::repository().join("tests/corpus/plugins")
}

/// Files below the corpus, `<contract>/<version>-<language>-<name>.wasm`, with their bytes.
fn files() -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    for contract in fs::read_dir(corpus()).unwrap() {
        let contract = contract.unwrap().path();
        if !contract.is_dir() {
            continue;
        }
        for file in fs::read_dir(&contract).unwrap() {
            let path = file.unwrap().path();
            let name = path.strip_prefix(corpus()).unwrap().to_str().unwrap().to_owned();
            files.insert(name, fs::read(&path).unwrap());
        }
    }
    files
}

#[test]
fn nothing_was_lost_or_changed() {
    let listed: BTreeMap<String, String> = fs::read_to_string(corpus().join("digests.txt"))
        .unwrap()
        .lines()
        .map(|line| {
            let (digest, name) = line.split_once("  ").unwrap();
            (name.to_owned(), digest.to_owned())
        })
        .collect();
    let found: BTreeMap<String, String> =
        files().into_iter().map(|(name, bytes)| (name, Digest::of(&bytes).hex())).collect();
    assert_eq!(found, listed, "tests/corpus/README.md says what removing a file means");
    // What was there when the first contracts were released stays.
    for name in [
        "block/1.0.0-rust-minimal.wasm",
        "pattern/1.0.0-rust-hostile.wasm",
        "pattern/1.0.0-rust-static-dag.wasm",
        "runtime-adapter/1.0.0-rust-command.wasm",
    ] {
        assert!(listed.contains_key(name), "{name} is gone");
    }
}

#[tokio::test]
async fn every_kept_plugin_links_and_runs() {
    let host = support::shared_host();
    for (name, bytes) in files() {
        let (contract, rest) = name.split_once('/').unwrap();
        match contract {
            "pattern" => {
                let pattern = host.load_pattern(&bytes).unwrap_or_else(|error| panic!("{name}: {error}"));
                let decisions = pattern.step(&Arc::new(RunView::default())).await.unwrap().decisions;
                assert_eq!(decisions, Decisions::default(), "{name}");
            }
            "runtime-adapter" => {
                let adapter = host.load_adapter(&bytes).unwrap_or_else(|error| panic!("{name}: {error}"));
                let task = support::task("kept", &[("params", r#"{"argv":["true","{input.file}"]}"#)]);
                let plan = adapter.prepare(&task).await.unwrap();
                assert_eq!(plan.program, "true", "{name}");
                let chunks: [(Channel, &[u8]); 1] = [(Channel::Out, b"done\n")];
                let exit = ExitInfo { code: Some(0), ..ExitInfo::default() };
                let report = adapter.read_chunks(&task, chunks, exit).await;
                assert!(report.fault.is_none(), "{name}: {:?}", report.fault);
            }
            "block" => run_block(&host, &name, &bytes).await,
            _ => panic!("{name}: a contract that this test does not know; rest {rest}"),
        }
    }
}

/// A minimal block reads two files and is green.
async fn run_block(host: &PluginHost, name: &str, bytes: &[u8]) {
    let block = host.load_block(bytes).unwrap_or_else(|error| panic!("{name}: {error}"));
    let world = MemoryWorld::with_files([("workspace/a.txt", "one"), ("workspace/b/c.txt", "three")]);
    let grant = BlockGrant {
        read: vec!["workspace/**".into()],
        write: vec!["summary.txt".into()],
        ..BlockGrant::default()
    };
    let call = BlockCall {
        id: "kept".into(),
        contract: BLOCK_CONTRACT.into(),
        engine: engine_name(Profile::Effect),
        grant,
        fingerprint: Digest::of(b"grant"),
        params: serde_json::json!({}),
        position: 1,
        lens: "gate".into(),
        attrs: BTreeMap::new(),
        timeout: std::time::Duration::from_secs(20),
    };
    let (evidence, world) = block.run(world, &call).await;
    assert!(evidence.failure.is_none(), "{name}: {:?}", evidence.failure);
    let verdict = evidence.verdict.unwrap_or_else(|| panic!("{name}: no verdict"));
    assert!(verdict.passed, "{name}");
    assert_eq!(world.artifacts["summary.txt"], b"2 files, 8 bytes", "{name}");
    assert_eq!(evidence.evidence["seen"]["position"], 1, "{name}");
}

#[tokio::test]
async fn an_old_pattern_still_uses_every_call_it_knows() {
    let bytes = fs::read(corpus().join("pattern/1.0.0-rust-hostile.wasm")).unwrap();
    let pattern = support::shared_host().load_pattern(&bytes).unwrap();
    let step = async |params: &str| {
        let mut view = RunView::default();
        view.params_json = params.to_owned();
        pattern.step(&Arc::new(view)).await.unwrap().decisions
    };
    let spawned = step("spawn 2").await;
    assert_eq!(spawned.spawned.len(), 2);
    assert!(spawned.close);
    assert_eq!(spawned.explanations[1].item, "item-1");
    let refused = step("refusals").await;
    assert_eq!((refused.spawned.len(), refused.explanations.len()), (0, 3));
    assert_eq!(step("count 7").await.explanations[0].why, "0 0 0");
}
