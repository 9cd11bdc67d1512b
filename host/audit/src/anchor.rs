//! What somebody saw who asked an anchor about a checkpoint of the deployment log.
//!
//! Asking is IO and lives elsewhere (`pangolin_ports::anchor`). Here is the form of the answer, which travels in a bundle,
//! and what follows from it.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{checkpoint::Checkpoint, note::VerifierKey, report::Claim};

/// Version of the JSON of [`AnchorEvidence`].
pub const EVIDENCE_VERSION: u32 = 1;

/// How strong an anchor is against the operator of the deployment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Guarantee {
    /// Alterations by anyone without the deployment's key are detected.
    Detect,
    /// What is held cannot be altered or removed by anybody, the operator included, before a date.
    ExternalImmutable,
}

impl Guarantee {
    /// The word in reports and bundles.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Detect => "detect",
            Self::ExternalImmutable => "external-immutable",
        }
    }
}

impl fmt::Display for Guarantee {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What an anchor says about one checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Standing {
    /// It is there, once, with the signature of a given key, and everything that the guarantee needs was seen.
    Held,
    /// It is there, but something that the guarantee needs was not seen: see the findings.
    Weak,
    /// There is more than one version, a trace of a deletion, another checkpoint, or a text without a good signature.
    /// Somebody tampered, or the log was forked.
    Contested,
    /// There is nothing.
    Absent,
}

/// How long something is held, as the anchor itself says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Retention {
    /// The anchor's word for it, as `COMPLIANCE`.
    pub mode: String,
    /// Until when, in milliseconds since the Unix epoch.
    pub until_ms: i64,
}

/// The result of asking an anchor about a checkpoint: what was seen, when, and what that amounts to.
///
/// It is an observation, not a proof: a stranger believes it as far as the one who looked, and can look again. The words
/// come from what was checked, never from configuration.
// Members are declared in canonical order: bundles are canonical JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct AnchorEvidence {
    /// Which anchor, as `s3:<bucket>`.
    pub anchor_id: String,
    /// When this was looked at by the looker's clock, in milliseconds since the Unix epoch.
    pub checked_at_ms: i64,
    /// What speaks against a stronger judgement, in words. Empty when it is [`Standing::Held`].
    pub findings: Vec<String>,
    /// What was seen to hold: `external-immutable` only with [`Standing::Held`].
    pub guarantee: Guarantee,
    /// Names the place for people: `s3://`, or the endpoint of another S3, with bucket and key. See [`AnchorEvidence::place`].
    pub locator: String,
    /// The signed note that is held; absent when there is none.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub note: Option<String>,
    /// The log.
    pub origin: String,
    /// How long it is held.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub retention: Option<Retention>,
    /// [`EVIDENCE_VERSION`].
    pub schema_version: u32,
    /// Number of leaves.
    pub size: u64,
    /// The judgement.
    pub standing: Standing,
    /// When the anchor took it by its own clock, in milliseconds since the Unix epoch.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub taken_at_ms: Option<i64>,
    /// The version that was looked at, where the anchor has versions.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub version: Option<String>,
}

impl AnchorEvidence {
    /// Where the anchor keeps its logs, as `s3://bucket` or `s3://bucket/prefix`: the part of the locator before
    /// `log/<origin>/checkpoint/<size>`. `None` when the locator has another form.
    #[must_use]
    pub fn place(&self) -> Option<&str> {
        let (logs, _) = self.locator.rsplit_once("/checkpoint/")?;
        let (logs, _) = logs.rsplit_once('/')?;
        Some(logs.strip_suffix("log")?.trim_end_matches('/'))
    }

    /// The claim that a bundle may make whose log proofs lead to this checkpoint, provided that everything else in it is
    /// intact: `tamper-evident` only when an external and immutable anchor holds it.
    #[must_use]
    pub fn claim(&self) -> Claim {
        match (self.standing, self.guarantee) {
            (Standing::Held, Guarantee::ExternalImmutable) => Claim::TamperEvident,
            _ => Claim::TamperDetecting,
        }
    }

    /// Whether the evidence is about `tree`, carries a note of it that `key` signed, and does not contradict itself.
    ///
    /// # Errors
    /// What does not fit, in words.
    pub fn check(&self, tree: &Checkpoint, key: &VerifierKey) -> Result<(), String> {
        if (self.origin.as_str(), self.size) != (tree.origin.as_str(), tree.size) {
            return Err(format!(
                "it is about {:?} with {} leaves, the bundle's log is {:?} with {}",
                self.origin, self.size, tree.origin, tree.size
            ));
        }
        if self.standing != Standing::Held {
            return match self.guarantee {
                Guarantee::Detect => Ok(()),
                stronger => Err(format!("it is not held and yet {stronger}")),
            };
        }
        let note = self.note.as_deref().ok_or("it is held, but the note is missing")?;
        let held = Checkpoint::open(note, &tree.origin, std::slice::from_ref(key))
            .map_err(|error| format!("the note held: {error}"))?;
        if held != *tree {
            return Err("the anchor holds another root than the bundle's log has".to_owned());
        }
        if self.guarantee == Guarantee::ExternalImmutable {
            let lasts = self.retention.as_ref().is_some_and(|lock| lock.until_ms > self.checked_at_ms);
            if !lasts {
                return Err("it is called immutable without a lock that lasts".to_owned());
            }
        }
        Ok(())
    }
}
