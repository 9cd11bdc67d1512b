//! What runs in a stack meet besides lost events: red reviews, killed workers, floods.

#![expect(clippy::unwrap_used, reason = "a test ends at the first surprise")]

use std::{fs, path::Path, time::Duration};

use pangolin_aws_e2e::{DATA, EmulatedStack, Options, Project};
use pangolin_core::ids::RunId;
use pangolin_runtime::deployment::SubmitOptions;
use serde_json::json;
use tempfile::TempDir;

const TICK: &str = env!("CARGO_BIN_EXE_pangolin-lambda-tick");

/// A project without a repository, so that workspaces start empty.
fn project() -> TempDir {
    Project { repository: false, executor: "" }.make()
}

async fn start(project: &Path) -> Option<EmulatedStack> {
    EmulatedStack::deploy(Path::new(TICK).parent().unwrap(), project, Options::default()).await
}

/// A review is red, the pattern adds a fix and another review, and what waits for the review gets the fixed work. All of it is
/// decided by functions that come and go.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_red_review_leads_to_a_fix_and_another_review() {
    let project = project();
    let Some(stack) = start(project.path()).await else { return };
    let (home, _dir) = stack.at_home().await;
    stack.cast(&home).await;
    stack.submit_circle(&home, "circle").await;
    assert_eq!(stack.until_ended(&home, "circle").await, "Done", "{}", stack.logs());

    let view = home.run_view(&RunId::new("circle").unwrap()).await.unwrap();
    let ids: Vec<&str> = view.items.iter().map(|item| item.id.as_str()).collect();
    for id in ["implement", "review", "review-fix-1", "review~2", "publish"] {
        assert!(ids.iter().any(|found| *found == id || found.starts_with(id)), "{id} in {ids:?}");
    }
    assert!(view.items.iter().all(|item| item.attempts.len() <= 1), "nothing ran twice: {ids:?}");
    stack.is_tamper_evident(&home, "circle").await;
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
    stack.is_tamper_evident(&home, "killed").await;
}

/// A thousand runs are submitted at once, and messages that nobody can use among them: every message gets its answer, every run
/// one worker and its seal.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_a_thousand_submissions_hides_none_and_starts_none_twice() {
    const RUNS: usize = 1_000;
    const USELESS: usize = 300;
    let project = Project { repository: false, executor: "[queues.flood]\nconcurrency = 100" }.make();
    let Some(stack) = start(project.path()).await else { return };
    let (home, _dir) = stack.at_home().await;
    stack.agent(&home, "quick", "echo ok > ok.txt").await;
    let run = |number: usize| format!("run-{number:04}");
    for number in 0..RUNS {
        let plan = json!({ "id": run(number), "queue": "flood", "items": [{
            "id": "one", "executor": "dispatch", "inputs": { "subagent": "quick" }, "depends_on": [], "resourceLocks": [],
        }]});
        let options = SubmitOptions { queue: None, actor: "human:flood".to_owned() };
        home.submit(plan.to_string().as_bytes(), options).await.unwrap();
        if number < USELESS {
            let bytes = match number % 3 {
                0 => b"not a message".to_vec(),
                1 => json!({ "v": 1, "kind": "submit", "plan": "{}", "actor": "human:flood" })
                    .to_string()
                    .into_bytes(),
                _ => json!({ "v": 1, "kind": "cancel", "run": "nobody", "actor": "human:flood" })
                    .to_string()
                    .into_bytes(),
            };
            stack.s3.plant(DATA, &format!("inbox/new/flood-{number:04}"), &bytes);
        }
    }
    for number in 0..RUNS {
        assert_eq!(stack.until_ended(&home, &run(number)).await, "Done", "{number}");
    }
    let below = |prefix: &str| stack.s3.keys(DATA).into_iter().filter(|key| key.starts_with(prefix)).count();
    while below("inbox/done/") < RUNS + USELESS {
        stack.lambda.tick_clock().await.unwrap();
    }
    assert_eq!(below("inbox/new/"), 0, "every message was taken");
    assert_eq!(stack.ecs.tasks().len(), RUNS, "tasks");
    for number in 0..RUNS {
        assert_eq!(stack.ran_once(&home, &run(number)).await, 1);
    }
    assert_eq!(stack.lambda.violations(), Vec::<String>::new());
}
