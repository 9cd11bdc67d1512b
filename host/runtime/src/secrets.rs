//! Secret references and the local secret store. Values go into one dispatch's `secrets.json` and nowhere else.

use std::{
    io::Write as _,
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use async_trait::async_trait;
use pangolin_core::ids::RunId;
use pangolin_plugin_authority::read_regular;
use thiserror::Error;

/// Largest secret value in bytes (the limit of AWS Secrets Manager, so that a plan moves to the cloud unchanged).
pub const SECRET_BYTES_MAX: u64 = 64 << 10;

/// Name of a stack's signing key below the stack's prefix. The tick can read it, so that it may not be what an item asks for.
/// Also without a stack, so that a reference means the same everywhere.
const SIGNING_KEY: &str = "deployment-key";

/// Why a secret cannot be used. Never contains a value.
#[derive(Debug, Error)]
pub enum SecretError {
    /// Not one of the known forms.
    #[error(
        "the text (not shown, it may be the secret itself) is not a secret reference; expected env://NAME, \
         file:///absolute/path, local-secret://name or aws-secret://name"
    )]
    BadReference,
    /// Names what the deployment itself lives by.
    #[error("aws-secret://{0} is the signing key of the stack and no item may have it; name another secret")]
    Reserved(String),
    /// The variable is not set in the daemon's environment.
    #[error("environment variable {0} is not set where `pangolin orch serve` runs")]
    NoVariable(String),
    /// The file cannot be read.
    #[error("cannot read secret file {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Other users can read the file.
    #[error("secret file {path} has mode {mode:o}; make it unreadable for others: chmod 600 {path}")]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// This deployment has no such store.
    #[error("{reference} cannot be used here: {hint}")]
    Elsewhere {
        /// The reference.
        reference: String,
        /// What to use instead.
        hint: &'static str,
    },
    /// The store does not know it or did not give it away.
    #[error("secret {name} cannot be read from its store")]
    Store {
        /// Its full name there.
        name: String,
        /// Asking again may help.
        passing: bool,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Larger than [`SECRET_BYTES_MAX`] or not UTF-8.
    #[error("secret {0} is larger than 64 KiB or not UTF-8 text")]
    BadValue(String),
}

/// Where a value comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SecretRef {
    /// A variable of the daemon's environment.
    Variable(String),
    /// A file with mode 0600 or stricter.
    File(PathBuf),
    /// A file in the deployment's secret directory.
    Local(String),
    /// A secret of the stack in AWS Secrets Manager, below the stack's prefix.
    Aws(String),
}

/// Where the values behind references are.
#[async_trait]
pub trait Secrets: Send + Sync {
    /// The value.
    ///
    /// # Errors
    /// [`SecretError`] names the reference, never the value.
    async fn value(&self, reference: &SecretRef) -> Result<String, SecretError>;
}

/// Environment, files and the directory of a local deployment.
#[derive(Debug, Clone)]
pub struct LocalSecrets {
    /// Directory behind `local-secret://`.
    pub dir: PathBuf,
}

#[async_trait]
impl Secrets for LocalSecrets {
    async fn value(&self, reference: &SecretRef) -> Result<String, SecretError> {
        match reference {
            SecretRef::Variable(name) => {
                std::env::var(name).map_err(|_| SecretError::NoVariable(name.clone()))
            }
            SecretRef::File(path) => read_private(path),
            SecretRef::Local(name) => read_private(&self.dir.join(name)),
            SecretRef::Aws(name) => Err(SecretError::Elsewhere {
                reference: format!("aws-secret://{name}"),
                hint: "a daemon of this machine reads env://, file:// and local-secret:// only",
            }),
        }
    }
}

impl SecretRef {
    /// Parses `env://NAME`, `file:///path`, `local-secret://name` or `aws-secret://name`.
    ///
    /// # Errors
    /// [`SecretError::BadReference`], [`SecretError::Reserved`].
    pub fn parse(text: &str) -> Result<Self, SecretError> {
        let bad = || SecretError::BadReference;
        if let Some(name) = text.strip_prefix("env://") {
            return if is_variable_name(name) { Ok(Self::Variable(name.to_owned())) } else { Err(bad()) };
        }
        if let Some(path) = text.strip_prefix("file://") {
            return if path.starts_with('/') { Ok(Self::File(path.into())) } else { Err(bad()) };
        }
        let (store, name): (fn(String) -> Self, _) = match text.split_once("://") {
            Some(("local-secret", name)) => (Self::Local, name),
            Some(("aws-secret", name)) => (Self::Aws, name),
            _ => return Err(bad()),
        };
        RunId::new(name).map_err(|_| bad())?;
        match store(name.to_owned()) {
            Self::Aws(name) if name == SIGNING_KEY => Err(SecretError::Reserved(name)),
            reference => Ok(reference),
        }
    }
}

/// The text of a private file, without one trailing newline.
fn read_private(path: &Path) -> Result<String, SecretError> {
    let read = |source| SecretError::Read { path: path.to_owned(), source };
    let meta = std::fs::metadata(path).map_err(read)?;
    let mode = meta.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(SecretError::Exposed { path: path.to_owned(), mode });
    }
    if meta.len() > SECRET_BYTES_MAX {
        return Err(SecretError::BadValue(path.display().to_string()));
    }
    let mut text = String::from_utf8(read_regular(path, SECRET_BYTES_MAX).map_err(read)?)
        .map_err(|_| SecretError::BadValue(path.display().to_string()))?;
    if text.ends_with('\n') {
        text.pop();
    }
    Ok(text)
}

/// Stores a value under `local-secret://name` (mode 0600), replacing an older one.
///
/// # Errors
/// [`SecretError`].
pub fn store_local(secret_dir: &Path, name: &str, value: &str) -> Result<String, SecretError> {
    let reference = format!("local-secret://{name}");
    SecretRef::parse(&reference)?;
    let path = secret_dir.join(name);
    let failed = |source| SecretError::Read { path: path.clone(), source };
    std::fs::create_dir_all(secret_dir).map_err(failed)?;
    let temp = secret_dir.join(format!(".{name}.new"));
    let _ = std::fs::remove_file(&temp);
    let mut file =
        std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temp).map_err(failed)?;
    file.write_all(value.as_bytes()).and_then(|()| file.sync_all()).map_err(failed)?;
    std::fs::rename(&temp, &path).map_err(failed)?;
    Ok(reference)
}

/// Whether `name` can be an environment variable: letters, digits and `_`, not starting with a digit.
#[must_use]
pub fn is_variable_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= 256
        && !name.as_bytes()[0].is_ascii_digit()
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

/// Whether a variable says something about the worker, which only the worker may do. `PANGOLIN_CLAUDE_…` are settings
/// of an adapter and anybody's to choose.
#[must_use]
pub fn is_reserved_variable(name: &str) -> bool {
    name.starts_with("PANGOLIN_") && !name.starts_with("PANGOLIN_CLAUDE_")
}

/// Recognises well-known credential shapes by their documented prefixes.
#[must_use]
pub fn looks_like_credential(text: &str) -> Option<&'static str> {
    const PREFIXES: [(&str, &str); 12] = [
        ("AKIA", "an AWS access key"),
        ("ASIA", "an AWS session key"),
        ("ghp_", "a GitHub token"),
        ("gho_", "a GitHub token"),
        ("github_pat_", "a GitHub token"),
        ("glpat-", "a GitLab token"),
        ("sk-ant-", "an Anthropic key"),
        ("sk-", "an API key"),
        ("AIza", "a Google API key"),
        ("xoxb-", "a Slack token"),
        ("sk_live_", "a Stripe key"),
        ("eyJhbGciOi", "a JSON web token"),
    ];
    if text.contains("PRIVATE KEY-----") {
        return Some("a private key");
    }
    text.split(|c: char| c.is_whitespace() || matches!(c, '"' | '\'' | '=' | ',' | ';')).find_map(|word| {
        PREFIXES
            .iter()
            .find(|(prefix, _)| word.starts_with(prefix) && word.len() >= prefix.len() + 16)
            .map(|(_, what)| *what)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn references_are_checked_and_values_must_be_private() {
        assert!(SecretRef::parse("env://1X").is_err());
        assert!(SecretRef::parse("local-secret://../x").is_err());
        assert!(SecretRef::parse("vault://x").is_err());
        let key = SecretRef::parse("aws-secret://deployment-key").unwrap_err();
        assert!(matches!(key, SecretError::Reserved(_)), "{key}");
        let dir = tempfile::tempdir().unwrap();
        let reference = store_local(dir.path(), "token", "s3cret\n").unwrap();
        let secrets = LocalSecrets { dir: dir.path().to_owned() };
        let reference = SecretRef::parse(&reference).unwrap();
        assert_eq!(secrets.value(&reference).await.unwrap(), "s3cret");
        let elsewhere = secrets.value(&SecretRef::parse("aws-secret://token").unwrap()).await.unwrap_err();
        assert!(matches!(elsewhere, SecretError::Elsewhere { .. }));
        std::fs::set_permissions(dir.path().join("token"), std::fs::Permissions::from_mode(0o644)).unwrap();
        let error = secrets.value(&reference).await.unwrap_err();
        assert!(matches!(error, SecretError::Exposed { mode: 0o644, .. }));
    }

    #[test]
    fn credentials_are_recognised_but_prose_is_not() {
        assert!(looks_like_credential("token=ghp_0123456789abcdef0123").is_some());
        assert!(looks_like_credential("ask-me-anything about sk- prefixes").is_none());
    }
}
