//! Names of streams and cells in the run store.

use pangolin_core::ids::RunId;

/// Stream of the deployment log.
pub const LOG: &str = "log";

/// Where the tree of the deployment log ends.
pub const LOG_FRONTIER: &str = "log/frontier";

/// Prefix of run streams.
pub const RUN_PREFIX: &str = "run/";

/// Cell that names the present leader; its version is guarded by every commit of the driver.
pub const FENCE: &str = "lease/fence";

/// Prefix of the cells that mark runs which are not sealed yet.
pub const ACTIVE_PREFIX: &str = "active/";

/// Prefix of run summaries.
pub const SUMMARY_PREFIX: &str = "summary/";

/// Stream of a run.
#[must_use]
pub fn run_stream(run: &RunId) -> String {
    format!("{RUN_PREFIX}{run}")
}

/// Marks a run that is not sealed yet.
#[must_use]
pub fn active(run: &RunId) -> String {
    format!("{ACTIVE_PREFIX}{run}")
}

/// Summary of a run ([`crate::ledger::Summary`]).
#[must_use]
pub fn summary(run: &RunId) -> String {
    format!("{SUMMARY_PREFIX}{run}")
}

/// Admission receipt of a run (`pangolin_audit::log::Receipt`).
#[must_use]
pub fn receipt(run: &RunId) -> String {
    format!("receipt/{run}")
}

/// Local anchor record of a sealed run ([`crate::ledger::SealRecord`]).
#[must_use]
pub fn seal(run: &RunId) -> String {
    format!("seal/{run}")
}
