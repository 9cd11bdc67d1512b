//! Archives (tar): the workspace on its way out, the result directory on its way back.

use std::{
    ffi::OsString,
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Read},
    os::unix::{
        ffi::{OsStrExt, OsStringExt},
        fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt, symlink},
    },
    path::{Component, Path, PathBuf},
};

use nix::fcntl::OFlag;
use pangolin_envelope::result::CAPTURE_DIR;
use tar::{Archive, Builder, EntryType, Header};

/// Longest path in a result archive, in bytes.
const PATH_BYTES_MAX: u64 = 4_096;

/// Packs a tree of directories, files and symbolic links, the same tree always into the same bytes: names in order, no
/// times, no owners. `None` when the directory is empty.
pub(crate) fn pack(dir: &Path, to: File) -> io::Result<Option<()>> {
    let names = sorted(dir)?;
    if names.is_empty() {
        return Ok(None);
    }
    let mut tar = Builder::new(io::BufWriter::new(to));
    for name in names {
        append(&mut tar, &dir.join(&name), Path::new(&name))?;
    }
    tar.into_inner()?.into_inner().map_err(io::IntoInnerError::into_error)?;
    Ok(Some(()))
}

fn sorted(dir: &Path) -> io::Result<Vec<OsString>> {
    let mut names = fs::read_dir(dir)?
        .map(|entry| entry.map(|entry| entry.file_name()))
        .collect::<io::Result<Vec<_>>>()?;
    names.sort();
    Ok(names)
}

fn append<W: io::Write>(tar: &mut Builder<W>, path: &Path, name: &Path) -> io::Result<()> {
    let told = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
    let meta = fs::symlink_metadata(path).map_err(told)?;
    let mut header = Header::new_gnu();
    header.set_mode(meta.permissions().mode() & 0o777);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(0);
    if meta.is_dir() {
        header.set_entry_type(EntryType::Directory);
        tar.append_data(&mut header, name, io::empty()).map_err(told)?;
        for child in sorted(path).map_err(told)? {
            append(tar, &path.join(&child), &name.join(&child))?;
        }
        Ok(())
    } else if meta.is_symlink() {
        header.set_entry_type(EntryType::Symlink);
        tar.append_link(&mut header, name, fs::read_link(path).map_err(told)?).map_err(told)
    } else if meta.is_file() {
        let flags = OFlag::O_NOFOLLOW.bits();
        let file = OpenOptions::new().read(true).custom_flags(flags).open(path).map_err(told)?;
        header.set_entry_type(EntryType::Regular);
        header.set_size(meta.len());
        tar.append_data(&mut header, name, file).map_err(told)
    } else {
        Err(io::Error::other(format!("{} is neither file, directory nor symbolic link", path.display())))
    }
}

/// How much a result archive may hold.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    /// Bytes of all files.
    pub(crate) bytes: u64,
    /// Files, directories and links.
    pub(crate) entries: u64,
}

/// Unpacks a result archive into an empty directory that nobody else can write to. Refuses, and says why, everything that a
/// worker would not send: paths that are absolute or lead out, links that are followed on the way, hard links, devices,
/// sparse files, set-user-id bits, names that come twice, symbolic links outside of what was captured. A captured
/// link keeps its target whatever it is: it is content, and nothing here or later follows it.
pub(crate) fn unpack(archive: File, to: &Path, bounds: Bounds) -> Result<(), String> {
    let damaged = |error: io::Error| format!("it is damaged: {error}");
    let mut archive = Archive::new(io::BufReader::new(archive));
    let (mut left, mut entries) = (bounds.bytes, 0_u64);
    let (mut long_name, mut long_link) = (None, None);
    // Raw: the library would read names of any length into memory.
    for entry in archive.entries().map_err(damaged)?.raw(true) {
        let mut entry = entry.map_err(damaged)?;
        entries += 1;
        // Each long name is an entry of its own.
        if entries > bounds.entries.saturating_mul(3) {
            return Err(format!("it has more than {} entries", bounds.entries));
        }
        let kind = entry.header().entry_type();
        let size = entry.header().entry_size().map_err(damaged)?;
        if kind == EntryType::GNULongName || kind == EntryType::GNULongLink {
            let text = long(&mut entry, size)?;
            let slot = if kind == EntryType::GNULongName { &mut long_name } else { &mut long_link };
            if slot.replace(text).is_some() {
                return Err("a long name follows another".to_owned());
            }
            continue;
        }
        let name = long_name.take().unwrap_or_else(|| entry.header().path_bytes().into_owned());
        let target =
            long_link.take().or_else(|| entry.header().link_name_bytes().map(|bytes| bytes.into_owned()));
        let path = checked(&name)?;
        let shown = path.display();
        left = left
            .checked_sub(size)
            .ok_or_else(|| format!("its files have more than {} bytes", bounds.bytes))?;
        let mode = entry.header().mode().map_err(damaged)?;
        if mode & 0o7000 != 0 {
            return Err(format!("{shown:?} has a set-user-id, set-group-id or sticky bit"));
        }
        parents(to, &path)?;
        let place = to.join(&path);
        let failed = |error: io::Error| match error.kind() {
            io::ErrorKind::AlreadyExists => format!("{shown:?} is there twice"),
            _ => format!("cannot unpack {shown:?}: {error}"),
        };
        match kind {
            EntryType::Directory if size == 0 => {
                DirBuilder::new().mode(0o700 | (mode & 0o055)).create(&place).map_err(failed)?;
            }
            EntryType::Regular => {
                let mut file = OpenOptions::new()
                    .write(true)
                    .create_new(true)
                    .mode(0o600 | (mode & 0o155))
                    .custom_flags(OFlag::O_NOFOLLOW.bits())
                    .open(&place)
                    .map_err(failed)?;
                let written = io::copy(&mut entry, &mut file).map_err(failed)?;
                if written != size {
                    return Err(format!("{shown:?} ends after {written} of {size} bytes"));
                }
            }
            EntryType::Symlink if size == 0 && is_captured(&path) => {
                let target = target
                    .filter(|bytes| !bytes.is_empty())
                    .ok_or_else(|| format!("{shown:?} links to nothing"))?;
                symlink(OsString::from_vec(target), &place).map_err(failed)?;
            }
            EntryType::Symlink => return Err(format!("{shown:?} is a symbolic link")),
            EntryType::Link => return Err(format!("{shown:?} is a hard link")),
            other => {
                return Err(format!(
                    "{shown:?} is of kind {:?}, which no worker sends",
                    char::from(other.as_byte())
                ));
            }
        }
        if long_name.is_some() || long_link.is_some() {
            return Err("a long name belongs to nothing".to_owned());
        }
    }
    if entries > bounds.entries {
        return Err(format!("it has more than {} entries", bounds.entries));
    }
    Ok(())
}

fn long(entry: &mut impl Read, size: u64) -> Result<Vec<u8>, String> {
    if size > PATH_BYTES_MAX + 1 {
        return Err(format!("a path in it has {size} bytes"));
    }
    let mut text = Vec::new();
    entry.take(size).read_to_end(&mut text).map_err(|error| format!("it is damaged: {error}"))?;
    if text.last() == Some(&0) {
        text.pop();
    }
    Ok(text)
}

/// Whether a path is below `capture/before` or `capture/after`. Neither of these is itself content: what is read below them is
/// read through them.
fn is_captured(path: &Path) -> bool {
    path.starts_with(CAPTURE_DIR) && path.components().count() > 2
}

fn checked(name: &[u8]) -> Result<PathBuf, String> {
    let path = Path::new(std::ffi::OsStr::from_bytes(name));
    let plain = path.components().all(|part| matches!(part, Component::Normal(_)));
    if name.is_empty() || name.contains(&0) || !plain || name.len() as u64 > PATH_BYTES_MAX {
        return Err(format!("the path {:?} is empty, too long, absolute or leads out", path.display()));
    }
    Ok(path.to_owned())
}

/// Makes missing directories on the way. Only this process writes here, so what was looked at stays as it is.
fn parents(to: &Path, path: &Path) -> Result<(), String> {
    let mut at = to.to_owned();
    for part in path.parent().into_iter().flat_map(Path::components) {
        at.push(part);
        match fs::symlink_metadata(&at) {
            Ok(meta) if meta.is_dir() => {}
            Ok(_) => return Err(format!("{:?} goes through something that is no directory", path.display())),
            Err(_) => DirBuilder::new()
                .mode(0o700)
                .create(&at)
                .map_err(|error| format!("cannot unpack {:?}: {error}", path.display()))?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: Bounds = Bounds { bytes: 10_000, entries: 20 };

    /// Writes raw headers, as no library would.
    struct Hostile(Vec<u8>);

    impl Hostile {
        fn entry(mut self, kind: u8, name: &str, mode: u32, target: &str, body: &[u8]) -> Self {
            self.header(kind, name, mode, target, body.len() as u64);
            self.0.extend_from_slice(body);
            self.0.resize(self.0.len().next_multiple_of(512), 0);
            self
        }

        fn header(&mut self, kind: u8, name: &str, mode: u32, target: &str, size: u64) {
            let mut header = Header::new_gnu();
            let bytes = header.as_mut_bytes();
            bytes[..name.len()].copy_from_slice(name.as_bytes());
            bytes[157..157 + target.len()].copy_from_slice(target.as_bytes());
            header.set_entry_type(EntryType::new(kind));
            header.set_mode(mode);
            header.set_size(size);
            header.set_cksum();
            self.0.extend_from_slice(header.as_bytes());
        }

        fn unpacked(self) -> (Result<(), String>, tempfile::TempDir) {
            let dir = tempfile::tempdir().expect("a directory");
            let mut bytes = self.0;
            bytes.resize(bytes.len() + 1_024, 0);
            let path = dir.path().join("a.tar");
            fs::write(&path, bytes).expect("write the archive");
            let to = dir.path().join("to");
            fs::create_dir(&to).expect("a directory");
            (unpack(File::open(path).expect("open"), &to, BOUNDS), dir)
        }
    }

    #[test]
    fn hostile_archives_are_refused() {
        let new = || Hostile(Vec::new());
        let many = (0..30).fold(new(), |archive, i| archive.entry(b'0', &format!("f{i}"), 0o644, "", b""));
        let mut huge = new();
        huge.header(b'0', "f", 0o644, "", 1 << 40);
        let mut short = new();
        short.header(b'0', "f", 0o644, "", 9_000);
        let mut long = new();
        long.header(b'L', "././@LongLink", 0o644, "", 1 << 30);
        let cases = [
            ("leads out", new().entry(b'0', "../out", 0o644, "", b"x")),
            ("leads out", new().entry(b'0', "a/../../out", 0o644, "", b"x")),
            ("leads out", new().entry(b'0', "/etc/x", 0o644, "", b"x")),
            ("leads out", new().entry(b'0', "", 0o644, "", b"x")),
            ("is a symbolic link", new().entry(b'2', "outputs", 0o777, "/etc", b"")),
            ("is a symbolic link", new().entry(b'2', "result.json", 0o777, "/etc/passwd", b"")),
            (
                "no directory",
                new().entry(b'2', "capture/after/d", 0o777, "/tmp", b"").entry(
                    b'0',
                    "capture/after/d/x",
                    0o644,
                    "",
                    b"x",
                ),
            ),
            (
                "is there twice",
                new().entry(b'2', "capture/after/l", 0o777, "/tmp/x", b"").entry(
                    b'0',
                    "capture/after/l",
                    0o644,
                    "",
                    b"x",
                ),
            ),
            ("is a symbolic link", new().entry(b'2', "capture/after", 0o777, "/etc", b"")),
            ("is a symbolic link", new().entry(b'2', "capture", 0o777, "/etc", b"")),
            ("is a hard link", new().entry(b'1', "capture/h", 0o644, "/etc/passwd", b"")),
            ("no worker sends", new().entry(b'3', "null", 0o644, "", b"")),
            ("no worker sends", new().entry(b'6', "fifo", 0o644, "", b"")),
            ("no worker sends", new().entry(b'S', "sparse", 0o644, "", b"")),
            ("no worker sends", new().entry(b'x', "pax", 0o644, "", b"17 path=/etc/xyz\n")),
            ("set-user-id", new().entry(b'0', "su", 0o4755, "", b"x")),
            ("is there twice", new().entry(b'0', "a", 0o644, "", b"x").entry(b'0', "a", 0o644, "", b"y")),
            ("more than 20 entries", many),
            ("more than 10000 bytes", huge),
            ("bytes", short),
            ("a path in it has", long),
        ];
        for (expected, archive) in cases {
            let (answer, dir) = archive.unpacked();
            let problem = answer.expect_err(expected);
            assert!(
                problem.contains(expected) || problem.contains("damaged"),
                "expected {expected:?}: {problem}"
            );
            let around: Vec<_> =
                fs::read_dir(dir.path()).expect("list").flatten().map(|e| e.file_name()).collect();
            assert_eq!(around.len(), 2, "{expected}: something was written outside: {around:?}");
        }
    }

    #[test]
    fn what_a_worker_sends_comes_back() {
        let dir = tempfile::tempdir().expect("a directory");
        let from = dir.path().join("from");
        let deep = format!("capture/after/{}/{}", "d".repeat(120), "e".repeat(120));
        fs::create_dir_all(from.join(&deep)).expect("directories");
        fs::write(from.join("result.json"), b"{}").expect("write");
        fs::write(from.join(&deep).join("run.sh"), b"#!/bin/sh").expect("write");
        fs::set_permissions(from.join(&deep).join("run.sh"), PermissionsExt::from_mode(0o755)).expect("mode");
        symlink("../../elsewhere", from.join("capture/after/link")).expect("link");
        symlink("t".repeat(300), from.join("capture/after/long")).expect("link");
        let pack_it = |name: &str| {
            let path = dir.path().join(name);
            assert!(pack(&from, File::create(&path).expect("create")).expect("pack").is_some());
            fs::read(path).expect("read")
        };
        assert_eq!(pack_it("1.tar"), pack_it("2.tar"), "the same tree gives the same bytes");
        let to = dir.path().join("to");
        fs::create_dir(&to).expect("a directory");
        unpack(File::open(dir.path().join("1.tar")).expect("open"), &to, BOUNDS).expect("unpack");
        assert_eq!(fs::read(to.join("result.json")).expect("read"), b"{}");
        let script = to.join(&deep).join("run.sh");
        assert_eq!(fs::metadata(script).expect("there").permissions().mode() & 0o777, 0o755);
        assert_eq!(
            fs::read_link(to.join("capture/after/link")).expect("a link"),
            Path::new("../../elsewhere")
        );
        assert_eq!(fs::read_link(to.join("capture/after/long")).expect("a link").as_os_str().len(), 300);
        let empty = dir.path().join("empty");
        fs::create_dir(&empty).expect("a directory");
        assert!(
            pack(&empty, File::create(dir.path().join("e.tar")).expect("create")).expect("pack").is_none()
        );
    }
}
