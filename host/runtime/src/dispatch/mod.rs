//! The `dispatch` executor: from a plan item to a worker and back.

mod collect;
mod executor;
mod pins;
mod prepare;
mod prompt;
mod stage;

pub use executor::{DispatchExecutor, DispatchParts};
pub use pins::{ItemPins, Pins, RuntimeAdmission};
pub(crate) use pins::{chain as error_chain, check_references};
