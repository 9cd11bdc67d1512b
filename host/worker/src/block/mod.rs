//! Plugin blocks: components that third parties wrote, run here with what they were granted.
//!
//! The host compiled them; the worker has no compiler. It loads the staged native code only after comparing its digest
//! with the one in the envelope.

mod fetch;
mod run;
mod snapshot;
mod world;

pub(crate) use run::{Finished, PluginBlock, Plugins};
pub(crate) use snapshot::{Beginning, is_binary};
