//! The in-memory anchor passes the public suite, and the suite can fail: each deliberately broken anchor is rejected by the
//! check that is meant to see it.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use async_trait::async_trait;
use pangolin_audit::note::VerifierKey;
use pangolin_ports::{
    anchor::{Anchor, AnchorError, AnchorEvidence, Guarantee, Published, Standing, checkpoint_of},
    conformance::anchor::{AnchorPlace, suite},
    memory::MemoryAnchor,
};

struct Place(MemoryAnchor);

#[async_trait]
impl AnchorPlace for Place {
    async fn open(&self) -> Arc<dyn Anchor> {
        Arc::new(self.0.clone())
    }

    async fn tamper(&self, origin: &str, size: u64, note: &str) {
        self.0.tamper(origin, size, note);
    }

    fn guarantee(&self) -> Guarantee {
        Guarantee::Detect
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn conforms() {
    suite(&|| Box::new(Place(MemoryAnchor::default()))).await.assert_passed();
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    TakesForks,
    OverwritesWithTheSameRoot,
    SaysNothingOfOtherVersions,
    BelievesEverySignature,
    ClaimsMoreThanItHolds,
    TakesAnyText,
    ForgetsOnReopening,
    MixesLogs,
    ListsByText,
}

struct Broken {
    inner: MemoryAnchor,
    fault: Fault,
}

#[async_trait]
impl Anchor for Broken {
    fn id(&self) -> &str {
        "memory"
    }

    async fn publish(&self, note: &str) -> Result<Published, AnchorError> {
        let published = self.inner.publish(note).await;
        match (self.fault, &published) {
            (Fault::TakesForks, Err(AnchorError::Fork { locator, .. })) => {
                Ok(Published { locator: locator.clone(), created: false })
            }
            (Fault::OverwritesWithTheSameRoot, Ok(Published { locator, created: false })) => {
                let checkpoint = checkpoint_of(note)?;
                self.inner.tamper(&checkpoint.origin, checkpoint.size, note);
                Ok(Published { locator: locator.clone(), created: false })
            }
            (Fault::TakesAnyText, Err(AnchorError::BadNote(_))) => {
                Ok(Published { locator: "memory:".to_owned(), created: true })
            }
            _ => published,
        }
    }

    async fn sizes(&self, origin: &str, from: u64, limit: usize) -> Result<Vec<u64>, AnchorError> {
        let mut sizes = self.inner.sizes(origin, from, limit).await?;
        if self.fault == Fault::MixesLogs {
            sizes.extend(self.inner.sizes("pangolin.example/a/run/r-1", from, limit).await?);
        }
        if self.fault == Fault::ListsByText {
            sizes.sort_by_key(u64::to_string);
        }
        Ok(sizes)
    }

    async fn examine(
        &self,
        origin: &str,
        size: u64,
        keys: &[VerifierKey],
    ) -> Result<AnchorEvidence, AnchorError> {
        let mut evidence = self.inner.examine(origin, size, keys).await?;
        match self.fault {
            Fault::SaysNothingOfOtherVersions if evidence.note.is_some() => {
                let note = evidence.note.clone().unwrap_or_default();
                let alone = MemoryAnchor::default();
                alone.tamper(origin, size, &note);
                evidence = alone.examine(origin, size, keys).await?;
            }
            Fault::BelievesEverySignature if evidence.note.is_some() => {
                evidence.standing = Standing::Held;
                evidence.findings.clear();
            }
            Fault::ClaimsMoreThanItHolds => evidence.guarantee = Guarantee::ExternalImmutable,
            _ => {}
        }
        Ok(evidence)
    }
}

struct BrokenPlace {
    inner: MemoryAnchor,
    fault: Fault,
    counter: Arc<AtomicU64>,
}

#[async_trait]
impl AnchorPlace for BrokenPlace {
    async fn open(&self) -> Arc<dyn Anchor> {
        let opened = self.counter.fetch_add(1, Ordering::Relaxed);
        let forgets = self.fault == Fault::ForgetsOnReopening && opened > 0;
        let inner = if forgets { MemoryAnchor::default() } else { self.inner.clone() };
        Arc::new(Broken { inner, fault: self.fault })
    }

    async fn tamper(&self, origin: &str, size: u64, note: &str) {
        self.inner.tamper(origin, size, note);
    }

    fn guarantee(&self) -> Guarantee {
        Guarantee::Detect
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn broken_anchors_are_caught() {
    for (fault, check) in [
        (Fault::TakesForks, "a_fork_is_refused"),
        (Fault::OverwritesWithTheSameRoot, "publishing_again_changes_nothing"),
        (Fault::SaysNothingOfOtherVersions, "tampering_is_contested"),
        (Fault::BelievesEverySignature, "only_given_keys_count"),
        (Fault::ClaimsMoreThanItHolds, "what_is_published_is_held"),
        (Fault::TakesAnyText, "only_checkpoints_are_published"),
        (Fault::ForgetsOnReopening, "what_is_published_is_held"),
        (Fault::MixesLogs, "logs_are_apart"),
        (Fault::ListsByText, "sizes_come_in_order"),
    ] {
        let fresh = move || -> Box<dyn AnchorPlace> {
            Box::new(BrokenPlace { inner: MemoryAnchor::default(), fault, counter: Arc::default() })
        };
        let report = suite(&fresh).await;
        let failed: Vec<_> = report.violations.iter().map(|(check, _)| *check).collect();
        assert!(failed.contains(&check), "{fault:?} passed the check {check}; only {failed:?} failed");
    }
}
