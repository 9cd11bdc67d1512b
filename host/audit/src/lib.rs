//! Pure audit maths: canonical JSON, hash chain, Merkle tree, checkpoints, bundle, verification.
//!
//! Bottom up: [`canon`] fixes the bytes of a ledger entry, [`merkle`] hashes them (RFC 6962), [`chain`] strings the
//! entries of one run together, [`note`] and [`checkpoint`] sign a tree (C2SP signed-note and tlog-checkpoint),
//! [`log`] is the deployment log above the runs, [`bundle`] is the one file an auditor gets and [`verify`] judges it.
//!
//! Deliberately not in this crate: IO, clocks and randomness (key seeds come in as bytes, times as integers), stores,
//! key files, anchors that live outside the bundle, and decision replay. It compiles to wasm32-unknown-unknown, so
//! that the verifier in a browser is the same code as the one in the command line.

pub mod anchor;
pub mod bundle;
pub mod canon;
pub mod chain;
pub mod checkpoint;
pub mod decision;
pub mod log;
pub mod merkle;
pub mod note;
pub mod rebuild;
pub mod refs;
pub mod report;
pub mod verify;
