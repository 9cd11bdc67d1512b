//! placeholder
pub(crate) mod graph;
