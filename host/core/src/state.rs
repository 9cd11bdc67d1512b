//! The state of one run: the fold of its ledger entries and nothing else.
//!
//! [`RunState::start`] takes the plan and the first entry, [`RunState::apply`] every further one. An entry that cannot
//! follow is refused as [`IllegalEntry`] and changes nothing. Times of different entries are never compared, because
//! the clock of the orchestrator may step back. Work per entry is proportional to what it changes.
//!
//! Not here: what to do next in a deployment (`scheduler`), hashes and the chain (`pangolin-audit`).

mod fold;
mod growth;
mod illegal;
mod item;
mod next;
mod view;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

pub use growth::{Extension, Growth};
pub use illegal::{IllegalEntry, Violation};
pub use item::{Attempt, AttemptEnded, AttemptResult, ItemState};
pub use next::SKIP_IDS_MAX;
pub use view::{Blocker, ItemView};

use crate::{
    entry::{RunOutcome, RunSubmitted},
    ids::{ItemId, RunId},
    plan::{Plan, PlanItem},
};

/// What changed, told to the scheduler while an entry is applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change {
    /// The item became ready for its first attempt.
    Ready(u32),
    /// A ready or retry-waiting item went away without being fired.
    Left(u32, Option<i64>),
    /// An attempt was fired; the time is the retry wait it came from.
    Fired(u32, Option<i64>),
    /// A running attempt ended; the time is when it was fired.
    Ended(u32, i64),
    /// The item waits until this time for its next attempt.
    RetryAt(u32, i64),
    /// The running attempt must be stopped.
    Cancelling(u32),
}

/// One item as the fold sees it. Other items are named by their position, which is plan order.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Node {
    state: ItemState,
    /// Dependencies that are not done.
    unmet: u32,
    /// Dependents that are still pending; of a held one only those that it holds.
    waiting_dependents: u32,
    /// Not 0 for an item that is done with a red verify and holds on red: it holds the dependents before this position,
    /// which were there when it ended. Later ones know the verdict.
    holds_before: u32,
    deps: Box<[u32]>,
    dependents: Vec<u32>,
    locks: Box<[u32]>,
    attempts: Vec<Attempt>,
}

impl Node {
    /// Whether this dependent can never start because of this item.
    fn dooms(&self, dependent: u32) -> bool {
        self.state.is_dead() || dependent < self.holds_before
    }

    /// Self-verify of the last attempt ran and did not pass.
    fn is_red(&self) -> bool {
        let end = self.attempts.last().and_then(|attempt| attempt.end.as_ref());
        end.and_then(|end| end.evidence.verify.as_ref()).is_some_and(|verify| !verify.passed)
    }
}

/// Lock keys of one run, numbered, with the item that holds each.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct RunLocks {
    names: Vec<String>,
    index: HashMap<String, u32>,
    holder: Vec<Option<u32>>,
}

impl RunLocks {
    fn number(&mut self, key: &str) -> u32 {
        if let Some(number) = self.index.get(key) {
            return *number;
        }
        let number = position(self.names.len());
        self.names.push(key.to_owned());
        self.index.insert(key.to_owned(), number);
        self.holder.push(None);
        number
    }
}

/// The fold of a run's entries.
#[derive(Debug, Clone, PartialEq)]
pub struct RunState {
    plan: Arc<Plan>,
    added: Vec<PlanItem>,
    submitted: Box<RunSubmitted>,
    actor: String,
    submitted_at: i64,
    next_seq: u64,
    last_at: i64,
    nodes: Vec<Node>,
    index: HashMap<ItemId, u32>,
    locks: RunLocks,
    /// Items that are not terminal.
    open: u64,
    /// Items in [`ItemState::Running`].
    running: u32,
    /// Dead and red held items with dependents that are still pending because of them.
    doomed: BTreeSet<u32>,
    extensions: Vec<Extension>,
    /// Ended item → the one that took its place.
    successors: BTreeMap<u32, u32>,
    /// Item that ended without success and does not fail the run → why.
    tolerated: BTreeMap<u32, String>,
    growth: Option<Box<Growth>>,
    cancelled: bool,
    closed: bool,
    completed: Option<RunOutcome>,
}

/// Positions are u32: a run never has four billion items ([`crate::validate`] refuses far fewer).
fn position(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}

impl RunState {
    /// The run.
    #[must_use]
    pub fn id(&self) -> &RunId {
        &self.plan.id
    }

    /// The plan as admitted. Items added later are not in it; see [`RunState::items`].
    #[must_use]
    pub fn plan(&self) -> &Arc<Plan> {
        &self.plan
    }

    /// What was fixed at admission.
    #[must_use]
    pub fn submitted(&self) -> &RunSubmitted {
        &self.submitted
    }

    /// Who submitted the run.
    #[must_use]
    pub fn actor(&self) -> &str {
        &self.actor
    }

    /// When the run was admitted (ms).
    #[must_use]
    pub fn submitted_at(&self) -> i64 {
        self.submitted_at
    }

    /// `at` of the last entry (ms).
    #[must_use]
    pub fn last_at(&self) -> i64 {
        self.last_at
    }

    /// Position that the next entry must have; equals the number of entries applied.
    #[must_use]
    pub fn next_seq(&self) -> u64 {
        self.next_seq
    }

    /// Somebody cancelled the run.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.cancelled
    }

    /// The run takes more items from its producer: open-ended, not closed, not cancelled, not completed.
    #[must_use]
    pub fn is_open_ended(&self) -> bool {
        self.submitted.open_ended && !self.closed && !self.cancelled && self.completed.is_none()
    }

    /// The outcome; `None` until `run.completed`.
    #[must_use]
    pub fn outcome(&self) -> Option<RunOutcome> {
        self.completed
    }

    /// Items that are not final.
    #[must_use]
    pub fn open_items(&self) -> u64 {
        self.open
    }

    /// Number of items, added ones included.
    #[must_use]
    pub fn item_count(&self) -> usize {
        self.nodes.len()
    }

    fn plan_item(&self, index: u32) -> &PlanItem {
        let index = index as usize;
        let planned = self.plan.items.len();
        if index < planned { &self.plan.items[index] } else { &self.added[index - planned] }
    }

    fn node(&self, index: u32) -> &Node {
        &self.nodes[index as usize]
    }

    // What the scheduler needs, by position.

    pub(crate) fn position_of(&self, item: &ItemId) -> Option<u32> {
        self.index.get(item).copied()
    }

    pub(crate) fn positions(&self) -> std::ops::Range<u32> {
        0..position(self.nodes.len())
    }

    pub(crate) fn item_at(&self, index: u32) -> &PlanItem {
        self.plan_item(index)
    }

    pub(crate) fn state_at(&self, index: u32) -> &ItemState {
        &self.node(index).state
    }

    pub(crate) fn attempts_made(&self, index: u32) -> u32 {
        self.node(index).attempts.last().map_or(0, |attempt| attempt.number)
    }

    pub(crate) fn locks_at(&self, index: u32) -> &[u32] {
        &self.node(index).locks
    }

    pub(crate) fn lock_names(&self) -> &[String] {
        &self.locks.names
    }

    pub(crate) fn view_at(&self, index: u32) -> ItemView<'_> {
        self.view(index)
    }

    pub(crate) fn deps_at(&self, index: u32) -> &[u32] {
        &self.node(index).deps
    }

    pub(crate) fn dependents_at(&self, index: u32) -> &[u32] {
        &self.node(index).dependents
    }

    pub(crate) fn timeout_at(&self, index: u32) -> i64 {
        crate::retry::timeout_ms(&self.submitted.retry, self.plan_item(index))
    }

    pub(crate) fn needs_step(&self) -> bool {
        self.completed.is_none() && (!self.doomed.is_empty() || self.can_complete(0))
    }
}
