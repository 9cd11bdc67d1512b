//! The project as it travels into a stack: configuration, locked plugins, and everything compiled ahead of time, because
//! functions have no compiler.
//!
//! ```text
//! pangolin.toml
//! pangolin.lock                    when there is one
//! .pangolin/plugins/<digest>.wasm  of the lock
//! .pangolin/cache/plugins/*.aot    of the lock and of what ships with this program
//! .pangolin/keys/plugin-cache.key  the same in every archive: the digest of the archive authenticates the code
//! .pangolin/release.json           who packed it
//! .pangolin/policy.toml            the operator's, when the machine that packs has one
//! ```
//!
//! Equal projects and programs make equal archives. The digest of one stands in the stack, so a new one is a change that a
//! plan shows, and an archive that somebody else put into the bucket is not taken.

use std::{
    fs,
    io::Write as _,
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use pangolin_core::ids::Digest;
use pangolin_orchestrator::causes::causes;
use pangolin_plugin_authority::{LOCK_FILE, OperatorPolicy, read_regular_text};
use pangolin_plugin_host::{Allocation, Compiler, Processor};
use pangolin_stack::Release;
use pangolin_worker_fargate::{TaskSize, is_by_digest};
use tar::{Archive, Builder, EntryType, Header};
use thiserror::Error;

use super::release::release;
use crate::{
    config::{BackendKind, CONFIG_FILE, Config, PolicyPlace},
    plugins::{Plugins, PluginsError},
};

/// Where the state lies in the archive.
const STATE: &str = ".pangolin";

/// Who packed it, below [`STATE`].
const RELEASE_FILE: &str = "release.json";

/// The operator's policy, below [`STATE`].
const POLICY_FILE: &str = "policy.toml";

/// Largest policy in bytes.
const POLICY_BYTES_MAX: u64 = 1 << 20;

/// The key of compiled code, below [`STATE`].
const KEY_FILE: &str = "keys/plugin-cache.key";

/// What the key is the digest of. It is no secret: whoever could write to the unpacked files could read it beside them, and
/// what comes into the archive is authenticated by the archive's digest.
const KEY_TEXT: &[u8] = b"pangolin project archive: key of compiled code";

/// Why a project cannot be packed.
#[derive(Debug, Error)]
pub enum PackError {
    /// A plugin that cannot be used here cannot be used there.
    #[error("plugins cannot be packed: {}", .0.join("; "))]
    Plugins(Vec<String>),
    /// What executors ask for, Fargate does not have.
    #[error("the project's executors do not run in a stack: {}", .0.join("; "))]
    Executors(Vec<String>),
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

/// Executors on Fargate that could not start anything, or none at all. Others may stand beside them, for a laptop.
fn executor_problems(config: &Config) -> Vec<String> {
    let mut problems = Vec::new();
    let on_fargate = config.executors.iter().filter(|(_, one)| one.backend == BackendKind::Fargate);
    let mut is_empty = true;
    for (name, executor) in on_fargate {
        is_empty = false;
        let mut problem = |what: String| problems.push(format!("executors.{name}: {what}"));
        if executor.image.as_ref().is_some_and(|image| !is_by_digest(image)) {
            problem("image must be named by digest (repository@sha256:…)".to_owned());
        }
        if let Err(what) = TaskSize::of(&executor.limits(0)) {
            problem(what);
        }
    }
    if is_empty {
        problems.push("no executor has backend = \"fargate\"".to_owned());
    }
    problems
}

fn io(path: &Path) -> impl FnOnce(std::io::Error) -> PackError {
    let path = path.to_owned();
    move |source| PackError::Io { path, source }
}

/// The archive of a project, for functions and workers on `processor`. Compiles everything in it: blocking, up to minutes.
/// The operator's policy of this machine goes with it.
///
/// # Errors
/// [`PackError`]; every plugin that cannot be packed is named, and everything that is wrong with executors.
pub fn pack(config: &Config, compiler: Compiler, processor: Processor) -> Result<Vec<u8>, PackError> {
    let problems = executor_problems(config);
    if !problems.is_empty() {
        return Err(PackError::Executors(problems));
    }
    let policy = config.operator_policy().map_err(|error| PackError::Host(PluginsError::from(error)))?;
    let scratch = tempfile::tempdir().map_err(io(&std::env::temp_dir()))?;
    let state = scratch.path().join(STATE);
    copy_plugins(&config.state.join("plugins"), &state.join("plugins"))?;
    let private = |path: &Path, bytes: &[u8]| {
        let made = fs::create_dir_all(path.parent().unwrap_or(&state));
        let mut options = fs::OpenOptions::new();
        let mut open = || options.write(true).create_new(true).mode(0o600).open(path);
        made.and_then(|()| open()).and_then(|mut file| file.write_all(bytes)).map_err(io(path))
    };
    private(&state.join(KEY_FILE), Digest::of(KEY_TEXT).as_bytes())?;
    let release = serde_json::to_vec_pretty(&release(processor)).unwrap_or_default();
    private(&state.join(RELEASE_FILE), &release)?;
    let packed = Config { state: state.clone(), ..config.clone() };
    let built = Plugins::with(&packed, Allocation::OnDemand, compiler)?.rebuild_for(processor, &[])?;
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
    files.push((format!("{STATE}/{RELEASE_FILE}"), state.join(RELEASE_FILE)));
    if policy != OperatorPolicy::default() {
        let text = read_regular_text(Path::new(&policy.file), POLICY_BYTES_MAX);
        let text = text.map_err(io(Path::new(&policy.file)))?;
        private(&state.join(POLICY_FILE), text.as_bytes())?;
        files.push((format!("{STATE}/{POLICY_FILE}"), state.join(POLICY_FILE)));
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

/// What was in an archive.
pub(super) struct Unpacked {
    pub(super) config: Config,
    pub(super) packed: Release,
}

/// Unpacks an archive below `dir`.
pub(super) fn unpack(bytes: &[u8], dir: &Path) -> Result<Unpacked, String> {
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
    let state = dir.join(STATE);
    let file = state.join(RELEASE_FILE);
    let packed = fs::read(&file).map_err(|error| format!("{STATE}/{RELEASE_FILE}: {error}"))?;
    let packed =
        serde_json::from_slice(&packed).map_err(|error| format!("{STATE}/{RELEASE_FILE}: {error}"))?;
    let config = Config::load(&dir.join(CONFIG_FILE)).map_err(|error| causes(&error))?;
    let policy = state.join(POLICY_FILE);
    // That of the machine which packed, and never that of the machine which reads.
    let policy = if policy.is_file() { PolicyPlace::File(policy) } else { PolicyPlace::Nowhere };
    // Wherever the state is at home, it is there in the archive.
    Ok(Unpacked { config: Config { state, policy, ..config }, packed })
}
