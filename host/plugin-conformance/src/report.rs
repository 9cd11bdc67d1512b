//! What a suite found.

use pangolin_core::ids::Digest;
use pangolin_plugin_authority::Kind;
use serde::{Serialize, Serializer};

use crate::bill::Cost;

/// How a check ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// As it must be.
    Passed,
    /// Not as it must be.
    Failed,
    /// The plugin has nothing that this check is about, or the fixtures show nothing of it.
    NotApplicable,
}

/// One check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Check {
    /// Stable name in kebab-case; of a fixture `fixture:<its name>`.
    pub name: String,
    /// How it ended.
    pub verdict: Verdict,
    /// One sentence: what was tried, or what is wrong and what to do.
    pub detail: String,
    /// What the most expensive call of the check used, where that is of interest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bill: Option<Cost>,
}

/// All checks of one component, in the order of the suite.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// The component.
    pub digest: Digest,
    /// What it is, when its exports say so.
    #[serde(serialize_with = "word", skip_serializing_if = "Option::is_none")]
    pub kind: Option<Kind>,
    /// The checks.
    pub checks: Vec<Check>,
}

fn word<S: Serializer>(kind: &Option<Kind>, serializer: S) -> Result<S::Ok, S::Error> {
    kind.map(Kind::as_str).serialize(serializer)
}

/// What a check has to say: what was seen, or what is wrong.
pub(crate) type Found = Result<String, String>;

impl Report {
    pub(crate) const fn new(digest: Digest, kind: Option<Kind>) -> Self {
        Self { digest, kind, checks: Vec::new() }
    }

    /// Nothing failed.
    #[must_use]
    pub fn passed(&self) -> bool {
        self.checks.iter().all(|check| check.verdict != Verdict::Failed)
    }

    /// Names of the failed checks.
    pub fn failed(&self) -> impl Iterator<Item = &str> {
        self.checks.iter().filter(|check| check.verdict == Verdict::Failed).map(|check| check.name.as_str())
    }

    /// Adds a check.
    pub(crate) fn add(&mut self, name: &str, found: Found, bill: Option<Cost>) {
        let (verdict, detail) = match found {
            Ok(detail) => (Verdict::Passed, detail),
            Err(detail) => (Verdict::Failed, detail),
        };
        self.checks.push(Check { name: name.to_owned(), verdict, detail, bill });
    }

    /// Adds a check that has nothing to look at.
    pub(crate) fn skip(&mut self, name: &str, why: &str) {
        let (name, detail) = (name.to_owned(), why.to_owned());
        self.checks.push(Check { name, verdict: Verdict::NotApplicable, detail, bill: None });
    }
}
