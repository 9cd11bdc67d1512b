//! [`MemoryAnchor`].

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use async_trait::async_trait;
use pangolin_audit::{checkpoint::Checkpoint, note::VerifierKey};

use super::{SystemClock, lock};
use crate::{
    anchor::{
        Anchor, AnchorError, AnchorEvidence, EVIDENCE_VERSION, Guarantee, Published, Standing, checkpoint_of,
    },
    clock::Clock,
};

/// Notes by log and size, and when each was taken.
type Held = BTreeMap<(String, u64), Vec<(String, i64)>>;

/// An anchor in memory. It guarantees no more than detection: whoever has the process has the anchor.
#[derive(Clone)]
pub struct MemoryAnchor {
    held: Arc<Mutex<Held>>,
    clock: Arc<dyn Clock>,
}

impl Default for MemoryAnchor {
    fn default() -> Self {
        Self::new(Arc::new(SystemClock))
    }
}

impl MemoryAnchor {
    /// An empty anchor.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { held: Arc::default(), clock }
    }

    /// Adds a note behind everybody's back, as a second version. For tests of what happens then.
    pub fn tamper(&self, origin: &str, size: u64, note: &str) {
        let now_ms = self.clock.now_ms();
        lock(&self.held).entry((origin.to_owned(), size)).or_default().push((note.to_owned(), now_ms));
    }

    fn locator(origin: &str, size: u64) -> String {
        format!("memory:{origin}/{size}")
    }
}

#[async_trait]
impl Anchor for MemoryAnchor {
    fn id(&self) -> &str {
        "memory"
    }

    async fn publish(&self, note: &str) -> Result<Published, AnchorError> {
        let checkpoint = checkpoint_of(note)?;
        let Checkpoint { origin, size, .. } = &checkpoint;
        let locator = Self::locator(origin, *size);
        let mut held = lock(&self.held);
        let versions = held.entry((origin.clone(), *size)).or_default();
        let Some((first, _)) = versions.first() else {
            versions.push((note.to_owned(), self.clock.now_ms()));
            return Ok(Published { locator, created: true });
        };
        if checkpoint_of(first).ok().as_ref() == Some(&checkpoint) {
            return Ok(Published { locator, created: false });
        }
        let held = first.clone();
        Err(AnchorError::Fork { origin: origin.clone(), size: *size, locator, held })
    }

    async fn sizes(&self, origin: &str, from: u64, limit: usize) -> Result<Vec<u64>, AnchorError> {
        let held = lock(&self.held);
        let range = held.range((origin.to_owned(), from)..=(origin.to_owned(), u64::MAX));
        Ok(range.map(|((_, size), _)| *size).take(limit).collect())
    }

    async fn examine(
        &self,
        origin: &str,
        size: u64,
        keys: &[VerifierKey],
    ) -> Result<AnchorEvidence, AnchorError> {
        let versions = lock(&self.held).get(&(origin.to_owned(), size)).cloned().unwrap_or_default();
        let mut findings = Vec::new();
        let standing = match versions.as_slice() {
            [] => Standing::Absent,
            [(note, _)] => match Checkpoint::open(note, origin, keys) {
                Ok(found) if found.size == size => Standing::Held,
                Ok(found) => {
                    findings.push(format!("the checkpoint held is of {} leaves", found.size));
                    Standing::Contested
                }
                Err(error) => {
                    findings.push(error.to_string());
                    Standing::Contested
                }
            },
            versions => {
                findings.push(format!("{} versions are held", versions.len()));
                Standing::Contested
            }
        };
        let first = versions.first();
        Ok(AnchorEvidence {
            schema_version: EVIDENCE_VERSION,
            anchor_id: self.id().to_owned(),
            guarantee: Guarantee::Detect,
            standing,
            origin: origin.to_owned(),
            size,
            locator: Self::locator(origin, size),
            note: first.map(|(note, _)| note.clone()),
            version: None,
            taken_at_ms: first.map(|(_, at)| *at),
            retention: None,
            checked_at_ms: self.clock.now_ms(),
            findings,
        })
    }
}
