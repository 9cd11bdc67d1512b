//! Decisions, typed.

use std::cell::Cell;

#[cfg(target_family = "wasm")]
use crate::host::Sink as _;
use crate::{
    ItemSpec,
    config::Finding,
    host::{DecisionsSink, Refusal},
};

/// Where a step puts what it decided.
pub struct Decisions<'a> {
    sink: &'a DecisionsSink<'a>,
    spawned: Cell<u32>,
}

impl<'a> Decisions<'a> {
    /// To a host.
    #[must_use]
    pub const fn new(sink: &'a DecisionsSink<'a>) -> Self {
        Self { sink, spawned: Cell::new(0) }
    }

    /// Adds an item. Its id must be new in the run: look with [`crate::Run::find`] first.
    ///
    /// # Errors
    /// The host refuses what no run may have. With `?` that becomes a fault, and the step decides nothing.
    pub fn spawn(&self, spec: &ItemSpec) -> Result<(), Refusal> {
        self.sink.spawn(spec)?;
        self.spawned.set(self.spawned.get() + 1);
        Ok(())
    }

    /// How many items this step added so far.
    #[must_use]
    pub fn spawned(&self) -> u32 {
        self.spawned.get()
    }

    /// No more items will come from this pattern: it is not asked again for this run.
    pub fn close(&self) {
        self.sink.close();
    }

    /// Audit text: why `item` was added, or was not.
    pub fn explain(&self, item: &str, why: &str) {
        self.sink.explain(item, why);
    }

    /// The run may succeed although these items ended without success; the reason is recorded and shown with each. What
    /// waited for them stays skipped.
    ///
    /// # Errors
    /// Refused while planning and without a reason. The engine does not take a step that tolerates what has not ended,
    /// ended well or has a successor.
    pub fn tolerate(&self, items: &[String], why: &str) -> Result<(), Refusal> {
        self.sink.tolerate(items, why)
    }

    /// While planning: `item` waits for `after`.
    ///
    /// # Errors
    /// Refused when a run has started.
    pub fn order_after(&self, item: &str, after: &str) -> Result<(), Refusal> {
        self.sink.order_after(item, after)
    }

    /// While planning: when `item` ends done but its verify did not pass, what waits for it is skipped.
    ///
    /// # Errors
    /// Refused when a run has started.
    pub fn hold_on_red(&self, item: &str) -> Result<(), Refusal> {
        self.sink.hold_on_red(item)
    }

    /// While planning: the plan is wrong here. Report everything, not only the first.
    pub fn finding(&self, finding: &Finding) {
        self.sink.finding(&finding.pointer, &finding.message, finding.hint.as_deref());
    }

    /// While planning, for drawings: an item that may be added later.
    pub fn possible(&self, id: &str, after: &[String], why: &str) {
        self.sink.possible(id, after, why);
    }
}
