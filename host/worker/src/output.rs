//! Draining a command's output: redacted, bounded in memory, optionally copied to a bounded file while it runs.

use std::{
    collections::VecDeque,
    fs::File,
    io::{self, Read, Write},
};

use pangolin_core::ids::Digest;
use sha2::{Digest as _, Sha256};

use crate::redact::Redactor;

/// Bytes of output kept in an event: this many of the beginning and as many of the end.
const EVENT_SIDE: usize = 32 << 10;

/// Room for the marker that says how much was left out of a transcript.
const MARKER_ROOM: u64 = 80;

/// What was kept of one stream.
#[derive(Debug)]
pub(crate) struct Captured {
    /// Beginning and end as text, at most 64 KiB and a marker.
    pub(crate) text: String,
    /// Digest of the file's bytes (of nothing, when there is no file).
    pub(crate) digest: Digest,
    /// The file was cut at its limit.
    pub(crate) truncated: bool,
    /// Writing the file failed.
    pub(crate) problem: Option<String>,
}

/// Reads `pipe` to its end. Never stops early, so that the command never blocks or dies on a full pipe.
pub(crate) fn drain(mut pipe: impl Read, redactor: &Redactor, file: Option<(File, u64)>) -> Captured {
    let mut stream = redactor.stream();
    let mut event = HeadTail::new(EVENT_SIDE as u64, EVENT_SIDE);
    let mut sink = file.map(|(file, limit)| FileSink::new(file, limit));
    let mut piece = vec![0; 64 << 10];
    let mut clean = Vec::new();
    loop {
        clean.clear();
        match pipe.read(&mut piece) {
            Ok(0) => break,
            Ok(count) => stream.push(&piece[..count], &mut clean),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(_) => break,
        }
        event.push(&clean);
        if let Some(sink) = &mut sink {
            sink.push(&clean);
        }
    }
    clean.clear();
    stream.finish(&mut clean);
    event.push(&clean);
    let text = event.finish();
    match sink {
        Some(mut sink) => {
            sink.push(&clean);
            sink.finish(text)
        }
        None => Captured { text, digest: Digest::of(b""), truncated: false, problem: None },
    }
}

/// Cuts a finished text to `limit` bytes, keeping its beginning and end.
#[must_use]
pub(crate) fn bounded(text: &str, limit: usize) -> String {
    let mut kept = HeadTail::new((limit / 2) as u64, limit / 2);
    kept.push(text.as_bytes());
    kept.finish()
}

/// The beginning and the end of a stream.
struct HeadTail {
    head: Vec<u8>,
    head_max: u64,
    tail: VecDeque<u8>,
    tail_max: usize,
    left_out: u64,
}

impl HeadTail {
    fn new(head_max: u64, tail_max: usize) -> Self {
        Self { head: Vec::new(), head_max, tail: VecDeque::new(), tail_max, left_out: 0 }
    }

    fn push(&mut self, bytes: &[u8]) {
        let room =
            usize::try_from(self.head_max - self.head.len() as u64).unwrap_or(usize::MAX).min(bytes.len());
        self.head.extend_from_slice(&bytes[..room]);
        self.left_out += push_tail(&mut self.tail, self.tail_max, &bytes[room..]);
    }

    fn finish(mut self) -> String {
        let tail = self.tail.make_contiguous();
        if self.left_out == 0 {
            self.head.extend_from_slice(tail);
            return String::from_utf8_lossy(&self.head).into_owned();
        }
        format!(
            "{}{}{}",
            String::from_utf8_lossy(&self.head),
            marker(self.left_out),
            String::from_utf8_lossy(tail)
        )
    }
}

fn marker(left_out: u64) -> String {
    format!("\n<truncated: {left_out} bytes left out>\n")
}

/// Appends to a bounded queue; answers how many bytes fell out of it.
fn push_tail(tail: &mut VecDeque<u8>, max: usize, bytes: &[u8]) -> u64 {
    let before = tail.len() + bytes.len();
    let skip = bytes.len().saturating_sub(max);
    let keep = bytes.len() - skip;
    let drop = (tail.len() + keep).saturating_sub(max);
    tail.drain(..drop);
    tail.extend(&bytes[skip..]);
    (before - tail.len()) as u64
}

/// A transcript file: its beginning is written while the command runs, its end (where agents report usage) when the
/// stream ends, with a marker line between when something had to be left out.
struct FileSink {
    file: File,
    hash: Sha256,
    room: u64,
    tail: VecDeque<u8>,
    tail_max: usize,
    left_out: u64,
    problem: Option<String>,
}

impl FileSink {
    fn new(file: File, limit: u64) -> Self {
        let tail_max = usize::try_from(limit / 4).unwrap_or(usize::MAX).min(64 << 10);
        let room = limit.saturating_sub(tail_max as u64 + MARKER_ROOM);
        Self { file, hash: Sha256::new(), room, tail: VecDeque::new(), tail_max, left_out: 0, problem: None }
    }

    fn push(&mut self, bytes: &[u8]) {
        let now = usize::try_from(self.room).unwrap_or(usize::MAX).min(bytes.len());
        self.room -= now as u64;
        self.write(&bytes[..now]);
        self.left_out += push_tail(&mut self.tail, self.tail_max, &bytes[now..]);
    }

    fn write(&mut self, bytes: &[u8]) {
        if self.problem.is_none() {
            match self.file.write_all(bytes) {
                Ok(()) => self.hash.update(bytes),
                Err(error) => self.problem = Some(error.to_string()),
            }
        }
    }

    fn finish(mut self, text: String) -> Captured {
        if self.left_out > 0 {
            let line = marker(self.left_out);
            self.write(line.as_bytes());
        }
        let tail: Vec<u8> = std::mem::take(&mut self.tail).into();
        self.write(&tail);
        if self.problem.is_none() {
            self.problem = self.file.sync_data().err().map(|error| error.to_string());
        }
        let digest = Digest::from_bytes(self.hash.finalize().into());
        Captured { text, digest, truncated: self.left_out > 0, problem: self.problem }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_out_is_counted() {
        let text = "a".repeat(100) + &"b".repeat(1000) + &"c".repeat(100);
        let cut = bounded(&text, 200);
        assert_eq!(
            cut,
            format!("{}\n<truncated: 1000 bytes left out>\n{}", "a".repeat(100), "c".repeat(100))
        );
        assert_eq!(bounded("short", 200), "short");
    }
}
