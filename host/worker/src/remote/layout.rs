//! The directories, laid out as a local backend would have them.

use std::{
    env,
    fs::{self, DirBuilder, File, OpenOptions},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    time::Instant,
};

use pangolin_envelope::{
    envelope::SECRETS_FILE,
    start::{RemoteFile, StartDocument, TASK_DIR, TASK_DIR_DEFAULT},
};

use super::http::Http;
use crate::signals::Signals;

/// Where things are.
pub(super) struct Places {
    pub(super) envelope: PathBuf,
    pub(super) workspace: PathBuf,
    pub(super) result: PathBuf,
    pub(super) tmp: PathBuf,
}

/// The result directory in a task directory.
pub(super) fn result_dir(task_dir: &Path) -> PathBuf {
    task_dir.join("result")
}

/// The directory of this task.
pub(super) fn task_dir() -> Result<PathBuf, String> {
    let path = PathBuf::from(env::var_os(TASK_DIR).unwrap_or_else(|| TASK_DIR_DEFAULT.into()));
    if !path.is_absolute() {
        return Err(format!("{TASK_DIR} is {}, which is not an absolute path", path.display()));
    }
    path.canonicalize().map_err(|error| {
        format!(
            "{}: {error}; the image needs a writable volume there, or {TASK_DIR} that names one",
            path.display()
        )
    })
}

fn make(path: &Path) -> Result<(), String> {
    DirBuilder::new().mode(0o700).create(path).map_err(|error| {
        format!("cannot make {}: {error}; the task's directory must be empty and writable", path.display())
    })
}

fn private(path: &Path) -> std::io::Result<File> {
    OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)
}

/// Makes the directories and fetches what goes into them.
pub(super) fn lay_out(
    http: &Http,
    document: &StartDocument,
    task_dir: &Path,
    signals: &Signals,
    deadline: Instant,
) -> Result<Places, String> {
    let places = Places {
        envelope: task_dir.join("envelope"),
        workspace: task_dir.join("workspace"),
        result: result_dir(task_dir),
        tmp: task_dir.join("tmp"),
    };
    for path in [&places.envelope, &places.workspace, &places.result, &places.tmp] {
        make(path)?;
    }
    let go_on = || match () {
        () if signals.stopped() => Err("stopped while fetching the envelope".to_owned()),
        () if Instant::now() >= deadline => Err("the time was over while fetching the envelope".to_owned()),
        () => Ok(()),
    };
    let fetch = |file: &RemoteFile, to: &Path| {
        http.fetch(&file.get, (file.digest, file.size), || private(to))
            .map_err(|error| format!("fetching {:?}: {error}", file.path))
    };
    for file in &document.files {
        go_on()?;
        // The path was checked with the document.
        let to = places.envelope.join(&file.path);
        if let Some(parent) = to.parent() {
            DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(parent)
                .map_err(|error| format!("cannot make {}: {error}", parent.display()))?;
        }
        fetch(file, &to)?;
    }
    let secrets = serde_json::to_vec(&document.secrets).map_err(|error| error.to_string())?;
    let path = places.envelope.join(SECRETS_FILE);
    private(&path)
        .and_then(|mut file| std::io::Write::write_all(&mut file, &secrets))
        .map_err(|error| format!("cannot write {}: {error}", path.display()))?;
    if let Some(file) = &document.workspace {
        go_on()?;
        let archive = task_dir.join("workspace.tar");
        fetch(file, &archive)?;
        unpack(&archive, &places.workspace)?;
        fs::remove_file(&archive).map_err(|error| format!("cannot remove {}: {error}", archive.display()))?;
    }
    go_on()?;
    Ok(places)
}

/// The archive is the host's own, checked by digest; `tar` refuses paths that lead out all the same.
fn unpack(archive: &Path, to: &Path) -> Result<(), String> {
    let failed = |error: std::io::Error| format!("cannot unpack the workspace: {error}");
    let mut tar = tar::Archive::new(std::io::BufReader::new(File::open(archive).map_err(failed)?));
    tar.set_preserve_permissions(true);
    tar.set_preserve_mtime(false);
    tar.unpack(to).map_err(failed)
}
