//! Replacing secret values in everything that leaves the worker, also when a value is split over two reads.

use std::sync::Arc;

/// What stands in the place of a secret.
pub(crate) const MARKER: &str = "<redacted:secret>";

/// Shorter secrets are not replaced: they would match by accident everywhere.
const SECRET_CHARS_MIN: usize = 4;

/// Plain values are no secrets; short ones (`true`, `production`'s prefix, ports) would make logs unreadable.
const PLAIN_CHARS_MIN: usize = 8;

/// The values to replace.
#[derive(Debug, Clone, Default)]
pub(crate) struct Redactor {
    /// Longest first, so that a value containing another one is replaced as a whole.
    patterns: Arc<Vec<Vec<u8>>>,
}

impl Redactor {
    /// Collects secrets (from 4 characters) and plain values (from 8), each also in its JSON-escaped spelling.
    pub(crate) fn new<'a>(
        secrets: impl Iterator<Item = &'a str>,
        plain: impl Iterator<Item = &'a str>,
    ) -> Self {
        let long = |value: &&str, min: usize| value.chars().count() >= min;
        let mut patterns = Vec::new();
        for value in secrets
            .filter(|value| long(value, SECRET_CHARS_MIN))
            .chain(plain.filter(|value| long(value, PLAIN_CHARS_MIN)))
        {
            patterns.push(value.as_bytes().to_vec());
            let json = serde_json::Value::from(value).to_string();
            let escaped = json.as_bytes()[1..json.len() - 1].to_vec();
            if escaped != value.as_bytes() {
                patterns.push(escaped);
            }
        }
        patterns.sort_by(|a, b| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
        patterns.dedup();
        Self { patterns: Arc::new(patterns) }
    }

    /// A finished text.
    #[must_use]
    pub(crate) fn text(&self, text: &str) -> String {
        let mut out = Vec::with_capacity(text.len());
        let mut stream = self.stream();
        stream.push(text.as_bytes(), &mut out);
        stream.finish(&mut out);
        String::from_utf8_lossy(&out).into_owned()
    }

    /// Finished bytes of any kind.
    #[must_use]
    pub(crate) fn bytes(&self, bytes: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(bytes.len());
        let mut stream = self.stream();
        stream.push(bytes, &mut out);
        stream.finish(&mut out);
        out
    }

    /// Every string of a JSON value, names included.
    #[must_use]
    pub(crate) fn json(&self, value: &serde_json::Value) -> serde_json::Value {
        use serde_json::Value;
        match value {
            Value::String(text) => Value::String(self.text(text)),
            Value::Array(items) => Value::Array(items.iter().map(|item| self.json(item)).collect()),
            Value::Object(map) => {
                Value::Object(map.iter().map(|(key, item)| (self.text(key), self.json(item))).collect())
            }
            other => other.clone(),
        }
    }

    /// A stream of bytes that arrives in pieces.
    #[must_use]
    pub(crate) fn stream(&self) -> RedactStream {
        let mut starts = [false; 256];
        for pattern in self.patterns.iter() {
            starts[usize::from(pattern[0])] = true;
        }
        RedactStream { patterns: Arc::clone(&self.patterns), starts, held: Vec::new() }
    }
}

/// State between two pieces of a stream.
#[derive(Debug)]
pub(crate) struct RedactStream {
    patterns: Arc<Vec<Vec<u8>>>,
    starts: [bool; 256],
    /// Bytes that may be the beginning of a secret.
    held: Vec<u8>,
}

impl RedactStream {
    /// Takes a piece, appends to `out` what is certain.
    pub(crate) fn push(&mut self, piece: &[u8], out: &mut Vec<u8>) {
        if self.patterns.is_empty() {
            out.extend_from_slice(piece);
            return;
        }
        self.held.extend_from_slice(piece);
        self.drain(false, out);
    }

    /// The stream ended: appends the rest.
    pub(crate) fn finish(&mut self, out: &mut Vec<u8>) {
        self.drain(true, out);
    }

    fn drain(&mut self, end: bool, out: &mut Vec<u8>) {
        let mut at = 0;
        'bytes: while at < self.held.len() {
            let rest = &self.held[at..];
            if self.starts[usize::from(rest[0])] {
                for pattern in self.patterns.iter() {
                    if rest.starts_with(pattern) {
                        out.extend_from_slice(MARKER.as_bytes());
                        at += pattern.len();
                        continue 'bytes;
                    }
                    if !end && pattern.starts_with(rest) {
                        break 'bytes;
                    }
                }
            }
            out.push(rest[0]);
            at += 1;
        }
        self.held.drain(..at);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_split_over_any_pieces_are_replaced() {
        let redactor =
            Redactor::new(["tok-12345", "tok-1", "a\"b\nc"].into_iter(), ["short", "long-plain"].into_iter());
        let text = "x tok-12345 tok-1 tok- a\\\"b\\nc long-plain short t";
        let expected = format!("x {MARKER} {MARKER} tok- {MARKER} {MARKER} short t");
        assert_eq!(redactor.text(text), expected);
        for size in 1..text.len() {
            let (mut out, mut stream) = (Vec::new(), redactor.stream());
            for piece in text.as_bytes().chunks(size) {
                stream.push(piece, &mut out);
            }
            stream.finish(&mut out);
            assert_eq!(String::from_utf8_lossy(&out), expected, "pieces of {size}");
        }
    }
}
