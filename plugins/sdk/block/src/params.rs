//! Parameters: every finding at once, each with its JSON pointer.

use std::{collections::BTreeMap, ops::RangeInclusive};

use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Map, Value};

use crate::stage::{Fault, fault};

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// Where, below `/params`.
    pub pointer: String,
    /// What, with the next step.
    pub problem: String,
}

/// What follows when a rule does not hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// The rule is not looked at.
    Off,
    /// Evidence, still green.
    Warn,
    /// Red.
    Deny,
}

impl Level {
    /// As a choice of parameters.
    pub const CHOICES: &'static [(&'static str, Self)] =
        &[("off", Self::Off), ("warn", Self::Warn), ("deny", Self::Deny)];
}

/// An object of parameters. Take each field once, then [`finish`](Self::finish): what nobody took is unknown and so a
/// finding.
///
/// A field that is wrong is noted and its default used, so that one run shows all findings; `finish` then fails.
#[derive(Debug)]
pub struct Params {
    fields: Map<String, Value>,
    pointer: String,
    known: Vec<String>,
    problems: Vec<Problem>,
}

impl Params {
    /// Reads JSON text. Empty text is an empty object.
    #[must_use]
    pub fn parse(json: &str) -> Self {
        let mut params =
            Self { fields: Map::new(), pointer: "/params".into(), known: Vec::new(), problems: Vec::new() };
        if json.trim().is_empty() {
            return params;
        }
        match serde_json::from_str(json) {
            Ok(Value::Object(fields)) => params.fields = fields,
            Ok(_) => params.note("/params".into(), "must be an object".into()),
            Err(error) => params.note("/params".into(), format!("not JSON: {error}")),
        }
        params
    }

    fn note(&mut self, pointer: String, problem: String) {
        self.problems.push(Problem { pointer, problem });
    }

    /// Notes a finding of the caller's own. `field` may go deeper with `/`.
    pub fn problem(&mut self, field: &str, problem: impl Into<String>) {
        self.note(format!("{}/{field}", self.pointer), problem.into());
    }

    /// Takes a field as it is.
    pub fn value(&mut self, key: &str) -> Option<Value> {
        self.known.push(key.to_owned());
        self.fields.remove(key)
    }

    /// Takes a field as any type that serde can read.
    pub fn typed<T: DeserializeOwned>(&mut self, key: &str) -> Option<T> {
        match serde_json::from_value(self.value(key)?) {
            Ok(value) => Some(value),
            Err(error) => {
                self.problem(&escape(key), error.to_string());
                None
            }
        }
    }

    /// Takes a text.
    pub fn string(&mut self, key: &str) -> Option<String> {
        match self.value(key)? {
            Value::String(text) => Some(text),
            _ => {
                self.problem(&escape(key), "must be a string");
                None
            }
        }
    }

    /// Takes true or false.
    pub fn flag(&mut self, key: &str, default: bool) -> bool {
        match self.value(key) {
            None => default,
            Some(Value::Bool(flag)) => flag,
            Some(_) => {
                self.problem(&escape(key), "must be true or false");
                default
            }
        }
    }

    /// Takes an integer.
    pub fn integer(&mut self, key: &str, range: RangeInclusive<u64>, default: u64) -> u64 {
        self.optional_integer(key, range).unwrap_or(default)
    }

    /// Takes an integer that may be absent.
    pub fn optional_integer(&mut self, key: &str, range: RangeInclusive<u64>) -> Option<u64> {
        let number = self.value(key)?.as_u64().filter(|number| range.contains(number));
        if number.is_none() {
            self.problem(
                &escape(key),
                format!("must be an integer from {} to {}", range.start(), range.end()),
            );
        }
        number
    }

    /// Takes one word of a fixed set.
    pub fn choice<T: Copy>(&mut self, key: &str, choices: &[(&str, T)], default: T) -> T {
        match self.value(key) {
            None => default,
            Some(value) => pick(&value, choices).unwrap_or_else(|problem| {
                self.problem(&escape(key), problem);
                default
            }),
        }
    }

    /// Takes a list of texts.
    pub fn strings(&mut self, key: &str) -> Option<Vec<String>> {
        let Value::Array(items) = self.value(key)? else {
            self.problem(&escape(key), "must be a list of strings");
            return None;
        };
        let mut texts = Vec::with_capacity(items.len());
        for (index, item) in items.into_iter().enumerate() {
            match item {
                Value::String(text) => texts.push(text),
                _ => self.problem(&format!("{}/{index}", escape(key)), "must be a string"),
            }
        }
        Some(texts)
    }

    /// Takes an object of texts.
    pub fn texts(&mut self, key: &str) -> BTreeMap<String, String> {
        let mut texts = BTreeMap::new();
        match self.value(key) {
            None => {}
            Some(Value::Object(map)) => {
                for (name, value) in map {
                    match value {
                        Value::String(text) => drop(texts.insert(name, text)),
                        _ => self.problem(&format!("{}/{}", escape(key), escape(&name)), "must be a string"),
                    }
                }
            }
            Some(_) => self.problem(&escape(key), "must be an object of strings"),
        }
        texts
    }

    /// Takes an object with a level per rule; a rule that is not in `rules` is a finding. Answers the level of each rule,
    /// the given one or its default.
    pub fn levels<'r>(
        &mut self,
        key: &str,
        rules: impl IntoIterator<Item = (&'r str, Level)>,
    ) -> BTreeMap<&'r str, Level> {
        let mut levels = BTreeMap::new();
        self.section(key, |section| {
            for (rule, default) in rules {
                levels.insert(rule, section.choice(rule, Level::CHOICES, default));
            }
        });
        levels
    }

    /// Takes an object; `read` takes its fields. Absent is the same as empty.
    pub fn section<T>(&mut self, key: &str, read: impl FnOnce(&mut Self) -> T) -> T {
        let fields = match self.value(key) {
            None => Map::new(),
            Some(Value::Object(fields)) => fields,
            Some(_) => {
                self.problem(&escape(key), "must be an object");
                Map::new()
            }
        };
        let pointer = format!("{}/{}", self.pointer, escape(key));
        self.inside(fields, pointer, read)
    }

    /// Takes a list of objects; `read` takes the fields of each.
    pub fn sections<T>(&mut self, key: &str, mut read: impl FnMut(&mut Self) -> T) -> Vec<T> {
        let items = match self.value(key) {
            None => Vec::new(),
            Some(Value::Array(items)) => items,
            Some(_) => {
                self.problem(&escape(key), "must be a list of objects");
                Vec::new()
            }
        };
        let mut all = Vec::with_capacity(items.len());
        for (index, item) in items.into_iter().enumerate() {
            let place = format!("{}/{index}", escape(key));
            match item {
                Value::Object(fields) => {
                    let pointer = format!("{}/{place}", self.pointer);
                    all.push(self.inside(fields, pointer, &mut read));
                }
                _ => self.problem(&place, "must be an object"),
            }
        }
        all
    }

    fn inside<T>(
        &mut self,
        fields: Map<String, Value>,
        pointer: String,
        read: impl FnOnce(&mut Self) -> T,
    ) -> T {
        let mut inner = Self { fields, pointer, known: Vec::new(), problems: Vec::new() };
        let value = read(&mut inner);
        inner.note_unknown();
        self.problems.append(&mut inner.problems);
        value
    }

    fn note_unknown(&mut self) {
        for key in std::mem::take(&mut self.fields).keys() {
            let known = self.known.join(", ");
            self.problem(&escape(key), format!("unknown; there are: {known}"));
        }
    }

    /// Ends the reading.
    ///
    /// # Errors
    /// A fault `bad-params` that names every finding; its detail is a JSON list of [`Problem`].
    pub fn finish(mut self) -> Result<(), Fault> {
        self.note_unknown();
        if self.problems.is_empty() {
            return Ok(());
        }
        let lines: Vec<String> =
            self.problems.iter().map(|it| format!("{}: {}", it.pointer, it.problem)).collect();
        Err(Fault {
            detail: serde_json::to_string(&self.problems).ok(),
            ..fault("bad-params", lines.join("; "))
        })
    }
}

fn pick<T: Copy>(value: &Value, choices: &[(&str, T)]) -> Result<T, String> {
    let word = value.as_str();
    choices.iter().find(|choice| Some(choice.0) == word).map(|choice| choice.1).ok_or_else(|| {
        let words: Vec<&str> = choices.iter().map(|choice| choice.0).collect();
        format!("must be one of {}", words.join(", "))
    })
}

/// One part of a JSON pointer (RFC 6901).
fn escape(key: &str) -> String {
    key.replace('~', "~0").replace('/', "~1")
}
