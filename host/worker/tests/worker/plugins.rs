//! Plugin blocks in the worker: what they see, what they may do, and what their failures mean.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::TcpListener,
    process::{Command, Stdio},
    sync::mpsc::channel,
};

use pangolin_core::{entry::FailureReason, ids::Digest};
use pangolin_envelope::{
    plugin::{BlockGrant, PluginEvidence},
    result::{ARTIFACTS_DIR, Ending},
};
use serde_json::{Value, json};

use crate::{
    guest::compiled,
    harness::{Ran, Stage, eventually},
};

fn grant(value: Value) -> BlockGrant {
    serde_json::from_value(value).unwrap()
}

fn everything() -> BlockGrant {
    grant(json!({"read": ["**"], "write": ["**"]}))
}

/// Stages the scripted block as `probe`.
fn staged(mut stage: Stage, grant: BlockGrant) -> Stage {
    let plugin = compiled().stage(&stage.path("envelope"), "probe", grant);
    stage.envelope.plugins.push(plugin);
    stage
}

/// A pipeline of agent and one probe with these steps and a green verdict.
fn probe(stage: Stage, grant: BlockGrant, steps: Value) -> Stage {
    let mut stage = staged(stage, grant);
    stage.blocks(json!([{"kind": "agent"}, step_block(steps)]));
    stage
}

fn step_block(steps: Value) -> Value {
    json!({"kind": "plugin", "plugin": "probe", "params": {"steps": steps, "verdict": true}})
}

/// The record of a block.
fn record(ran: &Ran, ordinal: usize) -> &PluginEvidence {
    ran.result.blocks[ordinal].plugin.as_deref().unwrap_or_else(|| panic!("no record: {}", ran.stdout))
}

/// What the steps of the probe at position 1 answered, after it had a green verdict.
fn answers(ran: &Ran) -> Vec<Value> {
    let record = record(ran, 1);
    assert_eq!(record.failure, None, "{}", ran.stdout);
    assert!(ran.result.blocks[1].ok);
    record.evidence["steps"].as_array().unwrap().clone()
}

fn failure(ran: &Ran) -> (FailureReason, String) {
    match &ran.result.ending {
        Ending::Failed { reason, message, .. } => (*reason, message.clone()),
        other => panic!("expected a failure, got {other:?}: {}", ran.stdout),
    }
}

fn refusal<'v>(answer: &'v Value, capability: &str) -> &'v str {
    assert_eq!(answer["refused"]["capability"], capability, "{answer}");
    answer["refused"]["reason"].as_str().unwrap()
}

#[test]
fn the_worker_carries_no_compiler() {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let args = ["tree", "-p", "pangolin-worker", "-e", "normal", "--prefix", "none", "--format", "{p}"];
    let output = Command::new(cargo).current_dir(env!("CARGO_MANIFEST_DIR")).args(args).output().unwrap();
    let tree = String::from_utf8(output.stdout).unwrap();
    assert!(tree.contains("wasmtime v"), "{tree}");
    assert!(!tree.contains("cranelift-codegen"), "the worker must not carry a compiler:\n{tree}");
}

#[test]
fn a_block_sees_now_before_outputs_and_changes() {
    let stage = Stage::new(
        "printf new > added.txt; printf changed > kept.txt; rm gone.txt; chmod +x tool; ln -s /etc/passwd link; \
         printf 'a\\000b' > blob; mkdir -p outputs target; printf out > outputs/r.txt; printf x > target/ignored.o; \
         printf odd > \"$(printf 'n\\303\\244me')\"; rm was-file; ln -s kept.txt was-file",
    );
    for (path, text) in
        [("kept.txt", "kept"), ("gone.txt", "gone"), ("tool", "t"), ("same.txt", "same"), ("was-file", "f")]
    {
        stage.file(path, text);
    }
    stage.file(".gitignore", "target/\n");
    let steps = json!([
        ["list", ""],
        ["read", "changes.json"],
        ["read", "workspace/kept.txt"],
        ["read", "base/kept.txt"],
        ["read", "base/gone.txt"],
        ["read", "workspace/kept.txt", 4, 2],
        ["read", "workspace/kept.txt", 100, 2],
        ["read", "outputs/r.txt"],
        ["read", "workspace/n%C3%A4me"],
        ["read", "workspace/link"],
        ["read", "workspace/gone.txt"],
        ["read", "workspace/target/ignored.o"],
        ["list", "base/"],
        ["digests", "workspace/same.txt"],
        ["digests", "workspace/target/"],
    ]);
    let ran = probe(stage, everything(), steps).run();
    let answers = answers(&ran);
    assert_eq!(
        answers[0],
        json!([
            "base/gone.txt",
            "base/kept.txt",
            "base/tool",
            "base/was-file",
            "changes.json",
            "outputs/r.txt",
            "workspace/.gitignore",
            "workspace/added.txt",
            "workspace/blob",
            "workspace/kept.txt",
            "workspace/link",
            "workspace/n%C3%A4me",
            "workspace/same.txt",
            "workspace/target/ignored.o",
            "workspace/tool",
            "workspace/was-file"
        ])
    );
    let changes: Value = serde_json::from_str(answers[1].as_str().unwrap()).unwrap();
    assert_eq!(changes["schemaVersion"], 1);
    let summary: Vec<Value> = changes["changes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|change| {
            json!([
                change["path"],
                change["kind"],
                change["before"]["mode"],
                change["after"]["mode"],
                change["binary"],
                change["symlinkTarget"]
            ])
        })
        .collect();
    assert_eq!(
        json!(summary),
        json!([
            ["added.txt", "added", null, "100644", false, null],
            ["blob", "added", null, "100644", true, null],
            ["gone.txt", "deleted", "100644", null, false, null],
            ["kept.txt", "modified", "100644", "100644", false, null],
            ["link", "added", null, "120000", false, "/etc/passwd"],
            ["n%C3%A4me", "added", null, "100644", false, null],
            ["tool", "modified", "100644", "100755", false, null],
            ["was-file", "type-changed", "100644", "120000", false, "kept.txt"]
        ])
    );
    assert_eq!(changes["changes"][3]["before"]["digest"], Digest::of(b"kept").to_string());
    assert_eq!(answers[2..9], ["changed", "kept", "gone", "ge", "", "out", "odd"].map(Value::from));
    assert!(refusal(&answers[9], "read").contains("symbolic link"));
    assert!(refusal(&answers[10], "read").contains("no such file"));
    assert_eq!(answers[11], "x");
    assert_eq!(answers[12].as_array().unwrap().len(), 4);
    assert_eq!(answers[13], json!([["workspace/same.txt", 4, Digest::of(b"same").to_string()]]));
    assert_eq!(
        answers[14],
        json!([["workspace/target/ignored.o", 1, null]]),
        "what is ignored is not hashed"
    );
}

#[test]
fn the_record_names_what_ran_and_what_it_cost() {
    let stage = Stage::new("printf hello > a.txt");
    let steps = json!([
        ["attr", "run"],
        ["attr", "lens"],
        ["attr", "nothing"],
        ["position"],
        ["read", "workspace/a.txt"]
    ]);
    let ran = probe(stage, everything(), steps).run();
    assert_eq!(ran.code, 0);
    assert_eq!(answers(&ran), [json!("run-1"), json!("gate"), Value::Null, json!(1), json!("hello")]);
    let record = record(&ran, 1);
    assert_eq!(record.id, "probe");
    assert_eq!(record.contract, "pangolin:block@1.0.0");
    assert!(record.engine.starts_with("wasmtime ") && record.engine.contains("effect/"), "{}", record.engine);
    assert_eq!(record.bill.read_bytes, 5);
    assert!(record.bill.peak_memory_bytes > 0 && record.bill.wall_us > 0 && record.bill.host_calls >= 6);
    assert_eq!(record.verdict.as_ref().unwrap().summary, "as told");
    assert_eq!(ran.result.blocks[1].kind, "plugin");
    let event = ran.event("plugin.block.ran");
    assert_eq!(
        (&event["ordinal"], &event["plugin"], &event["passed"]),
        (&json!(1), &json!("probe"), &json!(true))
    );
}

#[test]
fn later_blocks_know_earlier_ones() {
    let mut stage = staged(Stage::new("true"), everything());
    stage.blocks(json!([
        {"kind": "script", "command": "exit 3", "lens": "verify"},
        step_block(json!([["artifact", "r.txt", "bytes"]])),
        step_block(json!([["earlier", "0"], ["earlier", "probe"], ["earlier", "1"], ["earlier", "7"]])),
    ]));
    let ran = stage.run();
    let steps = record(&ran, 2).evidence["steps"].as_array().unwrap();
    assert_eq!(
        steps[0],
        json!({"schemaVersion": 1, "position": 0, "kind": "script", "ok": false, "exitCode": 3})
    );
    assert_eq!(steps[1]["verdict"], json!({"passed": true, "summary": "as told"}));
    assert_eq!(steps[1]["artifacts"][0]["path"], "r.txt");
    assert_eq!(steps[1], steps[2]);
    assert_eq!(steps[3], Value::Null);
}

#[test]
fn a_red_gate_stops_what_follows_and_a_red_lens_is_reported() {
    let red = |lens: &str| {
        json!({"kind": "plugin", "plugin": "probe", "lens": lens,
               "params": {"steps": [], "verdict": false, "summary": "two secrets"}})
    };
    let mut stage = staged(Stage::new("printf x > work.txt"), everything());
    stage.blocks(json!([{"kind": "agent"}, red("gate"), {"kind": "script", "command": "touch never"}]));
    let ran = stage.run();
    let (reason, message) = failure(&ran);
    assert_eq!(reason, FailureReason::ProviderFailed);
    assert_eq!(message, "block 1 (probe): red: two secrets");
    assert_eq!(ran.result.blocks.len(), 2);
    assert!(!ran.result.blocks[1].ok);
    assert!(!stage.workspace().join("never").exists());
    assert!(ran.changes().contains_key("work.txt"), "the work that was judged is evidence");

    let mut stage = staged(Stage::new("true"), everything());
    stage.blocks(json!([{"kind": "agent"}, red("verify"), {"kind": "script", "command": "touch after"}]));
    let ran = stage.run();
    assert_eq!(ran.result.ending, Ending::Finished {});
    assert!(!ran.result.verify.as_ref().unwrap().passed);
    assert_eq!(ran.result.verify_report.as_deref(), Some("probe: two secrets"));
    assert!(stage.workspace().join("after").exists());
}

/// Each hostile step: failure code and a word of the message.
const HOSTILE: [(&str, &str, &str); 8] = [
    (r#"[["spin"]]"#, "deadline", "still running"),
    (r#"[["memory"]]"#, "memory-limit", "bytes of memory"),
    (r#"[["panic", "words of the panic"]]"#, "guest-panic", "words of the panic"),
    (r#"[["trap"]]"#, "guest-abort", "bug of the plugin"),
    (r#"[["exit"]]"#, "guest-exit", "status"),
    (r#"[["fault", "no-idea", "cannot judge"]]"#, "fault", "no-idea: cannot judge"),
    (r#"[["evidence-flood"]]"#, "output-limit", "the evidence in bytes"),
    (r#"[["evidence", "k", "{"]]"#, "refused", "not JSON"),
];

#[test]
fn hostile_blocks_end_in_their_own_failure_and_the_worker_lives() {
    for (steps, code, word) in HOSTILE {
        for on_failure in ["closed", "open"] {
            let limits = json!({"read": ["**"], "write": ["**"], "limits": {"wall_ms": 700, "memory_bytes": 16 << 20}});
            let mut stage = staged(Stage::new("printf x > work.txt"), grant(limits));
            let mut steps: Vec<Value> = serde_json::from_str(steps).unwrap();
            steps.insert(0, json!(["artifact", "early.txt", "whole"]));
            steps.insert(1, json!(["artifact", "late.txt", "half", "open"]));
            stage.blocks(json!([
                {"kind": "agent"},
                {"kind": "plugin", "plugin": "probe", "onFailure": on_failure, "params": {"steps": steps, "verdict": true}},
                step_block(json!([["read", "workspace/work.txt"]])),
            ]));
            let ran = stage.run();
            let record = record(&ran, 1);
            let found =
                record.failure.as_ref().unwrap_or_else(|| panic!("{code}: no failure: {}", ran.stdout));
            assert_eq!(found.code, code, "{}", found.message);
            assert!(found.message.contains(word), "{code}: {}", found.message);
            assert_eq!(record.verdict, None, "{code}: a failed plugin has no verdict");
            assert!(!ran.result.blocks[1].ok);
            assert_eq!(ran.event("plugin.block.ran")["failure"], code);
            // What was committed before is whole; what was not committed is nowhere.
            let paths: Vec<&str> = record.artifacts.iter().map(|artifact| artifact.path.as_str()).collect();
            assert_eq!(paths, ["early.txt"], "{code}");
            let kept: Vec<_> =
                fs::read_dir(stage.result_dir().join(ARTIFACTS_DIR)).unwrap().flatten().collect();
            assert_eq!(kept.len(), 1, "{code}");
            assert_eq!(fs::read(kept[0].path()).unwrap(), b"whole");
            if on_failure == "closed" {
                let (reason, message) = failure(&ran);
                assert_eq!(reason, FailureReason::ProviderFailed, "{code}");
                assert!(message.starts_with(&format!("block 1 (probe): {code}")), "{message}");
                assert_eq!(ran.result.blocks.len(), 2, "{code}: nothing follows");
            } else {
                assert_eq!(ran.result.ending, Ending::Finished {}, "{code}");
                assert!(ran.result.blocks[2].ok, "{code}: the next block of the same plugin runs as ever");
            }
        }
    }
}

#[test]
fn no_verdict_is_a_failure_and_open_never_passes_a_verification() {
    let block = |lens: &str, on_failure: &str| json!([{"kind": "plugin", "plugin": "probe", "lens": lens, "onFailure": on_failure, "params": {"steps": []}}]);
    let mut stage = staged(Stage::new("true"), everything());
    stage.blocks(block("gate", "closed"));
    let (_, message) = failure(&stage.run());
    assert!(message.contains("contract-mismatch: the block returned without a verdict"), "{message}");

    let mut stage = staged(Stage::new("true"), everything());
    stage.blocks(block("verify", "open"));
    let ran = stage.run();
    assert_eq!(ran.result.ending, Ending::Finished {});
    assert!(!ran.result.verify.unwrap().passed, "a verification that did not happen has not passed");
}

#[test]
fn nothing_is_read_or_written_outside_of_the_grant() {
    let stage =
        Stage::new("printf public > a.txt; mkdir private; printf hidden > private/b.txt; ln -s private src");
    stage.file("outside.txt", "x");
    let grant = grant(json!({"read": ["workspace/*", "workspace/src/**"], "write": ["reports/*.txt"]}));
    let steps = json!([
        ["list", "workspace/"],
        ["list", "base/"],
        ["list", "workspace/private/"],
        ["read", "workspace/private/b.txt"],
        ["read", "workspace/../envelope/envelope.json"],
        ["read", "/etc/passwd"],
        ["read", "workspace//a.txt"],
        ["read", "workspace/src/b.txt"],
        ["read", "elsewhere/a.txt"],
        ["read", "changes.json"],
        ["artifact", "../escape.txt", "x"],
        ["artifact", "/tmp/escape.txt", "x"],
        ["artifact", "reports/sub/a.txt", "x"],
        ["artifact", "reports/a.txt", "x"],
        ["artifact", "reports/a.txt", "y"],
    ]);
    let stage = probe(stage, grant, steps);
    let ran = stage.run();
    let answers = answers(&ran);
    assert_eq!(answers[0], json!(["workspace/a.txt", "workspace/outside.txt", "workspace/src"]));
    assert_eq!(answers[1], json!([]), "nothing was changed, so there is nothing to hide");
    assert!(refusal(&answers[2], "read").contains("no rule of read allows it"));
    assert!(refusal(&answers[3], "read").contains("workspace/private/b.txt"));
    for (index, word) in
        [(4, "contains . or .."), (5, "absolute"), (6, "empty segment"), (8, "paths start with")]
    {
        assert!(refusal(&answers[index], "read").contains(word), "{}", answers[index]);
    }
    assert!(refusal(&answers[7], "read").contains("no such file"), "no directory is entered through a link");
    assert!(refusal(&answers[9], "read").contains("no rule"));
    for answer in &answers[10..13] {
        refusal(answer, "write");
    }
    let digest = Digest::of(b"y");
    assert_eq!(answers[14], digest.to_string());
    let record = record(&ran, 1);
    assert_eq!(record.artifacts.len(), 1, "the second of a path replaces the first");
    assert_eq!(record.artifacts[0].digest, digest);
    assert_eq!(fs::read(stage.result_dir().join(ARTIFACTS_DIR).join(digest.hex())).unwrap(), b"y");
    let denied: Vec<(&str, &str)> =
        record.denials.iter().map(|denial| (denial.capability.as_str(), denial.subject.as_str())).collect();
    assert!(
        denied.contains(&("read", "workspace/private/b.txt")) && denied.contains(&("write", "../escape.txt"))
    );
    assert!(record.denials.iter().all(|denial| denial.count == 1 && !denial.rule.is_empty()));
}

#[test]
fn artifacts_stay_within_their_limits_and_are_whole() {
    let grant = grant(json!({"write": ["**"], "limits": {"artifact_bytes": 3 << 20, "artifact_files": 3}}));
    let steps = json!([
        ["artifact-flood", 8 << 20],
        ["artifact", "a", "1"],
        ["artifact", "b", "2"],
        ["artifact", "c", "3"],
    ]);
    let stage = probe(Stage::new("true"), grant, steps);
    let ran = stage.run();
    let answers = answers(&ran);
    assert_eq!(answers[0]["written"], 3 << 20);
    assert!(refusal(&answers[0]["then"], "write").contains("3145728 bytes"));
    assert!(refusal(&answers[0]["commit"], "write").contains("start it again"), "a part is never committed");
    // What was spent on the flood is spent.
    refusal(&answers[1], "write");
    assert!(refusal(&answers[3], "write").contains("3 artifacts"));
    assert!(record(&ran, 1).artifacts.is_empty());
}

#[test]
fn only_granted_programs_run_and_only_with_granted_arguments() {
    let grant = grant(json!({
        "read": ["**"],
        "exec": [
            {"program": "/bin/sh", "args": ["-c", "*"]},
            {"program": "printf", "args": ["ok-*"]},
            {"program": "/no/such/program"},
        ],
    }));
    let steps = json!([
        ["exec", "/bin/sh", ["-c", "printf out; printf err >&2; printf made > made.txt; exit 3"]],
        ["exec", "printf", ["ok-1"]],
        ["exec", "printf", ["bad"]],
        ["exec", "printf", ["ok-1", "more"]],
        ["exec", "printf", []],
        ["exec", "id", []],
        ["exec", "../bin/sh", ["-c", "true"]],
        ["exec", "/bin/sh", ["-c", "printf %s \"$X\""], {"X": "given"}],
        ["exec", "/bin/sh", ["-c", "true"], {"LD_PRELOAD": "/x.so"}],
        ["exec", "/bin/sh", ["-c", "true"], {"PANGOLIN_X": "y"}],
        ["exec", "/bin/sh", ["-c", "true"], {}, {"T": "token"}],
        ["exec", "/bin/sh", ["-c", "sleep 60 & sleep 60"], {}, {}, 200],
        ["exec", "/no/such/program", []],
        ["read", "workspace/made.txt"],
        ["exec", "/bin/sh", ["-c", "i=0; while [ $i -lt 40000 ]; do echo 0123456789; i=$((i+1)); done"]],
    ]);
    let mut stage = probe(Stage::new("true"), grant, steps);
    stage.layer(&[("PLAIN", "seen")], &[("LAYER_TOKEN", "layer-secret")]);
    stage.secrets(json!({"layer-secret": "s3cr3t-of-the-layer", "token": "tok-tok-tok"}));
    let ran = stage.run();
    let answers = answers(&ran);
    let outcome = |exit: i32, stdout: &str, stderr: &str| json!({"exit": exit, "timedOut": false, "stdout": stdout, "stderr": stderr, "truncated": false});
    assert_eq!(answers[0], outcome(3, "out", "err"));
    assert_eq!(answers[1], outcome(0, "ok-1", ""));
    for answer in &answers[2..5] {
        assert!(refusal(answer, "exec").contains("with other arguments"), "{}", answer);
    }
    assert!(refusal(&answers[5], "exec").contains("granted: /bin/sh, printf"));
    assert!(refusal(&answers[6], "exec").contains(".."));
    assert_eq!(answers[7], outcome(0, "given", ""));
    assert!(refusal(&answers[8], "env").contains("what code runs"));
    assert!(refusal(&answers[9], "env").contains("worker only"));
    assert!(refusal(&answers[10], "secret").contains("nothing is granted"));
    assert_eq!(answers[11]["timedOut"], true);
    assert!(refusal(&answers[12], "exec").contains("/no/such/program"), "{}", answers[12]);
    assert_eq!(answers[13], "made", "what a program wrote is there to be read");
    assert_eq!(answers[14]["exit"], 0);
    assert_eq!(answers[14]["truncated"], false);
    assert_eq!(answers[14]["stdout"].as_str().unwrap().len(), 440_000);
    let record = record(&ran, 1);
    let programs: Vec<&str> = record.programs.iter().map(|run| run.program.as_str()).collect();
    assert_eq!(programs, ["/bin/sh", "printf", "/bin/sh", "/bin/sh", "/bin/sh"]);
    assert!(record.programs[3].timed_out);
    // In the spelling that `pangolin plugin why-denied` reads.
    assert!(record.denials.iter().any(|denial| denial.subject == r#"printf ["bad"]"#));
    assert!(record.denials.iter().any(|denial| denial.subject == "token env:T /bin/sh"));
}

#[test]
fn programs_of_a_block_are_confined_and_get_no_secret_of_the_item() {
    let grant = grant(json!({"exec": [{"program": "/bin/sh", "args": ["-c", "**"]}]}));
    let steps = json!([
        ["exec", "/bin/sh", ["-c", "env | sort; ls /proc/net/dev >/dev/null; grep -c : /proc/net/dev"]],
        ["exec", "/bin/sh", ["-c", "touch /usr/escape 2>/dev/null && echo escaped || echo confined"]],
    ]);
    let mut stage = probe(Stage::new("true"), grant, steps);
    stage.layer(&[("PLAIN", "seen")], &[("LAYER_TOKEN", "layer-secret")]);
    stage.secrets(json!({"layer-secret": "s3cr3t-of-the-layer"}));
    let ran = stage.run();
    let answers = answers(&ran);
    let env = answers[0]["stdout"].as_str().unwrap();
    assert!(env.contains("PLAIN=seen") && env.contains("HOME=/home/agent"), "{env}");
    assert!(!env.contains("LAYER_TOKEN"), "{env}");
    assert!(env.trim_end().ends_with("\n1"), "only the loopback device: {env}");
    assert_eq!(answers[1]["stdout"], "confined\n");
    assert!(ran.result.mechanisms.contains(&"netns".to_owned()), "{:?}", ran.result.mechanisms);
}

#[test]
fn secrets_are_put_in_place_by_name_and_never_come_back() {
    let grant = grant(json!({
        "read": ["**"], "write": ["**"],
        "exec": [{"program": "/bin/sh", "args": ["-c", "*"]}],
        "secrets": [{"name": "token", "place": "env:GH_TOKEN", "to": "/bin/sh"}, {"name": "absent", "place": "env:A"}],
    }));
    let secret = "s3cr3t-value-42";
    let steps = json!([
        ["exec", "/bin/sh", ["-c", "test \"$GH_TOKEN\" = s3cr3t-\"value-42\" && echo right; echo $GH_TOKEN"], {}, {"GH_TOKEN": "token"}],
        ["exec", "/bin/sh", ["-c", "true"], {}, {"OTHER": "token"}],
        ["exec", "/bin/sh", ["-c", "true"], {}, {"A": "absent"}],
        ["read", "workspace/leak.txt"],
        ["evidence", "leak", format!("{{\"{secret}\": [\"in {secret}\"]}}")],
        ["artifact", format!("reports/{secret}.txt"), "x"],
        ["log", 2, format!("logged {secret}")],
        ["verdict", true, format!("green {secret}")],
    ]);
    let mut stage = staged(Stage::new(&format!("printf '{secret}' > leak.txt")), grant);
    stage.blocks(
        json!([{"kind": "agent"}, {"kind": "plugin", "plugin": "probe", "params": {"steps": steps}}]),
    );
    stage.secrets(json!({"token": secret}));
    let ran = stage.run();
    assert_eq!(ran.result.ending, Ending::Finished {});
    let marker = "<redacted:secret>";
    let record = record(&ran, 1);
    let answers = record.evidence["steps"].as_array().unwrap();
    assert_eq!(answers[0]["stdout"], format!("right\n{marker}\n"));
    assert!(refusal(&answers[1], "secret").contains("token at env:GH_TOKEN"));
    assert!(refusal(&answers[2], "exec").contains("not handed to this dispatch"));
    assert_eq!(answers[3], marker, "what the block read is taken out of what it says");
    assert_eq!(record.evidence["leak"], json!({marker: [format!("in {marker}")]}));
    assert!(refusal(&answers[5], "write").contains("secret"));
    assert_eq!(record.log, [format!("info logged {marker} 0"), format!("info logged {marker} 1")]);
    assert_eq!(record.verdict.as_ref().unwrap().summary, format!("green {marker}"));
    assert_eq!(record.secrets_used, ["token env:GH_TOKEN /bin/sh"]);
    let sealed = fs::read_to_string(stage.result_dir().join("result.json")).unwrap();
    assert!(!sealed.contains(secret) && !ran.stdout.contains(secret));
}

#[test]
fn a_log_flood_is_cut_and_counted() {
    let ran = probe(Stage::new("true"), everything(), json!([["log", 50_000, "line"]])).run();
    let record = record(&ran, 1);
    assert_eq!(record.failure, None);
    assert_eq!(record.log.len(), 100);
    assert!(record.left_out["log"] > 10_000, "{:?}", record.left_out);
}

/// Answers each connection with the next of these; hands over what was asked.
fn server(answers: Vec<String>) -> (u16, std::sync::mpsc::Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let (sender, asked) = channel();
    std::thread::spawn(move || {
        for answer in answers {
            let Ok((mut stream, _)) = listener.accept() else { return };
            let mut text = Vec::new();
            let mut piece = [0; 4096];
            loop {
                let count = stream.read(&mut piece).unwrap_or(0);
                text.extend_from_slice(&piece[..count]);
                let whole = String::from_utf8_lossy(&text).into_owned();
                let body = whole.split_once("\r\n\r\n").map(|(_, body)| body.len());
                let wanted = whole
                    .to_ascii_lowercase()
                    .split_once("content-length: ")
                    .and_then(|(_, rest)| rest.split("\r\n").next()?.parse::<usize>().ok())
                    .unwrap_or(0);
                if count == 0 || body.is_some_and(|body| body >= wanted) {
                    break;
                }
            }
            let _ = sender.send(String::from_utf8_lossy(&text).into_owned());
            let _ = stream.write_all(answer.as_bytes());
        }
    });
    (port, asked)
}

fn answer(status: &str, headers: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\n{headers}content-length: {}\r\nconnection: close\r\n\r\n{body}", body.len())
}

#[test]
fn granted_hosts_are_reached_and_everything_is_sealed() {
    let secret = "s3cr3t-value-42";
    let (port, asked) = server(vec![
        answer("200 OK", &format!("x-echo: {secret}\r\n"), &format!("hello {secret}")),
        answer("302 Found", "location: /next\r\n", ""),
        answer("200 OK", "", "after"),
        answer("302 Found", "location: http://localhost:1/steal\r\n", ""),
        answer("200 OK", "", &"x".repeat(5_000)),
    ]);
    let url = format!("http://127.0.0.1:{port}");
    let grant = grant(json!({
        "net": [{"host": "127.0.0.1", "scheme": "http", "port": port, "methods": ["GET", "POST"]}],
        "secrets": [{"name": "token", "place": "header:Authorization", "to": "127.0.0.1"}],
        "limits": {"fetch_bytes": 4_096},
    }));
    let steps = json!([
        ["fetch", "POST", format!("{url}/a?q=1"), {"X-Kind": "probe"}, {"authorization": "token"}, "the body"],
        ["fetch", "GET", format!("{url}/first")],
        ["fetch", "GET", format!("{url}/steal"), {}, {"Authorization": "token"}],
        ["fetch", "GET", format!("{url}/large")],
        ["fetch", "DELETE", format!("{url}/a")],
        ["fetch", "GET", format!("https://127.0.0.1:{port}/a")],
        ["fetch", "GET", "http://localhost/"],
        ["fetch", "GET", format!("http://user:pass@127.0.0.1:{port}/")],
        ["fetch", "GET", "file:///etc/passwd"],
        ["fetch", "GET", url, {"Host": "evil"}],
        ["fetch", "GET", url, {"X": "a\r\nY: b"}],
        ["fetch", "GET", url, {}, {"Authorization": "other"}],
        ["fetch", "GET", url],
    ]);
    let mut stage = probe(Stage::bare("true"), grant, steps);
    stage.secrets(json!({"token": secret}));
    // A proxy of the environment must not be asked.
    stage.host_env.insert("http_proxy".to_owned(), "http://127.0.0.1:1".to_owned());
    let ran = stage.run();
    let answers = answers(&ran);
    let marker = "<redacted:secret>";
    assert_eq!(answers[0], json!({"status": 200, "body": format!("hello {marker}"), "echo": marker}));
    assert_eq!((&answers[1]["status"], &answers[1]["body"]), (&json!(200), &json!("after")));
    assert!(
        refusal(&answers[2], "net").contains("no rule of net"),
        "a redirect reaches nothing else: {}",
        answers[2]
    );
    assert!(refusal(&answers[3], "net").starts_with("transport: the answer has more than 4096 bytes"));
    for index in [4, 5, 6] {
        assert!(refusal(&answers[index], "net").contains("no rule of net"), "{}", answers[index]);
    }
    assert!(refusal(&answers[7], "net").contains("user or password"));
    assert!(refusal(&answers[8], "net").contains("only https and http"));
    assert!(refusal(&answers[9], "net").contains("set by the worker"));
    assert!(refusal(&answers[10], "net").contains("control character"));
    assert!(refusal(&answers[11], "secret").contains("no rule"));
    // Nobody answers any more.
    assert!(refusal(&answers[12], "net").starts_with("transport: "), "{}", answers[12]);
    let first = asked.recv().unwrap();
    assert!(first.starts_with("POST /a?q=1 HTTP/1.1\r\n"), "{first}");
    assert!(
        first.contains(&format!("authorization: {secret}\r\n")) && first.contains("x-kind: probe\r\n"),
        "{first}"
    );
    assert!(first.ends_with("\r\n\r\nthe body"), "{first}");
    let record = record(&ran, 1);
    let origin = format!("http://127.0.0.1:{port}");
    assert!(record.contacts.iter().all(|contact| contact.origin == origin), "{:?}", record.contacts);
    let statuses: Vec<Option<u16>> = record.contacts.iter().map(|contact| contact.status).collect();
    assert_eq!(statuses, [Some(200), Some(302), Some(200), Some(302), None, None]);
    assert_eq!((record.contacts[0].sent, record.contacts[0].method.as_str()), (8, "POST"));
    assert_eq!(
        record.secrets_used,
        ["token header:Authorization 127.0.0.1", "token header:authorization 127.0.0.1"]
    );
    assert!(record.denials.iter().any(|denial| denial.subject == "GET http://localhost:1"));
}

#[test]
fn without_a_network_nothing_is_fetched() {
    let grant =
        grant(json!({"net": [{"host": "127.0.0.1", "scheme": "http", "port": 9, "methods": ["GET"]}]}));
    let ran = probe(Stage::new("true"), grant, json!([["fetch", "GET", "http://127.0.0.1:9/"]])).run();
    let answer = &answers(&ran)[0];
    assert!(refusal(answer, "net").starts_with("policy: network \"none\" of the executor"), "{answer}");
    assert!(record(&ran, 1).contacts.is_empty());
}

#[test]
fn https_never_falls_back_to_plain_text() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let (sender, asked) = channel();
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut piece = [0; 4096];
        let count = stream.read(&mut piece).unwrap();
        sender.send(String::from_utf8_lossy(&piece[..count]).into_owned()).unwrap();
        stream.write_all(answer("200 OK", "", "plain").as_bytes()).unwrap();
    });
    let grant = grant(json!({"net": [{"host": "127.0.0.1", "port": port, "methods": ["GET"]}]}));
    let ran =
        probe(Stage::bare("true"), grant, json!([["fetch", "GET", format!("https://127.0.0.1:{port}/")]]))
            .run();
    // A server that does not speak TLS gets a greeting of TLS and no request.
    assert!(refusal(&answers(&ran)[0], "net").starts_with("transport: "));
    assert!(!asked.recv().unwrap().contains("GET"), "nothing is sent in the clear");
}

#[test]
fn https_with_a_certificate_that_nobody_vouches_for_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let openssl = |args: &[&str]| {
        let mut command = Command::new("openssl");
        command
            .current_dir(&directory)
            .args(args)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        command
    };
    let key =
        ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "k.pem", "-out", "c.pem", "-days", "2"];
    let name = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"];
    if !openssl(&[&key[..], &name[..]].concat()).status().is_ok_and(|status| status.success()) {
        eprintln!("NOT RUN: there is no openssl on this machine, so nobody speaks TLS to the worker");
        return;
    }
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let accept = format!("127.0.0.1:{port}");
    let args = ["s_server", "-accept", &accept, "-cert", "c.pem", "-key", "k.pem", "-www", "-quiet"];
    let mut server = openssl(&args).spawn().unwrap();
    eventually("the TLS server", || std::net::TcpStream::connect(&accept).is_ok());
    let grant = grant(json!({"net": [{"host": "localhost", "port": port, "methods": ["GET"]}]}));
    let ran =
        probe(Stage::bare("true"), grant, json!([["fetch", "GET", format!("https://localhost:{port}/")]]))
            .run();
    server.kill().unwrap();
    server.wait().unwrap();
    let answer = answers(&ran)[0].clone();
    let reason = refusal(&answer, "net");
    // The handshake got as far as the certificate.
    assert!(reason.starts_with("transport: ") && reason.contains("invalid peer certificate"), "{reason}");
}

#[test]
fn other_code_than_the_envelope_names_is_never_loaded() {
    let mut stage = staged(Stage::new("touch started"), everything());
    stage.blocks(json!([{"kind": "agent"}, step_block(json!([]))]));
    let file = stage.path("envelope").join(&stage.envelope.plugins[0].file);
    let mut bytes = fs::read(&file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&file, &bytes).unwrap();
    let ran = stage.run();
    let (reason, message) = failure(&ran);
    assert_eq!(reason, FailureReason::IntegrityFailed);
    assert!(message.contains("plugin \"probe\"") && message.contains("digest"), "{message}");
    assert!(!stage.workspace().join("started").exists(), "nothing starts");
}

#[test]
fn code_that_is_swapped_while_the_agent_runs_is_never_loaded() {
    // Without a sandbox the agent of the same user can reach the envelope.
    let mut stage = staged(Stage::bare("true"), everything());
    let file = stage.path("envelope").join(&stage.envelope.plugins[0].file);
    stage.envelope.agent.as_mut().unwrap().args[1] = format!("printf evil >> {}", file.display());
    stage.blocks(json!([{"kind": "agent"},
        {"kind": "plugin", "plugin": "probe", "onFailure": "open", "params": {"steps": [], "verdict": true}}]));
    let (reason, message) = failure(&stage.run());
    assert_eq!(
        reason,
        FailureReason::IntegrityFailed,
        "open is for failures of the plugin, not for other bytes"
    );
    assert!(message.contains("integrity"), "{message}");
}

#[test]
fn code_for_another_engine_is_not_compiled() {
    let mut stage = staged(Stage::new("true"), everything());
    let plugin = &mut stage.envelope.plugins[0];
    let bytes = b"\x7fELF not really";
    plugin.code = Digest::of(bytes);
    fs::write(stage.directory.path().join("envelope").join(&plugin.file), bytes).unwrap();
    stage.blocks(json!([step_block(json!([]))]));
    let ran = stage.run();
    let (reason, message) = failure(&ran);
    assert_eq!(reason, FailureReason::WorkerFailed);
    assert!(message.contains("not-compiled") && message.contains("same release"), "{message}");
}

#[test]
fn a_pipeline_without_its_plugin_does_not_start() {
    let mut stage = Stage::new("touch started");
    stage.blocks(json!([{"kind": "agent"}, step_block(json!([]))]));
    let ran = stage.run();
    let (_, message) = failure(&ran);
    assert!(message.contains("plugin \"probe\" but the envelope does not stage it"), "{message}");
    assert!(!stage.workspace().join("started").exists());
}

#[test]
fn a_bad_grant_is_refused_as_a_whole() {
    let grant =
        grant(json!({"read": ["../**", "a**b"], "net": [{"host": "x", "scheme": "ftp", "methods": []}]}));
    let ran = probe(Stage::new("true"), grant, json!([])).run();
    let (_, message) = failure(&ran);
    for word in ["contains . or ..", "** does not stand alone", "ftp"] {
        assert!(message.contains(word), "{word}: {message}");
    }
}

#[test]
fn a_stop_ends_a_block_and_leaves_whole_artifacts_only() {
    for (steps, started) in [
        (json!([["artifact", "a", "whole"], ["artifact", "b", "half", "open"], ["spin"]]), "spins"),
        (
            json!([
                ["artifact", "a", "whole"],
                ["artifact", "b", "half", "open"],
                ["exec", "/bin/sh", ["-c", "sleep 60"]]
            ]),
            "runs a program",
        ),
    ] {
        let grant = grant(json!({"write": ["**"], "exec": [{"program": "/bin/sh", "args": ["-c", "*"]}]}));
        let stage = probe(Stage::new("true"), grant, steps);
        let child = stage.spawn();
        let kept = stage.result_dir().join(ARTIFACTS_DIR).join(Digest::of(b"whole").hex());
        eventually("the first artifact", || kept.exists());
        let id = nix::unistd::Pid::from_raw(i32::try_from(child.id()).unwrap());
        nix::sys::signal::kill(id, nix::sys::signal::Signal::SIGTERM).unwrap();
        let ran = stage.collect(child);
        assert_eq!(ran.result.ending, Ending::Cancelled {}, "{started}");
        let paths: Vec<&str> =
            record(&ran, 1).artifacts.iter().map(|artifact| artifact.path.as_str()).collect();
        assert_eq!(paths, ["a"], "{started}");
    }
}

#[test]
fn a_kill_at_any_time_leaves_no_half_artifact() {
    let whole = "0123456789".repeat(200);
    let steps: Vec<Value> = (0..200)
        .map(|number| json!(["artifact", format!("a-{number}"), format!("{number} {whole}")]))
        .collect();
    let expected: Vec<String> =
        (0..200).map(|number| Digest::of(format!("{number} {whole}").as_bytes()).hex()).collect();
    for kill_after in [1_usize, 5, 17] {
        let stage = probe(Stage::new("true"), everything(), json!(steps));
        let mut child = stage.spawn();
        let directory = stage.result_dir().join(ARTIFACTS_DIR);
        let count = || fs::read_dir(&directory).map_or(0, |entries| entries.count());
        eventually("some artifacts", || count() >= kill_after);
        child.kill().unwrap();
        child.wait().unwrap();
        for entry in fs::read_dir(&directory).unwrap().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            assert!(expected.contains(&name), "{name} is no artifact");
            assert_eq!(Digest::of(&fs::read(entry.path()).unwrap()).hex(), name, "half an artifact");
        }
    }
}
