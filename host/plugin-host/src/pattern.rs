//! Patterns: pure decisions about which items a run gets next.

use std::sync::Arc;

use pangolin_core::{
    ids::Digest,
    pattern::{Decisions, RunView},
};
use wasmtime::component::{HasSelf, Resource};

use crate::{
    adapter::from_guest,
    bindings::{
        pattern::{Pattern, PatternPre, pangolin::base::types::Fault},
        planner::PatternPlannerPre,
    },
    bulk,
    cache::LoadedFrom,
    call::{Bill, Call, CallRecord},
    code_memory::CodeMemory,
    engine::{Loaded, PluginHost, Profile},
    failure::PluginError,
    graph::{DecisionsDraft, ViewHandle},
    limits::Limits,
    state::{CallState, LogLine},
};

/// The newest version of the contract; every older one of its major works too.
pub const PATTERN_CONTRACT: &str = "pangolin:pattern@1.1.0";

/// Interfaces of the world, without version.
const CONTRACT: [&str; 3] = ["pangolin:base/types", "pangolin:base/log", "pangolin:pattern/graph"];

/// Result of one step.
#[derive(Debug, Clone, PartialEq)]
pub struct StepOutcome {
    /// What it decided.
    pub decisions: Decisions,
    /// What it cost.
    pub bill: Bill,
    /// What it said, within its caps.
    pub log: Vec<LogLine>,
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
    /// What the instances run. Behind the fields that refer to it.
    _code: Option<Arc<CodeMemory>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Entry {
    Plan,
    Step,
}

impl PatternComponent {
    pub(crate) fn load(
        host: &PluginHost,
        digest: Digest,
        bytes: &[u8],
        limits: Limits,
    ) -> Result<Self, PluginError> {
        let loaded = host.load(Profile::Pure, digest, bytes, &CONTRACT)?;
        let (pre, planner) = link(host, &loaded).map_err(|error| loaded.mismatch(&CONTRACT, &error))?;
        Ok(Self { host: host.clone(), pre, planner, limits, digest, from: loaded.from, _code: loaded.memory })
    }

    /// The same component under other limits. Cheap: nothing is compiled or loaded again.
    #[must_use]
    pub fn with_limits(&self, limits: Limits) -> Self {
        Self { limits, ..self.clone() }
    }

    /// Its limits.
    #[must_use]
    pub const fn limits(&self) -> &Limits {
        &self.limits
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

    /// Makes an instance and calls nothing: whether its start code ends, and what that costs.
    ///
    /// # Errors
    /// Every way a plugin can fail, see [`crate::Failure`].
    pub async fn instantiate(&self) -> Result<CallRecord, PluginError> {
        let mut call = Call::new(self.pre.engine(), self.digest, &self.limits, 0, Some(0))?;
        let pre = &self.pre;
        call.run(&self.host, async |store| pre.instantiate_async(store).await.map(|_| ())).await?;
        Ok(call.record())
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
            Call::new(self.pre.engine(), self.digest, &self.limits, view.seed, Some(view.items().len()))?;
        let handle = ViewHandle::new(Arc::clone(view));
        let draft = DecisionsDraft::new(&self.limits, entry == Entry::Plan);
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
        let CallRecord { bill, log } = call.record();
        Ok(StepOutcome { decisions: draft.finish(), bill, log })
    }
}

type Linked = (PatternPre<CallState>, Option<PatternPlannerPre<CallState>>);

fn link(host: &PluginHost, loaded: &Loaded) -> wasmtime::Result<Linked> {
    let linker = host.linker(Profile::Pure, &host.shared.linkers.pattern, |linker| {
        Pattern::add_to_linker::<CallState, HasSelf<CallState>>(linker, |state| state)?;
        bulk::link(linker)
    })?;
    let pre = linker.instantiate_pre(&loaded.component)?;
    // The planner is optional: its absence is no error.
    let planner = PatternPlannerPre::new(pre.clone()).ok();
    Ok((PatternPre::new(pre)?, planner))
}
