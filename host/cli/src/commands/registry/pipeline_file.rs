//! Pipelines: JSON files that name themselves.

use std::path::Path;

use pangolin_core::validate::{Finding, Severity};
use pangolin_envelope::pipeline::PipelineSpec;
use pangolin_runtime::{checks, config::Config};
use serde_json::{Value, json};

use crate::{
    context::Context,
    error::{CliError, CliResult},
    exit::Exit,
    files,
    printer::one_line,
};

pub(super) async fn register(context: &Context, file: &Path) -> CliResult {
    let spec = parse(file)?;
    let deployment = context.deployment().await?;
    let findings = check(context, deployment.config(), &spec).await;
    super::refuse(context, &format!("pipeline {:?}", spec.id), &findings)?;
    let registration = deployment.registry().register_pipeline(&spec, deployment.now()).await?;
    super::registered(context, &registration, &findings)
}

/// What its plugins say about it. One whose form is wrong is not shown to them.
async fn check(context: &Context, config: &Config, spec: &PipelineSpec) -> Vec<Finding> {
    if !spec.problems().is_empty() {
        return Vec::new();
    }
    context.printer.progress("asking the blocks", checks::pipeline(config, spec)).await
}

/// Needs no deployment; with one, its plugins are asked as well.
pub(super) async fn validate(context: &Context, file: &Path) -> CliResult {
    let printer = &context.printer;
    let spec = parse(file)?;
    let found = match context.config() {
        Ok(config) => check(context, &config, &spec).await,
        Err(_) => Vec::new(),
    };
    let (errors, warnings): (Vec<&Finding>, Vec<&Finding>) =
        found.iter().partition(|finding| finding.severity == Severity::Error);
    let mut problems = spec.problems();
    problems.extend(errors.into_iter().map(|finding| (finding.pointer.clone(), finding.message.clone())));
    if printer.is_json() {
        let mut findings: Vec<Value> = problems
            .iter()
            .map(|(pointer, message)| json!({ "pointer": pointer, "message": message }))
            .collect();
        findings.extend(warnings.into_iter().map(|warning| json!(warning)));
        printer.json(&json!({ "valid": problems.is_empty(), "id": spec.id, "findings": findings }))?;
        return Ok(if problems.is_empty() { Exit::Ok } else { Exit::Failed });
    }
    for warning in warnings {
        printer.warn(format_args!("{}: {}", warning.pointer, one_line(&warning.message)));
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
        let line = format!("{pointer}: {}", one_line(message));
        printer.labelled(crate::printer::Role::Error, "error", &line);
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
