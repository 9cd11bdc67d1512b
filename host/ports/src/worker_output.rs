//! The files every backend leaves in a dispatch's result directory, and how they are bounded.
//!
//! A flood must neither fill the disk nor go unnoticed: the first bytes are kept, then one marker says that the
//! rest is missing. An event stream is cut at a line boundary so that every line before the marker still parses.

/// File in the result directory that gets the worker's stdout: one JSON object per line.
pub const EVENTS_FILE: &str = "events.jsonl";

/// File in the result directory that gets the worker's stderr: text.
pub const STDERR_FILE: &str = "worker.stderr";

/// `kind` of the line that ends a cut event stream: `{"kind":"output.cut","limitBytes":N}`.
pub const CUT_KIND: &str = "output.cut";

/// What a stream consists of; decides where it may be cut and what the marker looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StreamKind {
    /// JSON lines.
    Events,
    /// Anything.
    Text,
}

/// What to do with the next chunk of a stream.
#[derive(Debug, PartialEq, Eq)]
pub enum Accepted<'a> {
    /// Append these bytes (possibly none, after the cut).
    Append(&'a [u8]),
    /// Append `keep`, shorten what was written to `length` bytes, append `marker`. Answered once.
    Cut {
        /// Bytes that still fit.
        keep: &'a [u8],
        /// Total length to shorten to.
        length: u64,
        /// Text of the marker, with its line ends.
        marker: String,
    },
}

/// Counts one output stream against its limit. Does no IO, so files and buffers are bounded alike.
#[derive(Debug)]
pub struct OutputBound {
    kind: StreamKind,
    limit: u64,
    written: u64,
    complete: u64,
    cut: bool,
}

impl OutputBound {
    /// A stream of which `limit` bytes are kept.
    #[must_use]
    pub const fn new(kind: StreamKind, limit: u64) -> Self {
        Self { kind, limit, written: 0, complete: 0, cut: false }
    }

    /// Judges the next chunk.
    pub fn accept<'a>(&mut self, chunk: &'a [u8]) -> Accepted<'a> {
        if self.cut {
            return Accepted::Append(&[]);
        }
        let room = usize::try_from(self.limit - self.written).unwrap_or(usize::MAX);
        let keep = &chunk[..chunk.len().min(room)];
        if let Some(last) = keep.iter().rposition(|byte| *byte == b'\n') {
            self.complete = self.written + last as u64 + 1;
        }
        self.written += keep.len() as u64;
        if keep.len() == chunk.len() {
            return Accepted::Append(keep);
        }
        self.cut = true;
        let limit = self.limit;
        let (length, marker) = match self.kind {
            StreamKind::Events => {
                (self.complete, format!("{{\"kind\":\"{CUT_KIND}\",\"limitBytes\":{limit}}}\n"))
            }
            StreamKind::Text => (self.written, format!("\n[pangolin: output cut after {limit} bytes]\n")),
        };
        Accepted::Cut { keep, length, marker }
    }

    /// Whether the rest of the stream is dropped.
    #[must_use]
    pub const fn is_cut(&self) -> bool {
        self.cut
    }

    /// [`Self::accept`] into memory.
    pub fn append_to(&mut self, buffer: &mut Vec<u8>, chunk: &[u8]) {
        match self.accept(chunk) {
            Accepted::Append(keep) => buffer.extend_from_slice(keep),
            Accepted::Cut { keep, length, marker } => {
                buffer.extend_from_slice(keep);
                buffer.truncate(usize::try_from(length).unwrap_or(usize::MAX));
                buffer.extend_from_slice(marker.as_bytes());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(kind: StreamKind, limit: u64, chunks: &[&str]) -> String {
        let (mut bound, mut buffer) = (OutputBound::new(kind, limit), Vec::new());
        for chunk in chunks {
            bound.append_to(&mut buffer, chunk.as_bytes());
        }
        String::from_utf8(buffer).expect("test data is UTF-8")
    }

    #[test]
    fn a_stream_of_exactly_the_limit_is_kept_whole() {
        assert_eq!(cut(StreamKind::Events, 6, &["{}\n", "{}\n"]), "{}\n{}\n");
        assert_eq!(cut(StreamKind::Text, 3, &["abc"]), "abc");
    }

    #[test]
    fn events_are_cut_at_a_line_and_marked_once() {
        let marker = "{\"kind\":\"output.cut\",\"limitBytes\":7}\n";
        assert_eq!(
            cut(StreamKind::Events, 7, &["{}\n{", "}\n{}\n", "{}\n"]),
            format!("{{}}\n{{}}\n{marker}")
        );
        assert_eq!(cut(StreamKind::Events, 7, &["{\"a\":\"long\"}", "x"]), marker);
    }

    #[test]
    fn text_is_cut_at_the_byte() {
        assert_eq!(
            cut(StreamKind::Text, 4, &["abc", "def", "g"]),
            "abcd\n[pangolin: output cut after 4 bytes]\n"
        );
    }
}
