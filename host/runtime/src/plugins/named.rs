//! Components by id, to be looked at and not to be run: no approval, grant or policy is asked.

use std::path::PathBuf;

use pangolin_plugin_authority::{Kind, Lock, LockedPlugin};

use super::{PluginsError, resolve, store::Store};
use crate::config::Config;

/// An installed plugin and the bytes that were approved.
#[derive(Debug, Clone)]
pub struct InstalledPlugin {
    /// Its entry in `pangolin.lock`.
    pub locked: LockedPlugin,
    /// The component, as pinned.
    pub bytes: Vec<u8>,
    /// Where this machine has it.
    pub path: PathBuf,
}

/// The component that ships under this id, whatever its kind.
#[must_use]
pub fn builtin(id: &str) -> Option<&'static [u8]> {
    Kind::ALL.into_iter().find_map(|kind| resolve::builtin(kind, id))
}

/// Whether `pangolin.lock` has this id.
///
/// # Errors
/// [`PluginsError::Lock`].
pub fn is_installed(config: &Config, id: &str) -> Result<bool, PluginsError> {
    Ok(Lock::read(&config.root())?.get(id).is_some())
}

/// The component that is pinned under this id; `None` when `pangolin.lock` does not have it.
///
/// # Errors
/// [`PluginsError::Lock`]; [`PluginsError::NotStored`] and [`PluginsError::Changed`] about its bytes.
pub fn installed(config: &Config, id: &str) -> Result<Option<InstalledPlugin>, PluginsError> {
    let lock = Lock::read(&config.root())?;
    let Some(locked) = lock.get(id).cloned() else { return Ok(None) };
    let store = Store::new(&config.state);
    let bytes = store.get(id, &locked.sha256)?.ok_or_else(|| PluginsError::NotStored {
        id: id.to_owned(),
        digest: locked.sha256,
        source_text: locked.source.clone(),
    })?;
    let path = store.path(&locked.sha256);
    Ok(Some(InstalledPlugin { locked, bytes, path }))
}

/// Ids of what ships and of what is installed, for a message.
///
/// # Errors
/// [`PluginsError::Lock`].
pub fn ids(config: Option<&Config>) -> Result<Vec<String>, PluginsError> {
    let mut ids: Vec<String> = pangolin_builtin_plugins::ids().map(|(_, id)| id.to_owned()).collect();
    if let Some(config) = config {
        ids.extend(Lock::read(&config.root())?.plugins().map(|plugin| plugin.id.to_string()));
    }
    ids.sort();
    Ok(ids)
}
