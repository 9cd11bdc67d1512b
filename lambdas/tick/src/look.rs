//! One invocation.

use std::{
    env,
    io::Write as _,
    path::PathBuf,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use lambda_runtime::Diagnostic;
use pangolin_aws::{Aws, AwsConfig, CallError, OpenError};
use pangolin_core::ids::Digest;
use pangolin_orchestrator::causes::causes;
use pangolin_runtime::aws::{Engine, Look, Looked, Stack, StackError};
use pangolin_stack::names::{ENV_DEPLOYMENT, ENV_DOORBELL, ENV_PROJECT, ENV_STACK};
use serde_json::Value;
use thiserror::Error;
use tracing::{info, warn};

use crate::{
    bell::{self, Bell},
    metric,
};

/// Kept back of the time limit: for a commit that is on its way, for the anchor and for giving back the lease.
const RESERVE: Duration = Duration::from_secs(20);

/// Longest look, however much time there is. One that is cut short rings for the next.
const BUDGET_MAX: Duration = Duration::from_secs(30);

/// Kept back for giving back the lease after a look that was given up.
const LAST: Duration = Duration::from_secs(2);

/// Life of the lease, which a look prolongs. Short, because a function that was killed keeps it. It saves work and guarantees
/// nothing.
const LEASE: Duration = Duration::from_secs(12);

/// After this it is asked whether the stack's documents have changed. When not, everything that is known stays: reading a large
/// run again costs more than all its looks.
const FRESH: Duration = Duration::from_secs(600);

/// The schedule comes at least so often.
const SCHEDULE: Duration = Duration::from_secs(60);

/// Why the function cannot start.
#[derive(Debug, Error)]
pub(crate) enum SetUpError {
    /// A variable of the stack is missing.
    #[error("{0} is not set; the stack sets it")]
    Missing(&'static str),
    /// The project is named by something that is no digest.
    #[error("{ENV_PROJECT} is {0:?}, expected sha256: and 64 hex digits; the stack sets it")]
    Project(String),
}

/// Why a look failed.
#[derive(Debug, Error)]
pub(crate) enum LookError {
    /// Configuration of the SDK.
    #[error(transparent)]
    Aws(#[from] OpenError),
    /// The stack or the engine.
    #[error(transparent)]
    Stack(Box<StackError>),
    /// There is more to do, and the doorbell did not ring.
    #[error("the doorbell {queue} does not ring")]
    Bell {
        /// URL of the queue.
        queue: String,
        /// What SQS said.
        #[source]
        source: CallError,
    },
}

impl From<StackError> for LookError {
    fn from(error: StackError) -> Self {
        Self::Stack(Box::new(error))
    }
}

impl From<LookError> for Diagnostic {
    fn from(error: LookError) -> Self {
        let error_type = match error {
            LookError::Aws(_) => "Tick.Configuration",
            LookError::Stack(ref error) if matches!(**error, StackError::TooLate) => "Tick.TooLate",
            LookError::Stack(_) => "Tick.Stack",
            LookError::Bell { .. } => "Tick.Doorbell",
        };
        Self { error_type: error_type.to_owned(), error_message: causes(&error) }
    }
}

/// What an execution environment keeps.
pub(crate) struct Looker {
    location: String,
    /// The project that was packed for this function.
    project: Digest,
    queue: String,
    stack: String,
    /// Where files go.
    dir: PathBuf,
    opened: Option<Opened>,
}

struct Opened {
    engine: Engine,
    bell: Bell,
    at: Instant,
}

fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

fn now_ms() -> i64 {
    i64::try_from(now().as_millis()).unwrap_or(i64::MAX)
}

impl Looker {
    /// From the environment. Makes no request.
    pub(crate) fn from_env() -> Result<Self, SetUpError> {
        let variable =
            |name| env::var(name).ok().filter(|text| !text.is_empty()).ok_or(SetUpError::Missing(name));
        let project = variable(ENV_PROJECT)?;
        Ok(Self {
            location: variable(ENV_DEPLOYMENT)?,
            project: project.parse().map_err(|_| SetUpError::Project(project))?,
            queue: variable(ENV_DOORBELL)?,
            stack: variable(ENV_STACK)?,
            dir: env::temp_dir().join("pangolin"),
            opened: None,
        })
    }

    async fn open(&self) -> Result<Opened, LookError> {
        let aws = Aws::open(AwsConfig::default()).await?;
        // Of the engine before, or of an earlier process in this execution environment, which was killed.
        let _ = std::fs::remove_dir_all(&self.dir);
        let bell = Bell::new(&aws, &self.queue);
        let stack = Stack::open(aws, &self.location, Some(self.project), &self.dir).await?;
        let engine = stack.engine(LEASE).await?;
        Ok(Opened { engine, bell, at: Instant::now() })
    }

    /// Looks once. `deadline_ms` is when Lambda ends the function, in milliseconds since 1970.
    pub(crate) async fn look(&mut self, event: &Value, deadline_ms: u64) -> Result<(), LookError> {
        let mut opened = match self.opened.take() {
            Some(opened) if opened.at.elapsed() < FRESH => opened,
            // A deployment that cannot be asked about is opened anew, which says why.
            Some(opened) if opened.engine.is_current().await.unwrap_or(false) => {
                Opened { at: Instant::now(), ..opened }
            }
            _ => self.open().await?,
        };
        let left = Duration::from_millis(deadline_ms).saturating_sub(now());
        // Half of the time where there is little of it.
        let budget = left.saturating_sub(RESERVE.min(left / 2)).min(BUDGET_MAX);
        // Dropped when it fails: what is half done is read anew.
        let look = opened.engine.look(budget, left.saturating_sub(LAST.min(left / 4))).await?;
        self.finish(look, &opened.bell, bell::hops(event)).await?;
        self.opened = Some(opened);
        Ok(())
    }

    async fn finish(&self, look: Look, bell: &Bell, hops: u32) -> Result<(), LookError> {
        let again = match look {
            Look::Busy(until) => {
                info!(until, "somebody else is looking");
                let wait = u64::try_from(until.saturating_sub(now_ms())).unwrap_or(0);
                // Whoever looks may have looked past what this doorbell is about.
                Some(Duration::from_millis(wait))
            }
            Look::Done(looked) => {
                self.report(&looked);
                next(&looked, now_ms())
            }
        };
        let Some(delay) = again else { return Ok(()) };
        let failed = |source| LookError::Bell { queue: self.queue.clone(), source };
        if !bell.ring(delay, hops).await.map_err(failed)? {
            warn!(hops, "too many looks in a row; the schedule goes on");
        }
        Ok(())
    }

    fn report(&self, looked: &Looked) {
        let looked_json = serde_json::to_string(looked).unwrap_or_default();
        info!(looked = %looked_json, "looked");
        let line = metric::stalled(&self.stack, now_ms(), looked.stalled_ms);
        // CloudWatch reads metrics from stdout lines of their own.
        let mut out = std::io::stdout().lock();
        let _ = writeln!(out, "{line}");
    }
}

/// When to look again before the schedule does.
fn next(looked: &Looked, now_ms: i64) -> Option<Duration> {
    if looked.cut_short {
        return Some(Duration::ZERO);
    }
    let wait = looked.next_wakeup?.saturating_sub(now_ms);
    let wait = Duration::from_millis(u64::try_from(wait).unwrap_or(0));
    (wait < SCHEDULE).then_some(wait)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_rings_for_what_comes_before_the_schedule() {
        let looked = |next_wakeup, cut_short| Looked {
            commits: 0,
            runs: 1,
            running: 0,
            next_wakeup,
            cut_short,
            anchored: 0,
            stalled_ms: 0,
        };
        assert_eq!(next(&looked(None, false), 5), None);
        assert_eq!(next(&looked(None, true), 5), Some(Duration::ZERO));
        assert_eq!(next(&looked(Some(1_005), false), 5), Some(Duration::from_secs(1)));
        assert_eq!(next(&looked(Some(2), false), 5), Some(Duration::ZERO));
        assert_eq!(next(&looked(Some(60_005), false), 5), None);
    }
}
