//! Composition: configuration and the only crate that names adapters.
//!
//! [`deployment::Deployment`] is what the command line and every other embedding work with. Nothing in here decides
//! about scheduling (`pangolin-core`) or about what is intact (`pangolin-audit`).
//!
//! Deliberately not here: argument parsing, printing, exit codes (`pangolin-cli`).

#[cfg(feature = "aws")]
mod anchoring;
#[cfg(feature = "aws")]
pub mod aws;
pub mod checks;
pub mod config;
pub mod deployment;
pub mod dispatch;
#[cfg(feature = "local")]
pub mod doctor;
pub mod git;
pub mod keys;
pub mod leadership;
pub mod patch;
pub mod patches;
mod patterns;
pub mod plugins;
pub mod registry;
pub mod secrets;
mod status;
pub mod views;
