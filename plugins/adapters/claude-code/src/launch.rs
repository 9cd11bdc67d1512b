//! The command line.

use pangolin_adapter_sdk::{Fault, LaunchPlan, Problems, TaskView, fault, pointer_part, refused};
use serde_json::{Map, Value};

/// Secrets that Claude Code knows how to use, by variable.
const KEY_VARIABLES: [&str; 3] = ["ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "CLAUDE_CODE_OAUTH_TOKEN"];

const KNOWN: [&str; 7] =
    ["program", "maxTurns", "maxBudgetUsd", "baseUrl", "bare", "allowedTools", "maxRetries"];

/// Checked parameters, with what the task says instead.
#[derive(Debug)]
struct Params {
    program: Option<String>,
    turns: Option<u32>,
    budget: Option<f64>,
    base_url: Option<String>,
    bare: bool,
    tools: Option<String>,
    retries: Option<u32>,
    bypass: bool,
    session: Option<String>,
}

/// Describes how to start it.
pub(crate) fn plan(task: &TaskView, plan: &LaunchPlan) -> Result<(), Fault> {
    let params = Params::read(task)?;
    let prompt = task.prompt();
    if prompt.trim().is_empty() {
        return Err(fault(
            "no-prompt",
            "there is nothing to tell the agent; give the subagent a prompt template",
        ));
    }
    plan.program(params.program.as_deref().unwrap_or("claude")).map_err(refused)?;
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
    if params.bare {
        plan.arg("--bare");
    }
    if params.bypass {
        plan.arg("--permission-mode");
        plan.arg("bypassPermissions");
    }
    if let Some(tools) = &params.tools {
        plan.arg(&format!("--allowedTools={tools}"));
    }
    if let Some(model) = task.model() {
        plan.arg(&format!("--model={}", model_name(&model)));
    }
    if let Some(turns) = params.turns {
        plan.arg(&format!("--max-turns={turns}"));
    }
    if let Some(budget) = params.budget {
        plan.arg(&format!("--max-budget-usd={budget}"));
    }
    if let Some(id) = &params.session {
        plan.arg(&format!("--session-id={id}"));
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
    if let Some(url) = &params.base_url {
        env("ANTHROPIC_BASE_URL", url)?;
    }
    if let Some(retries) = params.retries {
        env("CLAUDE_CODE_MAX_RETRIES", &retries.to_string())?;
    }
    if params.bypass && task.attr("root").as_deref() == Some("true") {
        // Without it Claude Code refuses to run as root in this mode. The isolation around it is real here.
        env("IS_SANDBOX", "1")?;
    }
    keys(task, plan)?;
    plan.expect("output-format", "stream-json");
    Ok(())
}

impl Params {
    fn read(task: &TaskView) -> Result<Self, Fault> {
        let mut problems = Problems::default();
        let object = object(task, &mut problems);
        let mut from = Fields { object: &object, problems: &mut problems };
        let params = Self {
            program: from.text("program"),
            turns: from.whole("maxTurns", 1, task.attr("max-turns"), "/max-turns"),
            budget: from.dollars("maxBudgetUsd", task.attr("budget-usd")),
            base_url: from.text("baseUrl"),
            bare: from.flag("bare"),
            tools: from.tools("allowedTools"),
            retries: from.whole("maxRetries", 0, None, ""),
            bypass: match task.attr("permission").as_deref() {
                None | Some("" | "bypass") => true,
                Some("strict") => false,
                Some(other) => {
                    from.problems.add("/permission", format!("{other:?} is neither bypass nor strict"));
                    false
                }
            },
            session: task.attr("session-id"),
        };
        if let Some(id) = params.session.as_deref().filter(|id| !is_uuid(id)) {
            problems.add("/session-id", format!("{id:?} is not a UUID"));
        }
        problems.finish("bad-params")?;
        Ok(params)
    }
}

fn object(task: &TaskView, problems: &mut Problems) -> Map<String, Value> {
    let json = task.attr("params").unwrap_or_default();
    let json = if json.trim().is_empty() { "{}" } else { &json };
    let object = match serde_json::from_str(json) {
        Ok(Value::Object(object)) => object,
        Ok(_) => {
            problems.add("/params", "must be an object");
            return Map::new();
        }
        Err(error) => {
            problems.add("/params", format!("not JSON ({error})"));
            return Map::new();
        }
    };
    for key in object.keys().filter(|key| !KNOWN.contains(&key.as_str())) {
        let problem = format!("unknown; there are {}", KNOWN.join(", "));
        problems.add(format!("/params/{}", pointer_part(key)), problem);
    }
    object
}

/// Fields; one that is wrong is noted and left out.
struct Fields<'a> {
    object: &'a Map<String, Value>,
    problems: &'a mut Problems,
}

impl Fields<'_> {
    fn value(&self, key: &str) -> Option<&Value> {
        self.object.get(key).filter(|value| !value.is_null())
    }

    fn noted<T>(&mut self, key: &str, found: Option<T>, problem: &str) -> Option<T> {
        if found.is_none() {
            self.problems.add(format!("/params/{key}"), problem);
        }
        found
    }

    fn text(&mut self, key: &str) -> Option<String> {
        let text = self.value(key)?.as_str().map(str::to_owned);
        self.noted(key, text, "must be a string")
    }

    fn flag(&mut self, key: &str) -> bool {
        let Some(flag) = self.value(key).map(Value::as_bool) else { return false };
        self.noted(key, flag, "must be true or false").unwrap_or(false)
    }

    fn tools(&mut self, key: &str) -> Option<String> {
        let items = self.value(key)?.as_array();
        let names: Option<Vec<&str>> = items.and_then(|items| items.iter().map(Value::as_str).collect());
        let names = names.map(|names| names.join(","));
        self.noted(key, names, "must be a list of strings").filter(|names| !names.is_empty())
    }

    /// A count of at least `least`, from the attribute or else from the parameters.
    fn whole(&mut self, key: &str, least: u32, attr: Option<String>, place: &str) -> Option<u32> {
        let problem = format!("must be a whole number of at least {least}");
        let fits = |number: u32| (number >= least).then_some(number);
        if let Some(text) = attr {
            let number = text.parse().ok().and_then(fits);
            if number.is_none() {
                self.problems.add(place, problem);
            }
            return number;
        }
        let number = self.value(key)?.as_u64();
        let number = number.and_then(|number| u32::try_from(number).ok()).and_then(fits);
        self.noted(key, number, &problem)
    }

    fn dollars(&mut self, key: &str, attr: Option<String>) -> Option<f64> {
        let problem = "must be an amount of dollars above 0";
        let fits = |amount: f64| (amount.is_finite() && amount > 0.0).then_some(amount);
        if let Some(text) = attr {
            let amount = text.parse().ok().and_then(fits);
            if amount.is_none() {
                self.problems.add("/budget-usd", problem);
            }
            return amount;
        }
        let amount = self.value(key)?.as_f64().and_then(fits);
        self.noted(key, amount, problem)
    }
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

fn is_uuid(id: &str) -> bool {
    id.len() == 36
        && id.bytes().enumerate().all(|(index, byte)| match index {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        })
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
