//! Blocks that are plugins, in an emulated stack: the function has no compiler, the worker gets native code.

use std::path::Path;

use pangolin_aws_e2e::{EmulatedStack, Options};
use pangolin_core::ids::RunId;
use pangolin_runtime::deployment::SubmitOptions;
use serde_json::{Value, json};

const TICK: &str = env!("CARGO_BIN_EXE_pangolin-lambda-tick");

/// An agent leaves a token behind in one item and none in the other; the block judges both in the worker.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_block_judges_in_the_worker_of_a_stack() {
    let Some(stack) = EmulatedStack::start(Path::new(TICK), Options::default()).await else { return };
    let (home, _dir) = stack.at_home().await;
    let token = ["ghp", "_b7Kq2VxT9mLzR4cWn8PdYf3HsJ6gQe1AuXoB"].concat();
    stack.agent(&home, "careful", "echo x = 1 > part.py").await;
    stack.agent(&home, "careless", &format!("echo 'TOKEN = \"{token}\"' > part.py")).await;
    let pipeline = json!({ "schemaVersion": 1, "id": "test.judged", "blocks": [
        { "kind": "agent" },
        { "kind": "plugin", "plugin": "secret-scan", "params": { "maxFindings": 3 } },
        { "kind": "capture", "what": "patch" },
    ]});
    let pipeline = serde_json::from_value(pipeline).unwrap();
    home.registry().register_pipeline(&pipeline, home.now()).await.unwrap();
    let items: Vec<Value> = ["careful", "careless"]
        .iter()
        .map(|agent| {
            json!({
                "id": agent, "executor": "dispatch", "depends_on": [], "resourceLocks": [],
                "inputs": { "subagent": agent, "pipeline": "test.judged" },
            })
        })
        .collect();
    let plan = json!({ "id": "judged", "queue": "default", "items": items }).to_string();
    let options = SubmitOptions { queue: None, actor: "human:test".to_owned() };
    home.submit(plan.as_bytes(), options).await.unwrap();
    stack.until_ended(&home, "judged").await;

    let view = home.run_view(&RunId::new("judged").unwrap()).await.unwrap();
    let mut seen = Vec::new();
    for item in &view.items {
        let result =
            item.attempts.last().unwrap().result.unwrap_or_else(|| panic!("{item:?} {}", stack.logs()));
        let record: Value = serde_json::from_slice(&home.blob(&result).await.unwrap()).unwrap();
        let blocks = record["worker"]["blocks"].as_array().unwrap();
        let block =
            blocks.iter().find(|block| block["plugin"].is_object()).unwrap_or_else(|| panic!("{record}"));
        assert_eq!(block["plugin"]["id"], "secret-scan");
        assert_eq!(block["plugin"]["failure"], Value::Null, "{record}");
        let verdict = &block["plugin"]["verdict"];
        assert!(!record.to_string().contains(&token[8..]), "the token is in nobody's record");
        seen.push((item.id.to_string(), item.status.clone(), verdict["passed"].as_bool().unwrap()));
    }
    seen.sort();
    let expected = [("careful", "done", true), ("careless", "failed", false)]
        .map(|(id, status, passed)| (id.to_owned(), status.to_owned(), passed));
    assert_eq!(seen, expected, "{}", stack.logs());
    stack.is_tamper_evident(&home, "judged").await;
    assert_eq!(stack.lambda.violations(), Vec::<String>::new());
}
