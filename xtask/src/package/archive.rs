//! Archives that depend on nothing but their content: the same files give the same bytes, and the same digest.

use std::{
    fs::{self, File},
    io::Write as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use zip::{CompressionMethod, DateTime, System, ZipWriter, write::SimpleFileOptions};

/// A file of an archive.
pub(super) struct Entry {
    name: &'static str,
    mode: u32,
    from: From,
}

enum From {
    File(PathBuf),
    Bytes(Vec<u8>),
}

impl Entry {
    /// Something to execute.
    pub(super) fn program(name: &'static str, from: PathBuf) -> Self {
        Self { name, mode: 0o755, from: From::File(from) }
    }

    /// Something to read.
    pub(super) fn text(name: &'static str, from: PathBuf) -> Self {
        Self { name, mode: 0o644, from: From::File(from) }
    }

    /// The same with these bytes.
    pub(super) fn bytes(name: &'static str, bytes: Vec<u8>) -> Self {
        Self { name, mode: 0o644, from: From::Bytes(bytes) }
    }
}

/// Writes an archive with the entries in the order of their names, all of them from 1980. Answers its size.
pub(super) fn write(path: &Path, mut entries: Vec<Entry>) -> Result<u64> {
    entries.sort_by_key(|entry| entry.name);
    let cannot = || format!("cannot write {}", path.display());
    if let Some(dir) = path.parent() {
        fs::create_dir_all(dir).with_context(|| format!("cannot create {}", dir.display()))?;
    }
    // Under another name first: a package is there in full or not at all.
    let new = path.with_extension("zip.new");
    let mut writer = ZipWriter::new(File::create(&new).with_context(cannot)?);
    for Entry { name, mode, from } in entries {
        let bytes = match from {
            From::File(from) => fs::read(&from).with_context(|| format!("cannot read {}", from.display()))?,
            From::Bytes(bytes) => bytes,
        };
        let options = SimpleFileOptions::default()
            .compression_method(CompressionMethod::Deflated)
            .compression_level(Some(9))
            .last_modified_time(DateTime::default())
            .system(System::Unix)
            .unix_permissions(mode);
        writer.start_file(name, options).with_context(cannot)?;
        writer.write_all(&bytes).with_context(cannot)?;
    }
    let file = writer.finish().with_context(cannot)?;
    let bytes = file.metadata().with_context(cannot)?.len();
    fs::rename(&new, path).with_context(cannot)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_files_make_the_same_archive() {
        let dir = std::env::temp_dir().join(format!("pangolin-archive-{}", std::process::id()));
        fs::create_dir_all(&dir).expect("a directory");
        let (first, second) = (dir.join("first"), dir.join("second"));
        fs::write(&first, "one".repeat(1_000)).expect("written");
        fs::write(&second, "two").expect("written");
        let one = || Entry::program("bootstrap", first.clone());
        let two = || Entry::text("a/text", second.clone());
        let bytes = write(&dir.join("a.zip"), vec![one(), two()]).expect("an archive");
        write(&dir.join("b.zip"), vec![two(), one()]).expect("an archive");
        let read = |name: &str| fs::read(dir.join(name)).expect("read");
        assert_eq!(read("a.zip"), read("b.zip"));
        assert_eq!(u64::try_from(read("a.zip").len()).expect("small"), bytes);

        let mut archive =
            zip::ZipArchive::new(File::open(dir.join("a.zip")).expect("opened")).expect("a zip");
        let mut seen = Vec::new();
        for index in 0..archive.len() {
            let file = archive.by_index(index).expect("an entry");
            let name = file.name().expect("a name").into_owned();
            seen.push((name, file.unix_mode().map(|mode| mode & 0o777), file.size()));
        }
        let expected = [("a/text".to_owned(), Some(0o644), 3), ("bootstrap".to_owned(), Some(0o755), 3_000)];
        assert_eq!(seen, expected);
        fs::remove_dir_all(&dir).expect("removed");
    }
}
