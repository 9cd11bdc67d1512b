//! One plugin per language and kind, built from its scaffold with the real tools and run by the real host. Slow: the
//! interpreters of JavaScript and Python are compiled to native code each time.
//!
//! The tools are looked for in `target/tools/<language>` (`cargo xtask test` installs them) and in `PATH`. A missing one
//! skips its test loudly; with `PANGOLIN_REQUIRE_LANGS=1` it fails.

#![expect(clippy::unwrap_used, clippy::print_stderr, reason = "tests")]

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use pangolin_core::{
    ids::Digest,
    pattern::{ItemPhase, RunItem, RunView},
};
use pangolin_envelope::plugin::BlockGrant;
use pangolin_plugin_authority::Kind;
use pangolin_plugin_host::{
    AdapterTask, BLOCK_CONTRACT, BlockCall, CacheKey, Channel, Compiler, ExitInfo, Failure, HostOptions,
    MemoryWorld, OutcomeCode, PatternComponent, PluginHost,
};
use pangolin_plugin_kit::{BuildError, BuildOptions, Built, Language, Scaffold, Tools, build};
use serde_json::json;

/// A project of this test run.
struct Plugin {
    dir: PathBuf,
    built: Built,
    bytes: Vec<u8>,
}

fn target() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap().to_owned()
}

fn tools() -> Tools {
    let tools = target().join("tools");
    Tools {
        extra: vec![tools.join("js/node_modules/.bin"), tools.join("py/bin"), tools.join("c/bin")],
        path: None,
    }
}

fn options(language: Language) -> BuildOptions {
    // The SDKs' dependencies are compiled once for all projects.
    let work =
        (language == Language::Rust).then(|| Path::new(env!("CARGO_TARGET_TMPDIR")).join("plugin-kit-rust"));
    BuildOptions { tools: tools(), work, ..BuildOptions::default() }
}

fn project(language: Language, kind: Kind, name: &str) -> PathBuf {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("plugin-kit").join(name);
    fs::remove_dir_all(&dir).ok();
    Scaffold::new(name, None, kind, language).unwrap().write(&dir).unwrap();
    dir
}

/// Builds `dir`, or gives `None` when a tool is missing and that is allowed.
fn built(dir: PathBuf, options: &BuildOptions) -> Option<Plugin> {
    match build(&dir, options) {
        Ok(built) => {
            let bytes = fs::read(&built.path).unwrap();
            assert_eq!(bytes.len() as u64, built.size);
            assert!(built.inspection.foreign.is_empty(), "{:?}", built.inspection.foreign);
            assert_eq!(built.warnings, [""; 0], "{}", dir.display());
            Some(Plugin { dir, built, bytes })
        }
        Err(BuildError::Missing(missing)) if std::env::var_os("PANGOLIN_REQUIRE_LANGS").is_none() => {
            eprintln!("SKIPPED: {missing}");
            None
        }
        Err(error) => panic!("{}: {error}", dir.display()),
    }
}

fn scaffolded(language: Language, kind: Kind, name: &str) -> Option<Plugin> {
    built(project(language, kind, name), &options(language))
}

fn host(plugin: &Plugin) -> PluginHost {
    // Its own cache: an interpreter's component has other bytes each time, a shared one would only grow.
    let cache = plugin.dir.join("target/cache");
    fs::remove_dir_all(&cache).ok();
    // In this process: what was just built here is trusted, and a test binary is no compiler child.
    let options = HostOptions { compiler: Compiler::InProcess, ..HostOptions::default() };
    PluginHost::with_options(&cache, CacheKey::from_bytes([3; 32]), options).unwrap()
}

fn item(id: &str, inputs: serde_json::Value, phase: ItemPhase, state: &'static str) -> RunItem {
    let spec = json!({
        "id": id, "executor": "dispatch", "inputs": inputs, "depends_on": [], "resourceLocks": [],
    });
    RunItem {
        phase,
        state: state.into(),
        attempts: 1,
        ..RunItem::waiting(Arc::new(serde_json::from_value(spec).unwrap()), vec![])
    }
}

fn view(items: impl IntoIterator<Item = RunItem>) -> RunView {
    let mut view = RunView::default();
    view.run_id = "run-1".into();
    view.seed = 7;
    view.params_json = "{}".into();
    for item in items {
        let index = view.push(item);
        view.changed.push(index);
    }
    view
}

/// A figure for `docs/plugins/languages.md`.
fn figure(plugin: &Plugin, what: &str, value: impl std::fmt::Display) {
    let (language, kind) = (plugin.built.project.language, plugin.built.project.manifest.kind);
    eprintln!("FIGURE {language} {kind} {what}: {value}");
}

async fn check_pattern(plugin: &Plugin) {
    figure(plugin, "build ms", plugin.built.took.as_millis());
    figure(plugin, "wasm bytes", plugin.built.size);
    let host = host(plugin);
    let started = Instant::now();
    let pattern = host.load_pattern(&plugin.bytes).unwrap();
    figure(plugin, "compile ms", started.elapsed().as_millis());
    decides(&pattern).await;
    refusal_is_a_fault(&pattern).await;
    for (items, changed) in [(100, 100), (10_000, 1_000)] {
        let mut many = view((0..items).map(|index| {
            let inputs = if index % 10 == 0 { json!({"followUp": "checker"}) } else { json!({}) };
            item(&format!("item-{index}"), inputs, ItemPhase::Succeeded, "done")
        }));
        many.changed.truncate(changed);
        let many = Arc::new(many);
        let mut best = u128::MAX;
        let mut fuel = 0;
        for _ in 0..3 {
            let started = Instant::now();
            let outcome = pattern.step(&many).await.unwrap();
            best = best.min(started.elapsed().as_micros());
            assert_eq!(outcome.decisions.spawned.len(), changed / 10);
            fuel = outcome.bill.fuel;
        }
        figure(plugin, &format!("step {changed} of {items} us"), best);
        figure(plugin, &format!("step {changed} of {items} fuel"), fuel);
    }
}

async fn decides(pattern: &PatternComponent) {
    let mut run = view([
        item("write", json!({"subagent": "writer", "followUp": "checker"}), ItemPhase::Succeeded, "done"),
        item("plain", json!({"subagent": "writer"}), ItemPhase::Succeeded, "done"),
        item("broken", json!({"followUp": "checker"}), ItemPhase::Unsuccessful, "failed"),
        item("odd", json!({"followUp": "checker"}), ItemPhase::Active, "a-state-of-tomorrow"),
    ]);
    let first = pattern.step(&Arc::new(run.clone())).await.unwrap();
    let again = pattern.step(&Arc::new(run.clone())).await.unwrap();
    assert_eq!((&first.decisions, first.bill.fuel), (&again.decisions, again.bill.fuel));
    let [added] = &first.decisions.spawned[..] else { panic!("{:?}", first.decisions) };
    assert_eq!(added.id.as_str(), "after-write");
    assert_eq!(added.item["executor"], "dispatch");
    assert_eq!(added.item["inputs"], json!({"subagent": "checker"}));
    assert_eq!(added.item["depends_on"], json!(["write"]));
    let [why] = &first.decisions.explanations[..] else { panic!("{:?}", first.decisions) };
    assert!(why.item == "after-write" && why.why.starts_with("write is done"), "{why:?}");
    // Another seed, same answer; the item is there, no second one.
    run.seed = 8;
    assert_eq!(pattern.step(&Arc::new(run.clone())).await.unwrap().decisions, first.decisions);
    run.push(item("after-write", json!({"subagent": "checker"}), ItemPhase::Waiting, "ready"));
    assert_eq!(pattern.step(&Arc::new(run)).await.unwrap().decisions.spawned, []);
}

async fn refusal_is_a_fault(pattern: &PatternComponent) {
    // An id has at most 128 bytes, and this one gets longer.
    let run = view([item(&"x".repeat(125), json!({"followUp": "checker"}), ItemPhase::Succeeded, "done")]);
    let error = pattern.step(&Arc::new(run)).await.unwrap_err();
    let Failure::Fault { code, message, .. } = &error.failure else { panic!("{error}") };
    assert!(code == "refused" && message.contains("spawn"), "{code}: {message}");
}

async fn check_adapter(plugin: &Plugin, reads_lines: bool) {
    let host = host(plugin);
    let adapter = host.load_adapter(&plugin.bytes).unwrap();
    let task = AdapterTask {
        adapter: "local/agent".into(),
        prompt: "fix älpha.ts".into(),
        model: Some("model-1".into()),
        workspace: "/workspace".into(),
        timeout_seconds: 60,
        input_json: "{}".into(),
        ..AdapterTask::default()
    };
    let plan = adapter.prepare(&task).await.unwrap();
    assert_eq!(plan.program, "fake-agent");
    assert_eq!(plan.args, ["--output", "jsonl", "--model", "model-1"]);
    assert_eq!(plan.stdin, "fix älpha.ts");
    let transcript = concat!(
        "{\"type\":\"session\",\"id\":\"s-ä\"}\n",
        "not json\n{\"type\":\"unheard of\"}\n{\"type\":\"text\",\"text\":\"\\ud800 done\"}\n",
        "{\"type\":\"usage\",\"model\":\"model-1\",\"input\":120,\"output\":30,\"turns\":2,\"cost_usd\":0.0015}\n",
        "{\"type\":\"usage\",\"input\":-1,\"output\":1e300,\"turns\":null}",
    );
    let exit = ExitInfo { code: Some(0), ..ExitInfo::default() };
    // Bytes of any kind, cut anywhere, must give the same answer.
    let whole = adapter.read_chunks(&task, [(Channel::Out, transcript.as_bytes())], exit).await;
    let single = transcript.as_bytes().chunks(1).map(|chunk| (Channel::Out, chunk));
    let cut = adapter.read_chunks(&task, single.collect::<Vec<_>>(), exit).await;
    assert_eq!(whole.fault, None);
    assert_eq!(whole, cut);
    assert_eq!(whole.outcome.code, OutcomeCode::Completed);
    if reads_lines {
        assert_eq!(whole.session_id.as_deref(), Some("s-ä"));
        assert_eq!(whole.models, ["model-1"]);
        assert_eq!(whole.cost_microusd, Some(1_500));
        assert_eq!(
            (whole.counters["input"], whole.counters["output"], whole.counters["turns"]),
            (120, 30, 2)
        );
    }
    let noise = [0xff, 0xfe, b'{', b'"', 0xc3, b'\n', 0x00, b'{'];
    let failed = ExitInfo { code: Some(3), ..ExitInfo::default() };
    let chunks = [(Channel::Out, &noise[..]), (Channel::Err, &noise[..]), (Channel::Err, b"no such model")];
    let report = adapter.read_chunks(&task, chunks, failed).await;
    assert_eq!(report.fault, None);
    assert_eq!(report.outcome.code, OutcomeCode::AgentFailed);
    let killed = ExitInfo { signal: Some(9), ..ExitInfo::default() };
    assert_eq!(adapter.read_chunks(&task, [], killed).await.outcome.code, OutcomeCode::Killed);
}

/// `reads`: whether it understands JSON (an adapter's transcript, a block's parameters).
async fn check(plugin: Option<Plugin>, reads: bool) {
    let Some(plugin) = plugin else { return };
    match plugin.built.project.manifest.kind {
        Kind::Pattern => check_pattern(&plugin).await,
        Kind::RuntimeAdapter => check_adapter(&plugin, reads).await,
        Kind::Block => check_block(&plugin, reads).await,
    }
}

async fn check_block(plugin: &Plugin, has_params: bool) {
    let block = host(plugin).load_block(&plugin.bytes).unwrap();
    let call = |params: serde_json::Value, read: &[&str]| BlockCall {
        id: "check".into(),
        contract: BLOCK_CONTRACT.into(),
        engine: "test".into(),
        grant: BlockGrant { read: read.iter().map(|path| (*path).into()).collect(), ..BlockGrant::default() },
        fingerprint: Digest::of(b"grant"),
        params,
        position: 0,
        lens: "gate".into(),
        attrs: BTreeMap::new(),
        timeout: Duration::from_secs(20),
    };
    // More than one page; the large one is the last.
    let small = (0..600).map(|index| (format!("workspace/{index:03}.txt"), vec![b'x'; 10]));
    let large = ("workspace/z-large.bin".to_owned(), vec![0; 1_500_000]);
    let green = MemoryWorld::with_files(small.clone());
    let red = MemoryWorld::with_files(small.chain([large]));
    let all = ["workspace/**"];
    let (evidence, _) = block.run(green.clone(), &call(json!({}), &all)).await;
    assert_eq!(evidence.failure, None);
    assert!(evidence.verdict.unwrap().passed);
    let (evidence, _) = block.run(red.clone(), &call(json!({}), &all)).await;
    assert_eq!(evidence.failure, None);
    assert!(!evidence.verdict.unwrap().passed);
    assert!(evidence.evidence.keys().any(|key| key == "large-files"), "{:?}", evidence.evidence);
    if has_params {
        let (evidence, _) = block.run(red.clone(), &call(json!({"maxBytes": 2_000_000}), &all)).await;
        assert!(evidence.verdict.unwrap().passed);
        let (evidence, _) = block.run(green.clone(), &call(json!({"maxBytes": "many"}), &all)).await;
        let failure = evidence.failure.unwrap();
        assert!(failure.message.contains("/params/maxBytes"), "{failure:?}");
    }
    // Nothing granted: nothing seen, and no trap.
    let (evidence, _) = block.run(red, &call(json!({}), &[])).await;
    match (&evidence.verdict, &evidence.failure) {
        (Some(verdict), None) => assert!(verdict.passed),
        (None, Some(failure)) => assert_eq!(failure.code, "fault", "{failure:?}"),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn rust_pattern() {
    check(scaffolded(Language::Rust, Kind::Pattern, "rust-pattern"), true).await;
}

#[tokio::test]
async fn rust_adapter() {
    check(scaffolded(Language::Rust, Kind::RuntimeAdapter, "rust-adapter"), true).await;
}

#[test]
fn rust_is_reproducible() {
    let dir = project(Language::Rust, Kind::RuntimeAdapter, "rust-reproducible");
    let options = BuildOptions { check_reproducible: true, ..options(Language::Rust) };
    assert_eq!(built(dir, &options).unwrap().built.reproduced, Some(true));
}

#[test]
fn c_is_reproducible() {
    let dir = project(Language::C, Kind::Pattern, "c-reproducible");
    let options = BuildOptions { check_reproducible: true, ..options(Language::C) };
    let Some(plugin) = built(dir, &options) else { return };
    assert_eq!(plugin.built.reproduced, Some(true));
}

#[test]
fn what_depends_on_its_directory_is_not_reproducible() {
    let dir = project(Language::C, Kind::Block, "c-not-reproducible");
    let source = fs::read_to_string(dir.join("src/plugin.c")).unwrap();
    // What a careless build would do: something of this machine gets into the component.
    let here = format!("\"no file is too large {}\"", dir.display());
    fs::write(dir.join("src/plugin.c"), source.replace("\"no file is too large\"", "WHERE")).unwrap();
    fs::write(dir.join("src/where.h"), format!("#define WHERE {here}\n")).unwrap();
    let source = fs::read_to_string(dir.join("src/plugin.c")).unwrap();
    let link = dir.join("src/generated.h");
    fs::write(dir.join("src/plugin.c"), format!("#include \"generated.h\"\n{source}")).unwrap();
    // A file outside of the sources decides, and the copy does not see it.
    fs::create_dir_all(dir.join("target")).unwrap();
    fs::rename(dir.join("src/where.h"), dir.join("target/where.h")).unwrap();
    fs::write(
        link,
        "#if __has_include(\"../target/where.h\")\n#include \"../target/where.h\"\n#else\n#define WHERE \"elsewhere\"\n#endif\n",
    )
    .unwrap();
    let options = BuildOptions { check_reproducible: true, ..options(Language::C) };
    match build(&dir, &options) {
        Err(BuildError::NotReproducible { first, second }) => assert_ne!(first, second),
        Err(BuildError::Missing(missing)) if std::env::var_os("PANGOLIN_REQUIRE_LANGS").is_none() => {
            eprintln!("SKIPPED: {missing}");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn interpreters_cannot_be_asked_for_equal_bytes() {
    for (language, name) in [(Language::JavaScript, "js-never"), (Language::Python, "py-never")] {
        let dir = project(language, Kind::Pattern, name);
        let options = BuildOptions { check_reproducible: true, ..options(language) };
        let error = build(&dir, &options).unwrap_err();
        assert!(matches!(error, BuildError::NeverReproducible(found) if found == language), "{error}");
    }
}

#[test]
fn a_missing_tool_is_named_with_its_install_command() {
    for (language, words) in [
        (Language::Rust, ["cargo", "rustup"]),
        (Language::JavaScript, ["node", "apt install nodejs"]),
        (Language::Python, ["componentize-py", "pip install componentize-py=="]),
        (Language::C, ["clang", "pip install ziglang"]),
    ] {
        let dir = project(language, Kind::Block, &format!("{language}-missing"));
        let tools = Tools { extra: Vec::new(), path: Some("/nowhere".into()) };
        let error = build(&dir, &BuildOptions { tools, ..BuildOptions::default() }).unwrap_err();
        assert!(matches!(error, BuildError::Missing(_)), "{error}");
        for word in words {
            assert!(error.to_string().contains(word), "{language}: {error}");
        }
    }
}

#[test]
fn a_component_that_is_not_what_its_manifest_says_is_not_written() {
    let dir = project(Language::C, Kind::Block, "c-mismatch");
    let manifest = fs::read_to_string(dir.join("pangolin-plugin.toml")).unwrap();
    fs::write(dir.join("pangolin-plugin.toml"), manifest.replace("kind = \"block\"", "kind = \"pattern\""))
        .unwrap();
    match build(&dir, &options(Language::C)) {
        Err(BuildError::Missing(missing)) if std::env::var_os("PANGOLIN_REQUIRE_LANGS").is_none() => {
            eprintln!("SKIPPED: {missing}");
        }
        Err(BuildError::Mismatch(found)) => assert!(found[0].to_string().contains("pattern"), "{found:?}"),
        other => panic!("{other:?}"),
    }
    assert!(!dir.join("c-mismatch.wasm").exists());
}

#[test]
fn a_compiler_error_is_shown() {
    let dir = project(Language::C, Kind::Block, "c-broken");
    fs::write(dir.join("src/plugin.c"), "int main(void) { return nonsense; }\n").unwrap();
    match build(&dir, &options(Language::C)) {
        Err(BuildError::Missing(missing)) if std::env::var_os("PANGOLIN_REQUIRE_LANGS").is_none() => {
            eprintln!("SKIPPED: {missing}");
        }
        Err(BuildError::Tool { what, log }) => {
            assert!(what.contains("plugin.c") && log.contains("nonsense"), "{what}: {log}")
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn rust_block() {
    check(scaffolded(Language::Rust, Kind::Block, "rust-block"), true).await;
}

#[tokio::test]
async fn c_pattern() {
    check(scaffolded(Language::C, Kind::Pattern, "c-pattern"), true).await;
}

#[tokio::test]
async fn c_adapter() {
    check(scaffolded(Language::C, Kind::RuntimeAdapter, "c-adapter"), false).await;
}

#[tokio::test]
async fn c_block() {
    check(scaffolded(Language::C, Kind::Block, "c-block"), false).await;
}

#[tokio::test]
async fn js_pattern() {
    check(scaffolded(Language::JavaScript, Kind::Pattern, "js-pattern"), true).await;
}

#[tokio::test]
async fn js_adapter() {
    check(scaffolded(Language::JavaScript, Kind::RuntimeAdapter, "js-adapter"), true).await;
}

#[tokio::test]
async fn js_block() {
    check(scaffolded(Language::JavaScript, Kind::Block, "js-block"), true).await;
}

#[tokio::test]
async fn py_pattern() {
    check(scaffolded(Language::Python, Kind::Pattern, "py-pattern"), true).await;
}

#[tokio::test]
async fn py_adapter() {
    check(scaffolded(Language::Python, Kind::RuntimeAdapter, "py-adapter"), true).await;
}

#[tokio::test]
async fn py_block() {
    check(scaffolded(Language::Python, Kind::Block, "py-block"), true).await;
}
