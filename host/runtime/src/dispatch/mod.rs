//! The `dispatch` executor: from a plan item to a worker and back.

mod blocks;
mod collect;
mod executor;
mod known;
mod pins;
mod prepare;
mod prompt;
mod stage;

pub use executor::{DispatchExecutor, DispatchParts};
pub use pins::RuntimeAdmission;
pub(crate) use pins::{check_admissible, check_references};
