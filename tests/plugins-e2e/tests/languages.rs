//! A plugin of each kind in each language, as a stranger makes it: from its scaffold, built, tested by the conformance
//! suite, approved, and at work in a real run whose bundle verifies. Slow: the interpreters of JavaScript and Python are
//! compiled to native code once per test.
//!
//! Tools are looked for in `target/tools/<language>` (`cargo xtask test` installs them) and in `PATH`. A missing one skips
//! its tests loudly; with `PANGOLIN_REQUIRE_LANGS=1` they fail.

#![expect(clippy::print_stderr, reason = "tests say that they are skipped")]

use std::{
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
};

use pangolin_e2e::{
    output::Output,
    world::{World, item},
};
use serde_json::{Value, json};

/// A project's name; its id is `local/mine`.
const NAME: &str = "mine";

fn path() -> OsString {
    let tools = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().map(|target| target.join("tools"));
    let tools = tools.unwrap_or_default();
    let before = [tools.join("js/node_modules/.bin"), tools.join("py/bin"), tools.join("c/bin")];
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::join_paths(before.into_iter().chain(std::env::split_paths(&path))).expect("PATH")
}

fn is_there(program: &str) -> bool {
    std::env::split_paths(&path()).any(|dir| dir.join(program).is_file())
}

/// The tools of a language that are not there.
fn missing(language: &str) -> Option<&'static str> {
    let (there, what) = match language {
        "js" => (is_there("node") && is_there("componentize-js"), "node and componentize-js"),
        "py" => (is_there("componentize-py"), "componentize-py"),
        "c" => (
            is_there("zig") || is_there("python-zig") || (is_there("clang") && is_there("wasm-ld")),
            "clang with wasm-ld, or zig",
        ),
        _ => (true, ""),
    };
    (!there).then_some(what)
}

/// A deployment with a plugin's project in `mine/`.
struct Author {
    world: World,
    language: &'static str,
}

impl Author {
    /// `None` when the language's tools are not there and need not be.
    fn new(language: &'static str, kind: &str) -> Option<Self> {
        if let Some(missing) = missing(language) {
            let required = std::env::var_os("PANGOLIN_REQUIRE_LANGS").is_some();
            assert!(!required, "{missing} is missing; `cargo xtask test` installs it");
            eprintln!("SKIPPED: {language} needs {missing}");
            return None;
        }
        let author = Self { world: World::new(), language };
        author.pangolin(&["plugin", "new", NAME, "--kind", kind, "--lang", language]).ok();
        Some(author)
    }

    fn pangolin(&self, arguments: &[&str]) -> Output {
        let mut command = self.world.command(arguments);
        command.env("PATH", path());
        // The toolchain of a developer is in the home directory, which is another one here.
        let home = std::env::var_os("HOME").map(PathBuf::from).unwrap_or_default();
        for (name, folder) in [("CARGO_HOME", ".cargo"), ("RUSTUP_HOME", ".rustup")] {
            command.env(name, std::env::var_os(name).unwrap_or_else(|| home.join(folder).into()));
        }
        let output = command.output().expect("pangolin");
        Output {
            command: format!("pangolin {}", arguments.join(" ")),
            code: output.status.code(),
            stdout: output.stdout,
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Replaces text in the sources, as an author would; every part must be there.
    fn edit(&self, changes: &[(&str, &str)]) {
        let dir = self.world.path().join(NAME);
        let sources = ["src/lib.rs", "src/plugin.js", "src/plugin.c", "app.py", "adapter.py"];
        let mut open: Vec<&str> = changes.iter().map(|change| change.0).collect();
        for file in sources.map(|source| dir.join(source)).into_iter().filter(|file| file.is_file()) {
            let mut text = fs::read_to_string(&file).expect("source");
            for (from, to) in changes {
                if text.contains(from) {
                    open.retain(|part| part != from);
                    text = text.replace(from, to);
                }
            }
            fs::write(&file, text).expect("source");
        }
        assert!(open.is_empty(), "{} has no {open:?}", dir.display());
    }

    /// Builds it, and the conformance suite finds nothing wrong, with the fixtures of the scaffold and without a change.
    fn builds_and_passes(&self) {
        self.pangolin(&["plugin", "build", NAME]).ok();
        let output = self.pangolin(&["plugin", "test", NAME, "--json"]);
        let text = output.text();
        let report = output.ok().json();
        assert_eq!(report["passed"], true, "{text}");
        let checks = report["checks"].as_array().expect("checks");
        let verdict = |name: &str| checks.iter().find(|check| check["name"] == name).map(|it| &it["verdict"]);
        for name in ["contract", "twice-run", "unknowns", "refusals", "limits", "no-traps"] {
            assert_eq!(verdict(name), Some(&json!("passed")), "{name}: {text}");
        }
        let is_fixture = |check: &&Value| check["name"].as_str().is_some_and(|it| it.starts_with("fixture:"));
        let fixtures: Vec<_> = checks.iter().filter(is_fixture).collect();
        assert!(!fixtures.is_empty(), "{text}");
        assert!(fixtures.iter().all(|check| check["verdict"] == "passed"), "{text}");
        let inspected = self.pangolin(&["plugin", "inspect", &format!("{NAME}/{NAME}.wasm"), "--json"]);
        let inspected = inspected.ok().json();
        assert_eq!(inspected["manifest"]["id"], "local/mine", "{inspected}");
        assert_eq!(inspected["problems"], json!([]), "{inspected}");
    }

    fn approves(&self) {
        let file = format!("./{NAME}/{NAME}.wasm");
        self.pangolin(&["plugin", "add", &file, "--grant-asked", "--yes"]).ok();
    }
}

fn pattern(language: &'static str) {
    let Some(author) = Author::new(language, "pattern") else { return };
    author.builds_and_passes();
    author.approves();
    let world = &author.world;
    let config = fs::read_to_string(world.path().join("pangolin.toml")).expect("config");
    let queue = "[queues.default]\n";
    assert!(config.contains(queue), "{config}");
    world.write("pangolin.toml", config.replace(queue, &format!("{queue}pattern = \"local/mine\"\n")));
    world.agent("writer", "echo more >> README.md");
    world.agent("checker", "grep -q '^+more' inputs/deps/write.patch");
    let _daemon = world.serve();
    let more = json!({ "inputs": { "subagent": "writer", "followUp": "checker" } });
    let plan = world.plan("grown", &[("write", "writer", &[])], &more);
    world.run(&["orch", "submit", &plan]).ok();
    let run = world.finish("grown");
    assert_eq!(item(&run, "write")["status"], "done", "{language}: {run}");
    assert_eq!(item(&run, "after-write")["status"], "done", "{language}: {run}");
    // Sealed, and whoever has the bundle can decide it again with the component that is in it.
    assert!(!world.intact_bundle("grown").is_empty());
    let report = world.run(&["verify", "grown.bundle.json", "--replay", "--json"]).ok().json();
    assert_eq!(report["intact"], true, "{language}: {report}");
}

fn adapter(language: &'static str) {
    let Some(author) = Author::new(language, "adapter") else { return };
    // The agent is a script of the workspace.
    author.edit(&[("fake-agent", "sh"), ("--output", "tools/tiny-agent.sh")]);
    author.builds_and_passes();
    author.approves();
    let world = &author.world;
    world.write(
        "capabilities/tiny-agent/tools/tiny-agent.sh",
        "#!/bin/sh\ntask=$(cat)\necho \"$task\" >> README.md\n\
         echo '{\"type\":\"session\",\"id\":\"s-1\"}'\n\
         echo '{\"type\":\"usage\",\"model\":\"tiny-1\",\"input\":12,\"output\":3,\"turns\":1,\"cost_usd\":0.5}'\n",
    );
    world
        .run(&["capabilities", "register", "--name", "tiny-agent", "--from", "capabilities/tiny-agent"])
        .ok();
    let register = ["subagent", "register", "--name", "tiny", "--adapter", "local/mine", "--prompt-template"];
    world.run(&[&register[..], &["Look at {{file}}", "--capability", "tiny-agent"]].concat()).ok();
    let _daemon = world.serve();
    let more = json!({ "inputs": { "subagent": "tiny", "workerInput": { "file": "alpha.ts" } } });
    let plan = world.plan("driven", &[("look", "tiny", &[])], &more);
    world.run(&["orch", "submit", &plan]).ok();
    let run = world.finish("driven");
    assert_eq!(item(&run, "look")["status"], "done", "{language}: {run}");
    // The prompt arrived at the agent.
    let patch = world.run(&["patch", "show", "driven/look"]).ok().text();
    assert!(patch.contains("+Look at alpha.ts"), "{language}: {patch}");
    let bundle = String::from_utf8(world.intact_bundle("driven")).expect("a bundle is text");
    // What the agent said about itself was read, except in C, whose scaffold does not look at it.
    assert_eq!(bundle.contains("tiny-1"), author.language != "c", "{language}");
}

fn block(language: &'static str) {
    let Some(author) = Author::new(language, "block") else { return };
    author.builds_and_passes();
    author.approves();
    let world = &author.world;
    let pipeline = json!({
        "schemaVersion": 1, "id": "e2e.checked",
        "blocks": [
            { "kind": "agent" },
            { "kind": "plugin", "plugin": "local/mine", "params": {}, "lens": "gate" },
            { "kind": "capture", "what": "patch" },
        ],
    });
    world.write("checked.json", pipeline.to_string());
    world.run(&["pipeline", "register", "checked.json"]).ok();
    world.agent("small", "echo more >> README.md");
    world.agent("large", "yes | head -c 1500000 > large.txt");
    let _daemon = world.serve();
    for (run, agent, status) in [("fine", "small", "done"), ("over", "large", "failed")] {
        let more = json!({ "inputs": { "subagent": agent, "pipeline": "e2e.checked" } });
        let plan = world.plan(run, &[("write", agent, &[])], &more);
        world.run(&["orch", "submit", &plan]).ok();
        let state = world.finish(run);
        assert_eq!(item(&state, "write")["status"], status, "{language}: {state}");
        assert!(!world.intact_bundle(run).is_empty());
    }
}

#[test]
fn rust_pattern() {
    pattern("rust");
}

#[test]
fn rust_adapter() {
    adapter("rust");
}

#[test]
fn rust_block() {
    block("rust");
}

#[test]
fn js_pattern() {
    pattern("js");
}

#[test]
fn js_adapter() {
    adapter("js");
}

#[test]
fn js_block() {
    block("js");
}

#[test]
fn py_pattern() {
    pattern("py");
}

#[test]
fn py_adapter() {
    adapter("py");
}

#[test]
fn py_block() {
    block("py");
}

#[test]
fn c_pattern() {
    pattern("c");
}

#[test]
fn c_adapter() {
    adapter("c");
}

#[test]
fn c_block() {
    block("c");
}
