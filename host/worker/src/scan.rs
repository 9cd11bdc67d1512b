//! What is in a workspace: regular files, symbolic links, executable bits. Links are never followed.

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsString,
    fs::{self, File, Metadata, OpenOptions},
    io::{self, Read, Write},
    os::unix::{
        ffi::{OsStrExt, OsStringExt},
        fs::{MetadataExt, OpenOptionsExt},
    },
    path::{Path, PathBuf},
};

use ignore::WalkBuilder;
use nix::fcntl::OFlag;
use pangolin_core::ids::Digest;
use pangolin_envelope::result::FileState;
use sha2::{Digest as _, Sha256};

/// Top-level directories that belong to Pangolin, not to the change: its own, `outputs/`, and `inputs/` when the
/// dispatch has inputs (otherwise it is a directory of the repository like any other).
const fn ours(has_inputs: bool) -> &'static [&'static [u8]] {
    if has_inputs { &[b".pangolin", b"outputs", b"inputs"] } else { &[b".pangolin", b"outputs"] }
}

/// Path relative to the workspace, as raw bytes.
pub(crate) type RawPath = Vec<u8>;

/// What stands at a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A regular file; executable or not.
    File {
        /// The owner may execute it.
        executable: bool,
    },
    /// A symbolic link.
    Link,
    /// Fifo, socket or device.
    Special,
}

/// All paths of a workspace except directories, and what could not be read.
#[derive(Debug, Default)]
pub(crate) struct Listing {
    /// By path.
    pub(crate) entries: BTreeMap<RawPath, Kind>,
    /// Messages.
    pub(crate) problems: Vec<String>,
}

/// The path as result records spell it: percent-encoded where a byte is not printable ASCII or is `%`.
#[must_use]
pub(crate) fn encode(path: &[u8]) -> String {
    let mut out = String::with_capacity(path.len());
    for byte in path {
        if matches!(byte, b' '..=b'~') && *byte != b'%' {
            out.push(char::from(*byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

/// A raw path below a directory.
#[must_use]
pub(crate) fn at(directory: &Path, path: &[u8]) -> PathBuf {
    directory.join(OsString::from_vec(path.to_vec()))
}

/// Lists the workspace, without `.git` anywhere and without Pangolin's own directories.
#[must_use]
pub(crate) fn list(workspace: &Path, has_inputs: bool) -> Listing {
    let mut listing = Listing::default();
    let mut next: Vec<RawPath> = vec![Vec::new()];
    while let Some(directory) = next.pop() {
        let entries = match fs::read_dir(at(workspace, &directory)) {
            Ok(entries) => entries,
            Err(error) => {
                listing.problems.push(format!("{}/: cannot be listed: {error}", encode(&directory)));
                continue;
            }
        };
        for entry in entries {
            let entry = match entry {
                Ok(entry) => entry,
                Err(error) => {
                    listing.problems.push(format!("{}/: cannot be listed: {error}", encode(&directory)));
                    break;
                }
            };
            let name = entry.file_name();
            if name == ".git" || (directory.is_empty() && ours(has_inputs).contains(&name.as_bytes())) {
                continue;
            }
            let mut path = directory.clone();
            if !path.is_empty() {
                path.push(b'/');
            }
            path.extend_from_slice(name.as_bytes());
            match entry.metadata() {
                Ok(meta) if meta.is_dir() => next.push(path),
                Ok(meta) => drop(listing.entries.insert(path, kind(&meta))),
                Err(error) => listing.problems.push(format!("{}: {error}", encode(&path))),
            }
        }
    }
    listing
}

fn kind(meta: &Metadata) -> Kind {
    if meta.is_symlink() {
        Kind::Link
    } else if meta.is_file() {
        Kind::File { executable: meta.mode() & 0o100 != 0 }
    } else {
        Kind::Special
    }
}

/// The paths that `.gitignore` files of the workspace do not exclude. Independent of any git configuration of the
/// machine or user.
#[must_use]
pub(crate) fn not_ignored(workspace: &Path) -> BTreeSet<RawPath> {
    let walk = WalkBuilder::new(workspace)
        .standard_filters(false)
        .git_ignore(true)
        .require_git(false)
        .parents(false)
        .follow_links(false)
        .filter_entry(|entry| entry.file_name() != ".git")
        .build();
    walk.flatten()
        .filter_map(|entry| {
            entry.path().strip_prefix(workspace).ok().map(|path| path.as_os_str().as_bytes().to_vec())
        })
        .collect()
}

/// Reads what is at a path into `sink` and answers its state.
///
/// # Errors
/// Unreadable, not what the listing said, or `limit` bytes are not enough (kind `FileTooLarge`).
pub(crate) fn read(
    workspace: &Path,
    path: &[u8],
    kind: Kind,
    limit: u64,
    sink: &mut impl Write,
) -> io::Result<FileState> {
    let place = at(workspace, path);
    match kind {
        Kind::Link => {
            let target = fs::read_link(&place)?.into_os_string().into_vec();
            sink.write_all(&target)?;
            Ok(FileState {
                mode: "120000".to_owned(),
                digest: Digest::of(&target),
                size: target.len() as u64,
            })
        }
        Kind::File { executable } => {
            let mut file = open_regular(&place)?;
            let mut hash = Sha256::new();
            let mut size = 0;
            let mut piece = vec![0; 64 << 10];
            loop {
                let count = file.read(&mut piece)?;
                if count == 0 {
                    break;
                }
                size += count as u64;
                if size > limit {
                    return Err(io::ErrorKind::FileTooLarge.into());
                }
                hash.update(&piece[..count]);
                sink.write_all(&piece[..count])?;
            }
            let mode = if executable { "100755" } else { "100644" };
            Ok(FileState { mode: mode.to_owned(), digest: Digest::from_bytes(hash.finalize().into()), size })
        }
        Kind::Special => Err(io::Error::new(io::ErrorKind::InvalidInput, "is a fifo, socket or device")),
    }
}

/// Digest of a whole file, from its start, wherever its cursor is.
pub(crate) fn digest(file: &File) -> io::Result<Digest> {
    use std::os::unix::fs::FileExt;
    let mut hash = Sha256::new();
    let mut piece = vec![0; 64 << 10];
    let mut offset = 0;
    loop {
        match file.read_at(&mut piece, offset)? {
            0 => return Ok(Digest::from_bytes(hash.finalize().into())),
            count => {
                hash.update(&piece[..count]);
                offset += count as u64;
            }
        }
    }
}

/// Opens a regular file without following a link and without waiting for a fifo's other end.
pub(crate) fn open_regular(path: &Path) -> io::Result<File> {
    let flags = (OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK).bits();
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    if file.metadata()?.is_file() {
        Ok(file)
    } else {
        Err(io::Error::new(io::ErrorKind::InvalidInput, "is not a regular file"))
    }
}
