//! The subagent's `params`.

use pangolin_adapter_sdk::{Fault, fault};
use serde_json::{Map, Value};

/// Checked parameters.
#[derive(Debug)]
pub(crate) struct Params {
    pub(crate) argv: Vec<String>,
    pub(crate) stdin: Option<String>,
    pub(crate) env: Vec<(String, String)>,
    pub(crate) env_secrets: Vec<(String, String)>,
}

const EXAMPLE: &str = "params = { argv = [\"sh\", \"tools/agent.sh\"] }";

fn bad(pointer: &str, problem: &str) -> Fault {
    fault("bad-params", format!("{pointer}: {problem}, e.g. {EXAMPLE}"))
}

impl Params {
    /// Reads the JSON text of the attribute.
    pub(crate) fn parse(json: Option<&str>) -> Result<Self, Fault> {
        let value: Value = serde_json::from_str(json.unwrap_or("{}"))
            .map_err(|error| bad("/params", &format!("not JSON ({error})")))?;
        let Value::Object(object) = value else { return Err(bad("/params", "must be an object")) };
        let known = ["argv", "stdin", "env", "envSecrets"];
        if let Some(key) = object.keys().find(|key| !known.contains(&key.as_str())) {
            return Err(bad(&format!("/params/{key}"), "unknown; there are argv, stdin, env and envSecrets"));
        }
        let argv = match object.get("argv") {
            None => return Err(bad("/params/argv", "missing: the command adapter has no command to run")),
            Some(Value::Array(items)) => items
                .iter()
                .enumerate()
                .map(|(index, item)| {
                    item.as_str()
                        .map(str::to_owned)
                        .ok_or_else(|| bad(&format!("/params/argv/{index}"), "must be a string"))
                })
                .collect::<Result<Vec<_>, _>>()?,
            Some(_) => return Err(bad("/params/argv", "must be a list of strings")),
        };
        if argv.first().is_none_or(String::is_empty) {
            return Err(bad("/params/argv", "needs a program as its first element"));
        }
        let stdin = match object.get("stdin") {
            None | Some(Value::Null) => None,
            Some(Value::String(text)) => Some(text.clone()),
            Some(_) => return Err(bad("/params/stdin", "must be a string")),
        };
        Ok(Self { argv, stdin, env: texts(&object, "env")?, env_secrets: texts(&object, "envSecrets")? })
    }
}

fn texts(object: &Map<String, Value>, key: &str) -> Result<Vec<(String, String)>, Fault> {
    match object.get(key) {
        None => Ok(Vec::new()),
        Some(Value::Object(map)) => map
            .iter()
            .map(|(name, value)| match value {
                Value::String(text) => Ok((name.clone(), text.clone())),
                _ => Err(bad(&format!("/params/{key}/{name}"), "must be a string")),
            })
            .collect(),
        Some(_) => Err(bad(&format!("/params/{key}"), "must be an object of strings")),
    }
}

/// Whether element `index` is the script of `sh -c` and its relatives (`-ec`, `-lc` and so on too).
pub(crate) fn is_script(argv: &[String], index: usize) -> bool {
    let Some(option) = index.checked_sub(1).and_then(|before| argv.get(before)) else { return false };
    let name = |path: &String| path.rsplit('/').next().unwrap_or_default().to_owned();
    let shells = ["sh", "bash", "dash", "zsh", "ksh", "ash", "fish"];
    let is_command_option = option.starts_with('-') && !option.starts_with("--") && option.ends_with('c');
    // The shell need not be the program: `env sh -c …`.
    is_command_option && argv[..index - 1].iter().any(|part| shells.contains(&name(part).as_str()))
}
