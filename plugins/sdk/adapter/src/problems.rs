//! Everything that is wrong, at once.

use crate::{Fault, fault};

/// Collects what is wrong with the parameters of a subagent or with the input of an item. The fault that comes of it lists
/// each with its place, so that the host can show it where it was written.
///
/// A pointer (RFC 6901) starts with `/params` when it is about the parameters whatever the item is; such a problem is shown
/// when the subagent is registered. It starts with `/input` when it is about the item's `workerInput`. It is empty when it
/// is about neither.
#[derive(Debug, Default)]
pub struct Problems(Vec<(String, String)>);

impl Problems {
    /// Notes one.
    pub fn add(&mut self, pointer: impl Into<String>, problem: impl Into<String>) {
        self.0.push((pointer.into(), problem.into()));
    }

    /// Nothing was noted.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether every pointer starts like this.
    #[must_use]
    pub fn are_below(&self, root: &str) -> bool {
        self.0.iter().all(|(pointer, _)| pointer.starts_with(root))
    }

    /// Ends the reading. Use the code `bad-params` when parameters are wrong.
    ///
    /// # Errors
    /// A fault with this code that names every problem; its detail is a JSON list of objects with `pointer` and `problem`.
    pub fn finish(self, code: &str) -> Result<(), Fault> {
        if self.0.is_empty() {
            return Ok(());
        }
        let line = |(pointer, problem): &(String, String)| match pointer.as_str() {
            "" => problem.clone(),
            pointer => format!("{pointer}: {problem}"),
        };
        let lines: Vec<String> = self.0.iter().map(line).collect();
        let objects: Vec<String> = self
            .0
            .iter()
            .map(|(pointer, problem)| {
                format!("{{\"pointer\":{},\"problem\":{}}}", quoted(pointer), quoted(problem))
            })
            .collect();
        Err(Fault { detail: Some(format!("[{}]", objects.join(","))), ..fault(code, lines.join("; ")) })
    }
}

/// A JSON string.
fn quoted(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for found in text.chars() {
        match found {
            '"' | '\\' => quoted.extend(['\\', found]),
            control if control.is_control() => {
                quoted.extend(format!("\\u{:04x}", u32::from(control)).chars())
            }
            other => quoted.push(other),
        }
    }
    quoted.push('"');
    quoted
}

/// One part of a JSON pointer.
#[must_use]
pub fn pointer_part(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}
