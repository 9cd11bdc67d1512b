//! Whether a failed attempt is followed by another one, and when. Pure: the jitter comes from the dispatch id, so
//! every process that looks at the same failure decides the same.

use crate::{
    entry::{Failure, RetryPolicy},
    ids::{Digest, DispatchId},
    plan::PlanItem,
};

/// What follows a failed attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Another attempt, not before this time (ms).
    Retry {
        /// Milliseconds since the Unix epoch.
        not_before: i64,
    },
    /// The failure is final.
    Final,
}

/// Attempts in total for `item`: its own number or the policy's, at least 1.
#[must_use]
pub fn max_attempts(policy: &RetryPolicy, item: &PlanItem) -> u32 {
    item.max_attempts.unwrap_or(policy.max_attempts).max(1)
}

/// Wall time of one attempt of `item` in milliseconds: its own or the policy's.
#[must_use]
pub fn timeout_ms(policy: &RetryPolicy, item: &PlanItem) -> i64 {
    item.timeout_seconds.map_or(policy.timeout_ms, |seconds| i64::from(seconds) * 1_000).max(0)
}

/// Decides after `attempt` (from 1) of `item` failed at `now`.
///
/// The class of the failure decides whether another attempt may help; the number of attempts whether one is left.
#[must_use]
pub fn decide(
    policy: &RetryPolicy,
    item: &PlanItem,
    attempt: u32,
    failure: &Failure,
    dispatch: &DispatchId,
    now: i64,
) -> Next {
    if !failure.class.is_retryable() || attempt >= max_attempts(policy, item) {
        return Next::Final;
    }
    Next::Retry { not_before: now.saturating_add(backoff_ms(policy, attempt, dispatch)) }
}

/// Wait after failed `attempt` (from 1) in milliseconds: `base · 2^(attempt-1)`, at most the cap, then between half and
/// all of that, spread by the dispatch id.
#[must_use]
pub fn backoff_ms(policy: &RetryPolicy, attempt: u32, dispatch: &DispatchId) -> i64 {
    let base = policy.base_ms.max(0);
    let doubled = 1_i64.checked_shl(attempt.saturating_sub(1)).filter(|factor| *factor > 0);
    let full = doubled.map_or(i64::MAX, |factor| base.saturating_mul(factor)).min(policy.cap_ms.max(0));
    let full = if base == 0 { 0 } else { full };
    let half = full / 2;
    let digest = Digest::of(dispatch.as_str().as_bytes());
    let mut spread = 0_u64;
    for byte in &digest.as_bytes()[..8] {
        spread = spread << 8 | u64::from(*byte);
    }
    let range = (full - half).unsigned_abs() + 1;
    half + i64::try_from(spread % range).unwrap_or(0)
}
