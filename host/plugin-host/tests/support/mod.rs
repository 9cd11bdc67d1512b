//! Shared by the tests of this folder.

#![allow(dead_code, reason = "each test binary uses a part of it")]
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

use pangolin_plugin_host::{
    AdapterTask, COMPILE_COMMAND, CacheKey, CompileCommand, CompileLimits, Compiler, HostOptions, PluginHost,
};

/// A host with an empty cache of its own.
pub(crate) struct Fixture {
    pub(crate) host: PluginHost,
    pub(crate) cache: tempfile::TempDir,
}

pub(crate) fn fixture() -> Fixture {
    let cache = tempfile::tempdir().unwrap();
    let host = host(&cache.path().join("aot"), 7);
    Fixture { host, cache }
}

/// A host over the cache that all tests of this machine share, because compiling takes the most time.
pub(crate) fn shared_host() -> PluginHost {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("plugin-cache");
    host(&dir, 7)
}

/// The same without the child and its bound on time: a debug build of the compiler takes minutes for an interpreter.
pub(crate) fn shared_host_in_process() -> PluginHost {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("plugin-cache");
    let options = HostOptions { compiler: Compiler::InProcess, ..HostOptions::default() };
    PluginHost::with_options(&dir, CacheKey::from_bytes([7; 32]), options).unwrap()
}

/// A host that compiles in a child, as the daemon does.
pub(crate) fn host(dir: &Path, key: u8) -> PluginHost {
    let options =
        HostOptions { compiler: Compiler::Child(compiler(COMPILE_COMMAND)), ..HostOptions::default() };
    PluginHost::with_options(dir, CacheKey::from_bytes([key; 32]), options).unwrap()
}

/// The program beside the tests that compiles, or misbehaves as `mode` says.
pub(crate) fn compiler(mode: &str) -> CompileCommand {
    CompileCommand {
        program: env!("CARGO_BIN_EXE_pangolin-test-compiler").into(),
        arguments: vec![mode.into()],
        limits: CompileLimits::default(),
    }
}

pub(crate) fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

/// A kept component, e.g. `pattern/1.0.0-rust-static-dag.wasm`.
pub(crate) fn kept(name: &str) -> Vec<u8> {
    std::fs::read(repository().join("tests/corpus/plugins").join(name)).unwrap()
}

/// A pattern that decides nothing.
pub(crate) fn good() -> Vec<u8> {
    kept("pattern/1.0.0-rust-static-dag.wasm")
}

/// Builds a guest of `plugins/test-guests`.
pub(crate) fn guest(package: &str) -> Vec<u8> {
    static BUILT: OnceLock<()> = OnceLock::new();
    let plugins = repository().join("plugins");
    BUILT.get_or_init(|| {
        let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        for (name, _) in std::env::vars_os() {
            let name = name.to_string_lossy().into_owned();
            if name != "CARGO_HOME"
                && (name.starts_with("CARGO_") || name.starts_with("RUSTC") || name == "RUSTFLAGS")
            {
                command.env_remove(name);
            }
        }
        let output = command
            .current_dir(&plugins)
            .args([
                "build",
                "--release",
                "--locked",
                "--target",
                "wasm32-wasip2",
                "--target-dir",
                "target/guests",
            ])
            .args(["-p", "pangolin-test-hostile", "-p", "pangolin-test-outside", "-p", "pangolin-test-block"])
            .args(["-p", "pangolin-test-hostile-adapter", "-p", "pangolin-test-columns"])
            .output()
            .expect("cargo starts");
        let log = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "building plugins/test-guests failed:\n{log}");
    });
    let file = format!("target/guests/wasm32-wasip2/release/{}.wasm", package.replace('-', "_"));
    std::fs::read(plugins.join(file)).unwrap()
}

pub(crate) fn task(adapter: &str, attrs: &[(&str, &str)]) -> AdapterTask {
    AdapterTask {
        adapter: adapter.into(),
        prompt: "fix it".into(),
        workspace: "/workspace".into(),
        timeout_seconds: 60,
        input_json: r#"{"file":"alpha.ts","deep":{"n":[10,20]}}"#.into(),
        attrs: attrs.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect::<BTreeMap<_, _>>(),
        ..AdapterTask::default()
    }
}

/// A component from a core module in text form, for one of our worlds: what no SDK would let an author write.
pub(crate) fn component(core: &str, package: &str, world: &str) -> Vec<u8> {
    let mut resolve = wit_parser::Resolve::default();
    for folder in ["pangolin-base@1.0.0", package] {
        resolve.push_dir(repository().join("wit").join(folder)).unwrap();
    }
    let (_, package) = resolve.packages.iter().next_back().unwrap();
    let world = package.worlds[world];
    let mut module = wat::parse_str(core).unwrap();
    wit_component::embed_component_metadata(
        &mut module,
        &resolve,
        world,
        wit_component::StringEncoding::UTF8,
    )
    .unwrap();
    wit_component::ComponentEncoder::default().module(&module).unwrap().validate(false).encode().unwrap()
}

/// A pattern whose `step` is `body` (two handles in, a result pointer out; the result is in `ok` when it gets there);
/// `fields` are further fields of the module.
pub(crate) fn pattern(fields: &str, body: &str) -> Vec<u8> {
    let core = format!(
        r#"(module
            (import "pangolin:base/log@1.0.0" "emit" (func $emit (param i32 i32 i32)))
            {fields}
            (func (export "pangolin:pattern/decide@1.0.0#step") (param i32 i32) (result i32)
              {body}
              (i32.const 1024)))"#
    );
    component(&core, "pangolin-pattern@1.0.0", "pattern")
}
