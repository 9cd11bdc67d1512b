//! What runs in a stack meet besides lost events: red reviews, killed workers, floods.

#![expect(clippy::unwrap_used, reason = "a test ends at the first surprise")]

use std::{fs, path::Path, time::Duration};

use pangolin_audit::{
    bundle::Bundle,
    report::Claim,
    verify::{Trust, verify_bundle_live},
};
use pangolin_aws_e2e::{DATA, EmulatedStack, IMAGE, Options};
use pangolin_core::ids::RunId;
use pangolin_ports::anchor::check_note;
use pangolin_runtime::{
    deployment::{Deployment, SubmitOptions},
    registry::{AdapterBinding, SubagentDoc},
};
use serde_json::{Value, json};
use tempfile::TempDir;

const TICK: &str = env!("CARGO_BIN_EXE_pangolin-lambda-tick");

/// A project without a repository, so that workspaces start empty.
fn project() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let config = format!(
        "namespace = \"troubles\"\n[queues.default]\nconcurrency = 4\n[queues.ci]\nconcurrency = 2\npattern = \"pipeline\"\n\
         [executors.dispatch]\nbackend = \"fargate\"\nnetwork = \"host\"\nimage = \"{IMAGE}\"\ncpus = 0.25\nmemory_mb = 512\n\
         grace_seconds = 2\n[retry]\nmax_attempts = 2\nbase_ms = 50\ncap_ms = 100\ntimeout_seconds = 60\n"
    );
    fs::write(dir.path().join("pangolin.toml"), config).unwrap();
    dir
}

async fn start(project: &Path) -> Option<EmulatedStack> {
    EmulatedStack::deploy(Path::new(TICK).parent().unwrap(), project, Options::default()).await
}

async fn submit(home: &Deployment, plan: &Value) {
    let options = SubmitOptions { queue: None, actor: "human:test".to_owned() };
    home.submit(plan.to_string().as_bytes(), options).await.unwrap();
}

async fn is_tamper_evident(stack: &EmulatedStack, home: &Deployment, run: &str) {
    let bundle = home.bundle(&RunId::new(run).unwrap()).await.unwrap();
    let keys = [home.vkey().parse().unwrap()];
    let seen =
        check_note(&stack.anchor(), &Bundle::parse(&bundle).unwrap().log.checkpoint, &keys).await.unwrap();
    let report = verify_bundle_live(&bundle, &Trust::parse(&home.vkey()).unwrap(), &seen);
    assert_eq!(report.claim, Some(Claim::TamperEvident), "{report:#?}");
}

fn item(id: &str, inputs: Value, more: &Value) -> Value {
    let mut item =
        json!({ "id": id, "executor": "dispatch", "inputs": inputs, "depends_on": [], "resourceLocks": [] });
    item.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    item
}

/// A review is red, the pattern adds a fix and another review, and what waits for the review gets the fixed work. All of it is
/// decided by functions that come and go.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_red_review_leads_to_a_fix_and_another_review() {
    let project = project();
    let Some(stack) = start(project.path()).await else { return };
    let (home, _dir) = stack.at_home().await;
    let apply = "GIT_CEILING_DIRECTORIES=$(dirname \"$(pwd -P)\") git apply inputs/work";
    stack.agent(&home, "implement", "echo bad > work.txt").await;
    stack.agent(&home, "fix", &format!("{apply} && cat inputs/findings && echo good > work.txt")).await;
    stack
        .agent(
            &home,
            "publish",
            &format!("{apply} && grep -q good work.txt && mkdir -p outputs && cp work.txt outputs/"),
        )
        .await;
    let review = SubagentDoc {
        name: "review".to_owned(),
        system_prompt: None,
        prompt_template: None,
        model: None,
        capabilities: Vec::new(),
        adapter: AdapterBinding {
            id: "command".to_owned(),
            params: json!({ "argv": ["sh", "-c", format!("{apply} && mkdir -p outputs && cat work.txt > outputs/findings")] }),
        },
        verify: Some(
            serde_json::from_value(json!({ "command": "grep -q good work.txt", "timeout": 30 })).unwrap(),
        ),
        context_requires: Vec::new(),
        require_changes: None,
    };
    home.registry().register_subagent(&review, home.now()).await.unwrap();
    let work = json!({ "needs": { "work": { "from": "implement", "select": { "kind": "patch" } } } });
    let gate = json!({
        "subagent": "review",
        "gate": {
            "onRed": "spawn-fix", "subject": "implement", "maxFixAttempts": 2,
            "fixTemplate": { "executor": "dispatch", "inputs": { "subagent": "fix" } },
        },
    });
    let mut publish = item("publish", json!({ "subagent": "publish" }), &work);
    publish["depends_on"] = json!(["review"]);
    let items = [
        item("implement", json!({ "subagent": "implement" }), &json!({})),
        item("review", gate, &work),
        publish,
    ];
    submit(&home, &json!({ "id": "circle", "queue": "ci", "items": items })).await;
    assert_eq!(stack.until_ended(&home, "circle").await, "Done", "{}", stack.logs());

    let view = home.run_view(&RunId::new("circle").unwrap()).await.unwrap();
    let ids: Vec<&str> = view.items.iter().map(|item| item.id.as_str()).collect();
    for id in ["implement", "review", "review-fix-1", "review~2", "publish"] {
        assert!(ids.iter().any(|found| *found == id || found.starts_with(id)), "{id} in {ids:?}");
    }
    assert!(view.items.iter().all(|item| item.attempts.len() <= 1), "nothing ran twice: {ids:?}");
    is_tamper_evident(&stack, &home, "circle").await;
    assert_eq!(stack.lambda.violations(), Vec::<String>::new());
}

/// A worker is killed as the out-of-memory killer does it: it leaves nothing, ECS says that its task is over, and the item
/// is tried again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_is_killed_is_one_lost_attempt() {
    let project = project();
    let Some(stack) = start(project.path()).await else { return };
    let (home, _dir) = stack.at_home().await;
    let gate = project.path().join("gate");
    stack
        .agent(
            &home,
            "wait",
            &format!("while [ ! -e {} ]; do sleep 0.1; done; echo ok > ok.txt", gate.display()),
        )
        .await;
    stack.submit(&home, "killed", &[("one", "wait", &[])]).await;
    // Its work is done by other processes: there is nothing to wait on but what they left.
    while stack.ecs.tasks().first().is_none_or(|task| task.last_status != "RUNNING") {
        stack.lambda.tick_clock().await.unwrap();
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    stack.ecs.kill(&stack.ecs.tasks()[0].arn);
    fs::write(&gate, "").unwrap();
    assert_eq!(stack.until_ended(&home, "killed").await, "Done", "{}", stack.logs());
    let view = home.run_view(&RunId::new("killed").unwrap()).await.unwrap();
    assert_eq!((view.items[0].attempts.len(), stack.ecs.tasks().len()), (2, 2), "{view:?}");
    is_tamper_evident(&stack, &home, "killed").await;
}

/// A thousand messages that nobody can use, and runs among them: every message gets its answer, every run its seal.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_a_thousand_submissions_hides_none() {
    const FLOOD: usize = 1_000;
    let project = project();
    let Some(stack) = start(project.path()).await else { return };
    let (home, _dir) = stack.at_home().await;
    stack.agent(&home, "quick", "echo ok > ok.txt").await;
    let runs = ["first", "middle", "last"];
    for (position, run) in runs.iter().enumerate() {
        stack.submit(&home, run, &[("one", "quick", &[])]).await;
        for number in 0..FLOOD / runs.len() + 1 {
            let bytes = match number % 3 {
                0 => b"not a message".to_vec(),
                1 => json!({ "v": 1, "kind": "submit", "plan": "{}", "actor": "human:flood" })
                    .to_string()
                    .into_bytes(),
                _ => json!({ "v": 1, "kind": "cancel", "run": "nobody", "actor": "human:flood" })
                    .to_string()
                    .into_bytes(),
            };
            stack.s3.plant(DATA, &format!("inbox/new/flood-{position}-{number:04}"), &bytes);
        }
    }
    for run in runs {
        assert_eq!(stack.until_ended(&home, run).await, "Done", "{run}");
        is_tamper_evident(&stack, &home, run).await;
    }
    let below = |prefix: &str| stack.s3.keys(DATA).into_iter().filter(|key| key.starts_with(prefix)).count();
    while below("inbox/done/") < FLOOD + runs.len() {
        stack.lambda.tick_clock().await.unwrap();
    }
    assert_eq!(below("inbox/new/"), 0, "every message was taken");
    assert_eq!(stack.ecs.tasks().len(), runs.len(), "tasks");
    assert_eq!(stack.lambda.violations(), Vec::<String>::new());
}
