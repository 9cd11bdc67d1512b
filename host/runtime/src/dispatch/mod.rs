//! The `dispatch` executor: from a plan item to a worker and back.

mod blocks;
mod collect;
mod executor;
mod known;
mod pins;
mod prepare;
mod prompt;
mod rehearse;
mod result_keys;
mod stage;
mod watched;
mod workspaces;

pub(crate) use blocks::load_block;
pub use executor::{DispatchExecutor, DispatchParts, Patience};
pub use pins::RuntimeAdmission;
pub(crate) use pins::{check_admissible, check_references};
pub(crate) use rehearse::of_subagent;
pub use result_keys::ResultKeys;
pub use workspaces::Workspaces;
