//! Loaded adapter components by id: the built-in ones and those of the configuration.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    path::Path,
    sync::{Arc, Mutex},
};

use pangolin_core::ids::Digest;
use pangolin_plugin_host::{AdapterComponent, CacheKey, Failure, PatternComponent, PluginError, PluginHost};
use thiserror::Error;

use crate::config::PluginSource;

/// Why an adapter cannot be used.
#[derive(Debug, Error)]
pub enum PluginsError {
    /// No adapter of this id.
    #[error("adapter {id:?} does not exist; known are {known}")]
    Unknown {
        /// The id.
        id: String,
        /// Known ids.
        known: String,
    },
    /// The file of a configured adapter cannot be read.
    #[error("cannot read adapter {id:?} from {path}")]
    Read {
        /// The id.
        id: String,
        /// The file.
        path: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The file is not the one that the configuration approved.
    #[error(
        "adapter {id:?} has digest {found}, pangolin.toml approves {approved}; check the file, then update adapters.{id}.sha256"
    )]
    Changed {
        /// The id.
        id: String,
        /// Digest of the file.
        found: Digest,
        /// Digest in the configuration.
        approved: Digest,
    },
    /// The component does not load.
    #[error("adapter {id:?} cannot be loaded")]
    Load {
        /// The id.
        id: String,
        /// Why.
        #[source]
        source: Box<PluginError>,
    },
    /// The plugin host does not start.
    #[error("the plugin host cannot start")]
    Host(#[source] Box<Failure>),
}

/// Ids of the adapters that ship and of the configured ones.
pub(crate) fn adapter_ids(configured: &BTreeMap<String, PluginSource>) -> BTreeSet<String> {
    let builtin = pangolin_builtin_plugins::ids().filter(|(kind, _)| *kind == "adapter");
    builtin.map(|(_, id)| id.to_owned()).chain(configured.keys().cloned()).collect()
}

/// Adapters and patterns of a deployment; compiled on first use.
pub struct Plugins {
    host: PluginHost,
    configured: BTreeMap<String, PluginSource>,
    loaded: Mutex<HashMap<String, AdapterComponent>>,
    patterns: Mutex<HashMap<String, PatternComponent>>,
}

impl Plugins {
    /// Opens the cache of compiled components below `state`.
    ///
    /// # Errors
    /// [`PluginsError::Host`].
    pub fn open(state: &Path, configured: BTreeMap<String, PluginSource>) -> Result<Arc<Self>, PluginsError> {
        let key = CacheKey::load_or_create(&state.join("keys/plugin-cache.key"))
            .map_err(|failure| PluginsError::Host(Box::new(failure)))?;
        let host = PluginHost::new(&state.join("cache/plugins"), key)
            .map_err(|failure| PluginsError::Host(Box::new(failure)))?;
        Ok(Arc::new(Self { host, configured, loaded: Mutex::default(), patterns: Mutex::default() }))
    }

    /// Ids that can be used.
    #[must_use]
    pub fn adapter_ids(&self) -> Vec<String> {
        adapter_ids(&self.configured).into_iter().collect()
    }

    /// The component's bytes, checked against the configured digest.
    ///
    /// # Errors
    /// [`PluginsError`].
    pub fn adapter_bytes(&self, id: &str) -> Result<Vec<u8>, PluginsError> {
        if let Some(source) = self.configured.get(id) {
            let path = source.path.display().to_string();
            let bytes = std::fs::read(&source.path).map_err(|source| PluginsError::Read {
                id: id.to_owned(),
                path,
                source,
            })?;
            let found = Digest::of(&bytes);
            if found != source.sha256 {
                return Err(PluginsError::Changed { id: id.to_owned(), found, approved: source.sha256 });
            }
            return Ok(bytes);
        }
        pangolin_builtin_plugins::adapter(id)
            .map(<[u8]>::to_vec)
            .ok_or_else(|| PluginsError::Unknown { id: id.to_owned(), known: self.adapter_ids().join(", ") })
    }

    /// The loaded adapter whose bytes these are; compiled when needed.
    ///
    /// # Errors
    /// [`PluginsError::Load`].
    pub async fn adapter(&self, id: &str, bytes: Vec<u8>) -> Result<AdapterComponent, PluginsError> {
        let key = Digest::of(&bytes).hex();
        if let Some(adapter) = self.loaded.lock().unwrap_or_else(std::sync::PoisonError::into_inner).get(&key)
        {
            return Ok(adapter.clone());
        }
        let host = self.host.clone();
        let loaded = tokio::task::spawn_blocking(move || host.load_adapter(&bytes)).await;
        let adapter = match loaded {
            Ok(loaded) => {
                loaded.map_err(|source| PluginsError::Load { id: id.to_owned(), source: Box::new(source) })?
            }
            Err(error) => {
                return Err(PluginsError::Host(Box::new(Failure::HostError { problem: error.to_string() })));
            }
        };
        self.loaded.lock().unwrap_or_else(std::sync::PoisonError::into_inner).insert(key, adapter.clone());
        Ok(adapter)
    }

    /// A built-in pattern, loaded.
    ///
    /// # Errors
    /// [`PluginsError`].
    pub async fn pattern(&self, id: &str) -> Result<PatternComponent, PluginsError> {
        if let Some(pattern) = self.patterns.lock().unwrap_or_else(std::sync::PoisonError::into_inner).get(id)
        {
            return Ok(pattern.clone());
        }
        let bytes = pangolin_builtin_plugins::pattern(id).ok_or_else(|| PluginsError::Unknown {
            id: id.to_owned(),
            known: pangolin_builtin_plugins::ids()
                .filter(|(kind, _)| *kind == "pattern")
                .map(|(_, id)| id)
                .collect::<Vec<_>>()
                .join(", "),
        })?;
        let host = self.host.clone();
        let loaded = tokio::task::spawn_blocking(move || host.load_pattern(bytes)).await;
        let pattern = match loaded {
            Ok(loaded) => {
                loaded.map_err(|source| PluginsError::Load { id: id.to_owned(), source: Box::new(source) })?
            }
            Err(error) => {
                return Err(PluginsError::Host(Box::new(Failure::HostError { problem: error.to_string() })));
            }
        };
        let mut patterns = self.patterns.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        patterns.insert(id.to_owned(), pattern.clone());
        Ok(pattern)
    }
}
