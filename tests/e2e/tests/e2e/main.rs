//! Whole commands against a real daemon and real workers. One module per part of the story.

mod control;
mod faults;
mod handoff;
mod senders;
mod terminal;
mod tutorial;
