//! The backend with the real worker, on the strict fakes of S3 and ECS. Tasks are local processes there.
//!
//! The public conformance suite drives its scripted worker through directories that host and worker share. A task shares
//! none, so its checks are here once more, by the same names, with the real worker and an agent that is a shell script.
#![expect(clippy::unwrap_used, reason = "helpers of tests may panic")]

mod end;
mod faults;
mod harness;
mod secrecy;
mod start;
