//! What the Lambdas `inbox` and `task-events` have in common: hear an event, ring the doorbell. And how every function of
//! the stack starts: [`start`].
//!
//! A doorbell is one message in the queue that wakes the tick. It says "look" and nothing else: the tick reads the state of
//! the world itself, so nothing of an event is believed, handed on or logged. Every invocation rings exactly once, also for
//! an event that is not understood. A ring too many costs a look, one that is lost costs up to a minute.
//!
//! A ring that fails is a failed invocation, so that Lambda repeats it: twice, then the event is kept in the queue of dead
//! letters.
//!
//! Deliberately not here: a second, delayed ring. The tick knows when to look again and rings for itself
//! (`docs/lambdas.md`).

mod bell;
mod event;
mod ring;
mod serve;

pub use bell::Bell;
pub use event::Heard;
pub use serve::{serve, start};
