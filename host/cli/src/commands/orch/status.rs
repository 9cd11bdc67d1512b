//! `pangolin orch runs` and `status`.

use pangolin_core::ids::RunId;
use pangolin_runtime::deployment::{Deployment, RuntimeError};
use serde_json::json;

use crate::{
    context::Context,
    error::{CliError, CliResult},
    exit::Exit,
    format, table,
    watch::{
        frame,
        style::{Style, terminal_width},
    },
};

pub(super) async fn runs(context: &Context, active: bool) -> CliResult {
    let printer = &context.printer;
    let mut runs = context.deployment().await?.runs().await?;
    runs.retain(|run| !active || run.finished_at.is_none());
    runs.sort_by(|a, b| b.submitted_at.cmp(&a.submitted_at).then_with(|| a.run.cmp(&b.run)));
    if printer.is_json() {
        printer.json(&json!({ "runs": runs }))?;
        return Ok(Exit::Ok);
    }
    if runs.is_empty() {
        printer.note(if active { "no run is active" } else { "no run was submitted yet" });
        return Ok(Exit::Ok);
    }
    let mut rows =
        vec![["RUN", "STATE", "QUEUE", "ITEMS", "SUBMITTED", "TOOK", "BY"].map(str::to_owned).to_vec()];
    let now = format::now_ms();
    for run in &runs {
        rows.push(vec![
            run.run.to_string(),
            run.state.clone(),
            run.queue.to_string(),
            run.items.to_string(),
            format::time(run.submitted_at),
            format::duration(run.finished_at.unwrap_or(now).saturating_sub(run.submitted_at)),
            crate::printer::one_line(&run.actor),
        ]);
    }
    printer.raw(table::columns(&rows).as_bytes())?;
    Ok(Exit::Ok)
}

/// What is said of a run that nobody has looked at.
fn queued(deployment: &Deployment, run: &RunId) -> CliError {
    let error =
        CliError::new(Exit::Unanswered, format!("run {run} waits in the inbox and is not admitted yet"));
    error.hint(match deployment.is_served() {
        true => "somebody serves, so look again; `pangolin deploy status` shows what a stack waits for",
        false => "no daemon is serving: pangolin orch serve",
    })
}

pub(super) async fn status(context: &Context, run: Option<RunId>, ascii: bool) -> CliResult {
    let printer = &context.printer;
    let deployment = context.deployment().await?;
    let style = Style::detect(printer, ascii);
    let width = if printer.is_terminal() { terminal_width() } else { usize::MAX };
    if let Some(run) = run {
        let view = match deployment.run_view(&run).await {
            Err(RuntimeError::NotFound { .. }) if deployment.is_queued(&run).await? => {
                return Err(queued(&deployment, &run));
            }
            // Admitted between the two looks?
            Err(RuntimeError::NotFound { .. }) => deployment.run_view(&run).await?,
            view => view?,
        };
        if printer.is_json() {
            printer.json(&view)?;
        } else {
            printer.raw(
                frame::text(&frame::detailed(&view, format::now_ms(), width, style), width, style).as_bytes(),
            )?;
        }
        return Ok(Exit::Ok);
    }
    let mut views = Vec::new();
    for summary in deployment.runs().await?.into_iter().filter(|run| run.finished_at.is_none()) {
        views.push(deployment.run_view(&summary.run).await?);
    }
    if printer.is_json() {
        printer.json(&json!({ "runs": views }))?;
        return Ok(Exit::Ok);
    }
    if views.is_empty() {
        printer.note("no run is active");
        printer.hint("pangolin orch runs lists all runs");
    }
    for (index, view) in views.iter().enumerate() {
        if index > 0 {
            printer.line("")?;
        }
        printer.raw(
            frame::text(&frame::detailed(view, format::now_ms(), width, style), width, style).as_bytes(),
        )?;
    }
    Ok(Exit::Ok)
}
