//! Text out of chunks that end anywhere.

use std::borrow::Cow;

/// Splits a byte stream into lines. Memory is bounded: of a line over the limit only the fact remains.
#[derive(Debug)]
pub struct Lines {
    buffer: Vec<u8>,
    limit: usize,
    skipping: bool,
}

/// One line without its end.
#[derive(Debug, PartialEq, Eq)]
pub enum Line<'a> {
    /// The text; bytes that are not UTF-8 are replaced.
    Text(Cow<'a, str>),
    /// A line that was over the limit.
    TooLong,
}

impl Lines {
    /// Lines of at most `limit` bytes.
    #[must_use]
    pub const fn new(limit: usize) -> Self {
        Self { buffer: Vec::new(), limit, skipping: false }
    }

    /// Takes the next bytes and calls `each` for every line that is complete now.
    pub fn feed(&mut self, mut data: &[u8], mut each: impl FnMut(Line<'_>)) {
        while let Some(end) = data.iter().position(|byte| *byte == b'\n') {
            let (head, rest) = data.split_at(end);
            data = &rest[1..];
            if self.buffer.is_empty() && !self.skipping && head.len() <= self.limit {
                each(text(head));
            } else {
                self.push(head);
                self.end(&mut each);
            }
        }
        self.push(data);
    }

    /// The last line, when it had no end.
    pub fn finish(&mut self, mut each: impl FnMut(Line<'_>)) {
        if self.skipping || !self.buffer.is_empty() {
            self.end(&mut each);
        }
    }

    fn push(&mut self, data: &[u8]) {
        if self.skipping {
            return;
        }
        if self.buffer.len() + data.len() > self.limit {
            self.skipping = true;
            self.buffer = Vec::new();
        } else {
            self.buffer.extend_from_slice(data);
        }
    }

    fn end(&mut self, each: &mut impl FnMut(Line<'_>)) {
        if std::mem::take(&mut self.skipping) {
            each(Line::TooLong);
        } else {
            each(text(&self.buffer));
        }
        self.buffer.clear();
    }
}

fn text(bytes: &[u8]) -> Line<'_> {
    let bytes = bytes.strip_suffix(b"\r").unwrap_or(bytes);
    Line::Text(String::from_utf8_lossy(bytes))
}

/// The last bytes of a stream, for messages.
#[derive(Debug)]
pub struct TextTail {
    bytes: Vec<u8>,
    limit: usize,
}

impl TextTail {
    /// Keeps at most `limit` bytes.
    #[must_use]
    pub const fn new(limit: usize) -> Self {
        Self { bytes: Vec::new(), limit }
    }

    /// Takes the next bytes.
    pub fn feed(&mut self, data: &[u8]) {
        let data = &data[data.len().saturating_sub(self.limit)..];
        self.bytes.extend_from_slice(data);
        let over = self.bytes.len().saturating_sub(self.limit);
        self.bytes.drain(..over);
    }

    /// The text, trimmed, bytes that are not UTF-8 replaced.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).trim().to_owned()
    }
}
