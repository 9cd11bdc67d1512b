//! Subagents: from a TOML or JSON file, or from flags.

use std::path::Path;

use pangolin_core::manifest::NamedDigest;
use pangolin_envelope::envelope::{ContextRequirement, VerifySpec};
use pangolin_runtime::{
    checks,
    registry::{AdapterBinding, Kind, Registry, SubagentDoc},
};
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::{
    args::{Pair, registry::SubagentRegister},
    context::Context,
    error::{CliError, CliResult},
    exit::Exit,
    files,
};

/// Seconds a self-verify command from a flag may take.
const VERIFY_SECONDS: u32 = 600;

/// The file format: like the stored document, but capabilities are names and the name may come from a flag.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct SubagentFile {
    name: Option<String>,
    system_prompt: Option<String>,
    prompt_template: Option<String>,
    model: Option<String>,
    #[serde(default)]
    capabilities: Vec<String>,
    adapter: AdapterBinding,
    verify: Option<VerifySpec>,
    #[serde(default)]
    context_requires: Vec<ContextRequirement>,
    require_changes: Option<bool>,
}

pub(super) async fn register(context: &Context, args: SubagentRegister) -> CliResult {
    let flag = args.name.clone();
    let from = args.from.clone();
    let file = match &from {
        Some(path) => parse(path)?,
        None => from_flags(args)?,
    };
    let name = match (flag, &file.name) {
        (Some(flag), Some(own)) if flag != *own => {
            return Err(CliError::new(
                Exit::Usage,
                format!("--name is {flag:?} but the file says name = {own:?}"),
            ));
        }
        (Some(name), _) => name,
        (None, Some(name)) => name.clone(),
        (None, None) => return Err(CliError::new(Exit::Usage, "the file has no name; give one with --name")),
    };
    let deployment = context.deployment().await?;
    let registry = deployment.registry();
    let doc = SubagentDoc {
        name,
        system_prompt: file.system_prompt,
        prompt_template: file.prompt_template,
        model: file.model,
        capabilities: freeze(registry, &file.capabilities).await?,
        adapter: file.adapter,
        verify: file.verify,
        context_requires: file.context_requires,
        require_changes: file.require_changes,
    };
    let checking = checks::subagent(deployment.config(), &doc);
    let findings = context.printer.progress("asking the adapter", checking).await;
    super::refuse(context, &format!("subagent {:?}", doc.name), &findings)?;
    let registration = registry.register_subagent(&doc, deployment.now()).await?;
    super::registered(context, &registration, &findings)
}

/// Capability names to digests, all missing ones at once.
async fn freeze(registry: &Registry, names: &[String]) -> CliResult<Vec<NamedDigest>> {
    let (mut frozen, mut missing) = (Vec::new(), Vec::new());
    for name in names {
        match registry.resolve(Kind::Capability, name).await {
            Ok(found) => frozen.push(NamedDigest { name: found.name, digest: found.digest }),
            Err(pangolin_runtime::registry::RegistryError::NotFound { name, .. }) => missing.push(name),
            Err(error) => return Err(error.into()),
        }
    }
    if missing.is_empty() {
        return Ok(frozen);
    }
    Err(CliError::new(
        Exit::NotFound,
        format!("capabilities that are not registered: {}", missing.join(", ")),
    )
    .hint("pangolin capabilities register --name <name> --from <dir>"))
}

/// TOML for `.toml`, JSON for everything else.
fn parse(path: &Path) -> CliResult<SubagentFile> {
    let text = files::read_text(path)?;
    let parsed = if path.extension().is_some_and(|extension| extension == "toml") {
        toml::from_str(&text).map_err(|error| error.to_string())
    } else {
        serde_json::from_str(&text).map_err(|error| error.to_string())
    };
    parsed.map_err(|problem| {
        CliError::new(Exit::Usage, format!("{}: {}", path.display(), problem.trim_end()))
            .hint("a subagent file is TOML (*.toml) or JSON; fields: name, systemPrompt, promptTemplate, model, capabilities, adapter.id, adapter.params, verify, contextRequires, requireChanges")
    })
}

fn from_flags(args: SubagentRegister) -> CliResult<SubagentFile> {
    let id = args.adapter.ok_or_else(|| CliError::new(Exit::Usage, "--adapter is needed without --from"))?;
    Ok(SubagentFile {
        name: args.name,
        system_prompt: args.system_prompt,
        prompt_template: args.prompt_template,
        model: args.model,
        capabilities: args.capability,
        adapter: AdapterBinding { id, params: Value::Object(params(args.param)?) },
        verify: args.verify.map(|command| VerifySpec { command, timeout: VERIFY_SECONDS }),
        context_requires: Vec::new(),
        require_changes: None,
    })
}

/// JSON where it parses as JSON, text otherwise.
fn params(pairs: Vec<Pair>) -> CliResult<Map<String, Value>> {
    let mut params = Map::new();
    for Pair { name, value } in pairs {
        let value = serde_json::from_str(&value).unwrap_or(Value::String(value));
        if params.insert(name.clone(), value).is_some() {
            return Err(CliError::new(Exit::Usage, format!("--param {name} is given twice")));
        }
    }
    Ok(params)
}
