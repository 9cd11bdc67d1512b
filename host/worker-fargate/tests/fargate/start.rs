//! Exactly-once start.

use std::{future::Future, pin::pin, task::Poll, time::Duration};

use pangolin_aws::{
    Service,
    faults::{Fault, Gate, On},
};
use pangolin_core::entry::Isolation;
use pangolin_envelope::start::{CLAIMED_ELSEWHERE, START_VERSION};
use pangolin_ports::worker_backend::{BackendError, Limits, Network, WorkerBackend, WorkerExit};
use pangolin_worker_fargate::FargateConfig;

use crate::harness::{BUCKET, World, config, ended, open_gate, starts, until, until_started};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ensure_twice_starts_once() {
    let world = World::new().await;
    let spec = world.gated("twice", 0);
    let backend = world.open();
    let first = backend.ensure(&spec).await.unwrap();
    let second = backend.ensure(&spec).await.unwrap();
    assert!(!first.adopted && second.adopted, "{first:?} {second:?}");
    assert_eq!(first.isolation, second.isolation);
    assert_eq!((first.isolation.level, first.isolation.network.as_str()), (Isolation::Container, "host"));
    assert_eq!(first.isolation.image, spec.image);
    until_started(&spec).await;
    assert_eq!(backend.poll(&spec.dispatch).await.unwrap(), None, "it runs");
    open_gate(&spec);
    assert_eq!(ended(&backend, &spec).await, WorkerExit::Exited { code: 0 }, "{}", world.log(&spec));
    assert_eq!((starts(&spec), world.tasks(&spec).len()), (1, 1));
    let [task] = &world.tasks(&spec)[..] else { panic!("one task") };
    assert_eq!(task.overrides.len(), 1, "one variable: {:?}", task.overrides);
    assert_eq!(task.overrides[0].0, "PANGOLIN_START_URL");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ensure_sixteen_at_once_starts_once() {
    let world = World::new().await;
    let spec = world.gated("sixteen", 0);
    // Half of them in another host.
    let backends = [world.open(), world.open()];
    let calls: Vec<_> = (0..16)
        .map(|i| {
            let (backend, spec) = (backends[i % 2].clone(), spec.clone());
            tokio::spawn(async move { backend.ensure(&spec).await.unwrap() })
        })
        .collect();
    let mut fresh = 0;
    for call in calls {
        fresh += usize::from(!call.await.unwrap().adopted);
    }
    assert_eq!(fresh, 1, "exactly one caller started it");
    open_gate(&spec);
    assert_eq!(ended(&backends[0], &spec).await, WorkerExit::Exited { code: 0 });
    assert_eq!((starts(&spec), world.tasks(&spec).len()), (1, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ensure_from_two_backends_starts_once() {
    let world = World::new().await;
    // ECS shows new tasks late, so that only the token and the records can decide.
    world.ecs.set_visibility_delay_ms(600_000);
    let (one, two) = (world.open(), world.open());
    for round in 0..4 {
        let spec = world.stage(&format!("race-{round}"), &format!("exit {round}"));
        let (first, second) = tokio::join!(one.ensure(&spec), two.ensure(&spec));
        let (first, second) = (first.unwrap(), second.unwrap());
        assert!(first.adopted != second.adopted, "{first:?} {second:?}");
        assert_eq!(ended(&one, &spec).await, WorkerExit::Exited { code: round });
        assert_eq!(ended(&two, &spec).await, WorkerExit::Exited { code: round });
        assert_eq!((starts(&spec), world.tasks(&spec).len()), (1, 1));
    }
}

/// The one who started it is slow to write that down, and another one, whose order ECS refused, does so before.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_only_found_the_task_did_not_start_it() {
    let world = World::new().await;
    world.ecs.set_visibility_delay_ms(600_000);
    let spec = world.gated("slow", 0);
    let gate = Gate::new();
    world.script.at(On::operation("ecs", "RunTask"), 1, Fault::HoldAfter(gate.clone()));
    let slow = {
        let (backend, spec) = (world.open(), spec.clone());
        tokio::spawn(async move { backend.ensure(&spec).await })
    };
    until("the task is there", || world.tasks(&spec).len() == 1).await;
    // Another time limit in the signed URL: not the same order.
    let other = world.open_with(3, FargateConfig { start_ms: config().start_ms + 60_000, ..config() });
    assert!(other.ensure(&spec).await.unwrap().adopted);
    gate.open();
    assert!(!slow.await.unwrap().unwrap().adopted, "nobody started it");
    assert!(world.open().ensure(&spec).await.unwrap().adopted);
    open_gate(&spec);
    assert_eq!(ended(&other, &spec).await, WorkerExit::Exited { code: 0 });
    assert_eq!((starts(&spec), world.tasks(&spec).len()), (1, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ensure_after_reopen_adopts() {
    let world = World::new().await;
    let spec = world.gated("reopen", 3);
    let first = world.open().ensure(&spec).await.unwrap();
    until_started(&spec).await;
    let next = world.open();
    let again = next.ensure(&spec).await.unwrap();
    assert!(again.adopted);
    assert_eq!(again.isolation, first.isolation, "what is sealed must not depend on who asks");
    open_gate(&spec);
    assert_eq!(ended(&next, &spec).await, WorkerExit::Exited { code: 3 });
    assert_eq!(starts(&spec), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ensure_dropped_midway_then_repeated_starts_once() {
    let world = World::new().await;
    for polls in (1..=45).step_by(2) {
        let spec = world.stage(&format!("dropped-{polls}"), "exit 0");
        {
            let backend = world.open();
            let mut ensure = pin!(backend.ensure(&spec));
            let mut left = polls;
            // Each wake-up of the future is one more step of it done.
            std::future::poll_fn(|context| {
                left -= 1;
                match ensure.as_mut().poll(context) {
                    Poll::Pending if left > 0 => Poll::Pending,
                    _ => Poll::Ready(()),
                }
            })
            .await;
        }
        let backend = world.open();
        backend.ensure(&spec).await.unwrap();
        assert_eq!(ended(&backend, &spec).await, WorkerExit::Exited { code: 0 }, "after {polls} polls");
        assert_eq!((starts(&spec), world.tasks(&spec).len()), (1, 1), "after {polls} polls");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ensure_after_the_end_does_not_start_again() {
    let world = World::new().await;
    let spec = world.stage("over", "exit 5");
    let backend = world.open();
    backend.ensure(&spec).await.unwrap();
    assert_eq!(ended(&backend, &spec).await, WorkerExit::Exited { code: 5 });
    let next = world.open();
    for backend in [&backend, &next] {
        assert!(backend.ensure(&spec).await.unwrap().adopted);
        assert_eq!(ended(backend, &spec).await, WorkerExit::Exited { code: 5 });
    }
    assert_eq!((starts(&spec), world.tasks(&spec).len()), (1, 1));
}

/// Even if ECS starts two tasks for one dispatch, one worker works.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_task_ends_without_doing_anything() {
    let world = World::new().await;
    world.ecs.hold_starts();
    let spec = world.gated("double", 0);
    let backend = world.open();
    backend.ensure(&spec).await.unwrap();
    let url = world.tasks(&spec)[0].overrides[0].1.clone();
    let ecs = aws_sdk_ecs::Client::new(&world.aws(1).sdk(Service::Ecs));
    // The same start document and another token: what a forgotten token would do.
    let family = {
        let arns = ecs.list_tasks().send().await.unwrap();
        let tasks = ecs.describe_tasks().set_tasks(arns.task_arns).send().await.unwrap();
        tasks.tasks()[0].task_definition_arn().unwrap().to_owned()
    };
    let network = aws_sdk_ecs::types::AwsVpcConfiguration::builder().subnets("subnet-1").build().unwrap();
    let variable = aws_sdk_ecs::types::KeyValuePair::builder().name("PANGOLIN_START_URL").value(url).build();
    let container =
        aws_sdk_ecs::types::ContainerOverride::builder().name("worker").environment(variable).build();
    let run = ecs
        .run_task()
        .task_definition(family)
        .launch_type(aws_sdk_ecs::types::LaunchType::Fargate)
        .network_configuration(
            aws_sdk_ecs::types::NetworkConfiguration::builder().awsvpc_configuration(network).build(),
        )
        .overrides(aws_sdk_ecs::types::TaskOverride::builder().container_overrides(container).build());
    run.send().await.unwrap();
    world.ecs.release_starts();
    until("one of two workers ends", || world.ecs.tasks().iter().any(|task| task.last_status == "STOPPED"))
        .await;
    until_started(&spec).await;
    let loser = world.ecs.tasks().into_iter().find(|task| task.last_status == "STOPPED").unwrap();
    assert_eq!(loser.exit_code, Some(CLAIMED_ELSEWHERE));
    // Whichever of the two the host knows, the dispatch has not ended.
    assert_eq!(backend.poll(&spec.dispatch).await.unwrap(), None);
    let said = std::fs::read_to_string(loser.dir.join("stdout")).unwrap();
    assert!(said.contains("was claimed by another worker"), "{said}");
    open_gate(&spec);
    assert_eq!(ended(&backend, &spec).await, WorkerExit::Exited { code: 0 });
    assert_eq!(starts(&spec), 1);
}

/// The task that the host knows found the dispatch claimed: its end says nothing about the dispatch.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_end_of_a_task_that_was_second_is_not_the_end_of_the_dispatch() {
    let world = World::new().await;
    world.ecs.hold_starts();
    let spec = world.stage("second", "exit 0");
    let backend = world.open();
    backend.ensure(&spec).await.unwrap();
    let claim = serde_json::json!({
        "schemaVersion": START_VERSION, "dispatch": spec.dispatch, "nonce": "of another worker", "at": 1,
    });
    let key = format!("dispatches/{}/claim.json", spec.dispatch);
    world.s3.plant(BUCKET, &key, claim.to_string().as_bytes());
    world.ecs.release_starts();
    until("the task ends", || world.ecs.tasks().iter().all(|task| task.last_status == "STOPPED")).await;
    assert_eq!(world.ecs.tasks()[0].exit_code, Some(CLAIMED_ELSEWHERE));
    assert_eq!(backend.poll(&spec.dispatch).await.unwrap(), None);
    backend.cancel(&spec.dispatch, Duration::from_secs(1)).await.unwrap();
    assert_eq!(ended(&backend, &spec).await, WorkerExit::Cancelled);
    assert_eq!(starts(&spec), 0);
}

#[tokio::test]
async fn what_fargate_cannot_do_starts_nothing() {
    let world = World::new().await;
    let backend = world.open();
    let good = world.stage("refused", "exit 0");
    for (isolation, network) in [
        (Isolation::Sandbox, Network::Host),
        (Isolation::None, Network::Host),
        (Isolation::Container, Network::None),
    ] {
        let mut spec = good.clone();
        (spec.isolation, spec.network) = (isolation, network);
        for answer in [backend.probe(isolation, network).await.err(), backend.ensure(&spec).await.err()] {
            match answer {
                Some(BackendError::IsolationUnavailable { requested, missing }) => {
                    assert_eq!(requested, isolation);
                    assert!(!missing.is_empty());
                }
                other => panic!("expected IsolationUnavailable, got {other:?}"),
            }
        }
    }
    let mut tagged = good.clone();
    tagged.image = Some("registry.example/worker:latest".to_owned());
    assert!(matches!(backend.ensure(&tagged).await, Err(BackendError::Image { .. })));
    let mut large = good.clone();
    large.limits = Limits { memory_bytes: 1 << 40, timeout_ms: 8 * 86_400_000, ..large.limits };
    large.result_key = "short".to_owned();
    match backend.ensure(&large).await {
        Err(BackendError::Unsupported { problem, .. }) => {
            for part in ["122880 MiB", "seven days", "64 hex digits"] {
                assert!(problem.contains(part), "all findings at once: {problem}");
            }
        }
        other => panic!("expected Unsupported, got {other:?}"),
    }
    assert!(world.ecs.tasks().is_empty() && world.s3.keys(BUCKET).is_empty(), "{:?}", world.s3.keys(BUCKET));
    assert!(matches!(ended(&backend, &good).await, WorkerExit::Lost { .. }));
}

#[tokio::test]
async fn overrides_have_at_most_8192_characters() {
    let world = World::new().await;
    let spec = world.stage("long", "exit 0");
    let backend = world.open_with(1, FargateConfig { prefix: format!("{}/", "p".repeat(7_900)), ..config() });
    match backend.ensure(&spec).await {
        Err(BackendError::Unsupported { problem, .. }) => {
            assert!(problem.contains("ECS takes 8192"), "{problem}")
        }
        other => panic!("expected Unsupported, got {other:?}"),
    }
    assert!(world.ecs.tasks().is_empty());
    let keys = world.s3.keys(BUCKET);
    assert!(
        !keys.iter().any(|key| key.contains("/starts/")),
        "the start document with its secrets stays: {keys:?}"
    );
}

#[tokio::test]
async fn another_result_key_is_an_error_and_not_a_useless_result() {
    let world = World::new().await;
    let spec = world.gated("key", 0);
    world.open().ensure(&spec).await.unwrap();
    let mut other = spec.clone();
    other.result_key = "6b".repeat(32);
    match world.open().ensure(&other).await {
        Err(BackendError::Unsupported { problem, .. }) => {
            assert!(problem.contains("result key"), "{problem}")
        }
        other => panic!("expected Unsupported, got {other:?}"),
    }
    assert_eq!(world.tasks(&spec).len(), 1);
}

#[tokio::test]
async fn no_capacity_is_told_and_can_be_repeated() {
    let world = World::new().await;
    let spec = world.stage("capacity", "exit 0");
    world.ecs.fail_placement("RESOURCE:FARGATE", 1);
    let backend = world.open();
    match backend.ensure(&spec).await {
        Err(BackendError::Unavailable(text)) => assert!(text.contains("RESOURCE:FARGATE"), "{text}"),
        other => panic!("expected Unavailable, got {other:?}"),
    }
    assert!(!backend.ensure(&spec).await.unwrap().adopted);
    assert_eq!(ended(&backend, &spec).await, WorkerExit::Exited { code: 0 });
}

#[tokio::test]
async fn one_task_definition_serves_all_dispatches_of_an_image_and_size() {
    use pangolin_aws::faults::On;
    let world = World::new().await;
    let (one, two) = (world.open(), world.open());
    let [a, b, c] = ["a", "b", "c"].map(|name| world.stage(name, "exit 0"));
    // Two at once: the second finds what the first one registers.
    let (first, second) = tokio::join!(one.ensure(&a), one.ensure(&b));
    assert!(!first.unwrap().adopted && !second.unwrap().adopted);
    two.ensure(&c).await.unwrap();
    for (spec, backend) in [(&a, &one), (&b, &one), (&c, &two)] {
        assert_eq!(ended(backend, spec).await, WorkerExit::Exited { code: 0 });
    }
    assert_eq!(world.script.count(&On::operation("ecs", "RegisterTaskDefinition")), 1);
    assert_eq!(world.script.count(&On::operation("ecs", "DescribeTaskDefinition")), 2);
    let mut larger = world.stage("d", "exit 0");
    larger.limits.memory_bytes = 2 << 30;
    two.ensure(&larger).await.unwrap();
    assert_eq!(world.script.count(&On::operation("ecs", "RegisterTaskDefinition")), 2);
    assert_eq!(ended(&two, &larger).await, WorkerExit::Exited { code: 0 });
}
