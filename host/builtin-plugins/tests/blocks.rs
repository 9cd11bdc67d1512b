//! The shipped blocks as components on the real engine, with no more than their manifests ask for.

use std::{collections::BTreeMap, path::Path, time::Duration};

use pangolin_core::ids::Digest;
use pangolin_envelope::plugin::{BlockGrant, PluginEvidence};
use pangolin_plugin_authority::extract;
use pangolin_plugin_host::{
    BLOCK_CONTRACT, BlockCall, CacheKey, Compiler, HostOptions, MemoryWorld, PluginHost,
};
use serde_json::{Value, json};

/// Our own components, so they may be compiled in this process.
fn host() -> PluginHost {
    let cache = Path::new(env!("CARGO_TARGET_TMPDIR")).join("block-cache");
    let options = HostOptions { compiler: Compiler::InProcess, ..HostOptions::default() };
    PluginHost::with_options(&cache, CacheKey::from_bytes([3; 32]), options).expect("a host")
}

fn run(id: &str, params: Value, world: MemoryWorld) -> PluginEvidence {
    let host = host();
    let component = pangolin_builtin_plugins::block(id).expect("ships");
    let manifest = extract(component).expect("a manifest");
    assert_eq!(manifest.id.to_string(), id);
    let call = BlockCall {
        id: id.into(),
        contract: BLOCK_CONTRACT.into(),
        engine: "test".into(),
        grant: BlockGrant {
            read: manifest.needs.read().map(ToString::to_string).collect(),
            ..BlockGrant::default()
        },
        fingerprint: Digest::of(b"test"),
        params,
        position: 0,
        lens: "gate".into(),
        attrs: BTreeMap::new(),
        timeout: Duration::from_secs(60),
    };
    let block = host.load_block(component).expect("links");
    let (evidence, _) = block.run_blocking(world, &call).expect("runs");
    assert_eq!(evidence.failure, None, "{id}");
    assert_eq!(evidence.denials, [], "{id} asks for no more than its manifest says");
    evidence
}

/// A tree with these new files.
fn world(added: &[(&str, &str)]) -> MemoryWorld {
    let changes: Vec<Value> = added
        .iter()
        .map(|(path, text)| {
            let after = json!({"mode": "100644", "size": text.len(), "digest": Digest::of(text.as_bytes())});
            json!({"path": path, "kind": "added", "after": after, "binary": false})
        })
        .collect();
    let changes = json!({"schemaVersion": 1, "changes": changes}).to_string();
    let files = added.iter().map(|(path, text)| (format!("workspace/{path}"), text.as_bytes().to_vec()));
    MemoryWorld::with_files(files.chain([("changes.json".to_owned(), changes.into_bytes())]))
}

fn verdict(evidence: &PluginEvidence) -> (bool, &str) {
    let verdict = evidence.verdict.as_ref().expect("a verdict");
    (verdict.passed, &verdict.summary)
}

#[test]
fn secret_scan() {
    let token = ["ghp", "_b7Kq2VxT9mLzR4cWn8PdYf3HsJ6gQe1AuXoB"].concat();
    let text = format!("one\nTOKEN = \"{token}\"\n");
    let evidence = run("secret-scan", json!({}), world(&[("a.py", &text), ("b.py", "x = 1\n")]));
    let (passed, summary) = verdict(&evidence);
    assert!(!passed && summary.contains("github-token 1"), "{summary}");
    assert_eq!(evidence.evidence["findings"]["shown"][0]["line"], 2);
    assert!(!serde_json::to_string(&evidence).expect("JSON").contains(&token[8..]));
    let allowed = run("secret-scan", json!({"allowPaths": ["a.py"]}), world(&[("a.py", &text)]));
    assert!(verdict(&allowed).0);
}

#[test]
fn secret_scan_over_megabytes() {
    let text =
        "let checksum = \"9f86d081884c7d659a2feaa0c55ad015\"; // password: see the vault\n".repeat(50_000);
    let evidence = run("secret-scan", json!({}), world(&[("big.rs", &text)]));
    assert!(verdict(&evidence).0, "{:?}", evidence.verdict);
    assert_eq!(evidence.evidence["counts"]["lines"], 50_000);
    assert!(evidence.bill.peak_memory_bytes < 16 << 20, "a large file is not held: {:?}", evidence.bill);
}

#[test]
fn diff_policy() {
    let files = [("src/a.rs", "one\ntwo\n"), (".github/workflows/ci.yml", "on: push\n")];
    let evidence = run("diff-policy", json!({}), world(&files));
    assert_eq!(verdict(&evidence), (false, "1 denied, 0 warnings (ci-file 1); 2 files, +3 -0 lines"));
    let evidence = run("diff-policy", json!({"rules": {"ci-file": "off"}}), world(&files));
    assert!(verdict(&evidence).0);
}

#[test]
fn test_report() {
    let report =
        r#"<testsuite><testcase name="a"/><testcase name="b"><failure message="no"/></testcase></testsuite>"#;
    let evidence = run("test-report", json!({}), world(&[("target/junit.xml", report)]));
    let (passed, summary) = verdict(&evidence);
    assert!(!passed && summary.starts_with("1 failed, 0 allowed: b"), "{summary}");
    assert!(!verdict(&run("test-report", json!({}), world(&[]))).0, "no report is red");
}

#[test]
fn licence_check() {
    let lock = r#"{"packages": {"node_modules/a": {"version": "1.0.0", "license": "GPL-3.0-only OR MIT"},
        "node_modules/b": {"version": "2.0.0", "license": "AGPL-3.0-only"}}}"#;
    let evidence =
        run("licence-check", json!({}), world(&[("package-lock.json", lock), ("go.sum", "m v1 h1:x\n")]));
    let (passed, summary) = verdict(&evidence);
    assert!(!passed, "{summary}");
    assert_eq!(evidence.evidence["findings"]["shown"][0]["dependency"], "npm:b@2.0.0");
    assert_eq!(evidence.evidence["dependencies"]["total"], 3);
}

#[test]
fn bad_parameters_end_as_a_fault_of_the_block() {
    let host = host();
    for (_, id) in pangolin_builtin_plugins::ids().filter(|shipped| shipped.0 == "block") {
        let block = host.load_block(pangolin_builtin_plugins::block(id).expect("ships")).expect("links");
        let call = BlockCall {
            id: id.into(),
            contract: BLOCK_CONTRACT.into(),
            engine: "test".into(),
            grant: BlockGrant::default(),
            fingerprint: Digest::of(b"test"),
            params: json!({"maxFindings": 0, "nonsense": true}),
            position: 0,
            lens: "gate".into(),
            attrs: BTreeMap::new(),
            timeout: Duration::from_secs(60),
        };
        let (evidence, _) = block.run_blocking(MemoryWorld::default(), &call).expect("runs");
        let failure = evidence.failure.expect("a fault");
        assert!(failure.message.contains("/params/maxFindings"), "{id}: {failure:?}");
        assert!(failure.message.contains("/params/nonsense"), "{id}: {failure:?}");
    }
}
