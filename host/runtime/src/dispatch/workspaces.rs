//! Where the workspaces of a deployment come from.

use std::{
    fs,
    path::{Path, PathBuf},
};

use pangolin_core::ids::Digest;
use pangolin_ports::blob_store::BlobStore;

use super::stage::{StageError, remove_tree};
use crate::git::{self, GitError};

/// Where workspaces come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Workspaces {
    /// They start empty.
    Empty,
    /// A repository that this host can read.
    Repository(PathBuf),
    /// Every submission brings its base commit as a pack.
    Submitted,
}

fn io(what: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> StageError {
    let path = path.to_owned();
    move |source| StageError::Io { what, path, source }
}

/// A directory below `state` with the base commit checked out and its repository inside, made once per commit.
/// `pack` is where the commit comes from when there is no repository.
pub(super) async fn template(
    state: &Path,
    workspaces: &Workspaces,
    commit: &str,
    pack: Option<Digest>,
    blobs: &dyn BlobStore,
) -> Result<Option<PathBuf>, StageError> {
    let dir = state.join("templates");
    let done = dir.join(commit);
    if done.is_dir() {
        return Ok(Some(done));
    }
    let make = match (workspaces, pack) {
        (Workspaces::Repository(repo), _) => Source::Repository(repo.clone()),
        (Workspaces::Submitted, Some(pack)) => Source::Pack(pack),
        (Workspaces::Empty | Workspaces::Submitted, _) => return Ok(None),
    };
    fs::create_dir_all(&dir).map_err(io("create", &dir))?;
    let partial = dir.join(format!(".{commit}.{}", std::process::id()));
    remove_tree(&partial).map_err(io("remove", &partial))?;
    let fetched = dir.join(format!(".{commit}.{}.pack", std::process::id()));
    if let Source::Pack(pack) = &make {
        blobs.copy_to(pack, &fetched).await.map_err(StageError::Blob)?;
    }
    let (from, to, of) = (fetched.clone(), partial.clone(), commit.to_owned());
    let made = tokio::task::spawn_blocking(move || match make {
        Source::Repository(repo) => git::private_checkout(&repo, &of, &to),
        Source::Pack(_) => git::private_checkout_of_pack(&from, &of, &to),
    });
    let made = made.await.unwrap_or_else(|error| {
        Err(GitError::Io { path: partial.clone(), source: std::io::Error::other(error) })
    });
    let _ = fs::remove_file(&fetched);
    made.map_err(StageError::Git)?;
    match fs::rename(&partial, &done) {
        Ok(()) => Ok(Some(done)),
        // Another process made it meanwhile.
        Err(_) if done.is_dir() => {
            let _ = remove_tree(&partial);
            Ok(Some(done))
        }
        Err(source) => Err(StageError::Io { what: "rename", path: partial, source }),
    }
}

enum Source {
    Repository(PathBuf),
    Pack(Digest),
}
