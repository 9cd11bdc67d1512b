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

/// The first findings and the number of all.
///
/// As evidence: `{"shown": […], "total": 7}`.
#[derive(Debug, Clone, Serialize)]
pub struct Findings<T> {
    shown: Vec<T>,
    total: u64,
    #[serde(skip)]
    limit: usize,
}

impl<T> Findings<T> {
    /// Keeps at most `limit`.
    #[must_use]
    pub const fn new(limit: usize) -> Self {
        Self { shown: Vec::new(), total: 0, limit }
    }

    /// Counts a finding and keeps it while there is room. It is only made when it is kept.
    pub fn push(&mut self, finding: impl FnOnce() -> T) {
        self.total += 1;
        if self.shown.len() < self.limit {
            self.shown.push(finding());
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
