//! The lease: one holder, takeover after expiry only, nobody loses what is his to somebody who lost it.

use std::{sync::Arc, time::Duration};

use pangolin_orchestrator::{
    leadership::Leadership as _,
    lease::{LEASE, LastLook, StoreLease, Tried, last_look},
};
use pangolin_ports::{
    clock::Clock as _,
    memory::{ManualClock, MemoryRunStore},
    run_store::RunStore,
};

const LIFE: Duration = Duration::from_secs(60);
/// Life and skew.
const FREE_AFTER: Duration = Duration::from_secs(62);

struct World {
    store: Arc<MemoryRunStore>,
    clock: Arc<ManualClock>,
}

impl World {
    fn new() -> Self {
        Self { store: Arc::default(), clock: Arc::new(ManualClock::new(1_000_000)) }
    }

    fn lease(&self, nonce: &str) -> StoreLease {
        StoreLease::new(self.store.clone(), self.clock.clone(), nonce.to_owned(), LIFE)
    }
}

fn held(tried: Tried) -> pangolin_orchestrator::lease::Held {
    match tried {
        Tried::Held(held) => held,
        Tried::Taken(until) => panic!("taken until {until}"),
    }
}

fn taken(tried: &Tried) -> i64 {
    match tried {
        Tried::Held(_) => panic!("two holders"),
        Tried::Taken(until) => *until,
    }
}

#[tokio::test]
async fn one_of_many_gets_it() {
    let world = World::new();
    let mut tries = tokio::task::JoinSet::new();
    for index in 0..8 {
        let lease = world.lease(&format!("n{index}"));
        tries.spawn(async move { matches!(lease.try_acquire().await.unwrap(), Tried::Held(_)) });
    }
    assert_eq!(tries.join_all().await.into_iter().filter(|held| *held).count(), 1);
}

#[tokio::test]
async fn it_is_free_after_release_and_after_expiry_with_skew_and_not_before() {
    let world = World::new();
    let first = held(world.lease("a").try_acquire().await.unwrap());
    assert_eq!(taken(&world.lease("b").try_acquire().await.unwrap()), 1_062_000);
    first.release().await.unwrap();
    let _second = held(world.lease("b").try_acquire().await.unwrap());
    world.clock.advance(FREE_AFTER - Duration::from_millis(1));
    taken(&world.lease("c").try_acquire().await.unwrap());
    world.clock.advance(Duration::from_millis(1));
    held(world.lease("c").try_acquire().await.unwrap());
}

#[tokio::test]
async fn who_lost_it_can_neither_renew_nor_free_it() {
    let world = World::new();
    let mut old = held(world.lease("a").try_acquire().await.unwrap());
    assert!(old.renew().await.unwrap());
    world.clock.advance(FREE_AFTER);
    let mut new = held(world.lease("b").try_acquire().await.unwrap());
    assert!(!old.renew().await.unwrap());
    old.release().await.unwrap();
    taken(&world.lease("c").try_acquire().await.unwrap());
    assert!(new.renew().await.unwrap());
}

#[tokio::test]
async fn a_late_renewal_works_when_nobody_took_over() {
    let world = World::new();
    let mut held = held(world.lease("a").try_acquire().await.unwrap());
    world.clock.advance(FREE_AFTER * 10);
    assert!(held.renew().await.unwrap());
    taken(&world.lease("b").try_acquire().await.unwrap());
}

#[tokio::test]
async fn the_version_never_starts_again() {
    let world = World::new();
    for round in 1..=3_u64 {
        held(world.lease(&format!("n{round}")).try_acquire().await.unwrap()).release().await.unwrap();
        assert_eq!(world.store.get(LEASE).await.unwrap().unwrap().version, round * 2);
    }
}

#[tokio::test]
async fn people_can_ask_when_somebody_looked_last() {
    let world = World::new();
    let asked = async || last_look(&*world.store).await.unwrap();
    assert_eq!(asked().await, None);
    let lease = held(world.lease("a").try_acquire().await.unwrap());
    assert_eq!(asked().await, Some(LastLook { at: 1_000_000, held_until: Some(1_060_000) }));
    world.clock.advance(Duration::from_secs(5));
    lease.release().await.unwrap();
    assert_eq!(asked().await, Some(LastLook { at: 1_005_000, held_until: None }));
}

#[tokio::test]
async fn leadership_renews_and_gives_back() {
    let world = World::new();
    let guard = world.lease("a").acquire().await.unwrap();
    let waiting = tokio::spawn({
        let lease = world.lease("b");
        async move { lease.acquire().await.map(drop) }
    });
    // The keeper and the one that waits both sleep now.
    until(|| world.clock.sleepers() == 2).await;
    for _ in 0..10 {
        let before = world.store.get(LEASE).await.unwrap().unwrap().version;
        world.clock.advance(LIFE / 3);
        loop {
            if world.store.get(LEASE).await.unwrap().unwrap().version > before {
                break;
            }
            tokio::task::yield_now().await;
        }
        until(|| world.clock.sleepers() == 2).await;
    }
    assert!(!waiting.is_finished());
    drop(guard);
    loop {
        let cell = world.store.get(LEASE).await.unwrap().unwrap();
        if String::from_utf8(cell.value).unwrap().contains("\"expiresAt\":0") {
            break;
        }
        tokio::task::yield_now().await;
    }
    world.clock.advance(FREE_AFTER);
    waiting.await.unwrap().unwrap();
}

#[tokio::test]
async fn work_goes_on_with_a_lease_that_is_prolonged_and_also_with_one_that_was_lost() {
    let world = World::new();
    let mut lease = held(world.lease("a").try_acquire().await.unwrap());
    let work = async {
        for round in 2..12 {
            until(|| world.clock.sleepers() == 1).await;
            world.clock.advance(LIFE / 3);
            while world.store.get(LEASE).await.unwrap().unwrap().version < round {
                tokio::task::yield_now().await;
            }
        }
        taken(&world.lease("b").try_acquire().await.unwrap());
        until(|| world.clock.sleepers() == 1).await;
        // As after a long stop of the process: somebody else was faster.
        world.clock.set(world.clock.now_ms() + i64::try_from(LIFE.as_millis()).unwrap() * 2);
        let other = held(world.lease("b").try_acquire().await.unwrap());
        for _ in 0..50 {
            tokio::task::yield_now().await;
        }
        other
    };
    let _other = lease.during(work).await;
    lease.release().await.unwrap();
    taken(&world.lease("c").try_acquire().await.unwrap());
}

async fn until(done: impl Fn() -> bool) {
    while !done() {
        tokio::task::yield_now().await;
    }
}
