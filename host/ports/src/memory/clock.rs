//! A clock that tests move, and the real one.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use tokio::sync::watch;

use crate::clock::Clock;

/// A clock that stands still until it is moved. Moving it wakes the sleepers whose time has come.
#[derive(Debug)]
pub struct ManualClock {
    now: watch::Sender<i64>,
}

impl ManualClock {
    /// A clock that shows `now_ms` (milliseconds since the Unix epoch).
    #[must_use]
    pub fn new(now_ms: i64) -> Self {
        Self { now: watch::Sender::new(now_ms) }
    }

    /// Moves the clock forward.
    pub fn advance(&self, by: Duration) {
        let by = i64::try_from(by.as_millis()).unwrap_or(i64::MAX);
        self.now.send_modify(|now| *now = now.saturating_add(by));
    }

    /// Sets the clock, also backwards.
    pub fn set(&self, now_ms: i64) {
        self.now.send_replace(now_ms);
    }

    /// How many `sleep_until` calls wait right now; lets a test advance only once everybody sleeps.
    #[must_use]
    pub fn sleepers(&self) -> usize {
        self.now.receiver_count()
    }
}

#[async_trait]
impl Clock for ManualClock {
    fn now_ms(&self) -> i64 {
        *self.now.borrow()
    }

    async fn sleep_until(&self, at_ms: i64) {
        let mut now = self.now.subscribe();
        // The sender lives in `self`, which outlives this call, so waiting cannot end in an error.
        let _ = now.wait_for(|now| *now >= at_ms).await;
    }
}

/// Longest nap of [`SystemClock::sleep_until`] before it looks at the wall clock again: a clock that was set
/// forward is noticed after at most this long.
const LONGEST_NAP_MS: i64 = 10_000;

/// The machine's wall clock.
#[derive(Debug, Default, Clone, Copy)]
pub struct SystemClock;

#[async_trait]
impl Clock for SystemClock {
    fn now_ms(&self) -> i64 {
        let millis = |duration: Duration| i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
        match SystemTime::now().duration_since(UNIX_EPOCH) {
            Ok(since) => millis(since),
            Err(before) => -millis(before.duration()),
        }
    }

    async fn sleep_until(&self, at_ms: i64) {
        loop {
            let left = at_ms.saturating_sub(self.now_ms());
            if left <= 0 {
                return;
            }
            let nap = u64::try_from(left.min(LONGEST_NAP_MS)).unwrap_or(0);
            tokio::time::sleep(Duration::from_millis(nap)).await;
        }
    }
}
