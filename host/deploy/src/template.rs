//! The stack as one CloudFormation template. Same input, same bytes.

mod alarms;
mod document;
mod functions;
mod network;
mod parameters;
mod queues;
mod rights;
mod storage;
mod workers;

use serde_json::Value;

pub use document::Template;
pub(crate) use functions::{FUNCTIONS, Function, SCHEDULE};
pub(crate) use parameters::{NO_CODE, NO_PROJECT};
pub use rights::{Allow, Grant};
pub(crate) use storage::ANCHOR_FLOOR_DAYS;

/// Logical ids of what holds data. They are kept when the stack goes, and a plan that would replace or remove one is not
/// carried out.
pub const STATEFUL: &[&str] = &["Ledger", "Data", "Anchor"];

/// The template.
#[must_use]
pub fn template() -> Template {
    let mut template = Template::new(
        "Pangolin: tick, run state, inbox, workers and anchor. Made by `pangolin deploy export`; do not edit.",
    );
    parameters::add(&mut template);
    storage::add(&mut template);
    queues::add(&mut template);
    network::add(&mut template);
    workers::add(&mut template);
    functions::add(&mut template);
    alarms::add(&mut template);
    template
}

/// The template as it is exported and uploaded: JSON, two spaces, a newline at the end.
#[must_use]
pub fn export() -> String {
    let mut text = serde_json::to_string_pretty(&template().to_json()).unwrap_or_default();
    text.push('\n');
    text
}

/// The template without white space: the form that is sent, because a request takes at most 51,200 bytes of it.
#[must_use]
pub fn body() -> String {
    template().to_json().to_string()
}

/// Who may do what and why, as a table in Markdown. IAM has no comments; this is where the reasons are.
#[must_use]
pub fn rights_page() -> String {
    let mut text = String::from(
        "| Role | Statement | Actions | On | Only when | Why |\n| --- | --- | --- | --- | --- | --- |\n",
    );
    for grant in template().grants() {
        for allow in &grant.allows {
            let cell = |values: Vec<String>| {
                values.iter().map(|value| format!("`{value}`")).collect::<Vec<_>>().join("<br>")
            };
            let actions = cell(allow.actions.iter().map(|&action| action.to_owned()).collect());
            let resources = cell(allow.resources.iter().map(readable).collect());
            let condition =
                allow.condition.as_ref().map_or_else(String::new, |it| format!("`{}`", readable(it)));
            text.push_str(&format!(
                "| {} | {} | {actions} | {resources} | {condition} | {} |\n",
                grant.role, allow.sid, allow.reason
            ));
        }
        if grant.allows.is_empty() {
            text.push_str(&format!("| {} | – | none | – | | {} |\n", grant.role, grant.reason));
        }
    }
    text
}

/// A value of a template for people: `Fn::Sub` and `Ref` as their text.
fn readable(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Object(map) => {
            for key in ["Fn::Sub", "Ref"] {
                if let Some(Value::String(text)) = map.get(key) {
                    return if key == "Ref" { format!("${{{text}}}") } else { text.clone() };
                }
            }
            if let Some(Value::Array(parts)) = map.get("Fn::GetAtt") {
                let parts: Vec<_> = parts.iter().filter_map(Value::as_str).collect();
                return format!("${{{}}}", parts.join("."));
            }
            if let Some(Value::Array(parts)) = map.get("Fn::If") {
                return parts.get(1).map_or_else(String::new, readable);
            }
            let parts: Vec<_> =
                map.iter().map(|(key, value)| format!("{key}: {}", readable(value))).collect();
            parts.join(", ")
        }
        Value::Array(values) => values.iter().map(readable).collect::<Vec<_>>().join(", "),
        other => other.to_string(),
    }
}
