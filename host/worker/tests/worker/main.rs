//! The real worker program against staged envelopes.
#![expect(clippy::unwrap_used, reason = "test code")]
#![expect(clippy::print_stderr, reason = "a test that cannot run here has to say so")]

mod capture;
mod confinement;
mod guest;
mod harness;
mod lifecycle;
mod overlay;
mod plugins;
mod secrecy;
