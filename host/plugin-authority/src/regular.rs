//! Files of the deployment: read whole, and only what is a regular file of bounded size.

use std::{
    fs::OpenOptions,
    io::{self, Read as _},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
};

use nix::fcntl::OFlag;

/// Reads a file that somebody else may have replaced: a pipe, device or directory in its place is an error and never
/// waits for a writer or for an end.
///
/// # Errors
/// Those of the file system, [`io::ErrorKind::InvalidInput`] for anything but a regular file and
/// [`io::ErrorKind::FileTooLarge`] above `bytes_max`.
pub fn read_regular(path: &Path, bytes_max: u64) -> io::Result<Vec<u8>> {
    // Opened without waiting and then looked at, so that nothing can be put there in between.
    let flags = OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
    let file = OpenOptions::new().read(true).custom_flags(flags.bits()).open(path)?;
    let meta = file.metadata()?;
    if !meta.is_file() {
        let what = if meta.is_dir() { "it is a directory" } else { "it is a pipe or device" };
        return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("{what}, not a regular file")));
    }
    let mut bytes = Vec::new();
    file.take(bytes_max.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > bytes_max {
        let size = meta.len().max(bytes.len() as u64);
        let text = format!("it has {size} bytes, the limit is {bytes_max}");
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, text));
    }
    Ok(bytes)
}

/// [`read_regular`] for text.
///
/// # Errors
/// Also [`io::ErrorKind::InvalidData`] when it is not UTF-8.
pub fn read_regular_text(path: &Path, bytes_max: u64) -> io::Result<String> {
    String::from_utf8(read_regular(path, bytes_max)?)
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "it is not UTF-8 text"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_regular_files_of_bounded_size() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        std::fs::write(path("file"), "12345").unwrap();
        nix::unistd::mkfifo(&path("pipe"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        let kind = |path: &Path, max| read_regular(path, max).map_err(|error| error.kind());
        assert_eq!(kind(&path("file"), 5), Ok(b"12345".to_vec()));
        assert_eq!(kind(&path("file"), 4), Err(io::ErrorKind::FileTooLarge));
        assert_eq!(kind(&path("pipe"), 4), Err(io::ErrorKind::InvalidInput));
        assert_eq!(kind(dir.path(), 4), Err(io::ErrorKind::InvalidInput));
        assert_eq!(kind(Path::new("/dev/zero"), 4), Err(io::ErrorKind::InvalidInput));
        assert_eq!(kind(&path("none"), 4), Err(io::ErrorKind::NotFound));
    }
}
