//! Taking typed fields out of JSON objects, noting everything that does not fit.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use super::{
    NAME_BYTES_MAX,
    report::{Pointer, Report},
};
use crate::ids::IdError;

/// An object whose fields are taken one by one; what is left at the end is unknown.
pub(super) struct Object<'a> {
    at: &'a Pointer<'a>,
    map: Map<String, Value>,
}

impl<'a> Object<'a> {
    pub(super) fn take(value: Value, at: &'a Pointer<'a>, report: &mut Report) -> Option<Self> {
        match value {
            Value::Object(map) => Some(Self { at, map }),
            other => {
                report.wrong_type(at, "an object", &other);
                None
            }
        }
    }

    pub(super) fn optional(&mut self, key: &'a str) -> Option<(Pointer<'a>, Value)> {
        // `swap_remove`: the order of what is left does not matter and this keeps large objects linear.
        let value = self.map.swap_remove(key)?;
        Some((Pointer::Key(self.at, key), value))
    }

    pub(super) fn required(&mut self, key: &'a str, report: &mut Report) -> Option<(Pointer<'a>, Value)> {
        let field = self.optional(key);
        if field.is_none() {
            let hint = match key {
                "depends_on" | "resourceLocks" => Some(format!("add \"{key}\": []")),
                "inputs" => Some("add \"inputs\": {}".to_owned()),
                "executor" => Some("usually \"executor\": \"dispatch\"".to_owned()),
                _ => None,
            };
            report.error(self.at, "missing-field", format!("field {key:?} is missing"), hint);
        }
        field
    }

    /// Warns about keys that nobody reads.
    pub(super) fn finish(self, known: &[&str], report: &mut Report) {
        for key in self.map.keys() {
            let hint = report.did_you_mean(key, known.iter().copied());
            let at = Pointer::Key(self.at, key);
            report.warning(&at, "unknown-field", "the field is not known and has no effect".to_owned(), hint);
        }
    }
}

/// An id of any kind.
pub(super) fn id<T>(
    value: Value,
    at: &Pointer<'_>,
    report: &mut Report,
    new: impl Fn(String) -> Result<T, IdError>,
) -> Option<T> {
    match value {
        Value::String(text) => match new(text) {
            Ok(id) => Some(id),
            Err(error) => {
                let hint = "use letters, digits and . _ ~ : @ + -, at most 128 bytes".to_owned();
                // The message names the id; hostile ones are long.
                let mut text = error.to_string();
                text.truncate(text.floor_char_boundary(500));
                report.error(at, "bad-id", text, Some(hint));
                None
            }
        },
        other => {
            report.wrong_type(at, "a string", &other);
            None
        }
    }
}

/// Any string.
pub(super) fn string(value: Value, at: &Pointer<'_>, report: &mut Report) -> Option<String> {
    match value {
        Value::String(text) => Some(text),
        other => {
            report.wrong_type(at, "a string", &other);
            None
        }
    }
}

/// A short string that is not empty and has no control characters.
pub(super) fn name(value: Value, at: &Pointer<'_>, report: &mut Report) -> Option<String> {
    let text = string(value, at, report)?;
    let problem = if text.trim().is_empty() {
        "must not be empty"
    } else if text.len() > NAME_BYTES_MAX {
        "is longer than 1,024 bytes"
    } else if text.chars().any(char::is_control) {
        "contains a control character"
    } else {
        return Some(text);
    };
    report.error(at, "bad-name", format!("the value {problem}"), None);
    None
}

/// A whole number between bounds.
pub(super) fn integer(
    value: &Value,
    at: &Pointer<'_>,
    report: &mut Report,
    low: i64,
    high: i64,
) -> Option<i64> {
    let Value::Number(number) = value else {
        report.wrong_type(at, "a whole number", value);
        return None;
    };
    // 3.0 is the same JSON number as 3.
    let exact = number.as_i64().or_else(|| {
        let float = number.as_f64().filter(|float| float.fract() == 0.0 && float.abs() < 9.0e15)?;
        #[expect(clippy::cast_possible_truncation, reason = "whole and below 2^53")]
        Some(float as i64)
    });
    let fits = exact.filter(|number| (low..=high).contains(number));
    if fits.is_none() {
        report.error(
            at,
            "out-of-range",
            format!("{number} is not a whole number from {low} to {high}"),
            None,
        );
    }
    fits
}

/// An array; every element with its place.
pub(super) fn array(value: Value, at: &Pointer<'_>, expected: &str, report: &mut Report) -> Vec<Value> {
    match value {
        Value::Array(values) => values,
        other => {
            report.wrong_type(at, expected, &other);
            Vec::new()
        }
    }
}

/// Environment values: names of the POSIX form, string values without NUL.
pub(super) fn environment(value: Value, at: &Pointer<'_>, report: &mut Report) -> BTreeMap<String, String> {
    let Value::Object(map) = value else {
        report.wrong_type(at, "an object of strings", &value);
        return BTreeMap::new();
    };
    let mut values = BTreeMap::new();
    for (key, value) in map {
        let at = Pointer::Key(at, &key);
        let mut characters = key.chars();
        let first = characters.next().is_some_and(|first| first.is_ascii_alphabetic() || first == '_');
        if !first || !characters.all(|next| next.is_ascii_alphanumeric() || next == '_') {
            let hint = "use letters, digits and _, not starting with a digit".to_owned();
            report.error(&at, "bad-env-name", "not a name of an environment variable".to_owned(), Some(hint));
        }
        let Some(text) = string(value, &at, report) else { continue };
        if text.contains('\0') {
            report.error(&at, "bad-env-value", "the value contains a NUL character".to_owned(), None);
        }
        values.insert(key, text);
    }
    values
}

/// Why a path is not safe below a directory of ours; `None` when it is.
pub(super) fn unsafe_path(path: &str) -> Option<&'static str> {
    if path.is_empty() {
        Some("is empty")
    } else if path.len() > NAME_BYTES_MAX {
        Some("is longer than 1,024 bytes")
    } else if path.starts_with('/') {
        Some("is absolute")
    } else if path.contains('\\') {
        Some("contains a backslash")
    } else if path.chars().any(char::is_control) {
        Some("contains a control character")
    } else if path.split('/').any(|segment| segment == "..") {
        Some("contains \"..\"")
    } else if path.split('/').any(|segment| segment.is_empty() || segment == ".") {
        Some("contains an empty or \".\" segment")
    } else if path.split('/').any(|segment| segment.len() > 255) {
        Some("has a segment longer than 255 bytes")
    } else {
        None
    }
}

/// `label: a, b, c`, cut after a few.
pub(super) fn list(label: &str, names: &BTreeSet<String>) -> String {
    let shown: Vec<&str> = names.iter().take(8).map(String::as_str).collect();
    let rest = if names.len() > shown.len() { ", …" } else { "" };
    if shown.is_empty() { format!("{label}: none") } else { format!("{label}: {}{rest}", shown.join(", ")) }
}
