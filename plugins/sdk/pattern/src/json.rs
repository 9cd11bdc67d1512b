//! JSON text to values and back. Small, because every pattern carries it and pays for its size whenever it is loaded:
//! the general reader and its messages are four times as large.

use serde_json::{Map, Number, Value};

/// Deepest nesting of lists and objects that is read.
const DEPTH_MAX: u32 = 128;

/// Reads one value.
///
/// # Errors
/// What is wrong and the byte where, in words.
pub fn parse(text: &str) -> Result<Value, String> {
    let mut reader = Reader { text, at: 0 };
    let value = reader.value(DEPTH_MAX);
    reader.space();
    match value {
        Some(value) if reader.at == text.len() => Ok(value),
        _ => {
            let mut problem = String::from("not JSON at byte ");
            digits(reader.at as u64, &mut problem);
            Err(problem)
        }
    }
}

struct Reader<'t> {
    text: &'t str,
    at: usize,
}

impl Reader<'_> {
    fn peek(&self) -> u8 {
        self.text.as_bytes().get(self.at).copied().unwrap_or_default()
    }

    fn space(&mut self) {
        while matches!(self.peek(), b' ' | b'\t' | b'\n' | b'\r') {
            self.at += 1;
        }
    }

    /// Goes on behind `byte` when that is next.
    fn take(&mut self, byte: u8) -> bool {
        let is_next = self.peek() == byte;
        self.at += usize::from(is_next);
        is_next
    }

    fn word(&mut self, word: &str, value: Value) -> Option<Value> {
        if !self.text.as_bytes()[self.at..].starts_with(word.as_bytes()) {
            return None;
        }
        self.at += word.len();
        Some(value)
    }

    fn value(&mut self, depth: u32) -> Option<Value> {
        self.space();
        match self.peek() {
            b'n' => self.word("null", Value::Null),
            b't' => self.word("true", Value::Bool(true)),
            b'f' => self.word("false", Value::Bool(false)),
            b'"' => self.string().map(Value::String),
            b'[' => self.list(depth.checked_sub(1)?),
            b'{' => self.object(depth.checked_sub(1)?),
            _ => self.number(),
        }
    }

    fn list(&mut self, depth: u32) -> Option<Value> {
        let mut list = Vec::new();
        self.at += 1;
        self.space();
        if self.take(b']') {
            return Some(Value::Array(list));
        }
        loop {
            list.push(self.value(depth)?);
            self.space();
            if self.take(b']') {
                return Some(Value::Array(list));
            }
            if !self.take(b',') {
                return None;
            }
        }
    }

    fn object(&mut self, depth: u32) -> Option<Value> {
        let mut map = Map::new();
        self.at += 1;
        self.space();
        if self.take(b'}') {
            return Some(Value::Object(map));
        }
        loop {
            self.space();
            let key = if self.peek() == b'"' { self.string()? } else { return None };
            self.space();
            if !self.take(b':') {
                return None;
            }
            let value = self.value(depth)?;
            map.insert(key, value);
            self.space();
            if self.take(b'}') {
                return Some(Value::Object(map));
            }
            if !self.take(b',') {
                return None;
            }
        }
    }

    fn string(&mut self) -> Option<String> {
        self.at += 1;
        let mut out = String::new();
        loop {
            let start = self.at;
            while !matches!(self.peek(), b'"' | b'\\' | 0..=0x1f) {
                self.at += 1;
            }
            // Both ends are at ASCII characters.
            out.push_str(self.text.get(start..self.at)?);
            match self.peek() {
                b'"' => {
                    self.at += 1;
                    return Some(out);
                }
                b'\\' => {
                    self.at += 2;
                    out.push(match self.text.as_bytes().get(self.at - 1)? {
                        b'"' => '"',
                        b'\\' => '\\',
                        b'/' => '/',
                        b'b' => '\u{8}',
                        b'f' => '\u{c}',
                        b'n' => '\n',
                        b'r' => '\r',
                        b't' => '\t',
                        b'u' => self.unicode()?,
                        _ => return None,
                    });
                }
                _ => return None,
            }
        }
    }

    fn unit(&mut self) -> Option<u32> {
        let mut unit = 0;
        for _ in 0..4 {
            unit = unit * 16 + char::from(self.peek()).to_digit(16)?;
            self.at += 1;
        }
        Some(unit)
    }

    fn unicode(&mut self) -> Option<char> {
        let unit = self.unit()?;
        if !(0xd800..0xdc00).contains(&unit) {
            return char::from_u32(unit);
        }
        if !(self.take(b'\\') && self.take(b'u')) {
            return None;
        }
        let low = self.unit()?.checked_sub(0xdc00).filter(|low| *low < 0x400)?;
        char::from_u32(0x1_0000 + ((unit - 0xd800) << 10) + low)
    }

    /// The digits that follow, as many as fit into the number; how many there were, and how many of them were left out.
    fn digits(&mut self, number: &mut u64) -> (i32, i32) {
        let (mut seen, mut left_out) = (0, 0);
        while let digit @ b'0'..=b'9' = self.peek() {
            let more = number.checked_mul(10).and_then(|it| it.checked_add(u64::from(digit - b'0')));
            match more {
                Some(more) if left_out == 0 => *number = more,
                _ => left_out += 1,
            }
            seen += 1;
            self.at += 1;
        }
        (seen, left_out)
    }

    fn number(&mut self) -> Option<Value> {
        let is_negative = self.take(b'-');
        let starts_with_zero = self.peek() == b'0';
        let mut number = 0;
        let (whole, left_out) = self.digits(&mut number);
        if whole == 0 || (starts_with_zero && whole > 1) {
            return None;
        }
        let mut exponent = left_out;
        let mut is_whole = left_out == 0;
        if self.take(b'.') {
            is_whole = false;
            let had_room = left_out == 0;
            let (seen, left_out) = if had_room { self.digits(&mut number) } else { self.digits(&mut 0) };
            if seen == 0 {
                return None;
            }
            if had_room {
                exponent -= seen - left_out;
            }
        }
        if matches!(self.peek(), b'e' | b'E') {
            is_whole = false;
            self.at += 1;
            let is_small = self.take(b'-');
            if !is_small {
                self.take(b'+');
            }
            let mut power = 0;
            let (seen, left_out) = self.digits(&mut power);
            if seen == 0 {
                return None;
            }
            let power = if left_out > 0 { 100_000 } else { i32::try_from(power.min(100_000)).ok()? };
            exponent = exponent.saturating_add(if is_small { -power } else { power });
        }
        if is_whole {
            let negative = 0_i64.checked_sub_unsigned(number);
            match negative {
                _ if !is_negative => return Some(number.into()),
                Some(negative) if number != 0 => return Some(negative.into()),
                _ => {}
            }
        }
        let size = scaled(number, exponent);
        Number::from_f64(if is_negative { -size } else { size }).map(Value::Number)
    }
}

/// `number` times ten to the power of `exponent`: exact as far as both factors are, which is what people write.
fn scaled(number: u64, exponent: i32) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "the nearest number is what is wanted")]
    let mut value = number as f64;
    let mut left = exponent.unsigned_abs().min(700);
    while left > 0 && value != 0.0 {
        let step = left.min(22);
        // Powers up to the 22nd are exact.
        let mut power = 1.0;
        for _ in 0..step {
            power *= 10.0;
        }
        value = if exponent < 0 { value / power } else { value * power };
        left -= step;
    }
    value
}

/// The value as JSON text without spaces.
#[must_use]
pub fn write(value: &Value) -> String {
    let mut out = String::new();
    write_to(value, &mut out);
    out
}

fn write_to(value: &Value, out: &mut String) {
    match value {
        Value::Null => out.push_str("null"),
        Value::Bool(true) => out.push_str("true"),
        Value::Bool(false) => out.push_str("false"),
        Value::Number(number) => match (number.as_u64(), number.as_i64()) {
            (Some(number), _) => digits(number, out),
            (None, Some(number)) => {
                out.push('-');
                digits(number.unsigned_abs(), out);
            }
            (None, None) => out.push_str(&number.to_string()),
        },
        Value::String(text) => write_text(text, out),
        Value::Array(list) => {
            let mut before = '[';
            for value in list {
                out.push(before);
                write_to(value, out);
                before = ',';
            }
            out.push_str(if list.is_empty() { "[]" } else { "]" });
        }
        Value::Object(map) => {
            let mut before = '{';
            for (key, value) in map {
                out.push(before);
                write_text(key, out);
                out.push(':');
                write_to(value, out);
                before = ',';
            }
            out.push_str(if map.is_empty() { "{}" } else { "}" });
        }
    }
}

fn write_text(text: &str, out: &mut String) {
    out.push('"');
    for found in text.chars() {
        let short = match found {
            '"' => '"',
            '\\' => '\\',
            '\u{8}' => 'b',
            '\u{c}' => 'f',
            '\n' => 'n',
            '\r' => 'r',
            '\t' => 't',
            '\0'..='\u{1f}' => {
                let digit = |number: u32| char::from_digit(number, 16).unwrap_or('0');
                out.push_str("\\u00");
                out.push(digit(found as u32 >> 4));
                out.push(digit(found as u32 & 15));
                continue;
            }
            _ => {
                out.push(found);
                continue;
            }
        };
        out.push('\\');
        out.push(short);
    }
    out.push('"');
}

fn digits(number: u64, out: &mut String) {
    let mut power = 1;
    while number / power >= 10 {
        power *= 10;
    }
    while power > 0 {
        out.push(char::from(b'0' + (number / power % 10) as u8));
        power /= 10;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::{parse, write};

    /// The same as the general reader, but for its messages.
    fn agrees(text: &str) {
        let (ours, theirs) = (parse(text), serde_json::from_str::<Value>(text));
        match (&ours, &theirs) {
            (Ok(ours), Ok(theirs)) => {
                assert_eq!(ours, theirs, "{text}");
                assert_eq!(write(ours), theirs.to_string());
            }
            (Err(_), Err(_)) => {}
            _ => panic!("{text}: {ours:?}, {theirs:?}"),
        }
    }

    #[test]
    fn it_reads_and_writes_as_everybody_does() {
        for text in [
            "",
            " ",
            "null",
            " true ",
            "false",
            "nul",
            "truefalse",
            "1 2",
            "[1,2",
            "[1,]",
            "[]",
            "[ ]",
            "{}",
            "{ }",
            "{\"a\":1,\"b\":[{}],\"a\":2}",
            "{\"a\"}",
            "{\"a\":}",
            "{a:1}",
            "{\"a\":1,}",
            "0",
            "-0",
            "00",
            "01",
            "-",
            "+1",
            "1.",
            ".5",
            "1.5",
            "-1.50",
            "0.1",
            "0.3",
            "12.75",
            "1e3",
            "1E+3",
            "1e-3",
            "1e",
            "1e+",
            "18446744073709551615",
            "18446744073709551616",
            "-9223372036854775808",
            "-9223372036854775809",
            "1e400",
            "-1e400",
            "1e-400",
            "0e999999999999",
            "1e99999999999999999999",
            "123456789.125",
            "\"\"",
            "\"a\"",
            "\"a",
            "\"\\",
            "\"\\\"",
            "\"\\n\\t\\b\\f\\r\\/\\\\\\\"\"",
            "\"\\x\"",
            "\"\\u00e4\"",
            "\"\\u00E4\\u0000\"",
            "\"\\ud83d\\ude00\"",
            "\"\\ud83d\"",
            "\"\\ud83dx\"",
            "\"\\ude00\"",
            "\"\\ud83d\\u0041\"",
            "\"\\u12\"",
            "\"\\u12\u{e4}\"",
            "\"\u{1f}\"",
            "\"\u{0}\"",
            "\"\u{7f}ä😀\"",
            "\u{feff}1",
            "[1]]",
            "nullx",
        ] {
            agrees(text);
        }
        let deep = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
        agrees(&deep(127));
        agrees(&deep(200));
        assert_eq!(parse("[1, x]"), Err("not JSON at byte 4".into()));
    }

    proptest! {
        #[test]
        fn any_text_is_read_alike(text in "[\\[\\]{},:\"\\\\a-f0-9eE+. truefalsnull-]{0,24}") {
            let (ours, theirs) = (parse(&text), serde_json::from_str::<Value>(&text));
            prop_assert_eq!(ours.is_ok(), theirs.is_ok(), "{}", text);
        }

        #[test]
        fn what_is_written_is_read(text in any::<String>(), number in any::<i64>(), more in any::<u64>(), cents in -100_000_000_i64..100_000_000) {
            let value = serde_json::json!({ "a": [text, number, more, null], "b": { "c": cents as f64 / 100.0 } });
            let written = write(&value);
            prop_assert_eq!(&written, &value.to_string());
            prop_assert_eq!(parse(&written), Ok(value));
        }
    }
}
