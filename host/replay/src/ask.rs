//! Asking a pattern again.

use std::{future::Future, sync::Arc};

use pangolin_core::{
    ids::Digest,
    pattern::{Decisions, RunView, StepLimits},
};
use pangolin_plugin_host::{PatternComponent, PluginError};

/// What a pattern answers.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// What it decided.
    pub decisions: Decisions,
    /// Fuel used.
    pub fuel: u64,
    /// Largest linear memory in bytes.
    pub peak_memory: u64,
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failed {
    /// Code of the plugin host's closed vocabulary.
    pub code: String,
    /// One sentence.
    pub message: String,
    /// Fuel used until then.
    pub fuel: u64,
    /// Largest linear memory in bytes until then.
    pub peak_memory: u64,
}

impl From<PluginError> for Failed {
    fn from(error: PluginError) -> Self {
        let bill = error.call.as_ref().map(|call| call.bill);
        Self {
            code: error.code().to_owned(),
            message: error.failure.to_string(),
            fuel: bill.map_or(0, |bill| bill.fuel),
            peak_memory: bill.map_or(0, |bill| bill.peak_memory_bytes),
        }
    }
}

/// Something that answers like a pattern. Implemented by [`PatternComponent`].
pub trait Ask {
    /// Digest of the component.
    fn component(&self) -> Digest;

    /// Answers one step; 0 is the one at admission, where a pattern without planner decides nothing. `limits`: to be
    /// asked under these, as far as they are lower than its own.
    fn ask(
        &self,
        step: u64,
        view: &Arc<RunView>,
        limits: Option<&StepLimits>,
    ) -> impl Future<Output = Result<Answer, Failed>> + Send;

    /// Its own limits over a run of this size.
    fn limits_over(&self, items: usize) -> StepLimits;
}

impl Ask for PatternComponent {
    fn component(&self) -> Digest {
        self.digest()
    }

    fn limits_over(&self, items: usize) -> StepLimits {
        Self::limits(self).of_step(items)
    }

    async fn ask(
        &self,
        step: u64,
        view: &Arc<RunView>,
        limits: Option<&StepLimits>,
    ) -> Result<Answer, Failed> {
        let limits =
            limits.map_or_else(|| Self::limits(self).clone(), |at| Self::limits(self).as_recorded(at));
        let asked = self.with_limits(limits);
        let outcome = match step {
            0 => asked.plan(view).await?,
            _ => Some(asked.step(view).await?),
        };
        Ok(match outcome {
            Some(outcome) => Answer {
                decisions: outcome.decisions,
                fuel: outcome.bill.fuel,
                peak_memory: outcome.bill.peak_memory_bytes,
            },
            None => Answer { decisions: Decisions::default(), fuel: 0, peak_memory: 0 },
        })
    }
}
