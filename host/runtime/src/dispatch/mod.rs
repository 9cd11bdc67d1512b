//! The `dispatch` executor: from a plan item to a worker and back.

mod blocks;
mod collect;
mod executor;
mod known;
mod pins;
mod prepare;
mod prompt;
mod stage;

pub use blocks::BlockPin;
pub use executor::{DispatchExecutor, DispatchParts};
pub use known::Known;
pub(crate) use pins::check_references;
pub use pins::{ItemPins, PINS_VERSION, Pins, RuntimeAdmission};
