//! Placeholders.

use std::borrow::Cow;

use pangolin_adapter_sdk::{Fault, Problems, TaskView, fault, pointer_part};
use serde_json::Value;

/// Placeholders that need no field.
const WORDS: [&str; 4] = ["prompt", "system_prompt", "model", "workspace"];

/// What a text says at its next braces.
enum Braces<'a> {
    /// Text without placeholders is all that is left.
    None,
    /// Text, what is between the braces, and the text after them.
    Tag(&'a str, &'a str, &'a str),
}

/// Other text in braces is left alone; what follows its first brace may still be ours (`{{{prompt}}}`).
fn next(text: &str) -> Braces<'_> {
    let mut from = 0;
    while let Some(start) = text[from..].find("{{").map(|found| from + found) {
        let Some(end) = text[start..].find("}}").map(|found| start + found) else { return Braces::None };
        let name = text[start + 2..end].trim();
        if WORDS.contains(&name) || name.starts_with("input.") {
            return Braces::Tag(&text[..start], name, &text[end + 2..]);
        }
        from = start + 1;
    }
    Braces::None
}

/// Whether anything in the text would be replaced.
pub(crate) fn has_placeholder(text: &str) -> bool {
    matches!(next(text), Braces::Tag(..))
}

/// What placeholders stand for.
pub(crate) struct Values {
    prompt: String,
    system_prompt: String,
    model: String,
    workspace: String,
    input: Value,
}

impl Values {
    pub(crate) fn of(task: &TaskView) -> Result<Self, Fault> {
        let json = task.input_json();
        let input = if json.is_empty() { "null" } else { &json };
        Ok(Self {
            prompt: task.prompt(),
            system_prompt: task.system_prompt().unwrap_or_default(),
            model: task.model().unwrap_or_default(),
            workspace: task.workspace(),
            input: serde_json::from_str(input)
                .map_err(|error| fault("bad-input", format!("the item's input is not JSON: {error}")))?,
        })
    }

    /// Replaces every placeholder in `text` once (values are not searched again). A field that is not there is noted;
    /// `place` says where the text stands.
    pub(crate) fn fill<'a>(&self, text: &'a str, place: &str, problems: &mut Problems) -> Cow<'a, str> {
        let mut filled = String::new();
        let mut rest = text;
        while let Braces::Tag(before, name, after) = next(rest) {
            filled.push_str(before);
            match self.value(name) {
                Some(value) => filled.push_str(&value),
                None => {
                    let path = name.strip_prefix("input.").unwrap_or(name);
                    let parts: Vec<String> = path.split('.').map(pointer_part).collect();
                    let problem = format!(
                        "{place} needs the field {path:?}, which the item's input does not have; add it to workerInput"
                    );
                    problems.add(format!("/input/{}", parts.join("/")), problem);
                }
            }
            rest = after;
        }
        if filled.is_empty() && rest.len() == text.len() {
            return Cow::Borrowed(text);
        }
        filled.push_str(rest);
        Cow::Owned(filled)
    }

    fn value(&self, name: &str) -> Option<Cow<'_, str>> {
        let text = match name {
            "prompt" => &self.prompt,
            "system_prompt" => &self.system_prompt,
            "model" => &self.model,
            "workspace" => &self.workspace,
            _ => return self.field(name.strip_prefix("input.")?),
        };
        Some(Cow::Borrowed(text))
    }

    fn field(&self, path: &str) -> Option<Cow<'_, str>> {
        let found = path.split('.').try_fold(&self.input, |value, part| match value {
            Value::Array(items) => items.get(part.parse::<usize>().ok()?),
            value => value.get(part),
        })?;
        Some(match found {
            Value::String(text) => Cow::Borrowed(text),
            other => Cow::Owned(other.to_string()),
        })
    }
}
