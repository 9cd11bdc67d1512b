//! What the terminal can show.

use std::env;

use crate::printer::{Printer, Role};

/// Colour and symbols.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Style {
    /// ANSI colours.
    pub(crate) colour: bool,
    /// ASCII instead of symbols.
    pub(crate) ascii: bool,
}

impl Style {
    /// From the printer, the flag and the locale.
    pub(crate) fn detect(printer: &Printer, ascii: bool) -> Self {
        let locale = ["LC_ALL", "LC_CTYPE", "LANG"]
            .iter()
            .filter_map(|name| env::var(name).ok())
            .find(|value| !value.is_empty())
            .unwrap_or_default()
            .to_ascii_lowercase();
        let utf8 = locale.contains("utf-8") || locale.contains("utf8");
        // Only a terminal has a locale to obey; a file or pipe gets the full text.
        Self { colour: printer.colour(), ascii: ascii || (printer.is_terminal() && !utf8) }
    }

    /// Symbol and colour of a status word.
    pub(crate) const fn glyph(self, status: &Status) -> (&'static str, Role) {
        let (symbol, ascii, role) = match status {
            Status::Pending => ("·", ".", Role::Dim),
            Status::Ready => ("○", "o", Role::Plain),
            Status::Running => ("●", "*", Role::Busy),
            Status::Waiting => ("↻", "r", Role::Warn),
            Status::NeedsInput => ("?", "?", Role::Warn),
            Status::Done => ("✓", "+", Role::Good),
            Status::Failed => ("✗", "x", Role::Error),
            Status::Skipped => ("⊘", "-", Role::Dim),
            Status::Cancelled => ("■", "#", Role::Warn),
            Status::Other => (" ", " ", Role::Plain),
        };
        (if self.ascii { ascii } else { symbol }, role)
    }
}

/// Status words in groups that look the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Status {
    /// Also `cancelling`.
    Running,
    /// Also `denied`.
    Failed,
    NeedsInput,
    Waiting,
    Ready,
    Pending,
    Cancelled,
    Skipped,
    Done,
    /// A word of a newer daemon.
    Other,
}

impl Status {
    /// The group of a status word. The order of the groups is the order of interest.
    pub(crate) fn of(word: &str) -> Self {
        match word {
            "running" | "cancelling" | "active" => Self::Running,
            "failed" | "denied" => Self::Failed,
            "needs-input" => Self::NeedsInput,
            "retry-wait" => Self::Waiting,
            "ready" => Self::Ready,
            "pending" => Self::Pending,
            "cancelled" => Self::Cancelled,
            "skipped" => Self::Skipped,
            "done" => Self::Done,
            _ => Self::Other,
        }
    }
}

/// Columns of the terminal; 80 when it does not say.
pub(crate) fn terminal_width() -> usize {
    known(crossterm::terminal::size().ok().map(|(columns, _)| columns), 80)
}

/// Rows of the terminal; 24 when it does not say.
pub(crate) fn terminal_height() -> usize {
    known(crossterm::terminal::size().ok().map(|(_, rows)| rows), 24)
}

/// A terminal that nobody told its size (a serial line, `script`, CI) says 0.
fn known(size: Option<u16>, default: usize) -> usize {
    size.filter(|size| *size > 0).map_or(default, usize::from)
}

#[cfg(test)]
mod tests {
    use super::known;

    #[test]
    fn a_terminal_without_a_size_has_the_usual_one() {
        assert_eq!((known(None, 80), known(Some(0), 80), known(Some(1), 80)), (80, 80, 1));
    }
}
