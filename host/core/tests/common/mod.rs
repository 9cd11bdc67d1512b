//! A small deployment in memory: makes entries, applies them, and plays the workers.
#![expect(dead_code, reason = "every test program uses its own part")]

use std::collections::BTreeMap;

use pangolin_core::{
    entry::{
        Entry, EntryBody, Evidence, Failure, FailureClass, FailureReason, FinalStatus, RetryPolicy,
        RunOutcome, RunSubmitted,
    },
    ids::{Digest, DispatchId, ItemId, QueueName, RunId},
    plan::{Plan, PlanItem},
    scheduler::{AttemptEnd, AttemptStatus, Fire, QueuePolicy, Scheduler, Step},
    state::{IllegalEntry, RunState},
};

pub(crate) fn item(id: &str) -> PlanItem {
    PlanItem {
        id: ItemId::new(id).expect("item id"),
        executor: "dispatch".to_owned(),
        inputs: serde_json::Map::new(),
        depends_on: Vec::new(),
        resource_locks: Vec::new(),
        subagent_shape: None,
        needs: BTreeMap::new(),
        max_attempts: None,
        timeout_seconds: None,
        priority: None,
        image: None,
        model: None,
        budget_usd: None,
        hold_on_red: false,
        env: BTreeMap::new(),
    }
}

/// `a`, `b<a` (depends), `c#lock`, `d!7` (priority), `e*3` (attempts), in any combination: `x<a,b#k,l!2`.
pub(crate) fn parse_item(text: &str) -> PlanItem {
    let end = text.find(['<', '#', '!', '*']).unwrap_or(text.len());
    let mut made = item(&text[..end]);
    let mut rest = &text[end..];
    while let Some(kind) = rest.chars().next() {
        let tail = &rest[1..];
        let end = tail.find(['<', '#', '!', '*']).unwrap_or(tail.len());
        let value = &tail[..end];
        match kind {
            '<' => {
                made.depends_on = value.split(',').map(|id| ItemId::new(id).expect("dependency")).collect()
            }
            '#' => made.resource_locks = value.split(',').map(str::to_owned).collect(),
            '!' => made.priority = Some(value.parse().expect("priority")),
            _ => made.max_attempts = Some(value.parse().expect("attempts")),
        }
        rest = &tail[end..];
    }
    made
}

pub(crate) fn plan(id: &str, queue: &str, items: &str) -> Plan {
    Plan {
        id: RunId::new(id).expect("run id"),
        queue: QueueName::new(queue).expect("queue"),
        items: items.split_whitespace().map(parse_item).collect(),
        open_ended: false,
    }
}

pub(crate) fn submitted(plan: &Plan) -> EntryBody {
    EntryBody::RunSubmitted(Box::new(RunSubmitted {
        log: "test/log".to_owned(),
        namespace: "test".to_owned(),
        plan: Digest::of(b"plan"),
        items: plan.items.len() as u64,
        queue: plan.queue.clone(),
        pins: None,
        base_commit: None,
        pattern: None,
        pattern_id: None,
        pattern_params: None,
        graph: None,
        retry: RetryPolicy { max_attempts: 2, base_ms: 1_000, cap_ms: 8_000, timeout_ms: 10_000 },
        open_ended: plan.open_ended,
    }))
}

pub(crate) fn entry(run: &RunId, seq: u64, at: i64, body: EntryBody) -> Entry {
    Entry { v: 1, run: run.clone(), seq, at, actor: "engine".to_owned(), prev: None, body }
}

pub(crate) fn failure(class: FailureClass) -> Failure {
    Failure { reason: FailureReason::ProviderFailed, class, message: "it broke".to_owned() }
}

pub(crate) fn failed(class: FailureClass) -> AttemptEnd {
    AttemptEnd { status: AttemptStatus::Failed(failure(class)), evidence: Evidence::default() }
}

pub(crate) fn ended(status: AttemptStatus) -> AttemptEnd {
    AttemptEnd { status, evidence: Evidence::default() }
}

pub(crate) fn fired(run: &RunId, id: &str, attempt: u32) -> EntryBody {
    let item = ItemId::new(id).expect("item id");
    let dispatch = DispatchId::derive("test", run, &item, attempt);
    EntryBody::ItemFired { item, attempt, dispatch, manifest: None }
}

pub(crate) fn reconciled(id: &str, attempt: u32, status: FinalStatus) -> EntryBody {
    let failure = (status == FinalStatus::Failed).then(|| failure(FailureClass::Work));
    let item = ItemId::new(id).expect("item id");
    EntryBody::ItemReconciled { item, attempt, status, failure, evidence: Box::default() }
}

pub(crate) fn retried(id: &str, attempt: u32, class: FailureClass, not_before: i64) -> EntryBody {
    let item = ItemId::new(id).expect("item id");
    EntryBody::ItemRetried { item, attempt, failure: failure(class), not_before, evidence: Box::default() }
}

pub(crate) fn completed(outcome: RunOutcome, counts: &[(FinalStatus, u64)]) -> EntryBody {
    EntryBody::RunCompleted { outcome, counts: counts.iter().copied().collect() }
}

/// One run without a scheduler.
pub(crate) struct Folded {
    pub(crate) state: RunState,
    pub(crate) log: Vec<Entry>,
}

impl Folded {
    pub(crate) fn new(plan: Plan) -> Self {
        let first = entry(&plan.id, 0, 0, submitted(&plan));
        Self { state: RunState::start(plan, &first).expect("start"), log: vec![first] }
    }

    pub(crate) fn items(items: &str) -> Self {
        Self::new(plan("r", "q", items))
    }

    pub(crate) fn apply(&mut self, at: i64, body: EntryBody) -> Result<(), IllegalEntry> {
        self.apply_with(at, body, None)
    }

    pub(crate) fn apply_with(
        &mut self,
        at: i64,
        body: EntryBody,
        added: Option<Vec<PlanItem>>,
    ) -> Result<(), IllegalEntry> {
        let next = entry(self.state.id(), self.state.next_seq(), at, body);
        let before = self.state.clone();
        let answer = self.state.apply(&next, added);
        match answer {
            Ok(()) => self.log.push(next),
            Err(_) => assert_eq!(self.state, before, "a refused entry must change nothing"),
        }
        answer
    }

    pub(crate) fn names(&self) -> String {
        let names: Vec<String> =
            self.state.items().map(|item| format!("{}:{}", item.id(), item.state.name())).collect();
        names.join(" ")
    }
}

/// A scheduler with its logs.
pub(crate) struct Deployment {
    pub(crate) scheduler: Scheduler,
    pub(crate) logs: BTreeMap<RunId, Vec<Entry>>,
    pub(crate) plans: BTreeMap<RunId, Plan>,
    pub(crate) added: BTreeMap<(RunId, u64), Vec<PlanItem>>,
    pub(crate) now: i64,
}

impl Deployment {
    pub(crate) fn new(queues: &[(&str, u32)]) -> Self {
        let policy = |concurrency| QueuePolicy { concurrency, paused: false };
        let queues =
            queues.iter().map(|(name, n)| (QueueName::new(*name).expect("queue"), policy(*n))).collect();
        Self {
            scheduler: Scheduler::new(queues),
            logs: BTreeMap::new(),
            plans: BTreeMap::new(),
            added: BTreeMap::new(),
            now: 1_000_000,
        }
    }

    pub(crate) fn submit(&mut self, plan: Plan) -> RunId {
        let run = plan.id.clone();
        let first = entry(&run, 0, self.now, submitted(&plan));
        self.plans.insert(run.clone(), plan.clone());
        self.scheduler.insert_run(RunState::start(plan, &first).expect("start"));
        self.logs.insert(run.clone(), vec![first]);
        run
    }

    pub(crate) fn apply(&mut self, run: &RunId, body: EntryBody) {
        self.apply_with(run, body, None);
    }

    pub(crate) fn apply_with(&mut self, run: &RunId, body: EntryBody, added: Option<Vec<PlanItem>>) {
        let seq = self.scheduler.run(run).expect("active run").next_seq();
        let next = entry(run, seq, self.now, body);
        self.scheduler.apply(&next, added.clone()).expect("legal entry");
        if let Some(added) = added {
            self.added.insert((run.clone(), seq), added);
        }
        self.logs.get_mut(run).expect("log").push(next);
    }

    /// Plans (twice: the answer must be the same).
    pub(crate) fn plan(&mut self) -> Step {
        let step = self.scheduler.plan(self.now, 1_000);
        assert_eq!(self.scheduler.plan(self.now, 1_000), step, "planning again gives the same answer");
        step
    }

    pub(crate) fn fire(&mut self, fire: &Fire) {
        let (item, dispatch) = (fire.item.clone(), fire.dispatch.clone());
        let body = EntryBody::ItemFired { item, attempt: fire.attempt, dispatch, manifest: None };
        self.apply(&fire.run, body);
    }

    /// Plans and applies everything planned; answers what was fired as `run/item#attempt`.
    pub(crate) fn step(&mut self) -> Vec<String> {
        let step = self.plan();
        for fire in &step.fires {
            self.fire(fire);
        }
        for (run, body) in step.entries {
            self.apply(&run, body);
        }
        step.fires.iter().map(|fire| format!("{}/{}#{}", fire.run, fire.item, fire.attempt)).collect()
    }

    pub(crate) fn end(&mut self, run: &str, id: &str, end: AttemptEnd) {
        let run = RunId::new(run).expect("run id");
        let item = ItemId::new(id).expect("item id");
        let attempt = self
            .scheduler
            .run(&run)
            .and_then(|state| Some(state.item(&item)?.attempts.last()?.number))
            .expect("fired");
        let bodies = self.scheduler.reconcile(&run, &item, attempt, end, self.now);
        assert!(!bodies.is_empty(), "running attempt");
        for body in bodies {
            self.apply(&run, body);
        }
    }

    pub(crate) fn done(&mut self, run: &str, id: &str) {
        self.end(run, id, ended(AttemptStatus::Done));
    }

    /// The state of a run folded again from its log.
    pub(crate) fn refold(&self, run: &RunId, entries: usize) -> RunState {
        let log = &self.logs[run];
        let mut state = RunState::start(self.plans[run].clone(), &log[0]).expect("start");
        for next in &log[1..entries] {
            state.apply(next, self.added.get(&(run.clone(), next.seq)).cloned()).expect("legal entry");
        }
        state
    }
}
