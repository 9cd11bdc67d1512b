//! Reviewing and applying the patches of a run. A patch is applied only when its bytes have the sealed digest, and
//! afterwards the tree is compared with the sealed one.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use pangolin_core::ids::{Digest, ItemId, RunId};
use serde::Serialize;
use thiserror::Error;

use crate::{
    deployment::{Deployment, RuntimeError},
    git::{Git, GitError, private_checkout},
};

/// Most items that one message names.
const NAMED_MAX: usize = 3;

/// Why patches cannot be listed or applied.
#[derive(Debug, Error)]
pub enum PatchesError {
    /// The run or blob.
    #[error(transparent)]
    Runtime(Box<RuntimeError>),
    /// git.
    #[error(transparent)]
    Git(#[from] GitError),
    /// The target has staged or unstaged changes.
    #[error(
        "{repo} has uncommitted changes; commit or stash them first, so that the patch can be told apart"
    )]
    Dirty {
        /// The repository.
        repo: String,
    },
    /// Nothing to do.
    #[error("{what} has no patch")]
    NoPatch {
        /// Run or item.
        what: String,
    },
    /// There are patches, but none of a done item.
    #[error("{what}; only patches of done items are applied")]
    NotDone {
        /// Items and their status.
        what: String,
    },
    /// A patch does not apply; nothing was changed.
    #[error("patch of {item} does not apply to {repo}; nothing was changed")]
    DoesNotApply {
        /// The item.
        item: ItemId,
        /// The repository.
        repo: String,
        /// git's words.
        #[source]
        source: GitError,
    },
    /// A temporary file.
    #[error("cannot write a temporary file")]
    Io(#[source] std::io::Error),
}

impl From<RuntimeError> for PatchesError {
    fn from(error: RuntimeError) -> Self {
        Self::Runtime(Box::new(error))
    }
}

/// One patch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PatchInfo {
    /// Item.
    pub item: ItemId,
    /// Attempt that left it.
    pub attempt: u32,
    /// Status of that attempt: a patch of a failed attempt is kept too.
    pub status: String,
    /// Digest of the bytes.
    pub digest: Digest,
    /// Size.
    pub bytes: usize,
    /// Changed files.
    pub files: Vec<FileChange>,
    /// Things a reviewer should look at: `symlink`, `executable`, `binary`, `ci`, `git-config`, `lockfile`,
    /// `secret` (it contains the value of a secret that the agent was given).
    pub flags: Vec<String>,
}

/// One changed file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FileChange {
    /// Path as git prints it.
    pub path: String,
    /// Lines added; `None` for binary files.
    pub added: Option<u64>,
    /// Lines removed; `None` for binary files.
    pub removed: Option<u64>,
}

/// How to apply.
#[derive(Debug, Clone, Copy, Default)]
pub struct ApplyOptions {
    /// Fall back to a three-way merge when the context has moved.
    pub three_way: bool,
    /// Only say whether it would apply.
    pub check_only: bool,
}

/// One applied patch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ApplyReport {
    /// Item.
    pub item: ItemId,
    /// Digest of the applied bytes.
    pub digest: Digest,
    /// Number of changed files.
    pub files: usize,
    /// The patch on its base commit gives the sealed tree. `None` when the base commit is not in the repository.
    pub tree_matches: Option<bool>,
    /// All its changes were there already, from the patches before it or in the repository; it was skipped. Only when
    /// a whole run is applied.
    pub contained: bool,
}

/// The patches of a run in plan order: of each item the last attempt that left one, or every attempt's.
///
/// # Errors
/// [`PatchesError`].
pub async fn list(
    deployment: &Deployment,
    run: &RunId,
    item: Option<&ItemId>,
    all_attempts: bool,
) -> Result<Vec<PatchInfo>, PatchesError> {
    let view = deployment.run_view(run).await?;
    if let Some(item) = item
        && !view.items.iter().any(|view| view.id == *item)
    {
        return Err(RuntimeError::NotFound {
            what: format!("item {run}/{item}"),
            hint: format!("`pangolin orch status {run}` lists its items"),
        }
        .into());
    }
    let mut found = Vec::new();
    for view in view.items.iter().filter(|view| item.is_none_or(|item| view.id == *item)) {
        let mut attempts: Vec<_> = view.attempts.iter().filter(|attempt| attempt.patch.is_some()).collect();
        if !all_attempts {
            attempts = attempts.split_off(attempts.len().saturating_sub(1));
        }
        for attempt in attempts {
            let Some(digest) = attempt.patch else { continue };
            let bytes = deployment.blob(&digest).await?;
            let files = numstat(&bytes)?;
            let mut flags = flags(&bytes, &files);
            if holds_secret(deployment, attempt.result.as_ref()).await {
                flags.push("secret".to_owned());
            }
            found.push(PatchInfo {
                item: view.id.clone(),
                attempt: attempt.attempt,
                status: attempt.status.clone(),
                digest,
                bytes: bytes.len(),
                flags,
                files,
            });
        }
    }
    Ok(found)
}

/// Whether the host found a secret in the patch when it stored it; the values themselves are not known here.
async fn holds_secret(deployment: &Deployment, result: Option<&Digest>) -> bool {
    #[derive(serde::Deserialize)]
    struct Record {
        #[serde(default)]
        secrets_in: Vec<String>,
    }
    let Some(digest) = result else { return false };
    let Ok(bytes) = deployment.blob(digest).await else { return false };
    serde_json::from_slice::<Record>(&bytes)
        .is_ok_and(|record| record.secrets_in.iter().any(|name| name == "patch"))
}

fn numstat(patch: &[u8]) -> Result<Vec<FileChange>, PatchesError> {
    let dir = tempdir()?;
    let out = Git::new(dir.path()).args(["apply", "--numstat", "-"]).run_with(patch)?;
    let text = String::from_utf8_lossy(&out).into_owned();
    let line = |line: &str| {
        let mut parts = line.splitn(3, '\t');
        let (added, removed, path) = (parts.next()?, parts.next()?, parts.next()?);
        Some(FileChange { path: path.to_owned(), added: added.parse().ok(), removed: removed.parse().ok() })
    };
    Ok(text.lines().filter_map(line).collect())
}

/// What `git apply` accepts without a word and a reviewer must be told about.
fn flags(patch: &[u8], files: &[FileChange]) -> Vec<String> {
    let has_line = |start: &[u8]| patch.split(|byte| *byte == b'\n').any(|line| line.starts_with(start));
    let path = |test: fn(&str) -> bool| files.iter().any(|file| test(&file.path));
    let mut found = Vec::new();
    let mut flag = |name: &str, on: bool| {
        if on {
            found.push(name.to_owned());
        }
    };
    flag("symlink", has_line(b"new file mode 120000") || has_line(b"new mode 120000"));
    flag("executable", has_line(b"new file mode 100755") || has_line(b"new mode 100755"));
    flag("binary", files.iter().any(|file| file.added.is_none()));
    flag(
        "ci",
        path(|p| p.starts_with(".github/") || p.starts_with(".gitlab-ci") || p.starts_with(".circleci/")),
    );
    flag(
        "git-config",
        path(|p| p.ends_with(".gitattributes") || p.ends_with(".gitmodules") || p.starts_with(".husky/")),
    );
    flag(
        "lockfile",
        path(|p| p.ends_with(".lock") || p.ends_with("package-lock.json") || p.ends_with("go.sum")),
    );
    found
}

/// Applies the patches of done items to the index and work tree of `repo`, without committing. All or nothing:
/// everything is tried on a copy of the present commit first.
///
/// # Errors
/// [`PatchesError`]; nothing was changed then.
pub async fn apply(
    deployment: &Deployment,
    run: &RunId,
    item: Option<&ItemId>,
    repo: &Path,
    options: ApplyOptions,
) -> Result<Vec<ApplyReport>, PatchesError> {
    let (infos, others): (Vec<_>, Vec<_>) =
        list(deployment, run, item, false).await?.into_iter().partition(|info| info.status == "done");
    if infos.is_empty() {
        let view = deployment.run_view(run).await?;
        let statuses: BTreeMap<_, _> =
            view.items.iter().map(|item| (&item.id, item.status.as_str())).collect();
        return Err(nothing_to_apply(run, item, &others, &statuses));
    }
    let repo_text = repo.display().to_string();
    let status = Git::new(repo).args(["status", "--porcelain", "--untracked-files=no"]).run()?;
    if !status.is_empty() {
        return Err(PatchesError::Dirty { repo: repo_text });
    }
    let top = Git::new(repo).args(["rev-parse", "--show-toplevel"]).line()?;
    let top = Path::new(&top);
    let head = Git::new(top).args(["rev-parse", "HEAD"]).line()?;
    let mut patches = Vec::new();
    for info in &infos {
        patches.push((info, deployment.blob(&info.digest).await?));
    }
    let arguments = |three_way: bool| {
        if three_way { vec!["apply", "--index", "--3way"] } else { vec!["apply", "--index"] }
    };
    let trial = tempdir()?;
    let copy = trial.path().join("tree");
    private_checkout(top, &head, &copy)?;
    let mut contained = BTreeSet::new();
    for (info, bytes) in &patches {
        let check = |more: &[&str]| {
            Git::new(&copy).args(["apply", "--check"]).args(more).arg("-").run_with(bytes).is_ok()
        };
        // A gate that applied the patches before it delivers their sum: nothing of that is new.
        if item.is_none() && !check(&["--index"]) && check(&["--reverse"]) {
            contained.insert(info.item.clone());
            continue;
        }
        Git::new(&copy).args(arguments(options.three_way)).arg("-").run_with(bytes).map_err(|source| {
            PatchesError::DoesNotApply { item: info.item.clone(), repo: repo_text.clone(), source }
        })?;
    }
    let mut reports = Vec::new();
    for (info, bytes) in &patches {
        let sealed = deployment.sealed_tree(run, &info.item, info.attempt).await?;
        let tree_matches = sealed.and_then(|(commit, tree)| {
            let check = trial.path().join(format!("base-{}-{}", info.item, info.attempt));
            private_checkout(top, &commit, &check).ok()?;
            Git::new(&check).args(["apply", "--index", "-"]).run_with(bytes).ok()?;
            Some(Git::new(&check).args(["write-tree"]).line().ok()? == tree)
        });
        reports.push(ApplyReport {
            item: info.item.clone(),
            digest: info.digest,
            files: info.files.len(),
            contained: contained.contains(&info.item),
            tree_matches,
        });
    }
    if !options.check_only {
        // `apply` compares the times of files with those in the index, which are others after a copy. What cannot be refreshed,
        // `apply` says.
        let _ = Git::new(top).args(["update-index", "-q", "--refresh"]).run();
        for (info, bytes) in patches.iter().filter(|(info, _)| !contained.contains(&info.item)) {
            Git::new(top).args(arguments(options.three_way)).arg("-").run_with(bytes).map_err(|source| {
                PatchesError::DoesNotApply { item: info.item.clone(), repo: repo_text.clone(), source }
            })?;
        }
    }
    Ok(reports)
}

/// Why there is nothing to apply. `left` are the patches of attempts that are not done.
fn nothing_to_apply(
    run: &RunId,
    item: Option<&ItemId>,
    left: &[PatchInfo],
    statuses: &BTreeMap<&ItemId, &str>,
) -> PatchesError {
    let status = |info: &PatchInfo| {
        // The item's own status: a failed attempt may be followed by another that runs now.
        let status = statuses.get(&info.item).copied().unwrap_or(&info.status);
        format!("item {run}/{} is {status}", info.item)
    };
    match (item, left) {
        (Some(item), []) => PatchesError::NoPatch { what: format!("item {run}/{item}") },
        (None, []) => PatchesError::NoPatch { what: format!("run {run}") },
        (_, left) => {
            let mut parts: Vec<_> = left.iter().take(NAMED_MAX).map(status).collect();
            if left.len() > NAMED_MAX {
                parts.push(format!("{} more are not done", left.len() - NAMED_MAX));
            }
            PatchesError::NotDone { what: parts.join(", ") }
        }
    }
}

fn tempdir() -> Result<tempfile::TempDir, PatchesError> {
    tempfile::Builder::new().prefix("pangolin-").tempdir().map_err(PatchesError::Io)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn left(item: &str) -> PatchInfo {
        PatchInfo {
            item: ItemId::new(item).unwrap(),
            attempt: 1,
            status: "failed".to_owned(),
            digest: Digest::of(b"patch"),
            bytes: 5,
            files: Vec::new(),
            flags: Vec::new(),
        }
    }

    #[test]
    fn a_patch_of_an_item_that_is_not_done_is_not_called_missing() {
        let run = RunId::new("r").unwrap();
        let a = ItemId::new("a").unwrap();
        let none = BTreeMap::new();
        let statuses = BTreeMap::from([(&a, "running")]);
        let error = nothing_to_apply(&run, Some(&a), &[], &none);
        assert!(matches!(error, PatchesError::NoPatch { .. }), "{error}");
        let error = nothing_to_apply(&run, Some(&a), &[left("a")], &statuses);
        assert_eq!(error.to_string(), "item r/a is running; only patches of done items are applied");
        let many: Vec<_> = ["a", "b", "c", "d", "e"].map(left).into();
        let error = nothing_to_apply(&run, None, &many, &statuses);
        assert_eq!(
            error.to_string(),
            "item r/a is running, item r/b is failed, item r/c is failed, 2 more are not done; \
             only patches of done items are applied"
        );
    }
}
