//! Pipelines: JSON files that name themselves.

use std::path::Path;

use pangolin_envelope::pipeline::PipelineSpec;
use serde_json::{Value, json};

use crate::{
    context::Context,
    error::{CliError, CliResult},
    exit::Exit,
    files,
};

pub(super) async fn register(context: &Context, file: &Path) -> CliResult {
    let spec = parse(file)?;
    let deployment = context.deployment().await?;
    let registration = deployment.registry().register_pipeline(&spec, deployment.now()).await?;
    super::registered(context, &registration)
}

pub(super) fn validate(context: &Context, file: &Path) -> CliResult {
    let printer = &context.printer;
    let spec = parse(file)?;
    let problems = spec.problems();
    if printer.is_json() {
        let findings: Vec<Value> = problems
            .iter()
            .map(|(pointer, message)| json!({ "pointer": pointer, "message": message }))
            .collect();
        printer.json(&json!({ "valid": problems.is_empty(), "id": spec.id, "findings": findings }))?;
        return Ok(if problems.is_empty() { Exit::Ok } else { Exit::Failed });
    }
    if problems.is_empty() {
        printer.line(format_args!(
            "valid: {}, {}",
            spec.id,
            crate::format::count(spec.blocks.len() as u64, "block")
        ))?;
        return Ok(Exit::Ok);
    }
    for (pointer, message) in &problems {
        printer.labelled(crate::printer::Role::Error, "error", &format!("{pointer}: {message}"));
    }
    let count = crate::format::count(problems.len() as u64, "error");
    Err(CliError::new(Exit::Failed, format!("{} cannot be used: {count}", file.display())))
}

fn parse(file: &Path) -> CliResult<PipelineSpec> {
    let text = files::read_text(file)?;
    serde_json::from_str(&text).map_err(|error| {
        CliError::new(Exit::Failed, format!("{} is not a pipeline: {error}", file.display()))
            .hint("expected {\"schemaVersion\":1,\"id\":\"pack.name\",\"blocks\":[{\"kind\":\"agent\"},…]}; block kinds are agent, script, plugin and capture")
    })
}
