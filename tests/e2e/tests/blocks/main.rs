//! Plugin blocks from approval to the sealed record: the real `pangolin`, real daemons, real workers, and a block that
//! does what its parameters say, good and bad things.
//!
//! Deliberately not here: what a single block may do in a worker (`host/worker/tests/worker/plugins.rs`) and what the
//! blocks that ship judge (`plugins/blocks`).

mod approval;
mod artifacts;
mod denials;
mod docker;
mod escapes;
mod failures;
mod growing;
mod secrets;
mod support;
