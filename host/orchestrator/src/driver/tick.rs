//! One look: the same loop as a daemon's, which ends as soon as nothing more can be done now.

use std::sync::Arc;

use async_trait::async_trait;
use pangolin_core::state::RunState;

use super::{Driver, DriverError, Folded, Parts};

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

/// Ticks of one process. Between them it keeps what it folded, so that a process that is used again reads nothing twice. When
/// somebody else led the deployment meanwhile it reads what they added; runs whose pattern is asked are then read from the
/// beginning.
pub struct Ticker {
    parts: Arc<Parts>,
    left: Left,
}

/// What a tick leaves behind.
enum Left {
    Nothing,
    /// It ended because nothing more could be done.
    Driver(Box<Driver>),
    /// It was cut short: what it was about to do is found again.
    Folded(Folded),
}

impl Left {
    fn folded(self) -> Folded {
        match self {
            Self::Nothing => Folded::default(),
            Self::Driver(driver) => driver.into_folded(),
            Self::Folded(folded) => folded,
        }
    }
}

impl Ticker {
    /// A process that knows nothing yet.
    #[must_use]
    pub const fn new(parts: Arc<Parts>) -> Self {
        Self { parts, left: Left::Nothing }
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
        let mut driver = match std::mem::replace(&mut self.left, Left::Nothing) {
            Left::Driver(mut driver) if driver.ledger.leads().await? => {
                driver.adopt_running();
                driver.act().await?;
                driver
            }
            left => {
                let driver = Driver::load(&self.parts, left.folded()).await?;
                (self.parts.on_lead)();
                Box::new(driver)
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
        self.left = if ended { Left::Driver(driver) } else { Left::Folded(driver.into_folded()) };
        Ok(ticked)
    }
}

impl Driver {
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
