//! What a pattern sees of a run and what it may decide: plain values, shared by the driver, the plugin host, replay and
//! the mock host of the conformance suite.
//!
//! The contract itself is `wit/pangolin-pattern@1.1.0`. Digests of these values live in `pangolin-audit`; running a
//! component lives in `pangolin-plugin-host`.

mod additions;
mod amend;
mod spawn;
mod tolerances;
mod tracker;

use std::{
    borrow::Cow,
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use serde::{Deserialize, Serialize};

pub use additions::{Addition, Unfit, additions, cause, normalised, produced};
pub use amend::{AmendError, apply_plan_decisions};
pub use spawn::{SpawnItem, SpawnNeed, SpawnNeeds};
pub use tolerances::{Tolerance, tolerances};
pub use tracker::Tracker;

use crate::{
    ids::{Digest, ItemId},
    plan::PlanItem,
};

/// Coarse state of an item: can one stop waiting, and did it work?
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ItemPhase {
    /// Not started.
    Waiting,
    /// Running, between attempts, or waiting for an answer.
    Active,
    /// Done.
    Succeeded,
    /// Ended without success.
    Unsuccessful,
}

impl ItemPhase {
    const fn number(self) -> usize {
        match self {
            Self::Waiting => 0,
            Self::Active => 1,
            Self::Succeeded => 2,
            Self::Unsuccessful => 3,
        }
    }
}

fn index(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}

/// One item as a pattern sees it.
#[derive(Debug, Clone, PartialEq)]
pub struct RunItem {
    /// As planned or as added.
    pub spec: Arc<PlanItem>,
    /// Coarse state.
    pub phase: ItemPhase,
    /// Exact state as text; open vocabulary, see the contract.
    pub state: Cow<'static, str>,
    /// Attempts so far.
    pub attempts: u32,
    /// Indexes of the items it depends on, ascending.
    pub depends_on: Vec<u32>,
    /// Result of self-verify, when it ran.
    pub verify_passed: Option<bool>,
    /// Output paths, ascending.
    pub output_keys: Arc<Vec<String>>,
    /// Further facts, see the contract.
    pub attrs: BTreeMap<String, String>,
}

impl RunItem {
    /// An item of which nothing has happened yet.
    #[must_use]
    pub fn waiting(spec: Arc<PlanItem>, depends_on: Vec<u32>) -> Self {
        Self {
            spec,
            phase: ItemPhase::Waiting,
            state: Cow::Borrowed("pending"),
            attempts: 0,
            depends_on,
            verify_passed: None,
            output_keys: Arc::default(),
            attrs: BTreeMap::new(),
        }
    }

    /// Its id.
    #[must_use]
    pub fn id(&self) -> &ItemId {
        &self.spec.id
    }
}

/// A run as a pattern sees it at one step. Kept between steps and brought up to date with what changed, so that a step
/// costs what changed and not the size of the run.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RunView {
    /// Run id.
    pub run_id: String,
    /// Number of the step; 0 is the one at admission.
    pub tick: u64,
    /// Milliseconds since the epoch, recorded with the step.
    pub now_ms: u64,
    /// Pinned per run, below 2^53: also what seeds the guest's hash maps.
    pub seed: u64,
    /// Parameters of the pattern (`queues.<q>.params`) as JSON text.
    pub params_json: String,
    /// Indexes of items that changed since the previous step, ascending.
    pub changed: Vec<u32>,
    /// Further facts, see the contract.
    pub attrs: BTreeMap<String, String>,
    items: Vec<RunItem>,
    index: HashMap<ItemId, u32>,
    counts: [u32; 4],
}

impl RunView {
    /// All items in index order.
    #[must_use]
    pub fn items(&self) -> &[RunItem] {
        &self.items
    }

    /// Position of an item.
    #[must_use]
    pub fn find(&self, id: &str) -> Option<u32> {
        self.index.get(id).copied()
    }

    /// How many items are in this phase.
    #[must_use]
    pub fn count(&self, phase: ItemPhase) -> u32 {
        self.counts[phase.number()]
    }

    /// Appends an item and answers its index. An item whose id is there already takes that place.
    pub fn push(&mut self, item: RunItem) -> u32 {
        if let Some(index) = self.index.get(item.id()) {
            let index = *index;
            self.set(index, item);
            return index;
        }
        let index = index(self.items.len());
        self.index.insert(item.id().clone(), index);
        self.counts[item.phase.number()] += 1;
        self.items.push(item);
        index
    }

    /// Replaces the item at `index`, which must be there and have the same id.
    pub fn set(&mut self, index: u32, item: RunItem) {
        if let Some(slot) = self.items.get_mut(index as usize) {
            self.counts[slot.phase.number()] -= 1;
            self.counts[item.phase.number()] += 1;
            *slot = item;
        }
    }
}

/// One item a pattern wants added.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SpawnSpec {
    /// Id, new in the run.
    pub id: ItemId,
    /// The item exactly as in a plan, id included.
    pub item: SpawnItem,
    /// The ended item whose place it takes.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub supersedes: Option<ItemId>,
}

/// Why an item was added, in the pattern's words.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Explanation {
    /// Item id.
    pub item: String,
    /// At most 4 KiB.
    pub why: String,
}

/// Items that ended without success and do not fail the run, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tolerated {
    /// The items.
    pub items: Vec<ItemId>,
    /// At most 4 KiB.
    pub why: String,
}

/// An item of the submitted plan that is made to wait for another one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ordering {
    /// The one that waits.
    pub item: ItemId,
    /// The one that it waits for.
    pub after: ItemId,
}

/// What is wrong with a plan, in the planner's words.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlanFinding {
    /// JSON pointer (RFC 6901) into the plan.
    pub pointer: String,
    /// One sentence.
    pub message: String,
    /// What to do.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub hint: Option<String>,
}

/// An item that may be added later, for drawings.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Possible {
    /// Its id, or a pattern of ids such as `map-*`.
    pub id: String,
    /// What it would wait for: ids of items or of other possible ones.
    pub after: Vec<String>,
    /// When it would be added.
    pub why: String,
}

/// What a pattern decided in one step. Its canonical JSON is what is sealed; empty members are left out.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Decisions {
    /// Items to add, in order.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub spawned: Vec<SpawnSpec>,
    /// Why, in order.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub explanations: Vec<Explanation>,
    /// Items without which the outcome of the run is judged, in order.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub tolerated: Vec<Tolerated>,
    /// The pattern is done with this run and is not asked again.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub close: bool,
    /// Planning only: added order.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub ordered: Vec<Ordering>,
    /// Planning only: items whose red verify holds back what waits for them.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub held: Vec<ItemId>,
    /// Planning only: any finding rejects the plan, so a stored decision has none.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub findings: Vec<PlanFinding>,
    /// Planning only: for drawings, never stored.
    #[serde(skip)]
    pub possible: Vec<Possible>,
}

/// What every answer of a pattern was based on and what it cost; sealed as `pattern.decided`, so that anybody can
/// execute the step again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DecisionRecord {
    /// Number of the step; 0 is the one at admission.
    pub step: u64,
    /// The component that was asked.
    pub component: Digest,
    /// Contract the host served, e.g. `pangolin:pattern@1.1.0`.
    pub contract: String,
    /// Engine, e.g. `wasmtime 48.0.8`.
    pub engine: String,
    /// Engine profile with its version, e.g. `pure/1`.
    pub profile: String,
    /// Digest of the view, see `pangolin-audit`: chained over the steps of the run.
    pub view: Digest,
    /// Entries of the run that the view is the fold of: 0 at admission, else the view was taken after entry `seen - 1`.
    /// Entries between that one and the record were written while the pattern was thinking and belong to the next step.
    pub seen: u64,
    /// Seed of the run, below 2^53.
    pub seed: u64,
    /// What the pattern was told as the time (ms).
    pub now: i64,
    /// Fingerprint of the effective grant, when the plugin has one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub grant: Option<Digest>,
    /// Limits in force. Absent in records of programs that did not know them, and when no component was called.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub limits: Option<StepLimits>,
    /// Fuel used. A note: a different figure in a replay is no difference of the decision.
    pub fuel: u64,
    /// Largest linear memory in bytes. A note, like fuel.
    pub peak_memory: u64,
    /// Digest of the canonical JSON of the [`Decisions`]; a blob of these bytes exists.
    pub decisions: Digest,
    /// The pattern is not asked again for this run.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub closes: bool,
    /// The step failed; its decisions are empty.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub failure: Option<PatternFailure>,
}

/// The limits that a step ran under: the profile's, as far as manifest and operator did not lower them. With them a
/// failure can be made to happen again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepLimits {
    /// Fuel of the call: what it may use over this view.
    pub fuel: u64,
    /// Linear memory in bytes.
    pub memory: u64,
    /// Wall time of the call in milliseconds. Whether it suffices depends on the machine.
    pub wall_ms: u64,
    /// Bytes of the decisions.
    pub output_bytes: u64,
    /// Pieces of the decisions.
    pub output_pieces: u64,
    /// Items that a run of the deployment may have.
    pub items: u64,
}

/// Why a step failed, and what the binding of the queue makes of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PatternFailure {
    /// Code of the plugin host's closed vocabulary. `refused` and `output-limit` also mean that the engine did not take
    /// what was decided ([`Unfit`]): executed again, such a step need not fail.
    pub code: String,
    /// One sentence, at most 2,000 bytes.
    pub message: String,
    /// The policy that applied.
    pub policy: FailurePolicy,
}

/// What a failure of a plugin means for what it is bound to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FailurePolicy {
    /// A failed pattern fails the run: nothing is added any more, what is in the graph goes on, the outcome is failed.
    Closed,
    /// The run goes on without the plugin.
    Open,
    /// The plugin that ships under the configured id takes over, from this step on (the next record names it).
    Builtin,
}
