//! What to do next in a deployment: fires, skips, completions and stops over many active runs.
//!
//! The driver plans, turns every [`Fire`] into an `item.fired` entry (adding the manifest), commits the entries and
//! applies each with [`Scheduler::apply`]. Planning again without applying gives the same answer. Entries must be
//! stamped with the `now` that was given to [`Scheduler::plan`], or a later time.
//!
//! Order within a queue: higher priority first; then the run with the fewest running items, then the one that fired
//! longest ago; then plan order. Locks are global, exclusive, taken all or nothing and held while an item runs. Items
//! that cannot have a lock are parked on it and do not delay others; among the waiters of a lock in one queue the
//! order is priority, then first come. An item that needs several locks and lost them three times after being woken
//! gets them reserved and goes before everything in its queue, so nobody is overtaken for ever except by
//! higher priority.
//!
//! Work per plan is proportional to what changed: ready items sit in ordered sets, blocked ones on their lock, waiting
//! ones in a timer set. If the clock steps back, retries and deadlines come later by that step; nothing else changes.
//!
//! Not here: committing, manifests, workers, patterns (the driver asks them before it plans).

mod locks;
mod queue;
mod reconcile;
mod timers;

use std::collections::{BTreeMap, BTreeSet};

pub use queue::QueuePolicy;
pub use reconcile::{AttemptEnd, AttemptStatus};

use locks::LockTable;
use queue::Queue;
use timers::Timers;

use crate::{
    entry::{Entry, EntryBody},
    ids::{DispatchId, ItemId, QueueName, RunId},
    plan::PlanItem,
    state::{Blocker, Change, IllegalEntry, ItemState, RunState, Violation},
};

/// Added to an item's timeout before the scheduler asks to stop it: the worker enforces its own timeout first, and this
/// one only counts when the worker does not answer. Milliseconds.
pub const DEADLINE_GRACE_MS: i64 = 60_000;

/// An attempt to start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fire {
    /// Run.
    pub run: RunId,
    /// Item.
    pub item: ItemId,
    /// Attempt from 1.
    pub attempt: u32,
    /// Identity.
    pub dispatch: DispatchId,
}

/// Why a worker must be stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopReason {
    /// The item or its run was cancelled.
    Cancelled,
    /// The attempt is over its timeout and [`DEADLINE_GRACE_MS`].
    Deadline,
}

/// A worker to stop. Repeated by every plan until the attempt ended or [`Scheduler::stop_asked`] was called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stop {
    /// Run.
    pub run: RunId,
    /// Item.
    pub item: ItemId,
    /// Attempt from 1.
    pub attempt: u32,
    /// Identity.
    pub dispatch: DispatchId,
    /// Why.
    pub why: StopReason,
}

/// What to do now.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Step {
    /// Skips and completions, to be appended in this order.
    pub entries: Vec<(RunId, EntryBody)>,
    /// Attempts to start, most urgent first within each queue.
    pub fires: Vec<Fire>,
    /// Workers to stop.
    pub stops: Vec<Stop>,
}

impl Step {
    /// Nothing to do.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.fires.is_empty() && self.stops.is_empty()
    }
}

/// An item of an active run: slot of the run and position in it.
type Place = (u32, u32);

/// One active run.
#[derive(Debug)]
struct Active {
    state: RunState,
    queue: usize,
    /// Global numbers of the run's locks.
    locks: Vec<u32>,
}

/// Schedules any number of runs over queues and global locks.
#[derive(Debug)]
pub struct Scheduler {
    queues: Vec<Queue>,
    queue_index: BTreeMap<QueueName, usize>,
    runs: Vec<Option<Active>>,
    run_index: BTreeMap<RunId, u32>,
    free_slots: Vec<u32>,
    locks: LockTable,
    timers: Timers,
    /// Cancelling attempts whose stop was not acknowledged.
    stopping: BTreeSet<Place>,
    /// Runs with skips or a completion due.
    due: BTreeSet<u32>,
    planned_at: i64,
    /// The last plan with its arguments, until something changes.
    planned: Option<(i64, usize, Step)>,
}

impl Scheduler {
    /// A scheduler without runs.
    #[must_use]
    pub fn new(queues: BTreeMap<QueueName, QueuePolicy>) -> Self {
        let mut scheduler = Self {
            queues: Vec::new(),
            queue_index: BTreeMap::new(),
            runs: Vec::new(),
            run_index: BTreeMap::new(),
            free_slots: Vec::new(),
            locks: LockTable::default(),
            timers: Timers::default(),
            stopping: BTreeSet::new(),
            due: BTreeSet::new(),
            planned_at: i64::MIN,
            planned: None,
        };
        for (name, policy) in queues {
            scheduler.set_queue(name, policy);
        }
        scheduler
    }

    /// Adds a queue or changes its policy (pause, resume, concurrency). Running items are not affected.
    pub fn set_queue(&mut self, name: QueueName, policy: QueuePolicy) {
        self.planned = None;
        let queue = self.queue_number(&name);
        self.queues[queue].policy = Some(policy);
        if !self.queues[queue].is_open()
            && let Some(owner) =
                self.locks.reserving().filter(|(slot, _)| self.queue_of(*slot) == Some(queue))
        {
            // Locks are not kept free for an item that may not start.
            self.drop_reservation(owner);
        }
        self.reserve_next();
    }

    /// Starts scheduling a run, also one that is partly done. A run of the same id is replaced.
    pub fn insert_run(&mut self, state: RunState) {
        self.planned = None;
        let id = state.id().clone();
        self.remove_run(&id);
        let queue = self.queue_number(&state.plan().queue);
        let locks = state.lock_names().iter().map(|key| self.locks.add_user(key)).collect();
        let slot = self.free_slots.pop().unwrap_or_else(|| {
            self.runs.push(None);
            u32::try_from(self.runs.len() - 1).unwrap_or(u32::MAX)
        });
        self.run_index.insert(id, slot);
        let changes: Vec<Change> = state
            .positions()
            .flat_map(|index| match *state.state_at(index) {
                ItemState::Ready => [Some(Change::Ready(index)), None],
                ItemState::RetryWait { not_before, .. } => [Some(Change::RetryAt(index, not_before)), None],
                ItemState::Running { cancelling, .. } => {
                    [Some(Change::Fired(index, None)), cancelling.then_some(Change::Cancelling(index))]
                }
                _ => [None, None],
            })
            .flatten()
            .collect();
        self.runs[slot as usize] = Some(Active { state, queue, locks });
        self.queues[queue].add_run(slot);
        for change in changes {
            self.follow(slot, change);
        }
        self.note_due(slot);
        self.reserve_next();
    }

    /// Stops scheduling a run and gives back its state. Its locks and slots are free afterwards.
    pub fn remove_run(&mut self, run: &RunId) -> Option<RunState> {
        let slot = self.run_index.remove(run)?;
        self.planned = None;
        let changes: Vec<Change> = {
            let state = &self.runs[slot as usize].as_ref()?.state;
            let change = |index| match *state.state_at(index) {
                ItemState::Ready => Some(Change::Left(index, None)),
                ItemState::RetryWait { not_before, .. } => Some(Change::Left(index, Some(not_before))),
                ItemState::Running { fired_at, .. } => Some(Change::Ended(index, fired_at)),
                _ => None,
            };
            state.positions().filter_map(change).collect()
        };
        for change in changes {
            self.follow(slot, change);
        }
        let active = self.runs[slot as usize].take()?;
        for lock in active.locks {
            self.locks.drop_user(lock);
        }
        self.queues[active.queue].remove_run(slot);
        self.due.remove(&slot);
        self.free_slots.push(slot);
        self.reserve_next();
        Some(active.state)
    }

    /// State of an active run.
    #[must_use]
    pub fn run(&self, run: &RunId) -> Option<&RunState> {
        Some(&self.active(*self.run_index.get(run)?)?.state)
    }

    /// All active runs by id.
    pub fn runs(&self) -> impl Iterator<Item = &RunState> {
        self.run_index.values().filter_map(|slot| Some(&self.active(*slot)?.state))
    }

    /// Running items of a queue over all runs.
    #[must_use]
    pub fn running_in(&self, queue: &QueueName) -> u32 {
        self.queue_index.get(queue).map_or(0, |queue| self.queues[*queue].running)
    }

    /// Applies a committed entry. `added` holds the items of a `run.extended`.
    ///
    /// # Errors
    /// [`IllegalEntry`] when the run is not active, the entry cannot follow, or it takes a lock that another run holds.
    /// Nothing has changed then.
    pub fn apply(&mut self, entry: &Entry, added: Option<Vec<PlanItem>>) -> Result<(), IllegalEntry> {
        let refuse = |item: Option<&ItemId>, violation| IllegalEntry {
            run: entry.run.clone(),
            seq: entry.seq,
            kind: entry.body.kind(),
            item: item.cloned(),
            state: None,
            violation,
        };
        let inactive = || refuse(None, Violation::Plan("the run is not active".to_owned()));
        let slot = *self.run_index.get(&entry.run).ok_or_else(inactive)?;
        if let EntryBody::ItemFired { item, .. } = &entry.body
            && let Some((lock, holder)) = self.foreign_holder(slot, item)
        {
            let holder = Box::new(holder);
            return Err(refuse(Some(item), Violation::LockHeld { key: self.locks.key(lock).into(), holder }));
        }
        let active = self.runs[slot as usize].as_mut().ok_or_else(inactive)?;
        let mut changes = Vec::new();
        active.state.apply_with(entry, added, &mut |change| changes.push(change))?;
        self.planned = None;
        self.locks.advance();
        for key in &active.state.lock_names()[active.locks.len()..] {
            active.locks.push(self.locks.add_user(key));
        }
        for change in changes {
            self.follow(slot, change);
        }
        self.note_due(slot);
        self.reserve_next();
        Ok(())
    }

    /// The next steps at `now` (ms), with at most `fires_max` fires.
    pub fn plan(&mut self, now: i64, fires_max: usize) -> Step {
        if let Some((at, max, step)) = &self.planned
            && (*at, *max) == (now, fires_max)
        {
            return step.clone();
        }
        self.planned_at = now;
        let mut step = Step::default();
        for slot in &self.due {
            if let Some(active) = self.active(*slot) {
                let run = active.state.id();
                step.entries.extend(active.state.due_entries().into_iter().map(|body| (run.clone(), body)));
            }
        }
        for place in &self.stopping {
            step.stops.extend(self.stop(*place, StopReason::Cancelled));
        }
        for place in self.timers.deadlines_until(now) {
            if !self.stopping.contains(&place) {
                step.stops.extend(self.stop(place, StopReason::Deadline));
            }
        }
        for place in self.timers.take_retries_until(now) {
            self.make_candidate(place);
        }
        self.plan_fires(now, fires_max, &mut step.fires);
        self.planned = Some((now, fires_max, step.clone()));
        step
    }

    /// The earliest time (ms) after the last plan at which a retry or a deadline is due. A plan is also needed after
    /// every applied entry.
    #[must_use]
    pub fn next_wakeup(&self) -> Option<i64> {
        self.timers.next_after(self.planned_at)
    }

    /// The worker of this attempt was asked to stop and the backend took the request: later plans do not repeat it.
    /// (After a restart they do, once.)
    pub fn stop_asked(&mut self, run: &RunId, item: &ItemId, attempt: u32) {
        self.planned = None;
        let Some(place) = self.place(run, item) else { return };
        let Some(ItemState::Running { attempt: current, fired_at, .. }) = self.item_state(place) else {
            return;
        };
        if *current == attempt {
            let deadline = self.deadline(place, *fired_at);
            // Once the backend stops the worker for a cancellation, a deadline could add nothing.
            if self.stopping.remove(&place) || deadline <= self.planned_at {
                self.timers.remove_deadline(deadline, place);
            }
        }
    }

    /// What keeps an item from moving, with queues and the locks of other runs.
    #[must_use]
    pub fn blockers(&self, run: &RunId, item: &ItemId) -> Vec<Blocker> {
        let Some(place) = self.place(run, item) else { return Vec::new() };
        let Some(active) = self.active(place.0) else { return Vec::new() };
        let mut blockers = match active.state.state_at(place.1) {
            ItemState::Ready => Vec::new(),
            ItemState::RetryWait { not_before, .. } => vec![Blocker::RetryAt { not_before: *not_before }],
            _ => return active.state.blockers(item),
        };
        for lock in self.locks_of(place) {
            let key = || self.locks.key(lock).to_owned();
            if let Some(holder) = self.locks.holder(lock) {
                if let Some(holding) = self.active(holder.0) {
                    let item = holding.state.item_at(holder.1).id.clone();
                    blockers.push(Blocker::Lock { key: key(), run: holding.state.id().clone(), item });
                }
            } else if self.locks.is_reserved_against(lock, place) {
                blockers.push(Blocker::LockReserved { key: key() });
            }
        }
        blockers.extend(self.queues[active.queue].blocker());
        blockers
    }

    fn active(&self, slot: u32) -> Option<&Active> {
        self.runs.get(slot as usize)?.as_ref()
    }

    fn queue_of(&self, slot: u32) -> Option<usize> {
        Some(self.active(slot)?.queue)
    }

    fn queue_number(&mut self, name: &QueueName) -> usize {
        if let Some(queue) = self.queue_index.get(name) {
            return *queue;
        }
        self.queues.push(Queue::default());
        self.queue_index.insert(name.clone(), self.queues.len() - 1);
        self.queues.len() - 1
    }

    fn place(&self, run: &RunId, item: &ItemId) -> Option<Place> {
        let slot = *self.run_index.get(run)?;
        Some((slot, self.active(slot)?.state.position_of(item)?))
    }

    fn item_state(&self, place: Place) -> Option<&ItemState> {
        Some(self.active(place.0)?.state.state_at(place.1))
    }

    fn locks_of(&self, place: Place) -> impl Iterator<Item = u32> + '_ {
        let active = self.active(place.0);
        let own = active.map_or(&[][..], |active| active.state.locks_at(place.1));
        own.iter().filter_map(move |lock| active?.locks.get(*lock as usize).copied())
    }

    /// A lock of the item that an item of another run holds. Locks within the run are the fold's own business.
    fn foreign_holder(&self, slot: u32, item: &ItemId) -> Option<(u32, (RunId, ItemId))> {
        let place = (slot, self.active(slot)?.state.position_of(item)?);
        let held = |lock| Some((lock, self.locks.holder(lock).filter(|holder| holder.0 != slot)?));
        let (lock, holder) = self.locks_of(place).find_map(held)?;
        let holding = &self.active(holder.0)?.state;
        Some((lock, (holding.id().clone(), holding.item_at(holder.1).id.clone())))
    }

    fn deadline(&self, place: Place, fired_at: i64) -> i64 {
        let timeout = self.active(place.0).map_or(0, |active| active.state.timeout_at(place.1));
        fired_at.saturating_add(timeout).saturating_add(DEADLINE_GRACE_MS)
    }

    fn note_due(&mut self, slot: u32) {
        if self.active(slot).is_some_and(|active| active.state.needs_step()) {
            self.due.insert(slot);
        } else {
            self.due.remove(&slot);
        }
    }

    fn stop(&self, place: Place, why: StopReason) -> Option<Stop> {
        let state = &self.active(place.0)?.state;
        let ItemState::Running { attempt, dispatch, .. } = state.state_at(place.1) else { return None };
        let item = state.item_at(place.1).id.clone();
        Some(Stop { run: state.id().clone(), item, attempt: *attempt, dispatch: dispatch.clone(), why })
    }

    /// Brings queues, locks and timers in line with a change of a run.
    fn follow(&mut self, slot: u32, change: Change) {
        let Some(queue) = self.queue_of(slot) else { return };
        let locks = |scheduler: &Self, index| scheduler.locks_of((slot, index)).collect::<Vec<u32>>();
        let mut woken = Vec::new();
        match change {
            Change::Ready(index) => self.make_candidate((slot, index)),
            Change::RetryAt(index, not_before) => self.timers.add_retry(not_before, (slot, index)),
            Change::Left(index, waited) => {
                self.leave_waiting((slot, index), waited, &mut woken);
            }
            Change::Fired(index, waited) => {
                let place = (slot, index);
                let held = locks(self, index);
                self.locks.take(place, held.into_iter());
                self.leave_waiting(place, waited, &mut woken);
                self.queues[queue].fired(slot);
                if let Some(ItemState::Running { fired_at, .. }) = self.item_state(place) {
                    let deadline = self.deadline(place, *fired_at);
                    self.timers.add_deadline(deadline, place);
                }
            }
            Change::Ended(index, fired_at) => {
                let place = (slot, index);
                let deadline = self.deadline(place, fired_at);
                self.timers.remove_deadline(deadline, place);
                self.stopping.remove(&place);
                self.queues[queue].ended(slot);
                let held = locks(self, index);
                self.locks.release(place, held.into_iter(), &mut woken);
            }
            Change::Cancelling(index) => {
                self.stopping.insert((slot, index));
            }
        }
        for place in woken {
            self.make_candidate(place);
        }
    }

    /// An item that was ready, parked or waiting for its retry is fired or gone.
    fn leave_waiting(&mut self, place: Place, waited: Option<i64>, woken: &mut Vec<Place>) {
        if let Some(not_before) = waited {
            self.timers.remove_retry(not_before, place);
        }
        let key = self.priority(place);
        if let Some(queue) = self.queue_of(place.0) {
            self.queues[queue].remove_ready(place, key);
        }
        woken.extend(self.locks.forget(place));
        self.locks.unreserve(place, woken);
    }

    /// Order key of an item: its priority, or before all others while it reserves its locks.
    fn priority(&self, place: Place) -> i64 {
        if self.locks.is_reserving(place) { i64::MAX } else { i64::from(self.plain_priority(place)) }
    }

    fn plain_priority(&self, place: Place) -> i32 {
        self.active(place.0).and_then(|active| active.state.item_at(place.1).priority).unwrap_or(0)
    }

    fn make_candidate(&mut self, place: Place) {
        let priority = self.priority(place);
        if let Some(queue) = self.queue_of(place.0) {
            self.queues[queue].add_ready(place, priority);
        }
    }

    fn drop_reservation(&mut self, owner: Place) {
        let queue = self.queue_of(owner.0);
        let was_ready = queue.is_some_and(|queue| self.queues[queue].remove_ready(owner, i64::MAX));
        let mut woken = Vec::new();
        self.locks.unreserve(owner, &mut woken);
        if was_ready {
            woken.push(owner);
        }
        for place in woken {
            self.make_candidate(place);
        }
    }

    /// Reservations change only when entries are applied, never while planning, so that planning twice agrees.
    fn reserve_next(&mut self) {
        if !self.locks.has_starving() {
            return;
        }
        let runs = &self.runs;
        let queues = &self.queues;
        let active = |place: Place| runs.get(place.0 as usize)?.as_ref();
        let may = |place| active(place).is_some_and(|active| queues[active.queue].is_open());
        let locks = |place: Place| {
            active(place).map_or_else(Vec::new, |active| {
                active.state.locks_at(place.1).iter().map(|lock| active.locks[*lock as usize]).collect()
            })
        };
        if let Some(place) = self.locks.reserve(may, locks) {
            let plain = i64::from(self.plain_priority(place));
            if let Some(queue) = self.queue_of(place.0) {
                self.queues[queue].remove_ready(place, plain);
            }
            self.make_candidate(place);
        }
    }

    fn plan_fires(&mut self, now: i64, fires_max: usize, fires: &mut Vec<Fire>) {
        // Taken out while planning and put back: only `apply` makes a fire real.
        let mut planned: Vec<(Place, i64)> = Vec::new();
        let mut pretended: Vec<u32> = Vec::new();
        for number in 0..self.queues.len() {
            self.queues[number].begin();
            while fires.len() < fires_max {
                let Some((place, priority)) = self.queues[number].pop() else { break };
                let waits_until = match self.item_state(place) {
                    Some(ItemState::RetryWait { not_before, .. }) => Some(*not_before),
                    _ => None,
                };
                if let Some(not_before) = waits_until.filter(|not_before| *not_before > now) {
                    // The clock stepped back since the retry was due.
                    let woken = self.locks.forget(place);
                    self.timers.add_retry(not_before, place);
                    woken.into_iter().for_each(|place| self.make_candidate(place));
                    continue;
                }
                match self.locks.availability(place, self.locks_of(place)) {
                    locks::Availability::Free => {
                        let Some(fire) = self.fire(place) else { continue };
                        fires.push(fire);
                        let from = pretended.len();
                        pretended.extend(self.locks_of(place));
                        self.locks.pretend(pretended[from..].iter().copied());
                        self.queues[number].pretend(place.0);
                        planned.push((place, priority));
                    }
                    locks::Availability::Taken(lock) => {
                        let plain = self.plain_priority(place);
                        if let Some(woken) = self.locks.park(place, number, plain, lock) {
                            self.make_candidate(woken);
                        }
                    }
                }
            }
        }
        for queue in &mut self.queues {
            queue.rollback();
        }
        for (place, priority) in planned {
            if let Some(queue) = self.queue_of(place.0) {
                self.queues[queue].add_ready(place, priority);
            }
        }
        let mut woken = Vec::new();
        self.locks.rollback(&pretended, &mut woken);
        for place in woken {
            self.make_candidate(place);
        }
    }

    fn fire(&self, place: Place) -> Option<Fire> {
        let state = &self.active(place.0)?.state;
        let item = &state.item_at(place.1).id;
        let attempt = state.attempts_made(place.1).saturating_add(1);
        let dispatch = DispatchId::derive(&state.submitted().namespace, state.id(), item, attempt);
        Some(Fire { run: state.id().clone(), item: item.clone(), attempt, dispatch })
    }
}
