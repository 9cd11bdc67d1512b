//! `pangolin orch extend` and `close`.

use std::path::Path;

use pangolin_core::{ids::RunId, validate::Finding};
use pangolin_runtime::deployment::Deployment;
use serde_json::json;

use super::{unanswered, warn_without_daemon};
use crate::{
    args::{Actor, Wait},
    context::{Context, actor},
    error::{CliResult, print_findings},
    files,
    printer::one_line,
};

pub(super) async fn extend(
    context: &Context,
    run: &RunId,
    items: &Path,
    flag: &Actor,
    wait: Wait,
) -> CliResult {
    let bytes = files::read(items)?;
    let deployment = context.deployment().await?;
    // A run that cannot be loaded is an error of the request itself, in its own words.
    let warnings = deployment.warnings_of_items(run, &bytes).await.unwrap_or_default();
    let message = deployment.extend(run, &bytes, &actor(flag)).await?;
    report(context, &deployment, run, &message, wait, &warnings).await
}

pub(super) async fn close(context: &Context, run: &RunId, flag: &Actor, wait: Wait) -> CliResult {
    let deployment = context.deployment().await?;
    let message = deployment.close(run, &actor(flag)).await?;
    report(context, &deployment, run, &message, wait, &[]).await
}

/// Waits for the daemon, when there is one, and says what it answered. A refusal is an error of the command.
async fn report(
    context: &Context,
    deployment: &Deployment,
    run: &RunId,
    message: &str,
    wait: Wait,
    warnings: &[Finding],
) -> CliResult {
    let printer = &context.printer;
    let serving = deployment.is_served();
    let answer = match serving {
        true => {
            printer.progress("waiting for the daemon", deployment.answer(message, wait.duration())).await?
        }
        false => None,
    };
    let answered = answer.is_some() || !serving;
    if printer.is_json() {
        let mut document = json!({ "run": run, "answered": answer.is_some() });
        if let Some(answer) = answer {
            document["answer"] = json!(answer.reason);
            if let Some(receipt) = answer.receipt {
                document["receipt"] = receipt;
            }
        }
        if !warnings.is_empty() {
            document["findings"] = json!(warnings);
        }
        printer.json(&document)?;
    } else {
        print_findings(printer, warnings);
        let what = answer.map_or_else(|| "requested".to_owned(), |answer| answer.reason);
        printer.note(format_args!("{run}: {}", one_line(&what)));
    }
    warn_without_daemon(context, deployment, "the request waits");
    Ok(unanswered(context, deployment, answered, wait, "the request"))
}
