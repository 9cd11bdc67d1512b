//! How large one change is.

use std::{collections::BTreeMap, io};

use pangolin_block_sdk::{Change, FileState, Input, LineChange, LineReader, changed_lines, hash_line};

/// Lines of one side that are held in memory.
const MAX_LINES: usize = 1 << 20;

/// Size of one change.
#[derive(Debug)]
pub(crate) struct Size {
    pub(crate) lines: LineChange,
    /// Of lines that are on one side only; of a binary file, both sides.
    pub(crate) bytes: u64,
}

#[derive(Default)]
struct Side {
    hashes: Vec<u64>,
    lengths: Vec<u64>,
}

impl Side {
    fn read(input: &Input<'_>, path: &str) -> io::Result<Self> {
        let mut lines = LineReader::new(input.open(path));
        let mut side = Self::default();
        let mut last = (0, 0);
        while let Some(segment) = lines.next_segment()? {
            if side.hashes.len() == MAX_LINES {
                return Err(io::Error::new(
                    io::ErrorKind::FileTooLarge,
                    format!("more than {MAX_LINES} lines"),
                ));
            }
            // Parts of a long line overlap.
            let end = segment.start + segment.bytes.len() as u64;
            // The line end counts once.
            let (from, line_end) = if segment.number == last.0 { (last.1, 0) } else { (0, 1) };
            side.hashes.push(hash_line(segment.bytes));
            side.lengths.push(end.saturating_sub(from) + line_end);
            last = (segment.number, end);
        }
        Ok(side)
    }
}

/// Counts. Links and binary files have no lines.
pub(crate) fn size(input: &Input<'_>, change: &Change) -> io::Result<Size> {
    let none = LineChange { exact: true, ..LineChange::default() };
    let (before, after) = (change.before.as_ref(), change.after.as_ref());
    let same = before.zip(after).is_some_and(|(one, two)| {
        !one.digest.is_empty() && one.digest == two.digest && one.is_link() == two.is_link()
    });
    if same {
        return Ok(Size { lines: none, bytes: 0 });
    }
    let total = |side: Option<&FileState>| side.map_or(0, |side| side.size);
    if change.binary {
        return Ok(Size { lines: none, bytes: total(before).saturating_add(total(after)) });
    }
    let side = |state: Option<&FileState>, path: String| match state {
        Some(state) if !state.is_link() => Side::read(input, &path),
        _ => Ok(Side::default()),
    };
    let old = side(before, change.base_path())?;
    let new = side(after, change.now_path())?;
    let links: u64 =
        [before, after].into_iter().flatten().filter(|side| side.is_link()).map(|side| side.size).sum();
    Ok(Size {
        lines: changed_lines(&old.hashes, &new.hashes),
        bytes: only_in_one(&old, &new).saturating_add(links),
    })
}

fn only_in_one(old: &Side, new: &Side) -> u64 {
    let mut balance: BTreeMap<u64, i64> = BTreeMap::new();
    for (side, step) in [(old, -1), (new, 1)] {
        for (hash, length) in side.hashes.iter().zip(&side.lengths) {
            *balance.entry(*hash).or_default() += step * i64::try_from(*length).unwrap_or(i64::MAX);
        }
    }
    balance.values().map(|bytes| bytes.unsigned_abs()).fold(0, u64::saturating_add)
}
