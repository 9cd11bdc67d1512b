//! Output that cannot grow without end.

use std::borrow::Cow;

use serde::Serialize;

/// Text cut to at most `limit` bytes, with `…` where something is missing.
#[must_use]
pub fn clip(text: &str, limit: usize) -> Cow<'_, str> {
    const MORE: &str = "…";
    if text.len() <= limit {
        return Cow::Borrowed(text);
    }
    let end = text.floor_char_boundary(limit.saturating_sub(MORE.len()));
    Cow::Owned(format!("{}{MORE}", &text[..end]))
}

/// Bytes of JSON of the findings that are kept. A record takes a megabyte of evidence from one block.
const FINDINGS_BYTES: usize = 128 << 10;

/// The first findings and the number of all.
///
/// As evidence: `{"shown": […], "total": 7}`.
#[derive(Debug, Clone, Serialize)]
pub struct Findings<T> {
    shown: Vec<T>,
    total: u64,
    #[serde(skip)]
    limit: usize,
    #[serde(skip)]
    bytes: usize,
}

impl<T: Serialize> Findings<T> {
    /// Keeps at most `limit`, and at most 128 KiB of JSON.
    #[must_use]
    pub const fn new(limit: usize) -> Self {
        Self { shown: Vec::new(), total: 0, limit, bytes: 0 }
    }

    /// Counts a finding and keeps it while there is room. It is only made when there may be.
    pub fn push(&mut self, finding: impl FnOnce() -> T) {
        self.total += 1;
        if self.shown.len() >= self.limit || self.bytes > FINDINGS_BYTES {
            return;
        }
        let finding = finding();
        self.bytes += serde_json::to_string(&finding).map_or(usize::MAX / 2, |json| json.len());
        if self.bytes <= FINDINGS_BYTES {
            self.shown.push(finding);
        }
    }

    /// How many there were.
    #[must_use]
    pub const fn total(&self) -> u64 {
        self.total
    }

    /// Those kept.
    #[must_use]
    pub fn shown(&self) -> &[T] {
        &self.shown
    }
}
