//! In-memory adapters: for tests, for simulation, and as the model that other adapters are compared with.
//! Nothing survives the process.

mod anchor;
mod blob_store;
mod clock;
mod inbox;
mod run_store;

pub use anchor::MemoryAnchor;
pub use blob_store::MemoryBlobStore;
pub use clock::{ManualClock, SystemClock};
pub use inbox::MemoryInbox;
pub use run_store::MemoryRunStore;

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Locks even after a panic elsewhere: every critical section here leaves the state whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
