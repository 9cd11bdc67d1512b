//! Placeholders.

use std::borrow::Cow;

use pangolin_adapter_sdk::{Fault, TaskView, fault};
use serde_json::Value;

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

    /// Replaces every placeholder in `text` once (values are not searched again).
    pub(crate) fn fill<'a>(&self, text: &'a str, pointer: &str) -> Result<Cow<'a, str>, Fault> {
        if !text.contains("{{") {
            return Ok(Cow::Borrowed(text));
        }
        let mut filled = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(start) = rest.find("{{") {
            let (before, from) = rest.split_at(start);
            filled.push_str(before);
            let Some(end) = from.find("}}") else {
                filled.push_str(from);
                return Ok(Cow::Owned(filled));
            };
            let (whole, after) = from.split_at(end + 2);
            match self.value(whole[2..end].trim(), pointer)? {
                Some(value) => {
                    filled.push_str(&value);
                    rest = after;
                }
                // Not ours. What follows the first brace may still be (`{{{prompt}}}`).
                None => {
                    filled.push('{');
                    rest = &from[1..];
                }
            }
        }
        filled.push_str(rest);
        Ok(Cow::Owned(filled))
    }

    fn value(&self, name: &str, pointer: &str) -> Result<Option<Cow<'_, str>>, Fault> {
        let text = match name {
            "prompt" => &self.prompt,
            "system_prompt" => &self.system_prompt,
            "model" => &self.model,
            "workspace" => &self.workspace,
            _ => {
                let Some(path) = name.strip_prefix("input.") else { return Ok(None) };
                return self.field(path, pointer).map(Some);
            }
        };
        Ok(Some(Cow::Borrowed(text)))
    }

    fn field(&self, path: &str, pointer: &str) -> Result<Cow<'_, str>, Fault> {
        let found = path.split('.').try_fold(&self.input, |value, part| match value {
            Value::Array(items) => items.get(part.parse::<usize>().ok()?),
            value => value.get(part),
        });
        match found {
            Some(Value::String(text)) => Ok(Cow::Borrowed(text)),
            Some(other) => Ok(Cow::Owned(other.to_string())),
            None => Err(fault(
                "missing-input",
                format!("{pointer}: the item's input has no field {path:?}; add it to workerInput"),
            )),
        }
    }
}
