//! The worker's last act: the authenticated result.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

use nix::fcntl::OFlag;
use pangolin_envelope::result::{RESULT_FILE, SignedResult, WorkerResult};

use crate::capture::clear;

/// Writes `result.json` so that it is either absent or complete, also after a power cut.
///
/// # Errors
/// A message; then the host finds no result and says so.
pub(crate) fn write(result_dir: &Path, result: &WorkerResult, key: &str) -> Result<(), String> {
    let signed = SignedResult::sign(result, key).map_err(|error| error.to_string())?;
    let text = serde_json::to_vec(&signed).map_err(|error| error.to_string())?;
    let target = result_dir.join(RESULT_FILE);
    let temporary = result_dir.join(format!(".{RESULT_FILE}.{}", std::process::id()));
    let act = || -> io::Result<()> {
        clear(&temporary)?;
        // Something else may stand there when the agent could write here (isolation none); it is not ours.
        clear(&target)?;
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o644)
            .custom_flags(OFlag::O_NOFOLLOW.bits())
            .open(&temporary)?;
        file.write_all(&text)?;
        file.sync_all()?;
        fs::rename(&temporary, &target)?;
        File::open(result_dir)?.sync_all()
    };
    act().map_err(|error| format!("cannot write {}: {error}", target.display()))
}
