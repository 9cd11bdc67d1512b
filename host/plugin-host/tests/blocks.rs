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
fn a_denied_listing_names_the_rule_that_would_show_it() {
    let world = MemoryWorld::with_files([
        ("workspace/src/a.rs", "a"),
        ("workspace/src/deep/b.rs", "b"),
        ("workspace/z", "z"),
    ]);
    let script =
        json!([["list", "workspace/src/"], ["list", "workspace/s"], ["list", "workspace/z"], ["list", ""]]);
    let (evidence, _) = run(world, json!({"read": ["outputs/**"]}), script);
    let answers = steps(&evidence);
    for (answer, rule) in answers.iter().zip(["workspace/src/**", "workspace/**", "workspace/z", "**"]) {
        assert_eq!(answer["refused"]["subject"], rule, "{answers:#?}");
        let reason = answer["refused"]["reason"].as_str().unwrap();
        assert!(reason.ends_with(&format!("to allow it, grant read = [\"{rule}\"]")), "{reason}");
    }
}

#[tokio::test]
async fn parameters_are_judged_before_there_is_anything_else() {
    let shipped = |id: &str| shared_host().load_block(pangolin_builtin_plugins::block(id).unwrap()).unwrap();
    let places = async |id: &str, params: Value| {
        let found = shipped(id).check_params(&params).await;
        found.into_iter().map(|it| it.pointer).collect::<Vec<String>>()
    };
    for id in ["diff-policy", "licence-check", "secret-scan", "test-report"] {
        assert_eq!(places(id, json!({})).await, [""; 0], "{id}");
        assert_eq!(places(id, json!({"no-such": 1})).await, ["/params/no-such"], "{id}");
    }
    let wrong = json!({"maxFindings": "a", "rules": {"nope": "warn"}});
    assert_eq!(places("secret-scan", wrong).await, ["/params/maxFindings", "/params/rules/nope"]);
}

#[tokio::test]
async fn a_look_at_parameters_shows_and_does_nothing_else() {
    let block = shared_host().load_block(&guest("pangolin-test-block")).unwrap();
    for step in [
        json!(["list", ""]),
        json!(["read", "workspace/a.txt"]),
        json!(["earlier", "0"]),
        json!(["attr", "lens"]),
        json!(["exec", "suite", []]),
        json!(["fetch", "GET", "https://acme.dev"]),
        json!(["artifact", "a.json", "{}"]),
        json!(["evidence", "n", "1"]),
        json!(["spin"]),
    ] {
        // Whoever is answered gives up next. Nobody is answered.
        let params = json!({"steps": [step, ["fault", "bad-params", "/params/steps: no"]]});
        assert_eq!(block.check_params(&params).await, [], "{step}");
    }
    let params = json!({"steps": [["fault", "bad-params", "/params/steps: no"]]});
    let found = block.check_params(&params).await;
    assert_eq!(found.iter().map(ToString::to_string).collect::<Vec<_>>(), ["/params/steps: no"]);
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
