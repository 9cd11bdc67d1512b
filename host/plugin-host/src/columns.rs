//! Columns of `pangolin:pattern/graph`: one thing about many items, packed, because texts that cross the border one by one
//! cost a call into the guest each. `wit/` says how they are laid out.

use pangolin_core::pattern::RunItem;

use crate::{
    bindings::pattern::pangolin::pattern::graph::{IndexLists, TextLists, Texts},
    crossing::Weigh,
    failure::Failure,
    state::stop,
};

/// Bytes with which a page is full.
const PAGE_BYTES: usize = 1 << 20;

/// Lists hold less than the memory of a guest, which has 32 bits.
fn end(position: usize) -> u32 {
    u32::try_from(position).unwrap_or(u32::MAX)
}

impl Texts {
    fn with_capacity(items: usize) -> Self {
        // Ids and states are short.
        Self { bytes: Vec::with_capacity(items.saturating_mul(16)), ends: Vec::with_capacity(items) }
    }

    fn push(&mut self, text: &str) {
        self.bytes.extend_from_slice(text.as_bytes());
        self.ends.push(end(self.bytes.len()));
    }
}

/// A column of as many `items` as a page has room for.
fn fill<C: Weigh>(mut column: C, items: &[RunItem], mut push: impl FnMut(&mut C, &RunItem)) -> C {
    for item in items {
        push(&mut column, item);
        if column.weight() >= PAGE_BYTES {
            break;
        }
    }
    column
}

pub(crate) fn texts(items: &[RunItem], text: impl Fn(&RunItem) -> &str) -> Texts {
    fill(Texts::with_capacity(items.len()), items, |column, item| column.push(text(item)))
}

pub(crate) fn text_lists<'i, L>(items: &'i [RunItem], texts: impl Fn(&'i RunItem) -> L) -> TextLists
where
    L: IntoIterator,
    L::Item: AsRef<str>,
{
    let mut column =
        TextLists { texts: Texts::with_capacity(items.len()), ends: Vec::with_capacity(items.len()) };
    for item in items {
        for text in texts(item) {
            column.texts.push(text.as_ref());
        }
        column.ends.push(end(column.texts.ends.len()));
        if column.weight() >= PAGE_BYTES {
            break;
        }
    }
    column
}

pub(crate) fn index_lists(items: &[RunItem], indexes: impl Fn(&RunItem) -> &[u32]) -> IndexLists {
    let column = IndexLists { indexes: Vec::new(), ends: Vec::with_capacity(items.len()) };
    fill(column, items, |column, item| {
        column.indexes.extend_from_slice(indexes(item));
        column.ends.push(end(column.indexes.len()));
    })
}

/// Texts of a guest, checked.
pub(crate) struct Checked<'t> {
    text: &'t str,
    ends: &'t [u32],
}

impl<'t> Checked<'t> {
    pub(crate) const fn len(&self) -> usize {
        self.ends.len()
    }

    pub(crate) const fn bytes(&self) -> usize {
        self.text.len()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &'t str> + use<'t> {
        let (text, mut start) = (self.text, 0);
        self.ends.iter().map(move |end| {
            let end = *end as usize;
            let piece = &text[start..end];
            start = end;
            piece
        })
    }
}

/// Checks what a guest passed to `function`.
pub(crate) fn read<'t>(function: &str, texts: &'t Texts) -> wasmtime::Result<Checked<'t>> {
    let text = std::str::from_utf8(&texts.bytes)
        .map_err(|error| malformed(function, &format!("texts that are not UTF-8: {error}")))?;
    let mut start = 0;
    for (number, end) in texts.ends.iter().enumerate() {
        let end = *end as usize;
        if end < start || !text.is_char_boundary(end) {
            let problem = format!(
                "texts of {} bytes of which number {number} goes from byte {start} to {end}, which is behind the end, \
                 before the start or inside of a character",
                text.len()
            );
            return Err(malformed(function, &problem));
        }
        start = end;
    }
    if start != text.len() {
        let problem = format!("texts of {} bytes of which the last one ends at {start}", text.len());
        return Err(malformed(function, &problem));
    }
    Ok(Checked { text, ends: &texts.ends })
}

/// Ends a guest that passed what the contract does not allow.
pub(crate) fn malformed(function: &str, problem: &str) -> wasmtime::Error {
    stop(Failure::GuestAbort { trap: format!("{function} was called with {problem}") })
}
