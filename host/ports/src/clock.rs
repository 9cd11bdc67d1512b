//! Wall clock as a port, so that tests decide what time it is.

use async_trait::async_trait;

/// Time source of the driver.
#[async_trait]
pub trait Clock: Send + Sync {
    /// Milliseconds since the Unix epoch. May step back; callers must cope.
    fn now_ms(&self) -> i64;

    /// Resolves once `now_ms() >= at_ms`, judged by this clock.
    async fn sleep_until(&self, at_ms: i64);
}
