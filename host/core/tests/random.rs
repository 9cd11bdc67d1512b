//! Random deployments: whatever happens, the rules hold, every run ends, and a crash at any entry changes nothing.

mod common;

use std::collections::{BTreeMap, BTreeSet};

use common::{Deployment, ended, failed, item, submitted};
use pangolin_core::{
    entry::{EntryBody, FailureClass},
    ids::{Digest, DispatchId, ItemId, QueueName, RunId},
    plan::{Plan, PlanItem},
    scheduler::{AttemptStatus, QueuePolicy, Scheduler},
    state::{ItemState, RunState},
};
use proptest::prelude::*;

#[derive(Debug, Clone)]
struct Case {
    concurrency: [u32; 2],
    runs: Vec<(usize, Vec<PlanItem>)>,
    /// What the outside world does next, over and over.
    world: Vec<u8>,
}

fn items() -> impl Strategy<Value = Vec<PlanItem>> {
    let one = (
        prop::collection::vec(any::<prop::sample::Index>(), 0..4),
        prop::collection::btree_set(0_u8..5, 0..4),
        prop::option::of(1_u32..4),
        prop::option::of(-1_i32..2),
    );
    (prop::collection::vec(one, 1..25), any::<bool>()).prop_map(|(list, reverse)| {
        let mut made = Vec::new();
        for (index, (deps, locks, attempts, priority)) in list.into_iter().enumerate() {
            let mut next = item(&format!("i{index}"));
            let deps: BTreeSet<usize> =
                if index == 0 { BTreeSet::new() } else { deps.iter().map(|dep| dep.index(index)).collect() };
            next.depends_on = deps.iter().map(|dep| ItemId::new(format!("i{dep}")).expect("id")).collect();
            next.resource_locks = locks.iter().map(|lock| format!("lock-{lock}")).collect();
            next.max_attempts = attempts;
            next.priority = priority;
            made.push(next);
        }
        if reverse {
            made.reverse();
        }
        made
    })
}

fn cases() -> impl Strategy<Value = Case> {
    (
        [1_u32..4, 1_u32..4],
        prop::collection::vec((0_usize..2, items()), 1..5),
        prop::collection::vec(any::<u8>(), 1..60),
    )
        .prop_map(|(concurrency, runs, world)| Case { concurrency, runs, world })
}

fn queue(number: usize) -> QueueName {
    QueueName::new(["q0", "q1"][number]).expect("queue")
}

/// What must hold at every moment, computed without the scheduler's own indexes.
fn invariants(scheduler: &Scheduler, concurrency: [u32; 2]) -> Result<(), TestCaseError> {
    let mut held: BTreeMap<String, String> = BTreeMap::new();
    let mut running = [0, 0];
    for state in scheduler.runs() {
        for view in state.running() {
            running[usize::from(state.plan().queue == queue(1))] += 1;
            for key in &view.plan.resource_locks {
                let name = format!("{}/{}", state.id(), view.id());
                let before = held.insert(key.clone(), name.clone());
                prop_assert!(before.is_none(), "{key} is held by {name} and {before:?}");
            }
        }
    }
    for number in 0..2 {
        prop_assert!(running[number] <= concurrency[number]);
        prop_assert_eq!(scheduler.running_in(&queue(number)), running[number]);
    }
    Ok(())
}

/// No pending item behind a dead one: the cascade is complete.
fn cascade_complete(state: &RunState) -> Result<(), TestCaseError> {
    for view in state.items().filter(|view| *view.state == ItemState::Pending) {
        for dep in &view.plan.depends_on {
            let dead = state.item(dep).is_some_and(|dep| dep.state.is_dead());
            prop_assert!(!dead, "{} waits for {dep} which is dead", view.id());
        }
    }
    Ok(())
}

/// An item that could run while its queue has room and its locks are free must be in the plan, unless the locks are
/// taken by fires of the same plan or kept free for somebody.
fn nothing_idles(deployment: &mut Deployment, concurrency: [u32; 2]) -> Result<(), TestCaseError> {
    let step = deployment.plan();
    let fires: BTreeSet<(RunId, ItemId)> =
        step.fires.iter().map(|fire| (fire.run.clone(), fire.item.clone())).collect();
    let mut taken: BTreeSet<String> = BTreeSet::new();
    let mut busy = [0, 0];
    for state in deployment.scheduler.runs() {
        let number = usize::from(state.plan().queue == queue(1));
        for view in state.items() {
            let fires = fires.contains(&(state.id().clone(), view.id().clone()));
            if fires || matches!(view.state, ItemState::Running { .. }) {
                busy[number] += 1;
                taken.extend(view.plan.resource_locks.iter().cloned());
            }
        }
    }
    for state in deployment.scheduler.runs() {
        let number = usize::from(state.plan().queue == queue(1));
        for view in state.items() {
            let due = match view.state {
                ItemState::Ready => true,
                ItemState::RetryWait { not_before, .. } => *not_before <= deployment.now,
                _ => false,
            };
            let planned = fires.contains(&(state.id().clone(), view.id().clone()));
            if !due || planned || busy[number] >= concurrency[number] {
                continue;
            }
            let blocked = view.plan.resource_locks.iter().any(|key| taken.contains(key));
            let reserved = deployment
                .scheduler
                .blockers(state.id(), view.id())
                .iter()
                .any(|blocker| matches!(blocker, pangolin_core::state::Blocker::LockReserved { .. }));
            prop_assert!(blocked || reserved, "{}/{} could run and is not planned", state.id(), view.id());
        }
    }
    Ok(())
}

fn running(scheduler: &Scheduler) -> Vec<(RunId, ItemId)> {
    let names = |state: &RunState| -> Vec<(RunId, ItemId)> {
        state.running().map(|view| (state.id().clone(), view.id().clone())).collect()
    };
    scheduler.runs().flat_map(names).collect()
}

fn cancel_something(deployment: &mut Deployment, choice: usize) {
    let runs: Vec<RunId> = deployment
        .scheduler
        .runs()
        .filter(|state| state.outcome().is_none())
        .map(|state| state.id().clone())
        .collect();
    let Some(run) = (!runs.is_empty()).then(|| runs[choice % runs.len()].clone()) else { return };
    let Some(state) = deployment.scheduler.run(&run) else { return };
    if choice.is_multiple_of(5) && !state.is_cancelled() {
        deployment.apply(&run, EntryBody::RunCancelled {});
        return;
    }
    let open: Vec<ItemId> = state
        .items()
        .filter(|view| !view.state.is_terminal() && view.state.name() != "cancelling")
        .map(|view| view.id().clone())
        .collect();
    if !open.is_empty() {
        let item = open[choice % open.len()].clone();
        deployment.apply(&run, EntryBody::ItemCancelled { item });
    }
}

/// A scheduler made from the ledgers alone, as after a crash.
fn restart(deployment: &mut Deployment, concurrency: [u32; 2]) {
    let policy =
        |number: usize| (queue(number), QueuePolicy { concurrency: concurrency[number], paused: false });
    let mut fresh = Scheduler::new(BTreeMap::from([policy(0), policy(1)]));
    for (run, log) in &deployment.logs {
        let state = deployment.refold(run, log.len());
        assert_eq!(Some(&state), deployment.scheduler.run(run), "the fold of the ledger is the state");
        fresh.insert_run(state);
    }
    deployment.scheduler = fresh;
}

fn end_of(choice: u8) -> pangolin_core::scheduler::AttemptEnd {
    match choice % 8 {
        0 => failed(FailureClass::Infrastructure),
        1 => failed(FailureClass::Refusal),
        2 => failed(FailureClass::Work),
        _ => ended(AttemptStatus::Done),
    }
}

fn play(case: &Case, crashes: bool) -> Result<Deployment, TestCaseError> {
    let mut deployment = Deployment::new(&[("q0", case.concurrency[0]), ("q1", case.concurrency[1])]);
    for (number, (queue_number, items)) in case.runs.iter().enumerate() {
        let id = RunId::new(format!("run{number}")).expect("run id");
        deployment.submit(Plan { id, queue: queue(*queue_number), items: items.clone(), open_ended: false });
    }
    let mut fired = BTreeSet::new();
    let mut rounds = 0;
    let mut world = case.world.iter().copied().cycle();
    while deployment.scheduler.runs().any(|state| state.outcome().is_none()) {
        rounds += 1;
        prop_assert!(rounds < 5_000, "the runs do not end");
        nothing_idles(&mut deployment, case.concurrency)?;
        for name in deployment.step() {
            prop_assert!(fired.insert(name.clone()), "{name} was fired twice");
        }
        for state in deployment.scheduler.runs() {
            cascade_complete(state)?;
        }
        invariants(&deployment.scheduler, case.concurrency)?;
        let choice = world.next().unwrap_or(0);
        let active = running(&deployment.scheduler);
        // Every other round belongs to the workers, so that the world cannot keep them from ending.
        let event = if rounds % 2 == 0 { choice % 16 } else { 15 };
        match event {
            0 => cancel_something(&mut deployment, usize::from(choice) + rounds),
            1 => deployment.now -= 2_000,
            2 if crashes => restart(&mut deployment, case.concurrency),
            _ if active.is_empty() => {
                if let Some(wake) = deployment.scheduler.next_wakeup() {
                    deployment.now = deployment.now.max(wake);
                }
            }
            _ => {
                let (run, item) = &active[usize::from(choice) % active.len()];
                // Enough later rounds succeed for retries to end.
                let end = end_of(choice / 16);
                deployment.end(run.as_str(), item.as_str(), end);
                deployment.now += 300;
            }
        }
    }
    Ok(deployment)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_run_ends_within_the_rules(case in cases()) {
        play(&case, true)?;
    }

    #[test]
    fn every_prefix_of_a_ledger_goes_on_to_an_end(case in cases(), cut in any::<prop::sample::Index>()) {
        let done = play(&case, false)?;
        for (run, log) in &done.logs {
            let prefix = 1 + cut.index(log.len());
            let mut again = Deployment::new(&[("q0", case.concurrency[0]), ("q1", case.concurrency[1])]);
            again.now = done.now;
            again.plans.insert(run.clone(), done.plans[run].clone());
            again.logs.insert(run.clone(), log[..prefix.min(log.len())].to_vec());
            let state = again.refold(run, again.logs[run].len());
            again.scheduler.insert_run(state);
            let mut rounds = 0;
            while again.scheduler.runs().any(|state| state.outcome().is_none()) {
                rounds += 1;
                prop_assert!(rounds < 5_000, "the run does not end after entry {prefix}");
                again.step();
                invariants(&again.scheduler, case.concurrency)?;
                let active = running(&again.scheduler);
                for (run, item) in &active {
                    again.done(run.as_str(), item.as_str());
                }
                if active.is_empty() && let Some(wake) = again.scheduler.next_wakeup() {
                    again.now = again.now.max(wake);
                }
            }
            let whole = again.refold(run, again.logs[run].len());
            prop_assert_eq!(Some(&whole), again.scheduler.run(run));
        }
    }

    #[test]
    fn hostile_entries_are_refused_or_applied_but_never_panic(
        items in items(),
        picks in prop::collection::vec((0_u8..11, any::<prop::sample::Index>(), 0_u32..4), 0..60),
    ) {
        let plan = Plan { id: RunId::new("r").expect("id"), queue: queue(0), items, open_ended: false };
        let first = common::entry(&plan.id, 0, 0, submitted(&plan));
        let names: Vec<ItemId> = plan.items.iter().map(|item| item.id.clone()).collect();
        let mut state = RunState::start(plan.clone(), &first).expect("start");
        for (kind, pick, attempt) in picks {
            let item = names[pick.index(names.len())].clone();
            use pangolin_core::entry::FinalStatus as Status;
            let body = match kind {
                0 | 1 => common::fired(&plan.id, item.as_str(), attempt),
                2 => common::retried(item.as_str(), attempt, FailureClass::Work, 0),
                3 => common::reconciled(item.as_str(), attempt, Status::Done),
                4 => common::reconciled(item.as_str(), attempt, Status::Failed),
                5 => EntryBody::ItemCancelled { item },
                6 => EntryBody::ItemSkipped { items: names.clone(), cause: item },
                7 => EntryBody::RunCancelled {},
                8 | 9 => {
                    let dispatch = DispatchId::derive("test", &plan.id, &item, attempt.min(2));
                    let outputs = [(format!("{kind}{attempt}"), Digest::of(b"bytes"))].into();
                    EntryBody::ItemOutputs { item, attempt, dispatch, part: attempt.saturating_sub(1).into(), outputs }
                }
                _ => common::reconciled(item.as_str(), attempt, Status::Cancelled),
            };
            let before = state.clone();
            let next = common::entry(&plan.id, state.next_seq(), 0, body);
            if state.apply(&next, None).is_err() {
                prop_assert_eq!(&state, &before);
            }
            for body in state.due_entries() {
                let next = common::entry(&plan.id, state.next_seq(), 0, body);
                prop_assert!(state.apply(&next, None).is_ok(), "what is due is legal");
            }
        }
    }
}
