//! `pangolin orch serve`.

use tokio::signal::unix::{SignalKind, signal};

use crate::{
    context::Context,
    error::{CliError, CliResult},
    exit::Exit,
};

pub(super) async fn run(context: &Context) -> CliResult {
    if context.is_remote() {
        let error = CliError::new(Exit::Usage, "a stack in AWS needs no daemon: its functions look at it");
        return Err(error.hint("leave --remote (PANGOLIN_REMOTE) away to serve a deployment of this machine"));
    }
    // Before the deployment is opened: a signal during the start must end cleanly too.
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hangup = signal(SignalKind::hangup())?;

    let deployment = context.deployment().await?;
    let printer = context.printer.clone();
    let shutdown_printer = printer.clone();
    let shutdown = async move {
        let name = tokio::select! {
            _ = interrupt.recv() => "Ctrl-C",
            _ = terminate.recv() => "SIGTERM",
            _ = hangup.recv() => "hang-up",
        };
        shutdown_printer.note(format_args!(
            "{name}: stopping; running workers continue and are adopted by the next daemon"
        ));
        tokio::spawn(async move {
            // Asked twice: somebody does not want to wait.
            tokio::select! {
                _ = interrupt.recv() => std::process::exit(Exit::Interrupted.code().into()),
                _ = terminate.recv() => std::process::exit(Exit::Terminated.code().into()),
            }
        });
    };
    let pid = std::process::id();
    match deployment.daemon() {
        Some(leader) => {
            printer.note(format_args!("standing by (pid {pid}): process {leader} serves this deployment"))
        }
        None => printer.note(format_args!("starting (pid {pid})")),
    }
    let on_lead = move || printer.note(format_args!("serving (pid {pid}); Ctrl-C or SIGTERM stops it"));
    deployment.serve(on_lead, shutdown).await?;
    context.printer.note("stopped");
    Ok(Exit::Ok)
}
