//! Components in files.

use std::{
    fs, io,
    io::Read as _,
    path::{Path, PathBuf},
};

use crate::{Options, SIGNATURE_BYTES_MAX, error::SourceError};

pub(crate) fn fetch(path: &Path, options: &Options) -> Result<(Vec<u8>, Option<Vec<u8>>), SourceError> {
    let bytes = read(path, options.bytes_max)?;
    if !options.with_signature {
        return Ok((bytes, None));
    }
    let mut beside = path.as_os_str().to_owned();
    beside.push(".sig");
    let signature = match read(&PathBuf::from(beside), SIGNATURE_BYTES_MAX) {
        Ok(bytes) => Some(bytes),
        Err(SourceError::File { source, .. }) if source.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(error),
    };
    Ok((bytes, signature))
}

fn read(path: &Path, limit: u64) -> Result<Vec<u8>, SourceError> {
    let failed = |source| SourceError::File { path: path.to_owned(), source };
    // A pipe or device could block or never end; looked at before it is opened, because opening a pipe blocks too.
    let found = fs::metadata(path).map_err(failed)?;
    if !found.is_file() {
        let what = if found.is_dir() { "it is a directory" } else { "it is a pipe or device" };
        return Err(failed(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("{what}, not a regular file"),
        )));
    }
    let mut bytes = Vec::new();
    fs::File::open(path).map_err(failed)?.take(limit + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > limit {
        return Err(SourceError::TooLarge { what: path.display().to_string(), limit });
    }
    Ok(bytes)
}
