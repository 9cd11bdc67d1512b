//! What one report adds up to.

use std::collections::BTreeMap;

use pangolin_block_sdk::clip;
use serde::Serialize;

/// A name or message of evidence.
const TEXT_BYTES: usize = 200;

/// Problems of one report that are kept.
const MAX_PROBLEMS: usize = 5;

/// Numbers of tests.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Counts {
    pub(crate) passed: u64,
    pub(crate) failed: u64,
    pub(crate) skipped: u64,
    /// Passed after a failure; part of `passed`.
    pub(crate) flaky: u64,
}

impl Counts {
    pub(crate) fn add(&mut self, other: &Self) {
        for (sum, part) in [
            (&mut self.passed, other.passed),
            (&mut self.failed, other.failed),
            (&mut self.skipped, other.skipped),
            (&mut self.flaky, other.flaky),
        ] {
            *sum = sum.saturating_add(part);
        }
    }
}

/// Collects one report.
#[derive(Debug)]
pub(crate) struct Tally {
    counts: Counts,
    limit: usize,
    failing: BTreeMap<String, String>,
    problems: Vec<String>,
}

impl Tally {
    pub(crate) const fn new(limit: usize) -> Self {
        Self {
            counts: Counts { passed: 0, failed: 0, skipped: 0, flaky: 0 },
            limit,
            failing: BTreeMap::new(),
            problems: Vec::new(),
        }
    }

    pub(crate) fn add(&mut self, counts: &Counts) {
        self.counts.add(counts);
    }

    /// Names a failed test; its number is counted apart.
    pub(crate) fn name_failure(&mut self, name: &str, message: &str) {
        if self.failing.len() < self.limit {
            let line = message.split_whitespace().collect::<Vec<_>>().join(" ");
            let name = clip(name.trim(), TEXT_BYTES).into_owned();
            let kept = self.failing.entry(name).or_default();
            if kept.is_empty() {
                *kept = clip(&line, TEXT_BYTES).into_owned();
            }
        }
    }

    /// The report is not whole or contradicts itself.
    pub(crate) fn problem(&mut self, problem: impl Into<String>) {
        if self.problems.len() < MAX_PROBLEMS {
            self.problems.push(problem.into());
        }
    }

    pub(crate) const fn counts(&self) -> Counts {
        self.counts
    }

    pub(crate) const fn failing(&self) -> &BTreeMap<String, String> {
        &self.failing
    }

    pub(crate) fn problems(&self) -> &[String] {
        &self.problems
    }
}
