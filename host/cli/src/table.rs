//! Columns of plain text, and lines cut to a width.

use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

use crate::printer::{Role, paint};

/// A line in pieces that know how they are meant.
pub(crate) type Line = Vec<(Role, String)>;

/// Columns on a terminal.
pub(crate) fn width(text: &str) -> usize {
    text.width()
}

/// Left-aligned columns, two spaces between, no trailing spaces. The first row is the heading.
pub(crate) fn columns(rows: &[Vec<String>]) -> String {
    let count = rows.iter().map(Vec::len).max().unwrap_or(0);
    let widths: Vec<usize> = (0..count)
        .map(|column| {
            rows.iter().filter_map(|row| row.get(column)).map(|cell| width(cell)).max().unwrap_or(0)
        })
        .collect();
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            line.push_str(&pad(cell, *width));
            line.push_str("  ");
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// Fills with spaces up to `to` columns.
pub(crate) fn pad(text: &str, to: usize) -> String {
    format!("{text}{}", " ".repeat(to.saturating_sub(width(text))))
}

/// Cuts to `to` columns, with an ellipsis when something is lost.
pub(crate) fn cut(text: &str, to: usize, ascii: bool) -> String {
    if width(text) <= to {
        return text.to_owned();
    }
    let mark = if ascii { "~" } else { "…" };
    let mut used = 0;
    let mut kept = String::new();
    for c in text.chars() {
        used += c.width().unwrap_or(0);
        if used >= to {
            break;
        }
        kept.push(c);
    }
    if to > 0 {
        kept.push_str(mark);
    }
    kept
}

/// The text of a line, cut to `to` columns.
pub(crate) fn render(line: &Line, to: usize, colour: bool, ascii: bool) -> String {
    let mut left = to;
    let mut text = String::new();
    for (role, piece) in line {
        let piece = cut(piece, left, ascii);
        left -= width(&piece).min(left);
        text.push_str(&paint(*role, &piece, colour));
        if left == 0 {
            break;
        }
    }
    if colour { text } else { text.trim_end().to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_align_and_cuts_keep_the_width() {
        let rows = [vec!["RUN".to_owned(), "STATE".into()], vec!["fanout-1".into(), "done".into()]];
        assert_eq!(columns(&rows), "RUN       STATE\nfanout-1  done\n");
        assert_eq!(cut("abcdef", 4, false), "abc…");
        assert_eq!(cut("abcdef", 4, true), "abc~");
        assert_eq!(cut("日本語", 5, false), "日本…");
        assert_eq!(cut("abc", 0, false), "");
        assert!(width(&cut("日本語", 4, false)) <= 4);
    }
}
