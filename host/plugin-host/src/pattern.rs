//! Patterns: pure decisions about which items a run gets next.

use std::{collections::BTreeMap, sync::Arc};

use pangolin_core::{
    ids::{Digest, ItemId},
    plan::Need,
};
use serde_json::Value;
use wasmtime::component::{HasSelf, Resource};

use crate::{
    adapter::from_guest,
    bindings::{
        pattern::{Pattern, PatternPre, pangolin::base::types::Fault},
        planner::PatternPlannerPre,
    },
    cache::LoadedFrom,
    call::{Bill, Call},
    engine::{Loaded, PluginHost, Profile},
    failure::PluginError,
    graph::{DecisionsDraft, ViewHandle},
    limits::Limits,
    state::CallState,
};

/// Interfaces of the world, without version.
const CONTRACT: [&str; 3] = ["pangolin:base/types", "pangolin:base/log", "pangolin:pattern/graph"];

/// Coarse state of an item: can one stop waiting, and did it work?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ItemPhase {
    /// Not started.
    Waiting,
    /// Running, or between attempts.
    Active,
    /// Done.
    Succeeded,
    /// Ended without success.
    Unsuccessful,
}

/// One item as a pattern sees it.
#[derive(Debug, Clone, PartialEq)]
pub struct RunItem {
    /// Id.
    pub id: ItemId,
    /// Coarse state.
    pub phase: ItemPhase,
    /// Exact state as text; open vocabulary.
    pub state: String,
    /// Attempts so far.
    pub attempts: u32,
    /// Executor.
    pub executor: String,
    /// Indexes of the items it depends on.
    pub depends_on: Vec<u32>,
    /// Result of self-verify, when it ran.
    pub verify_passed: Option<bool>,
    /// Output paths.
    pub output_keys: Vec<String>,
    /// Executor inputs.
    pub inputs: BTreeMap<String, Value>,
    /// Further facts.
    pub attrs: BTreeMap<String, String>,
}

/// A run as a pattern sees it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RunView {
    /// Run id.
    pub run_id: String,
    /// Number of the step.
    pub tick: u64,
    /// Milliseconds since the epoch, recorded with the step.
    pub now_ms: u64,
    /// Pinned per run: also what seeds the guest's hash maps.
    pub seed: u64,
    /// Parameters of the pattern as JSON text.
    pub params_json: String,
    /// All items in index order.
    pub items: Vec<RunItem>,
    /// Indexes of items that changed since the previous step, ascending.
    pub changed: Vec<u32>,
    /// Further facts.
    pub attrs: BTreeMap<String, String>,
}

/// One item a pattern wants added.
#[derive(Debug, Clone, PartialEq)]
pub struct SpawnSpec {
    /// Id, new in the run.
    pub id: ItemId,
    /// Executor.
    pub executor: String,
    /// Executor inputs.
    pub inputs: BTreeMap<String, Value>,
    /// Items to wait for.
    pub depends_on: Vec<ItemId>,
    /// Products to hand over.
    pub needs: BTreeMap<String, Need>,
    /// Exclusive locks.
    pub locks: Vec<String>,
    /// Further optional fields by name.
    pub attrs: BTreeMap<String, String>,
}

/// What a pattern decided.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Decisions {
    /// Items to add, in order.
    pub spawned: Vec<SpawnSpec>,
    /// Item id and why, in order.
    pub explanations: Vec<(String, String)>,
    /// No more items will come.
    pub close: bool,
}

/// Result of one step.
#[derive(Debug, Clone, PartialEq)]
pub struct StepOutcome {
    /// What it decided.
    pub decisions: Decisions,
    /// What it cost.
    pub bill: Bill,
}

/// A loaded pattern. Cheap to clone.
#[derive(Clone)]
pub struct PatternComponent {
    host: PluginHost,
    pre: PatternPre<CallState>,
    planner: Option<PatternPlannerPre<CallState>>,
    limits: Limits,
    digest: Digest,
    from: LoadedFrom,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Entry {
    Plan,
    Step,
}

impl PatternComponent {
    pub(crate) fn load(host: &PluginHost, bytes: &[u8], limits: Limits) -> Result<Self, PluginError> {
        let mut loaded = host.load(Profile::Pure, bytes, &CONTRACT)?;
        let (pre, planner) = link(&mut loaded).map_err(|error| loaded.mismatch(&error))?;
        Ok(Self { host: host.clone(), pre, planner, limits, digest: loaded.digest, from: loaded.from })
    }

    /// Digest of the component.
    #[must_use]
    pub const fn digest(&self) -> Digest {
        self.digest
    }

    /// Whether it was compiled now.
    #[must_use]
    pub const fn loaded_from(&self) -> LoadedFrom {
        self.from
    }

    /// Whether it wants to be asked when a run is submitted.
    #[must_use]
    pub const fn has_planner(&self) -> bool {
        self.planner.is_some()
    }

    /// Asks for the first items of a run. `None` when the pattern has no planner.
    ///
    /// # Errors
    /// Every way a plugin can fail, see [`crate::Failure`].
    pub async fn plan(&self, view: &Arc<RunView>) -> Result<Option<StepOutcome>, PluginError> {
        if self.planner.is_none() {
            return Ok(None);
        }
        self.run(view, Entry::Plan).await.map(Some)
    }

    /// Asks what follows from what changed.
    ///
    /// # Errors
    /// Every way a plugin can fail, see [`crate::Failure`].
    pub async fn step(&self, view: &Arc<RunView>) -> Result<StepOutcome, PluginError> {
        self.run(view, Entry::Step).await
    }

    async fn run(&self, view: &Arc<RunView>, entry: Entry) -> Result<StepOutcome, PluginError> {
        let mut call =
            Call::new(self.pre.engine(), self.digest, &self.limits, view.seed, Some(view.items.len()))?;
        let handle = ViewHandle::new(Arc::clone(view));
        let draft = DecisionsDraft::new(&self.limits);
        let planner = self.planner.as_ref().filter(|_| entry == Entry::Plan);
        let pre = &self.pre;
        let (answer, draft) = call
            .run(&self.host, async |store| {
                let source = store.data_mut().table.push(handle)?;
                let out = store.data_mut().table.push(draft)?;
                let (source, sink) = (Resource::new_borrow(source.rep()), Resource::new_borrow(out.rep()));
                let answer: Result<(), Fault> = match planner {
                    Some(planner) => {
                        let instance = planner.instantiate_async(&mut *store).await?;
                        instance.pangolin_pattern_planner().call_plan(&mut *store, source, sink).await?
                    }
                    None => {
                        let instance = pre.instantiate_async(&mut *store).await?;
                        instance.pangolin_pattern_decide().call_step(&mut *store, source, sink).await?
                    }
                };
                Ok((answer, store.data_mut().table.delete(out)?))
            })
            .await?;
        answer.map_err(|fault| call.fail(from_guest(fault)))?;
        Ok(StepOutcome { decisions: draft.finish(), bill: call.bill() })
    }
}

type Linked = (PatternPre<CallState>, Option<PatternPlannerPre<CallState>>);

fn link(loaded: &mut Loaded) -> wasmtime::Result<Linked> {
    Pattern::add_to_linker::<CallState, HasSelf<CallState>>(&mut loaded.linker, |state| state)?;
    let pre = loaded.linker.instantiate_pre(&loaded.component)?;
    // The planner is optional: its absence is no error.
    let planner = PatternPlannerPre::new(pre.clone()).ok();
    Ok((PatternPre::new(pre)?, planner))
}
