//! The `pangolin` command: arguments in, the runtime's answers out.
//!
//! stdout carries data only, everything else goes to stderr; exit codes are in [`exit`].
//! Deliberately not here: any logic of runs, ledgers or workers (`pangolin-runtime`), the bundle format and its
//! verification (`pangolin-audit`).

mod args;
mod commands;
mod context;
mod error;
mod exit;
mod files;
mod format;
mod printer;
mod render;
mod table;
mod watch;

use std::process::ExitCode;

use clap::Parser as _;
use tracing_subscriber::field::MakeExt as _;

use crate::{
    args::{Cli, Verb},
    context::Context,
    error::{CliError, CliResult},
    exit::Exit,
};

fn main() -> ExitCode {
    // Before anything else: a supervisor must stay small and must not share the setup of the other verbs. It is not a
    // verb of the command line either: clap suggests and completes hidden ones too.
    let mut arguments = std::env::args_os().skip(1);
    match arguments.next() {
        Some(first) if first == pangolin_worker_process::SUPERVISE_COMMAND => {
            return commands::supervise(arguments.collect());
        }
        // The bounded child in which plugins are compiled.
        Some(first) if first == pangolin_plugin_host::COMPILE_COMMAND => {
            return pangolin_plugin_host::compile_main(arguments);
        }
        _ => {}
    }
    let Cli { global, verb } = Cli::parse();
    init_log(global.verbose);
    let context = Context::new(global);
    match run(&context, verb) {
        Ok(exit) => exit.into(),
        Err(error) if error.is_broken_pipe() => Exit::Ok.into(),
        Err(error) => {
            error.print(&context.printer);
            error.exit.into()
        }
    }
}

fn run(context: &Context, verb: Verb) -> CliResult {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(|error| {
        CliError::from(anyhow::Error::new(error).context("cannot start the async runtime"))
    })?;
    let result = runtime.block_on(commands::run(context, verb));
    // A task that still blocks (a file watcher, a stuck read) must not keep the process alive.
    runtime.shutdown_background();
    result
}

/// Logging goes to stderr: `PANGOLIN_LOG` decides, else `-v`, else warnings.
fn init_log(verbose: u8) {
    let default = match verbose {
        0 => "warn",
        1 => "info,wasmtime=warn,cranelift=warn",
        _ => "debug,wasmtime=info,cranelift=info",
    };
    let filter = std::env::var("PANGOLIN_LOG")
        .ok()
        .and_then(|text| tracing_subscriber::EnvFilter::try_new(text).ok())
        .unwrap_or_else(|| tracing_subscriber::EnvFilter::new(default));
    // Values carry what plugins, agents and plans say: none of them may start a line of its own or drive a terminal.
    let fields = tracing_subscriber::fmt::format::debug_fn(|writer, field, value| {
        let text = printer::visible(&format!("{value:?}"));
        if field.name() == "message" { write!(writer, "{text}") } else { write!(writer, "{field}={text}") }
    });
    tracing_subscriber::fmt()
        .fmt_fields(fields.delimited(" "))
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(
            std::io::IsTerminal::is_terminal(&std::io::stderr()) && std::env::var_os("NO_COLOR").is_none(),
        )
        .init();
}
