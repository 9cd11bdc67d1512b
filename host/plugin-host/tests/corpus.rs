//! Plugins that were compiled once and are kept: all of them link and run on every build.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

mod support;

use std::{
    collections::BTreeMap,
    fs,
    io::{BufReader, Read as _},
    path::{Path, PathBuf},
    sync::Arc,
};

use pangolin_core::{
    ids::Digest,
    pattern::{Decisions, ItemPhase, RunItem, RunView},
};
use pangolin_envelope::plugin::BlockGrant;
use pangolin_plugin_host::{
    BLOCK_CONTRACT, BlockCall, Channel, ExitInfo, MemoryWorld, OutcomeCode, PluginHost, Profile, engine_name,
};

fn corpus() -> PathBuf {
    support::repository().join("tests/corpus/plugins")
}

/// What is kept, `<contract>/<version>-<language>-<name>.wasm`, with its bytes: of one language, or of all.
/// `archives/<language>-<number>.tar.xz` hold what is large.
fn files(language: Option<&str>) -> BTreeMap<String, Vec<u8>> {
    let wanted = |name: &str| language.is_none_or(|language| name.split('-').nth(1) == Some(language));
    let mut files = BTreeMap::new();
    for folder in fs::read_dir(corpus()).unwrap() {
        let folder = folder.unwrap().path();
        if !folder.is_dir() {
            continue;
        }
        let is_archives = folder.ends_with("archives");
        for file in fs::read_dir(&folder).unwrap() {
            let path = file.unwrap().path();
            let file = path.file_name().unwrap().to_str().unwrap();
            if is_archives {
                if language.is_none_or(|language| file.starts_with(&format!("{language}-"))) {
                    let unpacked = unpack(&path);
                    assert!(
                        unpacked.keys().all(|name| !files.contains_key(name)),
                        "{file} holds a kept name"
                    );
                    files.extend(unpacked);
                }
            } else if wanted(file) {
                let name = path.strip_prefix(corpus()).unwrap().to_str().unwrap().to_owned();
                files.insert(name, fs::read(&path).unwrap());
            }
        }
    }
    files
}

fn unpack(path: &Path) -> BTreeMap<String, Vec<u8>> {
    let packed = BufReader::new(fs::File::open(path).unwrap());
    let mut files = BTreeMap::new();
    for entry in tar::Archive::new(lzma_rust2::XzReader::new(packed, false)).entries().unwrap() {
        let mut entry = entry.unwrap();
        let name = entry.path().unwrap().to_str().unwrap().to_owned();
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).unwrap();
        files.insert(name, bytes);
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
        files(None).into_iter().map(|(name, bytes)| (name, Digest::of(&bytes).hex())).collect();
    assert_eq!(found, listed, "tests/corpus/README.md says what removing a file means");
    // What was there when the first contracts were released stays.
    for name in [
        "block/1.0.0-rust-minimal.wasm",
        "pattern/1.0.0-rust-hostile.wasm",
        "pattern/1.0.0-rust-static-dag.wasm",
        "pattern/1.1.0-rust-columns.wasm",
        "pattern/1.1.0-rust-follow-up.wasm",
        "runtime-adapter/1.0.0-rust-command.wasm",
    ] {
        assert!(listed.contains_key(name), "{name} is gone");
    }
    for language in ["c", "js", "py"] {
        for name in [
            "block/1.0.0-#-large-files",
            "pattern/1.0.0-#-follow-up",
            "pattern/1.1.0-#-follow-up",
            "runtime-adapter/1.0.0-#-fake-agent",
        ] {
            let name = format!("{}.wasm", name.replace('#', language));
            assert!(listed.contains_key(&name), "{name} is gone");
        }
    }
}

/// Loads and runs everything of one language. Each language is a test of its own: the interpreters take long to compile
/// the first time on a machine.
async fn links_and_runs(language: &str, at_least: usize) {
    let host = match language {
        "js" | "py" => support::shared_host_in_process(),
        _ => support::shared_host(),
    };
    let files = files(Some(language));
    assert!(files.len() >= at_least, "{:?}", files.keys());
    for (name, bytes) in files {
        let (contract, file) = name.split_once('/').unwrap();
        let plugin = file.trim_end_matches(".wasm").splitn(3, '-').nth(2).unwrap();
        match (contract, plugin) {
            ("pattern", "follow-up") => run_follow_up(&host, &name, &bytes).await,
            ("pattern", "columns") => run_columns(&host, &name, &bytes).await,
            ("pattern", _) => {
                let pattern = host.load_pattern(&bytes).unwrap_or_else(|error| panic!("{name}: {error}"));
                let decisions = pattern.step(&Arc::new(RunView::default())).await.unwrap().decisions;
                assert_eq!(decisions, Decisions::default(), "{name}");
            }
            ("runtime-adapter", "fake-agent") => run_fake_agent(&host, &name, &bytes).await,
            ("runtime-adapter", "command") => run_command(&host, &name, &bytes).await,
            ("block", "minimal") => run_minimal(&host, &name, &bytes).await,
            ("block", "large-files") => run_large_files(&host, &name, &bytes).await,
            _ => panic!("{name}: say in this test what it must do"),
        }
    }
}

#[tokio::test]
async fn every_kept_rust_plugin_links_and_runs() {
    links_and_runs("rust", 6).await;
}

#[tokio::test]
async fn every_kept_c_plugin_links_and_runs() {
    links_and_runs("c", 4).await;
}

#[tokio::test]
async fn every_kept_javascript_plugin_links_and_runs() {
    links_and_runs("js", 4).await;
}

#[tokio::test]
async fn every_kept_python_plugin_links_and_runs() {
    links_and_runs("py", 4).await;
}

/// An item that is done and names a subagent for what follows gets one more item.
async fn run_follow_up(host: &PluginHost, name: &str, bytes: &[u8]) {
    let pattern = host.load_pattern(bytes).unwrap_or_else(|error| panic!("{name}: {error}"));
    let mut view = RunView::default();
    view.params_json = "{}".into();
    for (id, phase, state) in
        [("write", ItemPhase::Succeeded, "done"), ("broken", ItemPhase::Unsuccessful, "failed")]
    {
        let spec = serde_json::json!({
            "id": id, "executor": "dispatch", "inputs": {"subagent": "writer", "followUp": "checker"},
            "depends_on": [], "resourceLocks": [],
        });
        let item = RunItem::waiting(Arc::new(serde_json::from_value(spec).unwrap()), vec![]);
        let index = view.push(RunItem { phase, state: state.into(), attempts: 1, ..item });
        view.changed.push(index);
    }
    let decisions =
        pattern.step(&Arc::new(view)).await.unwrap_or_else(|error| panic!("{name}: {error}")).decisions;
    let [added] = &decisions.spawned[..] else { panic!("{name}: {decisions:?}") };
    assert_eq!(added.id.as_str(), "after-write", "{name}");
    assert_eq!(added.item["inputs"], serde_json::json!({"subagent": "checker"}), "{name}");
    assert_eq!(added.item["depends_on"], serde_json::json!(["write"]), "{name}");
    assert_eq!(decisions.explanations[0].item, "after-write", "{name}");
}

/// Everything that contract 1.1.0 says of many items at once is what it says of each; the plugin compares.
async fn run_columns(host: &PluginHost, name: &str, bytes: &[u8]) {
    let pattern = host.load_pattern(bytes).unwrap_or_else(|error| panic!("{name}: {error}"));
    let mut view = RunView::default();
    for (id, outputs) in [("first", vec![]), ("zweites-ö", vec![]), ("last", vec!["a", "ü/b"])] {
        let spec = serde_json::json!({
            "id": id.replace('ö', "o"), "executor": "dispatch", "inputs": { "note": id }, "depends_on": [],
            "resourceLocks": [],
        });
        let item = RunItem::waiting(Arc::new(serde_json::from_value(spec).unwrap()), vec![]);
        let output_keys = Arc::new(outputs.into_iter().map(str::to_owned).collect());
        let attrs = BTreeMap::from([("failure-message".to_owned(), format!("warum {id}"))]);
        view.push(RunItem { output_keys, attrs, ..item });
    }
    let decisions = pattern.step(&Arc::new(view.clone())).await.unwrap().decisions;
    // It looks from the first item, and twice from the second.
    assert_eq!(decisions.explanations[0].why, "3 items, 6 outputs", "{name}");
    view.params_json = "unequal".into();
    assert_eq!(pattern.step(&Arc::new(view)).await.unwrap_err().code(), "guest-abort", "{name}");
}

/// Arguments, the task on standard input, and an outcome from the exit.
async fn run_fake_agent(host: &PluginHost, name: &str, bytes: &[u8]) {
    let adapter = host.load_adapter(bytes).unwrap_or_else(|error| panic!("{name}: {error}"));
    let task = support::task("kept", &[("params", "{}")]);
    let plan = adapter.prepare(&task).await.unwrap_or_else(|error| panic!("{name}: {error}"));
    assert_eq!((plan.program.as_str(), plan.stdin.as_str()), ("fake-agent", "fix it"), "{name}");
    assert_eq!(plan.args, ["--output", "jsonl"], "{name}");
    let lines = b"{\"type\":\"session\",\"id\":\"s-1\"}\n{\"type\":\"usage\",\"input\":120}\nno json\n";
    // Chunks end anywhere.
    for (code, outcome) in [(0, OutcomeCode::Completed), (3, OutcomeCode::AgentFailed)] {
        let chunks: Vec<(Channel, &[u8])> = lines.chunks(7).map(|chunk| (Channel::Out, chunk)).collect();
        let exit = ExitInfo { code: Some(code), ..ExitInfo::default() };
        let report = adapter.read_chunks(&task, chunks, exit).await;
        assert!(report.fault.is_none(), "{name}: {:?}", report.fault);
        assert_eq!(report.outcome.code, outcome, "{name}");
        // The one in C does not look into standard output.
        if !name.contains("-c-") {
            assert_eq!(report.session_id.as_deref(), Some("s-1"), "{name}");
            assert_eq!(report.counters["input"], 120, "{name}");
        }
    }
}

async fn run_command(host: &PluginHost, name: &str, bytes: &[u8]) {
    let adapter = host.load_adapter(bytes).unwrap_or_else(|error| panic!("{name}: {error}"));
    let task = support::task("kept", &[("params", r#"{"argv":["true","{input.file}"]}"#)]);
    let plan = adapter.prepare(&task).await.unwrap();
    assert_eq!(plan.program, "true", "{name}");
    let chunks: [(Channel, &[u8]); 1] = [(Channel::Out, b"done\n")];
    let exit = ExitInfo { code: Some(0), ..ExitInfo::default() };
    let report = adapter.read_chunks(&task, chunks, exit).await;
    assert!(report.fault.is_none(), "{name}: {:?}", report.fault);
}

fn call(grant: BlockGrant) -> BlockCall {
    BlockCall {
        id: "kept".into(),
        contract: BLOCK_CONTRACT.into(),
        engine: engine_name(Profile::Effect),
        grant,
        fingerprint: Digest::of(b"grant"),
        params: serde_json::json!({}),
        position: 1,
        lens: "gate".into(),
        attrs: BTreeMap::new(),
        timeout: std::time::Duration::from_secs(60),
    }
}

/// Red when one file is larger than a million bytes.
async fn run_large_files(host: &PluginHost, name: &str, bytes: &[u8]) {
    let block = host.load_block(bytes).unwrap_or_else(|error| panic!("{name}: {error}"));
    let call = call(BlockGrant { read: vec!["workspace/**".into()], ..BlockGrant::default() });
    let small = ("workspace/a.txt", vec![b'x'; 10]);
    let large = ("workspace/z.bin", vec![0; 1_500_000]);
    for (files, passed) in [(vec![small.clone()], true), (vec![small, large], false)] {
        let (evidence, _) = block.run(MemoryWorld::with_files(files), &call).await;
        assert!(evidence.failure.is_none(), "{name}: {:?}", evidence.failure);
        assert_eq!(evidence.verdict.unwrap_or_else(|| panic!("{name}: no verdict")).passed, passed, "{name}");
        let found = &evidence.evidence["large-files"];
        // The one in Rust has the number beside the list.
        let total = evidence.evidence.get("total").unwrap_or(&found["total"]);
        assert_eq!(*total, u32::from(!passed), "{name}: {found}");
    }
}

/// A minimal block reads two files and is green.
async fn run_minimal(host: &PluginHost, name: &str, bytes: &[u8]) {
    let block = host.load_block(bytes).unwrap_or_else(|error| panic!("{name}: {error}"));
    let world = MemoryWorld::with_files([("workspace/a.txt", "one"), ("workspace/b/c.txt", "three")]);
    let grant = BlockGrant {
        read: vec!["workspace/**".into()],
        write: vec!["summary.txt".into()],
        ..BlockGrant::default()
    };
    let call = call(grant);
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
