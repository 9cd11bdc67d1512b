//! Leadership by a cell of the run store, for drivers that share no host.
//!
//! A lease saves work and guarantees nothing: clocks differ, renewals are late. The guarantee is the fence cell
//! ([`crate::keys::FENCE`]) in every commit. So the rules here are lax where laxness is harmless (anybody may try, an
//! expired lease is free) and strict where it would hurt others: ownership is a random nonce of one acquisition, never
//! a stable name, and giving back frees only what is still one's own.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use pangolin_ports::{
    clock::Clock,
    run_store::{Batch, Commit, Guard, RunStore, RunStoreError, Write},
};
use serde::{Deserialize, Serialize};

use crate::leadership::{Leadership, LeadershipError};

/// The cell of the lease. Its value is kept when the lease is given back, so that the version only grows.
pub const LEASE: &str = "lease/scheduler";

/// How much later than written an expiry counts, for clocks that differ.
const SKEW_MS: i64 = 2_000;

/// Part of the life after which a lease is renewed.
const RENEW_AFTER: u32 = 3;

/// How often one that waits looks during one life.
const LOOKS_PER_LIFE: u32 = 12;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Value {
    /// One acquisition of one process.
    nonce: String,
    /// Milliseconds since the epoch; 0 once given back.
    expires_at: i64,
    /// When this was written, for people: milliseconds since the epoch, by the holder's clock. 0 in values of earlier programs.
    #[serde(default)]
    written_at: i64,
}

/// What the lease says about whoever leads or led last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LastLook {
    /// When the lease was taken, prolonged or given back last: milliseconds since the epoch, by the holder's clock.
    pub at: i64,
    /// Until when it is held; none once it is given back.
    pub held_until: Option<i64>,
}

/// Reads the lease. `None`: nobody ever had it. For people: nothing may be decided by it.
///
/// # Errors
/// The store.
pub async fn last_look(store: &dyn RunStore) -> Result<Option<LastLook>, RunStoreError> {
    let cell = store.get(LEASE).await?;
    let value: Option<Value> = cell.and_then(|cell| serde_json::from_slice(&cell.value).ok());
    Ok(value.map(|value| LastLook {
        at: value.written_at,
        held_until: (value.expires_at > 0).then_some(value.expires_at),
    }))
}

/// A lease in a run store.
#[derive(Clone)]
pub struct StoreLease {
    store: Arc<dyn RunStore>,
    clock: Arc<dyn Clock>,
    nonce: String,
    life: Duration,
}

/// A lease that is held. Give it back with [`Held::release`]; otherwise others wait until it expires.
pub struct Held {
    lease: StoreLease,
    version: u64,
}

/// What trying to get the lease answered.
pub enum Tried {
    /// It is ours.
    Held(Held),
    /// Somebody else has it until then (milliseconds since the epoch, skew included).
    Taken(i64),
}

impl StoreLease {
    /// A lease of `life`. `nonce` must be random and new for each process start.
    #[must_use]
    pub fn new(store: Arc<dyn RunStore>, clock: Arc<dyn Clock>, nonce: String, life: Duration) -> Self {
        Self { store, clock, nonce, life }
    }

    /// Tries once.
    ///
    /// # Errors
    /// The store; [`RunStoreError::Busy`] also when it does not say what became of the lease.
    pub async fn try_acquire(&self) -> Result<Tried, RunStoreError> {
        loop {
            let cell = self.store.get(LEASE).await?;
            let version = cell.as_ref().map_or(0, |cell| cell.version);
            // An unreadable value is nobody's: the fence protects whoever wrote it.
            let value: Option<Value> = cell.and_then(|cell| serde_json::from_slice(&cell.value).ok());
            if let Some(value) = value
                && value.nonce != self.nonce
                && value.expires_at > 0
                && value.expires_at.saturating_add(SKEW_MS) > self.clock.now_ms()
            {
                return Ok(Tried::Taken(value.expires_at.saturating_add(SKEW_MS)));
            }
            if let Some(version) = self.put(version, self.expiry()).await? {
                return Ok(Tried::Held(Held { lease: self.clone(), version }));
            }
        }
    }

    fn soon(&self) -> i64 {
        let pause = i64::try_from((self.life / LOOKS_PER_LIFE).as_millis()).unwrap_or(i64::MAX).max(1);
        self.clock.now_ms().saturating_add(pause)
    }

    fn expiry(&self) -> i64 {
        self.clock.now_ms().saturating_add(i64::try_from(self.life.as_millis()).unwrap_or(i64::MAX)).max(1)
    }

    /// Writes the cell over `version`; the new version, or `None` when somebody was faster. An answer that stays unknown is an
    /// error: whoever asks decides whether it is worth another try.
    async fn put(&self, version: u64, expires_at: i64) -> Result<Option<u64>, RunStoreError> {
        let key = LEASE.to_owned();
        let value = Value { nonce: self.nonce.clone(), expires_at, written_at: self.clock.now_ms() };
        let id = format!("lease/{}/{}/{expires_at}", self.nonce, version + 1);
        let batch = Batch {
            id: id.clone(),
            guards: vec![Guard::seen(key.clone(), version)],
            writes: vec![Write::Put { key, value: serde_json::to_vec(&value).unwrap_or_default() }],
            appends: Vec::new(),
        };
        match self.store.commit(batch).await? {
            Commit::Committed => Ok(Some(version + 1)),
            Commit::GuardFailed { .. } => Ok(None),
            Commit::Unknown if self.store.was_committed(&id).await? => Ok(Some(version + 1)),
            Commit::Unknown => Err(RunStoreError::Busy(format!("what became of {id} is not known"))),
        }
    }
}

impl Held {
    /// Prolongs the lease; `false` when somebody took it over meanwhile. Always allowed to try, also after its expiry:
    /// the store decides.
    ///
    /// # Errors
    /// The store.
    pub async fn renew(&mut self) -> Result<bool, RunStoreError> {
        match self.lease.put(self.version, self.lease.expiry()).await? {
            Some(version) => {
                self.version = version;
                Ok(true)
            }
            None => Ok(false),
        }
    }

    /// Does `work` and prolongs the lease until it is done. When somebody took the lease over the work goes on all the same:
    /// what it may still do is decided by the fence.
    pub async fn during<T>(&mut self, work: impl Future<Output = T>) -> T {
        let pause = i64::try_from((self.lease.life / RENEW_AFTER).as_millis()).unwrap_or(i64::MAX).max(1);
        let mut work = std::pin::pin!(work);
        loop {
            let next = self.lease.clock.now_ms().saturating_add(pause);
            tokio::select! {
                biased;
                done = &mut work => return done,
                () = self.lease.clock.sleep_until(next) => {}
            }
            // To its end, so that the version is known; the work goes on meanwhile.
            let mut done = None;
            let renewed = {
                let mut renewal = std::pin::pin!(self.renew());
                loop {
                    tokio::select! {
                        renewed = &mut renewal => break renewed,
                        finished = &mut work, if done.is_none() => done = Some(finished),
                    }
                }
            };
            match (renewed, done) {
                (_, Some(done)) => return done,
                (Ok(true), None) => {}
                (Ok(false), None) => return work.await,
                (Err(error), None) => tracing::warn!(%error, "cannot renew the lease; it is tried again"),
            }
        }
    }

    /// Gives the lease back at once. One that was taken over is left alone.
    ///
    /// # Errors
    /// The store; the lease then ends by itself.
    pub async fn release(self) -> Result<(), RunStoreError> {
        self.lease.put(self.version, 0).await.map(drop)
    }
}

#[async_trait]
impl Leadership for StoreLease {
    async fn acquire(&self) -> Result<Box<dyn std::any::Any + Send + Sync>, LeadershipError> {
        let failed = |source: RunStoreError| LeadershipError {
            context: format!("take the lease in cell {LEASE}"),
            source: source.into(),
        };
        let held = loop {
            let again = match self.try_acquire().await {
                Ok(Tried::Held(held)) => break held,
                // Looked at sooner than it expires: it may be given back.
                Ok(Tried::Taken(until)) => until.min(self.soon()),
                Err(RunStoreError::Busy(why)) => {
                    tracing::warn!(%why, "cannot take the lease; it is tried again");
                    self.soon()
                }
                Err(error) => return Err(failed(error)),
            };
            self.clock.sleep_until(again).await;
        };
        let (stop, stopped) = tokio::sync::oneshot::channel();
        tokio::spawn(keep(held, stopped));
        Ok(Box::new(stop))
    }
}

/// Renews until the guard is dropped, then gives back.
async fn keep(mut held: Held, stopped: tokio::sync::oneshot::Receiver<()>) {
    // Dropped or sent: both are the end.
    let _ = held.during(stopped).await;
    if let Err(error) = held.release().await {
        tracing::warn!(%error, "cannot give the lease back; it ends by itself");
    }
}
