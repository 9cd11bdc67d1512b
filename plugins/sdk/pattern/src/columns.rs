//! What a host says of many items in one call: packed, so that nothing is made of each of them.

/// Many texts in one piece, in order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Texts {
    text: String,
    /// Where each ends, in bytes of `text`.
    ends: Vec<u32>,
}

/// Positions fit: a component's memory has 32 bits, and no host shows more.
fn end(position: usize) -> u32 {
    u32::try_from(position).unwrap_or(u32::MAX)
}

/// Where entry `place` begins and ends.
fn range(ends: &[u32], place: usize) -> Option<std::ops::Range<usize>> {
    let end = *ends.get(place)? as usize;
    let start = place.checked_sub(1).map_or(0, |before| ends[before] as usize);
    Some(start..end)
}

/// Puts `more` positions, which count from 0, behind those that end at `start`.
fn extend(ends: &mut Vec<u32>, more: &[u32], start: usize) {
    let start = end(start);
    ends.extend(more.iter().map(|end| start.saturating_add(*end)));
}

impl Texts {
    /// None yet, with room for so many texts of so many bytes together.
    #[must_use]
    pub fn with_capacity(texts: usize, bytes: usize) -> Self {
        Self { text: String::with_capacity(bytes), ends: Vec::with_capacity(texts) }
    }

    /// As a host packs them.
    ///
    /// # Panics
    /// When they are not UTF-8, which no host of this contract passes.
    #[must_use]
    pub fn from_parts(bytes: Vec<u8>, ends: Vec<u32>) -> Self {
        Self { text: String::from_utf8(bytes).expect("texts of a host are UTF-8"), ends }
    }

    /// Bytes of all of them, and where in these each ends.
    #[must_use]
    pub fn as_parts(&self) -> (&[u8], &[u32]) {
        (self.text.as_bytes(), &self.ends)
    }

    /// Adds one at the end.
    pub fn push(&mut self, text: &str) {
        self.push_joined([text]);
    }

    /// Adds one at the end that consists of these parts.
    pub fn push_joined<'p>(&mut self, parts: impl IntoIterator<Item = &'p str>) {
        for part in parts {
            self.text.push_str(part);
        }
        self.ends.push(end(self.text.len()));
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Bytes of all of them.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.text.len()
    }

    /// One of them.
    #[must_use]
    pub fn get(&self, place: usize) -> Option<&str> {
        self.text.get(range(&self.ends, place)?)
    }

    /// All of them.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &str> {
        let (text, mut start) = (self.text.as_str(), 0);
        self.ends.iter().map(move |end| {
            let end = *end as usize;
            let piece = text.get(start..end).unwrap_or_default();
            start = end;
            piece
        })
    }

    /// Whether each is not before the one before it.
    #[must_use]
    pub fn is_sorted(&self) -> bool {
        self.iter().is_sorted()
    }

    pub(crate) fn append(&mut self, page: Self) {
        if self.is_empty() {
            *self = page;
            return;
        }
        extend(&mut self.ends, &page.ends, self.text.len());
        self.text.push_str(&page.text);
    }
}

impl<T: AsRef<str>> FromIterator<T> for Texts {
    fn from_iter<I: IntoIterator<Item = T>>(texts: I) -> Self {
        let mut all = Self::default();
        all.extend(texts);
        all
    }
}

impl<T: AsRef<str>> Extend<T> for Texts {
    fn extend<I: IntoIterator<Item = T>>(&mut self, texts: I) {
        texts.into_iter().for_each(|text| self.push(text.as_ref()));
    }
}

/// Texts of each of many items, maybe none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TextLists {
    texts: Texts,
    /// Where those of each item end, in numbers of texts.
    ends: Vec<u32>,
}

impl TextLists {
    /// As a host packs them.
    #[must_use]
    pub const fn from_parts(texts: Texts, ends: Vec<u32>) -> Self {
        Self { texts, ends }
    }

    /// Adds those of one more item.
    pub fn push<T: AsRef<str>>(&mut self, texts: impl IntoIterator<Item = T>) {
        self.texts.extend(texts);
        self.ends.push(end(self.texts.len()));
    }

    /// Of how many items.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether of no item.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// How many texts an item has.
    #[must_use]
    pub fn count(&self, item: usize) -> usize {
        range(&self.ends, item).map_or(0, |places| places.len())
    }

    /// Texts of one item; none when it is not there.
    pub fn of(&self, item: usize) -> impl Iterator<Item = &str> {
        range(&self.ends, item).unwrap_or(0..0).filter_map(|place| self.texts.get(place))
    }

    /// The first text of one item, the only one where an item has at most one.
    #[must_use]
    pub fn first(&self, item: usize) -> Option<&str> {
        let places = range(&self.ends, item)?;
        if places.is_empty() { None } else { self.texts.get(places.start) }
    }

    /// Texts of all items.
    #[must_use]
    pub const fn texts(&self) -> &Texts {
        &self.texts
    }

    /// Texts of all items.
    #[must_use]
    pub fn into_texts(self) -> Texts {
        self.texts
    }

    pub(crate) fn append(&mut self, page: Self) {
        if self.is_empty() {
            *self = page;
            return;
        }
        extend(&mut self.ends, &page.ends, self.texts.len());
        self.texts.append(page.texts);
    }
}

/// Positions of items for each of many items, maybe none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct IndexLists {
    indexes: Vec<u32>,
    /// Where those of each item end.
    ends: Vec<u32>,
}

impl IndexLists {
    /// As a host packs them.
    #[must_use]
    pub const fn from_parts(indexes: Vec<u32>, ends: Vec<u32>) -> Self {
        Self { indexes, ends }
    }

    /// Adds those of one more item.
    pub fn push(&mut self, indexes: &[u32]) {
        self.indexes.extend_from_slice(indexes);
        self.ends.push(end(self.indexes.len()));
    }

    /// Of how many items.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether of no item.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Those of one item; none when it is not there.
    #[must_use]
    pub fn of(&self, item: usize) -> &[u32] {
        range(&self.ends, item).and_then(|places| self.indexes.get(places)).unwrap_or_default()
    }

    pub(crate) fn append(&mut self, page: Self) {
        if self.is_empty() {
            *self = page;
            return;
        }
        extend(&mut self.ends, &page.ends, self.indexes.len());
        self.indexes.extend(page.indexes);
    }
}

/// A column that comes in pages.
pub(crate) trait Column: Default {
    fn entries(&self) -> usize;
    fn add(&mut self, page: Self);
}

macro_rules! column {
    ($($column:ty),+) => {$(
        impl Column for $column {
            fn entries(&self) -> usize {
                self.len()
            }

            fn add(&mut self, page: Self) {
                self.append(page);
            }
        }
    )+};
}

column!(Texts, TextLists, IndexLists);

impl<T> Column for Vec<T> {
    fn entries(&self) -> usize {
        self.len()
    }

    fn add(&mut self, page: Self) {
        if self.is_empty() {
            *self = page;
        } else {
            self.extend(page);
        }
    }
}
