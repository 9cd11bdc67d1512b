//! What makes a [`Batch`] well-formed, before any store looks at what it holds. Every adapter calls
//! [`check_batch`] first, so all of them refuse the same batches with the same words. How much a batch may hold differs:
//! [`crate::commit_limits`].

use std::collections::HashSet;

use crate::run_store::{Batch, Guard, RunStoreError, Write};

/// Longest record in bytes.
pub const RECORD_BYTES_MAX: usize = pangolin_core::entry::ENTRY_BYTES_MAX;

/// Largest cell value in bytes.
pub const CELL_BYTES_MAX: usize = 64 << 10;

/// Longest stream name, cell key or batch id in bytes.
pub const KEY_BYTES_MAX: usize = 1_024;

/// Checks the rules that do not depend on stored data: sizes, one write per key, one append per stream and a head
/// guard for each stream that is appended to.
///
/// # Errors
/// [`RunStoreError::InvalidBatch`] names the key or stream and the rule.
pub fn check_batch(batch: &Batch) -> Result<(), RunStoreError> {
    match problem(batch) {
        None => Ok(()),
        Some(problem) => Err(RunStoreError::InvalidBatch { id: batch.id.clone(), problem }),
    }
}

fn problem(batch: &Batch) -> Option<String> {
    if let Some(problem) = name_problem("batch id", &batch.id) {
        return Some(problem);
    }
    for guard in &batch.guards {
        let (what, name) = match guard {
            Guard::HeadIs { stream, .. } => ("stream name", stream),
            Guard::Absent(key) | Guard::VersionIs { key, .. } => ("cell key", key),
        };
        if let Some(problem) = name_problem(what, name) {
            return Some(problem);
        }
    }
    writes_problem(batch).or_else(|| appends_problem(batch))
}

fn writes_problem(batch: &Batch) -> Option<String> {
    let mut written = HashSet::with_capacity(batch.writes.len());
    for write in &batch.writes {
        let key = match write {
            Write::Put { key, .. } | Write::Delete(key) => key,
        };
        if let Some(problem) = name_problem("cell key", key) {
            return Some(problem);
        }
        if !written.insert(key.as_str()) {
            return Some(format!("cell {key:?} is written twice; at most one write per key"));
        }
        if let Write::Put { value, .. } = write
            && value.len() > CELL_BYTES_MAX
        {
            return Some(format!("cell {key:?} has {} bytes, the limit is {CELL_BYTES_MAX}", value.len()));
        }
    }
    None
}

fn appends_problem(batch: &Batch) -> Option<String> {
    for (index, append) in batch.appends.iter().enumerate() {
        let stream = &append.stream;
        if batch.appends[..index].iter().any(|earlier| earlier.stream == *stream) {
            return Some(format!("stream {stream:?} is appended to twice; at most one append per stream"));
        }
        let guarded = |guard: &Guard| matches!(guard, Guard::HeadIs { stream: name, .. } if name == stream);
        if !batch.guards.iter().any(guarded) {
            return Some(format!("stream {stream:?} is appended to without a guard on its head"));
        }
        for (position, (_, bytes)) in append.records.iter().enumerate() {
            if bytes.len() > RECORD_BYTES_MAX {
                return Some(format!(
                    "record {position} for stream {stream:?} has {} bytes, the limit is {RECORD_BYTES_MAX}",
                    bytes.len()
                ));
            }
        }
    }
    None
}

fn name_problem(what: &str, name: &str) -> Option<String> {
    if name.is_empty() {
        Some(format!("a {what} is empty"))
    } else if name.len() > KEY_BYTES_MAX {
        Some(format!("a {what} has {} bytes, the limit is {KEY_BYTES_MAX}", name.len()))
    } else {
        None
    }
}

/// The smallest text that sorts after every text with this prefix, in byte order; `None` when there is none.
/// Turns a prefix scan into a key range, which no character (`%`, `_`, `\`) can break.
#[must_use]
pub fn prefix_end(prefix: &str) -> Option<String> {
    let mut end = prefix.to_owned();
    while let Some(last) = end.pop() {
        // Surrogates are no characters: the next one after U+D7FF is U+E000.
        let next = if last == '\u{d7ff}' { Some('\u{e000}') } else { char::from_u32(u32::from(last) + 1) };
        if let Some(next) = next {
            end.push(next);
            return Some(end);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::prefix_end;

    #[test]
    fn prefix_end_is_the_next_text() {
        assert_eq!(prefix_end(""), None);
        assert_eq!(prefix_end("run/"), Some("run0".to_owned()));
        assert_eq!(prefix_end("a\u{d7ff}"), Some("a\u{e000}".to_owned()));
        assert_eq!(prefix_end("a\u{10ffff}"), Some("b".to_owned()));
        assert_eq!(prefix_end("\u{10ffff}"), None);
    }
}
