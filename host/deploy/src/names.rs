//! Names that the stack, the Lambdas and the command line have in common, and a few of the template alone.

pub use pangolin_stack::names::*;

/// Days after which a start document goes.
pub(crate) const STARTS_DAYS: i32 = 1;

/// Days after which what a dispatch left goes. Everything that matters is in blobs and in the ledger by then.
pub(crate) const DISPATCH_DAYS: i32 = 14;
