//! Configuration of a pattern on an item's inputs: every finding at once, each with its JSON pointer and a hint.

use std::{fmt, ops::RangeInclusive};

use serde_json::Value;

use crate::{
    SpawnTemplate,
    host::{Fault, fault},
    json,
};

/// What is wrong with a plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// JSON pointer (RFC 6901) into the plan.
    pub pointer: String,
    /// One sentence.
    pub message: String,
    /// What to do.
    pub hint: Option<String>,
}

impl Finding {
    /// With a hint.
    #[must_use]
    pub fn new(pointer: impl Into<String>, message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { pointer: pointer.into(), message: message.into(), hint: Some(hint.into()) }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}: {}", self.pointer, self.message)?;
        self.hint.as_ref().map_or(Ok(()), |hint| write!(out, "; {hint}"))
    }
}

/// The fault of a step that meets findings: items that a producer added to a running run are not planned, so their
/// configuration is seen here first.
#[must_use]
pub fn bad_config(findings: &[Finding]) -> Fault {
    let lines: Vec<String> = findings.iter().map(ToString::to_string).collect();
    fault("bad-config", lines.join("; "))
}

/// What an optional member of an item may be.
#[derive(Clone, Copy)]
enum Kind {
    Text,
    Count,
    Integer,
    Money,
    Texts,
}

/// Optional members of a template with what they may be.
const TEMPLATE_ATTRS: [(&str, Kind); 8] = [
    ("subagentShape", Kind::Text),
    ("maxAttempts", Kind::Count),
    ("timeoutSeconds", Kind::Count),
    ("priority", Kind::Integer),
    ("image", Kind::Text),
    ("model", Kind::Text),
    ("budgetUsd", Kind::Money),
    ("env", Kind::Texts),
];

/// An object whose members are taken one by one. A member that is wrong is noted and counts as absent, so that one
/// reading shows every finding; what nobody took at the end is unknown, and noted.
pub struct Config<'f> {
    /// Ascending. A list, because taking things out of a map is a lot of code.
    fields: Vec<(String, Value)>,
    pointer: String,
    known: Vec<String>,
    findings: &'f mut Vec<Finding>,
}

impl<'f> Config<'f> {
    /// Reads JSON text that stands at `pointer`; `read` takes the members.
    pub fn read<T>(
        json: &str,
        pointer: String,
        findings: &'f mut Vec<Finding>,
        read: impl FnOnce(&mut Config<'_>) -> T,
    ) -> T {
        let fields = match json::parse(json) {
            Ok(Value::Object(fields)) => fields.into_iter().collect(),
            _ => {
                let found = Finding::new(&*pointer, "must be an object", "see docs/plugins/patterns.md");
                findings.push(found);
                // Every member would be missing; one finding says it all.
                let mut ignored = Vec::new();
                return read(&mut Config {
                    fields: Vec::new(),
                    pointer,
                    known: Vec::new(),
                    findings: &mut ignored,
                });
            }
        };
        let mut config = Config { fields, pointer, known: Vec::new(), findings };
        let value = read(&mut config);
        config.finish();
        value
    }

    /// Where the member stands.
    #[must_use]
    pub fn pointer(&self, key: &str) -> String {
        format!("{}/{}", self.pointer, key.replace('~', "~0").replace('/', "~1"))
    }

    /// Notes a finding of the caller's own about a member.
    pub fn problem(&mut self, key: &str, message: impl Into<String>, hint: impl Into<String>) {
        let finding = Finding::new(self.pointer(key), message, hint);
        self.findings.push(finding);
    }

    /// Takes a member as it is.
    pub fn value(&mut self, key: &str) -> Option<Value> {
        self.known.push(key.to_owned());
        self.take(key)
    }

    fn take(&mut self, key: &str) -> Option<Value> {
        let place = self.fields.iter().position(|field| field.0 == key)?;
        Some(self.fields.remove(place).1)
    }

    fn required(&mut self, key: &str, hint: &str) -> Option<Value> {
        let value = self.value(key);
        if value.is_none() {
            let pointer = self.pointer.clone();
            self.findings.push(Finding::new(pointer, format!("member {key:?} is missing"), hint));
        }
        value
    }

    fn as_text(&mut self, key: &str, value: Value) -> Option<String> {
        match value {
            Value::String(text) if !text.is_empty() => Some(text),
            _ => {
                self.problem(key, "must be a string that is not empty", format!("write \"{key}\": \"…\""));
                None
            }
        }
    }

    /// Takes a text that must be there.
    pub fn text(&mut self, key: &str, hint: &str) -> Option<String> {
        let value = self.required(key, hint)?;
        self.as_text(key, value)
    }

    /// Takes a text with a default.
    pub fn text_or(&mut self, key: &str, default: &str) -> String {
        match self.value(key) {
            None => default.to_owned(),
            Some(value) => self.as_text(key, value).unwrap_or_else(|| default.to_owned()),
        }
    }

    fn as_choice<T: Copy>(&mut self, key: &str, value: &Value, choices: &[(&str, T)]) -> Option<T> {
        let word = value.as_str();
        let found = choices.iter().find(|choice| Some(choice.0) == word).map(|choice| choice.1);
        if found.is_none() {
            let words: Vec<String> = choices.iter().map(|choice| format!("{:?}", choice.0)).collect();
            let hint = closest(word.unwrap_or_default(), choices.iter().map(|choice| choice.0));
            let hint = hint.unwrap_or_else(|| format!("use {}", words.join(" or ")));
            self.problem(key, format!("must be {}", words.join(" or ")), hint);
        }
        found
    }

    /// Takes one word of a fixed set that must be there.
    pub fn choice<T: Copy>(&mut self, key: &str, choices: &[(&str, T)]) -> Option<T> {
        let words: Vec<String> = choices.iter().map(|choice| format!("{:?}", choice.0)).collect();
        let value = self.required(key, &format!("add \"{key}\": {}", words.join(" or ")))?;
        self.as_choice(key, &value, choices)
    }

    /// Takes one word of a fixed set with a default.
    pub fn choice_or<T: Copy>(&mut self, key: &str, choices: &[(&str, T)], default: T) -> T {
        match self.value(key) {
            None => default,
            Some(value) => self.as_choice(key, &value, choices).unwrap_or(default),
        }
    }

    fn as_integer(&mut self, key: &str, value: &Value, range: &RangeInclusive<u32>) -> Option<u32> {
        let number =
            value.as_u64().and_then(|number| u32::try_from(number).ok()).filter(|it| range.contains(it));
        if number.is_none() {
            let message = format!("must be an integer from {} to {}", range.start(), range.end());
            self.problem(key, message, format!("for example {}", range.start().max(&1)));
        }
        number
    }

    /// Takes an integer that must be there.
    pub fn integer(&mut self, key: &str, range: RangeInclusive<u32>) -> Option<u32> {
        let value = self.required(key, &format!("add \"{key}\": {}", range.start().max(&1)))?;
        self.as_integer(key, &value, &range)
    }

    /// Takes an integer with a default.
    pub fn integer_or(&mut self, key: &str, range: RangeInclusive<u32>, default: u32) -> u32 {
        match self.value(key) {
            None => default,
            Some(value) => self.as_integer(key, &value, &range).unwrap_or(default),
        }
    }

    /// Takes a template that must be there; `also` takes members that this one has besides those of every template.
    pub fn template<T>(
        &mut self,
        key: &str,
        also: impl FnOnce(&mut Config<'_>) -> T,
    ) -> Option<(SpawnTemplate, T)> {
        let value = self
            .required(key, &format!("add \"{key}\": {{ \"executor\": \"dispatch\", \"inputs\": {{}} }}"))?;
        let pointer = self.pointer(key);
        let (mut also, mut more) = (Some(also), None);
        let template = template(value, pointer, self.findings, &mut |config| {
            more = also.take().map(|also| also(config));
        })?;
        Some((template, more?))
    }

    /// Takes a template that may be absent. The outer `None` is a template that is there and wrong.
    pub fn optional_template(&mut self, key: &str) -> Option<Option<SpawnTemplate>> {
        let Some(value) = self.value(key) else { return Some(None) };
        let pointer = self.pointer(key);
        Some(Some(template(value, pointer, self.findings, &mut |_| ())?))
    }

    /// Takes a list of templates that must be there.
    pub fn templates(&mut self, key: &str) -> Option<Vec<SpawnTemplate>> {
        let hint = format!("add \"{key}\": [{{ \"executor\": \"dispatch\", \"inputs\": {{}} }}]");
        let Value::Array(values) = self.required(key, &hint)? else {
            self.problem(key, "must be a list of templates", hint);
            return None;
        };
        let mut templates = Vec::with_capacity(values.len());
        let mut all_read = true;
        for (position, value) in values.into_iter().enumerate() {
            let pointer = format!("{}/{position}", self.pointer(key));
            match template(value, pointer, self.findings, &mut |_| ()) {
                Some(template) => templates.push(template),
                None => all_read = false,
            }
        }
        all_read.then_some(templates)
    }

    fn finish(self) {
        for (key, _) in &self.fields {
            let hint = closest(key, self.known.iter().map(String::as_str))
                .unwrap_or_else(|| format!("known are {}", self.known.join(", ")));
            let finding = Finding::new(self.pointer(key), format!("member {key:?} is not known"), hint);
            self.findings.push(finding);
        }
    }
}

/// `also` is called once, when there is an object.
fn template(
    value: Value,
    pointer: String,
    findings: &mut Vec<Finding>,
    also: &mut dyn FnMut(&mut Config<'_>),
) -> Option<SpawnTemplate> {
    let Value::Object(fields) = value else {
        let hint = "a template is { \"executor\": \"dispatch\", \"inputs\": {} }";
        findings.push(Finding::new(pointer, "must be an object", hint));
        return None;
    };
    let before = findings.len();
    let fields = fields.into_iter().collect();
    let mut config = Config { fields, pointer, known: Vec::new(), findings };
    let executor = config.text("executor", "usually \"executor\": \"dispatch\"");
    let inputs = match config.required("inputs", "add \"inputs\": {}") {
        Some(Value::Object(inputs)) => Some(inputs),
        Some(_) => {
            config.problem("inputs", "must be an object", "write \"inputs\": {}");
            None
        }
        None => None,
    };
    let locks = config.texts("resourceLocks");
    let mut attrs = Vec::new();
    for (key, kind) in TEMPLATE_ATTRS {
        let Some(value) = config.value(key) else { continue };
        match fits(kind, &value) {
            None => attrs.push((key.into(), json::write(&value).into())),
            Some(wanted) => config.problem(
                key,
                format!("must be {wanted}"),
                "it means the same as in an item of the plan",
            ),
        }
    }
    for edge in ["needs", "depends_on", "id"] {
        if config.take(edge).is_some() {
            config.problem(
                edge,
                "a template has no such member",
                "the pattern sets ids and edges; remove it",
            );
        }
    }
    also(&mut config);
    config.finish();
    if findings.len() > before {
        return None;
    }
    let inputs =
        inputs?.iter().map(|(key, value)| (key.as_str().into(), json::write(value).into())).collect();
    let locks = locks?.into_iter().map(Into::into).collect();
    Some(SpawnTemplate { executor: executor?.into(), inputs, locks, attrs })
}

impl Config<'_> {
    /// Takes a list of texts; absent is empty.
    fn texts(&mut self, key: &str) -> Option<Vec<String>> {
        let Some(value) = self.value(key) else { return Some(Vec::new()) };
        let texts: Option<Vec<String>> = value
            .as_array()
            .and_then(|values| values.iter().map(|value| value.as_str().map(str::to_owned)).collect());
        if texts.is_none() {
            self.problem(key, "must be a list of strings", format!("write \"{key}\": []"));
        }
        texts
    }
}

/// What was wanted when the value is not that.
fn fits(kind: Kind, value: &Value) -> Option<&'static str> {
    let is_texts = |value: &Value| value.as_object().is_some_and(|map| map.values().all(Value::is_string));
    let (fits, wanted) = match kind {
        Kind::Text => (value.as_str().is_some_and(|text| !text.is_empty()), "a string that is not empty"),
        Kind::Count => (value.as_u64().is_some_and(|number| number >= 1), "an integer of at least 1"),
        Kind::Integer => (value.as_i64().is_some(), "an integer"),
        Kind::Money => (value.as_f64().is_some_and(|number| number >= 0.0), "an amount of money"),
        Kind::Texts => (is_texts(value), "an object of strings"),
    };
    (!fits).then_some(wanted)
}

/// The name that was probably meant, as a hint.
fn closest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<String> {
    const MAX_BYTES: usize = 40;
    if name.len() > MAX_BYTES {
        return None;
    }
    let close = known.map(|known| (distance(name, known), known)).min()?;
    (close.0 <= 2 && close.0 < close.1.len()).then(|| format!("did you mean {:?}?", close.1))
}

/// Edit distance, upper and lower case of the letters that members have the same.
fn distance(one: &str, two: &str) -> usize {
    let lower = |text: &str| text.chars().map(|letter| letter.to_ascii_lowercase()).collect::<Vec<_>>();
    let (one, two) = (lower(one), lower(two));
    let mut row: Vec<usize> = (0..=two.len()).collect();
    for (line, from) in one.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = line + 1;
        for (column, to) in two.iter().enumerate() {
            let replaced = diagonal + usize::from(from != to);
            diagonal = row[column + 1];
            row[column + 1] = replaced.min(row[column] + 1).min(diagonal + 1);
        }
    }
    row[two.len()]
}
