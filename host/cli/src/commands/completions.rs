//! `pangolin completions <shell>`.

use clap::CommandFactory as _;

use crate::{args::Cli, context::Context, error::CliResult, exit::Exit};

pub(super) fn run(context: &Context, shell: clap_complete::Shell) -> CliResult {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "pangolin", &mut script);
    context.printer.raw(&script)?;
    Ok(Exit::Ok)
}
