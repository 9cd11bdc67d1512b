//! A host in memory, for tests of patterns without WebAssembly.
//!
//! [`MockRun`] keeps a run and does natively what the engine does around a pattern: readiness, the skip cascade, holds,
//! supersession, the checks of added items. [`MockRun::drive`] ends items as a script says and asks the pattern after
//! each end until nothing is left. What a run may not have (a duplicate id, an unknown dependency, a cycle, an edge
//! into the past) panics with its name: it is a defect of the pattern.

mod conformance;
mod engine;
mod view;

use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, BTreeSet},
};

use serde_json::{Map, Value};

pub use conformance::{Conformance, check};
pub use engine::{Outcome, RunEnd};

use crate::{
    Decisions, Fault, Finding, ItemSpec, Pattern, Run,
    host::{Phase, Refusal, Sink},
    id_problem,
};

/// Exact state of an item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Pending,
    Ready,
    Running,
    Done,
    Failed,
    Skipped,
    Cancelled,
    Denied,
}

impl State {
    const fn name(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Ready => "ready",
            Self::Running => "running",
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Skipped => "skipped",
            Self::Cancelled => "cancelled",
            Self::Denied => "denied",
        }
    }

    const fn phase(self) -> Phase {
        match self {
            Self::Pending | Self::Ready => Phase::Waiting,
            Self::Running => Phase::Active,
            Self::Done => Phase::Succeeded,
            Self::Failed | Self::Skipped | Self::Cancelled | Self::Denied => Phase::Unsuccessful,
        }
    }

    fn attempts(self) -> u32 {
        u32::from(!matches!(self, Self::Pending | Self::Ready | Self::Skipped))
    }
}

#[derive(Debug, Clone)]
struct MockItem {
    id: String,
    /// As in a plan, with every edge in `depends_on`.
    spec: Map<String, Value>,
    depends_on: Vec<u32>,
    dependents: Vec<u32>,
    state: State,
    verify: Option<bool>,
    outputs: Vec<String>,
    attrs: BTreeMap<String, String>,
}

/// A run in memory.
#[derive(Debug, Clone)]
pub struct MockRun {
    id: String,
    params: String,
    seed: u64,
    open_ended: bool,
    tick: u64,
    items: Vec<MockItem>,
    index: BTreeMap<String, u32>,
    counts: [u32; 4],
    changed: BTreeSet<u32>,
    /// Those that may end.
    startable: BTreeSet<u32>,
    closed: bool,
    history: Vec<Record>,
}

/// What a pattern decided in one call.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Record {
    /// Added items as in a plan, with what they supersede.
    pub spawned: Vec<(Map<String, Value>, Option<String>)>,
    /// Item and why.
    pub explanations: Vec<(String, String)>,
    /// Items without which the run is judged, and why.
    pub tolerated: Vec<(Vec<String>, String)>,
    /// No more items will come.
    pub close: bool,
    /// Planning: item and what it waits for.
    pub ordered: Vec<(String, String)>,
    /// Planning: held items.
    pub held: Vec<String>,
    /// Planning: what is wrong.
    pub findings: Vec<Finding>,
    /// Planning: id, after, why.
    pub possible: Vec<(String, Vec<String>, String)>,
}

impl Record {
    /// Ids of the added items in order.
    #[must_use]
    pub fn spawned_ids(&self) -> Vec<&str> {
        self.spawned.iter().filter_map(|(item, _)| item["id"].as_str()).collect()
    }

    /// Pieces and bytes as the host's output limit counts them.
    #[must_use]
    pub fn size(&self) -> (usize, usize) {
        let pieces = self.spawned.len() + self.explanations.len() + self.ordered.len() + self.held.len();
        let pieces = pieces + self.findings.len() + self.possible.len() + self.tolerated.len();
        let spawned =
            self.spawned.iter().map(|(item, _)| serde_json::to_string(item).map_or(0, |text| text.len()));
        let explained = self.explanations.iter().map(|(item, why)| item.len() + why.len());
        let tolerated = self
            .tolerated
            .iter()
            .map(|(items, why)| why.len() + items.iter().map(String::len).sum::<usize>());
        (pieces, spawned.chain(explained).chain(tolerated).sum())
    }
}

/// Result of one call.
#[derive(Debug, Clone, PartialEq)]
pub struct Call {
    /// What it decided, or its fault.
    pub result: Result<Record, Fault>,
    /// Calls of the host.
    pub host_calls: u64,
    /// Calls among them that may be refused.
    pub refusable: u64,
}

/// How the mock serves one call.
#[derive(Debug, Clone, Copy, Default)]
pub struct Serving {
    /// Items per page at most; 0 is the host's own 1,024.
    pub page: u32,
    /// Refuses the nth refusable call, from 1; 0 refuses nothing.
    pub refuse: u64,
    /// Replaces every state but `done` and `cancelled` by one nobody knows, and adds facts nobody knows.
    pub strange: bool,
    /// Replaces the seed.
    pub seed: Option<u64>,
}

#[derive(Default)]
struct Recorder {
    record: RefCell<Record>,
    planning: bool,
    refuse: u64,
    refusable: Cell<u64>,
    calls: Cell<u64>,
}

impl Recorder {
    fn gate(&self, capability: &str, subject: &str) -> Result<(), Refusal> {
        self.calls.set(self.calls.get() + 1);
        self.refusable.set(self.refusable.get() + 1);
        let no = |reason: &str| {
            Err(Refusal { capability: capability.into(), subject: subject.into(), reason: reason.into() })
        };
        if self.refusable.get() == self.refuse {
            return no("the test says no");
        }
        if capability == "amend" && !self.planning {
            return no("only while planning");
        }
        if capability == "tolerate" && self.planning {
            return no("nothing has ended while a plan is made");
        }
        id_problem(subject).map_or(Ok(()), |problem| no(&problem))
    }

    fn note(&self, planning_only: bool, note: impl FnOnce(&mut Record)) {
        self.calls.set(self.calls.get() + 1);
        if self.planning || !planning_only {
            note(&mut self.record.borrow_mut());
        }
    }
}

impl Sink for Recorder {
    fn spawn(&self, spec: &ItemSpec) -> Result<(), Refusal> {
        // As many calls as the contract has for it.
        let parts = spec.inputs.len()
            + spec.depends_on.len()
            + spec.needs.len()
            + spec.locks.len()
            + spec.attrs.len();
        self.calls.set(self.calls.get() + 1 + parts as u64);
        self.gate("spawn", spec.id())?;
        let item = spec.to_plan_item();
        self.record.borrow_mut().spawned.push((item, spec.supersedes.clone()));
        Ok(())
    }

    fn close(&self) {
        self.note(false, |record| record.close = true);
    }

    fn explain(&self, item: &str, why: &str) {
        self.note(false, |record| record.explanations.push((item.into(), why.into())));
    }

    fn tolerate(&self, items: &[String], why: &str) -> Result<(), Refusal> {
        let first = items.first().map_or("none", String::as_str);
        self.gate("tolerate", first)?;
        let no = |subject: &str, reason: String| {
            Err(Refusal { capability: "tolerate".into(), subject: subject.into(), reason })
        };
        if why.trim().is_empty() {
            return no(first, "it needs a reason".to_owned());
        }
        for item in items {
            if let Some(problem) = id_problem(item) {
                return no(item, problem);
            }
        }
        if !items.is_empty() {
            self.record.borrow_mut().tolerated.push((items.to_vec(), why.into()));
        }
        Ok(())
    }

    fn order_after(&self, item: &str, after: &str) -> Result<(), Refusal> {
        self.gate("amend", item)?;
        self.record.borrow_mut().ordered.push((item.into(), after.into()));
        Ok(())
    }

    fn hold_on_red(&self, item: &str) -> Result<(), Refusal> {
        self.gate("amend", item)?;
        self.record.borrow_mut().held.push(item.into());
        Ok(())
    }

    fn finding(&self, pointer: &str, message: &str, hint: Option<&str>) {
        let finding =
            Finding { pointer: pointer.into(), message: message.into(), hint: hint.map(Into::into) };
        self.note(true, |record| record.findings.push(finding));
    }

    fn possible(&self, id: &str, after: &[String], why: &str) {
        self.note(true, |record| record.possible.push((id.into(), after.to_vec(), why.into())));
    }
}

impl MockRun {
    /// Asks the planner without changing anything.
    pub fn ask_plan<P: Pattern>(&self, serving: Serving) -> Call {
        self.ask(P::plan, true, serving)
    }

    /// Asks for a step without changing anything.
    pub fn ask_step<P: Pattern>(&self, serving: Serving) -> Call {
        self.ask(P::step, false, serving)
    }

    /// The run as a pattern would be shown it now, e.g. to show it to another host.
    #[must_use]
    pub fn view(&self) -> impl crate::host::View + '_ {
        view::Served::new(self, Serving::default())
    }

    fn ask(
        &self,
        entry: fn(&Run<'_>, &Decisions<'_>) -> Result<(), Fault>,
        planning: bool,
        serving: Serving,
    ) -> Call {
        let served = view::Served::new(self, serving);
        let recorder = Recorder { planning, refuse: serving.refuse, ..Recorder::default() };
        let result = entry(&Run::new(&served), &Decisions::new(&recorder));
        let (host_calls, refusable) = (served.calls() + recorder.calls.get(), recorder.refusable.get());
        Call { result: result.map(|()| recorder.record.into_inner()), host_calls, refusable }
    }
}

/// One-line conformance: makes a test that checks what every pattern must keep on plans with and without growth.
///
/// `conformance!(MyPattern)` uses plans that any pattern must survive; `conformance!(MyPattern, [plan, …])` takes plans
/// (JSON values with `items`) in which the pattern has something to do.
#[macro_export]
macro_rules! conformance {
    ($pattern:ty) => {
        $crate::conformance!($pattern, []);
    };
    ($pattern:ty, [$($plan:expr),* $(,)?]) => {
        #[test]
        fn conforms_to_the_contract_of_patterns() {
            let plans: Vec<$crate::mock::MockRun> = vec![$($crate::mock::MockRun::of_plan(&$plan)),*];
            $crate::mock::check::<$pattern>(&plans);
        }
    };
}
