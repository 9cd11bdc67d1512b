//! `pangolin-emulate <project> <environment file>`: deploys a project into a stack of emulators and keeps it running until
//! SIGTERM or Ctrl-C. The file gets what a user's shell needs, as `export` lines. Started by `cargo xtask emulate up`.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program for people")]

use std::{fmt::Write as _, path::PathBuf, process::ExitCode, time::Duration};

use pangolin_aws_e2e::{EmulatedStack, Options};
use tokio::signal::unix::{SignalKind, signal};

/// What stands for a minute of the schedule.
const MINUTE: Duration = Duration::from_secs(2);

#[tokio::main]
async fn main() -> ExitCode {
    let args: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    let [project, file] = args.as_slice() else {
        eprintln!("usage: pangolin-emulate <directory with pangolin.toml> <file for the environment>");
        return ExitCode::from(2);
    };
    let exe = std::env::current_exe().expect("the path of this program");
    let programs = exe.parent().expect("a directory");
    let mut ended = signal(SignalKind::terminate()).expect("a signal handler");
    let Some(stack) = EmulatedStack::deploy(programs, project, Options::default()).await else {
        return ExitCode::FAILURE;
    };
    let mut text = String::new();
    for (name, value) in stack.environment() {
        let _ = writeln!(text, "export {name}='{value}'");
    }
    if let Err(error) = std::fs::write(file, text) {
        eprintln!("cannot write {}: {error}", file.display());
        return ExitCode::FAILURE;
    }
    println!("the stack is up; load {} into your shell", file.display());
    loop {
        tokio::select! {
            () = tokio::time::sleep(MINUTE) => {}
            _ = ended.recv() => break,
            _ = tokio::signal::ctrl_c() => break,
        }
        if let Err(error) = stack.lambda.tick_clock().await {
            eprintln!("the schedule cannot start a look: {error}");
        }
    }
    let violations = stack.lambda.violations();
    if violations.is_empty() {
        return ExitCode::SUCCESS;
    }
    eprintln!("functions broke the rules of Lambda: {}", violations.join("; "));
    ExitCode::FAILURE
}
