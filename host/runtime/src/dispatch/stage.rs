//! Laying out the directories of one dispatch: envelope, workspace, result, key.

use std::{
    collections::BTreeMap,
    fs,
    io::Write as _,
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use pangolin_core::ids::Digest;
use pangolin_envelope::envelope::{ENVELOPE_FILE, Envelope, SECRETS_FILE};
use pangolin_ports::blob_store::{BlobError, BlobStore};
use thiserror::Error;

use crate::{
    git::GitError,
    secrets::{SecretError, SecretRef, Secrets},
};

/// Why a dispatch cannot be laid out.
#[derive(Debug, Error)]
pub(super) enum StageError {
    /// A file operation failed.
    #[error("cannot {what} {path}")]
    Io {
        what: &'static str,
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    /// An input is missing or damaged.
    #[error("an input of the dispatch cannot be read")]
    Blob(#[source] BlobError),
    /// A secret is not available.
    #[error("secret for {variable} is not available")]
    Secret {
        variable: String,
        #[source]
        source: SecretError,
    },
    /// The workspace cannot be checked out.
    #[error("the workspace cannot be checked out")]
    Git(#[source] GitError),
}

fn io(what: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> StageError {
    let path = path.to_owned();
    move |source| StageError::Io { what, path, source }
}

/// The directories of one dispatch.
#[derive(Debug, Clone)]
pub(super) struct Layout {
    pub(super) dir: PathBuf,
}

impl Layout {
    pub(super) fn envelope(&self) -> PathBuf {
        self.dir.join("envelope")
    }
    pub(super) fn workspace(&self) -> PathBuf {
        self.dir.join("workspace")
    }
    pub(super) fn result(&self) -> PathBuf {
        self.dir.join("result")
    }
    pub(super) fn scratch(&self) -> PathBuf {
        self.dir.join("scratch")
    }
    fn key_file(&self) -> PathBuf {
        self.dir.join("key")
    }
    /// Exists once everything is in place. After that the workspace may be in use and is never laid out again.
    fn marker(&self) -> PathBuf {
        self.dir.join("staged")
    }

    pub(super) fn is_staged(&self) -> bool {
        self.marker().exists()
    }

    /// The key that the dispatch was staged with here; an earlier program drew it. `None` when it was staged elsewhere.
    pub(super) fn key(&self) -> Result<Option<String>, StageError> {
        match fs::read_to_string(self.key_file()) {
            Ok(key) => Ok(Some(key)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(io("read", &self.key_file())(error)),
        }
    }
}

/// Values of all secrets of an envelope by reference and by variable name.
pub(super) async fn resolve_secrets(
    envelope: &Envelope,
    secrets: &dyn Secrets,
) -> Result<BTreeMap<String, String>, StageError> {
    let mut values = BTreeMap::new();
    for layer in &envelope.env {
        for (variable, reference) in &layer.secrets {
            let failed = |source| StageError::Secret { variable: variable.clone(), source };
            let parsed = SecretRef::parse(reference).map_err(failed)?;
            let value = secrets.value(&parsed).await.map_err(failed)?;
            values.insert(reference.clone(), value.clone());
            values.insert(variable.clone(), value);
        }
    }
    Ok(values)
}

fn make(path: &Path) -> Result<(), StageError> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(io("create", path))
}

/// Makes the directories for the result of a worker that another host started, with nothing in them.
pub(super) fn receive(layout: &Layout) -> Result<(), StageError> {
    for dir in [layout.envelope(), layout.workspace(), layout.result(), layout.scratch()] {
        make(&dir)?;
    }
    Ok(())
}

/// Lays out a dispatch; a no-op when that was done before. `key` is for the result.
pub(super) async fn stage(
    layout: &Layout,
    envelope: &Envelope,
    secrets: &BTreeMap<String, String>,
    key: &str,
    template: Option<&Path>,
    blobs: &dyn BlobStore,
) -> Result<(), StageError> {
    if layout.is_staged() {
        return Ok(());
    }
    if layout.dir.exists() {
        remove_tree(&layout.dir).map_err(io("remove", &layout.dir))?;
    }
    make(&layout.dir)?;
    make(&layout.envelope().join("blobs"))?;
    make(&layout.result())?;
    make(&layout.scratch())?;
    let mut staged: Vec<(Digest, &str)> =
        envelope.capabilities.iter().map(|c| (c.digest, c.file.as_str())).collect();
    staged.extend(envelope.inputs.iter().map(|input| (input.digest, input.file.as_str())));
    staged.extend(envelope.plugins.iter().map(|plugin| (plugin.code, plugin.file.as_str())));
    staged.sort_unstable();
    staged.dedup();
    for (digest, file) in staged {
        blobs.copy_to(&digest, &layout.envelope().join(file)).await.map_err(StageError::Blob)?;
    }
    let envelope_bytes = serde_json::to_vec(envelope).unwrap_or_default();
    write_private(&layout.envelope().join(ENVELOPE_FILE), &envelope_bytes)?;
    let secret_bytes = serde_json::to_vec(secrets).unwrap_or_default();
    write_private(&layout.envelope().join(SECRETS_FILE), &secret_bytes)?;
    write_private(&layout.key_file(), key.as_bytes())?;
    let workspace = layout.workspace();
    match template {
        Some(template) => {
            let (from, to) = (template.to_owned(), workspace.clone());
            tokio::task::spawn_blocking(move || copy_tree(&from, &to))
                .await
                .unwrap_or_else(|error| Err(std::io::Error::other(error)))
                .map_err(io("copy the base tree to", &workspace))?;
        }
        None => fs::create_dir(&workspace).map_err(io("create", &workspace))?,
    }
    fs::File::create_new(layout.marker()).map_err(io("create", &layout.marker()))?;
    Ok(())
}

fn write_private(path: &Path, bytes: &[u8]) -> Result<(), StageError> {
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .map_err(io("create", path))?;
    file.write_all(bytes).map_err(io("write", path))
}

/// Copies a tree of directories, regular files and symlinks with their permission bits. Reflinks where it can.
fn copy_tree(from: &Path, to: &Path) -> std::io::Result<()> {
    fs::create_dir(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        let kind = entry.file_type()?;
        if kind.is_dir() {
            copy_tree(&source, &target)?;
        } else if kind.is_symlink() {
            std::os::unix::fs::symlink(fs::read_link(&source)?, &target)?;
        } else {
            fs::copy(&source, &target)?;
        }
    }
    fs::set_permissions(to, fs::metadata(from)?.permissions())
}

/// Removes a tree even when its owner made directories unreadable.
pub(super) fn remove_tree(dir: &Path) -> std::io::Result<()> {
    match fs::remove_dir_all(dir) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(_) => {
            open_up(dir);
            fs::remove_dir_all(dir)
        }
    }
}

fn open_up(dir: &Path) {
    let Ok(meta) = fs::symlink_metadata(dir) else { return };
    if !meta.is_dir() {
        return;
    }
    let _ = fs::set_permissions(dir, fs::Permissions::from_mode(0o700));
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        open_up(&entry.path());
    }
}
