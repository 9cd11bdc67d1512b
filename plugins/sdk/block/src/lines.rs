//! Lines of large files, and how many of them changed. Memory is bounded by the number of lines, not by their length.

use std::{
    collections::BTreeMap,
    hash::{DefaultHasher, Hasher as _},
    io::{self, Read},
};

/// A longer line comes in several segments.
pub const MAX_SEGMENT: usize = 64 << 10;

/// A segment repeats this many bytes of the one before, so that a short text is whole in one of them.
const OVERLAP: usize = 4 << 10;

/// Lines of one file whose hashes are kept; 16 MiB.
const MAX_LINES: usize = 2 << 20;

/// Edits that are searched for before the count becomes a lower bound.
const MAX_EDITS: usize = 3_000;

/// A line, or a part of a very long one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segment<'a> {
    /// Line number, from 1.
    pub number: u64,
    /// Where in the line it starts, in bytes.
    pub start: u64,
    /// Without the line end.
    pub bytes: &'a [u8],
}

/// Splits a stream into lines.
pub struct LineReader<R> {
    source: R,
    buffer: Vec<u8>,
    /// The part of `buffer` that is not used up.
    from: usize,
    /// Bytes after `from` that have no line end.
    searched: usize,
    number: u64,
    start: u64,
    ended: bool,
}

impl<R: Read> LineReader<R> {
    /// On a stream.
    pub const fn new(source: R) -> Self {
        Self { source, buffer: Vec::new(), from: 0, searched: 0, number: 1, start: 0, ended: false }
    }

    /// The next line or part of one; `None` at the end.
    ///
    /// # Errors
    /// What reading answered.
    pub fn next_segment(&mut self) -> io::Result<Option<Segment<'_>>> {
        loop {
            let rest = &self.buffer[self.from..];
            let window = &rest[..rest.len().min(MAX_SEGMENT)];
            let (number, start) = (self.number, self.start);
            if let Some(end) = memchr::memchr(b'\n', &window[self.searched..]).map(|at| at + self.searched) {
                let from = self.from;
                self.from += end + 1;
                (self.searched, self.start) = (0, 0);
                self.number += 1;
                let bytes = &self.buffer[from..from + end];
                let bytes = bytes.strip_suffix(b"\r").unwrap_or(bytes);
                return Ok(Some(Segment { number, start, bytes }));
            }
            if window.len() == MAX_SEGMENT {
                let from = self.from;
                self.from += MAX_SEGMENT - OVERLAP;
                self.searched = OVERLAP;
                self.start += (MAX_SEGMENT - OVERLAP) as u64;
                return Ok(Some(Segment { number, start, bytes: &self.buffer[from..from + MAX_SEGMENT] }));
            }
            self.searched = window.len();
            if self.ended {
                let from = self.from;
                self.from = self.buffer.len();
                self.searched = 0;
                let bytes = &self.buffer[from..];
                return Ok((!bytes.is_empty()).then_some(Segment { number, start, bytes }));
            }
            self.fill()?;
        }
    }

    fn fill(&mut self) -> io::Result<()> {
        self.buffer.drain(..self.from);
        self.from = 0;
        let filled = self.buffer.len();
        self.buffer.resize(filled + MAX_SEGMENT, 0);
        let count = loop {
            match self.source.read(&mut self.buffer[filled..]) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => break other,
            }
        };
        self.buffer.truncate(filled + count.as_ref().copied().unwrap_or(0));
        self.ended = count? == 0;
        Ok(())
    }
}

/// A hash of a line, the same in every run of one build. Not for anything that is stored.
#[must_use]
pub fn hash_line(bytes: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(bytes);
    hasher.finish()
}

/// The hash of every line (segment) of a stream.
///
/// # Errors
/// Reading failed, or there are more than two million (kind `FileTooLarge`).
pub fn hash_lines(source: impl Read) -> io::Result<Vec<u64>> {
    let mut lines = LineReader::new(source);
    let mut hashes = Vec::new();
    while let Some(segment) = lines.next_segment()? {
        if hashes.len() == MAX_LINES {
            return Err(io::Error::new(
                io::ErrorKind::FileTooLarge,
                format!("has more than {MAX_LINES} lines"),
            ));
        }
        hashes.push(hash_line(segment.bytes));
    }
    Ok(hashes)
}

/// Which lines a file had.
#[derive(Debug, Default, Clone)]
pub struct LineSet(Vec<u64>);

impl LineSet {
    /// All lines of a stream.
    ///
    /// # Errors
    /// As [`hash_lines`].
    pub fn read(source: impl Read) -> io::Result<Self> {
        let mut hashes = hash_lines(source)?;
        hashes.sort_unstable();
        hashes.dedup();
        Ok(Self(hashes))
    }

    /// Whether there was such a line.
    #[must_use]
    pub fn contains(&self, line: &[u8]) -> bool {
        self.0.binary_search(&hash_line(line)).is_ok()
    }
}

/// How many lines changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LineChange {
    /// Lines that are only there now.
    pub added: u64,
    /// Lines that were only there before.
    pub removed: u64,
    /// Whether the numbers are exact; otherwise they are lower bounds.
    pub exact: bool,
}

/// The smallest number of added and removed lines between two files, as `git diff --minimal --numstat` counts them.
///
/// Above 3,000 edits among lines that both sides have (moved blocks) the numbers are lower bounds.
#[must_use]
pub fn changed_lines(before: &[u64], after: &[u64]) -> LineChange {
    let prefix = before.iter().zip(after).take_while(|(one, two)| one == two).count();
    let (before, after) = (&before[prefix..], &after[prefix..]);
    let suffix = before.iter().rev().zip(after.iter().rev()).take_while(|(one, two)| one == two).count();
    let (before, after) = (&before[..before.len() - suffix], &after[..after.len() - suffix]);
    // A line that one side does not have is in no common subsequence.
    let mut sides: BTreeMap<u64, (usize, usize)> = BTreeMap::new();
    before.iter().for_each(|hash| sides.entry(*hash).or_default().0 += 1);
    after.iter().for_each(|hash| sides.entry(*hash).or_default().1 += 1);
    let shared = |hash: &&u64| sides.get(hash).is_some_and(|count| count.0 > 0 && count.1 > 0);
    let old: Vec<u64> = before.iter().filter(shared).copied().collect();
    let new: Vec<u64> = after.iter().filter(shared).copied().collect();
    let (common, exact) = match edit_distance(&old, &new, MAX_EDITS) {
        Some(distance) => ((old.len() + new.len() - distance) / 2, true),
        None => {
            let in_both: usize = sides.values().map(|count| count.0.min(count.1)).sum();
            (in_both.min((old.len() + new.len()).saturating_sub(MAX_EDITS + 1) / 2), false)
        }
    };
    LineChange { added: (after.len() - common) as u64, removed: (before.len() - common) as u64, exact }
}

/// Insertions and deletions that turn one list into the other, by Myers' greedy search; `None` above `limit`.
fn edit_distance(old: &[u64], new: &[u64], limit: usize) -> Option<usize> {
    let limit = limit.min(old.len() + new.len());
    // furthest[d + limit]: how far into `old` a path on diagonal d (old minus new) came.
    let mut furthest = vec![0usize; 2 * limit + 3];
    let middle = limit + 1;
    for edits in 0..=limit {
        for diagonal in (0..=edits).map(|step| middle + 2 * step - edits) {
            let came_down = diagonal == middle - edits
                || (diagonal != middle + edits && furthest[diagonal - 1] < furthest[diagonal + 1]);
            let mut x = if came_down { furthest[diagonal + 1] } else { furthest[diagonal - 1] + 1 };
            let Some(mut y) = (x + middle).checked_sub(diagonal) else { continue };
            while x < old.len() && y < new.len() && old[x] == new[y] {
                (x, y) = (x + 1, y + 1);
            }
            if x >= old.len() && y >= new.len() {
                return Some(edits);
            }
            furthest[diagonal] = x;
        }
    }
    None
}
