//! The directory tree and the work on it.

use std::{
    fs::{self, File},
    io::{self, Read, Write},
    path::{Path, PathBuf},
};

use pangolin_core::ids::Digest;
use pangolin_ports::blob_store::BlobError;
use tempfile::NamedTempFile;

use crate::{
    file::{CopyError, copy_hashing, create_dir, failed, open_regular, sync_dir},
    temporary,
};

/// Where things are.
#[derive(Debug, Clone)]
pub(crate) struct Layout {
    dir: PathBuf,
    blobs: PathBuf,
    tmp: PathBuf,
}

impl Layout {
    pub(crate) fn open(dir: &Path) -> Result<Self, BlobError> {
        fs::create_dir_all(dir.parent().unwrap_or(dir)).map_err(|error| failed("creating", dir, error))?;
        let layout = Self { dir: dir.to_owned(), blobs: dir.join("sha256"), tmp: dir.join("tmp") };
        let mut created = create_dir(dir)?;
        created |= create_dir(&layout.blobs)?;
        created |= create_dir(&layout.tmp)?;
        if created {
            sync_dir(dir)?;
        }
        // A store that cannot be read says so now.
        fs::read_dir(&layout.blobs).map_err(|error| failed("opening", &layout.blobs, error))?;
        Ok(layout)
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(crate) fn tmp(&self) -> &Path {
        &self.tmp
    }

    fn shard(&self, digest: Digest) -> PathBuf {
        self.blobs.join(&digest.hex()[..2])
    }

    fn path(&self, digest: Digest) -> PathBuf {
        self.shard(digest).join(digest.hex())
    }

    pub(crate) fn put(&self, bytes: &[u8]) -> Result<Digest, BlobError> {
        let digest = Digest::of(bytes);
        if self.is_complete(digest, bytes.len() as u64)? {
            return Ok(digest);
        }
        let mut file = self.temporary()?;
        file.write_all(bytes).map_err(|error| failed("writing", file.path(), error))?;
        self.keep(file, digest, bytes.len() as u64)?;
        Ok(digest)
    }

    pub(crate) fn put_file(&self, path: &Path) -> Result<Digest, BlobError> {
        let mut source = open_regular(path).map_err(|error| failed("opening", path, error))?;
        let mut file = self.temporary()?;
        let copied = copy_hashing(&mut source, &mut file);
        let (digest, size) = copied.map_err(|error| self.copy_failed(error, path, file.path()))?;
        if !self.is_complete(digest, size)? {
            self.keep(file, digest, size)?;
        }
        Ok(digest)
    }

    pub(crate) fn get(&self, digest: Digest, limit: u64) -> Result<Vec<u8>, BlobError> {
        let (path, file) = self.open_blob(digest)?;
        let size = file.metadata().map_err(|error| failed("inspecting", &path, error))?.len();
        if size > limit {
            return Err(BlobError::TooLarge { digest, size, limit });
        }
        let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or(0));
        // A damaged file may have grown since; never read more than was allowed.
        let read = file.take(size.saturating_add(1)).read_to_end(&mut bytes);
        read.map_err(|error| failed("reading", &path, error))?;
        verified(digest, Digest::of(&bytes))?;
        Ok(bytes)
    }

    pub(crate) fn copy_to(&self, digest: Digest, to: &Path) -> Result<(), BlobError> {
        let (path, mut blob) = self.open_blob(digest)?;
        // Written beside the target, so that unverified bytes never carry its name.
        let parent = to.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let created = tempfile::Builder::new().prefix(".pangolin-copy-").tempfile_in(parent);
        let mut file = created.map_err(|error| failed("creating a file in", parent, error))?;
        let copied = copy_hashing(&mut blob, &mut file);
        let (actual, _) = copied.map_err(|error| self.copy_failed(error, &path, to))?;
        verified(digest, actual)?;
        temporary::set_mode(file.as_file(), 0o644)
            .map_err(|error| failed("setting the mode of", to, error))?;
        file.persist_noclobber(to).map_err(|error| failed("creating", to, error.error))?;
        Ok(())
    }

    pub(crate) fn size(&self, digest: Digest) -> Result<Option<u64>, BlobError> {
        let path = self.path(digest);
        match fs::symlink_metadata(&path) {
            Ok(metadata) if metadata.is_file() => Ok(Some(metadata.len())),
            Ok(_) => Err(failed("inspecting", &path, io::Error::other("not a regular file"))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => self.missing().map(|()| None),
            Err(error) => Err(failed("inspecting", &path, error)),
        }
    }

    /// Whether the blob is there, undamaged and durable. If it is damaged, it will be replaced by the good bytes at
    /// hand: whoever puts them must be able to read them back.
    fn is_complete(&self, digest: Digest, size: u64) -> Result<bool, BlobError> {
        if !self.is_sound(digest, size)? {
            return Ok(false);
        }
        // Its writer may have been killed before it synced the directory.
        sync_dir(&self.shard(digest))?;
        Ok(true)
    }

    fn is_sound(&self, digest: Digest, size: u64) -> Result<bool, BlobError> {
        if self.size(digest)? != Some(size) {
            return Ok(false);
        }
        let (_, mut blob) = match self.open_blob(digest) {
            Err(BlobError::NotFound(_)) => return Ok(false),
            opened => opened?,
        };
        // Unreadable for the disk is as bad as wrong.
        Ok(copy_hashing(&mut blob, &mut io::sink()).is_ok_and(|(found, _)| found == digest))
    }

    fn temporary(&self) -> Result<NamedTempFile, BlobError> {
        temporary::create(&self.tmp).map_err(|error| failed("creating a file in", &self.tmp, error))
    }

    /// Gives a complete temporary file its name, durably.
    fn keep(&self, file: NamedTempFile, digest: Digest, size: u64) -> Result<(), BlobError> {
        let path = self.path(digest);
        let synced = temporary::set_mode(file.as_file(), 0o444).and_then(|()| file.as_file().sync_all());
        synced.map_err(|error| failed("syncing", file.path(), error))?;
        let shard = self.shard(digest);
        if create_dir(&shard)? {
            sync_dir(&self.blobs)?;
        }
        match file.persist_noclobber(&path) {
            Ok(_) => {}
            Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => {
                // Another writer was faster, or the blob there is damaged and these bytes repair it.
                if !self.is_sound(digest, size)? {
                    error.file.persist(&path).map_err(|error| failed("replacing", &path, error.error))?;
                }
            }
            Err(error) => return Err(failed("creating", &path, error.error)),
        }
        sync_dir(&shard)
    }

    fn open_blob(&self, digest: Digest) -> Result<(PathBuf, File), BlobError> {
        let path = self.path(digest);
        match open_regular(&path) {
            Ok(file) => Ok((path, file)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.missing()?;
                Err(BlobError::NotFound(digest))
            }
            Err(error) => Err(failed("opening", &path, error)),
        }
    }

    /// A blob is absent only while the store is there: with an unmounted disk nothing is known.
    fn missing(&self) -> Result<(), BlobError> {
        match fs::metadata(&self.blobs) {
            Ok(_) => Ok(()),
            Err(error) => Err(failed("opening", &self.blobs, error)),
        }
    }

    fn copy_failed(&self, error: CopyError, from: &Path, to: &Path) -> BlobError {
        match error {
            CopyError::Reading(error) => failed("reading", from, error),
            CopyError::Writing(error) => failed("writing", to, error),
        }
    }
}

fn verified(expected: Digest, actual: Digest) -> Result<(), BlobError> {
    if actual == expected { Ok(()) } else { Err(BlobError::Damaged { expected, actual }) }
}
