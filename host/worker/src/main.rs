//! The static program that runs one dispatch inside the isolation.
//!
//! It reads the envelope that the host staged, does the steps of the brief and leaves an authenticated result
//! (contract: `pangolin-envelope`). It has no dependency on anything in the image it is mounted into.
//!
//! Deliberately not here: a compiler (plugin blocks come as native code that the host compiled), git, the blob store,
//! adapters (the host has asked for a launch plan before), network access but for what a plugin block was granted,
//! retries, and the wall time of the whole dispatch, which the backend enforces (as a task on another machine it does so
//! itself: `remote`).

mod block;
mod boot;
mod capture;
mod command;
mod context;
mod dispatch;
mod environment;
mod events;
mod finish;
mod needs_input;
mod output;
mod outputs;
mod overlay;
mod payload;
mod probe;
mod redact;
mod remote;
mod safe_fs;
mod scan;
mod signals;
mod stage;
mod tree;

use nix::sys::prctl::{set_child_subreaper, set_dumpable};
use pangolin_core::entry::FailureReason;
use pangolin_envelope::{events::Event, result::Ending};

use crate::{boot::BootError, redact::Redactor, signals::Signals};

fn main() {
    stage::run_if_stage();
    let args: Vec<String> =
        std::env::args_os().skip(1).map(|arg| arg.to_string_lossy().into_owned()).collect();
    let code = match args.first().map(String::as_str) {
        None => match remote::wanted() {
            Some(url) => remote::run(url),
            None => work(),
        },
        Some("--version") => {
            use std::io::Write as _;
            writeln!(std::io::stdout(), "pangolin-worker {}", env!("CARGO_PKG_VERSION")).map_or(1, |()| 0)
        }
        Some("probe") => probe::run(&args[1..]),
        Some(other) => {
            let problem = format!("unknown argument {other:?}; expected none, --version or probe");
            events::line(&serde_json::json!({"error": problem}));
            2
        }
    };
    std::process::exit(code);
}

fn work() -> i32 {
    // First of all: from here on, processes of the same user can neither trace this one nor read its variables.
    let guarded = set_dumpable(false).and_then(|()| set_child_subreaper(true));
    let started_at = events::now_ms();
    let booted = match guarded {
        Err(errno) => Err(BootError { message: format!("cannot protect the worker: {errno}"), known: None }),
        Ok(()) => boot::read(),
    };
    let (places, envelope) = match booted {
        Ok(booted) => booted,
        Err(error) => return boot_failed(error, started_at),
    };
    let signals = match Signals::install() {
        Ok(signals) => signals,
        Err(error) => {
            let message = format!("cannot receive signals: {error}");
            return boot_failed(
                BootError { message, known: Some(Box::new((places, envelope.dispatch))) },
                started_at,
            );
        }
    };
    events::emit(&Redactor::default(), &Event::WorkerBoot { dispatch_id: envelope.dispatch.clone() });
    dispatch::run(&places, &envelope, signals, started_at)
}

fn boot_failed(error: BootError, started_at: i64) -> i32 {
    let BootError { message, known } = error;
    let Some(known) = known else {
        events::boot_failed(&message);
        return 1;
    };
    let (places, dispatch) = *known;
    let reason = FailureReason::WorkerFailed;
    let at = events::now_ms();
    let event = Event::Failed { dispatch_id: dispatch.clone(), at, reason, message: message.clone() };
    events::emit(&Redactor::default(), &event);
    let ending = Ending::Failed { reason, message, exit_code: None };
    if let Err(message) =
        finish::write(&places.result_dir, &dispatch::blank(&dispatch, ending, started_at), &places.key)
    {
        events::boot_failed(&message);
    }
    1
}
