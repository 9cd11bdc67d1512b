//! `pangolin orch serve`.

use pangolin_runtime::deployment::ServeOptions;
use tokio::signal::unix::{SignalKind, signal};

use crate::{context::Context, error::CliResult, exit::Exit};

pub(super) async fn run(context: &Context) -> CliResult {
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
    let on_ready = Box::new(move || {
        printer.note(format_args!("serving (pid {}); Ctrl-C or SIGTERM stops it", std::process::id()));
    });
    deployment.serve(ServeOptions { on_ready: Some(on_ready) }, shutdown).await?;
    context.printer.note("stopped");
    Ok(Exit::Ok)
}
