//! Looking after what is installed: list, outdated, rebuild.

use std::sync::Arc;

use pangolin_core::ids::Digest;
use pangolin_plugin_authority::{COMPONENT_BYTES_MAX, Kind, Lock, LockedPlugin};
use pangolin_plugin_host::{LoadedFrom, Processor, Profile};
use pangolin_plugin_source::{Options, Source, current_digest, fetch};
use serde::Serialize;

use super::{Plugins, PluginsError, known_ids, resolve, store::Store};
use crate::config::Config;

/// Whether a plugin would run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum PluginState {
    /// Yes.
    Ready,
    /// It would get more than was approved.
    Inert,
    /// Locked, but not on this machine.
    Missing,
    /// Something is wrong with it.
    Refused,
}

/// One installed or built-in plugin.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PluginStatus {
    /// Id.
    pub id: String,
    /// Kind.
    pub kind: Kind,
    /// Ships with Pangolin.
    pub builtin: bool,
    /// Would it run?
    pub state: PluginState,
    /// Why not, with the next step.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// Version.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Component.
    pub sha256: Digest,
    /// Fingerprint of what applies now, or of what was approved when it does not run.
    pub fingerprint: Digest,
    /// What it may do, one line each.
    pub grant: Vec<String>,
    /// Its entry in the lock.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub locked: Option<LockedPlugin>,
}

fn lines(grant: &pangolin_plugin_authority::Grant) -> Vec<String> {
    grant.rules().lines().into_iter().map(|(what, rule)| format!("{what} {rule}")).collect()
}

/// Everything that can be named, and whether it would run. Blocking.
///
/// # Errors
/// A lock or configuration that cannot be read; what is wrong with one plugin is in its line.
pub fn list(config: &Config) -> Result<Vec<PluginStatus>, PluginsError> {
    let lock = Lock::read(&config.root())?;
    let checked = resolve::Checked::default();
    let mut found = Vec::new();
    for kind in Kind::ALL {
        for id in known_ids(kind, &lock) {
            let locked = lock.get(&id).cloned();
            found.push(match (resolve::resolve(config, &checked, kind, &id), locked) {
                (Ok(plugin), locked) => PluginStatus {
                    id,
                    kind,
                    builtin: locked.is_none(),
                    state: PluginState::Ready,
                    problem: None,
                    version: plugin.version,
                    sha256: plugin.digest,
                    fingerprint: plugin.fingerprint,
                    grant: lines(&plugin.grant),
                    locked,
                },
                (Err(error), Some(locked)) => PluginStatus {
                    id,
                    kind,
                    builtin: false,
                    state: match error {
                        PluginsError::NotApproved(_) => PluginState::Inert,
                        PluginsError::NotStored { .. } => PluginState::Missing,
                        _ => PluginState::Refused,
                    },
                    problem: Some(pangolin_orchestrator::causes::causes(&error)),
                    version: Some(locked.version.to_string()),
                    sha256: locked.sha256,
                    fingerprint: locked.fingerprint,
                    grant: lines(&locked.grant),
                    locked: Some(locked),
                },
                // A built-in that does not resolve: the policy or the configuration is broken.
                (Err(error), None) => return Err(error),
            });
        }
    }
    Ok(found)
}

/// What the source of a plugin has now.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Update {
    /// Id.
    pub id: String,
    /// Source.
    pub source: String,
    /// Approved digest.
    pub pinned: Digest,
    /// Digest there now; absent when it could not be asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub current: Option<Digest>,
    /// Why not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

impl Update {
    /// The source has something else.
    #[must_use]
    pub fn is_outdated(&self) -> bool {
        self.current.is_some_and(|current| current != self.pinned)
    }
}

/// Asks every source what it has now. Installs nothing. Blocking.
///
/// # Errors
/// [`PluginsError::Lock`].
pub fn outdated(config: &Config) -> Result<Vec<Update>, PluginsError> {
    let root = config.root();
    let lock = Lock::read(&root)?;
    let ask = |plugin: &LockedPlugin| {
        let found = Source::parse(&plugin.source, &root)
            .and_then(|source| current_digest(&source, &Options::default()))
            .map_err(|error| pangolin_orchestrator::causes::causes(&error));
        let (current, problem) = match found {
            Ok(current) => (Some(current), None),
            Err(problem) => (None, Some(problem)),
        };
        let (id, source) = (plugin.id.to_string(), plugin.source.clone());
        Update { id, source, pinned: plugin.sha256, current, problem }
    };
    Ok(lock.plugins().map(ask).collect())
}

/// What a rebuild did with one plugin.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Rebuilt {
    /// Id.
    pub id: String,
    /// Kind.
    pub kind: Kind,
    /// The bytes were fetched again.
    pub fetched: bool,
    /// `cached`, `compiled` or `rebuilt`; absent when it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<&'static str>,
    /// Why it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

impl Plugins {
    /// Brings locked plugins to this machine, if they are not here undamaged, and compiles them and the built-in
    /// ones into the cache. Only those named in `ids`, or all when it is empty. Blocking, up to minutes.
    ///
    /// # Errors
    /// [`PluginsError::Lock`], [`PluginsError::NotLocked`]; what is wrong with one plugin is in its line.
    pub fn rebuild(self: &Arc<Self>, ids: &[String]) -> Result<Vec<Rebuilt>, PluginsError> {
        self.rebuild_for(Processor::HERE, ids)
    }

    /// Like [`Self::rebuild`], for programs on another processor.
    ///
    /// # Errors
    /// As [`Self::rebuild`].
    pub(crate) fn rebuild_for(
        self: &Arc<Self>,
        processor: Processor,
        ids: &[String],
    ) -> Result<Vec<Rebuilt>, PluginsError> {
        let lock = Lock::read(&self.config.root())?;
        let known: Vec<_> = Kind::ALL.into_iter().flat_map(|kind| known_ids(kind, &lock)).collect();
        if let Some(id) = ids.iter().find(|id| !known.contains(id)) {
            return Err(PluginsError::NotLocked { id: id.clone() });
        }
        let mut done = Vec::new();
        for kind in Kind::ALL {
            for id in known_ids(kind, &lock).into_iter().filter(|id| ids.is_empty() || ids.contains(id)) {
                let mut line = Rebuilt { id: id.clone(), kind, fetched: false, code: None, problem: None };
                match self.rebuild_one(processor, kind, &id, lock.get(&id), &mut line.fetched) {
                    Ok(from) => line.code = Some(from),
                    Err(error) => line.problem = Some(pangolin_orchestrator::causes::causes(&error)),
                }
                done.push(line);
            }
        }
        Ok(done)
    }

    fn rebuild_one(
        &self,
        processor: Processor,
        kind: Kind,
        id: &str,
        locked: Option<&LockedPlugin>,
        fetched: &mut bool,
    ) -> Result<&'static str, PluginsError> {
        if let Some(locked) = locked {
            *fetched = restore(&self.config, locked)?;
        }
        let plugin = self.resolve(kind, id)?;
        let profile = if kind == Kind::Pattern { Profile::Pure } else { Profile::Effect };
        let from = self
            .host
            .rebuild_for(processor, profile, &plugin.bytes)
            .map_err(|error| PluginsError::Load { id: id.to_owned(), error: Box::new(error) })?;
        Ok(match from {
            LoadedFrom::Cache => "cached",
            LoadedFrom::Compiled => "compiled",
            LoadedFrom::Rebuilt => "rebuilt",
        })
    }
}

/// Fetches a locked plugin that this machine lacks or has damaged. Only the pinned bytes are accepted.
fn restore(config: &Config, locked: &LockedPlugin) -> Result<bool, PluginsError> {
    let id = locked.id.as_str();
    let store = Store::new(&config.state);
    match store.get(id, &locked.sha256) {
        Ok(Some(_)) => return Ok(false),
        Ok(None) | Err(PluginsError::Changed { .. }) => {}
        Err(error) => return Err(error),
    }
    let source = Source::parse(&locked.source, &config.root())?;
    let options = Options { bytes_max: COMPONENT_BYTES_MAX as u64, ..Options::default() };
    let fetched = fetch(&source, Some(&locked.sha256), &options)?;
    store.put(id, &locked.sha256, &fetched.bytes, fetched.signature.as_deref())?;
    Ok(true)
}
