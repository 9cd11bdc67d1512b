//! The real Claude Code in a real worker under the real daemon, against a scripted model on loopback.
//!
//! `PANGOLIN_TEST_CLAUDE` names the program (`cargo xtask test` installs the pinned version and sets it). Without it
//! every test here says `SKIPPED` on stderr. Deliberately not here: what the adapter makes of recorded transcripts,
//! which `host/plugin-host` tests without the program.

mod edit;
mod provider;
mod refused;
mod secrets;
mod session;
mod stopped;
