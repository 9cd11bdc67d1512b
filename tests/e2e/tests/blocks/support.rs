//! The scripted block, approved in a deployment, and what a run recorded of it.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
    thread,
    time::{Duration, Instant},
};

use pangolin_e2e::{
    DEADLINE,
    output::Output,
    root,
    world::{World, item},
};
use pangolin_plugin_authority::{Manifest, embed};
use serde_json::{Value, json};

/// Id of the scripted block.
pub(crate) const PROBE: &str = "acme/probe";

/// Id of the adapter of a third party.
pub(crate) const ADAPTER: &str = "acme/shell";

/// `dispatch` is the sandbox. `open` confines nothing: its agents can wait for the test, and reach their own envelope.
const CONFIG: &str = "namespace = \"e2e\"
[workspace]
repo = \"repo\"
[queues.default]
concurrency = 4
[executors.dispatch]
backend = \"process\"
isolation = \"sandbox\"
grace_seconds = 2
[executors.open]
backend = \"process\"
isolation = \"none\"
network = \"host\"
grace_seconds = 2
[retry]
max_attempts = 2
base_ms = 50
cap_ms = 100
timeout_seconds = 60
";

/// Everything that the tests let it have at most.
const NEEDS: &str = r#"
exec = [{ program = "/bin/sh", args = ["-c", "*"], why = "is told to" }]
net = [{ host = "api.acme.dev", methods = ["GET"], why = "is told to" }]
secret = [{ name = "TOKEN", place = "env:TOKEN", to = "/bin/sh", why = "is told to" }]
read = [{ path = "workspace/**", why = "is told to" }, { path = "changes.json", why = "is told to" }]
write = [{ path = "reports/**", why = "is told to" }]
"#;

/// A grant that lets it read and report.
pub(crate) const REPORTER: &str = "read = ['workspace/**', 'changes.json']\nwrite = ['reports/**']";

/// A grant of everything that it asks for.
pub(crate) const EVERYTHING: &str = "read = ['workspace/**', 'changes.json']\nwrite = ['reports/**']
exec = [{ program = '/bin/sh', args = ['-c', '*'] }]
net = [{ host = 'api.acme.dev', methods = ['GET'] }]
secret = [{ name = 'TOKEN', place = 'env:TOKEN', to = '/bin/sh' }]";

/// Cargo without what the outer one told this test.
fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy().into_owned();
        let of_outer = name.starts_with("CARGO_") || name.starts_with("RUSTC") || name == "RUSTFLAGS";
        if of_outer && !matches!(name.as_str(), "CARGO_HOME") {
            command.env_remove(name);
        }
    }
    command
}

/// A guest of this repository, built.
fn built(package: &str) -> Vec<u8> {
    let plugins = root().join("plugins");
    let status = cargo()
        .args(["build", "--quiet", "--release", "--locked", "--target", "wasm32-wasip2"])
        .args(["--target-dir", "target/guests", "-p", package])
        .current_dir(&plugins)
        .status();
    assert!(status.is_ok_and(|status| status.success()), "{package} does not build");
    let file = format!("target/guests/wasm32-wasip2/release/{}.wasm", package.replace('-', "_"));
    fs::read(plugins.join(file)).expect("component")
}

fn bare() -> &'static [u8] {
    static BARE: OnceLock<Vec<u8>> = OnceLock::new();
    BARE.get_or_init(|| built("pangolin-test-block"))
}

/// The component. Another version is another digest.
pub(crate) fn component(version: &str) -> Vec<u8> {
    let text = format!(
        "[plugin]\nid = '{PROBE}'\nkind = 'block'\ncontract = '^1.0'\nversion = '{version}'\n\
         [limits]\nmemory = '16MiB'\nwall = '1s'\n[needs]\n{NEEDS}"
    );
    embed(bare(), &Manifest::from_toml(&text).expect("manifest")).expect("component")
}

/// An adapter of a third party that runs commands. Another version is another digest.
pub(crate) fn adapter(version: &str) -> Vec<u8> {
    static BARE: OnceLock<Vec<u8>> = OnceLock::new();
    let bare = BARE.get_or_init(|| built("pangolin-adapter-command"));
    let text = format!(
        "[plugin]\nid = '{ADAPTER}'\nkind = 'runtime-adapter'\ncontract = '^1.0'\nversion = '{version}'\n"
    );
    embed(bare, &Manifest::from_toml(&text).expect("manifest")).expect("component")
}

/// Approves a version of the adapter.
pub(crate) fn approve_adapter(world: &World, version: &str) {
    world.write("adapter.wasm", adapter(version));
    world.run(&["plugin", "add", "adapter.wasm", "--yes", "--approver", "human:t"]).ok();
}

/// Registers an agent that runs a shell script by that adapter.
pub(crate) fn adapted(world: &World, name: &str, script: &str) {
    let argv = format!("argv={}", json!(["sh", "-c", script]));
    world.run(&["subagent", "register", "--name", name, "--adapter", ADAPTER, "--param", &argv]).ok();
}

/// A deployment without the scripted block.
pub(crate) fn world() -> World {
    let world = World::new();
    world.write("pangolin.toml", CONFIG);
    world
}

/// Writes what the project grants.
pub(crate) fn grant(world: &World, rules: &str) {
    world.write("pangolin.toml", format!("{CONFIG}\n[plugins.\"{PROBE}\".grant]\n{rules}\n"));
}

/// Approves a component as it is granted now.
pub(crate) fn approve(world: &World, version: &str) {
    world.write("probe.wasm", component(version));
    world.run(&["plugin", "add", "probe.wasm", "--yes", "--approver", "human:t"]).ok();
}

/// A deployment with the scripted block, granted and approved.
pub(crate) fn with_probe(rules: &str) -> World {
    let world = world();
    grant(&world, rules);
    approve(&world, "1.0.0");
    world
}

/// One step of a pipeline with the scripted block.
pub(crate) fn step(steps: &Value) -> Value {
    json!({ "kind": "plugin", "plugin": PROBE, "params": { "steps": steps, "verdict": true } })
}

/// Registers a pipeline: the agent, these blocks, and what they leave.
pub(crate) fn pipeline(world: &World, name: &str, blocks: &[Value]) {
    let captures =
        [json!({ "kind": "capture", "what": "patch" }), json!({ "kind": "capture", "what": "outputs" })];
    let all: Vec<Value> =
        std::iter::once(&json!({ "kind": "agent" })).chain(blocks).chain(&captures).cloned().collect();
    let text = json!({ "schemaVersion": 1, "id": format!("t.{name}"), "blocks": all }).to_string();
    let path = world.write(&format!("{name}.pipeline.json"), text);
    world.run(&["pipeline", "register", &path.to_string_lossy()]).ok();
}

/// An item of [`plan`].
pub(crate) fn planned(id: &str, agent: &str, pipeline: &str) -> Value {
    json!({ "id": id, "executor": "dispatch", "depends_on": [], "resourceLocks": [],
        "inputs": { "subagent": agent, "pipeline": format!("t.{pipeline}") } })
}

/// Writes a plan.
pub(crate) fn plan(world: &World, run: &str, items: &[Value]) -> String {
    let name = format!("{run}.json");
    world.write(&name, json!({ "id": run, "queue": "default", "items": items }).to_string());
    name
}

/// Submits items and waits for the end of the run.
pub(crate) fn run(world: &World, run: &str, items: &[Value]) -> Value {
    let plan = plan(world, run, items);
    world.run(&["orch", "submit", &plan]).ok();
    world.finish(run)
}

/// Submits a plan that the daemon must reject. While the machine is busy `orch submit` may end before the daemon has
/// answered, and says so (7); then it is asked again.
pub(crate) fn rejected(world: &World, plan: &str) -> Output {
    let end = Instant::now() + DEADLINE;
    loop {
        let output = world.run(&["orch", "submit", plan]);
        if output.code != Some(7) || Instant::now() > end {
            return output.code(1);
        }
    }
}

/// The last attempt of an item.
pub(crate) fn last<'r>(run: &'r Value, id: &str) -> &'r Value {
    item(run, id)["attempts"].as_array().and_then(|attempts| attempts.last()).expect("an attempt")
}

/// File of a blob.
pub(crate) fn blob(world: &World, digest: &str) -> PathBuf {
    let hex = digest.strip_prefix("sha256:").expect("digest");
    world.path().join(".pangolin/blobs/sha256").join(&hex[..2]).join(hex)
}

/// A sealed document.
pub(crate) fn document(world: &World, digest: &Value) -> Value {
    let path = blob(world, digest.as_str().unwrap_or_else(|| panic!("no digest: {digest}")));
    serde_json::from_slice(&fs::read(path).expect("blob")).expect("JSON")
}

/// What the result record of an attempt says about the plugin block at this position.
pub(crate) fn sealed(world: &World, attempt: &Value, position: usize) -> Value {
    let record = document(world, &attempt["result"]);
    let plugin = record["worker"]["blocks"][position]["plugin"].clone();
    assert!(plugin.is_object(), "no plugin block at {position}: {record:#}");
    plugin
}

/// Files below a directory that contain the bytes.
pub(crate) fn holders(dir: &Path, needle: &[u8]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => found.extend(holders(&entry.path(), needle)),
            Ok(kind) if kind.is_file() => {
                let bytes = fs::read(entry.path()).unwrap_or_default();
                if bytes.windows(needle.len()).any(|window| window == needle) {
                    found.push(entry.path());
                }
            }
            _ => {}
        }
    }
    found
}

/// Shell code for `open` that waits until the test calls [`release`].
pub(crate) fn hold(world: &World) -> String {
    format!("echo > {0}/held; while [ ! -e {0}/go ]; do sleep 0.05; done;", world.path().display())
}

/// Waits until an agent holds.
pub(crate) fn until_held(world: &World) {
    let end = Instant::now() + DEADLINE;
    while !world.path().join("held").exists() {
        assert!(Instant::now() < end, "the agent does not start");
        // Not a delay that anything relies on: it only leaves the processor to the programs under test.
        thread::park_timeout(Duration::from_millis(5));
    }
}

/// Lets the agent go on.
pub(crate) fn release(world: &World) {
    world.write("go", "");
}
