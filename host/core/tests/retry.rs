//! Who is retried, and when.

mod common;

use common::{failure, item};
use pangolin_core::{
    entry::{FailureClass, RetryPolicy},
    ids::{DispatchId, ItemId, RunId},
    retry::{Next, backoff_ms, decide},
};

fn dispatch(attempt: u32) -> DispatchId {
    let run = RunId::new("r").expect("run id");
    DispatchId::derive("test", &run, &ItemId::new("x").expect("item id"), attempt)
}

#[test]
fn class_and_attempts_decide() {
    let policy = RetryPolicy { max_attempts: 3, ..RetryPolicy::default() };
    let check = |class, own: Option<u32>, attempt, again: bool| {
        let mut item = item("x");
        item.max_attempts = own;
        let next = decide(&policy, &item, attempt, &failure(class), &dispatch(attempt), 100);
        assert_eq!(matches!(next, Next::Retry { .. }), again, "{class:?} {own:?} {attempt}");
    };
    for class in [FailureClass::Infrastructure, FailureClass::Work, FailureClass::Timeout] {
        check(class, None, 2, true);
        check(class, None, 3, false);
        check(class, Some(1), 1, false);
        check(class, Some(5), 4, true);
    }
    for class in [FailureClass::Refusal, FailureClass::Invalid, FailureClass::Cancelled] {
        check(class, None, 1, false);
    }
}

#[test]
fn backoff_doubles_is_capped_and_spread() {
    let policy = RetryPolicy { max_attempts: 99, base_ms: 1_000, cap_ms: 6_000, timeout_ms: 1 };
    let mut seen = std::collections::BTreeSet::new();
    for (attempt, full) in
        [(1, 1_000), (2, 2_000), (3, 4_000), (4, 6_000), (63, 6_000), (64, 6_000), (99, 6_000)]
    {
        let wait = backoff_ms(&policy, attempt, &dispatch(attempt));
        assert!((full / 2..=full).contains(&wait), "attempt {attempt}: {wait}");
        assert_eq!(wait, backoff_ms(&policy, attempt, &dispatch(attempt)), "deterministic");
        seen.insert(backoff_ms(&policy, 4, &dispatch(attempt)));
    }
    assert!(seen.len() > 3, "different dispatches wait differently: {seen:?}");
    let hostile = RetryPolicy { max_attempts: 2, base_ms: i64::MAX, cap_ms: i64::MAX, timeout_ms: 0 };
    let next = decide(&hostile, &item("x"), 1, &failure(FailureClass::Work), &dispatch(1), i64::MAX);
    assert_eq!(next, Next::Retry { not_before: i64::MAX });
    assert_eq!(backoff_ms(&RetryPolicy { base_ms: -5, cap_ms: -1, ..hostile }, 1, &dispatch(1)), 0);
}
