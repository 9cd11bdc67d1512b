//! The command line.

use pangolin_adapter_sdk::{Fault, LaunchPlan, TaskView, fault, refused};
use serde_json::{Map, Value};

/// Secrets that Claude Code knows how to use, by variable.
const KEY_VARIABLES: [&str; 3] = ["ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "CLAUDE_CODE_OAUTH_TOKEN"];

const KNOWN: [&str; 7] =
    ["program", "maxTurns", "maxBudgetUsd", "baseUrl", "bare", "allowedTools", "maxRetries"];

fn bad(pointer: &str, problem: &str) -> Fault {
    fault("bad-params", format!("{pointer}: {problem}"))
}

/// Describes how to start it.
pub(crate) fn plan(task: &TaskView, plan: &LaunchPlan) -> Result<(), Fault> {
    let params = params(task)?;
    let text = |key: &str| match params.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(_) => Err(bad(&format!("/params/{key}"), "must be a string")),
    };
    let prompt = task.prompt();
    if prompt.trim().is_empty() {
        return Err(fault(
            "no-prompt",
            "there is nothing to tell the agent; give the subagent a prompt template",
        ));
    }
    plan.program(text("program")?.as_deref().unwrap_or("claude")).map_err(refused)?;
    // The prompt goes through standard input: an argument that begins with a dash would be taken for an option, and
    // Linux limits one argument to 128 KiB.
    plan.stdin(prompt.as_bytes());
    for argument in ["-p", "--output-format", "stream-json", "--verbose"] {
        plan.arg(argument);
    }
    // Nothing from the user's or the repository's settings, no servers that nobody declared.
    for argument in ["--setting-sources", "", "--strict-mcp-config"] {
        plan.arg(argument);
    }
    if flag(&params, "bare")? {
        plan.arg("--bare");
    }
    let bypass = match task.attr("permission").as_deref() {
        None | Some("" | "bypass") => true,
        Some("strict") => false,
        Some(other) => return Err(bad("/permission", &format!("{other:?} is neither bypass nor strict"))),
    };
    if bypass {
        plan.arg("--permission-mode");
        plan.arg("bypassPermissions");
    }
    if let Some(tools) = tools(&params)? {
        plan.arg(&format!("--allowedTools={tools}"));
    }
    if let Some(model) = task.model() {
        plan.arg(&format!("--model={}", model_name(&model)));
    }
    if let Some(turns) = whole(task.attr("max-turns"), &params, "maxTurns")? {
        plan.arg(&format!("--max-turns={turns}"));
    }
    if let Some(budget) = budget(task.attr("budget-usd"), &params)? {
        plan.arg(&format!("--max-budget-usd={budget}"));
    }
    if let Some(id) = task.attr("session-id") {
        plan.arg(&format!("--session-id={}", uuid(&id)?));
    }
    if let Some(system) = task.system_prompt().filter(|text| !text.trim().is_empty()) {
        plan.arg(&format!("--append-system-prompt={system}"));
    }
    let env = |name: &str, value: &str| plan.env(name, value).map_err(refused);
    for name in [
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC",
        "DISABLE_TELEMETRY",
        "DISABLE_AUTOUPDATER",
        "DISABLE_ERROR_REPORTING",
    ] {
        env(name, "1")?;
    }
    if let Some(home) = task.attr("private-home") {
        env("CLAUDE_CONFIG_DIR", &format!("{}/.claude", home.trim_end_matches('/')))?;
    }
    if let Some(url) = text("baseUrl")? {
        env("ANTHROPIC_BASE_URL", &url)?;
    }
    if let Some(retries) = whole(None, &params, "maxRetries")? {
        env("CLAUDE_CODE_MAX_RETRIES", &retries.to_string())?;
    }
    if bypass && task.attr("root").as_deref() == Some("true") {
        // Without it Claude Code refuses to run as root in this mode. The isolation around it is real here.
        env("IS_SANDBOX", "1")?;
    }
    keys(task, plan)?;
    plan.expect("output-format", "stream-json");
    Ok(())
}

fn params(task: &TaskView) -> Result<Map<String, Value>, Fault> {
    let json = task.attr("params").unwrap_or_default();
    let json = if json.trim().is_empty() { "{}" } else { &json };
    match serde_json::from_str(json) {
        Ok(Value::Object(object)) => match object.keys().find(|key| !KNOWN.contains(&key.as_str())) {
            Some(key) => {
                Err(bad(&format!("/params/{key}"), &format!("unknown; there are {}", KNOWN.join(", "))))
            }
            None => Ok(object),
        },
        Ok(_) => Err(bad("/params", "must be an object")),
        Err(error) => Err(bad("/params", &format!("not JSON ({error})"))),
    }
}

fn flag(params: &Map<String, Value>, key: &str) -> Result<bool, Fault> {
    match params.get(key) {
        None | Some(Value::Null) => Ok(false),
        Some(Value::Bool(value)) => Ok(*value),
        Some(_) => Err(bad(&format!("/params/{key}"), "must be true or false")),
    }
}

fn tools(params: &Map<String, Value>) -> Result<Option<String>, Fault> {
    match params.get("allowedTools") {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Array(items)) => {
            let names: Option<Vec<&str>> = items.iter().map(Value::as_str).collect();
            let names = names.ok_or_else(|| bad("/params/allowedTools", "must be a list of strings"))?;
            Ok((!names.is_empty()).then(|| names.join(",")))
        }
        Some(_) => Err(bad("/params/allowedTools", "must be a list of strings")),
    }
}

/// A count of at least 1 (retries: 0), from the attribute or else from `params`.
fn whole(attr: Option<String>, params: &Map<String, Value>, key: &str) -> Result<Option<u32>, Fault> {
    let least = u64::from(key != "maxRetries");
    let number = match (attr, params.get(key)) {
        (Some(text), _) => text.parse().ok(),
        (None, None | Some(Value::Null)) => return Ok(None),
        (None, Some(value)) => value.as_u64(),
    };
    number
        .filter(|number| *number >= least)
        .and_then(|number| u32::try_from(number).ok())
        .map(Some)
        .ok_or_else(|| bad(&format!("/params/{key}"), &format!("must be a whole number of at least {least}")))
}

fn budget(attr: Option<String>, params: &Map<String, Value>) -> Result<Option<f64>, Fault> {
    let amount = match (attr, params.get("maxBudgetUsd")) {
        (Some(text), _) => text.parse().ok(),
        (None, None | Some(Value::Null)) => return Ok(None),
        (None, Some(value)) => value.as_f64(),
    };
    amount
        .filter(|amount| amount.is_finite() && *amount > 0.0)
        .map(Some)
        .ok_or_else(|| bad("/params/maxBudgetUsd", "must be an amount of dollars above 0"))
}

/// The levels of Pangolin; everything else is the provider's own name.
fn model_name(model: &str) -> &str {
    match model {
        "fast" => "haiku",
        "standard" => "sonnet",
        "max" => "opus",
        other => other,
    }
}

fn uuid(id: &str) -> Result<&str, Fault> {
    let well_formed = id.len() == 36
        && id.bytes().enumerate().all(|(index, byte)| match index {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        });
    if well_formed { Ok(id) } else { Err(bad("/session-id", &format!("{id:?} is not a UUID"))) }
}

/// Names of secrets only; the worker puts in the values.
fn keys(task: &TaskView, plan: &LaunchPlan) -> Result<(), Fault> {
    if let Some(secret) = task.attr("key-secret") {
        return plan.env_secret(KEY_VARIABLES[0], &secret).map_err(refused);
    }
    let offered = task.secret_names();
    for name in KEY_VARIABLES.iter().filter(|name| offered.iter().any(|offered| offered == **name)) {
        plan.env_secret(name, name).map_err(refused)?;
    }
    Ok(())
}
