//! Writing below a directory that others filled: no path can leave it and no symbolic link is followed.

use std::{
    fs::File,
    io::{self, Read, Write},
    os::fd::OwnedFd,
    path::Path,
};

use nix::{
    errno::Errno,
    fcntl::{AtFlags, OFlag, open, openat},
    sys::stat::{Mode, SFlag, fchmod, fstat, fstatat, mkdirat},
    unistd::{UnlinkatFlags, unlinkat},
};
use pangolin_envelope::capability::check_path;

const DIRECTORY: OFlag =
    OFlag::O_RDONLY.union(OFlag::O_DIRECTORY).union(OFlag::O_NOFOLLOW).union(OFlag::O_CLOEXEC);

fn failed(path: &str, what: &str, errno: Errno) -> String {
    let hint = match errno {
        Errno::ELOOP | Errno::ENOTDIR => {
            " (a symbolic link or a file is in the way; links are never followed)"
        }
        _ => "",
    };
    format!("cannot {what} {path:?}: {}{hint}", errno.desc())
}

/// A directory that is written into through its own descriptor.
#[derive(Debug)]
pub(crate) struct Root {
    directory: OwnedFd,
}

impl Root {
    /// Opens the directory; its own path is trusted.
    ///
    /// # Errors
    /// A message with the path.
    pub(crate) fn open(path: &Path) -> Result<Self, String> {
        open(path, OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())
            .map(|directory| Self { directory })
            .map_err(|errno| failed(&path.to_string_lossy(), "open directory", errno))
    }

    /// Opens the parent of `path`, making missing directories when `create`.
    fn parent<'p>(&self, path: &'p str, create: bool) -> Result<(OwnedFd, &'p str), String> {
        check_path(path).map_err(|error| error.to_string())?;
        let mut at =
            self.directory.try_clone().map_err(|error| format!("cannot use the workspace: {error}"))?;
        let (parents, name) = path.rsplit_once('/').unwrap_or(("", path));
        for segment in parents.split('/').filter(|segment| !segment.is_empty()) {
            if create {
                match mkdirat(&at, segment, Mode::from_bits_truncate(0o755)) {
                    Ok(()) | Err(Errno::EEXIST) => {}
                    Err(errno) => return Err(failed(path, "make the directory of", errno)),
                }
            }
            at = openat(&at, segment, DIRECTORY, Mode::empty())
                .map_err(|errno| failed(path, "open the directory of", errno))?;
        }
        Ok((at, name))
    }

    /// Writes a file, replacing a file or link of that name (never what the link points to).
    ///
    /// # Errors
    /// A message with the path.
    pub(crate) fn write(&self, path: &str, mut content: impl Read, mode: u32) -> Result<(), String> {
        let (parent, name) = self.parent(path, true)?;
        match unlinkat(&parent, name, UnlinkatFlags::NoRemoveDir) {
            Ok(()) | Err(Errno::ENOENT) => {}
            Err(errno) => return Err(failed(path, "replace", errno)),
        }
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let file = openat(&parent, name, flags, Mode::from_bits_truncate(0o600))
            .map_err(|errno| failed(path, "create", errno))?;
        // Independent of the umask the worker was started with.
        fchmod(&file, Mode::from_bits_truncate(mode))
            .map_err(|errno| failed(path, "set the mode of", errno))?;
        let mut file = File::from(file);
        io::copy(&mut content, &mut file)
            .and_then(|_| file.flush())
            .map_err(|error| format!("cannot write {path:?}: {error}"))
    }

    /// Reads a regular file of at most `limit` bytes; `None` when there is nothing of that name.
    ///
    /// # Errors
    /// A message when it is something else than a regular file, too large or unreadable.
    pub(crate) fn read(&self, path: &str, limit: u64) -> Result<Option<Vec<u8>>, String> {
        let (parent, name) = match self.parent(path, false) {
            Ok(found) => found,
            Err(_) if !self.exists(path) => return Ok(None),
            Err(error) => return Err(error),
        };
        // Non-blocking, so that a fifo cannot hold the worker.
        let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
        let file = match openat(&parent, name, flags, Mode::empty()) {
            Ok(file) => file,
            Err(Errno::ENOENT) => return Ok(None),
            Err(errno) => return Err(failed(path, "open", errno)),
        };
        let kind =
            fstat(&file).map_err(|errno| failed(path, "look at", errno))?.st_mode & SFlag::S_IFMT.bits();
        if kind != SFlag::S_IFREG.bits() {
            return Err(format!("{path:?} is not a regular file"));
        }
        let mut bytes = Vec::new();
        File::from(file)
            .take(limit + 1)
            .read_to_end(&mut bytes)
            .map_err(|error| format!("cannot read {path:?}: {error}"))?;
        if bytes.len() as u64 > limit {
            return Err(format!("{path:?} is larger than {limit} bytes"));
        }
        Ok(Some(bytes))
    }

    /// Opens a regular file for reading, whatever its name; no directory of the path is followed through a link.
    ///
    /// # Errors
    /// A message without the path.
    pub(crate) fn open_raw(&self, path: &[u8]) -> Result<File, String> {
        let problem = |errno: Errno| failed("", "open", errno).replace(" \"\"", " it");
        let mut at =
            self.directory.try_clone().map_err(|error| format!("cannot use the workspace: {error}"))?;
        let mut segments = path.split(|byte| *byte == b'/').peekable();
        while let Some(segment) = segments.next() {
            if matches!(segment, b"" | b"." | b"..") {
                return Err("the path leaves the tree".to_owned());
            }
            if segments.peek().is_some() {
                at = openat(&at, segment, DIRECTORY, Mode::empty()).map_err(problem)?;
                continue;
            }
            // Non-blocking, so that a fifo cannot hold the worker.
            let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
            let file = openat(&at, segment, flags, Mode::empty()).map_err(problem)?;
            let kind = fstat(&file).map_err(problem)?.st_mode & SFlag::S_IFMT.bits();
            if kind != SFlag::S_IFREG.bits() {
                return Err("it is not a regular file".to_owned());
            }
            return Ok(File::from(file));
        }
        Err("the path is empty".to_owned())
    }

    /// Whether every directory of `path` and the path itself exist in some form.
    fn exists(&self, path: &str) -> bool {
        let Ok(mut at) = self.directory.try_clone() else { return true };
        for segment in path.split('/') {
            match fstatat(&at, segment, AtFlags::AT_SYMLINK_NOFOLLOW) {
                Err(Errno::ENOENT) => return false,
                Err(_) => return true,
                Ok(_) => {}
            }
            match openat(&at, segment, DIRECTORY, Mode::empty()) {
                Ok(next) => at = next,
                Err(_) => return true,
            }
        }
        true
    }

    /// Removes one file or link; missing is fine.
    ///
    /// # Errors
    /// A message with the path.
    pub(crate) fn remove(&self, path: &str) -> Result<(), String> {
        let parent = match self.parent(path, false) {
            Ok((parent, name)) => (parent, name),
            Err(_) if !self.exists(path) => return Ok(()),
            Err(error) => return Err(error),
        };
        match unlinkat(&parent.0, parent.1, UnlinkatFlags::NoRemoveDir) {
            Ok(()) | Err(Errno::ENOENT) => Ok(()),
            Err(errno) => Err(failed(path, "remove", errno)),
        }
    }
}
