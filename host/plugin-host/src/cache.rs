//! Compiled components on disk. Loading native code is trusting it, so every file carries a MAC under the key of
//! this installation. A file that does not fit (other engine, other bytes, wrong MAC) is rebuilt, never run.
//!
//! Format of a file `<component sha256>-<profile>-<engine>.aot`: 8 bytes magic, 32 bytes HMAC-SHA256, native code.
//! The MAC covers the magic, the profile, the engine's compatibility hash, the component's digest and the code.

use std::{
    fs::{self, OpenOptions},
    hash::{Hash, Hasher},
    io::{self, Read, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

use hmac::{Hmac, KeyInit, Mac};
use pangolin_core::ids::Digest;
use sha2::{Digest as _, Sha256};
use wasmtime::{Engine, component::Component};

use crate::{engine::Profile, failure::Failure};

const MAGIC: &[u8; 8] = b"PNGAOT1\n";
const MAC_BYTES: usize = 32;

/// Largest compiled file in bytes: a 20 MB component becomes about 70 MB of code.
const FILE_BYTES_MAX: u64 = 256 << 20;

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
        let file = fs::File::open(path).map_err(problem)?;
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

/// A directory of compiled components.
#[derive(Debug, Clone)]
pub struct Cache {
    dir: PathBuf,
    key: CacheKey,
}

impl Cache {
    /// Opens the cache; creates `dir` with mode 0700.
    ///
    /// # Errors
    /// [`Failure::HostError`] names the directory.
    pub fn open(dir: &Path, key: CacheKey) -> Result<Self, Failure> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(|error| {
            Failure::HostError { problem: format!("plugin cache {}: {error}", dir.display()) }
        })?;
        Ok(Self { dir: dir.to_owned(), key })
    }

    /// The compiled component, from disk when there is an authentic file, else compiled and stored. That it cannot
    /// be stored is logged and does not stop anybody.
    pub(crate) fn component(
        &self,
        engine: &Engine,
        profile: Profile,
        digest: &Digest,
        wasm: &[u8],
    ) -> Result<(Component, LoadedFrom), Failure> {
        let identity = engine_identity(engine);
        let engine_short = &identity.hex()[..16];
        let path = self.dir.join(format!("{}-{}-{engine_short}.aot", digest.hex(), profile.name()));
        let mac = self.mac(profile, &identity, digest);
        let mut from = LoadedFrom::Compiled;
        match read(&path) {
            Ok(file) => match load(engine, mac.clone(), &file) {
                Ok(component) => return Ok((component, LoadedFrom::Cache)),
                Err(reason) => {
                    tracing::warn!(path = %path.display(), reason, "compiled plugin is rebuilt");
                    from = LoadedFrom::Rebuilt;
                }
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => tracing::warn!(path = %path.display(), %error, "compiled plugin cannot be read"),
        }
        let component = compile(engine, wasm)?;
        let code =
            component.serialize().map_err(|error| Failure::HostError { problem: format!("{error:#}") })?;
        if let Err(error) = store(&path, mac, &code) {
            tracing::warn!(path = %path.display(), %error, "compiled plugin cannot be cached");
        }
        Ok((component, from))
    }

    fn mac(&self, profile: Profile, engine: &Digest, component: &Digest) -> Hmac<Sha256> {
        // HMAC takes a key of any length.
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.key.0).expect("HMAC accepts every key length");
        for part in [&MAGIC[..], profile.name().as_bytes(), b"\0", engine.as_bytes(), component.as_bytes()] {
            mac.update(part);
        }
        mac
    }
}

#[cfg(feature = "compile")]
fn compile(engine: &Engine, wasm: &[u8]) -> Result<Component, Failure> {
    Component::from_binary(engine, wasm)
        .map_err(|error| Failure::NotCompiled { problem: format!("{error:#}") })
}

#[cfg(not(feature = "compile"))]
fn compile(_: &Engine, _: &[u8]) -> Result<Component, Failure> {
    Err(Failure::NotCompiled {
        problem: "this program has no compiler; it only runs what the host compiled ahead of time".into(),
    })
}

/// Everything that decides whether an engine can load compiled code, as a digest.
fn engine_identity(engine: &Engine) -> Digest {
    struct Sink(Sha256);
    impl Hasher for Sink {
        fn write(&mut self, bytes: &[u8]) {
            self.0.update(bytes);
        }
        fn finish(&self) -> u64 {
            // Only the digest is used.
            0
        }
    }
    let mut sink = Sink(Sha256::new());
    engine.precompile_compatibility_hash().hash(&mut sink);
    Digest::from_bytes(sink.0.finalize().into())
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let file = fs::File::open(path)?;
    let mut bytes = Vec::new();
    if file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes)? as u64 > FILE_BYTES_MAX {
        return Err(io::Error::other("file is too large"));
    }
    Ok(bytes)
}

fn load(engine: &Engine, mut mac: Hmac<Sha256>, file: &[u8]) -> Result<Component, String> {
    let rest = file.strip_prefix(MAGIC).ok_or("not a cache file")?;
    let (tag, code) = rest.split_at_checked(MAC_BYTES).ok_or("file is too short")?;
    mac.update(code);
    mac.verify_slice(tag).map_err(|_| "its MAC does not match: it was not written by this installation")?;
    #[expect(
        unsafe_code,
        reason = "loading native code; only bytes that this installation compiled get here"
    )]
    // SAFETY: the MAC under our key proves that these very bytes (held in memory, not mapped from a file that may
    // change) came out of `Component::serialize` for this component and an engine of equal settings.
    unsafe { Component::deserialize(engine, code) }.map_err(|error| format!("{error:#}"))
}

fn store(path: &Path, mut mac: Hmac<Sha256>, code: &[u8]) -> io::Result<()> {
    mac.update(code);
    let tag = mac.finalize().into_bytes();
    let temporary = temporary_name(path);
    let written = write_new(&temporary, &[MAGIC, &tag, code]).and_then(|()| fs::rename(&temporary, path));
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
