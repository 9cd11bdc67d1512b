//! What a pattern can ask and tell its host, as traits: the component's imports implement them, the mock host does, and
//! so can any program that wants to run a pattern natively.
//!
//! They mirror `wit/pangolin-pattern@1.1.0`, whose doc comments say what each call means.

use std::fmt;

use crate::{IndexLists, ItemSpec, TextLists, Texts};

/// What a run is seen through. A component has one host, which is named by its type: what a pattern never asks for is
/// then not in the component.
#[cfg(not(target_family = "wasm"))]
pub(crate) type RunSource<'a> = dyn View + 'a;
#[cfg(target_family = "wasm")]
pub(crate) type RunSource<'a> = crate::guest::Imports<'a>;

/// Where decisions go; see [`RunSource`].
#[cfg(not(target_family = "wasm"))]
pub(crate) type DecisionsSink<'a> = dyn Sink + 'a;
#[cfg(target_family = "wasm")]
pub(crate) type DecisionsSink<'a> = crate::guest::Imports<'a>;

/// Answers only "can I stop waiting, and did it work?".
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Phase {
    /// Not started.
    Waiting,
    /// Running, between attempts, or waiting for an answer.
    Active,
    /// Done.
    Succeeded,
    /// Ended without success.
    Unsuccessful,
}

impl Phase {
    /// Whether nothing more will happen to the item.
    #[must_use]
    pub const fn has_ended(self) -> bool {
        matches!(self, Self::Succeeded | Self::Unsuccessful)
    }
}

/// An item in a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ItemBrief {
    /// Position in the run.
    pub index: u32,
    /// Id.
    pub id: String,
    /// Coarse state.
    pub phase: Phase,
    /// Attempts so far.
    pub attempts: u32,
}

impl ItemBrief {
    /// Whether nothing more will happen to it.
    #[must_use]
    pub const fn has_ended(&self) -> bool {
        self.phase.has_ended()
    }

    /// Whether it is done.
    #[must_use]
    pub const fn succeeded(&self) -> bool {
        matches!(self.phase, Phase::Succeeded)
    }
}

/// The host said no.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// What was asked for, e.g. `spawn`.
    pub capability: String,
    /// On what, e.g. an item id.
    pub subject: String,
    /// Why not.
    pub reason: String,
}

impl fmt::Display for Refusal {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} {:?} was refused: {}", self.capability, self.subject, self.reason)
    }
}

impl std::error::Error for Refusal {}

/// The pattern cannot do its job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Kebab-case, an open vocabulary; `refused` and `bad-config` come from this crate.
    pub code: String,
    /// One or more sentences: the thing and the next step.
    pub message: String,
    /// Whether the same call could succeed later. A decision follows from the run alone, so hardly ever.
    pub retryable: bool,
    /// JSON for machines.
    pub detail: Option<String>,
}

impl fmt::Display for Fault {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}: {}", self.code, self.message)
    }
}

impl std::error::Error for Fault {}

impl From<Refusal> for Fault {
    fn from(refusal: Refusal) -> Self {
        fault("refused", refusal.to_string())
    }
}

/// A fault with a code and a sentence; not retryable.
#[must_use]
pub fn fault(code: &str, message: impl Into<String>) -> Fault {
    Fault { code: code.to_owned(), message: message.into(), retryable: false, detail: None }
}

/// The run at one point in time.
#[expect(missing_docs, reason = "one method per function of the contract, which says what they mean")]
pub trait View {
    fn run_id(&self) -> String;
    fn tick(&self) -> u64;
    fn now_ms(&self) -> u64;
    fn seed(&self) -> u64;
    fn params_json(&self) -> String;
    fn item_count(&self) -> u32;
    fn items(&self, offset: u32, limit: u32) -> Vec<ItemBrief>;
    fn changed(&self, offset: u32, limit: u32) -> Vec<ItemBrief>;
    fn count(&self, phase: Phase) -> u32;
    fn phases(&self, offset: u32, limit: u32) -> Vec<Phase>;
    fn ids(&self, offset: u32, limit: u32) -> Texts;
    fn attempts(&self, offset: u32, limit: u32) -> Vec<u32>;
    fn states(&self, offset: u32, limit: u32) -> Texts;
    fn executors(&self, offset: u32, limit: u32) -> Texts;
    fn depends_on(&self, offset: u32, limit: u32) -> IndexLists;
    fn verify_passed(&self, offset: u32, limit: u32) -> Vec<Option<bool>>;
    fn output_keys(&self, offset: u32, limit: u32) -> TextLists;
    fn inputs_json(&self, key: &str, offset: u32, limit: u32) -> TextLists;
    fn item_attrs(&self, key: &str, offset: u32, limit: u32) -> TextLists;
    fn find(&self, id: &str) -> Option<u32>;
    fn find_all(&self, ids: &Texts) -> Vec<Option<u32>>;
    fn item(&self, index: u32) -> Option<Box<dyn ItemAccess + '_>>;
    fn attr(&self, key: &str) -> Option<String>;
}

/// One item of a view.
#[expect(missing_docs, reason = "one method per function of the contract, which says what they mean")]
pub trait ItemAccess {
    fn id(&self) -> String;
    fn state(&self) -> String;
    fn executor(&self) -> String;
    fn depends_on(&self) -> Vec<u32>;
    fn verify_passed(&self) -> Option<bool>;
    fn output_keys(&self) -> Vec<String>;
    fn input_json(&self, key: &str) -> Option<String>;
    fn spec_json(&self) -> String;
    fn attr(&self, key: &str) -> Option<String>;
}

/// Where decisions go.
pub trait Sink {
    /// Adds an item.
    ///
    /// # Errors
    /// The host refuses what no run may have, e.g. an illegal id.
    fn spawn(&self, spec: &ItemSpec) -> Result<(), Refusal>;
    /// No more items will come.
    fn close(&self);
    /// Audit text.
    fn explain(&self, item: &str, why: &str);
    /// The outcome of the run is judged without these items, which ended without success.
    ///
    /// # Errors
    /// The host refuses ids that are not ids, an empty reason, and everything while planning.
    fn tolerate(&self, items: &[String], why: &str) -> Result<(), Refusal>;
    /// While planning: `item` waits for `after`.
    ///
    /// # Errors
    /// The host refuses ids that are not ids, and everything when a run has started.
    fn order_after(&self, item: &str, after: &str) -> Result<(), Refusal>;
    /// While planning: a red verify of `item` holds back what waits for it.
    ///
    /// # Errors
    /// Like [`order_after`](Self::order_after).
    fn hold_on_red(&self, item: &str) -> Result<(), Refusal>;
    /// While planning: the plan is wrong here.
    fn finding(&self, pointer: &str, message: &str, hint: Option<&str>);
    /// While planning: an item that may be added later.
    fn possible(&self, id: &str, after: &[String], why: &str);
}
