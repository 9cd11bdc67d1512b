//! Ends: by itself, by cancel, by timeout, by murder, without a trace; and what comes back.

use std::{fs, path::Path, time::Duration};

use pangolin_aws::{
    Aws,
    faults::{Fault, On},
};
use pangolin_envelope::result::Ending;
use pangolin_ports::{
    worker_backend::{Limits, WorkerBackend, WorkerExit, WorkerSpec},
    worker_output::{CUT_KIND, EVENTS_FILE, STDERR_FILE},
};
use pangolin_s3_fake::Ministack;
use pangolin_worker_fargate::{FargateBackend, FargateConfig};
use serde_json::Value;

use crate::harness::{
    BUCKET, IMAGE, World, config, ended, open_gate, result, sharp, stand_in, starts, until, until_started,
    worker,
};

const WORK: &str = "echo two >> a.txt; mkdir -p outputs .pangolin; echo out > new.txt; ln -s /etc/passwd away; cat a.txt sub/run.sh; exit 0";

fn check_work(spec: &WorkerSpec) {
    let result = result(spec);
    assert_eq!(result.ending, Ending::Finished {});
    let changes = result.capture.unwrap().changes;
    let paths: Vec<&str> = changes.iter().map(|change| change.path.as_str()).collect();
    for path in ["a.txt", "away", "new.txt"] {
        assert!(paths.contains(&path), "{paths:?}");
    }
    assert!(
        !paths.contains(&"link") && !paths.contains(&"sub/run.sh"),
        "the workspace arrived changed: {paths:?}"
    );
    let after = spec.result_dir.join("capture/after");
    assert_eq!(fs::read_to_string(after.join("a.txt")).unwrap(), "one\ntwo\n");
    assert_eq!(fs::read_link(after.join("away")).unwrap(), Path::new("/etc/passwd"));
    let events = fs::read_to_string(spec.result_dir.join(EVENTS_FILE)).unwrap();
    let events: Vec<Value> = events.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(events.first().unwrap()["kind"], "worker.boot");
    assert_eq!(events.last().unwrap()["kind"], "dispatch.finished");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn results_come_back_also_to_a_host_with_an_empty_disk() {
    let world = World::new().await;
    let spec = world.stage("work", WORK);
    let backend = world.open();
    backend.ensure(&spec).await.unwrap();
    assert_eq!(ended(&backend, &spec).await, WorkerExit::Exited { code: 0 }, "{}", world.log(&spec));
    check_work(&spec);
    let marked = fs::metadata(spec.result_dir.join("result.json")).unwrap().modified().unwrap();
    assert_eq!(ended(&backend, &spec).await, WorkerExit::Exited { code: 0 });
    let again = fs::metadata(spec.result_dir.join("result.json")).unwrap().modified().unwrap();
    assert_eq!(marked, again, "it is unpacked once");
    // A Lambda that starts anew has nothing on its disk.
    fs::remove_dir_all(&spec.result_dir).unwrap();
    let next = world.open();
    assert_eq!(next.poll(&spec.dispatch).await.unwrap(), Some(WorkerExit::Exited { code: 0 }));
    check_work(&spec);
    // Another place, as another host would have.
    let mut moved = spec.clone();
    moved.result_dir = world.dir.path().join("elsewhere/deep/result");
    assert!(next.ensure(&moved).await.unwrap().adopted);
    assert_eq!(next.poll(&spec.dispatch).await.unwrap(), Some(WorkerExit::Exited { code: 0 }));
    check_work(&moved);
    let left: Vec<_> = fs::read_dir(moved.result_dir.parent().unwrap()).unwrap().flatten().collect();
    assert_eq!(left.len(), 1, "scratch stays behind: {left:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_ministack() {
    let Some(server) = Ministack::start("Fargate workers with S3 of ministack").await else { return };
    let world = World::new().await;
    let aws = Aws::for_tests(&server.endpoint(), 3, Aws::http()).unwrap();
    let s3 =
        aws_sdk_s3::config::Builder::from(&aws.sdk(pangolin_aws::Service::S3)).force_path_style(true).build();
    aws_sdk_s3::Client::from_conf(s3).create_bucket().bucket(BUCKET).send().await.unwrap();
    let aws = aws.with_endpoint(pangolin_aws::Service::Ecs, &world.ecs.endpoint());
    let backend = FargateBackend::open(&aws, config()).unwrap();
    let spec = world.stage("ministack", WORK);
    backend.ensure(&spec).await.unwrap();
    assert_eq!(ended(&backend, &spec).await, WorkerExit::Exited { code: 0 }, "{}", world.log(&spec));
    check_work(&spec);
    assert_eq!(backend.list().await.unwrap(), vec![spec.dispatch.clone()]);
    backend.remove(&spec.dispatch).await.unwrap();
    assert!(backend.list().await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn exit_codes_arrive_at_every_waiter() {
    let world = World::new().await;
    let backend = world.open();
    for code in [0, 1, 77] {
        let spec = world.gated(&format!("code-{code}"), code);
        backend.ensure(&spec).await.unwrap();
        let waiters: Vec<_> = (0..4)
            .map(|_| {
                let (backend, id) = (backend.clone(), spec.dispatch.clone());
                tokio::spawn(async move { backend.wait(&id).await })
            })
            .collect();
        open_gate(&spec);
        for waiter in waiters {
            assert_eq!(waiter.await.unwrap().unwrap(), WorkerExit::Exited { code });
        }
    }
}

#[tokio::test]
async fn unknown_dispatch_is_lost() {
    let world = World::new().await;
    let spec = world.stage("unknown", "exit 0");
    let backend = world.open();
    assert!(matches!(ended(&backend, &spec).await, WorkerExit::Lost { .. }));
    backend.cancel(&spec.dispatch, Duration::ZERO).await.unwrap();
    backend.remove(&spec.dispatch).await.unwrap();
    assert!(world.s3.keys(BUCKET).is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cancel_is_polite_and_its_result_comes_back() {
    let world = World::new().await;
    let spec = world.stage("polite", "echo partial > part.txt; while :; do sleep 0.01; done");
    let backend = world.open();
    backend.ensure(&spec).await.unwrap();
    until_started(&spec).await;
    // By another host, twice.
    for _ in 0..2 {
        world.open().cancel(&spec.dispatch, Duration::from_secs(1)).await.unwrap();
    }
    assert_eq!(ended(&backend, &spec).await, WorkerExit::Cancelled);
    let result = result(&spec);
    assert_eq!(result.ending, Ending::Cancelled {});
    assert!(
        result.capture.unwrap().changes.iter().any(|change| change.path == "part.txt"),
        "partial work is kept"
    );
    backend.cancel(&spec.dispatch, Duration::ZERO).await.unwrap();
    assert_eq!(ended(&world.open(), &spec).await, WorkerExit::Cancelled);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cancel_spares_the_ended() {
    let world = World::new().await;
    let spec = world.stage("by-itself", "exit 4");
    let backend = world.open();
    backend.ensure(&spec).await.unwrap();
    assert_eq!(ended(&backend, &spec).await, WorkerExit::Exited { code: 4 });
    backend.cancel(&spec.dispatch, Duration::ZERO).await.unwrap();
    assert_eq!(ended(&world.open(), &spec).await, WorkerExit::Exited { code: 4 });
}

#[tokio::test]
async fn cancel_before_the_start_starts_nothing() {
    let world = World::new().await;
    let spec = world.stage("early", "exit 0");
    world.ecs.fail_placement("RESOURCE:FARGATE", 1);
    let backend = world.open_with(1, sharp());
    backend.ensure(&spec).await.unwrap_err();
    backend.cancel(&spec.dispatch, Duration::ZERO).await.unwrap();
    assert!(backend.ensure(&spec).await.unwrap().adopted);
    assert_eq!(ended(&backend, &spec).await, WorkerExit::Cancelled);
    assert!(world.ecs.tasks().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_worker_keeps_its_time_limit_without_any_host() {
    let world = World::new().await;
    let mut spec = world.stage("overtime", "trap '' TERM; setsid sleep 1000 & while :; do sleep 0.01; done");
    spec.limits = Limits { timeout_ms: 1_500, grace_ms: 3_000, ..spec.limits };
    world.open().ensure(&spec).await.unwrap();
    // Nobody looks until it is over.
    world.until_has(&spec, "completion.json").await;
    assert_eq!(ended(&world.open(), &spec).await, WorkerExit::TimedOut);
    assert_eq!(result(&spec).ending, Ending::Cancelled {}, "the worker proper was asked to stop");
    until("the task is over", || world.tasks(&spec)[0].pid.is_none()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_worker_is_reported_for_ever() {
    let world = World::new().await;
    let spec = world.gated("murdered", 0);
    let backend = world.open();
    backend.ensure(&spec).await.unwrap();
    until_started(&spec).await;
    world.ecs.kill(&world.tasks(&spec)[0].arn);
    assert_eq!(ended(&backend, &spec).await, WorkerExit::Exited { code: 137 });
    // An hour later ECS has forgotten everything.
    world.ecs.advance_ms(3_700_000);
    let next = world.open_with(1, sharp());
    assert_eq!(ended(&next, &spec).await, WorkerExit::Exited { code: 137 }, "the reason is on record");
    assert!(next.ensure(&spec).await.unwrap().adopted, "a killed worker is not started again");
    assert_eq!((starts(&spec), world.tasks(&spec).len()), (1, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_that_vanishes_is_lost() {
    let world = World::new().await;
    let spec = world.gated("vanished", 0);
    let backend = world.open_with(1, sharp());
    backend.ensure(&spec).await.unwrap();
    until_started(&spec).await;
    world.ecs.vanish(&world.tasks(&spec)[0].arn);
    match ended(&backend, &spec).await {
        WorkerExit::Lost { detail } => assert!(detail.contains("does not know its task"), "{detail}"),
        other => panic!("expected Lost, got {other:?}"),
    }
    assert!(matches!(ended(&world.open(), &spec).await, WorkerExit::Lost { .. }), "and stays so");
    assert!(world.open().ensure(&spec).await.unwrap().adopted);
    assert_eq!(starts(&spec), 1);
}

/// ECS forgot the task an hour after it ended; the completion is still there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_that_vanished_with_a_completion_is_done() {
    let world = World::new().await;
    let spec = world.stage("long-over", WORK);
    world.open().ensure(&spec).await.unwrap();
    world.until_has(&spec, "completion.json").await;
    until("the task is over", || world.tasks(&spec)[0].last_status == "STOPPED").await;
    world.ecs.advance_ms(3_700_000);
    assert_eq!(ended(&world.open_with(1, sharp()), &spec).await, WorkerExit::Exited { code: 0 });
    check_work(&spec);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_completion_that_comes_late_is_the_truth() {
    let world = World::new().await;
    let spec = world.gated("late", 0);
    let patient = world.open_with(1, FargateConfig { settle_ms: 3_600_000, ..config() });
    let backend = world.open();
    patient.ensure(&spec).await.unwrap();
    until_started(&spec).await;
    world.ecs.kill(&world.tasks(&spec)[0].arn);
    until("the task is over", || world.tasks(&spec)[0].last_status == "STOPPED").await;
    assert_eq!(patient.poll(&spec.dispatch).await.unwrap(), None, "a completion may be on its way");
    assert_eq!(ended(&backend, &spec).await, WorkerExit::Exited { code: 137 });
    // What another dispatch of the same shape left, under this one's name: a worker that was believed dead.
    let twin = world.stage("twin", "exit 9");
    backend.ensure(&twin).await.unwrap();
    assert_eq!(ended(&backend, &twin).await, WorkerExit::Exited { code: 9 });
    for name in ["result.tar", "completion.json"] {
        let bytes = world
            .s3
            .versions(BUCKET, &format!("dispatches/{}/{name}", twin.dispatch))
            .pop()
            .unwrap()
            .bytes
            .unwrap();
        let bytes = match name {
            "result.tar" => bytes.to_vec(),
            _ => String::from_utf8(bytes.to_vec())
                .unwrap()
                .replace(twin.dispatch.as_str(), spec.dispatch.as_str())
                .into_bytes(),
        };
        world.s3.plant(BUCKET, &format!("dispatches/{}/{name}", spec.dispatch), &bytes);
    }
    assert_eq!(ended(&world.open(), &spec).await, WorkerExit::Exited { code: 9 });
}

#[tokio::test]
async fn an_image_that_cannot_be_had_is_told() {
    let world = World::new().await;
    let mut spec = world.stage("no-image", "exit 0");
    spec.image = Some(IMAGE.replace("worker@", "other@"));
    let backend = world.open();
    backend.ensure(&spec).await.unwrap();
    match ended(&backend, &spec).await {
        WorkerExit::Lost { detail } => {
            assert!(
                detail.contains("TaskFailedToStart") && detail.contains("CannotPullContainerError"),
                "{detail}"
            );
        }
        other => panic!("expected Lost, got {other:?}"),
    }
    let keys = world.s3.keys(BUCKET);
    assert!(!keys.iter().any(|key| key.starts_with("starts/")), "the start document stays: {keys:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reads_of_ecs_may_be_behind() {
    let world = World::new().await;
    world.ecs.set_visibility_delay_ms(600_000);
    let spec = world.gated("behind", 0);
    let backend = world.open();
    backend.ensure(&spec).await.unwrap();
    until_started(&spec).await;
    assert_eq!(backend.poll(&spec.dispatch).await.unwrap(), None, "it is not lost, only not visible yet");
    assert!(world.open().ensure(&spec).await.unwrap().adopted);
    open_gate(&spec);
    assert_eq!(ended(&backend, &spec).await, WorkerExit::Exited { code: 0 });
    assert_eq!((starts(&spec), world.tasks(&spec).len()), (1, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn remove_and_list() {
    let world = World::new().await;
    let (one, two) = (world.stage("one", "exit 0"), world.gated("two", 0));
    let backend = world.open();
    backend.ensure(&one).await.unwrap();
    backend.ensure(&two).await.unwrap();
    ended(&backend, &one).await;
    let mut both = vec![one.dispatch.clone(), two.dispatch.clone()];
    both.sort();
    let next = world.open();
    assert_eq!(next.list().await.unwrap(), both, "records survive the host");
    next.remove(&one.dispatch).await.unwrap();
    next.remove(&one.dispatch).await.unwrap();
    backend.remove(&one.dispatch).await.unwrap();
    assert_eq!(backend.list().await.unwrap(), vec![two.dispatch.clone()]);
    assert!(matches!(ended(&backend, &one).await, WorkerExit::Lost { .. }), "removed is unknown");
    assert!(one.result_dir.join("result.json").exists(), "the directories belong to the caller");
    open_gate(&two);
    assert_eq!(ended(&backend, &two).await, WorkerExit::Exited { code: 0 });
    backend.remove(&two.dispatch).await.unwrap();
    let keys = world.s3.keys(BUCKET);
    assert!(keys.iter().all(|key| key.starts_with("blobs/")), "{keys:?}");
}

/// The event stream of a worker is small; what floods is its plain program, so the image is another one here.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn output_is_bounded_and_marked() {
    let world = World::new().await;
    let mut spec = world.stage("flood", "exit 6");
    spec.limits.output_bytes = 400;
    let backend = world.open();
    backend.ensure(&spec).await.unwrap();
    assert_eq!(ended(&backend, &spec).await, WorkerExit::Exited { code: 6 });
    let events = fs::read_to_string(spec.result_dir.join(EVENTS_FILE)).unwrap();
    let last: Value = serde_json::from_str(events.lines().last().unwrap()).unwrap();
    assert_eq!((last["kind"].as_str(), last["limitBytes"].as_u64()), (Some(CUT_KIND), Some(400)), "{events}");
    assert!(events.len() < 500 && spec.result_dir.join(STDERR_FILE).exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_result_that_was_altered_or_is_too_large_is_refused() {
    let world = World::new().await;
    let backend = world.open();
    let altered = world.stage("altered", WORK);
    backend.ensure(&altered).await.unwrap();
    world.until_has(&altered, "completion.json").await;
    let key = format!("dispatches/{}/result.tar", altered.dispatch);
    let good = world.s3.versions(BUCKET, &key).pop().unwrap().bytes.unwrap().to_vec();
    let mut bytes = good.clone();
    bytes[700] ^= 1;
    for (bytes, expected) in [
        (bytes, "with digest"),
        ([good.clone(), vec![0; 512]].concat(), "more than the"),
        (good[..512].to_vec(), "512 bytes"),
    ] {
        world.s3.plant(BUCKET, &key, &bytes);
        match ended(&backend, &altered).await {
            WorkerExit::Lost { detail } => {
                assert!(detail.contains("was refused") && detail.contains(expected), "{detail}")
            }
            other => panic!("expected Lost, got {other:?}"),
        }
        assert!(!altered.result_dir.join("result.json").exists(), "something was unpacked");
    }
    // What the host takes is its own decision.
    world.s3.plant(BUCKET, &key, &good);
    let strict = world.open_with(1, FargateConfig { result_bytes: 100, ..config() });
    match ended(&strict, &altered).await {
        WorkerExit::Lost { detail } => assert!(detail.contains("the limit is 100"), "{detail}"),
        other => panic!("expected Lost, got {other:?}"),
    }
    // A worker that may not send so much says so instead.
    let large = world.stage("large", WORK);
    strict.ensure(&large).await.unwrap();
    assert_eq!(ended(&backend, &large).await, WorkerExit::Exited { code: 1 });
    let said = fs::read_to_string(large.result_dir.join(STDERR_FILE)).unwrap();
    assert!(said.contains("cannot be packed") && !large.result_dir.join("result.json").exists(), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_input_that_was_altered_fails_the_dispatch_at_once() {
    let world = World::new().await;
    world.ecs.hold_starts();
    let spec = world.stage("input", "exit 0");
    let backend = world.open();
    backend.ensure(&spec).await.unwrap();
    let blob = world.s3.keys(BUCKET).into_iter().find(|key| key.starts_with("blobs/")).unwrap();
    let size = world.s3.versions(BUCKET, &blob).pop().unwrap().bytes.unwrap().len();
    world.s3.plant(BUCKET, &blob, &vec![b'x'; size + 1]);
    world.ecs.release_starts();
    assert_eq!(ended(&backend, &spec).await, WorkerExit::Exited { code: 1 });
    let said = fs::read_to_string(spec.result_dir.join(EVENTS_FILE)).unwrap();
    assert!(said.contains("worker.boot.failed") && said.contains("fetching"), "{said}");
    assert_eq!(starts(&spec), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn state_changes_come_twice_and_out_of_order() {
    let world = World::new().await;
    world.ecs.scramble_events();
    let spec = world.stage("events", "exit 0");
    let backend = world.open();
    backend.ensure(&spec).await.unwrap();
    assert_eq!(ended(&backend, &spec).await, WorkerExit::Exited { code: 0 });
    until("the last event", || {
        world.ecs.events().iter().any(|event| event["detail"]["lastStatus"] == "STOPPED")
    })
    .await;
    let events = world.ecs.events();
    let versions: Vec<u64> =
        events.iter().map(|event| event["detail"]["version"].as_u64().unwrap()).collect();
    assert!(versions.windows(2).any(|pair| pair[0] > pair[1]), "in order: {versions:?}");
    assert!(events.windows(3).any(|three| three[0] == three[2]), "no event came twice: {versions:?}");
    assert!(
        events
            .iter()
            .all(|event| event["detail"]["startedBy"] == backend.started_by(&spec.dispatch).as_str())
    );
}

/// The image of a user that is no worker at all.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_image_without_a_worker_is_found_out() {
    let world = World::new().await;
    assert!(worker().exists());
    world.ecs.add_image(IMAGE, stand_in("/bin/true".into()));
    let spec = world.stage("true", "exit 0");
    let backend = world.open();
    backend.ensure(&spec).await.unwrap();
    match ended(&backend, &spec).await {
        WorkerExit::Lost { detail } => assert!(detail.contains("is the image a worker?"), "{detail}"),
        other => panic!("expected Lost, got {other:?}"),
    }
}

/// Thirty that run cost a handful of requests, and nobody is said to run who has ended, was stopped or never was.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_are_seen_at_one_glance() {
    let world = World::new().await;
    let backend = world.open();
    let specs: Vec<_> = (0..6).map(|number| world.gated(&format!("many-{number}"), 0)).collect();
    for spec in &specs {
        assert!(!backend.runs(&spec.dispatch).await.unwrap(), "it was not started");
        backend.ensure(spec).await.unwrap();
    }
    for spec in &specs {
        until_started(spec).await;
    }
    // Another host, which has never seen any of them.
    let other = world.open();
    let before = world.script.count(&On::any());
    let asked: Vec<_> = (0..30)
        .map(|number| {
            let (other, dispatch) = (other.clone(), specs[number % specs.len()].dispatch.clone());
            tokio::spawn(async move { other.runs(&dispatch).await.unwrap() })
        })
        .collect();
    for asked in asked {
        assert!(asked.await.unwrap(), "all run");
    }
    let requests = world.script.count(&On::any()) - before;
    // Four for each glance, two glances unless callers come late, and the start document of each that has begun.
    assert!(requests <= 30, "{requests} requests for 30 questions");
    let [stopped, ends, ..] = &specs[..] else { panic!("six") };
    other.cancel(&stopped.dispatch, Duration::from_secs(1)).await.unwrap();
    assert!(!other.runs(&stopped.dispatch).await.unwrap(), "somebody asked it to stop");
    open_gate(ends);
    assert_eq!(ended(&other, ends).await, WorkerExit::Exited { code: 0 });
    assert!(!other.runs(&ends.dispatch).await.unwrap(), "it has ended");
    for spec in &specs {
        open_gate(spec);
        ended(&other, spec).await;
    }
}

/// Puts words of our own under a record of a dispatch.
fn plant(world: &World, spec: &WorkerSpec, name: &str, bytes: &[u8]) {
    world.s3.plant(BUCKET, &format!("dispatches/{}/{name}", spec.dispatch), bytes);
}

/// A worker says that it is done, and goes on. Nobody looks at it after its attempt has ended.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_outlives_its_completion_is_stopped() {
    let world = World::new().await;
    let backend = world.open();
    let spec = world.gated("endless", 0);
    backend.ensure(&spec).await.unwrap();
    until_started(&spec).await;
    plant(&world, &spec, "completion.json", b"{\"done\": true}");
    match ended(&backend, &spec).await {
        WorkerExit::Lost { detail } => assert!(detail.contains("completion cannot be read"), "{detail}"),
        other => panic!("expected Lost, got {other:?}"),
    }
    assert_eq!(world.tasks(&spec)[0].last_status, "RUNNING");
    world.open().remove(&spec.dispatch).await.unwrap();
    until("the task is over", || world.tasks(&spec)[0].last_status == "STOPPED").await;
    // What it left after that is found and removed again.
    world.open().remove(&spec.dispatch).await.unwrap();
    assert!(backend.list().await.unwrap().is_empty());
}

/// What a worker wrote in place of its claim is nothing to go by, and its time limit holds.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_overdue_worker_is_stopped_until_ecs_has_taken_it() {
    let world = World::new().await;
    let backend = world.open_with(1, config());
    let spec = world.gated("overdue", 0);
    backend.ensure(&spec).await.unwrap();
    until_started(&spec).await;
    plant(&world, &spec, "claim.json", b"garbage");
    assert_eq!(backend.poll(&spec.dispatch).await.unwrap(), None);
    // As if it had been started long ago.
    let key = format!("dispatches/{}/task.json", spec.dispatch);
    let record = world.s3.versions(BUCKET, &key).pop().unwrap().bytes.unwrap();
    let mut record: Value = serde_json::from_slice(&record).unwrap();
    record["at"] = 0.into();
    plant(&world, &spec, "task.json", record.to_string().as_bytes());
    let stop = || On::operation("ecs", "StopTask");
    world.script.at(stop(), 1, Fault::RefuseSend);
    backend.poll(&spec.dispatch).await.unwrap_err();
    assert_eq!(ended(&backend, &spec).await, WorkerExit::TimedOut);
    until("the task is over", || world.tasks(&spec)[0].last_status == "STOPPED").await;
}
