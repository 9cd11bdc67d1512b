//! Plugins that are broken, hostile or not there, and files that are no files: what people are told.

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    os::{fd::OwnedFd, unix::fs::MetadataExt as _},
    path::Path,
    process::Stdio,
};

use nix::{pty::openpty, sys::stat::Mode, unistd::mkfifo};
use pangolin_core::ids::Digest;
use pangolin_plugin_authority::{MANIFEST_SECTION, Manifest, embed, extract};
use serde_json::{Value, json};

use crate::{
    deployment::Daemon,
    harness::{Output, Place},
};

const GHOST: &str = "acme/flow";

fn manifest(kind: &str, id: &str) -> Manifest {
    Manifest::from_toml(&format!(
        "[plugin]\nid = '{id}'\nkind = '{kind}'\ncontract = '^1.0'\nversion = '1.0.0'\n[limits]\nmemory = '32MiB'\n"
    ))
    .unwrap()
}

/// What ships, under another id.
fn renamed(builtin: &[u8], kind: &str, id: &str) -> Vec<u8> {
    let mut tail = Vec::new();
    if let Ok(manifest) = extract(builtin) {
        let data = manifest.to_json().into();
        let section = wasm_encoder::CustomSection { name: MANIFEST_SECTION.into(), data };
        wasm_encoder::ComponentSection::append_to_component(&section, &mut tail);
    }
    embed(builtin.strip_suffix(tail.as_slice()).unwrap(), &manifest(kind, id)).unwrap()
}

pub(crate) fn flow() -> Vec<u8> {
    renamed(pangolin_builtin_plugins::pattern("pipeline").unwrap(), "pattern", GHOST)
}

/// A pattern whose planner says `message`, put together without any toolchain.
fn speaker(message: &str) -> Vec<u8> {
    let wit = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../wit");
    let mut resolve = wit_parser::Resolve::default();
    resolve.push_dir(wit.join("pangolin-base@1.0.0")).unwrap();
    resolve.push_dir(wit.join("pangolin-pattern@1.0.0")).unwrap();
    let (_, package) = resolve.packages.iter().next_back().unwrap();
    let world = package.worlds["pattern-planner"];
    let bytes = |text: &str| text.bytes().map(|byte| format!("\\{byte:02x}")).collect::<String>();
    let words = |numbers: [u32; 4]| {
        numbers.iter().flat_map(|n| n.to_le_bytes()).map(|byte| format!("\\{byte:02x}")).collect::<String>()
    };
    // The result at 1024: an error, then its code and its message as pointer and length.
    let core = format!(
        r#"(module
            (import "pangolin:pattern/graph@1.0.0" "[resource-drop]run-view" (func $view (param i32)))
            (import "pangolin:pattern/graph@1.0.0" "[resource-drop]decisions" (func $out (param i32)))
            (memory (export "memory") 1)
            (data (i32.const 1024) "\01\00\00\00{fault}\00\00\00\00\00")
            (data (i32.const 2000) "mine")
            (data (i32.const 3000) "{text}")
            (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (i32.const 8192))
            (func (export "pangolin:pattern/decide@1.0.0#step") (param i32 i32) (result i32) (i32.const 4096))
            (func (export "pangolin:pattern/planner@1.0.0#plan") (param i32 i32) (result i32)
              (call $view (local.get 0)) (call $out (local.get 1)) (i32.const 1024)))"#,
        fault = words([2000, 4, 3000, message.len() as u32]),
        text = bytes(message),
    );
    let mut module = wat::parse_str(core).unwrap();
    let encoding = wit_component::StringEncoding::UTF8;
    wit_component::embed_component_metadata(&mut module, &resolve, world, encoding).unwrap();
    let component = wit_component::ComponentEncoder::default().module(&module).unwrap().encode().unwrap();
    embed(&component, &manifest("pattern", GHOST)).unwrap()
}

fn initialised() -> Place {
    let place = Place::new();
    place.run(&["init", "--namespace", "test"]).code(0);
    let register =
        ["subagent", "register", "--name", "s", "--adapter", "command", "--param", "argv=[\"sh\"]"];
    place.run(&register).code(0);
    place.write("plan.json", plan(json!({ "subagent": "s" })));
    place
}

fn plan(inputs: Value) -> String {
    let item =
        json!({ "id": "a", "executor": "dispatch", "inputs": inputs, "depends_on": [], "resourceLocks": [] });
    json!({ "id": "r", "queue": "default", "items": [item] }).to_string()
}

fn config(place: &Place, edit: impl Fn(String) -> String) {
    let file = place.path().join("pangolin.toml");
    let text = fs::read_to_string(&file).unwrap();
    let edited = edit(text.clone());
    assert_ne!(text, edited);
    fs::write(file, edited).unwrap();
}

fn bind(place: &Place, id: &str) {
    config(place, |text| {
        text.replacen("[queues.default]", &format!("[queues.default]\npattern = \"{id}\""), 1)
    });
}

fn add(place: &Place, name: &str, bytes: &[u8]) {
    place.write(name, bytes);
    place.run(&["plugin", "add", name, "--yes", "--approver", "human:t"]).code(0);
}

fn stored(place: &Place, bytes: &[u8]) -> std::path::PathBuf {
    place.path().join(".pangolin/plugins").join(format!("{}.wasm", Digest::of(bytes).hex()))
}

#[test]
fn validate_asks_the_pattern_that_a_submission_would_ask() {
    let place = initialised();
    let bytes = flow();
    bind(&place, GHOST);
    let invalid = |says: &str| place.run(&["orch", "validate", "plan.json"]).code(1).says(&["/queue", says]);
    invalid("\"acme/flow\" does not exist");
    add(
        &place,
        "agent.wasm",
        &renamed(pangolin_builtin_plugins::adapter("command").unwrap(), "runtime-adapter", GHOST),
    );
    invalid("a pattern is needed here");
    add(&place, "flow.wasm", &bytes);
    let valid = || place.run(&["orch", "validate", "plan.json"]).code(0);
    assert_eq!(valid().stdout, "valid: 1 item\n");

    fs::write(stored(&place, &bytes), b"swapped").unwrap();
    invalid("integrity: plugin \"acme/flow\"");
    fs::remove_file(stored(&place, &bytes)).unwrap();
    invalid("not on this machine");
    place.run(&["plugin", "rebuild", GHOST]).code(0);
    valid();

    // Approved under a smaller cap than the project has now.
    config(&place, |text| text + "\n[plugins.\"acme/flow\".limits]\nmemory = '16MiB'\n");
    add(&place, "flow.wasm", &bytes);
    config(&place, |text| text.replace("'16MiB'", "'24MiB'"));
    invalid("inert");
    config(&place, |text| text.replace("'24MiB'", "'16MiB'"));
    valid();
    // What the pattern itself does not like, and all the rest at once.
    place.write("plan.json", plan(json!({ "subagent": "nobody", "gate": { "rounds": "many" } })));
    place.run(&["orch", "validate", "plan.json"]).code(1).says(&["/items/0/inputs/gate", "\"nobody\""]);
    place.run(&["orch", "submit", "plan.json"]).says(&["warning", "/items/0/inputs/gate"]);
}

/// A block that approves well and does not link: it exports nothing of what a block has to.
fn hollow_block() -> Vec<u8> {
    let text = r#"(component
        (import "pangolin:block/stage@1.0.0" (instance (export "later" (func))))
        (instance $run)
        (export "pangolin:block/run@1.0.0" (instance $run)))"#;
    embed(&wat::parse_str(text).unwrap(), &manifest("block", "acme/hollow")).unwrap()
}

#[test]
fn validate_loads_what_a_submission_would_load_and_says_the_same() {
    let place = initialised();
    let agent =
        renamed(pangolin_builtin_plugins::adapter("command").unwrap(), "runtime-adapter", "acme/agent");
    let hollow = hollow_block();
    let limits = |cap: &str| format!("\n[plugins.\"acme/agent\".limits]\nmemory = '{cap}'\n");
    config(&place, |text| text + &limits("16MiB"));
    add(&place, "agent.wasm", &agent);
    add(&place, "hollow.wasm", &hollow);
    let pipeline = |block: &str| {
        json!({ "schemaVersion": 1, "id": "test.checked", "blocks": [
            { "kind": "agent" }, { "kind": "plugin", "plugin": block, "lens": "verify" }
        ]})
    };
    let register_subagent =
        ["subagent", "register", "--name", "t", "--adapter", "acme/agent", "--param", "argv=[\"sh\"]"];
    place.run(&register_subagent).code(0);
    let register = |block: &str| {
        place.write("checked.json", pipeline(block).to_string());
        place.run(&["pipeline", "register", "checked.json"]).code(0);
    };
    register("secret-scan");
    place.write("plan.json", plan(json!({ "subagent": "t", "pipeline": "test.checked" })));
    place.run(&["orch", "validate", "plan.json"]).code(0);

    let findings = |output: &Output| -> Vec<(String, String)> {
        let document: Value = serde_json::from_str(&output.stdout).unwrap();
        let text = |finding: &Value, key: &str| finding[key].as_str().unwrap().to_owned();
        let all = document["findings"].as_array().unwrap();
        all.iter().map(|finding| (text(finding, "pointer"), text(finding, "message"))).collect()
    };
    let daemon = Daemon::start(&place);
    let says = |words: &[(&str, &str)]| {
        let validated = findings(&place.run(&["orch", "validate", "plan.json", "--json"]).code(1));
        for (pointer, message) in words {
            let said = |found: &(String, String)| found.0 == *pointer && found.1.contains(message);
            assert!(validated.iter().any(said), "{pointer} {message} is missing in {validated:#?}");
        }
        assert_eq!(validated.len(), words.len(), "{validated:#?}");
        // A submission may find more: it also asks whether the executor works here.
        let refused = findings(&place.run(&["orch", "submit", "plan.json", "--json"]).code(1));
        assert!(validated.iter().all(|found| refused.contains(found)), "{validated:#?}\n{refused:#?}");
    };
    let (adapter, block) = ("/items/0/inputs/subagent", "/items/0/inputs/pipeline");
    register("acme/hollow");
    says(&[(block, "contract-mismatch: imports later of pangolin:block/stage@1.0.0")]);
    // All at once: a changed adapter, and a block that links and is not on this machine.
    fs::write(stored(&place, &agent), b"swapped").unwrap();
    fs::remove_file(stored(&place, &hollow)).unwrap();
    says(&[(adapter, "integrity: plugin \"acme/agent\""), (block, "not on this machine")]);
    place.write("agent.wasm", &agent);
    fs::write(stored(&place, &agent), &agent).unwrap();
    register("secret-scan");
    config(&place, |text| text.replace("'16MiB'", "'24MiB'"));
    says(&[(adapter, "plugin acme/agent is inert")]);
    drop(daemon);
}

#[test]
fn a_pattern_that_several_queues_miss_is_named_once() {
    let place = initialised();
    bind(&place, GHOST);
    config(&place, |text| text + "\n[queues.other]\nconcurrency = 1\npattern = \"acme/flow\"\n");
    let served = place.command(&["orch", "serve"]).env("PANGOLIN_WORKER", place.write("worker", "")).output();
    let served = String::from_utf8(served.unwrap().stderr).unwrap();
    assert_eq!(served.matches("does not exist").count(), 1, "{served}");
    assert!(served.contains("queues.default.pattern, queues.other.pattern: "), "{served}");
    let doctor = place.run(&["doctor"]).stdout;
    assert_eq!(doctor.matches("does not exist").count(), 1, "{doctor}");
}

#[test]
fn queues_beyond_the_reserved_plugin_memory_are_named_by_serve_and_doctor() {
    let place = initialised();
    let line = |place: &Place| {
        let doctor = place.run(&["doctor"]).stdout;
        doctor.lines().find(|line| line.contains("plugin memory")).unwrap().to_owned()
    };
    assert!(
        line(&place).starts_with("ok") && line(&place).contains("reserved for 64 calls"),
        "{}",
        line(&place)
    );
    config(&place, |text| text + "\n[queues.many]\nconcurrency = 255\n");
    let says = ["items at once and plugin memory is reserved for at most 256", "[queues.*] to 256"];
    let doctor = line(&place);
    assert!(doctor.starts_with("warn") && says.iter().all(|words| doctor.contains(words)), "{doctor}");
    let (_daemon, before) = Daemon::start_and_listen(&place);
    let warning = before.iter().find(|line| line.contains("plugin memory")).expect("a line of the log");
    assert!(warning.contains("WARN") && says.iter().all(|words| warning.contains(words)), "{warning}");
    // At the limit there is a pool.
    config(&place, |text| text.replace("concurrency = 255", "concurrency = 254"));
    assert!(line(&place).contains("reserved for 512 calls"), "{}", line(&place));
}

#[test]
fn words_of_a_hostile_guest_forge_no_line() {
    let place = initialised();
    let forged = "boom\n\u{1b}[2J\u{1b}[1;31merror\u{1b}[0m: forged\r\nhint: run `rm -rf /`";
    add(&place, "speaker.wasm", &speaker(forged));
    bind(&place, GHOST);
    let clean = |text: &str| {
        assert!(text.contains("boom"), "{text}");
        assert!(!text.contains('\u{1b}') && !text.contains('\r'), "{text:?}");
        let starts = |line: &str| line.starts_with("error: forged") || line.starts_with("hint: run `rm");
        assert!(!text.lines().any(starts), "{text}");
    };
    clean(&place.run(&["orch", "validate", "plan.json"]).code(1).stderr);
    clean(&place.run(&["orch", "render", "plan.json"]).code(1).stderr);

    let mut command = place.command(&["orch", "serve"]);
    command.env("PANGOLIN_WORKER", place.write("worker", "")).stderr(Stdio::piped());
    let mut daemon = command.spawn().unwrap();
    let mut lines = BufReader::new(daemon.stderr.take().unwrap()).lines();
    while !lines.next().unwrap().unwrap().starts_with("serving") {}
    clean(&place.run(&["orch", "submit", "plan.json"]).code(1).stderr);
    daemon.kill().unwrap();
    daemon.wait().unwrap();
    let log: Vec<String> = lines.map_while(Result::ok).collect();
    let about: Vec<&String> = log.iter().filter(|line| line.contains("boom")).collect();
    assert!(about.len() == 1 && about[0].contains("WARN"), "{log:#?}");
    clean(&log.join("\n"));
}

#[test]
fn what_is_no_regular_file_is_named_and_never_waited_for() {
    let place = initialised();
    let bytes = flow();
    add(&place, "flow.wasm", &bytes);
    let fifo = |path: &Path| {
        fs::remove_file(path).unwrap();
        mkfifo(path, Mode::S_IRUSR | Mode::S_IWUSR).unwrap();
    };
    let back = |path: &Path, content: &[u8]| {
        if path.is_dir() {
            fs::remove_dir(path).unwrap()
        } else {
            fs::remove_file(path).unwrap()
        }
        fs::write(path, content).unwrap();
    };
    let component = stored(&place, &bytes);
    let problem = || {
        let all = place.run(&["plugin", "list", "--json"]).code(0).json();
        let found = all["plugins"].as_array().unwrap().iter().find(|plugin| plugin["id"] == GHOST).unwrap();
        found["problem"].as_str().unwrap().to_owned()
    };
    fifo(&component);
    assert!(problem().contains("a pipe or device, not a regular file"), "{}", problem());
    let rebuilt = place.run(&["plugin", "rebuild", GHOST]).code(1);
    assert!(rebuilt.stdout.contains("not a regular file"), "{rebuilt:?}");
    fs::remove_file(&component).unwrap();
    fs::create_dir(&component).unwrap();
    assert!(problem().contains("a directory, not a regular file"), "{}", problem());
    fs::remove_dir(&component).unwrap();
    std::os::unix::fs::symlink("/dev/zero", &component).unwrap();
    assert!(problem().contains("a pipe or device"), "{}", problem());
    back(&component, &bytes);

    for (file, code) in [("pangolin.lock", 2), ("pangolin.toml", 2), (".pangolin/keys/deployment.key", 2)] {
        let path = place.path().join(file);
        let before = fs::read(&path).unwrap();
        fifo(&path);
        let verb: &[&str] = if file.ends_with("key") { &["orch", "runs"] } else { &["plugin", "list"] };
        // A key has to be private before anybody looks into it.
        place.run(verb).code(code).says(&["not a regular file"]);
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        if !file.ends_with("key") {
            place.run(verb).code(code).says(&["a directory, not a regular file"]);
        }
        back(&path, &before);
        if file.ends_with("key") {
            use std::os::unix::fs::PermissionsExt as _;
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        }
    }
    place.run(&["plugin", "list"]).code(0);
}

#[test]
fn an_operator_decides_how_large_a_component_may_be() {
    let place = initialised();
    let bytes = flow();
    place.write("flow.wasm", &bytes);
    let policy = place.write("policy.toml", "allow = 'project'\ncomponent = '1KiB'\n");
    let run = |arguments: &[&str]| {
        let output = place.command(arguments).env("PANGOLIN_POLICY", &policy).output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        Output { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
    };
    run(&["plugin", "add", "flow.wasm", "--yes"]).code(1).says(&["the limit is 1024", "policy.toml"]);
    add(&place, "flow.wasm", &bytes);
    let all = run(&["plugin", "list", "--json"]).code(0).json();
    let found = all["plugins"].as_array().unwrap().iter().find(|plugin| plugin["id"] == GHOST).unwrap();
    assert_eq!(found["state"], "refused", "{found}");
    place.write("policy.toml", "allow = 'project'\ncomponent = '65MiB'\n");
    run(&["plugin", "list"]).code(2).says(&["component", "64MiB"]);
}

#[test]
fn variables_of_the_worker_are_not_for_plans() {
    let place = initialised();
    let item = json!({
        "id": "a", "executor": "dispatch", "inputs": { "subagent": "s" }, "depends_on": [], "resourceLocks": [],
        "env": { "PANGOLIN_RESULT_KEY": "x", "PANGOLIN_RUN_ID": "y", "PANGOLIN_CLAUDE_PERMISSION_MODE": "plan" },
    });
    place.write("plan.json", json!({ "id": "r", "queue": "default", "items": [item] }).to_string());
    let refused = place.run(&["orch", "validate", "plan.json"]).code(1);
    assert!(!refused.stderr.contains("PANGOLIN_CLAUDE"), "{}", refused.stderr);
    refused.says(&["/items/0/env/PANGOLIN_RESULT_KEY", "/items/0/env/PANGOLIN_RUN_ID", "reserved"]);
    let register = ["env", "register", "--name", "e", "--value", "PANGOLIN_DISPATCH_ID=1"];
    place.run(&register).code(2).says(&["PANGOLIN_DISPATCH_ID", "reserved"]);
}

#[test]
fn inputs_for_a_pattern_are_nobody_elses_business() {
    let place = initialised();
    place.write("plan.json", plan(json!({ "subagent": "s", "followUp": "please" })));
    place.run(&["orch", "validate", "plan.json"]).code(0).says(&["unknown-input"]);
    add(&place, "flow.wasm", &flow());
    bind(&place, GHOST);
    let bound = place.run(&["orch", "validate", "plan.json"]).code(0);
    assert_eq!(bound.stderr, "");
    // A slip is still an error.
    place.write("plan.json", plan(json!({ "subagent": "s", "gaet": {} })));
    place.run(&["orch", "validate", "plan.json"]).code(1).says(&["did you mean \"gate\"?"]);
}

/// Runs `plugin add` on a terminal of its own, types an answer and tells how it ended and what was shown.
fn on_a_terminal(place: &Place, answer: &str) -> (Option<i32>, String) {
    let pty = openpty(None, None).unwrap();
    let slave = |fd: &OwnedFd| Stdio::from(fd.try_clone().unwrap());
    let mut command = place.command(&["plugin", "add", "flow.wasm"]);
    command.stdin(slave(&pty.slave)).stdout(slave(&pty.slave)).stderr(slave(&pty.slave));
    let mut child = command.spawn().unwrap();
    drop((command, pty.slave));
    let mut terminal = fs::File::from(pty.master);
    let (mut shown, mut part, mut answered) = (String::new(), [0; 4096], false);
    // Reading fails once nobody has the other end any more.
    while let Ok(count @ 1..) = terminal.read(&mut part) {
        shown.push_str(&String::from_utf8_lossy(&part[..count]));
        if !answered && shown.contains("Type yes:") {
            answered = true;
            assert!(!place.path().join("pangolin.lock").exists(), "nothing happens before the answer");
            terminal.write_all(answer.as_bytes()).unwrap();
        }
    }
    assert!(answered, "{shown}");
    (child.wait().unwrap().code(), shown)
}

#[test]
fn somebody_at_a_terminal_is_asked() {
    let place = initialised();
    place.write("flow.wasm", flow());
    for answer in ["no\n", "\n", "\u{4}", "yes please\n"] {
        let (code, shown) = on_a_terminal(&place, answer);
        assert_eq!(code, Some(1), "{shown}");
        assert!(shown.contains("not approved; nothing was installed"), "{answer:?}: {shown}");
        assert!(!place.path().join("pangolin.lock").exists());
    }
    let (code, shown) = on_a_terminal(&place, "yes\n");
    assert_eq!(code, Some(0), "{shown}");
    assert!(shown.contains("asks for") && shown.contains("added acme/flow 1.0.0"), "{shown}");
    // Without a terminal there is nobody to ask, whatever comes on stdin.
    place.run(&["plugin", "remove", GHOST]).code(0);
    place.run_with_stdin(&["plugin", "add", "flow.wasm"], b"yes\n").code(2).says(&["--yes approves"]);
}

#[test]
fn authors_compile_once_also_without_a_deployment() {
    let place = Place::new();
    place.write("flow.wasm", flow());
    place.write("case.json", r#"{ "schemaVersion": 1, "plan": { "id": "p", "queue": "q", "items": [
        { "id": "a", "executor": "dispatch", "depends_on": [], "resourceLocks": [], "inputs": {} } ] }, "steps": [] }"#);
    let run = |cache: &str| {
        let mut command = place.command(&["plugin", "run", "flow.wasm", "--fixture", "case.json"]);
        let output = command.env("XDG_CACHE_HOME", place.path().join(cache)).output().unwrap();
        assert!(output.status.success(), "{output:?}");
    };
    let code = |cache: &str| {
        let files = fs::read_dir(place.path().join(cache).join("pangolin/plugins")).unwrap();
        let mut found: Vec<_> = files.map(|file| file.unwrap().path()).collect();
        found.sort();
        found.into_iter().map(|path| (fs::metadata(&path).unwrap().ino(), path)).collect::<Vec<_>>()
    };
    run("one");
    let first = code("one");
    assert_eq!(first.len(), 1, "{first:?}");
    run("one");
    assert_eq!(code("one"), first, "nothing was compiled again");
    // Code that another key made is not run but made anew.
    run("two");
    fs::copy(&first[0].1, &code("two")[0].1).unwrap();
    run("two");
    let (ours, copied) = (fs::read(&first[0].1).unwrap(), fs::read(&code("two")[0].1).unwrap());
    assert_ne!(ours, copied);
    // What cannot be a cache does not stop anybody.
    place.write("three", "a file");
    run("three");
}
