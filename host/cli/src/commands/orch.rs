//! `pangolin orch …`.

mod audit;
mod grow;
mod logs;
mod plan;
mod render;
mod serve;
mod status;

use pangolin_runtime::deployment::Deployment;
use serde_json::json;

use crate::{
    args::{Actor, Target, Wait, orch::Orch},
    context::{Context, actor},
    error::CliResult,
    exit::Exit,
    watch,
};

pub(super) async fn run(context: &Context, verb: Orch) -> CliResult {
    match verb {
        Orch::Serve => serve::run(context).await,
        Orch::Validate { plan, queue } => plan::validate(context, &plan, queue.as_deref()).await,
        Orch::Render(args) => render::run(context, args).await,
        Orch::Submit(args) => plan::submit(context, args).await,
        Orch::Runs { active } => status::runs(context, active).await,
        Orch::Status { run, ascii } => status::status(context, run, ascii).await,
        Orch::Watch(args) => watch::run(context, args).await,
        Orch::Cancel { target, actor, wait } => cancel(context, target, &actor, wait).await,
        Orch::Extend { run, items, actor, wait } => grow::extend(context, &run, &items, &actor, wait).await,
        Orch::Close { run, actor, wait } => grow::close(context, &run, &actor, wait).await,
        Orch::Audit { run, out } => audit::run(context, &run, out.as_deref()).await,
        Orch::Logs(args) => logs::run(context, args).await,
    }
}

async fn cancel(context: &Context, target: Target, flag: &Actor, wait: Wait) -> CliResult {
    let printer = &context.printer;
    let deployment = context.deployment().await?;
    let message = deployment.cancel(&target.run, target.item.as_ref(), &actor(flag)).await?;
    let end = settle(context, &deployment, &message, wait).await?;
    if printer.is_json() {
        printer.json(&json!({ "run": target.run, "item": target.item, "requested": true }))?;
    } else {
        let item = target.item.as_ref().map_or_else(String::new, |item| format!("/{item}"));
        printer.note(format_args!("cancel requested: {}{item}", target.run));
    }
    warn_without_daemon(context, &deployment, "the request waits");
    Ok(end)
}

/// Waits for the daemon's answer to a request, so that a refusal is an error of this command and not a secret.
pub(super) async fn settle(
    context: &Context,
    deployment: &Deployment,
    message: &str,
    wait: Wait,
) -> CliResult {
    if !deployment.is_served() {
        return Ok(Exit::Ok);
    }
    let answer = deployment.answer(message, wait.duration());
    let answer = context.printer.progress("waiting for the daemon", answer).await?;
    Ok(unanswered(context, deployment, answer.is_some(), wait, "the request"))
}

/// How a verb ends whose message was `answered` or not within `waited`. A daemon that serves and does not answer is told by
/// the exit code: it may still refuse. That nobody serves is normal, and so is not to wait at all.
pub(super) fn unanswered(
    context: &Context,
    deployment: &Deployment,
    answered: bool,
    waited: Wait,
    what: &str,
) -> Exit {
    if answered || !deployment.is_served() {
        return Exit::Ok;
    }
    let daemon = deployment
        .daemon()
        .map_or_else(|| "the stack".to_owned(), |process| format!("the daemon (process {process})"));
    if waited.wait == 0 {
        context.printer.note(format_args!("{what} is in the inbox; {daemon} was not waited for"));
        return Exit::Ok;
    }
    context.printer.warn(format_args!(
        "{daemon} has not answered within {} s: {what} is in its inbox, and it may still refuse it",
        waited.wait
    ));
    Exit::Unanswered
}

/// Says so when nobody will act on a message.
pub(super) fn warn_without_daemon(context: &Context, deployment: &Deployment, what: &str) {
    if !deployment.is_served() {
        context.printer.note(format_args!("no daemon is serving this deployment: {what} until one starts"));
        context.printer.hint("pangolin orch serve");
    }
}
