//! Every example as its README says: `cargo xtask example <name>`, with real workers. What is checked is what the
//! example leaves behind: graph, products, evidence, record, drawing.

#![expect(clippy::unwrap_used, reason = "test helpers")]

mod appendable_stream;
mod data_mapreduce;
mod handoff_dag;
mod pattern_dogfood;
mod pattern_quorum;
mod ran;
mod third_party_plugin;
