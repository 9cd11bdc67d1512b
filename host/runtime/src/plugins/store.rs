//! Component bytes by digest, below `<state>/plugins`. Never trusted: the digest is checked at every load.

use std::{
    fs,
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use nix::fcntl::{Flock, FlockArg, OFlag};
use pangolin_core::ids::Digest;
use pangolin_plugin_authority::{COMPONENT_BYTES_MAX, read_regular};

use super::PluginsError;

pub(super) struct Store {
    dir: PathBuf,
}

impl Store {
    pub(super) fn new(state: &Path) -> Self {
        Self { dir: state.join("plugins") }
    }

    pub(super) fn path(&self, digest: &Digest) -> PathBuf {
        self.dir.join(format!("{}.wasm", digest.hex()))
    }

    fn signature_path(&self, digest: &Digest) -> PathBuf {
        self.dir.join(format!("{}.wasm.sig", digest.hex()))
    }

    /// The stored bytes; `None` when there are none.
    pub(super) fn get(&self, id: &str, digest: &Digest) -> Result<Option<Vec<u8>>, PluginsError> {
        let path = self.path(digest);
        let Some(bytes) = read(&path, COMPONENT_BYTES_MAX as u64).map_err(failed(id, &path))? else {
            return Ok(None);
        };
        let found = Digest::of(&bytes);
        if found != *digest {
            return Err(PluginsError::Changed {
                id: id.to_owned(),
                found,
                approved: *digest,
                path: path.display().to_string(),
            });
        }
        Ok(Some(bytes))
    }

    pub(super) fn signature(&self, id: &str, digest: &Digest) -> Result<Option<Vec<u8>>, PluginsError> {
        let path = self.signature_path(digest);
        read(&path, 8 << 10).map_err(failed(id, &path))
    }

    pub(super) fn put(
        &self,
        id: &str,
        digest: &Digest,
        bytes: &[u8],
        signature: Option<&[u8]>,
    ) -> Result<(), PluginsError> {
        let create = || fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.dir);
        create().map_err(failed(id, &self.dir))?;
        let path = self.path(digest);
        write(&path, bytes).map_err(failed(id, &path))?;
        if let Some(signature) = signature {
            let path = self.signature_path(digest);
            write(&path, signature).map_err(failed(id, &path))?;
        }
        Ok(())
    }

    /// Held while the lock file is changed, so that two installations do not lose one.
    pub(super) fn exclusive(&self) -> Result<Flock<fs::File>, PluginsError> {
        let path = self.dir.join("lock");
        let attempt = || {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.dir)?;
            let mut options = fs::OpenOptions::new();
            // A pipe in its place must not wait for a reader.
            options
                .create(true)
                .truncate(false)
                .write(true)
                .mode(0o600)
                .custom_flags(OFlag::O_NONBLOCK.bits());
            let file = options.open(&path)?;
            Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, error)| io::Error::from(error))
        };
        attempt().map_err(failed("(all)", &path))
    }
}

fn failed<'p>(id: &'p str, path: &'p Path) -> impl Fn(io::Error) -> PluginsError + 'p {
    move |source| PluginsError::Read { id: id.to_owned(), path: path.display().to_string(), source }
}

fn read(path: &Path, limit: u64) -> io::Result<Option<Vec<u8>>> {
    match read_regular(path, limit) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Afterwards the file is the old one or complete. Private, like the rest of the state.
fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = tempfile::NamedTempFile::new_in(path.parent().unwrap_or(Path::new(".")))?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    file.persist(path).map_err(|error| error.error)?;
    Ok(())
}
