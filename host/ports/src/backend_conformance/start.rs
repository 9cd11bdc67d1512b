//! Exactly-once start.

use std::{future::Future, pin::pin, task::Poll};

use super::{
    BackendFixture,
    harness::{clean, ended, gated, in_time, limits, open, say, stage},
};
use crate::worker_backend::{BackendError, Network, WorkerExit};

/// The second `ensure` adopts and reports the same isolation.
pub async fn ensure_twice_starts_once(fixture: &dyn BackendFixture) {
    let staged = stage(fixture, "twice", &gated(0), limits());
    let backend = open(fixture).await;
    let first = backend.ensure(&staged.spec).await.expect("first ensure");
    let second = backend.ensure(&staged.spec).await.expect("second ensure");
    assert!(!first.adopted && second.adopted, "{first:?} {second:?}");
    assert_eq!(first.isolation, second.isolation);
    assert_eq!(first.isolation.level, fixture.isolation());
    let network = if fixture.network() == Network::None { "none" } else { "host" };
    assert_eq!(first.isolation.network, network);
    staged.open_gate();
    assert_eq!(ended(&*backend, &staged).await, WorkerExit::Exited { code: 0 });
    assert_eq!(staged.starts(), 1);
    clean(&*backend, &staged).await;
}

/// Sixteen callers at once on one backend.
pub async fn ensure_sixteen_at_once_starts_once(fixture: &dyn BackendFixture) {
    let staged = stage(fixture, "sixteen", &gated(0), limits());
    let backend = open(fixture).await;
    let calls: Vec<_> = (0..16)
        .map(|_| {
            let (backend, spec) = (backend.clone(), staged.spec.clone());
            tokio::spawn(async move { backend.ensure(&spec).await })
        })
        .collect();
    let mut fresh = 0;
    for call in calls {
        let started = in_time("ensure", call).await.expect("no panic").expect("ensure");
        fresh += usize::from(!started.adopted);
    }
    assert_eq!(fresh, 1, "exactly one caller started the worker");
    staged.open_gate();
    assert_eq!(ended(&*backend, &staged).await, WorkerExit::Exited { code: 0 });
    assert_eq!(staged.starts(), 1);
    clean(&*backend, &staged).await;
}

/// Two host processes race, several times, with workers that end at once.
pub async fn ensure_from_two_backends_starts_once(fixture: &dyn BackendFixture) {
    let (one, two) = (open(fixture).await, open(fixture).await);
    for round in 0..5 {
        let steps = [super::Step::Exit { code: round }];
        let staged = stage(fixture, &format!("race-{round}"), &steps, limits());
        let (first, second) = tokio::join!(one.ensure(&staged.spec), two.ensure(&staged.spec));
        let (first, second) = (first.expect("ensure on one"), second.expect("ensure on two"));
        assert!(first.adopted != second.adopted, "{first:?} {second:?}");
        assert_eq!(ended(&*one, &staged).await, WorkerExit::Exited { code: round });
        assert_eq!(ended(&*two, &staged).await, WorkerExit::Exited { code: round });
        assert_eq!(staged.starts(), 1);
        clean(&*one, &staged).await;
    }
}

/// The host dies after the start; the next one finds the worker.
pub async fn ensure_after_reopen_adopts(fixture: &dyn BackendFixture) {
    let staged = stage(fixture, "reopen", &gated(3), limits());
    let first = {
        let backend = open(fixture).await;
        backend.ensure(&staged.spec).await.expect("ensure")
    };
    staged.until_started().await;
    let backend = open(fixture).await;
    let again = backend.ensure(&staged.spec).await.expect("ensure by the next host");
    assert!(again.adopted);
    assert_eq!(again.isolation, first.isolation, "what is sealed must not depend on who asks");
    staged.open_gate();
    assert_eq!(ended(&*backend, &staged).await, WorkerExit::Exited { code: 3 });
    assert_eq!(staged.starts(), 1);
    clean(&*backend, &staged).await;
}

/// `ensure` is dropped after 1, 2, 3, … polls, then repeated on a new backend.
pub async fn ensure_dropped_midway_then_repeated_starts_once(fixture: &dyn BackendFixture) {
    for polls in 1..=12 {
        let staged = stage(fixture, &format!("dropped-{polls}"), &gated(0), limits());
        {
            let backend = open(fixture).await;
            let mut ensure = pin!(backend.ensure(&staged.spec));
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
        let backend = open(fixture).await;
        in_time("ensure", backend.ensure(&staged.spec)).await.expect("ensure after the crash");
        staged.until_started().await;
        staged.open_gate();
        assert_eq!(ended(&*backend, &staged).await, WorkerExit::Exited { code: 0 }, "after {polls} polls");
        assert_eq!(staged.starts(), 1, "after {polls} polls");
        clean(&*backend, &staged).await;
    }
}

/// A worker that ended counts as started, for this host and the next.
pub async fn ensure_after_the_end_does_not_start_again(fixture: &dyn BackendFixture) {
    let staged = stage(fixture, "ended", &[super::Step::Exit { code: 5 }], limits());
    let backend = open(fixture).await;
    backend.ensure(&staged.spec).await.expect("ensure");
    assert_eq!(ended(&*backend, &staged).await, WorkerExit::Exited { code: 5 });
    let next = open(fixture).await;
    for backend in [&backend, &next] {
        assert!(backend.ensure(&staged.spec).await.expect("ensure after the end").adopted);
        assert_eq!(ended(&**backend, &staged).await, WorkerExit::Exited { code: 5 });
    }
    assert_eq!(staged.starts(), 1);
    clean(&*next, &staged).await;
}

/// A level that cannot be provided is an error with a reason, and nothing runs or stays on record.
pub async fn unavailable_isolation_starts_nothing(fixture: &dyn BackendFixture) {
    let Some(level) = fixture.unavailable() else {
        say("SKIPPED: unavailable_isolation_starts_nothing: this backend provides every level here");
        return;
    };
    let mut staged = stage(fixture, "unavailable", &[super::Step::Exit { code: 0 }], limits());
    staged.spec.isolation = level;
    let backend = open(fixture).await;
    let answers = [
        backend.probe(level, fixture.network()).await.expect_err("probe must refuse"),
        backend.ensure(&staged.spec).await.expect_err("ensure must refuse"),
    ];
    for answer in answers {
        match answer {
            BackendError::IsolationUnavailable { requested, missing } => {
                assert_eq!(requested, level);
                assert!(!missing.is_empty(), "says what is missing");
            }
            other => panic!("expected IsolationUnavailable, got {other:?}"),
        }
    }
    assert!(!backend.list().await.expect("list").contains(staged.id()));
    assert!(matches!(ended(&*backend, &staged).await, WorkerExit::Lost { .. }));
    assert_eq!(staged.starts(), 0);
    let used = backend.probe(fixture.isolation(), fixture.network()).await.expect("probe of what works");
    assert_eq!(used.level, fixture.isolation());
}
