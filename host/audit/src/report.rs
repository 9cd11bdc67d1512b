//! What verification says: one report, as JSON for programs and as text for people.
//!
//! "n/a" is a third answer next to true and false: the check had nothing to look at. It never counts or looks like a
//! pass.

mod render;

use pangolin_core::{
    entry::RunOutcome,
    ids::{Digest, ItemId},
};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

pub use render::render_text;

/// Version of the report's JSON.
pub const REPORT_VERSION: u32 = 1;

/// The judgement in one word. Failed outranks unverifiable, that outranks incomplete.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Everything that can be checked offline holds, and the record is complete.
    Intact,
    /// Something contradicts itself, its hash or its signature.
    Failed,
    /// Nothing failed, but this program cannot judge a part (newer format, unknown entry kind or anchor).
    Unverifiable,
    /// Nothing failed, but the record is not finished (run not terminal or not sealed) or a required object is missing.
    Incomplete,
}

impl Verdict {
    /// Exit code of `pangolin verify` and `pangolin orch audit`: 0 intact, 1 failed, 3 unverifiable here,
    /// 4 incomplete. 2 is left to usage errors of the command line.
    #[must_use]
    pub const fn exit_code(self) -> u8 {
        match self {
            Self::Intact => 0,
            Self::Failed => 1,
            Self::Unverifiable => 3,
            Self::Incomplete => 4,
        }
    }

    /// The word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Intact => "intact",
            Self::Failed => "failed",
            Self::Unverifiable => "unverifiable",
            Self::Incomplete => "incomplete",
        }
    }
}

/// How strong the record is against its own operator. Derived from what was checked, only for intact bundles.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Claim {
    /// Alterations by anyone without the deployment's key are detected.
    TamperDetecting,
    /// Also alterations by the operator: the root is held immutably elsewhere.
    TamperEvident,
}

impl Claim {
    /// The text.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::TamperDetecting => "tamper-detecting",
            Self::TamperEvident => "tamper-evident",
        }
    }
}

/// Outcome of one check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// Holds. JSON `true`.
    Pass,
    /// Does not hold. JSON `false`.
    Fail,
    /// Had nothing to look at, or could not look. JSON `"n/a"`.
    NotApplicable,
}

impl Serialize for Status {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Pass => serializer.serialize_bool(true),
            Self::Fail => serializer.serialize_bool(false),
            Self::NotApplicable => serializer.serialize_str("n/a"),
        }
    }
}

impl<'de> Deserialize<'de> for Status {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Form {
            Bool(bool),
            Text(String),
        }
        match Form::deserialize(deserializer)? {
            Form::Bool(true) => Ok(Self::Pass),
            Form::Bool(false) => Ok(Self::Fail),
            Form::Text(text) if text == "n/a" => Ok(Self::NotApplicable),
            Form::Text(text) => {
                Err(serde::de::Error::custom(format!("{text:?} is not true, false or \"n/a\"")))
            }
        }
    }
}

/// One check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// Outcome.
    pub ok: Status,
    /// One sentence for people.
    pub detail: String,
}

impl Check {
    pub(crate) fn pass(detail: impl Into<String>) -> Self {
        Self { ok: Status::Pass, detail: detail.into() }
    }

    /// For reports of a time without this check.
    fn absent() -> Self {
        Self::not_applicable("not checked by the program that wrote this report")
    }

    pub(crate) fn not_applicable(detail: impl Into<String>) -> Self {
        Self { ok: Status::NotApplicable, detail: detail.into() }
    }
}

/// The checks, in the order in which a failure is looked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checks {
    /// The file is a bundle: canonical JSON, only known members, and its `digest` covers every byte.
    pub format: Check,
    /// Every entry decodes, is of this run, has its position and names the entry before.
    pub chain: Check,
    /// The RFC 6962 root over the entries is the one in the run's checkpoint.
    pub root: Check,
    /// The run's checkpoint is signed by the deployment's key.
    pub signature: Check,
    /// The anchor repeats the sealed root.
    pub anchor: Check,
    /// Admission and seal are in the signed deployment log and agree with the entries.
    pub log: Check,
    /// Every attempt's manifest is there and is about that attempt.
    pub manifest: Check,
    /// Every input of every attempt is a sealed product of an item that was done before.
    pub handoff: Check,
    /// The entries are a legal history: the scheduler's own rules accept each of them.
    pub state: Check,
    /// Every recorded step of a pattern has the seed of the run and saw what the entries before it say.
    #[serde(default = "Check::absent")]
    pub steps: Check,
    /// Every recorded step has the decisions that its record names, and may decide so.
    #[serde(default = "Check::absent")]
    pub decisions: Check,
    /// The plan was amended and the run grew exactly as its pattern decided.
    #[serde(default = "Check::absent")]
    pub growth: Check,
    /// Objects have the bytes their digests promise, and all are referenced.
    pub objects: Check,
    /// Trusted time. Times in entries are asserted by the orchestrator, so this is never a pass yet.
    pub time: Check,
}

impl Checks {
    /// Names and checks in display order.
    #[must_use]
    pub fn rows(&self) -> [(&'static str, &Check); 14] {
        [
            ("format", &self.format),
            ("chain", &self.chain),
            ("root", &self.root),
            ("signature", &self.signature),
            ("anchor", &self.anchor),
            ("log", &self.log),
            ("manifest", &self.manifest),
            ("handoff", &self.handoff),
            ("state", &self.state),
            ("steps", &self.steps),
            ("decisions", &self.decisions),
            ("growth", &self.growth),
            ("objects", &self.objects),
            ("time", &self.time),
        ]
    }
}

/// The first thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// Name of the check.
    pub check: String,
    /// Where: `entry seq 3`, `object sha256:…`, `checkpoint`, `log seal proof`, `byte 812`, …
    pub place: String,
    /// What is wrong there.
    pub detail: String,
}

/// The key that the signatures were checked with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyUsed {
    /// The key as a C2SP verifier key.
    pub vkey: String,
    /// The verifier was given this key from outside the bundle. When false, the bundle vouches for itself: compare
    /// the key with the deployment's published one.
    pub pinned: bool,
}

/// One line of the ledger for display.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LedgerLine {
    /// Milliseconds since the Unix epoch.
    pub at: i64,
    /// Kind, also of unknown kinds.
    pub kind: String,
    /// The item it is about.
    pub item: Option<ItemId>,
    /// Leaf hash.
    pub leaf: Digest,
}

/// The verification report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// [`REPORT_VERSION`].
    pub schema_version: u32,
    /// The run, when the file could be read that far.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub run_id: Option<String>,
    /// The judgement.
    pub verdict: Verdict,
    /// Whether `verdict` is `intact`.
    pub intact: bool,
    /// Where the root is anchored; absent without an anchor.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub anchor_id: Option<String>,
    /// What that anchor guarantees.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub guarantee: Option<String>,
    /// Absent unless intact.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub claim: Option<Claim>,
    /// Always `asserted`: no outside clock vouches for the times.
    pub time_tier: String,
    /// The key used, when the bundle has a readable one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub key: Option<KeyUsed>,
    /// First failure, when one failed.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub failure: Option<Failure>,
    /// What this program could not judge.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub unverifiable: Vec<String>,
    /// What is missing to a complete record.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub incomplete: Vec<String>,
    /// Entries of kinds that this program does not know.
    pub unknown_kinds: u64,
    /// Entries in the bundle.
    pub entries: u64,
    /// How the run ended, as the last entry says.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub outcome: Option<RunOutcome>,
    /// The checks.
    pub checks: Checks,
    /// The entries for display; not part of the JSON.
    #[serde(skip)]
    pub ledger: Vec<LedgerLine>,
}

impl Report {
    /// The report as indented JSON with a final newline.
    #[must_use]
    pub fn to_json(&self) -> String {
        // A report holds only text keys and finite numbers, so that this cannot fail.
        let mut text = serde_json::to_string_pretty(self).unwrap_or_default();
        text.push('\n');
        text
    }
}
