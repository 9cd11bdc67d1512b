//! The last acts: the archive of the result directory, then the completion object.

use std::{
    ffi::OsString,
    fs::{self, File, OpenOptions},
    io::{self, BufWriter, Write},
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use nix::fcntl::OFlag;
use pangolin_core::ids::Digest;
use pangolin_envelope::start::{Completion, START_VERSION, StartDocument};
use sha2::{Digest as _, Sha256};
use tar::{Builder, EntryType, Header};

use super::{Outcome, http::Http, layout};
use crate::events::now_ms;

/// The worker's stdout in the result directory, as every backend leaves it.
const EVENTS_FILE: &str = "events.jsonl";

/// The worker's stderr in the result directory, as every backend leaves it.
const STDERR_FILE: &str = "worker.stderr";

/// Uploads everything. All processes of the dispatch have ended.
pub(super) fn all(
    http: &Http,
    document: &StartDocument,
    nonce: String,
    mut outcome: Outcome,
    task_dir: &Path,
) -> Result<(), String> {
    let archive = task_dir.join("result.tar");
    let limit = document.limits.archive_bytes;
    let result_dir = layout::result_dir(task_dir);
    let (digest, size) = match pack(&archive, Some(&result_dir), &outcome, limit) {
        Ok(packed) => packed,
        Err(error) => {
            // The host shall hear why, and of no result that is only a part.
            outcome
                .stderr
                .extend_from_slice(format!("[pangolin: the result cannot be packed: {error}]\n").as_bytes());
            outcome.code = if outcome.code == 0 { 1 } else { outcome.code };
            pack(&archive, None, &outcome, u64::MAX)
                .map_err(|error| format!("cannot pack the result: {error}"))?
        }
    };
    let open = || {
        let file = File::open(&archive)?;
        let size = file.metadata()?.len();
        Ok((file, size))
    };
    // Already there: an attempt of ours whose answer was lost. Were it anything else, the digest would not fit and the host
    // would refuse it.
    http.create_from(&document.archive, open).map_err(|error| format!("uploading the result: {error}"))?;
    let completion = Completion {
        schema_version: START_VERSION,
        dispatch: document.dispatch.clone(),
        nonce,
        digest,
        size,
        exit: outcome.code,
        ended_by: outcome.ended_by,
        at: now_ms(),
    };
    let text = serde_json::to_vec(&completion).map_err(|error| error.to_string())?;
    http.create(&document.completion, &text).map_err(|error| format!("uploading the completion: {error}"))?;
    Ok(())
}

/// Hashes, counts and bounds what is written.
struct Measured<W> {
    to: W,
    hasher: Sha256,
    size: u64,
    limit: u64,
}

impl<W: Write> Write for Measured<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.len() as u64 > self.limit.saturating_sub(self.size) {
            return Err(io::Error::other(format!("it is larger than {} bytes", self.limit)));
        }
        let written = self.to.write(bytes)?;
        self.hasher.update(&bytes[..written]);
        self.size += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

fn pack(
    archive: &Path,
    result_dir: Option<&Path>,
    outcome: &Outcome,
    limit: u64,
) -> io::Result<(Digest, u64)> {
    let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(archive)?;
    let to = Measured { to: BufWriter::new(file), hasher: Sha256::new(), size: 0, limit };
    let mut tar = Builder::new(to);
    if let Some(dir) = result_dir {
        for name in sorted(dir)? {
            // Dot files at the top are the worker's own scratch; the output files are ours and not the agent's.
            let skipped =
                name.as_encoded_bytes().starts_with(b".") || name == EVENTS_FILE || name == STDERR_FILE;
            if !skipped {
                append(&mut tar, &dir.join(&name), &PathBuf::from(&name))?;
            }
        }
    }
    for (name, bytes) in [(EVENTS_FILE, &outcome.stdout), (STDERR_FILE, &outcome.stderr)] {
        let mut header = header(EntryType::Regular, 0o600);
        header.set_size(bytes.len() as u64);
        tar.append_data(&mut header, name, &bytes[..])?;
    }
    let mut measured = tar.into_inner()?;
    measured.flush()?;
    Ok((Digest::from_bytes(measured.hasher.finalize().into()), measured.size))
}

fn sorted(dir: &Path) -> io::Result<Vec<OsString>> {
    let mut names = match fs::read_dir(dir) {
        Ok(entries) => {
            entries.map(|entry| entry.map(|entry| entry.file_name())).collect::<io::Result<Vec<_>>>()?
        }
        // It was not even laid out.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(error),
    };
    names.sort();
    Ok(names)
}

fn header(kind: EntryType, mode: u32) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(0);
    header
}

/// Appends files, directories and symbolic links as they are, without following any link.
fn append<W: Write>(tar: &mut Builder<W>, path: &Path, name: &Path) -> io::Result<()> {
    let told = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", name.display()));
    let meta = fs::symlink_metadata(path).map_err(told)?;
    let mode = meta.permissions().mode() & 0o777;
    if meta.is_dir() {
        tar.append_data(&mut header(EntryType::Directory, mode), name, io::empty())?;
        for child in sorted(path).map_err(told)? {
            append(tar, &path.join(&child), &name.join(&child))?;
        }
    } else if meta.is_symlink() {
        let target = fs::read_link(path).map_err(told)?;
        tar.append_link(&mut header(EntryType::Symlink, 0o777), name, target)?;
    } else if meta.is_file() {
        let flags = OFlag::O_NOFOLLOW.bits();
        let file = OpenOptions::new().read(true).custom_flags(flags).open(path).map_err(told)?;
        let mut header = header(EntryType::Regular, mode);
        header.set_size(meta.len());
        tar.append_data(&mut header, name, file).map_err(told)?;
    }
    // Anything else (sockets, pipes) is no result.
    Ok(())
}
