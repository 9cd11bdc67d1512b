//! `pangolin orch …`.

mod audit;
mod logs;
mod plan;
mod serve;
mod status;

use pangolin_runtime::deployment::Deployment;
use serde_json::json;

use crate::{
    args::{Actor, Target, orch::Orch},
    context::{Context, actor},
    error::CliResult,
    exit::Exit,
    watch,
};

pub(super) async fn run(context: &Context, verb: Orch) -> CliResult {
    match verb {
        Orch::Serve => serve::run(context).await,
        Orch::Validate { plan, queue } => plan::validate(context, &plan, queue.as_deref()).await,
        Orch::Submit(args) => plan::submit(context, args).await,
        Orch::Runs { active } => status::runs(context, active).await,
        Orch::Status { run, ascii } => status::status(context, run, ascii).await,
        Orch::Watch(args) => watch::run(context, args).await,
        Orch::Cancel { target, actor } => cancel(context, target, &actor).await,
        Orch::Audit { run, out } => audit::run(context, &run, out.as_deref()).await,
        Orch::Logs(args) => logs::run(context, args).await,
    }
}

async fn cancel(context: &Context, target: Target, flag: &Actor) -> CliResult {
    let printer = &context.printer;
    let deployment = context.deployment().await?;
    deployment.cancel(&target.run, target.item.as_ref(), &actor(flag)).await?;
    if printer.is_json() {
        printer.json(&json!({ "run": target.run, "item": target.item, "requested": true }))?;
    } else {
        let item = target.item.as_ref().map_or_else(String::new, |item| format!("/{item}"));
        printer.note(format_args!("cancel requested: {}{item}", target.run));
    }
    warn_without_daemon(context, &deployment, "the request waits").await;
    Ok(Exit::Ok)
}

/// Says so when nobody will act on a message.
async fn warn_without_daemon(context: &Context, deployment: &Deployment, what: &str) {
    if deployment.daemon().await.is_none() {
        context.printer.note(format_args!("no daemon is serving this deployment: {what} until one starts"));
        context.printer.hint("pangolin orch serve");
    }
}
