//! The global lock table: who holds what, who waits, and for whom a lock is kept free.
//!
//! A waiting item is parked on one lock that it could not have, ordered by priority and then by how long it has been
//! waiting. When that lock is released one waiter per queue is woken; the others stay parked, so releasing a lock costs
//! nothing per waiter. A woken item that finds another of its locks taken is parked again with its old ticket.
//!
//! An item that needs several locks could be overtaken for ever by items that need only one of them. So after
//! [`BOUNCES_MAX`] futile wake-ups it becomes *starving*, and the longest starving item gets the one reservation there
//! is: its locks are given to nobody else and it goes first in its queue until it was fired. One reservation at a time
//! cannot deadlock.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, HashMap},
};

use super::Place;

/// Futile wake-ups before an item may reserve its locks.
pub(super) const BOUNCES_MAX: u8 = 3;

/// Order among the waiters of one lock and queue: priority, then ticket.
type WaitKey = (Reverse<i32>, u64, Place);

#[derive(Debug, Default)]
struct Lock {
    key: String,
    /// Normally one at most. More only when runs with contradicting histories were inserted.
    holders: Vec<Place>,
    /// Taken by a fire that is being planned.
    tentative: bool,
    /// Active runs that name the key; the entry is reused when there is none.
    users: u32,
    /// Waiters by queue.
    waiters: BTreeMap<usize, BTreeSet<WaitKey>>,
}

impl Lock {
    fn is_free(&self) -> bool {
        self.holders.is_empty() && !self.tentative
    }
}

/// What an item waits for.
#[derive(Debug, Clone)]
struct Wait {
    queue: usize,
    priority: i32,
    ticket: u64,
    bounces: u8,
    /// `epoch` of the table at the last bounce.
    bounced_in: u64,
    parked_on: Option<u32>,
    woken_by: Option<u32>,
}

/// Whether an item can have its locks now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Availability {
    Free,
    /// This lock is held, taken by a fire of the same planning round, or reserved for somebody else.
    Taken(u32),
}

/// All locks of a deployment.
#[derive(Debug, Default)]
pub(super) struct LockTable {
    locks: Vec<Lock>,
    index: HashMap<String, u32>,
    unused: Vec<u32>,
    waits: HashMap<Place, Wait>,
    next_ticket: u64,
    /// Grows whenever an entry is applied.
    epoch: u64,
    starving: BTreeSet<(u64, Place)>,
    reserved: Option<(Place, Vec<u32>)>,
}

impl LockTable {
    /// The number of a lock key that one more run names.
    pub(super) fn add_user(&mut self, key: &str) -> u32 {
        let number = self.index.get(key).copied().unwrap_or_else(|| {
            let number = self.unused.pop().unwrap_or_else(|| {
                self.locks.push(Lock::default());
                u32::try_from(self.locks.len() - 1).unwrap_or(u32::MAX)
            });
            self.locks[number as usize].key = key.to_owned();
            self.index.insert(key.to_owned(), number);
            number
        });
        self.locks[number as usize].users += 1;
        number
    }

    /// A run that names the lock is gone, together with its holders and waiters.
    pub(super) fn drop_user(&mut self, lock: u32) {
        let entry = &mut self.locks[lock as usize];
        entry.users -= 1;
        if entry.users == 0 {
            self.index.remove(&entry.key);
            *entry = Lock::default();
            self.unused.push(lock);
        }
    }

    pub(super) fn key(&self, lock: u32) -> &str {
        &self.locks[lock as usize].key
    }

    pub(super) fn holder(&self, lock: u32) -> Option<Place> {
        self.locks[lock as usize].holders.first().copied()
    }

    /// Whether the lock is kept free for another item than `place`.
    pub(super) fn is_reserved_against(&self, lock: u32, place: Place) -> bool {
        self.reserved.as_ref().is_some_and(|(owner, locks)| *owner != place && locks.contains(&lock))
    }

    pub(super) fn is_reserving(&self, place: Place) -> bool {
        self.reserved.as_ref().is_some_and(|(owner, _)| *owner == place)
    }

    pub(super) fn availability(&self, place: Place, locks: impl Iterator<Item = u32>) -> Availability {
        for lock in locks {
            if !self.locks[lock as usize].is_free() || self.is_reserved_against(lock, place) {
                return Availability::Taken(lock);
            }
        }
        Availability::Free
    }

    /// Something was applied.
    pub(super) fn advance(&mut self) {
        self.epoch += 1;
    }

    /// Takes locks for a fire that is only planned.
    pub(super) fn pretend(&mut self, locks: impl Iterator<Item = u32>) {
        for lock in locks {
            self.locks[lock as usize].tentative = true;
        }
    }

    /// Takes back what was pretended. Answers the items to wake: those parked on these locks meanwhile are candidates
    /// again should the planned fire not happen.
    pub(super) fn rollback(&mut self, locks: &[u32], woken: &mut Vec<Place>) {
        for lock in locks {
            self.locks[*lock as usize].tentative = false;
        }
        for lock in locks {
            self.wake(*lock, woken);
        }
    }

    /// Parks an item on `lock`. Answers items to wake instead: whoever waits for the lock that woke this one.
    pub(super) fn park(&mut self, place: Place, queue: usize, priority: i32, lock: u32) -> Option<Place> {
        let next_ticket = &mut self.next_ticket;
        let wait = self.waits.entry(place).or_insert_with(|| {
            *next_ticket += 1;
            Wait {
                queue,
                priority,
                ticket: *next_ticket,
                bounces: 0,
                bounced_in: 0,
                parked_on: None,
                woken_by: None,
            }
        });
        wait.parked_on = Some(lock);
        let woken_by = wait.woken_by.take();
        // Planning again without applying anything is no further futile wake-up.
        if woken_by.is_some() && wait.bounced_in != self.epoch {
            wait.bounced_in = self.epoch;
            wait.bounces = wait.bounces.saturating_add(1);
            if wait.bounces >= BOUNCES_MAX {
                self.starving.insert((wait.ticket, place));
            }
        }
        let key = (Reverse(priority), wait.ticket, place);
        self.locks[lock as usize].waiters.entry(queue).or_default().insert(key);
        woken_by.filter(|earlier| *earlier != lock).and_then(|earlier| self.wake_one(earlier, queue))
    }

    /// Forgets that an item waits (it was fired or is gone). Answers the waiter to wake in its place.
    pub(super) fn forget(&mut self, place: Place) -> Option<Place> {
        let wait = self.waits.remove(&place)?;
        self.starving.remove(&(wait.ticket, place));
        if let Some(lock) = wait.parked_on {
            self.remove_waiter(lock, &wait, place);
        }
        wait.woken_by.and_then(|lock| self.wake_one(lock, wait.queue))
    }

    fn remove_waiter(&mut self, lock: u32, wait: &Wait, place: Place) {
        let waiters = &mut self.locks[lock as usize].waiters;
        if let Some(queue) = waiters.get_mut(&wait.queue) {
            queue.remove(&(Reverse(wait.priority), wait.ticket, place));
            if queue.is_empty() {
                waiters.remove(&wait.queue);
            }
        }
    }

    pub(super) fn take(&mut self, place: Place, locks: impl Iterator<Item = u32>) {
        for lock in locks {
            self.locks[lock as usize].holders.push(place);
        }
    }

    /// Releases and answers the items to wake.
    pub(super) fn release(&mut self, place: Place, locks: impl Iterator<Item = u32>, woken: &mut Vec<Place>) {
        for lock in locks {
            self.locks[lock as usize].holders.retain(|holder| *holder != place);
            self.wake(lock, woken);
        }
    }

    /// Keeps the rule that makes parking safe: when a lock is free, each queue with waiters of it has one candidate that
    /// was woken for it. Wakes the first waiter of each queue, or only the owner of the reservation.
    fn wake(&mut self, lock: u32, woken: &mut Vec<Place>) {
        if let Some((owner, locks)) = &self.reserved
            && locks.contains(&lock)
        {
            let owner = *owner;
            if self.unpark(owner) {
                woken.push(owner);
            }
            return;
        }
        let queues: Vec<usize> = self.locks[lock as usize].waiters.keys().copied().collect();
        woken.extend(queues.into_iter().filter_map(|queue| self.wake_one(lock, queue)));
    }

    /// The best waiter of a lock that is free, taken off it.
    fn wake_one(&mut self, lock: u32, queue: usize) -> Option<Place> {
        let entry = &mut self.locks[lock as usize];
        let reserved = self.reserved.as_ref().is_some_and(|(_, locks)| locks.contains(&lock));
        if !entry.is_free() || reserved {
            return None;
        }
        let waiters = entry.waiters.get_mut(&queue)?;
        let (_, _, place) = waiters.pop_first()?;
        if waiters.is_empty() {
            entry.waiters.remove(&queue);
        }
        if let Some(wait) = self.waits.get_mut(&place) {
            wait.parked_on = None;
            wait.woken_by = Some(lock);
        }
        Some(place)
    }

    /// Takes a parked item off its lock; whether it was parked.
    fn unpark(&mut self, place: Place) -> bool {
        let Some(wait) = self.waits.get_mut(&place) else { return false };
        let Some(lock) = wait.parked_on.take() else { return false };
        wait.woken_by = Some(lock);
        let wait = wait.clone();
        self.remove_waiter(lock, &wait, place);
        true
    }

    /// Gives the reservation to the longest starving item that `may` have it, when it is free. Answers the item, which
    /// the caller makes a candidate with precedence.
    pub(super) fn reserve(
        &mut self,
        may: impl Fn(Place) -> bool,
        locks: impl Fn(Place) -> Vec<u32>,
    ) -> Option<Place> {
        if self.reserved.is_some() {
            return None;
        }
        let (ticket, place) = self.starving.iter().copied().find(|(_, place)| may(*place))?;
        self.starving.remove(&(ticket, place));
        self.reserved = Some((place, locks(place)));
        self.unpark(place);
        Some(place)
    }

    /// Ends the reservation of `place`, if it has it, and answers the items to wake.
    pub(super) fn unreserve(&mut self, place: Place, woken: &mut Vec<Place>) {
        if !self.is_reserving(place) {
            return;
        }
        if let Some((_, locks)) = self.reserved.take() {
            for lock in locks {
                self.wake(lock, woken);
            }
        }
    }

    /// The current owner of the reservation.
    pub(super) fn reserving(&self) -> Option<Place> {
        self.reserved.as_ref().map(|(place, _)| *place)
    }

    pub(super) fn has_starving(&self) -> bool {
        self.reserved.is_none() && !self.starving.is_empty()
    }
}
