//! `pangolin-emulate stack|s3 <project> <environment file>`: emulators for a project, until SIGTERM or Ctrl-C. `stack` deploys
//! the project into a whole stack; `s3` has the buckets that its `[s3]` and `[anchor]` name. The file gets what a user's
//! shell needs, as `export` lines. Started by `cargo xtask emulate up` and by examples.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program for people")]

use std::{
    fmt::Write as _,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use pangolin_aws_e2e::{EmulatedStack, Options};
use pangolin_runtime::config::Config;
use pangolin_s3_fake::S3Fake;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// What stands for a minute of the schedule.
const MINUTE: Duration = Duration::from_secs(2);

#[tokio::main]
async fn main() -> ExitCode {
    let args: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    let [kind, project, file] = args.as_slice() else {
        eprintln!(
            "usage: pangolin-emulate stack|s3 <directory with pangolin.toml> <file for the environment>"
        );
        return ExitCode::from(2);
    };
    let ended = match (kind.to_str(), Stop::listen()) {
        (_, Err(error)) => Err(error.to_string()),
        (Some("stack"), Ok(stop)) => stack(project, file, stop).await,
        (Some("s3"), Ok(stop)) => s3(project, file, stop).await,
        _ => Err(format!("do not know {}; there are stack and s3", kind.display())),
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("pangolin-emulate: {problem}");
            ExitCode::FAILURE
        }
    }
}

async fn stack(project: &Path, file: &Path, mut stop: Stop) -> Result<(), String> {
    let exe = std::env::current_exe().map_err(|error| error.to_string())?;
    let programs = exe.parent().ok_or("this program has no directory")?;
    let deployed = tokio::select! {
        deployed = EmulatedStack::deploy(programs, project, Options::default()) => deployed,
        () = stop.asked() => return Ok(()),
    };
    let Some(stack) = deployed else {
        return Err("an emulator is missing".to_owned());
    };
    announce(&stack.environment(), file)?;
    loop {
        tokio::select! {
            () = tokio::time::sleep(MINUTE) => {}
            () = stop.asked() => break,
        }
        stack
            .lambda
            .tick_clock()
            .await
            .map_err(|error| format!("the schedule cannot start a look: {error}"))?;
    }
    let violations = stack.lambda.violations();
    if violations.is_empty() {
        return Ok(());
    }
    Err(format!("functions broke the rules of Lambda: {}", violations.join("; ")))
}

async fn s3(project: &Path, file: &Path, mut stop: Stop) -> Result<(), String> {
    let config = Config::find(project).map_err(|error| error.to_string())?;
    let s3 = S3Fake::start().await.map_err(|error| error.to_string())?;
    if let Some(bucket) = config.s3.and_then(|s3| s3.bucket) {
        s3.create_bucket(&bucket);
    }
    if let Some(anchor) = config.anchor {
        s3.create_locked_bucket(&anchor.bucket);
    }
    let environment = [
        ("AWS_ENDPOINT_URL_S3", s3.endpoint()),
        ("AWS_REGION", "us-east-1".to_owned()),
        ("AWS_ACCESS_KEY_ID", "test".to_owned()),
        ("AWS_SECRET_ACCESS_KEY", "test".to_owned()),
    ];
    announce(&environment, file)?;
    stop.asked().await;
    Ok(())
}

fn announce(environment: &[(&str, String)], file: &Path) -> Result<(), String> {
    let mut text = String::new();
    for (name, value) in environment {
        let _ = writeln!(text, "export {name}='{value}'");
    }
    std::fs::write(file, text).map_err(|error| format!("cannot write {}: {error}", file.display()))?;
    println!("the emulators are up; load {} into your shell", file.display());
    Ok(())
}

/// SIGTERM and Ctrl-C, listened for from the start: whoever has read the announcement may end this program at once, and the
/// emulators must end with it.
struct Stop {
    terminate: Signal,
    interrupt: Signal,
}

impl Stop {
    fn listen() -> std::io::Result<Self> {
        let terminate = signal(SignalKind::terminate())?;
        Ok(Self { terminate, interrupt: signal(SignalKind::interrupt())? })
    }

    async fn asked(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
