//! Compiled components on disk. Loading native code is trusting it, so every file carries a MAC under the key of
//! this installation. A file that does not fit (other engine, other bytes, wrong MAC) is rebuilt, never run.
//!
//! Format of a file `<component sha256>-<profile>-<engine>.aot`: 8 bytes magic, 32 bytes digest of the settings, 32
//! bytes MAC, native code. The MAC is BLAKE3 with a key that is derived from the key of this installation. It covers the
//! code and then 104 bytes: magic, the engine version, profile id and target as one digest, the component's digest and
//! the settings. The code comes first because the hash is fastest on whole blocks. The engine itself does not notice every setting that differs (NaN canonicalisation, for
//! one), so a host with a compiler compares the digest of all of them; one without cannot compute it and relies on the
//! profile id, which the release tests tie to the settings. Files are written beside their place and renamed, so any
//! number of processes may share a directory.
//!
//! What is checked is what is run: the code is copied into private memory of this process, where no other process can
//! change it any more; the MAC is taken of these bytes, and they are what the engine runs.

use std::{
    fs::{self, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use blake3::{Hash, Hasher};
use nix::fcntl::OFlag;
use pangolin_core::ids::Digest;
use wasmtime::{Engine, component::Component};

use crate::{
    code_memory::CodeMemory,
    compile::{self, CODE_BYTES_MAX, Compiler, not_compiled},
    engine::{Profile, engine_config_for, engine_id},
    failure::Failure,
    processor::Processor,
};

/// Name of the format.
pub(crate) const FORMAT: &str = "PNGAOT5";
const MAGIC: &[u8] = constcat::concat!(FORMAT, "\n").as_bytes();
const MAC_BYTES: usize = 32;

/// Magic, digest of the settings, MAC.
const HEADER_BYTES: usize = MAGIC.len() + 32 + MAC_BYTES;

/// What the key of the MAC is derived for.
const MAC_CONTEXT: &str = "pangolin 2026-11-21 plugin cache: native code";

/// Largest file in bytes.
const FILE_BYTES_MAX: u64 = CODE_BYTES_MAX + 4096;

/// Key of this installation. It never leaves the machine and is not printable.
#[derive(Clone)]
pub struct CacheKey([u8; 32]);

impl std::fmt::Debug for CacheKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("CacheKey(…)")
    }
}

impl CacheKey {
    /// A key from 32 random bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Reads the key file, or creates it with mode 0600 in a directory with mode 0700 (any number of processes may
    /// race).
    ///
    /// # Errors
    /// [`Failure::HostError`] names the file; [`Failure::Integrity`] when others may read or write it or it has not
    /// 32 bytes.
    pub fn load_or_create(path: &Path) -> Result<Self, Failure> {
        let problem = |error: io::Error| Failure::HostError {
            problem: format!("plugin cache key {}: {error}", path.display()),
        };
        if !path.try_exists().map_err(problem)? {
            let mut key = [0; 32];
            getrandom::fill(&mut key).map_err(|error| Failure::HostError {
                problem: format!("no random bytes for the plugin cache key: {error}"),
            })?;
            if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
                fs::DirBuilder::new().recursive(true).mode(0o700).create(parent).map_err(problem)?;
            }
            let temporary = temporary_name(path);
            write_new(&temporary, &[&key]).map_err(problem)?;
            // A link instead of a rename: whoever comes second keeps the first key.
            let linked = fs::hard_link(&temporary, path);
            fs::remove_file(&temporary).map_err(problem)?;
            match linked {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(problem(error)),
                _ => {}
            }
        }
        let bad = |what: &str| Failure::Integrity {
            problem: format!("plugin cache key {} {what}; remove it and it is made anew", path.display()),
        };
        let Some(file) = open_regular(path).map_err(problem)? else {
            return Err(bad("is not a regular file"));
        };
        if file.metadata().map_err(problem)?.permissions().mode() & 0o077 != 0 {
            return Err(bad("is accessible for others"));
        }
        let mut bytes = Vec::new();
        file.take(33).read_to_end(&mut bytes).map_err(problem)?;
        bytes.try_into().map(Self).map_err(|_| bad("does not have 32 bytes"))
    }
}

/// Where a loaded component came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LoadedFrom {
    /// From the cache.
    Cache,
    /// Compiled now, there was nothing.
    Compiled,
    /// Compiled now, because what was in the cache could not be trusted or used.
    Rebuilt,
}

/// What [`PluginHost::sweep_cache`](crate::PluginHost::sweep_cache) did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Swept {
    /// Files removed.
    pub removed: usize,
    /// Their bytes.
    pub bytes: u64,
}

/// Age from which a temporary file has no writer any more.
const TEMPORARY_AGE: Duration = Duration::from_secs(60 * 60);

/// A component that can be instantiated, and where it came from.
pub(crate) struct Native {
    pub(crate) component: Component,
    /// Where its code is, when that is not the engine's own memory. To be kept longer than the component.
    pub(crate) memory: Option<Arc<CodeMemory>>,
    pub(crate) from: LoadedFrom,
}

/// A directory of compiled components.
#[derive(Debug)]
pub struct Cache {
    dir: PathBuf,
    /// Of the MAC, derived from that of this installation.
    key: CacheKey,
    compiler: Compiler,
    /// Digest of the settings of each profile. Telling them takes longer than reading a small file.
    settings: [OnceLock<Option<Digest>>; 2],
    /// One compilation at a time: each may take gigabytes.
    compiling: Mutex<()>,
}

impl Cache {
    /// Opens the cache; creates `dir` with mode 0700.
    ///
    /// # Errors
    /// [`Failure::HostError`] names the directory; [`Failure::Integrity`] when others may write to it.
    pub fn open(dir: &Path, key: CacheKey) -> Result<Self, Failure> {
        let problem = |error: io::Error| Failure::HostError {
            problem: format!("plugin cache {}: {error}", dir.display()),
        };
        fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(problem)?;
        if fs::metadata(dir).map_err(problem)?.permissions().mode() & 0o022 != 0 {
            let name = dir.display();
            return Err(Failure::Integrity {
                problem: format!("others may write to the plugin cache {name}; run `chmod 700 {name}`"),
            });
        }
        Ok(Self {
            dir: dir.to_owned(),
            key: CacheKey(blake3::derive_key(MAC_CONTEXT, &key.0)),
            compiler: Compiler::default(),
            settings: Default::default(),
            compiling: Mutex::default(),
        })
    }

    pub(crate) fn with_compiler(self, compiler: Compiler) -> Self {
        Self { compiler, ..self }
    }

    /// The compiled component, from disk when there is an authentic file, else compiled and stored. That it cannot
    /// be stored is logged and does not stop anybody.
    pub(crate) fn component(
        &self,
        engine: &Engine,
        profile: Profile,
        digest: &Digest,
        wasm: &[u8],
    ) -> Result<Native, Failure> {
        let path = self.path(profile, Processor::HERE, digest);
        let mac = self.mac(profile, Processor::HERE, digest);
        let settings = *self.settings[profile as usize].get_or_init(|| settings(engine));
        let mut from = LoadedFrom::Compiled;
        if let Some(native) = stored(&path, engine, settings, &mac, &mut from) {
            return Ok(native);
        }
        let _one = self.compiling.lock().unwrap_or_else(PoisonError::into_inner);
        // Another thread or process may have been first.
        if let Some(native) = stored(&path, engine, settings, &mac, &mut LoadedFrom::Compiled) {
            return Ok(native);
        }
        let code = self.compile(engine, Processor::HERE, profile, wasm)?;
        // Loaded before it is stored: what does not load is not worth keeping.
        let component = deserialize(engine, &code).map_err(|error| {
            not_compiled(profile, format!("its native code does not load: {error}"), REBUILD)
        })?;
        if let Err(error) = store(&path, settings.unwrap_or(NO_SETTINGS), &mac, &code) {
            tracing::warn!(path = %path.display(), %error, "compiled plugin cannot be cached");
        }
        Ok(Native { component, memory: None, from })
    }

    /// Compiles for another processor and stores the code, which cannot be loaded here. The program that loads it checks that
    /// its engine takes it, as every program does.
    pub(crate) fn compile_for(
        &self,
        processor: Processor,
        profile: Profile,
        digest: &Digest,
        wasm: &[u8],
    ) -> Result<(), Failure> {
        let _one = self.compiling.lock().unwrap_or_else(PoisonError::into_inner);
        let engine = foreign_engine(profile, processor).map_err(|problem| {
            not_compiled(profile, problem, "compile it on a machine with that processor")
        })?;
        let code = self.compile(&engine, processor, profile, wasm)?;
        let path = self.path(profile, processor, digest);
        let settings = settings(&engine).unwrap_or(NO_SETTINGS);
        store(&path, settings, &self.mac(profile, processor, digest), &code).map_err(|error| {
            Failure::HostError { problem: format!("compiled plugin {}: {error}", path.display()) }
        })
    }

    fn path(&self, profile: Profile, processor: Processor, digest: &Digest) -> PathBuf {
        self.dir.join(format!("{}-{}", digest.hex(), suffix(profile, processor)))
    }

    /// `engine` is one for `processor`.
    #[cfg_attr(
        not(feature = "compile"),
        expect(unused_variables, reason = "for the compiler in this process")
    )]
    fn compile(
        &self,
        engine: &Engine,
        processor: Processor,
        profile: Profile,
        wasm: &[u8],
    ) -> Result<Vec<u8>, Failure> {
        match &self.compiler {
            Compiler::Child(command) => compile::in_child(command, processor, profile, wasm, &self.dir),
            #[cfg(feature = "compile")]
            Compiler::InProcess => {
                crate::compile_child::compile_with(engine, wasm).map_err(|(_, problem)| {
                    not_compiled(profile, problem, "check the file with `wasm-tools validate`")
                })
            }
            Compiler::Never => {
                let problem = "it is not in the cache and this program does not compile".to_owned();
                Err(not_compiled(profile, problem, REBUILD))
            }
        }
    }

    /// See [`PluginHost::sweep_cache`](crate::PluginHost::sweep_cache).
    pub(crate) fn sweep(&self) -> Result<Swept, Failure> {
        let problem = |path: &Path, error: io::Error| Failure::HostError {
            problem: format!("plugin cache {}: {error}", path.display()),
        };
        let current = [Profile::Pure, Profile::Effect].map(|profile| suffix(profile, Processor::HERE));
        let mut swept = Swept::default();
        for entry in fs::read_dir(&self.dir).map_err(|error| problem(&self.dir, error))? {
            let entry = entry.map_err(|error| problem(&self.dir, error))?;
            let (path, name) = (entry.path(), entry.file_name());
            let name = name.to_string_lossy();
            // Somebody else may sweep too.
            let Ok(metadata) = entry.metadata() else { continue };
            let old = metadata
                .modified()
                .ok()
                .and_then(|at| at.elapsed().ok())
                .is_some_and(|age| age > TEMPORARY_AGE);
            let stale = match name.rsplit_once('.') {
                Some((_, "aot")) => !current.iter().any(|suffix| name.ends_with(suffix.as_str())),
                Some((_, "tmp")) => old,
                _ => false,
            };
            if !stale {
                continue;
            }
            let removed = if metadata.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
            match removed {
                Ok(()) => {
                    swept.removed += 1;
                    swept.bytes += if metadata.is_dir() { 0 } else { metadata.len() };
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(problem(&path, error)),
            }
        }
        Ok(swept)
    }

    fn mac(&self, profile: Profile, processor: Processor, component: &Digest) -> Mac<'_> {
        Mac { key: &self.key, engine: engine_identity(profile, processor), component: *component }
    }
}

/// The MAC of a file, but for its code and settings.
struct Mac<'a> {
    key: &'a CacheKey,
    engine: Digest,
    component: Digest,
}

impl Mac<'_> {
    /// To be fed with the code.
    fn start(&self) -> Hasher {
        Hasher::new_keyed(&self.key.0)
    }

    /// After the code.
    fn end(&self, mut code: Hasher, settings: &[u8; 32]) -> Hash {
        for part in [MAGIC, self.engine.as_bytes(), self.component.as_bytes(), settings] {
            code.update(part);
        }
        code.finalize()
    }
}

const REBUILD: &str = "run `pangolin plugin rebuild` with this version where a compiler is";

/// An engine that compiles for another processor.
fn foreign_engine(profile: Profile, processor: Processor) -> Result<Engine, String> {
    Engine::new(&engine_config_for(profile, processor))
        .map_err(|error| format!("this program does not compile for {}: {error:#}", processor.name()))
}

/// End of the file names of this engine, a profile and a processor.
fn suffix(profile: Profile, processor: Processor) -> String {
    format!("{}-{}.aot", profile.name(), &engine_identity(profile, processor).hex()[..16])
}

/// What must be equal for compiled code to be looked at: engine version, settings, processor family. Settings that
/// differ under the same profile id (a build with other features, say) are found by the engine when it loads the code.
fn engine_identity(profile: Profile, processor: Processor) -> Digest {
    Digest::of(format!("{}\n{}\n{}\n", engine_id(), profile.id(), processor.name()).as_bytes())
}

/// The component in an authentic file; notes in `from` when there is one that is not good.
fn stored(
    path: &Path,
    engine: &Engine,
    settings: Option<Digest>,
    mac: &Mac<'_>,
    from: &mut LoadedFrom,
) -> Option<Native> {
    match read(path) {
        Ok(file) => match load(engine, settings, mac, &file) {
            Ok(component) => {
                let memory = Some(Arc::new(file.code));
                return Some(Native { component, memory, from: LoadedFrom::Cache });
            }
            Err(reason) => {
                tracing::warn!(path = %path.display(), reason, "compiled plugin is rebuilt");
                *from = LoadedFrom::Rebuilt;
            }
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => {
            tracing::warn!(path = %path.display(), %error, "compiled plugin cannot be read");
            *from = LoadedFrom::Rebuilt;
        }
    }
    None
}

/// A file of the cache, nothing of it checked.
struct Stored {
    header: [u8; HEADER_BYTES],
    code: CodeMemory,
}

/// Opens a file that somebody may have replaced; `None` for what is none. Opening a pipe would wait for a writer.
fn open_regular(path: &Path) -> io::Result<Option<fs::File>> {
    let flags = (OFlag::O_NONBLOCK | OFlag::O_NOCTTY).bits();
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    Ok(file.metadata()?.is_file().then_some(file))
}

fn read(path: &Path) -> io::Result<Stored> {
    let mut file = open_regular(path)?.ok_or_else(|| io::Error::other("it is not a regular file"))?;
    let size = file.metadata()?.len();
    if size > FILE_BYTES_MAX {
        return Err(io::Error::other(format!("file has {size} bytes, more than {FILE_BYTES_MAX}")));
    }
    let mut header = [0; HEADER_BYTES];
    file.read_exact(&mut header)?;
    let code = usize::try_from(size).unwrap_or(usize::MAX).saturating_sub(HEADER_BYTES);
    Ok(Stored { header, code: CodeMemory::read(&file, code)? })
}

/// Stored by a program that cannot compute it. It is nobody's digest, so who can compute it rebuilds.
const NO_SETTINGS: Digest = Digest::from_bytes([0; 32]);

/// Everything that decides about native code, as a digest; `None` without a compiler.
#[cfg(feature = "compile")]
fn settings(engine: &Engine) -> Option<Digest> {
    use std::hash::{Hash as _, Hasher};
    struct Sink(Vec<u8>);
    impl Hasher for Sink {
        fn write(&mut self, bytes: &[u8]) {
            self.0.extend_from_slice(bytes);
        }
        fn finish(&self) -> u64 {
            // Only the bytes are used.
            0
        }
    }
    let mut sink = Sink(Vec::new());
    engine.precompile_compatibility_hash().hash(&mut sink);
    Some(Digest::of(&sink.0))
}

#[cfg(not(feature = "compile"))]
fn settings(_: &Engine) -> Option<Digest> {
    None
}

fn load(
    engine: &Engine,
    settings: Option<Digest>,
    mac: &Mac<'_>,
    file: &Stored,
) -> Result<Component, String> {
    let rest = file.header.strip_prefix(MAGIC).ok_or("not a cache file of this version")?;
    let (found, tag) = rest.split_at(32);
    let found: &[u8; 32] = found.try_into().map_err(|_| "file is too short")?;
    let mut code = mac.start();
    code.update(file.code.bytes());
    let tag: [u8; MAC_BYTES] = tag.try_into().map_err(|_| "file is too short")?;
    // This comparison takes the same time wherever the difference is.
    if mac.end(code, found) != tag {
        return Err("its MAC does not match: it was not written by this installation".into());
    }
    if settings.is_some_and(|settings| settings.as_bytes() != found) {
        return Err("it was compiled with other settings".into());
    }
    #[expect(
        unsafe_code,
        reason = "loading native code; only bytes that this installation compiled get here"
    )]
    // SAFETY: these very bytes (of this process alone, so that nobody can change them) came out of the compiler of this
    // installation, which the MAC under our key proves. `Native` keeps the memory beside the component, and what is made
    // of it does so as well.
    unsafe { file.code.component(engine) }.map_err(|error| format!("{error:#}"))
}

fn deserialize(engine: &Engine, code: &[u8]) -> Result<Component, String> {
    #[expect(
        unsafe_code,
        reason = "loading native code; only bytes that this installation compiled get here"
    )]
    // SAFETY: these very bytes, held in memory, came out of the compiler of this installation just now.
    unsafe { Component::deserialize(engine, code) }.map_err(|error| format!("{error:#}"))
}

fn store(path: &Path, settings: Digest, mac: &Mac<'_>, code: &[u8]) -> io::Result<()> {
    let mut hasher = mac.start();
    hasher.update(code);
    let tag = mac.end(hasher, settings.as_bytes());
    let temporary = temporary_name(path);
    let written = write_new(&temporary, &[MAGIC, settings.as_bytes(), tag.as_bytes(), code])
        .and_then(|()| fs::rename(&temporary, path));
    if written.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    written
}

fn temporary_name(path: &Path) -> PathBuf {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{}.{}.tmp", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed)));
    name.into()
}

fn write_new(path: &Path, parts: &[&[u8]]) -> io::Result<()> {
    let _ = fs::remove_file(path);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    for part in parts {
        file.write_all(part)?;
    }
    file.sync_all()
}
