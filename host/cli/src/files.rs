//! Files that people name on the command line.

use std::{
    fs,
    io::{Read as _, Write as _},
    path::{Path, PathBuf},
};

use anyhow::Context as _;

use pangolin_runtime::keys::is_signing_key;

use crate::{
    error::{CliError, CliResult},
    exit::Exit,
};

/// Reads a file, or stdin for `-`. A missing or unreadable file is a usage error.
pub(crate) fn read(path: &Path) -> CliResult<Vec<u8>> {
    let result = if path == Path::new("-") {
        let mut bytes = Vec::new();
        std::io::stdin().lock().read_to_end(&mut bytes).map(|_| bytes).context("cannot read stdin")
    } else {
        fs::read(path).with_context(|| format!("cannot read {}", path.display()))
    };
    let bytes = result.map_err(usage)?;
    refuse_signing_key(path, &bytes)?;
    Ok(bytes)
}

/// A private key handed over by mistake must not end up in a message or in the ledger.
pub(crate) fn refuse_signing_key(path: &Path, bytes: &[u8]) -> CliResult<()> {
    if !is_signing_key(bytes) {
        return Ok(());
    }
    let name = if path == Path::new("-") { "stdin".to_owned() } else { path.display().to_string() };
    Err(CliError::new(Exit::Usage, format!("{name} is the signing key of a deployment, which stays private"))
        .hint("for verification use deployment.vkey, the public key next to it"))
}

/// Reads a UTF-8 text file.
pub(crate) fn read_text(path: &Path) -> CliResult<String> {
    String::from_utf8(read(path)?)
        .map_err(|_| CliError::new(Exit::Usage, format!("{} is not UTF-8 text", path.display())))
}

/// Writes a file so that it is either the old one or complete.
pub(crate) fn write(path: &Path, bytes: &[u8]) -> CliResult<()> {
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let attempt = || -> anyhow::Result<()> {
        let mut file = tempfile::NamedTempFile::new_in(dir)?;
        file.write_all(bytes)?;
        // Temporary files are private; this one is a product like any other the user makes.
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o644);
        file.as_file().set_permissions(mode)?;
        file.as_file().sync_all()?;
        file.persist(path)?;
        Ok(())
    };
    Ok(attempt().with_context(|| format!("cannot write {}", path.display()))?)
}

/// Every regular file below `dir`, relative, in byte order of the path.
pub(crate) fn walk(dir: &Path) -> CliResult<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut open = vec![PathBuf::new()];
    while let Some(relative) = open.pop() {
        let at = dir.join(&relative);
        let entries = fs::read_dir(&at)
            .with_context(|| format!("cannot read directory {}", at.display()))
            .map_err(usage)?;
        for entry in entries {
            let entry = entry.with_context(|| format!("cannot read directory {}", at.display()))?;
            let path = relative.join(entry.file_name());
            let kind =
                entry.file_type().with_context(|| format!("cannot inspect {}", entry.path().display()))?;
            if kind.is_dir() {
                open.push(path);
            } else if kind.is_file() {
                found.push(path);
            } else {
                return Err(CliError::new(
                    Exit::Usage,
                    format!("{} is neither a file nor a directory", entry.path().display()),
                )
                .hint("symbolic links are not followed; put the file itself there"));
            }
        }
    }
    found.sort();
    Ok(found)
}

fn usage(error: anyhow::Error) -> CliError {
    CliError { exit: Exit::Usage, error, hints: Vec::new() }
}
