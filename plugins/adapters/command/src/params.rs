//! The subagent's `params`.

use pangolin_adapter_sdk::{Problems, pointer_part};
use serde_json::{Map, Value};

use crate::template;

/// Parameters, as far as they could be read.
#[derive(Debug, Default)]
pub(crate) struct Params {
    pub(crate) argv: Vec<String>,
    pub(crate) stdin: Option<String>,
    pub(crate) env: Vec<(String, String)>,
    pub(crate) env_secrets: Vec<(String, String)>,
}

const EXAMPLE: &str = "params = { argv = [\"sh\", \"tools/agent.sh\"] }";

const KNOWN: [&str; 4] = ["argv", "stdin", "env", "envSecrets"];

fn bad(problems: &mut Problems, pointer: &str, problem: &str) {
    problems.add(pointer, format!("{problem}, e.g. {EXAMPLE}"));
}

impl Params {
    /// Reads the JSON text of the attribute.
    pub(crate) fn read(json: Option<&str>, problems: &mut Problems) -> Self {
        let object = match serde_json::from_str(json.unwrap_or("{}")) {
            Ok(Value::Object(object)) => object,
            Ok(_) => {
                bad(problems, "/params", "must be an object");
                return Self::default();
            }
            Err(error) => {
                bad(problems, "/params", &format!("not JSON ({error})"));
                return Self::default();
            }
        };
        for key in object.keys().filter(|key| !KNOWN.contains(&key.as_str())) {
            let pointer = format!("/params/{}", pointer_part(key));
            bad(problems, &pointer, "unknown; there are argv, stdin, env and envSecrets");
        }
        let stdin = match object.get("stdin") {
            None | Some(Value::Null) => None,
            Some(Value::String(text)) => Some(text.clone()),
            Some(_) => {
                bad(problems, "/params/stdin", "must be a string");
                None
            }
        };
        Self {
            argv: argv(&object, problems),
            stdin,
            env: texts(&object, "env", problems),
            env_secrets: texts(&object, "envSecrets", problems),
        }
    }

    /// Placeholders in scripts of shells.
    pub(crate) fn check_scripts(&self, problems: &mut Problems) {
        for (index, text) in self.argv.iter().enumerate() {
            if is_script(&self.argv, index) && template::has_placeholder(text) {
                let problem = "a placeholder in a shell script would run its value as code; pass it as an argument and \
                               use \"$1\" in the script";
                problems.add(format!("/params/argv/{index}"), problem);
            }
        }
    }
}

fn argv(object: &Map<String, Value>, problems: &mut Problems) -> Vec<String> {
    let items = match object.get("argv") {
        Some(Value::Array(items)) => items,
        None => {
            bad(problems, "/params/argv", "missing: the command adapter has no command to run");
            return Vec::new();
        }
        Some(_) => {
            bad(problems, "/params/argv", "must be a list of strings");
            return Vec::new();
        }
    };
    if items.first().is_none_or(|first| first.as_str() == Some("")) {
        bad(problems, "/params/argv", "needs a program as its first element");
    }
    let mut argv = Vec::with_capacity(items.len());
    for (index, item) in items.iter().enumerate() {
        match item {
            Value::String(text) => argv.push(text.clone()),
            _ => bad(problems, &format!("/params/argv/{index}"), "must be a string"),
        }
    }
    argv
}

fn texts(object: &Map<String, Value>, key: &str, problems: &mut Problems) -> Vec<(String, String)> {
    let map = match object.get(key) {
        None => return Vec::new(),
        Some(Value::Object(map)) => map,
        Some(_) => {
            bad(problems, &format!("/params/{key}"), "must be an object of strings");
            return Vec::new();
        }
    };
    let mut texts = Vec::with_capacity(map.len());
    for (name, value) in map {
        match value {
            Value::String(text) => texts.push((name.clone(), text.clone())),
            _ => bad(problems, &format!("/params/{key}/{}", pointer_part(name)), "must be a string"),
        }
    }
    texts
}

/// Whether element `index` is the script of `sh -c` and its relatives (`-ec`, `-lc` and so on too).
fn is_script(argv: &[String], index: usize) -> bool {
    let Some(option) = index.checked_sub(1).and_then(|before| argv.get(before)) else { return false };
    let name = |path: &String| path.rsplit('/').next().unwrap_or_default().to_owned();
    let shells = ["sh", "bash", "dash", "zsh", "ksh", "ash", "fish"];
    let is_command_option = option.starts_with('-') && !option.starts_with("--") && option.ends_with('c');
    // The shell need not be the program: `env sh -c …`.
    is_command_option && argv[..index - 1].iter().any(|part| shells.contains(&name(part).as_str()))
}
