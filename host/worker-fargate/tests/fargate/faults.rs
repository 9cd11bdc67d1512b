//! Every call to AWS fails once, before and after it took effect.

use pangolin_aws::faults::{Answer, Fault, On};
use pangolin_ports::worker_backend::{BackendError, WorkerBackend, WorkerExit};

use crate::harness::{BUCKET, World, ended, sharp, starts};

/// Repeats what failed in passing, as the driver does. Anything else is a failure of the test.
async fn persist<T>(mut act: impl AsyncFnMut() -> Result<T, BackendError>) -> T {
    for _ in 0..4 {
        match act().await {
            Ok(value) => return value,
            Err(BackendError::Unavailable(text)) => assert!(!text.contains("X-Amz-Signature"), "{text}"),
            Err(other) => panic!("not a passing failure: {other:?}"),
        }
    }
    panic!("one fault made four tries fail")
}

fn faults() -> [(&'static str, Fault); 4] {
    [
        ("before", Fault::RefuseSend),
        ("after", Fault::LoseAnswer),
        ("gateway", Fault::AnswerAfterEffect(Answer::s3_error(500, "InternalError"))),
        ("twice", Fault::SendTwice),
    ]
}

/// Where each fault is put: the life of a dispatch, call by call.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_call_fails_once_and_one_worker_runs() {
    let world = World::new().await;
    let mut tried = 0;
    for (when, fault) in faults() {
        for nth in 1.. {
            let spec = world.stage(&format!("{when}-{nth}"), "exit 7");
            let count = || world.script.count(&On::any());
            // A host without memory for each step: nothing is known but what is on record.
            let before = count();
            world.script.at(On::any(), nth, fault.clone());
            persist(async || world.open_with(1, sharp()).ensure(&spec).await).await;
            world.until_has(&spec, "completion.json").await;
            let exit = persist(async || world.open_with(1, sharp()).poll(&spec.dispatch).await).await;
            assert_eq!(exit, Some(WorkerExit::Exited { code: 7 }), "{when} call {nth}");
            assert!(spec.result_dir.join("result.json").exists(), "{when} call {nth}");
            persist(async || world.open_with(1, sharp()).remove(&spec.dispatch).await).await;
            let calls = count() - before;
            world.script.clear();
            assert_eq!((starts(&spec), world.tasks(&spec).len()), (1, 1), "{when} call {nth}");
            let left: Vec<String> =
                world.s3.keys(BUCKET).into_iter().filter(|key| !key.starts_with("blobs/")).collect();
            assert!(left.is_empty(), "{when} call {nth}: {left:?}");
            tried += 1;
            if calls < usize::try_from(nth).unwrap() {
                break;
            }
        }
    }
    assert!(tried > 80, "only {tried} faults were tried");
}

/// Cancelling a worker, call by call.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_call_of_a_cancel_fails_once() {
    let world = World::new().await;
    for (when, fault) in faults() {
        for nth in 1.. {
            let spec = world.gated(&format!("stop-{when}-{nth}"), 0);
            world.open().ensure(&spec).await.unwrap();
            let before = world.script.count(&On::any());
            world.script.at(On::any(), nth, fault.clone());
            persist(async || {
                world.open_with(1, sharp()).cancel(&spec.dispatch, std::time::Duration::ZERO).await
            })
            .await;
            let calls = world.script.count(&On::any()) - before;
            world.script.clear();
            let exit = ended(&world.open(), &spec).await;
            assert_eq!(exit, WorkerExit::Cancelled, "{when} call {nth}: {}", world.log(&spec));
            if calls < usize::try_from(nth).unwrap() {
                break;
            }
        }
    }
}
