//! Blocks over the world in memory: what tests of plugins use.

#![expect(clippy::unwrap_used, reason = "test code")]

mod support;

use std::{collections::BTreeMap, time::Duration};

use pangolin_core::ids::Digest;
use pangolin_envelope::plugin::{BlockGrant, PluginEvidence};
use pangolin_plugin_host::{
    BLOCK_CONTRACT, BlockCall, ExecOutcome, FetchResponse, MemoryWorld, Profile, engine_name,
};
use serde_json::{Value, json};

use support::{guest, shared_host};

fn run(world: MemoryWorld, grant: Value, steps: Value) -> (PluginEvidence, MemoryWorld) {
    let block = shared_host().load_block(&guest("pangolin-test-block")).unwrap();
    let grant: BlockGrant = serde_json::from_value(grant).unwrap();
    let call = BlockCall {
        id: "probe".into(),
        contract: BLOCK_CONTRACT.into(),
        engine: engine_name(Profile::Effect),
        fingerprint: Digest::of(b"grant"),
        grant,
        params: json!({"steps": steps, "verdict": true}),
        position: 3,
        lens: "gate".into(),
        attrs: BTreeMap::from([("run".into(), "run-1".into())]),
        timeout: Duration::from_secs(20),
    };
    block.run_blocking(world, &call).unwrap()
}

fn steps(evidence: &PluginEvidence) -> &[Value] {
    assert_eq!(evidence.failure, None);
    evidence.evidence["steps"].as_array().unwrap()
}

#[test]
fn a_world_in_memory_answers_with_what_it_was_given() {
    let mut world = MemoryWorld::with_files([("workspace/a.txt", "now"), ("base/a.txt", "before")]);
    world.earlier.insert("0".into(), r#"{"ok":true}"#.into());
    world.secrets.push("token".into());
    let green = ExecOutcome { exit_code: Some(0), stdout: b"fine".to_vec(), ..ExecOutcome::default() };
    world.programs.insert("suite --fast".into(), [green].into());
    let answer =
        FetchResponse { status: 200, headers: vec![("x-echo".into(), "e".into())], body: b"rules".to_vec() };
    world.hosts.insert("GET https://acme.dev/rules".into(), [Ok(answer), Err("reset".into())].into());
    let grant = json!({
        "read": ["workspace/**"], "write": ["*.json"],
        "exec": [{"program": "suite", "args": ["**"]}],
        "net": [{"host": "*.acme.dev", "methods": ["GET"]}, {"host": "acme.dev", "methods": ["GET"]}],
        "secrets": [{"name": "token", "place": "header:Authorization", "to": "acme.dev"}],
    });
    let script = json!([
        ["list", ""],
        ["read", "base/a.txt"],
        ["earlier", "0"],
        ["exec", "suite", ["--fast"]],
        ["exec", "suite", ["--slow"]],
        ["fetch", "get", "https://acme.dev/rules", {}, {"authorization": "token"}],
        ["fetch", "GET", "https://acme.dev/rules"],
        ["fetch", "GET", "https://sub.acme.dev/rules", {}, {"authorization": "token"}],
        ["artifact", "report.json", "{}"],
        ["artifact", "other.json", "{}", "open"],
        ["position"],
        ["attr", "lens"],
    ]);
    let (evidence, world) = run(world, grant, script);
    let answers = steps(&evidence);
    assert_eq!(answers[0], json!(["workspace/a.txt"]));
    assert_eq!(answers[1]["refused"]["capability"], "read");
    assert_eq!(answers[2], json!({"ok": true}));
    assert_eq!((&answers[3]["exit"], &answers[3]["stdout"]), (&json!(0), &json!("fine")));
    assert!(answers[4]["refused"]["reason"].as_str().unwrap().contains("no answer for program"));
    assert_eq!(answers[5], json!({"status": 200, "body": "rules", "echo": "e"}));
    assert_eq!(answers[6]["refused"]["reason"], "transport: reset");
    assert_eq!(answers[7]["refused"]["capability"], "secret", "the secret is for another host");
    assert_eq!(answers[10..], [json!(3), json!("gate")]);
    assert_eq!(world.artifacts, BTreeMap::from([("report.json".to_owned(), b"{}".to_vec())]));
    assert_eq!(evidence.artifacts.len(), 1);
    assert_eq!(evidence.secrets_used, ["token header:authorization acme.dev"]);
    let methods: Vec<&str> = evidence.contacts.iter().map(|contact| contact.method.as_str()).collect();
    assert_eq!(methods, ["GET", "GET"]);
}

#[test]
fn a_pattern_is_no_block() {
    let error = shared_host().load_block(&guest("pangolin-test-hostile")).err().unwrap();
    assert!(matches!(error.code(), "refused" | "contract-mismatch"), "{error}");
}

#[test]
fn numbers_that_a_record_cannot_carry_become_text() {
    let script = json!([[
        "evidence",
        "n",
        "{\"big\": 18446744073709551615, \"low\": -9007199254740993, \"ok\": 9007199254740991}"
    ]]);
    let (evidence, _) = run(MemoryWorld::default(), json!({}), script);
    assert_eq!(
        evidence.evidence["n"],
        json!({"big": "18446744073709551615", "low": "-9007199254740993", "ok": 9_007_199_254_740_991_u64})
    );
}

#[test]
fn repeated_denials_are_counted_not_listed() {
    let script: Vec<Value> = (0..300).map(|_| json!(["read", "workspace/secret"])).collect();
    let (evidence, _) = run(MemoryWorld::default(), json!({}), json!(script));
    assert_eq!(evidence.denials.len(), 1);
    assert_eq!(evidence.denials[0].count, 300);
    let script: Vec<Value> = (0..300).map(|number| json!(["read", format!("workspace/{number}")])).collect();
    let (evidence, _) = run(MemoryWorld::default(), json!({}), json!(script));
    assert_eq!((evidence.denials.len(), evidence.left_out["denials"]), (100, 200));
}

#[test]
fn a_world_that_stops_ends_the_guest() {
    let mut world = MemoryWorld::with_files([("workspace/a.txt", "a")]);
    world.stop = true;
    let (evidence, _) = run(world, json!({}), json!([["spin"]]));
    assert_eq!(evidence.failure.unwrap().code, "host-busy");
    assert_eq!(evidence.verdict, None);
}
