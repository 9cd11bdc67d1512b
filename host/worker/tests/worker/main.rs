//! The real worker program against staged envelopes.
#![expect(clippy::unwrap_used, reason = "test code")]

mod capture;
mod confinement;
mod harness;
mod lifecycle;
mod overlay;
mod secrecy;
