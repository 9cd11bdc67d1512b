//! Who owns a dispatch's directories, and therefore as whom its worker runs.

use std::{
    fs, io,
    os::unix::fs::{MetadataExt, lchown},
    path::Path,
};

use pangolin_ports::worker_backend::WorkerSpec;

/// `nobody`: runs the workers of a host process that is root.
const NOBODY: u32 = 65_534;

/// The user and group of the worker: the owner of the workspace, or, if that is root, 65534, to whom all three
/// directories are then given with everything in them. Symlinks are changed themselves, not followed.
pub(crate) fn settle(spec: &WorkerSpec) -> io::Result<(u32, u32)> {
    let meta = fs::symlink_metadata(&spec.workspace_dir)?;
    let owner = if meta.uid() == 0 { (NOBODY, NOBODY) } else { (meta.uid(), meta.gid()) };
    for dir in [&spec.workspace_dir, &spec.result_dir, &spec.envelope_dir] {
        // The directory itself is changed last, so its owner tells whether an earlier pass was complete.
        if fs::symlink_metadata(dir)?.uid() != owner.0 {
            give(dir, owner)?;
        }
    }
    Ok(owner)
}

fn give(path: &Path, owner: (u32, u32)) -> io::Result<()> {
    if fs::symlink_metadata(path)?.is_dir() {
        for entry in fs::read_dir(path)? {
            give(&entry?.path(), owner)?;
        }
    }
    lchown(path, Some(owner.0), Some(owner.1)).map_err(|error| {
        io::Error::new(error.kind(), format!("give {} to user {}: {error}", path.display(), owner.0))
    })
}
