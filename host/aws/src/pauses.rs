//! Pauses between attempts that the SDK does not repeat by itself.

use std::time::Duration;

/// Growing pauses with jitter, a limited number of them. For answers that mean "repeat" but that the SDK takes for final,
/// as the 409 of a conditional write that met another one.
#[derive(Debug, Clone)]
pub struct Pauses {
    left: u32,
    bound: Duration,
    max: Duration,
}

impl Pauses {
    /// At most `count` pauses. The first lasts up to `first`; the bound doubles with each, up to `max`.
    #[must_use]
    pub fn new(count: u32, first: Duration, max: Duration) -> Self {
        Self { left: count, bound: first.min(max), max }
    }

    /// Waits for the next attempt; `false` at once when there shall be none.
    pub async fn next(&mut self) -> bool {
        let Some(left) = self.left.checked_sub(1) else { return false };
        self.left = left;
        // Full jitter: those who met once shall not meet again. Without randomness the pause is just not shortened.
        let share = getrandom::u32().map_or(1.0, |number| f64::from(number) / f64::from(u32::MAX));
        tokio::time::sleep(self.bound.mul_f64(share)).await;
        self.bound = (self.bound * 2).min(self.max);
        true
    }
}

impl Default for Pauses {
    /// Eight pauses, the first up to 25 ms, none above 1 s: some 3 s at worst.
    fn default() -> Self {
        Self::new(8, Duration::from_millis(25), Duration::from_secs(1))
    }
}
