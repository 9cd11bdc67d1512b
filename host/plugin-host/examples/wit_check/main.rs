//! Checks the contracts in `wit/` against everything that was released before. `cargo xtask wit`, or
//! `cargo run -p pangolin-plugin-host --example wit_check [--freeze <package>@<version>] [<directory>]`.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a command line tool")]

mod check;

use std::{path::PathBuf, process::ExitCode};

fn main() -> ExitCode {
    let mut arguments: Vec<String> = std::env::args().skip(1).collect();
    let freeze = match arguments.first().map(String::as_str) {
        Some("--freeze") if arguments.len() > 1 => Some(arguments.drain(..2).nth(1).unwrap_or_default()),
        _ => None,
    };
    let wit = arguments
        .first()
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../wit"), PathBuf::from);
    let checked = match freeze {
        Some(name) => check::freeze(&wit, &name).and_then(|()| check::check(&wit)),
        None => check::check(&wit),
    };
    match checked {
        Ok(report) => {
            for line in &report.notes {
                println!("{line}");
            }
            for line in &report.findings {
                eprintln!("error: {line}");
            }
            if report.findings.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
