//! The virtual files of a block at one point in time: what there is, what changed, and where the bytes are.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    io::{self, Read},
    os::unix::fs::FileExt,
    path::Path,
    sync::Arc,
};

use pangolin_core::ids::Digest;
use pangolin_envelope::result::{FileState, OUTPUTS_DIR};
use pangolin_plugin_host::{FileEntry, WorldError};
use serde_json::{Value, json};

use crate::{
    capture::{Baseline, Changed},
    safe_fs::Root,
    scan::{self, Kind, RawPath},
};

/// What changed, as a virtual file.
const CHANGES: &str = "changes.json";

/// Where the bytes of a virtual file are.
#[derive(Debug)]
enum Source {
    /// Below the workspace.
    Workspace(RawPath),
    /// A copy from before the agent, with the digest it must have.
    Copy(usize, Digest),
    /// A symbolic link, which is not read.
    Link,
    /// [`CHANGES`].
    Changes,
}

/// Valid until a command runs.
#[derive(Debug)]
pub(crate) struct Snapshot {
    listing: Arc<Vec<FileEntry>>,
    sources: BTreeMap<String, Source>,
    changes: Vec<u8>,
}

impl Snapshot {
    /// Looks at everything once.
    pub(crate) fn take(workspace: &Path, baseline: &Baseline) -> Self {
        let look = baseline.look(workspace);
        let mut files: BTreeMap<String, (u64, Option<Digest>, Source)> = BTreeMap::new();
        for (path, kind) in &look.listing {
            let state = look.states.get(path);
            let size = state.map_or_else(|| size_of(&scan::at(workspace, path)), |state| state.size);
            let source = match kind {
                Kind::File { .. } => Source::Workspace(path.clone()),
                Kind::Link => Source::Link,
                Kind::Special => continue,
            };
            let digest = state.map(|state| state.digest);
            files.insert(format!("workspace/{}", scan::encode(path)), (size, digest, source));
        }
        let mut changes = Vec::new();
        for change in &look.changes {
            let name = scan::encode(&change.path);
            if let Some((state, copy)) = &change.before {
                let source =
                    if state.mode == "120000" { Source::Link } else { Source::Copy(*copy, state.digest) };
                files.insert(format!("base/{name}"), (state.size, Some(state.digest), source));
            }
            changes.push((name, change));
        }
        changes.sort_by(|a, b| a.0.cmp(&b.0));
        let document = json!({
            "schemaVersion": 1,
            "changes": changes.iter().map(|(name, change)| describe(name, change)).collect::<Vec<_>>(),
        });
        let changes = document.to_string().into_bytes();
        let of_changes = (changes.len() as u64, Some(Digest::of(&changes)), Source::Changes);
        files.insert(CHANGES.to_owned(), of_changes);
        let mut outputs = Vec::new();
        walk_outputs(workspace, OUTPUTS_DIR.as_bytes(), &mut outputs);
        for (path, size, source) in outputs {
            files.insert(scan::encode(&path), (size, None, source));
        }
        let entry = |(path, (size, digest, _)): (&String, &(u64, Option<Digest>, Source))| FileEntry {
            path: path.clone(),
            size: *size,
            digest: *digest,
        };
        let listing = Arc::new(files.iter().map(entry).collect());
        let sources = files.into_iter().map(|(path, (_, _, source))| (path, source)).collect();
        Self { listing, sources, changes }
    }

    pub(crate) fn files(&self) -> Arc<Vec<FileEntry>> {
        Arc::clone(&self.listing)
    }

    /// `verified` remembers the copies whose digest was right.
    pub(crate) fn read(
        &self,
        root: &Root,
        baseline: &Baseline,
        verified: &mut BTreeSet<usize>,
        path: &str,
        offset: u64,
        length: u32,
    ) -> Result<Vec<u8>, WorldError> {
        match self.sources.get(path).ok_or(WorldError::Missing)? {
            Source::Changes => {
                let from = usize::try_from(offset).unwrap_or(usize::MAX).min(self.changes.len());
                let to = from.saturating_add(length as usize).min(self.changes.len());
                Ok(self.changes[from..to].to_vec())
            }
            Source::Link => Err(WorldError::Refused(
                "it is a symbolic link; links are not followed, changes.json names the target".to_owned(),
            )),
            Source::Workspace(raw) => {
                let file = root.open_raw(raw).map_err(WorldError::Refused)?;
                piece(&file, offset, length)
            }
            Source::Copy(copy, digest) => {
                let file = baseline.copy(*copy).map_err(|error| unreadable(&error))?;
                if !verified.contains(copy) {
                    // Without a sandbox, commands can reach the copies; their digests are in memory only.
                    if scan::digest(&file).map_err(|error| unreadable(&error))? != *digest {
                        let rule = "the copy from before the agent was altered".to_owned();
                        return Err(WorldError::Refused(rule));
                    }
                    verified.insert(*copy);
                }
                piece(&file, offset, length)
            }
        }
    }
}

fn unreadable(error: &io::Error) -> WorldError {
    WorldError::Refused(format!("it cannot be read: {error}"))
}

fn size_of(place: &Path) -> u64 {
    place.symlink_metadata().map_or(0, |meta| meta.len())
}

fn piece(file: &File, offset: u64, length: u32) -> Result<Vec<u8>, WorldError> {
    let size = file.metadata().map_err(|error| unreadable(&error))?.len();
    let room = usize::try_from(size.saturating_sub(offset)).unwrap_or(usize::MAX).min(length as usize);
    let mut bytes = vec![0; room];
    let mut filled = 0;
    while filled < room {
        match file.read_at(&mut bytes[filled..], offset + filled as u64) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(unreadable(&error)),
        }
    }
    bytes.truncate(filled);
    Ok(bytes)
}

/// One entry of `changes.json`.
fn describe(name: &str, change: &Changed) -> Value {
    let state = |state: &FileState| json!({"mode": state.mode, "size": state.size, "digest": state.digest});
    let before = change.before.as_ref().map(|(state, _)| state);
    let kind = match (before, &change.after) {
        (None, _) => "added",
        (_, None) => "deleted",
        (Some(before), Some(after)) if (before.mode == "120000") != (after.mode == "120000") => {
            "type-changed"
        }
        _ => "modified",
    };
    let mut entry = json!({"path": name, "kind": kind, "binary": change.binary});
    if let Some(before) = before {
        entry["before"] = state(before);
    }
    if let Some(after) = &change.after {
        entry["after"] = state(after);
    }
    if let Some(target) = &change.target {
        entry["symlinkTarget"] = scan::encode(target).into();
    }
    entry
}

/// Regular files and links below `outputs/`, by path from the workspace.
fn walk_outputs(workspace: &Path, directory: &[u8], found: &mut Vec<(RawPath, u64, Source)>) {
    use std::os::unix::ffi::OsStrExt;
    let place = scan::at(workspace, directory);
    // `outputs` itself may be a link.
    if !place.symlink_metadata().is_ok_and(|meta| meta.is_dir()) {
        return;
    }
    for entry in fs::read_dir(&place).into_iter().flatten().flatten() {
        let Ok(meta) = entry.metadata() else { continue };
        let mut path = directory.to_vec();
        path.push(b'/');
        path.extend_from_slice(entry.file_name().as_bytes());
        if meta.is_dir() {
            walk_outputs(workspace, &path, found);
        } else if meta.is_file() {
            found.push((path.clone(), meta.len(), Source::Workspace(path)));
        } else if meta.is_symlink() {
            found.push((path, meta.len(), Source::Link));
        }
    }
}

/// Whether the beginning of a content is not text, by the rule git uses.
pub(crate) fn is_binary(beginning: &[u8]) -> bool {
    beginning.contains(&0)
}

/// Keeps the first bytes of what is written to it.
#[derive(Debug, Default)]
pub(crate) struct Beginning(pub(crate) Vec<u8>);

impl Beginning {
    const BYTES: usize = 8_000;

    pub(crate) fn of(mut source: impl Read) -> io::Result<Self> {
        let mut bytes = Vec::new();
        source.by_ref().take(Self::BYTES as u64).read_to_end(&mut bytes)?;
        Ok(Self(bytes))
    }
}

impl io::Write for Beginning {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let room = Self::BYTES.saturating_sub(self.0.len()).min(bytes.len());
        self.0.extend_from_slice(&bytes[..room]);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
