//! `pangolin capabilities|subagent|env|pipeline …`: what is the same for all four.

mod capability;
mod env_bundle;
mod pipeline_file;
mod subagent_file;

use pangolin_core::validate::{Finding, Severity};
use pangolin_runtime::registry::{EnvDoc, Kind, Registration, SubagentDoc};
use serde_json::{Value, json};

use crate::{
    args::registry::{Capabilities, Env, Pipeline, Subagent},
    context::Context,
    error::{CliError, CliResult, print_findings},
    exit::Exit,
    format, table,
};

pub(super) async fn capabilities(context: &Context, verb: Capabilities) -> CliResult {
    match verb {
        Capabilities::Register { name, from } => capability::register(context, &name, &from).await,
        Capabilities::List => list(context, Kind::Capability).await,
        Capabilities::Get { name } => get(context, Kind::Capability, &name).await,
    }
}

pub(super) async fn subagent(context: &Context, verb: Subagent) -> CliResult {
    match verb {
        Subagent::Register(args) => subagent_file::register(context, *args).await,
        Subagent::List => list(context, Kind::Subagent).await,
        Subagent::Get { name } => get(context, Kind::Subagent, &name).await,
    }
}

pub(super) async fn env(context: &Context, verb: Env) -> CliResult {
    match verb {
        Env::Register { name, values, secrets } => {
            env_bundle::register(context, &name, values, secrets).await
        }
        Env::List => list(context, Kind::Env).await,
        Env::Get { name } => get(context, Kind::Env, &name).await,
    }
}

pub(super) async fn pipeline(context: &Context, verb: Pipeline) -> CliResult {
    match verb {
        Pipeline::Register { file } => pipeline_file::register(context, &file).await,
        Pipeline::Validate { file } => pipeline_file::validate(context, &file).await,
        Pipeline::List => list(context, Kind::Pipeline).await,
        Pipeline::Get { name } => get(context, Kind::Pipeline, &name).await,
    }
}

/// Stops at an error among the findings; then nothing is registered.
fn refuse(context: &Context, what: &str, findings: &[Finding]) -> CliResult<()> {
    let errors = findings.iter().filter(|finding| finding.severity == Severity::Error).count();
    if errors == 0 {
        return Ok(());
    }
    if context.printer.is_json() {
        context.printer.json(&json!({ "registered": false, "findings": findings }))?;
    } else {
        print_findings(&context.printer, findings);
    }
    let count = format::count(errors as u64, "error");
    Err(CliError::new(Exit::Failed, format!("{what} was not registered: {count}")))
}

/// The pinned reference on stdout, the rest for people.
fn registered(context: &Context, registration: &Registration, warnings: &[Finding]) -> CliResult {
    let printer = &context.printer;
    if printer.is_json() {
        let mut document = json!(registration);
        if !warnings.is_empty() {
            document["findings"] = json!(warnings);
        }
        printer.json(&document)?;
    } else {
        printer.line(&registration.pinned)?;
        print_findings(printer, warnings);
        printer.note(format_args!("registered {} {}", registration.kind, registration.name));
    }
    Ok(Exit::Ok)
}

async fn list(context: &Context, kind: Kind) -> CliResult {
    let printer = &context.printer;
    let found = context.deployment().await?.registry().list(kind).await?;
    if printer.is_json() {
        printer.json(&json!({ "kind": kind, "registrations": found }))?;
        return Ok(Exit::Ok);
    }
    if found.is_empty() {
        printer.note(format_args!("no {kind} is registered"));
        return Ok(Exit::Ok);
    }
    let mut rows = vec![["NAME", "DIGEST", "REGISTERED"].map(str::to_owned).to_vec()];
    rows.extend(
        found.into_iter().map(|it| vec![it.name, it.digest.to_string(), format::time(it.registered_at)]),
    );
    printer.raw(table::columns(&rows).as_bytes())?;
    Ok(Exit::Ok)
}

async fn get(context: &Context, kind: Kind, reference: &str) -> CliResult {
    let deployment = context.deployment().await?;
    let registry = deployment.registry();
    let registration = registry.resolve(kind, reference).await?;
    let digest = &registration.digest;
    let document = match kind {
        Kind::Capability => capability::describe(&registry.bytes(digest).await?)?,
        // Parsed, not passed through: what is shown is what a run would use.
        Kind::Subagent => serde_json::to_value(registry.doc::<SubagentDoc>(kind, digest).await?)?,
        Kind::Env => serde_json::to_value(registry.doc::<EnvDoc>(kind, digest).await?)?,
        Kind::Pipeline => registry.doc::<Value>(kind, digest).await?,
    };
    let mut shown = serde_json::to_value(&registration)?;
    if registration.registered_at == 0 {
        // A pinned reference says nothing about when it was registered.
        shown.as_object_mut().map(|object| object.remove("registeredAt"));
    }
    shown["document"] = document;
    context.printer.json(&shown)?;
    Ok(Exit::Ok)
}
