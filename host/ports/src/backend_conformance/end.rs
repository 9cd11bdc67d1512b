//! Ends: by itself, by cancel, by timeout, by murder.

use std::time::{Duration, Instant};

use super::{
    BackendFixture, Step,
    harness::{clean, ended, gated, in_time, limits, open, spawn_all, stage},
};
use crate::worker_backend::{Limits, WorkerExit};

/// Every waiter, before and after the end, gets the code.
pub async fn exit_codes_arrive_at_every_waiter(fixture: &dyn BackendFixture) {
    let backend = open(fixture).await;
    for code in [0, 1, 77, 255] {
        let staged = stage(fixture, &format!("code-{code}"), &gated(code), limits());
        backend.ensure(&staged.spec).await.expect("ensure");
        let waiters: Vec<_> = (0..4)
            .map(|_| {
                let (backend, id) = (backend.clone(), staged.id().clone());
                tokio::spawn(async move { backend.wait(&id).await })
            })
            .collect();
        staged.open_gate();
        for waiter in waiters {
            let exit = in_time("wait", waiter).await.expect("no panic").expect("wait");
            assert_eq!(exit, WorkerExit::Exited { code });
        }
        assert_eq!(ended(&*backend, &staged).await, WorkerExit::Exited { code });
        clean(&*backend, &staged).await;
    }
}

/// `wait` alone adopts: the next host learns the code of a worker that it never ensured.
pub async fn a_new_host_waits_for_the_old_worker(fixture: &dyn BackendFixture) {
    let running = stage(fixture, "running", &gated(21), limits());
    let over = stage(fixture, "over", &[Step::Exit { code: 22 }], limits());
    {
        let backend = open(fixture).await;
        backend.ensure(&running.spec).await.expect("ensure");
        backend.ensure(&over.spec).await.expect("ensure");
        ended(&*backend, &over).await;
    }
    let backend = open(fixture).await;
    assert_eq!(ended(&*backend, &over).await, WorkerExit::Exited { code: 22 });
    running.open_gate();
    assert_eq!(ended(&*backend, &running).await, WorkerExit::Exited { code: 21 });
    assert_eq!((running.starts(), over.starts()), (1, 1));
    clean(&*backend, &running).await;
    clean(&*backend, &over).await;
}

/// A dispatch nobody ensured: `wait` is Lost, `cancel` and `remove` are no errors.
pub async fn unknown_dispatch_is_lost(fixture: &dyn BackendFixture) {
    let staged = stage(fixture, "unknown", &[], limits());
    let backend = open(fixture).await;
    match ended(&*backend, &staged).await {
        WorkerExit::Lost { detail } => assert!(!detail.is_empty(), "says what was observed"),
        other => panic!("expected Lost, got {other:?}"),
    }
    backend.cancel(staged.id(), Duration::ZERO).await.expect("cancel of nothing");
    backend.remove(staged.id()).await.expect("remove of nothing");
}

/// SIGTERM arrives first, and a worker that heeds it is not killed.
pub async fn cancel_is_polite_first(fixture: &dyn BackendFixture) {
    let staged = stage(fixture, "polite", &[Step::AwaitTerm, Step::Exit { code: 0 }], limits());
    let backend = open(fixture).await;
    backend.ensure(&staged.spec).await.expect("ensure");
    staged.until_started().await;
    let start = Instant::now();
    backend.cancel(staged.id(), Duration::from_secs(50)).await.expect("cancel");
    assert_eq!(ended(&*backend, &staged).await, WorkerExit::Cancelled);
    assert!(start.elapsed() < Duration::from_secs(30), "the end must not wait for the grace to pass");
    assert!(staged.log().contains(&"term".to_owned()), "the worker saw SIGTERM: {:?}", staged.log());
    clean(&*backend, &staged).await;
}

/// A worker deaf to SIGTERM is killed after the grace, with everything that descends from it.
pub async fn cancel_kills_the_whole_tree_after_grace(fixture: &dyn BackendFixture) {
    let staged = stage(fixture, "stubborn", &spawn_all(Step::Hang), limits());
    let backend = open(fixture).await;
    backend.ensure(&staged.spec).await.expect("ensure");
    staged.until_all_beat().await;
    let (start, grace) = (Instant::now(), Duration::from_millis(300));
    backend.cancel(staged.id(), grace).await.expect("cancel");
    assert_eq!(ended(&*backend, &staged).await, WorkerExit::Cancelled);
    assert!(start.elapsed() >= grace, "killed after {:?}, before its grace", start.elapsed());
    staged.assert_silent().await;
    clean(&*backend, &staged).await;
}

/// The host that cancels need not be the one that started, and one that waits elsewhere hears of it.
pub async fn cancel_by_another_host_works(fixture: &dyn BackendFixture) {
    let staged = stage(fixture, "elsewhere", &spawn_all(Step::Hang), limits());
    let (one, two) = (open(fixture).await, open(fixture).await);
    one.ensure(&staged.spec).await.expect("ensure");
    staged.until_all_beat().await;
    two.cancel(staged.id(), Duration::from_millis(50)).await.expect("cancel by the other");
    assert_eq!(ended(&*one, &staged).await, WorkerExit::Cancelled);
    assert_eq!(ended(&*two, &staged).await, WorkerExit::Cancelled);
    staged.assert_silent().await;
    clean(&*one, &staged).await;
}

/// Cancelling again is fine, also with a shorter grace; after the end it changes nothing.
pub async fn cancel_is_idempotent_and_spares_the_ended(fixture: &dyn BackendFixture) {
    let staged = stage(fixture, "again", &[Step::Hang], limits());
    let backend = open(fixture).await;
    backend.ensure(&staged.spec).await.expect("ensure");
    staged.until_started().await;
    backend.cancel(staged.id(), Duration::from_secs(600)).await.expect("cancel");
    backend.cancel(staged.id(), Duration::from_millis(50)).await.expect("cancel, impatiently");
    assert_eq!(ended(&*backend, &staged).await, WorkerExit::Cancelled);
    backend.cancel(staged.id(), Duration::ZERO).await.expect("cancel after the end");
    assert_eq!(ended(&*backend, &staged).await, WorkerExit::Cancelled);
    clean(&*backend, &staged).await;

    let staged = stage(fixture, "by-itself", &[Step::Exit { code: 4 }], limits());
    backend.ensure(&staged.spec).await.expect("ensure");
    ended(&*backend, &staged).await;
    backend.cancel(staged.id(), Duration::ZERO).await.expect("cancel after the end");
    assert_eq!(ended(&*backend, &staged).await, WorkerExit::Exited { code: 4 });
    let next = open(fixture).await;
    assert_eq!(ended(&*next, &staged).await, WorkerExit::Exited { code: 4 });
    clean(&*backend, &staged).await;
}

/// A worker that ends by itself takes everything that it started with it.
pub async fn natural_end_leaves_no_process(fixture: &dyn BackendFixture) {
    let staged = stage(fixture, "litter", &spawn_all(Step::Exit { code: 9 }), limits());
    let backend = open(fixture).await;
    backend.ensure(&staged.spec).await.expect("ensure");
    assert_eq!(ended(&*backend, &staged).await, WorkerExit::Exited { code: 9 });
    staged.assert_silent().await;
    clean(&*backend, &staged).await;
}

/// Over time: TimedOut, and the whole tree is dead.
pub async fn timeout_kills_the_whole_tree(fixture: &dyn BackendFixture) {
    let limits = Limits { timeout_ms: 1_500, grace_ms: 100, ..limits() };
    let staged = stage(fixture, "overtime", &spawn_all(Step::Hang), limits);
    let backend = open(fixture).await;
    let start = Instant::now();
    backend.ensure(&staged.spec).await.expect("ensure");
    assert_eq!(ended(&*backend, &staged).await, WorkerExit::TimedOut);
    assert!(start.elapsed() >= Duration::from_millis(1_400), "stopped after {:?}", start.elapsed());
    staged.assert_silent().await;
    clean(&*backend, &staged).await;
}

/// The limit counts from the start of the worker, not from its adoption.
pub async fn timeout_holds_across_a_host_crash(fixture: &dyn BackendFixture) {
    let limits = Limits { timeout_ms: 2_000, grace_ms: 100, ..limits() };
    let staged = stage(fixture, "overtime-adopted", &spawn_all(Step::Hang), limits);
    {
        let backend = open(fixture).await;
        backend.ensure(&staged.spec).await.expect("ensure");
        staged.until_started().await;
    }
    let backend = open(fixture).await;
    assert_eq!(ended(&*backend, &staged).await, WorkerExit::TimedOut);
    let next = open(fixture).await;
    assert_eq!(ended(&*next, &staged).await, WorkerExit::TimedOut, "the reason is on record");
    staged.assert_silent().await;
    clean(&*backend, &staged).await;
}

/// SIGKILL from outside (an administrator, the OOM killer): 137 or Lost, and no survivors.
pub async fn a_killed_worker_is_reported(fixture: &dyn BackendFixture) {
    let staged = stage(fixture, "murdered", &spawn_all(Step::Hang), limits());
    let backend = open(fixture).await;
    backend.ensure(&staged.spec).await.expect("ensure");
    staged.until_all_beat().await;
    let first = staged.log().into_iter().next().unwrap_or_default();
    let pid = first.trim_start_matches("start ").parse().expect("the worker wrote its pid");
    fixture.kill_worker(&staged.spec, pid).await;
    match ended(&*backend, &staged).await {
        WorkerExit::Exited { code: 137 } | WorkerExit::Lost { .. } => {}
        other => panic!("expected 137 or Lost, got {other:?}"),
    }
    staged.assert_silent().await;
    assert!(
        backend.ensure(&staged.spec).await.expect("ensure").adopted,
        "a killed worker is not started again"
    );
    assert_eq!(staged.starts(), 1);
    clean(&*backend, &staged).await;
}

/// `list` holds every known dispatch in any state; `remove` is idempotent and leaves the directories alone.
pub async fn remove_and_list(fixture: &dyn BackendFixture) {
    let one = stage(fixture, "one", &[Step::Exit { code: 0 }], limits());
    let two = stage(fixture, "two", &gated(0), limits());
    let backend = open(fixture).await;
    backend.ensure(&one.spec).await.expect("ensure");
    backend.ensure(&two.spec).await.expect("ensure");
    ended(&*backend, &one).await;
    let listed = async |backend: &dyn crate::worker_backend::WorkerBackend| {
        let list = backend.list().await.expect("list");
        (list.contains(one.id()), list.contains(two.id()))
    };
    assert_eq!(listed(&*backend).await, (true, true));
    let next = open(fixture).await;
    assert_eq!(listed(&*next).await, (true, true), "records survive the host");
    next.remove(one.id()).await.expect("remove");
    next.remove(one.id()).await.expect("remove again");
    backend.remove(one.id()).await.expect("remove by the other");
    assert_eq!(listed(&*backend).await, (false, true));
    assert!(matches!(ended(&*backend, &one).await, WorkerExit::Lost { .. }), "removed is unknown");
    assert!(one.spec.result_dir.join("starts").exists(), "the directories belong to the caller");
    two.open_gate();
    assert_eq!(ended(&*backend, &two).await, WorkerExit::Exited { code: 0 });
    clean(&*backend, &two).await;
    assert_eq!(listed(&*backend).await, (false, false));
}
