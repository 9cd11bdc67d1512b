//! `pangolin dispatch …`.

use std::path::Path;

use pangolin_runtime::{deployment::DispatchRequest, registry::Kind};
use serde_json::{Value, json};

use crate::{
    args::dispatch::{Dispatch, Run},
    context::{Context, actor},
    error::{CliError, CliResult},
    exit::Exit,
    files,
};

pub(super) async fn run(context: &Context, verb: Dispatch) -> CliResult {
    let printer = &context.printer;
    match verb {
        Dispatch::Run(args) => dispatch(context, args).await,
        Dispatch::Describe { id } => {
            printer.json(&context.deployment().await?.dispatch_describe(&id).await?)?;
            Ok(Exit::Ok)
        }
        Dispatch::Cancel { id, actor: flag, wait } => {
            let deployment = context.deployment().await?;
            let message = deployment.dispatch_cancel(&id, &actor(&flag)).await?;
            let end = super::orch::settle(context, &deployment, &message, wait).await?;
            if printer.is_json() {
                printer.json(&json!({ "dispatch": id, "requested": true }))?;
            } else {
                printer.note(format_args!("cancel requested: {id}"));
            }
            Ok(end)
        }
    }
}

async fn dispatch(context: &Context, args: Run) -> CliResult {
    let printer = &context.printer;
    let input = input(&args.input)?;
    let deployment = context.deployment().await?;
    // Here a name that is not registered is "not found"; in a submitted run it would be a failure like any other.
    let registry = deployment.registry();
    registry.resolve(Kind::Subagent, &args.subagent).await?;
    for (kind, names) in [(Kind::Env, &args.env), (Kind::Capability, &args.capability)] {
        for name in names {
            registry.resolve(kind, name).await?;
        }
    }
    let request = DispatchRequest {
        input,
        subagent: args.subagent,
        executor: args.executor,
        env: args.env,
        queue: args.queue,
        capabilities: args.capability,
        actor: actor(&args.actor),
    };
    let result = printer.progress("dispatching", deployment.dispatch_run(request)).await?;
    printer.json(&result)?;
    let done = result.get("status").and_then(Value::as_str) == Some("done");
    Ok(if done { Exit::Ok } else { Exit::Failed })
}

/// JSON text, `@file` or `-`.
fn input(text: &str) -> CliResult<Value> {
    let text = match text.strip_prefix('@') {
        Some(path) => files::read_text(Path::new(path))?,
        None if text == "-" => files::read_text(Path::new("-"))?,
        None => text.to_owned(),
    };
    serde_json::from_str(&text).map_err(|error| {
        CliError::new(Exit::Usage, format!("--input is not JSON: {error}"))
            .hint("--input takes JSON text, @file or - for stdin")
    })
}
