//! From a worker's exit to the start of its dependent, with real workers in the kernel sandbox: a chain of items
//! whose agent is `true`, through the real daemon. One JSON line. Needs `pangolin-worker` (`PANGOLIN_WORKER`).
//!
//! Measured between the worker's own time stamps (`finished_at` of one attempt, `started_at` of the next), so it
//! holds process end, collection of the result, storing evidence, the commit, staging and process start.
#![expect(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a benchmark prints its result and may stop anywhere"
)]

use std::{process::ExitCode, time::Duration};

use pangolin_core::ids::RunId;
use pangolin_runtime::{
    config::Config,
    deployment::{Deployment, InitOptions, SubmitOptions, init},
    registry::{AdapterBinding, SubagentDoc},
};
use serde_json::json;

const ITEMS: usize = 60;

fn main() -> ExitCode {
    let mut args = std::env::args_os().skip(1);
    match args.next() {
        Some(first) if first == pangolin_worker_process::SUPERVISE_COMMAND => {
            return pangolin_worker_process::supervise_main(args);
        }
        Some(first) if first == pangolin_plugin_host::COMPILE_COMMAND => {
            return pangolin_plugin_host::compile_main(args);
        }
        _ => {}
    }
    tokio::runtime::Runtime::new().unwrap().block_on(measure());
    ExitCode::SUCCESS
}

async fn measure() {
    let root = std::env::current_dir().unwrap().join("target");
    let dir = tempfile::Builder::new().prefix("bench-dispatch-").tempdir_in(root).unwrap();
    init(dir.path(), &InitOptions { namespace: "bench".to_owned(), force: true }).unwrap();
    let deployment = Deployment::open(Config::find(dir.path()).unwrap()).await.unwrap();
    let subagent = SubagentDoc {
        name: "nothing".to_owned(),
        system_prompt: None,
        prompt_template: None,
        model: None,
        capabilities: Vec::new(),
        adapter: AdapterBinding { id: "command".to_owned(), params: json!({"argv": ["true"]}) },
        verify: None,
        context_requires: Vec::new(),
        require_changes: None,
    };
    deployment.registry().register_subagent(&subagent, 0).await.unwrap();
    let items: Vec<_> = (0..ITEMS)
        .map(|index| {
            let deps: Vec<_> = index.checked_sub(1).map(|index| format!("i{index}")).into_iter().collect();
            json!({"id": format!("i{index}"), "executor": "dispatch", "inputs": {"subagent": "nothing"}, "depends_on": deps, "resourceLocks": []})
        })
        .collect();
    let plan = json!({"id": "chain", "queue": "default", "items": items}).to_string();
    let options = SubmitOptions { queue: None, actor: "app:bench".to_owned() };
    let submission = deployment.submit(plan.as_bytes(), options).await.unwrap();
    let run: RunId = submission.run.clone();
    let ended = async {
        deployment.answer(&submission.message, Duration::from_secs(60)).await.unwrap();
        while deployment.outcome(&run).await.unwrap().is_none() {
            deployment.changed().await.unwrap();
        }
    };
    deployment.serve(|| {}, ended).await.unwrap();
    let view = deployment.run_view(&run).await.unwrap();
    let mut previous: Option<i64> = None;
    let mut gaps = Vec::new();
    let mut walls = Vec::new();
    for item in &view.items {
        let attempt = &item.attempts[0];
        assert_eq!(item.status, "done", "{}", item.why);
        let record = deployment.blob(&attempt.result.unwrap()).await.unwrap();
        let record: serde_json::Value = serde_json::from_slice(&record).unwrap();
        let time = |key: &str| record["worker"][key].as_i64().unwrap();
        if let Some(finished) = previous {
            gaps.push(time("started_at") - finished);
        }
        walls.push(time("finished_at") - time("started_at"));
        previous = Some(time("finished_at"));
    }
    gaps.sort_unstable();
    walls.sort_unstable();
    let isolation = view.items[0].attempts[0].isolation.as_ref().unwrap();
    println!(
        "{}",
        json!({
            "bench": "dispatch", "backend": "process", "isolation": isolation.level, "items": ITEMS,
            "exit_to_start_ms_median": gaps[gaps.len() / 2], "exit_to_start_ms_p95": gaps[gaps.len() * 95 / 100],
            "exit_to_start_ms_max": gaps[gaps.len() - 1], "worker_wall_ms_median": walls[walls.len() / 2],
            "limit_ms_median": 20,
        })
    );
}
