//! Faults and attacks against the real program: the real `pangolin`, real daemons, real workers, scripted agents.
//!
//! Every wait is for a condition, with a deadline. Deliberately not here: what the crates' own tests inject below the
//! command line (a store that fails at a chosen call, a backend that loses a worker).

mod attack;
mod bundle;
mod crash;
mod endings;
mod patches;
mod plans;
mod secrets;
mod storage;
mod support;
mod workers;
