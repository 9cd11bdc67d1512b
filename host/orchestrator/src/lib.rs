//! The driver: load, plan, commit, act.
//!
//! One driver at a time leads a deployment ([`leadership`]); its fence cell is guarded by every commit, so a
//! deposed driver can write nothing. A turn of the loop ([`driver`]) takes what arrived, lets the pure scheduler
//! plan, commits all resulting entries in one batch ([`ledger`]) and only then performs the effects
//! ([`executor`]). Recovery is the same path: load, fold, plan; a running item is handed to the executor again,
//! which is idempotent. Patterns ([`patterns`]) are asked after something ended; their answers are recorded, never asked
//! for again.
//!
//! Deliberately not here: any technology, and any decision (those are in `pangolin-core`).

pub mod admission;
pub mod causes;
pub mod driver;
pub mod executor;
pub mod export;
pub mod keys;
pub mod leadership;
pub mod lease;
pub mod ledger;
pub mod load;
pub mod message;
pub mod patterns;
pub mod senders;
