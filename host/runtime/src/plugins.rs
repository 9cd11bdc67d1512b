//! Plugins by id: the built-in ones, and those that `pangolin plugin add` pinned in `pangolin.lock`.
//!
//! What a plugin may do is computed anew whenever it is resolved: manifest ∩ project ∩ operator. A plugin that would
//! get more than somebody approved does not run. Lock, project grants and policy are read at that time too, so a
//! daemon need not be restarted after an approval.

mod error;
mod install;
pub(crate) mod memory;
mod named;
mod resolve;
mod store;
mod upkeep;
mod why;

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, Mutex, PoisonError},
};

use pangolin_core::ids::Digest;
use pangolin_plugin_authority::{Kind, Lock};
use pangolin_plugin_host::{
    AdapterComponent, Allocation, CacheKey, Compiler, Failure, HostOptions, Limits, PatternComponent,
    PluginError, PluginHost,
};

use crate::config::Config;

pub use error::PluginsError;
pub use install::{AddRequest, Proposal, propose, remove};
pub use named::{InstalledPlugin, builtin, ids, installed, is_installed};
pub use resolve::ResolvedPlugin;
pub use upkeep::{PluginState, PluginStatus, Rebuilt, Update, list, outdated};
pub use why::{DenialReport, why_denied};

/// Ids of the adapters that ship and of the locked ones.
pub(crate) fn adapter_ids(config: &Config) -> Result<BTreeSet<String>, PluginsError> {
    Ok(known_ids(Kind::RuntimeAdapter, &Lock::read(&config.root())?))
}

fn known_ids(kind: Kind, lock: &Lock) -> BTreeSet<String> {
    let builtin = pangolin_builtin_plugins::ids().filter(|(of, _)| *of == resolve::builtin_word(kind));
    let locked = lock.plugins().filter(|plugin| plugin.kind == kind).map(|plugin| plugin.id.to_string());
    builtin.map(|(_, id)| id.to_owned()).chain(locked).collect()
}

/// Plugins of a deployment; compiled on first use.
pub struct Plugins {
    host: PluginHost,
    config: Arc<Config>,
    checked: resolve::Checked,
    adapters: Mutex<HashMap<Loaded, AdapterComponent>>,
    patterns: Mutex<HashMap<Loaded, PatternComponent>>,
}

/// A component under limits.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Loaded {
    digest: Digest,
    limits: String,
}

impl Loaded {
    fn new(digest: Digest, limits: &Limits) -> Self {
        Self { digest, limits: format!("{limits:?}") }
    }
}

impl Plugins {
    /// Opens the cache of compiled components below the state directory.
    ///
    /// # Errors
    /// [`PluginsError::Host`].
    pub fn open(config: &Config) -> Result<Arc<Self>, PluginsError> {
        Self::with(config, Allocation::OnDemand, Compiler::default())
    }

    /// Like [`Self::open`] for a daemon: memory of calls comes from a pool, unless the queues want more of it than there
    /// can be or the machine lacks the address space. Either is logged as a warning.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_for_serving(config: &Config) -> Result<Arc<Self>, PluginsError> {
        if let Some(why) = memory::without_pool(config) {
            tracing::warn!("{why}");
        }
        Self::with(config, memory::of_daemon(config), Compiler::default())
    }

    /// Without a compiler: what was not compiled ahead of time does not run.
    ///
    /// # Errors
    /// As [`Self::open`].
    #[cfg(feature = "aws")]
    pub fn open_compiled(config: &Config) -> Result<Arc<Self>, PluginsError> {
        Self::with(config, Allocation::OnDemand, Compiler::Never)
    }

    pub(crate) fn with(
        config: &Config,
        allocation: Allocation,
        compiler: Compiler,
    ) -> Result<Arc<Self>, PluginsError> {
        Ok(Arc::new(Self {
            host: open_host(config, allocation, compiler)?,
            config: Arc::new(config.clone()),
            checked: resolve::Checked::default(),
            adapters: Mutex::default(),
            patterns: Mutex::default(),
        }))
    }

    /// The configuration they are resolved for.
    pub(crate) fn config(&self) -> &Config {
        &self.config
    }

    /// The engine, for callers that run what they resolved themselves.
    #[must_use]
    pub const fn host(&self) -> &PluginHost {
        &self.host
    }

    /// Ids of adapters that can be used.
    ///
    /// # Errors
    /// [`PluginsError::Lock`].
    pub fn adapter_ids(&self) -> Result<Vec<String>, PluginsError> {
        Ok(adapter_ids(&self.config)?.into_iter().collect())
    }

    /// A plugin with everything that was checked about it: approval, digest, signature, contract, grant.
    ///
    /// # Errors
    /// [`PluginsError`]; what it says is the whole reason and the next step.
    pub fn resolve(&self, kind: Kind, id: &str) -> Result<ResolvedPlugin, PluginsError> {
        resolve::resolve(&self.config, &self.checked, kind, id)
    }

    /// A block, to be compiled and staged for a worker.
    ///
    /// # Errors
    /// As [`Self::resolve`].
    pub fn block(&self, id: &str) -> Result<ResolvedPlugin, PluginsError> {
        self.resolve(Kind::Block, id)
    }

    /// The bytes of an adapter, checked like every plugin.
    ///
    /// # Errors
    /// As [`Self::resolve`].
    pub fn adapter_bytes(&self, id: &str) -> Result<Vec<u8>, PluginsError> {
        Ok(self.resolve(Kind::RuntimeAdapter, id)?.bytes.to_vec())
    }

    /// The loaded adapter whose bytes these are; compiled when needed. The caller knows that the bytes are the
    /// approved ones: they come from [`Self::adapter_bytes`], or from a run that pinned them.
    ///
    /// # Errors
    /// [`PluginsError::Load`].
    pub async fn adapter(&self, id: &str, bytes: Vec<u8>) -> Result<AdapterComponent, PluginsError> {
        let limits = resolve::limits_of(Kind::RuntimeAdapter, &bytes, &self.config, id)?;
        let key = Loaded::new(Digest::of(&bytes), &limits);
        if let Some(adapter) = self.adapters.lock().unwrap_or_else(PoisonError::into_inner).get(&key) {
            return Ok(adapter.clone());
        }
        let (host, digest) = (self.host.clone(), key.digest);
        let adapter = blocking(id, move || host.load_adapter_of(digest, &bytes, limits)).await?;
        self.adapters.lock().unwrap_or_else(PoisonError::into_inner).insert(key, adapter.clone());
        Ok(adapter)
    }

    /// A pattern, resolved and loaded.
    ///
    /// # Errors
    /// [`PluginsError`].
    pub async fn pattern(&self, id: &str) -> Result<PatternComponent, PluginsError> {
        let resolved = self.resolve(Kind::Pattern, id)?;
        self.load_pattern(id, resolved.bytes, resolved.limits).await
    }

    /// Bounds for a pattern that a run pinned: the wish of its manifest and the caps of today.
    ///
    /// # Errors
    /// [`PluginsError`] when the operator's policy cannot be read.
    pub fn pattern_limits(&self, id: &str, bytes: &[u8]) -> Result<Limits, PluginsError> {
        resolve::limits_of(Kind::Pattern, bytes, &self.config, id)
    }

    /// The loaded pattern whose bytes these are: those of a resolved plugin, or those that a run pinned.
    ///
    /// # Errors
    /// [`PluginsError::Load`].
    pub async fn load_pattern(
        &self,
        id: &str,
        bytes: Arc<[u8]>,
        limits: Limits,
    ) -> Result<PatternComponent, PluginsError> {
        let key = Loaded::new(Digest::of(&bytes), &limits);
        if let Some(pattern) = self.patterns.lock().unwrap_or_else(PoisonError::into_inner).get(&key) {
            return Ok(pattern.clone());
        }
        let (host, digest) = (self.host.clone(), key.digest);
        let pattern = blocking(id, move || host.load_pattern_of(digest, &bytes, limits)).await?;
        self.patterns.lock().unwrap_or_else(PoisonError::into_inner).insert(key, pattern.clone());
        Ok(pattern)
    }
}

fn open_host(
    config: &Config,
    allocation: Allocation,
    compiler: Compiler,
) -> Result<PluginHost, PluginsError> {
    let host = |failure| PluginsError::Host(Box::new(failure));
    let key = CacheKey::load_or_create(&config.state.join("keys/plugin-cache.key")).map_err(host)?;
    let cap = config.operator_policy()?.component_bytes_max;
    let component_bytes_max = usize::try_from(cap).unwrap_or(usize::MAX);
    let options = HostOptions { allocation, compiler, component_bytes_max };
    PluginHost::with_options(&config.state.join("cache/plugins"), key, options).map_err(host)
}

/// Compiling takes up to seconds.
async fn blocking<T: Send + 'static>(
    id: &str,
    load: impl FnOnce() -> Result<T, PluginError> + Send + 'static,
) -> Result<T, PluginsError> {
    match tokio::task::spawn_blocking(load).await {
        Ok(loaded) => {
            loaded.map_err(|error| PluginsError::Load { id: id.to_owned(), error: Box::new(error) })
        }
        Err(error) => Err(PluginsError::Host(Box::new(Failure::HostError { problem: error.to_string() }))),
    }
}
