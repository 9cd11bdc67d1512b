//! Setting up a deployment.

use std::path::{Path, PathBuf};

use pangolin_blob_fs::FsBlobStore;
use pangolin_core::ids::RunId;
use pangolin_inbox_dir::DirInbox;
use pangolin_store_sqlite::{Options, SqliteRunStore};

use super::RuntimeError;
use crate::{
    config::{Config, ConfigError},
    keys::{self, KeyError},
};

/// What [`init`] is told.
#[derive(Debug, Clone)]
pub struct InitOptions {
    /// Namespace of the deployment.
    pub namespace: String,
    /// Overwrite an existing `pangolin.toml` (never keys or state).
    pub force: bool,
}

/// What [`init`] did.
#[derive(Debug, Clone)]
pub struct InitReport {
    /// Files that were written.
    pub files: Vec<PathBuf>,
    /// Namespace of the deployment: the one of an existing `pangolin.toml` when that was kept.
    pub namespace: String,
    /// Public key of the deployment, as a C2SP verifier key.
    pub vkey: String,
}

/// Sets up a deployment in `dir`: configuration (unless there is one), signing key, ledger, inbox, blobs.
///
/// # Errors
/// [`RuntimeError`]; an existing key is never replaced.
pub fn init(dir: &Path, options: &InitOptions) -> Result<InitReport, RuntimeError> {
    let file = dir.join(crate::config::CONFIG_FILE);
    // Before anything is written: a configuration that cannot be loaded would be in the way of the next try.
    if let Err(error) = RunId::new(options.namespace.as_str()) {
        return Err(
            ConfigError::Problems { path: file, problems: vec![format!("namespace: {error}")] }.into()
        );
    }
    let mut files = Vec::new();
    if options.force || !file.exists() {
        let repo = if dir.join(".git").exists() { "repo = \".\"" } else { "# repo = \".\"" };
        let text = CONFIG_TEMPLATE.replace("@NAMESPACE@", &options.namespace).replace("@REPO@", repo);
        std::fs::write(&file, text).map_err(|source| RuntimeError::Io { path: file.clone(), source })?;
        files.push(file.clone());
    }
    let config = Config::load(&file)?;
    let key = match keys::create(&config.state, &config.namespace) {
        Ok(key) => {
            files.push(config.state.join("keys/deployment.key"));
            files.push(config.state.join("keys/deployment.vkey"));
            key
        }
        Err(KeyError::Exists(_)) => keys::load(&config.state)?,
        Err(other) => return Err(other.into()),
    };
    // The state holds keys, secrets and history: it must never be committed by accident.
    let ignore = config.state.join(".gitignore");
    if !ignore.exists() {
        std::fs::write(&ignore, "*\n").map_err(|source| RuntimeError::Io { path: ignore.clone(), source })?;
    }
    let ledger = config.state.join("ledger.db");
    let fresh = !ledger.exists();
    SqliteRunStore::open(&ledger, Options::default())?;
    if fresh {
        files.push(ledger);
    }
    FsBlobStore::open(config.state.join("blobs"))?;
    DirInbox::open(config.state.join("inbox"))?;
    Ok(InitReport { files, namespace: config.namespace, vkey: key.signing.verifier_key().to_string() })
}

const CONFIG_TEMPLATE: &str = r#"# Configuration of a Pangolin deployment. Unknown keys are errors. Paths start at this file.
namespace = "@NAMESPACE@"
state = ".pangolin"

[workspace]
# The git repository that workspaces start from; without one they start empty.
@REPO@
# base = "HEAD"

[queues.default]
concurrency = 2

[executors.dispatch]
backend = "process"       # or "docker"
isolation = "sandbox"     # process: "sandbox" or "none"; docker: "container". Never weakened silently.
network = "none"          # or "host"

[retry]
max_attempts = 2
"#;
