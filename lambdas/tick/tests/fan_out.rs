//! Runs in an emulated stack, from the submission at home to the bundle that an auditor verifies.

#![expect(clippy::unwrap_used, reason = "a test ends at the first surprise")]

use pangolin_aws_e2e::{EmulatedStack, Options};
use pangolin_core::ids::RunId;
use pangolin_lambda_fake::{Disorder, Kill};
use pangolin_runtime::deployment::Deployment;

const TICK: &str = env!("CARGO_BIN_EXE_pangolin-lambda-tick");

const PARTS: [(&str, &str, &[&str]); 4] =
    [("a", "write", &[]), ("b", "write", &[]), ("c", "write", &[]), ("join", "join", &["a", "b", "c"])];

async fn submit(stack: &EmulatedStack, home: &Deployment) {
    stack.agent(home, "write", "echo more > part-$PANGOLIN_ITEM_ID; cat README.md").await;
    stack.agent(home, "join", "echo joined > joined.txt").await;
    stack.submit(home, "fan", &PARTS).await;
}

/// Every item is done and ran once, and an auditor who asks the anchor finds the bundle tamper-evident.
async fn check(stack: &EmulatedStack, home: &Deployment) {
    let run = RunId::new("fan").unwrap();
    let view = home.run_view(&run).await.unwrap();
    assert!(view.items.iter().all(|item| item.status == "done" && item.attempts.len() == 1), "{view:?}");
    assert_eq!(stack.ecs.tasks().len(), PARTS.len(), "tasks");
    stack.is_tamper_evident(home, "fan").await;
    assert_eq!(stack.lambda.violations(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fan_out_runs_without_a_server_and_verifies_as_tamper_evident() {
    let Some(stack) = EmulatedStack::start(TICK.as_ref(), Options::default()).await else { return };
    let (home, _dir) = stack.at_home().await;
    submit(&stack, &home).await;
    assert_eq!(stack.until_ended(&home, "fan").await, "Done", "{}", stack.logs());
    check(&stack, &home).await;
}

/// Notifications come twice, in the wrong order or not at all, and looks are killed before they begin, in the middle, and when
/// they have done everything.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lost_and_doubled_events_and_killed_looks_lose_nothing_and_start_nothing_twice() {
    let disorder = Disorder { copies: 2, reversed: true, lose_every: Some(3) };
    let options = Options { disorder, scrambled: true, ..Options::default() };
    let Some(stack) = EmulatedStack::start(TICK.as_ref(), options).await else { return };
    // One that dies in the middle keeps its lease for 40 seconds; more than one would only take longer.
    for kill in [Kill::AtInvocation, Kill::AfterMillis(300), Kill::AtResponse, Kill::AtResponse] {
        stack.lambda.kill_next("tick", kill).unwrap();
    }
    let (home, _dir) = stack.at_home().await;
    submit(&stack, &home).await;
    assert_eq!(stack.until_ended(&home, "fan").await, "Done", "{}", stack.logs());
    check(&stack, &home).await;
}
