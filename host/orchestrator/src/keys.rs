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

/// Prefix of the cells that mark runs which are not sealed yet. [`active_run`] says which.
///
/// A cell that was deleted leaves a trace in every store, because its version goes on, and a scan reads it. So the cells are
/// numbered and used again: there are never more than runs were active at once.
pub const ACTIVE_PREFIX: &str = "active/";

/// Before the number of such a cell. No id begins with it.
const ACTIVE_NUMBER: char = '#';

/// Prefix of run summaries.
pub const SUMMARY_PREFIX: &str = "summary/";

/// Stream of a run.
#[must_use]
pub fn run_stream(run: &RunId) -> String {
    format!("{RUN_PREFIX}{run}")
}

/// A cell that marks a run which is not sealed yet; its value is the run's id.
#[must_use]
pub fn active(number: u64) -> String {
    format!("{ACTIVE_PREFIX}{ACTIVE_NUMBER}{number}")
}

/// The number of a cell of [`active`].
#[must_use]
pub fn active_number(key: &str) -> Option<u64> {
    key.strip_prefix(ACTIVE_PREFIX)?.strip_prefix(ACTIVE_NUMBER)?.parse().ok()
}

/// The run that a cell below [`ACTIVE_PREFIX`] marks. Cells of earlier programs are named after their run and empty.
#[must_use]
pub fn active_run(key: &str, value: &[u8]) -> Option<RunId> {
    let id = match active_number(key) {
        Some(_) => std::str::from_utf8(value).ok()?,
        None => key.strip_prefix(ACTIVE_PREFIX)?,
    };
    RunId::new(id).ok()
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
