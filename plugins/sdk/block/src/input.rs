//! Reading: parameters, listings, files in ranges, changes.

use std::io::{self, BufReader, Read};

use crate::{
    changes::{Change, Document},
    params::Params,
    stage::{Entry, Fault, Refusal, Stage, fault, refused},
};

/// Bytes that one call asks for.
const PIECE: u32 = 64 << 10;

/// Entries that one page asks for.
const PAGE: u32 = 512;

/// `changes.json` is held in memory.
const MAX_CHANGES_BYTES: u64 = 48 << 20;

/// What a block reads.
#[derive(Clone, Copy)]
pub struct Input<'a>(&'a dyn Stage);

impl<'a> Input<'a> {
    /// On a host.
    #[must_use]
    pub fn new(stage: &'a dyn Stage) -> Self {
        Self(stage)
    }

    /// The host itself, for what has no helper.
    #[must_use]
    pub fn stage(&self) -> &'a dyn Stage {
        self.0
    }

    /// The step's parameters, to be taken field by field.
    #[must_use]
    pub fn params(&self) -> Params {
        Params::parse(&self.0.params_json())
    }

    /// A fact about the dispatch.
    #[must_use]
    pub fn attr(&self, key: &str) -> Option<String> {
        self.0.attr(key)
    }

    /// Files below a prefix in path order, paged behind the scenes. Ends after the first error.
    #[must_use]
    pub fn files(&self, prefix: &str) -> Files<'a> {
        Files {
            stage: self.0,
            prefix: prefix.to_owned(),
            offset: 0,
            page: Vec::new().into_iter(),
            done: false,
        }
    }

    /// A file as a byte stream, read piece by piece. Opening asks nothing; a refusal is the first read's error, of kind
    /// `Other` with the [`Refusal`] inside.
    #[must_use]
    pub fn open(&self, path: &str) -> FileReader<'a> {
        FileReader { stage: self.0, path: path.to_owned(), offset: 0, ended: false }
    }

    /// Whether there is such a file, without reading it: a refused read is recorded, a listing that lacks it is not.
    ///
    /// # Errors
    /// Not granted.
    pub fn exists(&self, path: &str) -> Result<bool, Refusal> {
        let page = self.0.list_files(path, 0, 1)?;
        Ok(page.first().is_some_and(|entry| entry.path == path))
    }

    /// A whole file, when it is at most `limit` bytes.
    ///
    /// # Errors
    /// Refused, or larger (kind `FileTooLarge`).
    pub fn read_all(&self, path: &str, limit: u64) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.open(path).take(limit + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > limit {
            return Err(io::Error::new(
                io::ErrorKind::FileTooLarge,
                format!("is larger than the limit of {limit} bytes"),
            ));
        }
        Ok(bytes)
    }

    /// What changed, in path order.
    ///
    /// # Errors
    /// Refused, too large, or not what this SDK understands.
    pub fn changes(&self) -> Result<Vec<Change>, Fault> {
        let path = "changes.json";
        let source = BufReader::with_capacity(PIECE as usize, self.open(path).take(MAX_CHANGES_BYTES + 1));
        let document: Document = serde_json::from_reader(source).map_err(|error| {
            let text = error.to_string();
            let refusal = io::Error::from(error);
            match refusal.get_ref().and_then(|inner| inner.downcast_ref::<Refusal>()) {
                Some(refusal) => refused(refusal),
                None => fault("unreadable", format!("{path}: {text}")),
            }
        })?;
        if document.schema_version != 1 {
            return Err(fault(
                "unreadable",
                format!(
                    "{path} has schemaVersion {}, this block knows 1; build it with a newer SDK",
                    document.schema_version
                ),
            ));
        }
        Ok(document.changes)
    }
}

/// See [`Input::files`].
pub struct Files<'a> {
    stage: &'a dyn Stage,
    prefix: String,
    offset: u32,
    page: std::vec::IntoIter<Entry>,
    done: bool,
}

impl Iterator for Files<'_> {
    type Item = Result<Entry, Refusal>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(entry) = self.page.next() {
                return Some(Ok(entry));
            }
            if self.done {
                return None;
            }
            match self.stage.list_files(&self.prefix, self.offset, PAGE) {
                Ok(page) => {
                    self.done = page.is_empty();
                    self.offset = self.offset.saturating_add(u32::try_from(page.len()).unwrap_or(u32::MAX));
                    self.page = page.into_iter();
                }
                Err(refusal) => {
                    self.done = true;
                    return Some(Err(refusal));
                }
            }
        }
    }
}

/// See [`Input::open`].
pub struct FileReader<'a> {
    stage: &'a dyn Stage,
    path: String,
    offset: u64,
    ended: bool,
}

impl Read for FileReader<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.ended || into.is_empty() {
            return Ok(0);
        }
        let length = u32::try_from(into.len()).unwrap_or(PIECE).min(PIECE);
        let bytes = self.stage.read(&self.path, self.offset, length).map_err(io::Error::other)?;
        let Some(place) = into.get_mut(..bytes.len()) else {
            return Err(io::Error::other("the host answered more bytes than asked"));
        };
        place.copy_from_slice(&bytes);
        self.ended = bytes.is_empty();
        self.offset += bytes.len() as u64;
        Ok(bytes.len())
    }
}
