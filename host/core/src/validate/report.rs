//! Findings and where they are.

use std::fmt;

use serde::Serialize;
use serde_json::Value;

use super::hint;

/// Most findings in one answer. The last one then says that there are more.
pub const FINDINGS_MAX: usize = 1_000;

/// Whether a finding prevents a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// It does.
    Error,
    /// It does not.
    Warning,
}

/// Something about a plan that its author should know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// JSON pointer (RFC 6901) to the place; empty for the whole document.
    pub pointer: String,
    /// Stable name of the kind of finding.
    pub code: &'static str,
    /// Whether it prevents a run.
    pub severity: Severity,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let severity = match self.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        let place = if self.pointer.is_empty() { "(whole plan)" } else { &self.pointer };
        write!(f, "{severity}: {place}: {} [{}]", self.message, self.code)?;
        self.hint.as_ref().map_or(Ok(()), |hint| write!(f, "; {hint}"))
    }
}

/// A place in the document, as a list on the stack: text is only made for findings.
#[derive(Debug, Clone, Copy)]
pub(super) enum Pointer<'a> {
    Root,
    Key(&'a Pointer<'a>, &'a str),
    Index(&'a Pointer<'a>, usize),
}

impl fmt::Display for Pointer<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Root => Ok(()),
            Self::Key(parent, key) => {
                // Keys may be as long as any string; findings stay readable.
                let end = key.floor_char_boundary(200);
                write!(f, "{parent}/{}", key[..end].replace('~', "~0").replace('/', "~1"))
            }
            Self::Index(parent, index) => write!(f, "{parent}/{index}"),
        }
    }
}

/// Collects findings.
#[derive(Debug, Default)]
pub(super) struct Report {
    findings: Vec<Finding>,
    failed: bool,
    omitted: usize,
    hints: hint::Budget,
}

impl Report {
    pub(super) fn error(
        &mut self,
        at: &Pointer<'_>,
        code: &'static str,
        message: String,
        hint: Option<String>,
    ) {
        self.failed = true;
        self.add(at, code, Severity::Error, message, hint);
    }

    pub(super) fn warning(
        &mut self,
        at: &Pointer<'_>,
        code: &'static str,
        message: String,
        hint: Option<String>,
    ) {
        self.add(at, code, Severity::Warning, message, hint);
    }

    fn add(
        &mut self,
        at: &Pointer<'_>,
        code: &'static str,
        severity: Severity,
        message: String,
        hint: Option<String>,
    ) {
        if self.findings.len() >= FINDINGS_MAX - 1 {
            self.omitted += 1;
            return;
        }
        self.findings.push(Finding { pointer: at.to_string(), code, severity, message, hint });
    }

    pub(super) fn wrong_type(&mut self, at: &Pointer<'_>, expected: &str, found: &Value) {
        let found = match found {
            Value::Null => "null",
            Value::Bool(_) => "a boolean",
            Value::Number(_) => "a number",
            Value::String(_) => "a string",
            Value::Array(_) => "an array",
            Value::Object(_) => "an object",
        };
        self.error(at, "wrong-type", format!("expected {expected}, found {found}"), None);
    }

    /// A name that was probably meant, as a hint.
    pub(super) fn did_you_mean<'a>(
        &mut self,
        name: &str,
        known: impl Iterator<Item = &'a str>,
    ) -> Option<String> {
        self.hints.closest(name, known).map(|close| format!("did you mean {close:?}?"))
    }

    /// Whether there are errors, and the findings.
    pub(super) fn finish(mut self) -> (bool, Vec<Finding>) {
        if self.omitted > 0 {
            self.findings.push(Finding {
                pointer: String::new(),
                code: "more-findings",
                severity: if self.failed { Severity::Error } else { Severity::Warning },
                message: format!("{} more findings are not shown", self.omitted),
                hint: Some("fix these first".to_owned()),
            });
        }
        (self.failed, self.findings)
    }
}
