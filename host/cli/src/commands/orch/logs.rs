//! `pangolin orch logs`.

use pangolin_runtime::{
    deployment::Deployment,
    views::{AttemptView, ItemView},
};
use serde_json::{Value, json};

use crate::{
    args::orch::Logs,
    context::Context,
    error::{CliError, CliResult},
    exit::Exit,
};

pub(super) async fn run(context: &Context, args: Logs) -> CliResult {
    let printer = &context.printer;
    let deployment = context.deployment().await?;
    let view = deployment.run_view(&args.target.run).await?;
    let item = view.items.iter().find(|item| item.id == args.target.item).ok_or_else(|| {
        CliError::new(Exit::NotFound, format!("run {} has no item {}", args.target.run, args.target.item))
            .hint(format!("pangolin orch status {} lists the items", args.target.run))
    })?;
    let attempt = choose(item, &args)?;
    let what = match (args.events, args.stderr) {
        (true, _) => "events",
        (_, true) => "stderr",
        _ => "stdout",
    };
    let stored = match what {
        "events" => attempt.events,
        "stdout" => attempt.transcript,
        _ => None,
    };
    let found = match stored {
        Some(digest) => Some(deployment.blob(&digest).await?),
        None => from_events(&deployment, attempt, what).await?,
    };
    let Some(bytes) = found else {
        return Err(missing(&args, attempt, what));
    };
    if printer.is_json() {
        let mut document = json!({
            "run": args.target.run,
            "item": args.target.item,
            "attempt": attempt.attempt,
            "stream": what,
            "text": String::from_utf8_lossy(&bytes),
        });
        if let Some(digest) = stored {
            document["digest"] = json!(digest);
        }
        printer.json(&document)?;
    } else {
        printer.foreign(&bytes)?;
    }
    Ok(Exit::Ok)
}

/// The attempt that was asked for, else the last one that ended, else the last one.
fn choose<'a>(item: &'a ItemView, args: &Logs) -> CliResult<&'a AttemptView> {
    let found = match args.attempt {
        Some(number) => item.attempts.iter().find(|attempt| attempt.attempt == number),
        None => {
            item.attempts.iter().rev().find(|attempt| attempt.ended_at.is_some()).or(item.attempts.last())
        }
    };
    found.ok_or_else(|| {
        let target = format!("{}/{}", args.target.run, args.target.item);
        match args.attempt {
            Some(number) => CliError::new(Exit::NotFound, format!("{target} has no attempt {number}")).hint(
                format!("it has {} so far", crate::format::count(item.attempts.len() as u64, "attempt")),
            ),
            None => CliError::new(
                Exit::NotFound,
                format!("{target} was never started ({}): {}", item.status, item.why),
            ),
        }
    })
}

fn missing(args: &Logs, attempt: &AttemptView, what: &str) -> CliError {
    let target = format!("attempt {} of {}/{}", attempt.attempt, args.target.run, args.target.item);
    if attempt.ended_at.is_none() {
        return CliError::new(
            Exit::Incomplete,
            format!("{target} is still running; its {what} is stored when it ends"),
        )
        .hint(format!("pangolin orch watch {}", args.target.run));
    }
    let why = attempt.failure.as_ref().map_or_else(String::new, |failure| format!(": {}", failure.message));
    CliError::new(Exit::NotFound, format!("{target} left no {what}{why}"))
}

/// A command's stream as far as the worker's events carry it (bounded by the worker). stderr is not kept elsewhere.
async fn from_events(
    deployment: &Deployment,
    attempt: &AttemptView,
    stream: &str,
) -> CliResult<Option<Vec<u8>>> {
    let Some(events) = attempt.events else { return Ok(None) };
    let bytes = deployment.blob(&events).await?;
    let mut found = None;
    for line in bytes.split(|byte| *byte == b'\n') {
        let event: Value = serde_json::from_slice(line).unwrap_or_default();
        if let Some(text) = event.get(stream).and_then(Value::as_str) {
            found.get_or_insert_with(Vec::new).extend_from_slice(text.as_bytes());
        }
    }
    Ok(found)
}
