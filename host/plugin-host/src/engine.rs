//! Engines and the host that owns them.

use std::{path::Path, sync::Arc};

use pangolin_core::ids::Digest;
use wasmtime::{
    Config, Engine,
    component::{Component, Linker},
};

use crate::{
    adapter::AdapterComponent,
    cache::{Cache, CacheKey, LoadedFrom},
    failure::{Failure, PluginError},
    limits::Limits,
    pattern::PatternComponent,
    state::CallState,
    ticker::Ticker,
    wasi,
};

/// Largest component that is accepted, in bytes. JavaScript and Python components have 12 to 19 MB.
pub const COMPONENT_BYTES_MAX: usize = 20 << 20;

/// Stack of a guest in bytes.
pub(crate) const STACK_BYTES: usize = 512 << 10;

/// Which engine a plugin runs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Profile {
    /// Patterns: counted instructions, everything deterministic.
    Pure,
    /// Adapters and blocks: bounded by wall time only, which is faster.
    Effect,
}

impl Profile {
    /// Part of cache file names.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pure => "pure",
            Self::Effect => "effect",
        }
    }
}

/// The one place where engines are configured: a file compiled ahead of time loads only in an engine with equal
/// settings.
#[must_use]
pub fn engine_config(profile: Profile) -> Config {
    let mut config = Config::new();
    config
        .epoch_interruption(true)
        .max_wasm_stack(STACK_BYTES)
        .async_stack_size(STACK_BYTES + (1 << 20))
        .wasm_memory64(false)
        .concurrency_support(false)
        .wasm_backtrace_max_frames(None);
    if profile == Profile::Pure {
        config.consume_fuel(true).relaxed_simd_deterministic(true);
        #[cfg(feature = "compile")]
        config.cranelift_nan_canonicalization(true);
    }
    config
}

pub(crate) struct Shared {
    pure: Engine,
    effect: Engine,
    cache: Cache,
    pub(crate) ticker: Ticker,
}

/// Compiles, caches and runs plugins. Cheap to clone.
#[derive(Clone)]
pub struct PluginHost {
    pub(crate) shared: Arc<Shared>,
}

impl PluginHost {
    /// A host with its cache of compiled code in `cache_dir` (created with mode 0700), authenticated with the key
    /// of this installation (see [`CacheKey::load_or_create`]).
    ///
    /// # Errors
    /// [`Failure::HostError`] when the directory or the engine cannot be set up.
    pub fn new(cache_dir: &Path, key: CacheKey) -> Result<Self, Failure> {
        let host_error = |what: &str, error: &dyn std::fmt::Display| Failure::HostError {
            problem: format!("{what}: {error:#}"),
        };
        let engine = |profile| {
            Engine::new(&engine_config(profile))
                .map_err(|error| host_error("cannot create the engine", &error))
        };
        let (pure, effect) = (engine(Profile::Pure)?, engine(Profile::Effect)?);
        let ticker = Ticker::start(vec![pure.weak(), effect.weak()])
            .map_err(|error| host_error("cannot start the epoch thread", &error))?;
        let cache = Cache::open(cache_dir, key)?;
        Ok(Self { shared: Arc::new(Shared { pure, effect, cache, ticker }) })
    }

    /// Loads a component of world `pangolin:runtime-adapter/runtime-adapter@1`. Blocking: compiles when the cache has
    /// nothing for it.
    ///
    /// # Errors
    /// [`Failure::Refused`] when it imports more than its world, [`Failure::ContractMismatch`] when it does not fit
    /// the world, [`Failure::NotCompiled`] when it is not a component.
    pub fn load_adapter(&self, component: &[u8]) -> Result<AdapterComponent, PluginError> {
        self.load_adapter_with(component, Limits::effect())
    }

    /// Like [`Self::load_adapter`] with other limits.
    ///
    /// # Errors
    /// As [`Self::load_adapter`].
    pub fn load_adapter_with(
        &self,
        component: &[u8],
        limits: Limits,
    ) -> Result<AdapterComponent, PluginError> {
        AdapterComponent::load(self, component, limits)
    }

    /// Loads a component of world `pangolin:pattern/pattern@1` (or `pattern-planner`). Blocking like
    /// [`Self::load_adapter`].
    ///
    /// # Errors
    /// As [`Self::load_adapter`].
    pub fn load_pattern(&self, component: &[u8]) -> Result<PatternComponent, PluginError> {
        self.load_pattern_with(component, Limits::pure())
    }

    /// Like [`Self::load_pattern`] with other limits.
    ///
    /// # Errors
    /// As [`Self::load_adapter`].
    pub fn load_pattern_with(
        &self,
        component: &[u8],
        limits: Limits,
    ) -> Result<PatternComponent, PluginError> {
        PatternComponent::load(self, component, limits)
    }

    /// Compiles or loads, and refuses imports that are not on the list before anything of it runs.
    pub(crate) fn load(
        &self,
        profile: Profile,
        bytes: &[u8],
        contract: &[&str],
    ) -> Result<Loaded, PluginError> {
        let digest = Digest::of(bytes);
        let fail = |failure| PluginError { plugin: digest, failure };
        if bytes.len() > COMPONENT_BYTES_MAX {
            return Err(fail(Failure::OutputLimit {
                what: "the component file in bytes".into(),
                size: bytes.len() as u64,
                cap: COMPONENT_BYTES_MAX as u64,
            }));
        }
        let engine = match profile {
            Profile::Pure => &self.shared.pure,
            Profile::Effect => &self.shared.effect,
        };
        let (component, from) = self.shared.cache.component(engine, profile, &digest, bytes).map_err(fail)?;
        let denied: Vec<String> = component
            .component_type()
            .imports(engine)
            .map(|(name, _)| name)
            .filter(|name| {
                let interface = name.split_once('@').map_or(*name, |(interface, _)| interface);
                !contract.contains(&interface) && !wasi::INERT.contains(&interface)
            })
            .map(str::to_owned)
            .collect();
        if !denied.is_empty() {
            return Err(fail(Failure::Refused {
                capability: "import".into(),
                subject: denied.join(", "),
                reason: format!(
                    "a plugin of this kind may import {} and inert WASI only; remove what pulls these in",
                    contract.join(", ")
                ),
            }));
        }
        let mut linker = Linker::new(engine);
        wasi::link(&mut linker)
            .map_err(|error| fail(Failure::HostError { problem: format!("cannot link WASI: {error:#}") }))?;
        Ok(Loaded { digest, component, linker, from })
    }
}

/// A component that may be linked.
pub(crate) struct Loaded {
    pub(crate) digest: Digest,
    pub(crate) component: Component,
    pub(crate) linker: Linker<CallState>,
    pub(crate) from: LoadedFrom,
}

impl Loaded {
    pub(crate) fn mismatch(&self, error: &wasmtime::Error) -> PluginError {
        PluginError {
            plugin: self.digest,
            failure: Failure::ContractMismatch { problem: format!("{error:#}") },
        }
    }
}
