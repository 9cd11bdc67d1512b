//! Runs that the patterns which ship grew: they verify and replay.

mod grower;

use grower::{Grown, grow, key};
use pangolin_audit::{
    report::Verdict,
    verify::{Trust, verify_bundle},
};
use pangolin_plugin_host::{CacheKey, Compiler, HostOptions, PluginHost};
use pangolin_replay::{Given, ReplayVerdict, replay};
use serde_json::{Value, json};

fn host() -> PluginHost {
    let dir = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("plugin-cache");
    let options = HostOptions { compiler: Compiler::InProcess, ..HostOptions::default() };
    PluginHost::with_options(&dir, CacheKey::from_bytes([7; 32]), options).expect("a plugin host")
}

fn item(id: &str, inputs: &Value) -> Value {
    json!({ "id": id, "executor": "dispatch", "inputs": inputs, "depends_on": [], "resourceLocks": [] })
}

/// Runs the plan with the pattern; the record must verify and replay.
async fn check(pattern: &str, items: &[Value], batch: usize) -> Grown {
    let bytes = pangolin_builtin_plugins::pattern(pattern).expect("ships");
    let component = host().load_pattern(bytes).expect("a pattern");
    let outputs = |id: &pangolin_core::ids::ItemId| match id.as_str() {
        "split" => vec!["a".to_owned(), "b.txt".to_owned(), "c".to_owned()],
        _ => vec!["result".to_owned()],
    };
    let grown = grow(&component, bytes, items, outputs, batch).await.expect("a run");
    let trust = Trust { keys: vec![key().verifier_key()], ..Trust::default() };
    let report = verify_bundle(&grown.bundle, &trust);
    assert_eq!(report.verdict, Verdict::Intact, "{}", report.to_json());
    let replayed = replay(&grown.bundle, &host(), &Given::default(), |_| ()).await.expect("a bundle");
    assert_eq!(replayed.verdict, ReplayVerdict::Agrees, "{replayed:#?}");
    assert_eq!((replayed.agreed, replayed.steps), (grown.steps, grown.steps));
    assert!(replayed.notes.is_empty(), "fuel is the same on the same engine: {replayed:#?}");
    grown
}

#[tokio::test(flavor = "multi_thread")]
async fn map_reduce() {
    let config = json!({ "mapReduce": {
        "map": { "executor": "dispatch", "inputs": {} },
        "reduce": { "executor": "dispatch", "inputs": {} },
    } });
    for batch in [1, 2, 10] {
        let grown = check("map-reduce", &[item("split", &config)], batch).await;
        assert_eq!(grown.items, 5, "split, three maps and reduce");
        assert!(grown.steps >= 3, "{}", grown.steps);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pipeline_orders_at_admission() {
    let items = ["one", "two", "three"].map(|id| item(id, &json!({})));
    let grown = check("pipeline", &items, 1).await;
    assert_eq!(grown.items, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_static_graph_closes_at_admission() {
    let grown = check("static-dag", &[item("one", &json!({}))], 1).await;
    assert_eq!((grown.items, grown.steps), (1, 1));
}
