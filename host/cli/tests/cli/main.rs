//! The real binary in a sealed environment: stdout, stderr and exit code.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, helpers too")]

#[cfg(feature = "aws")]
mod deploy;
mod deployment;
mod harness;
mod offline;
mod plugin_authors;
mod plugin_checks;
mod plugin_edges;
mod plugin_https;
mod plugins;
#[cfg(feature = "aws")]
mod remote;
mod replay;
