//! One look: the same loop as a daemon's, which ends as soon as nothing more can be done now.

use async_trait::async_trait;

use super::{Driver, DriverError, Parts};

/// What a tick waits for before it may end.
#[async_trait]
pub trait Attempts: Send + Sync {
    /// Resolves when every attempt that was handed to the executor has been looked at: one that ended has been
    /// reported, one that runs is known to run, and what was asked to stop or to be removed has been asked.
    async fn settled(&self);
}

/// How a tick left the deployment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ticked {
    /// Batches that were committed. Nothing changed when it is 0.
    pub commits: u64,
    /// Runs that are not sealed.
    pub runs: usize,
    /// Attempts that are running.
    pub running: usize,
    /// Something has to be done at this time (milliseconds since the epoch) even if nothing arrives until then.
    pub next_wakeup: Option<i64>,
    /// There was more to do when the budget was spent: look again at once.
    pub cut_short: bool,
}

/// Takes over the deployment, does what can be done now and ends, at the latest when `budget` resolves. Who may call it is the
/// caller's business ([`crate::lease`]); two at once are safe, one of them is deposed and did nothing that counts.
///
/// # Errors
/// [`DriverError`]. Everything committed stays; the next tick continues.
pub async fn tick(
    parts: &Parts,
    attempts: &dyn Attempts,
    budget: impl Future<Output = ()> + Send,
) -> Result<Ticked, DriverError> {
    let mut budget = std::pin::pin!(budget);
    let mut driver = Driver::load(parts).await?;
    (parts.on_lead)();
    let cut_short = !driver.run(&mut budget, Some(attempts)).await?;
    Ok(Ticked {
        commits: driver.ledger.commits(),
        runs: driver.summaries.len(),
        running: parts.queues.keys().map(|queue| driver.scheduler.running_in(queue) as usize).sum(),
        next_wakeup: driver.next_wakeup(),
        cut_short,
    })
}

impl Driver<'_> {
    /// Whether a pattern thinks.
    pub(super) fn is_asking(&self) -> bool {
        self.growing.values().any(|growing| growing.step.is_some())
            || self.planning.values().any(|planning| matches!(planning, super::Planning::Asked { .. }))
    }

    /// Nothing arrived between the last look and now.
    pub(super) fn is_quiet(&self) -> bool {
        self.reports.is_empty() && self.answers.is_empty() && self.plans.is_empty()
    }
}
