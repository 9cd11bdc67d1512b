//! Packages, as they are uploaded.

use std::{
    fs::File,
    io,
    path::{Path, PathBuf},
};

/// Unpacks a package into a directory, as Lambda does below `/var/task`, and answers its program, `bootstrap`.
///
/// # Errors
/// When the archive cannot be read or written out, or has no `bootstrap`.
pub fn unpack(package: &Path, into: &Path) -> io::Result<PathBuf> {
    let named = |error: &dyn std::fmt::Display| io::Error::other(format!("{}: {error}", package.display()));
    let file = File::open(package).map_err(|error| named(&error))?;
    let mut archive = zip::ZipArchive::new(file).map_err(|error| named(&error))?;
    archive.extract(into).map_err(|error| named(&error))?;
    let program = into.join("bootstrap");
    if program.is_file() { Ok(program) } else { Err(named(&"it has no bootstrap")) }
}
