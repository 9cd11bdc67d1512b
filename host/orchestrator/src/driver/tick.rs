//! One look: the same loop as a daemon's, which ends as soon as nothing more can be done now.

use async_trait::async_trait;
use pangolin_core::state::RunState;

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
    /// When the run that has waited longest had its last entry, in milliseconds since the epoch. `None` without runs.
    pub quietest: Option<i64>,
    /// There was more to do when the budget was spent: look again at once.
    pub cut_short: bool,
}

/// Ticks of one process. Between them it keeps what it folded, so that a process that is used again reads nothing twice,
/// as long as nobody else led the deployment meanwhile.
pub struct Ticker<'p> {
    parts: &'p Parts,
    warm: Option<Driver<'p>>,
}

impl<'p> Ticker<'p> {
    /// A process that knows nothing yet.
    #[must_use]
    pub const fn new(parts: &'p Parts) -> Self {
        Self { parts, warm: None }
    }

    /// Leads the deployment, does what can be done now and ends, at the latest when `budget` resolves. Who may call it is
    /// the caller's business ([`crate::lease`]); two at once are safe, one of them is deposed and did nothing that counts.
    ///
    /// `attempts` speaks for the executor of [`Parts`]. An attempt that runs is handed to [`crate::executor::Executor::start`]
    /// again in every tick.
    ///
    /// # Errors
    /// [`DriverError`]. Everything committed stays; the next tick continues.
    pub async fn tick(
        &mut self,
        attempts: &dyn Attempts,
        budget: impl Future<Output = ()> + Send,
    ) -> Result<Ticked, DriverError> {
        let mut budget = std::pin::pin!(budget);
        // Taken out: whatever fails, a half-done driver is never used again.
        let mut driver = match self.warm.take() {
            Some(mut driver) if driver.ledger.leads().await? => {
                driver.adopt_running();
                driver.act().await?;
                driver
            }
            _ => {
                let driver = Driver::load(self.parts).await?;
                (self.parts.on_lead)();
                driver
            }
        };
        let before = driver.ledger.commits();
        let ended = driver.run(&mut budget, Some(attempts)).await?;
        let ticked = Ticked {
            commits: driver.ledger.commits() - before,
            runs: driver.summaries.len(),
            running: driver.scheduler.runs().map(|run| run.running_count() as usize).sum(),
            next_wakeup: driver.next_wakeup(),
            quietest: driver.scheduler.runs().map(RunState::last_at).min(),
            cut_short: !ended,
        };
        self.warm = ended.then_some(driver);
        Ok(ticked)
    }
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
