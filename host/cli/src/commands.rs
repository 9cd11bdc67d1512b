//! One module per noun. A verb is a function from its arguments to an exit code.

mod completions;
#[cfg(feature = "aws")]
mod deploy;
mod dispatch;
mod doctor;
mod init;
mod orch;
mod patch;
mod plugin;
mod registry;
mod sender;
mod verify;

use std::{ffi::OsString, process::ExitCode};

#[cfg(not(feature = "aws"))]
use crate::error::without_aws;
use crate::{args::Verb, context::Context, error::CliResult};

/// Runs one verb.
pub(crate) async fn run(context: &Context, verb: Verb) -> CliResult {
    match verb {
        Verb::Init(args) => init::run(context, args),
        Verb::Doctor => doctor::run(context).await,
        Verb::Orch(verb) => orch::run(context, verb).await,
        Verb::Verify(args) => verify::run(context, &args).await,
        Verb::Patch(verb) => patch::run(context, verb).await,
        Verb::Capabilities(verb) => registry::capabilities(context, verb).await,
        Verb::Subagent(verb) => registry::subagent(context, verb).await,
        Verb::Env(verb) => registry::env(context, verb).await,
        Verb::Pipeline(verb) => registry::pipeline(context, verb).await,
        Verb::Plugin(verb) => plugin::run(context, verb).await,
        Verb::Dispatch(verb) => dispatch::run(context, verb).await,
        #[cfg(feature = "aws")]
        Verb::Deploy(verb) => deploy::run(context, verb).await,
        #[cfg(not(feature = "aws"))]
        Verb::Deploy { .. } => Err(without_aws("cannot deploy")),
        Verb::Sender(verb) => sender::run(context, verb),
        Verb::Completions { shell } => completions::run(context, shell),
    }
}

/// Hidden: the process that keeps one worker alive and accounted for.
pub(crate) fn supervise(args: Vec<OsString>) -> ExitCode {
    pangolin_worker_process::supervise_main(args)
}
