//! The project as it travels into a stack: configuration, locked plugins, and everything compiled ahead of time, because
//! functions have no compiler.
//!
//! ```text
//! pangolin.toml
//! pangolin.lock                    when there is one
//! .pangolin/plugins/<digest>.wasm  of the lock
//! .pangolin/cache/plugins/*.aot    of the lock and of what ships with this program
//! .pangolin/keys/plugin-cache.key  made for this archive: what authenticates the code is the archive
//! ```

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use pangolin_plugin_authority::{LOCK_FILE, OperatorPolicy};
use pangolin_plugin_host::{Allocation, Compiler};
use tar::{Archive, Builder, EntryType, Header};
use thiserror::Error;

use crate::{
    config::{CONFIG_FILE, Config},
    plugins::{Plugins, PluginsError},
};

/// Where the state lies in the archive.
const STATE: &str = ".pangolin";

/// Why a project cannot be packed.
#[derive(Debug, Error)]
pub enum PackError {
    /// An operator's policy is in force here and would not be in the stack.
    #[error(
        "this machine has an operator policy for plugins, which the functions of a stack would not know; deploy from \
         a machine without one, so that nothing is granted in the stack that was cut here"
    )]
    Policy,
    /// A plugin that cannot be used here cannot be used there.
    #[error("plugins cannot be packed: {}", .0.join("; "))]
    Plugins(Vec<String>),
    /// Plugins as a whole.
    #[error(transparent)]
    Host(#[from] PluginsError),
    /// A file.
    #[error("cannot pack {path}")]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

fn io(path: &Path) -> impl FnOnce(std::io::Error) -> PackError {
    let path = path.to_owned();
    move |source| PackError::Io { path, source }
}

/// The archive of a project. Compiles everything in it: blocking, up to minutes.
///
/// # Errors
/// [`PackError`]; every plugin that cannot be packed is named.
pub fn pack(config: &Config, compiler: Compiler) -> Result<Vec<u8>, PackError> {
    let policy = OperatorPolicy::load().map_err(|error| PackError::Host(PluginsError::from(error)))?;
    if policy != OperatorPolicy::default() {
        return Err(PackError::Policy);
    }
    let scratch = tempfile::tempdir().map_err(io(&std::env::temp_dir()))?;
    let state = scratch.path().join(STATE);
    copy_plugins(&config.state.join("plugins"), &state.join("plugins"))?;
    let packed = Config { state: state.clone(), ..config.clone() };
    let built = Plugins::with(&packed, Allocation::OnDemand, compiler)?.rebuild(&[])?;
    let broken: Vec<String> = built
        .into_iter()
        .filter_map(|line| line.problem.map(|problem| format!("{}: {problem}", line.id)))
        .collect();
    if !broken.is_empty() {
        return Err(PackError::Plugins(broken));
    }
    let mut files = vec![(CONFIG_FILE.to_owned(), config.file.clone())];
    let lock = config.root().join(LOCK_FILE);
    if lock.is_file() {
        files.push((LOCK_FILE.to_owned(), lock));
    }
    for dir in ["plugins", "cache/plugins", "keys"] {
        for entry in fs::read_dir(state.join(dir)).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let name = format!("{STATE}/{dir}/{}", name.to_string_lossy());
            files.push((name, entry.path()));
        }
    }
    files.sort();
    let mut tar = Builder::new(Vec::new());
    for (name, path) in files {
        let bytes = fs::read(&path).map_err(io(&path))?;
        let mut header = Header::new_gnu();
        header.set_entry_type(EntryType::Regular);
        header.set_size(bytes.len() as u64);
        header.set_mode(0o600);
        tar.append_data(&mut header, &name, &*bytes).map_err(io(&path))?;
    }
    tar.into_inner().map_err(io(scratch.path()))
}

fn copy_plugins(from: &Path, to: &Path) -> Result<(), PackError> {
    fs::create_dir_all(to).map_err(io(to))?;
    for entry in fs::read_dir(from).into_iter().flatten().flatten() {
        fs::copy(entry.path(), to.join(entry.file_name())).map_err(io(&entry.path()))?;
    }
    Ok(())
}

/// Unpacks an archive below `dir`; answers the configuration file.
pub(super) fn unpack(bytes: &[u8], dir: &Path) -> Result<PathBuf, String> {
    let failed = |error: std::io::Error| error.to_string();
    fs::create_dir_all(dir).map_err(|error| format!("{}: {error}", dir.display()))?;
    let mut archive = Archive::new(bytes);
    archive.set_preserve_mtime(false);
    for entry in archive.entries().map_err(failed)? {
        let mut entry = entry.map_err(failed)?;
        let name = entry.path().map_err(failed)?.into_owned();
        if entry.header().entry_type() != EntryType::Regular {
            return Err(format!("{} is no regular file", name.display()));
        }
        if !entry.unpack_in(dir).map_err(failed)? {
            return Err(format!("{} leads out of the archive", name.display()));
        }
    }
    for dir in [dir.join(STATE).join("cache/plugins"), dir.join(STATE).join("keys"), dir.join(STATE)] {
        fs::create_dir_all(&dir)
            .and_then(|()| fs::set_permissions(&dir, fs::Permissions::from_mode(0o700)))
            .map_err(|error| format!("{}: {error}", dir.display()))?;
    }
    Ok(dir.join(CONFIG_FILE))
}
