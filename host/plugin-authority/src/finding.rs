//! Findings, and the walk over untrusted documents that collects all of them.

use std::fmt;

use serde_json::{Map, Value};
use thiserror::Error;

/// One thing that is wrong with a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Key path, e.g. `needs.exec[0].why`; empty for the whole document.
    pub at: String,
    /// What is wrong and what is expected.
    pub problem: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.at.is_empty() {
            f.write_str(&self.problem)
        } else {
            write!(f, "{}: {}", self.at, self.problem)
        }
    }
}

/// Everything that is wrong with one document.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{what}: {}", list(.findings))]
pub struct Findings {
    /// The document.
    pub what: String,
    /// At least one.
    pub findings: Vec<Finding>,
}

fn list(findings: &[Finding]) -> String {
    findings.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

/// Collects while reading goes on.
#[derive(Default)]
pub(crate) struct Walk {
    pub(crate) findings: Vec<Finding>,
}

/// A value and where it stands.
#[derive(Clone)]
pub(crate) struct Node<'v> {
    pub(crate) value: &'v Value,
    pub(crate) at: String,
}

impl<'v> Node<'v> {
    pub(crate) fn root(value: &'v Value) -> Self {
        Self { value, at: String::new() }
    }
}

/// Repeats a text of a document without what could drive a terminal, and bounded.
pub(crate) fn shown(text: &str) -> String {
    let mut short: String = text.chars().take(80).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    format!("{short:?}")
}

/// Characters that hide or reorder what a person reads.
pub(crate) fn is_deceptive(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{ad}' | '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{e0000}'..='\u{e007f}')
}

impl Walk {
    pub(crate) fn report(&mut self, at: &str, problem: impl Into<String>) {
        self.findings.push(Finding { at: at.to_owned(), problem: problem.into() });
    }

    /// A table with none but the known keys.
    pub(crate) fn table<'v>(&mut self, node: &Node<'v>, known: &[&str]) -> Option<&'v Map<String, Value>> {
        let Some(table) = node.value.as_object() else {
            self.report(&node.at, "must be a table");
            return None;
        };
        for key in table.keys().filter(|key| !known.contains(&key.as_str())) {
            self.report(
                &node.at,
                format!("{} is not known here; known are {}", shown(key), known.join(", ")),
            );
        }
        Some(table)
    }

    pub(crate) fn child<'v>(node: &Node<'v>, key: &str) -> Option<Node<'v>> {
        let value = node.value.get(key)?;
        let at = if node.at.is_empty() { key.to_owned() } else { format!("{}.{key}", node.at) };
        Some(Node { value, at })
    }

    pub(crate) fn required<'v>(&mut self, node: &Node<'v>, key: &str, hint: &str) -> Option<Node<'v>> {
        let child = Self::child(node, key);
        if child.is_none() && node.value.is_object() {
            let at = if node.at.is_empty() { key.to_owned() } else { format!("{}.{key}", node.at) };
            self.report(&at, format!("is missing; {hint}"));
        }
        child
    }

    pub(crate) fn text<'v>(&mut self, node: &Node<'v>) -> Option<&'v str> {
        let text = node.value.as_str();
        if text.is_none() {
            self.report(&node.at, "must be a text");
        }
        text
    }

    pub(crate) fn list<'v>(&mut self, node: &Node<'v>, most: usize) -> Vec<Node<'v>> {
        let Some(list) = node.value.as_array() else {
            self.report(&node.at, "must be a list");
            return Vec::new();
        };
        if list.len() > most {
            self.report(&node.at, format!("has {} entries, the limit is {most}", list.len()));
            return Vec::new();
        }
        (0..)
            .zip(list)
            .map(|(index, value): (usize, _)| Node { value, at: format!("{}[{index}]", node.at) })
            .collect()
    }

    /// One line of prose that a person will read before approving.
    pub(crate) fn prose(&mut self, node: &Node<'_>) -> Option<String> {
        let text = self.text(node)?;
        if text.trim().is_empty() {
            self.report(&node.at, "must not be empty");
            return None;
        }
        if text.chars().count() > 300 {
            self.report(&node.at, "is longer than 300 characters");
            return None;
        }
        if text.chars().any(is_deceptive) {
            self.report(&node.at, "contains control, invisible or direction-changing characters");
            return None;
        }
        Some(text.to_owned())
    }

    pub(crate) fn finish<T>(self, what: &str, value: Option<T>) -> Result<T, Findings> {
        match value {
            Some(value) if self.findings.is_empty() => Ok(value),
            _ => {
                let mut findings = self.findings;
                if findings.is_empty() {
                    findings.push(Finding { at: String::new(), problem: "cannot be read".to_owned() });
                }
                Err(Findings { what: what.to_owned(), findings })
            }
        }
    }
}
