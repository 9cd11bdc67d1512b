//! The deployment's signing key: created once with mode 0600, named by the origin of the deployment log.

use std::{
    fs,
    io::Write as _,
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    sync::Arc,
};

use pangolin_audit::note::{NoteError, SigningKey};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::dispatch::ResultKeys;

/// Largest key file in bytes.
const KEY_BYTES_MAX: u64 = 64 << 10;

/// Why the key cannot be used.
#[derive(Debug, Error)]
pub enum KeyError {
    /// There is none.
    #[error("no signing key at {0}; run `pangolin init`")]
    Missing(PathBuf),
    /// There is none for the sender.
    #[error("no sender's key at {0}; `pangolin sender new <name> --out {0}` makes one")]
    NoSender(PathBuf),
    /// There is one already.
    #[error(
        "a signing key exists at {0}; it is never replaced, because every record signed with it would lose its key"
    )]
    Exists(PathBuf),
    /// Others can read it.
    #[error("signing key {path} has mode {mode:o}; make it private: chmod 600 {path}")]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// Not a key file.
    #[error("signing key {path} is malformed: {problem}")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// The file cannot be read or written.
    #[error("cannot access signing key {path}")]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The name cannot be used in a signed note.
    #[error("the origin cannot be used as a key name")]
    Name(#[source] NoteError),
}

/// The key of a deployment and what is derived from it.
#[derive(Clone)]
pub struct DeploymentKey {
    /// Signs the deployment log.
    pub signing: Arc<SigningKey>,
    /// Keys of dispatches.
    pub results: ResultKeys,
}

impl std::fmt::Debug for DeploymentKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "DeploymentKey({})", self.signing.verifier_key())
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct KeyFile {
    /// Origin of the deployment log.
    name: String,
    /// Ed25519 seed, 64 hex digits.
    seed: String,
}

fn path(state: &Path) -> PathBuf {
    state.join("keys/deployment.key")
}

/// Creates the key of a new deployment; the origin is `pangolin.<namespace>/<16 random hex digits>`.
///
/// # Errors
/// [`KeyError::Exists`] when there is one.
pub fn create(state: &Path, namespace: &str) -> Result<DeploymentKey, KeyError> {
    let path = path(state);
    let io = |source| KeyError::Io { path: path.clone(), source };
    let mut random = [0u8; 40];
    getrandom::fill(&mut random).map_err(|error| io(std::io::Error::other(error.to_string())))?;
    let (tag, seed) = random.split_at(8);
    let name = format!("pangolin.{namespace}/{}", hex(tag));
    let file = KeyFile { name, seed: hex(seed) };
    fs::create_dir_all(state.join("keys")).map_err(io)?;
    write_new(&path, &file)?;
    let key = open(&path, &file)?;
    let public = state.join("keys/deployment.vkey");
    fs::write(&public, format!("{}\n", key.signing.verifier_key()))
        .map_err(|source| KeyError::Io { path: public, source })?;
    Ok(key)
}

fn write_new(path: &Path, file: &KeyFile) -> Result<(), KeyError> {
    let io = |source| KeyError::Io { path: path.to_owned(), source };
    let opened = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    let mut out = match opened {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            return Err(KeyError::Exists(path.to_owned()));
        }
        other => other.map_err(io)?,
    };
    let text = serde_json::to_string(file).unwrap_or_default();
    out.write_all(text.as_bytes()).and_then(|()| out.sync_all()).map_err(io)
}

/// Creates a key for a sender of messages in a file that must not exist; it is for whoever holds the file.
///
/// # Errors
/// [`KeyError::Exists`] when the file is there.
pub fn create_sender(path: &Path, name: &str) -> Result<SigningKey, KeyError> {
    let io = |source| KeyError::Io { path: path.to_owned(), source };
    let mut seed = [0u8; 32];
    getrandom::fill(&mut seed).map_err(|error| io(std::io::Error::other(error.to_string())))?;
    let key = SigningKey::from_seed(name, &seed).map_err(KeyError::Name)?;
    write_new(path, &KeyFile { name: name.to_owned(), seed: hex(&seed) })?;
    Ok(key)
}

/// Loads the key of a sender.
///
/// # Errors
/// [`KeyError`]; a key that others can read is refused.
pub fn load_sender(path: &Path) -> Result<Arc<SigningKey>, KeyError> {
    let text = read_private(path).map_err(|error| match error {
        KeyError::Missing(path) => KeyError::NoSender(path),
        other => other,
    })?;
    Ok(parse(path, &text)?.signing)
}

/// Loads the key.
///
/// # Errors
/// [`KeyError`]; a key that others can read is refused.
pub fn load(state: &Path) -> Result<DeploymentKey, KeyError> {
    let path = path(state);
    let text = read_private(&path)?;
    parse(&path, &text)
}

fn read_private(path: &Path) -> Result<String, KeyError> {
    let path = path.to_owned();
    let io = |source| KeyError::Io { path: path.clone(), source };
    let meta = match fs::metadata(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Err(KeyError::Missing(path)),
        other => other.map_err(io)?,
    };
    let mode = meta.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(KeyError::Exposed { path, mode });
    }
    pangolin_plugin_authority::read_regular_text(&path, KEY_BYTES_MAX).map_err(io)
}

/// Reads a key from the text of a key file. `path` is for messages.
///
/// # Errors
/// [`KeyError::Malformed`], [`KeyError::Name`].
pub fn parse(path: &Path, text: &str) -> Result<DeploymentKey, KeyError> {
    let file: KeyFile = serde_json::from_str(text)
        .map_err(|error| KeyError::Malformed { path: path.to_owned(), problem: place(&error) })?;
    open(path, &file)
}

/// Where the JSON is wrong. serde's own words may repeat a value, and the value may be the seed.
fn place(error: &serde_json::Error) -> String {
    let what = if error.is_data() { "not a key file of this program" } else { "not JSON" };
    format!("{what} (line {}, column {})", error.line(), error.column())
}

/// Whether these bytes are a signing key as [`create`] writes it. Such a file must not be shown, sent or stored
/// anywhere, whatever it was handed over as.
#[must_use]
pub fn is_signing_key(bytes: &[u8]) -> bool {
    serde_json::from_slice::<KeyFile>(bytes).is_ok_and(|file| decode(&file.seed).is_some())
}

fn decode(seed: &str) -> Option<[u8; 32]> {
    if seed.len() != 64 || !seed.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let mut bytes = [0u8; 32];
    for (byte, at) in bytes.iter_mut().zip((0..64).step_by(2)) {
        *byte = u8::from_str_radix(&seed[at..at + 2], 16).ok()?;
    }
    Some(bytes)
}

fn open(path: &Path, file: &KeyFile) -> Result<DeploymentKey, KeyError> {
    let malformed =
        || KeyError::Malformed { path: path.to_owned(), problem: "seed is not 64 hex digits".to_owned() };
    let seed = decode(&file.seed).ok_or_else(malformed)?;
    let signing = SigningKey::from_seed(&file.name, &seed).map_err(KeyError::Name)?;
    Ok(DeploymentKey { signing: Arc::new(signing), results: ResultKeys::of_deployment(&seed) })
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use pangolin_core::ids::DispatchId;

    use super::*;

    #[test]
    fn a_key_is_private_persistent_and_never_replaced() {
        let dir = tempfile::tempdir().unwrap();
        assert!(matches!(load(dir.path()), Err(KeyError::Missing(_))));
        let made = create(dir.path(), "n").unwrap();
        let loaded = load(dir.path()).unwrap();
        assert_eq!(loaded.signing.verifier_key().to_string(), made.signing.verifier_key().to_string());
        let dispatch = DispatchId::new("d-1").unwrap();
        assert_eq!(loaded.results.of(&dispatch), made.results.of(&dispatch));
        assert!(matches!(create(dir.path(), "n"), Err(KeyError::Exists(_))));
        let file = path(dir.path());
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(load(dir.path()), Err(KeyError::Exposed { mode: 0o640, .. })));
    }

    #[test]
    fn a_damaged_key_file_is_not_repeated() {
        let dir = tempfile::tempdir().unwrap();
        create(dir.path(), "n").unwrap();
        let file = path(dir.path());
        let good = fs::read_to_string(&file).unwrap();
        assert!(is_signing_key(good.as_bytes()));
        assert!(!is_signing_key(br#"{"name":"n","seed":"42"}"#));
        let seed = good.split('"').nth(7).unwrap().to_owned();
        assert_eq!(seed.len(), 64);
        for damaged in [
            seed.clone(),
            format!("\"{seed}\""),
            format!("{{\"name\":\"n\",\"{seed}\":1}}"),
            format!("{{\"name\":\"n\",\"seed\":[\"{seed}\"]}}"),
            format!("{{\"name\":\"n\",\"seed\":\"{seed}0\"}}"),
        ] {
            fs::write(&file, &damaged).unwrap();
            let error = load(dir.path()).unwrap_err();
            assert!(matches!(error, KeyError::Malformed { .. }), "{error:?}");
            for shown in [error.to_string(), format!("{error:?}")] {
                assert!(!shown.contains(&seed[..8]), "{shown}");
            }
        }
    }
}
