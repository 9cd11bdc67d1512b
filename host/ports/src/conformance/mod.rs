//! Public conformance suites: what every adapter of a port must do, for ours and anybody else's.
//!
//! Each suite takes a function that makes a fresh *place* (a database file, a directory, a bucket). The suite opens
//! adapters on places, also a second time on the same place, which must show everything that was acknowledged.
//! A suite runs all of its checks and returns a [`Report`]; tests call [`Report::assert_passed`].
//!
//! Deliberately not here: faults below an adapter (full disk, killed process); only the adapter's own tests know
//! how to cause them.

pub mod anchor;
pub mod blob_store;
pub mod inbox;
pub mod run_store;

use std::{fmt, time::Duration};

/// A check that takes longer than this has hung.
const CHECK_DEADLINE: Duration = Duration::from_secs(300);

/// What an adapter did against its port's specification.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation(String);

impl Violation {
    /// A violation in words.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

// An unexpected error is a violation too. (`Violation` is no `Error` itself, or this would overlap with `From<T> for T`.)
impl<E: std::error::Error> From<E> for Violation {
    fn from(error: E) -> Self {
        let mut text = format!("unexpected error: {error}");
        let mut source = error.source();
        while let Some(cause) = source {
            text.push_str(&format!(": {cause}"));
            source = cause.source();
        }
        Self(text)
    }
}

/// Result of one check.
pub type Outcome = Result<(), Violation>;

/// Result of a suite.
#[derive(Debug, Default)]
pub struct Report {
    /// Names of the checks that passed.
    pub passed: Vec<&'static str>,
    /// Failed checks with what was observed.
    pub violations: Vec<(&'static str, Violation)>,
}

impl Report {
    async fn run(&mut self, name: &'static str, check: impl Future<Output = Outcome>) {
        let outcome = tokio::time::timeout(CHECK_DEADLINE, check).await;
        match outcome.unwrap_or_else(|_| Err(Violation::new("did not finish"))) {
            Ok(()) => self.passed.push(name),
            Err(violation) => self.violations.push((name, violation)),
        }
    }

    /// Panics with every violation when there is one.
    ///
    /// # Panics
    /// That is its purpose.
    pub fn assert_passed(&self) {
        let lines: Vec<_> = self.violations.iter().map(|(name, text)| format!("  {name}: {text}")).collect();
        assert!(lines.is_empty(), "the adapter breaks its port:\n{}", lines.join("\n"));
        assert!(!self.passed.is_empty(), "the suite ran no check");
    }
}

macro_rules! ensure {
    ($condition:expr, $($message:tt)+) => {
        if !$condition {
            return Err($crate::conformance::Violation::new(format!($($message)+)));
        }
    };
}
use ensure;

/// Small seeded generator (splitmix64), so that a failing list of operations can be run again.
struct Rng(u64);

impl Rng {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `end`.
    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % (end as u64)).unwrap_or(0)
    }

    fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len())]
    }
}
