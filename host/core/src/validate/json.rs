//! JSON within bounds: the depth, the number of values and the length of strings are checked while parsing, before
//! anything grows, and keys that occur twice are found (`serde_json` alone keeps the last one).

use std::{cell::RefCell, fmt};

use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use super::{
    DEPTH_MAX, PLAN_BYTES_MAX, STRING_BYTES_MAX, VALUES_MAX,
    report::{Pointer, Report},
};

struct Limits<'r> {
    report: &'r mut Report,
    values: u32,
    /// A bound was hit: the finding exists already and parsing was given up.
    stopped: bool,
}

/// The document, or nothing when it is not JSON or breaks a bound.
pub(super) fn parse(bytes: &[u8], report: &mut Report) -> Option<Value> {
    if bytes.len() > PLAN_BYTES_MAX {
        let text = format!("{} bytes, at most {PLAN_BYTES_MAX} are allowed", bytes.len());
        report.error(
            &Pointer::Root,
            "too-large",
            text,
            Some("move large inputs into capabilities".to_owned()),
        );
        return None;
    }
    let limits = RefCell::new(Limits { report, values: 0, stopped: false });
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let seed = Seed { limits: &limits, at: &Pointer::Root, depth: 0 };
    let parsed = seed.deserialize(&mut deserializer).and_then(|value| deserializer.end().map(|()| value));
    let limits = limits.into_inner();
    match parsed {
        Ok(value) => Some(value),
        Err(_) if limits.stopped => None,
        Err(error) => {
            let place = format!("line {}, column {}", error.line(), error.column());
            let mut text = error.to_string();
            // serde_json ends its message with the place in its own words.
            if let Some(cut) = text.rfind(" at line ") {
                text.truncate(cut);
            }
            let hint = bytes.starts_with(b"\xef\xbb\xbf").then(|| "remove the byte order mark".to_owned());
            limits.report.error(&Pointer::Root, "not-json", format!("not JSON at {place}: {text}"), hint);
            None
        }
    }
}

#[derive(Clone, Copy)]
struct Seed<'a, 'r> {
    limits: &'a RefCell<Limits<'r>>,
    at: &'a Pointer<'a>,
    depth: u32,
}

impl Seed<'_, '_> {
    fn stop<E: serde::de::Error>(&self, code: &'static str, text: String) -> E {
        let mut limits = self.limits.borrow_mut();
        limits.stopped = true;
        limits.report.error(self.at, code, text.clone(), None);
        E::custom(text)
    }

    fn text(&self, text: &str) {
        if text.len() > STRING_BYTES_MAX {
            let message = format!("string of {} bytes, at most {STRING_BYTES_MAX} are allowed", text.len());
            self.limits.borrow_mut().report.error(self.at, "string-too-long", message, None);
        }
    }

    fn deeper<E: serde::de::Error>(&self) -> Result<u32, E> {
        if self.depth >= DEPTH_MAX {
            return Err(self.stop("too-deep", format!("nested more than {DEPTH_MAX} levels deep")));
        }
        Ok(self.depth + 1)
    }
}

impl<'de> DeserializeSeed<'de> for Seed<'_, '_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        let values = {
            let mut limits = self.limits.borrow_mut();
            limits.values += 1;
            limits.values
        };
        if values > VALUES_MAX {
            return Err(self.stop("too-many-values", format!("more than {VALUES_MAX} JSON values")));
        }
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Seed<'_, '_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value).map(Value::Number).ok_or_else(|| E::custom("number is not finite"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        self.text(value);
        Ok(Value::String(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        self.text(&value);
        Ok(Value::String(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let depth = self.deeper()?;
        let mut values = Vec::new();
        loop {
            let at = Pointer::Index(self.at, values.len());
            let Some(value) = access.next_element_seed(Seed { limits: self.limits, at: &at, depth })? else {
                break;
            };
            values.push(value);
        }
        Ok(Value::Array(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let depth = self.deeper()?;
        let mut map = Map::new();
        while let Some(key) = access.next_key::<String>()? {
            let at = Pointer::Key(self.at, &key);
            let seed = Seed { limits: self.limits, at: &at, depth };
            seed.text(&key);
            if map.contains_key(&key) {
                let message = "the key occurs twice in this object".to_owned();
                self.limits.borrow_mut().report.error(
                    &at,
                    "duplicate-key",
                    message,
                    Some("remove one".to_owned()),
                );
            }
            let value = access.next_value_seed(seed)?;
            map.insert(key, value);
        }
        Ok(Value::Object(map))
    }
}
