//! Turning a worker's capture into a patch: canonical bytes, and the tree id that applying it must give.

use std::{
    ffi::OsStr,
    io::Read as _,
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
};

use pangolin_core::ids::Digest;
use pangolin_envelope::result::{CAPTURE_DIR, Capture, Change, FileState};
use thiserror::Error;

use crate::git::{Git, GitError};

/// Why a capture cannot become a patch.
#[derive(Debug, Error)]
pub enum PatchError {
    /// git failed.
    #[error(transparent)]
    Git(#[from] GitError),
    /// A captured file cannot be read.
    #[error("cannot read captured file {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A captured file is not what the authenticated result says.
    #[error("captured file {path:?} does not have the digest {expected} that the worker reported")]
    Altered {
        /// Path in the workspace.
        path: String,
        /// Reported digest.
        expected: Digest,
    },
    /// A path or mode that must not be in a patch.
    #[error("captured path {0:?} is not acceptable")]
    BadPath(String),
}

/// A finished patch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Patch {
    /// `git diff --binary --full-index` bytes; empty when nothing changed.
    pub bytes: Vec<u8>,
    /// Tree id of the base commit with the changes, when there is a base.
    pub tree: Option<String>,
}

/// Builds the patch of a capture. `result_dir` holds the captured files, `scratch` is an empty directory of the
/// host, `base` the repository and commit that the workspace started from.
///
/// # Errors
/// [`PatchError`].
pub fn build(
    capture: &Capture,
    result_dir: &Path,
    scratch: &Path,
    base: Option<(&Path, &str)>,
) -> Result<Patch, PatchError> {
    let paths =
        capture.changes.iter().map(|change| decode_path(&change.path)).collect::<Result<Vec<_>, _>>()?;
    let git_dir = scratch.join("patch.git");
    Git::new(scratch).args(["init", "--quiet", "--bare", "--template="]).arg(&git_dir).run()?;
    if let Some((repo, _)) = base {
        let objects =
            Git::new(repo).args(["rev-parse", "--path-format=absolute", "--git-path", "objects"]).line()?;
        let file = git_dir.join("objects/info/alternates");
        std::fs::create_dir_all(git_dir.join("objects/info"))
            .and_then(|()| std::fs::write(&file, format!("{objects}\n")))
            .map_err(|source| PatchError::Read { path: file, source })?;
    }
    let before = side(capture, &paths, result_dir, &git_dir, "before", |change| change.before.as_ref())?;
    let after = side(capture, &paths, result_dir, &git_dir, "after", |change| change.after.as_ref())?;
    let before_tree = write_tree(&git_dir, "before", None, &before)?;
    let after_tree = write_tree(&git_dir, "after", None, &after)?;
    let bytes = Git::new(&git_dir)
        .args([
            "diff-tree",
            "-r",
            "-p",
            "--binary",
            "--full-index",
            "--no-color",
            "--no-ext-diff",
            "--no-textconv",
        ])
        .args(["--find-renames=50%", "--unified=3", "--no-indent-heuristic", "--diff-algorithm=myers"])
        .args(["--src-prefix=a/", "--dst-prefix=b/", "-l0"])
        .args([&before_tree, &after_tree])
        .run()?;
    let tree = match base {
        None => None,
        Some((_, commit)) => {
            let removed = paths.iter().zip(&capture.changes).filter(|(_, change)| change.after.is_none());
            let mut changes: Vec<_> = removed.map(|(path, _)| (path.as_slice(), None)).collect();
            changes.extend(after.iter().map(|(path, line)| (path.as_slice(), Some(line.clone()))));
            Some(tree_on_base(&git_dir, commit, &changes)?)
        }
    };
    Ok(Patch { bytes, tree })
}

type Staged = (Vec<u8>, String);

/// Hashes one side's files into the object store; answers `(path, "mode oid")`.
fn side(
    capture: &Capture,
    paths: &[Vec<u8>],
    result_dir: &Path,
    git_dir: &Path,
    name: &str,
    pick: impl Fn(&Change) -> Option<&FileState>,
) -> Result<Vec<Staged>, PatchError> {
    let root = result_dir.join(CAPTURE_DIR).join(name);
    let blobs = git_dir.join(format!("staged-{name}"));
    std::fs::create_dir_all(&blobs).map_err(|source| PatchError::Read { path: blobs.clone(), source })?;
    let mut wanted = Vec::new();
    let mut list = Vec::new();
    for (path, change) in paths.iter().zip(&capture.changes) {
        let Some(state) = pick(change) else { continue };
        if !matches!(state.mode.as_str(), "100644" | "100755" | "120000") {
            return Err(PatchError::BadPath(change.path.clone()));
        }
        let bytes = read_captured(&root, path, state)?;
        if Digest::of(&bytes) != state.digest {
            return Err(PatchError::Altered { path: change.path.clone(), expected: state.digest });
        }
        // Numbered copies, so that no captured name ever reaches a command line or a line-based protocol.
        let copy = blobs.join(wanted.len().to_string());
        std::fs::write(&copy, &bytes).map_err(|source| PatchError::Read { path: copy.clone(), source })?;
        list.extend_from_slice(copy.as_os_str().as_bytes());
        list.push(b'\n');
        wanted.push((path.clone(), state.mode.clone()));
    }
    if wanted.is_empty() {
        return Ok(Vec::new());
    }
    let oids =
        Git::new(git_dir).args(["hash-object", "-w", "--no-filters", "--stdin-paths"]).run_with(&list)?;
    let oids = String::from_utf8_lossy(&oids).into_owned();
    Ok(wanted
        .into_iter()
        .zip(oids.lines())
        .map(|((path, mode), oid)| (path, format!("{mode} {oid}")))
        .collect())
}

/// Reads a captured file below `root` without following symlinks on the way or at the end.
fn read_captured(root: &Path, path: &[u8], state: &FileState) -> Result<Vec<u8>, PatchError> {
    let full = root.join(OsStr::from_bytes(path));
    let failed = |source| PatchError::Read { path: full.clone(), source };
    let bad = || PatchError::BadPath(String::from_utf8_lossy(path).into_owned());
    let mut parent = root.to_owned();
    if !std::fs::symlink_metadata(&parent).map_err(failed)?.is_dir() {
        return Err(bad());
    }
    for part in Path::new(OsStr::from_bytes(path)).parent().into_iter().flat_map(Path::components) {
        parent.push(part);
        if !std::fs::symlink_metadata(&parent).map_err(failed)?.is_dir() {
            return Err(bad());
        }
    }
    if state.mode == "120000" {
        return Ok(std::fs::read_link(&full).map_err(failed)?.into_os_string().as_bytes().to_vec());
    }
    if !std::fs::symlink_metadata(&full).map_err(failed)?.is_file() {
        return Err(bad());
    }
    let mut bytes = Vec::new();
    let file = std::fs::File::open(&full).map_err(failed)?;
    file.take(state.size.saturating_add(1)).read_to_end(&mut bytes).map_err(failed)?;
    Ok(bytes)
}

fn index_info<'a>(entries: impl IntoIterator<Item = (&'a [u8], Option<String>)>) -> Vec<u8> {
    let mut info = Vec::new();
    for (path, line) in entries {
        let line = line.unwrap_or_else(|| format!("0 {}", "0".repeat(40)));
        info.extend_from_slice(line.as_bytes());
        info.push(b'\t');
        info.extend_from_slice(path);
        info.push(0);
    }
    info
}

fn write_tree(
    git_dir: &Path,
    name: &str,
    base: Option<&str>,
    entries: &[Staged],
) -> Result<String, GitError> {
    let changes: Vec<_> = entries.iter().map(|(path, line)| (path.as_slice(), Some(line.clone()))).collect();
    write_index(git_dir, name, base, &changes)
}

fn tree_on_base(
    git_dir: &Path,
    commit: &str,
    changes: &[(&[u8], Option<String>)],
) -> Result<String, GitError> {
    write_index(git_dir, "base", Some(commit), changes)
}

fn write_index(
    git_dir: &Path,
    name: &str,
    base: Option<&str>,
    changes: &[(&[u8], Option<String>)],
) -> Result<String, GitError> {
    let index = git_dir.join(format!("index-{name}"));
    let git = || Git::new(git_dir).env("GIT_DIR", git_dir).env("GIT_INDEX_FILE", &index);
    match base {
        Some(commit) => git().args(["read-tree", commit]).run()?,
        None => git().args(["read-tree", "--empty"]).run()?,
    };
    // Removals first: a path that was a file may now be a directory, and the other way round.
    let removals = changes.iter().filter(|(_, line)| line.is_none()).map(|(path, _)| (*path, None));
    let additions =
        changes.iter().filter(|(_, line)| line.is_some()).map(|(path, line)| (*path, line.clone()));
    let info = index_info(removals.chain(additions));
    if !info.is_empty() {
        git().args(["update-index", "-z", "--index-info"]).run_with(&info)?;
    }
    git().args(["write-tree"]).line()
}

/// Undoes the percent-encoding of a captured path and refuses everything that could leave the workspace.
fn decode_path(text: &str) -> Result<Vec<u8>, PatchError> {
    let bad = || PatchError::BadPath(text.to_owned());
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        if byte == b'%' {
            let hex = tail.get(..2).and_then(|hex| std::str::from_utf8(hex).ok()).ok_or_else(bad)?;
            bytes.push(u8::from_str_radix(hex, 16).map_err(|_| bad())?);
            rest = &tail[2..];
        } else {
            bytes.push(byte);
            rest = tail;
        }
    }
    let safe = !bytes.is_empty()
        && !bytes.contains(&0)
        && bytes.split(|byte| *byte == b'/').all(|part| {
            !part.is_empty() && part != b"." && part != b".." && !part.eq_ignore_ascii_case(b".git")
        });
    if safe { Ok(bytes) } else { Err(bad()) }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    fn state(mode: &str, content: &[u8]) -> Option<FileState> {
        Some(FileState { mode: mode.to_owned(), digest: Digest::of(content), size: content.len() as u64 })
    }

    fn put(root: &Path, path: &[u8], content: &[u8]) {
        let file = root.join(OsStr::from_bytes(path));
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, content).unwrap();
    }

    #[test]
    fn a_patch_with_every_kind_of_change_applies_and_gives_the_sealed_tree() {
        let dir = tempfile::tempdir().unwrap();
        let repo = dir.path().join("repo");
        let result = dir.path().join("result");
        let (before, after) = (result.join("capture/before"), result.join("capture/after"));
        let binary: Vec<u8> = (0..=255).cycle().take(4096).collect();
        let renamed = b"line\n".repeat(40);
        put(&repo, b"edit.txt", b"one\ntwo\n");
        put(&repo, b"gone.txt", b"bye\n");
        put(&repo, b"old-name.txt", &renamed);
        put(&repo, b"run.sh", b"#!/bin/sh\n");
        put(&repo, b"becomes-dir", b"file\n");
        let git = || {
            Git::new(&repo)
                .env("GIT_AUTHOR_NAME", "a")
                .env("GIT_AUTHOR_EMAIL", "a@b")
                .env("GIT_COMMITTER_NAME", "a")
                .env("GIT_COMMITTER_EMAIL", "a@b")
        };
        git().args(["init", "--quiet"]).run().unwrap();
        git().args(["add", "-A"]).run().unwrap();
        git().args(["commit", "--quiet", "-m", "base"]).run().unwrap();
        let commit = resolve(&repo);
        let mut changes = vec![
            ("edit.txt", Some(b"one\ntwo\n".to_vec()), Some(("100644", b"one\n2\n".to_vec()))),
            ("gone.txt", Some(b"bye\n".to_vec()), None),
            ("old-name.txt", Some(renamed.clone()), None),
            ("new%20name.txt", None, Some(("100644", renamed.clone()))),
            ("run.sh", Some(b"#!/bin/sh\n".to_vec()), Some(("100755", b"#!/bin/sh\n".to_vec()))),
            ("data.bin", None, Some(("100644", binary))),
            ("link", None, Some(("120000", b"/etc/passwd".to_vec()))),
            ("b%FFd%0Aname", None, Some(("100644", b"x".to_vec()))),
            ("becomes-dir", Some(b"file\n".to_vec()), None),
            ("becomes-dir/inner", None, Some(("100644", b"".to_vec()))),
        ];
        changes.sort_by_key(|change| decode_path(change.0).unwrap());
        let mut capture = Capture { changes: Vec::new() };
        for (path, old, new) in changes {
            let raw = decode_path(path).unwrap();
            if let Some(content) = &old {
                put(&before, &raw, content);
            }
            match &new {
                Some(("120000", target)) => {
                    std::fs::create_dir_all(&after).unwrap();
                    symlink(OsStr::from_bytes(target), after.join(OsStr::from_bytes(&raw))).unwrap();
                }
                Some((_, content)) => put(&after, &raw, content),
                None => {}
            }
            capture.changes.push(Change {
                path: path.to_owned(),
                before: old.as_ref().and_then(|c| state("100644", c)),
                after: new.as_ref().and_then(|(mode, c)| state(mode, c)),
            });
        }
        let scratch = dir.path().join("scratch");
        std::fs::create_dir(&scratch).unwrap();
        let patch = build(&capture, &result, &scratch, Some((&repo, &commit))).unwrap();
        let text = String::from_utf8_lossy(&patch.bytes).into_owned();
        assert!(text.contains("rename from old-name.txt"), "{text}");
        assert!(text.contains("GIT binary patch"));

        let clone = dir.path().join("clone");
        crate::git::private_checkout(&repo, &commit, &clone).unwrap();
        std::fs::write(dir.path().join("p"), &patch.bytes).unwrap();
        Git::new(&clone).args(["apply", "--index"]).arg(dir.path().join("p")).run().unwrap();
        let tree = Git::new(&clone).args(["write-tree"]).line().unwrap();
        assert_eq!(Some(tree), patch.tree);
        let mode = std::fs::metadata(clone.join("run.sh")).unwrap().permissions().mode();
        assert_eq!(mode & 0o111, 0o111);
    }

    fn resolve(repo: &Path) -> String {
        crate::git::resolve_commit(repo, "HEAD").unwrap()
    }

    #[test]
    fn altered_files_and_paths_that_leave_the_workspace_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        put(&dir.path().join("capture/after"), b"a", b"not what was reported");
        let change = |path: &str| Capture {
            changes: vec![Change {
                path: path.to_owned(),
                before: None,
                after: state("100644", b"reported"),
            }],
        };
        let attempt = |path: &str| {
            let scratch = tempfile::tempdir().unwrap();
            build(&change(path), dir.path(), scratch.path(), None)
        };
        assert!(matches!(attempt("a"), Err(PatchError::Altered { .. })));
        for path in ["../a", "/a", "a/../../b", ".git/config", "a//b", "%00", "%zz", ""] {
            assert!(matches!(attempt(path), Err(PatchError::BadPath(_))), "{path}");
        }
    }
}
