//! The conformance suite of plugins: what an author runs before others do.
//!
//! [`check`] works on the compiled component through `pangolin-plugin-host`, so it is the same for every language. A
//! check has a fixed name, says what it tried or what is wrong, and shows the bill where that helps. Patterns are
//! exercised in a [`Rehearsal`]: the real fold of the engine with outcomes from a script instead of workers. Recorded
//! cases ([`Fixture`]) give the suite something to work on and are checked themselves; [`explain`] shows one of them step
//! by step.
//!
//! Deliberately not here: scaffolds and builds (`pangolin-plugin-kit`), grants and approval
//! (`pangolin-plugin-authority`), and who prints (`pangolin-cli`).

mod adapter;
mod bill;
mod block;
mod check;
mod contract;
mod dice;
mod explain;
mod fixture;
mod mutate;
mod pattern;
mod rehearsal;
mod report;

pub use bill::{Cost, Used};
pub use check::{CheckError, Options, check, limits_of};
pub use explain::{ExplainError, Explained, Line, Part, explain};
pub use fixture::{
    AdapterExpect, AdapterFixture, BlockExpect, BlockFixture, Content, ExitFixture, Fixture, FixtureError,
    FixtureFile, HostAnswer, Outcome, PatternExpect, PatternFixture, ProgramAnswer, Step, TaskFixture,
    TranscriptFixture,
};
pub use pattern::{PatternSubject, When, check_pattern};
pub use rehearsal::{Planning, Rehearsal, RehearsalError};
pub use report::{Check, Report, Verdict};
