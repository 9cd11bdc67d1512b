//! Patch capture: the state of the workspace before the agent, and what is different afterwards.
//!
//! Compared by content, never by time stamps, and without git, so that nobody's git configuration matters.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, BufWriter, ErrorKind, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, symlink},
    path::{Path, PathBuf},
};

use pangolin_envelope::result::{CAPTURE_DIR, Capture, Change, FileState};

use crate::{
    block::{Beginning, is_binary},
    scan::{self, Kind, RawPath},
};

/// The state after setup, with a copy of every file.
///
/// Copies, not hard links: an edit in place would change both.
#[derive(Debug)]
pub(crate) struct Baseline {
    store: PathBuf,
    files: BTreeMap<RawPath, Before>,
    /// Paths that existed but could not be read, so a change of them cannot be shown.
    unreadable: BTreeSet<RawPath>,
    problems: Vec<String>,
    has_inputs: bool,
}

#[derive(Debug)]
struct Before {
    state: FileState,
    kind: Kind,
    /// Number of the copy in the store.
    copy: usize,
}

/// A capture with what it could not contain.
#[derive(Debug)]
pub(crate) struct Captured {
    /// The change.
    pub(crate) capture: Capture,
    /// Messages, each with its path.
    pub(crate) not_captured: Vec<String>,
}

/// A comparison for blocks.
#[derive(Debug)]
pub(crate) struct Look {
    /// What there is now.
    pub(crate) listing: BTreeMap<RawPath, Kind>,
    /// States now, of everything that belongs to the comparison and could be read.
    pub(crate) states: BTreeMap<RawPath, FileState>,
    /// What is different.
    pub(crate) changes: Vec<Changed>,
}

/// One difference.
#[derive(Debug)]
pub(crate) struct Changed {
    pub(crate) path: RawPath,
    /// State before, with the number of its copy.
    pub(crate) before: Option<(FileState, usize)>,
    pub(crate) after: Option<FileState>,
    /// One of the two is not text.
    pub(crate) binary: bool,
    /// Target of a link: now, else before.
    pub(crate) target: Option<Vec<u8>>,
}

impl Baseline {
    /// Copies the workspace into `store`, a new directory of the worker alone.
    ///
    /// # Errors
    /// When the copy cannot be written (disk full); unreadable files are only noted.
    pub(crate) fn take(workspace: &Path, store: PathBuf, has_inputs: bool) -> Result<Self, String> {
        let failed = |error: io::Error| {
            format!("cannot keep the state before the agent in {}: {error}", store.display())
        };
        DirBuilder::new().mode(0o700).create(&store).map_err(failed)?;
        let listing = scan::list(workspace, has_inputs);
        let mut files = BTreeMap::new();
        let mut unreadable = BTreeSet::new();
        let mut problems = listing.problems;
        for (copy, (path, kind)) in listing.entries.into_iter().enumerate() {
            if kind == Kind::Special {
                continue;
            }
            let mut sink = create(&store.join(copy.to_string()), false).map_err(failed)?;
            match scan::read(workspace, &path, kind, u64::MAX, &mut sink) {
                Ok(state) => drop(files.insert(path, Before { state, kind, copy })),
                Err(error) if error.kind() == io::ErrorKind::StorageFull => return Err(failed(error)),
                Err(error) => {
                    problems.push(format!(
                        "{}: could not be read before the agent: {error}",
                        scan::encode(&path)
                    ));
                    unreadable.insert(path);
                }
            }
        }
        Ok(Self { store, files, unreadable, problems, has_inputs })
    }

    /// Compares, and leaves the changed paths in `capture/before` and `capture/after` of the result directory. An
    /// earlier capture is replaced.
    ///
    /// # Errors
    /// When the capture cannot be written.
    pub(crate) fn compare(
        &self,
        workspace: &Path,
        result_dir: &Path,
        limit: u64,
    ) -> Result<Captured, String> {
        let root = result_dir.join(CAPTURE_DIR);
        let failed = |error: io::Error| format!("cannot write the capture to {}: {error}", root.display());
        clear(&root).map_err(failed)?;
        let (before_dir, after_dir) = (root.join("before"), root.join("after"));
        for directory in [&root, &before_dir, &after_dir] {
            DirBuilder::new().mode(0o755).create(directory).map_err(failed)?;
        }
        let mut not_captured = self.problems.clone();
        let mut changes = Vec::new();
        let mut room = limit;
        let listing = scan::list(workspace, self.has_inputs);
        not_captured.extend(listing.problems);
        let wanted = scan::not_ignored(workspace);
        let paths: BTreeSet<&RawPath> = self.files.keys().chain(listing.entries.keys()).collect();
        for path in paths {
            let before = self.files.get(path);
            let now = listing.entries.get(path).copied();
            let name = scan::encode(path);
            if before.is_none() && (!wanted.contains(path) || self.unreadable.contains(path)) {
                continue;
            }
            if now == Some(Kind::Special) {
                not_captured
                    .push(format!("{name}: is a fifo, socket or device, which a patch cannot express"));
                if before.is_none() {
                    continue;
                }
            }
            let now = now.filter(|kind| *kind != Kind::Special);
            let after = match now
                .map(|kind| scan::read(workspace, path, kind, u64::MAX, &mut io::sink()))
                .transpose()
            {
                Ok(after) => after,
                Err(error) => {
                    not_captured.push(format!("{name}: cannot be read: {error}"));
                    continue;
                }
            };
            let state = before.map(|before| before.state.clone());
            if state == after {
                continue;
            }
            let bytes = state.as_ref().map_or(0, |it| it.size) + after.as_ref().map_or(0, |it| it.size);
            if bytes > room {
                not_captured.push(format!(
                    "{name}: {bytes} bytes are over the limit of {limit} bytes for one change"
                ));
                continue;
            }
            room -= bytes;
            if let Some(before) = before {
                let kept = match self.restore(path, before, &before_dir) {
                    Ok(kept) => Some(kept),
                    // Without a sandbox the agent can reach the copies; their digests are in memory only.
                    Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::InvalidInput) => {
                        None
                    }
                    Err(error) => return Err(failed(error)),
                };
                if kept != Some(before.state.digest) {
                    clear(&scan::at(&before_dir, path)).map_err(failed)?;
                    not_captured
                        .push(format!("{name}: the copy from before the agent was altered or removed"));
                    continue;
                }
            }
            if let (Some(kind), Some(expected)) = (now, &after) {
                let written = place(workspace, path, kind, &after_dir).map_err(failed)?;
                if written != *expected {
                    not_captured.push(format!("{name}: changed while it was captured"));
                    continue;
                }
            }
            changes.push(Change { path: name, before: state, after });
        }
        Ok(Captured { capture: Capture { changes }, not_captured })
    }

    /// The workspace now beside the state before, without copying anything. The same rules as [`Self::compare`]; what
    /// cannot be read is listed without a state.
    pub(crate) fn look(&self, workspace: &Path) -> Look {
        let listing = scan::list(workspace, self.has_inputs).entries;
        let wanted = scan::not_ignored(workspace);
        let mut look = Look { listing, states: BTreeMap::new(), changes: Vec::new() };
        let paths: BTreeSet<&RawPath> = self.files.keys().chain(look.listing.keys()).collect();
        for path in paths {
            let before = self.files.get(path);
            if before.is_none() && (!wanted.contains(path) || self.unreadable.contains(path)) {
                continue;
            }
            let now = look.listing.get(path).copied().filter(|kind| *kind != Kind::Special);
            if before.is_none() && now.is_none() {
                continue;
            }
            let mut beginning = Beginning::default();
            let after = match now.map(|kind| scan::read(workspace, path, kind, u64::MAX, &mut beginning)) {
                None => None,
                Some(Ok(state)) => {
                    look.states.insert(path.clone(), state.clone());
                    Some(state)
                }
                Some(Err(_)) => continue,
            };
            if before.map(|before| &before.state) == after.as_ref() {
                continue;
            }
            let old = before.map(|before| self.copy(before.copy).and_then(Beginning::of));
            let old = old.and_then(Result::ok).unwrap_or_default();
            let link_before = before.filter(|before| before.kind == Kind::Link).map(|_| old.0.clone());
            let target = if now == Some(Kind::Link) { Some(beginning.0.clone()) } else { link_before };
            look.changes.push(Changed {
                path: path.clone(),
                before: before.map(|before| (before.state.clone(), before.copy)),
                after,
                binary: is_binary(&beginning.0) || is_binary(&old.0),
                target,
            });
        }
        look
    }

    /// Opens a copy from before the agent. Without a sandbox, others could have changed it: check its digest.
    pub(crate) fn copy(&self, number: usize) -> io::Result<File> {
        scan::open_regular(&self.store.join(number.to_string()))
    }

    fn restore(&self, path: &[u8], before: &Before, into: &Path) -> io::Result<pangolin_core::ids::Digest> {
        let copy = before.copy.to_string();
        // A copy is a regular file for links too; its content is the target.
        let kind = match before.kind {
            Kind::Link => Kind::File { executable: false },
            kind => kind,
        };
        let target = scan::at(into, path);
        parents(&target)?;
        if before.kind == Kind::Link {
            let mut text = Vec::new();
            let state = scan::read(&self.store, copy.as_bytes(), kind, u64::MAX, &mut text)?;
            symlink(to_path(&text), &target)?;
            return Ok(state.digest);
        }
        let mut sink = create(&target, kind == Kind::File { executable: true })?;
        let state = scan::read(&self.store, copy.as_bytes(), kind, u64::MAX, &mut sink)?;
        sink.flush()?;
        Ok(state.digest)
    }
}

fn to_path(bytes: &[u8]) -> PathBuf {
    scan::at(Path::new(""), bytes)
}

fn parents(target: &Path) -> io::Result<()> {
    target.parent().map_or(Ok(()), fs::create_dir_all)
}

fn create(path: &Path, executable: bool) -> io::Result<BufWriter<File>> {
    let mode = if executable { 0o755 } else { 0o644 };
    OpenOptions::new().write(true).create_new(true).mode(mode).open(path).map(BufWriter::new)
}

fn place(workspace: &Path, path: &[u8], kind: Kind, into: &Path) -> io::Result<FileState> {
    let target = scan::at(into, path);
    parents(&target)?;
    if kind == Kind::Link {
        let mut text = Vec::new();
        let state = scan::read(workspace, path, kind, u64::MAX, &mut text)?;
        symlink(to_path(&text), &target)?;
        return Ok(state);
    }
    let mut sink = create(&target, kind == Kind::File { executable: true })?;
    let state = scan::read(workspace, path, kind, u64::MAX, &mut sink)?;
    sink.flush()?;
    Ok(state)
}

/// Removes whatever stands at `path`; nobody but the worker may have put something there.
pub(crate) fn clear(path: &Path) -> io::Result<()> {
    match path.symlink_metadata() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
        Ok(meta) if meta.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
    }
}
