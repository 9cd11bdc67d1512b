//! A fresh copy of an example with a git repository of its own.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};

use super::Workers;
use crate::{docker, process, workspace::Workspace};

/// The copy.
pub(super) struct Scratch {
    pub(super) dir: PathBuf,
}

impl Scratch {
    /// Copies to `into`, which must not hold anything yet, or to `target/demo/<name>`, which is replaced.
    pub(super) fn create(
        workspace: &Workspace,
        source: &Path,
        name: &str,
        workers: Workers,
        into: Option<&Path>,
    ) -> Result<Self> {
        let dir = match into {
            Some(dir) => {
                if dir.exists() && !list(dir)?.is_empty() {
                    bail!("{} is not empty; name a directory that does not exist", dir.display());
                }
                std::path::absolute(dir).with_context(|| format!("cannot use {}", dir.display()))?
            }
            None => fresh(workspace, name, workers)?,
        };
        copy_tree(source, &dir)?;
        if workers == Workers::Docker {
            use_docker_config(&dir, &docker::demo_image(workspace)?)?;
        }
        let repo = dir.join("repo");
        if repo.is_dir() {
            commit_all(&repo)?;
        }
        Ok(Self { dir })
    }
}

fn fresh(workspace: &Workspace, name: &str, workers: Workers) -> Result<PathBuf> {
    let folder = match workers {
        Workers::Host => name.to_owned(),
        Workers::Docker => format!("{name}-docker"),
    };
    let dir = workspace.target.join("demo").join(folder);
    if dir.exists() {
        fs::remove_dir_all(&dir).with_context(|| {
            format!("cannot remove {} of the last demo; files of container workers need root", dir.display())
        })?;
    }
    Ok(dir)
}

/// Replaces `pangolin.toml` by the example's container configuration with the image that is there.
fn use_docker_config(dir: &Path, image: &str) -> Result<()> {
    let path = dir.join("pangolin.docker.toml");
    let text = fs::read_to_string(&path)
        .with_context(|| format!("this example has no container configuration ({})", path.display()))?;
    let default = format!("image = \"{}\"", docker::DEMO_IMAGE);
    if !text.contains(&default) {
        bail!("{} lacks the line {default}", path.display());
    }
    let path = dir.join("pangolin.toml");
    fs::write(&path, text.replace(&default, &format!("image = {image:?}")))
        .with_context(|| format!("cannot write {}", path.display()))
}

/// One commit that is the same on every machine, whatever the user's git configuration says.
fn commit_all(repo: &Path) -> Result<()> {
    let steps: [&[&str]; 3] = [
        &["init", "--quiet", "--initial-branch=main"],
        &["add", "--all"],
        &["commit", "--quiet", "--no-verify", "--message=The project before the run"],
    ];
    for args in steps {
        let mut git = process::command("git", args);
        for name in ["GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY", "GIT_TEMPLATE_DIR"]
        {
            git.env_remove(name);
        }
        git.env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_SYSTEM", "/dev/null");
        for role in ["AUTHOR", "COMMITTER"] {
            git.env(format!("GIT_{role}_NAME"), "Pangolin example")
                .env(format!("GIT_{role}_EMAIL"), "example@pangolin.invalid")
                .env(format!("GIT_{role}_DATE"), "2026-01-01T00:00:00Z");
        }
        process::output(git.current_dir(repo))
            .with_context(|| format!("cannot prepare {}", repo.display()))?;
    }
    Ok(())
}

/// Entries of a directory in name order; none when it does not exist.
pub(super) fn list(dir: &Path) -> Result<Vec<PathBuf>> {
    if !dir.is_dir() {
        return Ok(Vec::new());
    }
    let mut paths = Vec::new();
    for entry in fs::read_dir(dir).with_context(|| format!("cannot read {}", dir.display()))? {
        paths.push(entry.with_context(|| format!("cannot read {}", dir.display()))?.path());
    }
    paths.sort();
    Ok(paths)
}

/// The last part of a path.
pub(super) fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn copy_tree(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to).with_context(|| format!("cannot create {}", to.display()))?;
    for path in list(from)? {
        let target = to.join(path.file_name().unwrap_or_default());
        if path.is_dir() {
            copy_tree(&path, &target)?;
        } else {
            fs::copy(&path, &target).with_context(|| format!("cannot copy {}", path.display()))?;
        }
    }
    Ok(())
}
