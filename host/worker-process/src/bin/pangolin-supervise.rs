//! The supervisor as a program of its own, for tests and for embedders without a CLI.

use std::process::ExitCode;

fn main() -> ExitCode {
    pangolin_worker_process::supervise_main(std::env::args_os().skip(1))
}
