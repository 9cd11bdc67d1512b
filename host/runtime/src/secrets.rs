//! Secret references and the local secret store. Values go into one dispatch's `secrets.json` and nowhere else.

use std::{
    io::Write as _,
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use pangolin_core::ids::RunId;
use pangolin_plugin_authority::read_regular;
use thiserror::Error;

/// Largest secret value in bytes (the limit of AWS Secrets Manager, so that a plan moves to the cloud unchanged).
pub const SECRET_BYTES_MAX: u64 = 64 << 10;

/// Why a secret cannot be used. Never contains a value.
#[derive(Debug, Error)]
pub enum SecretError {
    /// Not one of the known forms.
    #[error(
        "the text (not shown, it may be the secret itself) is not a secret reference; expected env://NAME, \
         file:///absolute/path or local-secret://name"
    )]
    BadReference,
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
}

impl SecretRef {
    /// Parses `env://NAME`, `file:///path` or `local-secret://name`.
    ///
    /// # Errors
    /// [`SecretError::BadReference`].
    pub fn parse(text: &str) -> Result<Self, SecretError> {
        let bad = || SecretError::BadReference;
        if let Some(name) = text.strip_prefix("env://") {
            return if is_variable_name(name) { Ok(Self::Variable(name.to_owned())) } else { Err(bad()) };
        }
        if let Some(path) = text.strip_prefix("file://") {
            return if path.starts_with('/') { Ok(Self::File(path.into())) } else { Err(bad()) };
        }
        let name = text.strip_prefix("local-secret://").ok_or_else(bad)?;
        RunId::new(name).map_err(|_| bad())?;
        Ok(Self::Local(name.to_owned()))
    }

    /// The value, with one trailing newline removed from files.
    ///
    /// # Errors
    /// [`SecretError`] names the reference, never the value.
    pub fn resolve(&self, secret_dir: &Path) -> Result<String, SecretError> {
        match self {
            Self::Variable(name) => std::env::var(name).map_err(|_| SecretError::NoVariable(name.clone())),
            Self::File(path) => read_private(path),
            Self::Local(name) => read_private(&secret_dir.join(name)),
        }
    }
}

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

    #[test]
    fn references_are_checked_and_values_must_be_private() {
        assert!(SecretRef::parse("env://1X").is_err());
        assert!(SecretRef::parse("local-secret://../x").is_err());
        assert!(SecretRef::parse("vault://x").is_err());
        let dir = tempfile::tempdir().unwrap();
        let reference = store_local(dir.path(), "token", "s3cret\n").unwrap();
        assert_eq!(SecretRef::parse(&reference).unwrap().resolve(dir.path()).unwrap(), "s3cret");
        std::fs::set_permissions(dir.path().join("token"), std::fs::Permissions::from_mode(0o644)).unwrap();
        let error = SecretRef::parse(&reference).unwrap().resolve(dir.path()).unwrap_err();
        assert!(matches!(error, SecretError::Exposed { mode: 0o644, .. }));
    }

    #[test]
    fn credentials_are_recognised_but_prose_is_not() {
        assert!(looks_like_credential("token=ghp_0123456789abcdef0123").is_some());
        assert!(looks_like_credential("ask-me-anything about sk- prefixes").is_none());
    }
}
