//! Engines and the host that owns them.

use std::{
    path::Path,
    sync::{Arc, OnceLock},
};

use pangolin_core::ids::Digest;
use wasmtime::{
    Config, Engine, WasmFeatures,
    component::{Component, Linker},
};

use crate::{
    adapter::AdapterComponent,
    cache::{Cache, CacheKey, LoadedFrom, Native, Swept},
    code_memory::{self, CodeMemory},
    compile::Compiler,
    failure::{Failure, PluginError},
    limits::Limits,
    offered,
    pattern::PatternComponent,
    processor::Processor,
    state::CallState,
    ticker::Ticker,
    wasi,
};

/// Largest component that is accepted unless the operator says otherwise, in bytes. JavaScript and Python components
/// have 12 to 19 MB.
pub const COMPONENT_BYTES_MAX: usize = 20 << 20;

/// Largest component that an operator can allow, in bytes.
pub const COMPONENT_BYTES_CEILING: usize = 64 << 20;

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
    /// Part of cache file names, and how the compiler is told.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pure => "pure",
            Self::Effect => "effect",
        }
    }

    /// Name and version of the settings, for the record of a decision. The version grows whenever
    /// [`engine_config`] changes what a guest may observe or what native code it becomes.
    #[must_use]
    pub const fn id(self) -> &'static str {
        match self {
            Self::Pure => "pure/1",
            Self::Effect => "effect/1",
        }
    }

    /// The profile of this [`Self::name`].
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Pure, Self::Effect].into_iter().find(|profile| profile.name() == name)
    }
}

/// The engine and its exact version, e.g. `wasmtime 48.0.8`, for the record of a decision. Fuel counts compare only
/// between equal engines.
#[must_use]
pub const fn engine_id() -> &'static str {
    ENGINE_ID
}

const ENGINE_ID: &str = "wasmtime 48.0.8";

/// Engine and settings in one text, e.g. `wasmtime 48.0.8 effect/1`.
#[must_use]
pub fn engine_name(profile: Profile) -> String {
    format!("{} {}", engine_id(), profile.id())
}

/// What native code for a processor is made for: the family's baseline, whatever the building machine has beyond it. A file
/// compiled here then runs on every other machine of the family.
///
/// For its own processor the engine wants the triple of the running program. The C library at its end has no part in the
/// code: the static worker loads what a host with another one compiled, which the worker's tests show.
const fn target(processor: Processor) -> &'static str {
    match (processor, cfg!(target_env = "musl")) {
        (Processor::Aarch64, true) => "aarch64-unknown-linux-musl",
        (Processor::Aarch64, false) => "aarch64-unknown-linux-gnu",
        (Processor::X86_64, true) => "x86_64-unknown-linux-musl",
        (Processor::X86_64, false) => "x86_64-unknown-linux-gnu",
    }
}

/// Proposals that no plugin needs and that widen what hostile code can reach. Some of them are absent from this build
/// anyway; what is listed here stays off when another crate's features bring it back. Several memories stay on: the
/// engine's own glue between the modules of a component (QuickJS, composed components) has them, and without them it
/// panics in the compiler.
const FEATURES_OFF: WasmFeatures = WasmFeatures::THREADS
    .union(WasmFeatures::SHARED_EVERYTHING_THREADS)
    .union(WasmFeatures::GC)
    .union(WasmFeatures::FUNCTION_REFERENCES)
    .union(WasmFeatures::EXCEPTIONS)
    .union(WasmFeatures::LEGACY_EXCEPTIONS)
    .union(WasmFeatures::STACK_SWITCHING)
    .union(WasmFeatures::MEMORY64)
    .union(WasmFeatures::CUSTOM_PAGE_SIZES)
    .union(WasmFeatures::WIDE_ARITHMETIC)
    .union(WasmFeatures::CM_ASYNC);

/// The settings of the engines of this program.
#[must_use]
pub fn engine_config(profile: Profile) -> Config {
    engine_config_for(profile, Processor::HERE)
}

/// The one place where engines are configured: a file compiled ahead of time loads only in an engine with equal
/// settings. Who changes it changes [`Profile::id`]. An engine for another processor than this one's compiles and runs nothing.
pub(crate) fn engine_config_for(profile: Profile, processor: Processor) -> Config {
    let mut config = Config::new();
    config
        .epoch_interruption(true)
        .max_wasm_stack(STACK_BYTES)
        .async_stack_size(STACK_BYTES + (1 << 20))
        .wasm_features(FEATURES_OFF, false)
        .concurrency_support(false)
        // No backtraces are made, so the tables for them need not be stored, authenticated and loaded.
        .wasm_backtrace_max_frames(None)
        .generate_address_map(false)
        .native_unwind_info(false)
        // The code may be in memory that is not the engine's.
        .with_custom_code_memory(Some(code_memory::publisher()));
    // A triple that this crate wrote itself.
    config.target(target(processor)).expect("the target is a valid triple");
    if profile == Profile::Pure {
        config.consume_fuel(true).relaxed_simd_deterministic(true);
        #[cfg(feature = "compile")]
        config.cranelift_nan_canonicalization(true);
    }
    config
}

/// Where guests get their memory from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Allocation {
    /// From the system, per call. For programs that make a few calls and end.
    #[default]
    OnDemand,
    /// From slots that are reserved once per engine: faster under load. For servers. When the address space for
    /// it is not there, [`Self::OnDemand`] is used, which [`PluginHost::allocation`] tells.
    #[cfg(feature = "pool")]
    Pool {
        /// Calls at the same time, per profile. One more fails with `host-busy`.
        calls: u32,
    },
}

/// Memories of one call that a slot is reserved for.
#[cfg(feature = "pool")]
const POOL_MEMORIES: u32 = 4;

#[cfg(feature = "pool")]
fn pool(calls: u32) -> wasmtime::PoolingAllocationConfig {
    let mut pool = wasmtime::PoolingAllocationConfig::new();
    let limits = Limits::effect();
    let instances = u32::try_from(limits.instances).unwrap_or(u32::MAX);
    pool.total_component_instances(calls)
        .total_core_instances(calls.saturating_mul(instances))
        .max_core_instances_per_component(instances)
        .total_memories(calls.saturating_mul(POOL_MEMORIES))
        .max_memories_per_component(POOL_MEMORIES)
        .total_tables(calls.saturating_mul(16))
        .max_tables_per_component(16)
        .max_tables_per_module(8)
        .table_elements(limits.table_entries)
        .total_stacks(calls)
        .max_memory_size(limits.memory_bytes)
        // What a small guest dirties is zeroed instead of given back to the system page by page.
        .linear_memory_keep_resident(64 << 10)
        .table_keep_resident(16 << 10);
    pool
}

/// How a host works.
#[derive(Debug, Clone)]
pub struct HostOptions {
    /// Who compiles what is not in the cache.
    pub compiler: Compiler,
    /// Where guests get their memory from.
    pub allocation: Allocation,
    /// Largest component in bytes, at most [`COMPONENT_BYTES_CEILING`].
    pub component_bytes_max: usize,
}

impl Default for HostOptions {
    fn default() -> Self {
        Self {
            compiler: Compiler::default(),
            allocation: Allocation::default(),
            component_bytes_max: COMPONENT_BYTES_MAX,
        }
    }
}

pub(crate) struct Shared {
    pure: Engine,
    effect: Engine,
    /// `None`: nothing can be compiled or cached, only native code can be loaded.
    cache: Option<Cache>,
    allocation: Allocation,
    component_bytes_max: usize,
    pub(crate) linkers: Linkers,
    pub(crate) ticker: Ticker,
}

/// What plugins of each kind find on the host. Made at first use, because no program has all kinds.
#[derive(Default)]
pub(crate) struct Linkers {
    pub(crate) pattern: OnceLock<Linker<CallState>>,
    pub(crate) adapter: OnceLock<Linker<CallState>>,
    pub(crate) block: OnceLock<Linker<CallState>>,
}

#[cfg(feature = "pool")]
fn pooled(profile: Profile, calls: u32) -> wasmtime::Result<Engine> {
    Engine::new(engine_config(profile).allocation_strategy(pool(calls)))
}

/// Compiles, caches and runs plugins. Cheap to clone.
#[derive(Clone)]
pub struct PluginHost {
    pub(crate) shared: Arc<Shared>,
}

impl PluginHost {
    /// A host with its cache of compiled code in `cache_dir` (created with mode 0700), authenticated with the key
    /// of this installation (see [`CacheKey::load_or_create`]). What is not in the cache is compiled by a child of
    /// this program, which therefore must answer to [`COMPILE_COMMAND`](crate::COMPILE_COMMAND).
    ///
    /// # Errors
    /// [`Failure::HostError`] when the directory or the engine cannot be set up.
    pub fn new(cache_dir: &Path, key: CacheKey) -> Result<Self, Failure> {
        Self::with_options(cache_dir, key, HostOptions::default())
    }

    /// Like [`Self::new`] with other options.
    ///
    /// # Errors
    /// As [`Self::new`], and when the options ask for components above [`COMPONENT_BYTES_CEILING`].
    pub fn with_options(cache_dir: &Path, key: CacheKey, options: HostOptions) -> Result<Self, Failure> {
        code_memory::prepare();
        let cache = Cache::open(cache_dir, key)?.with_compiler(options.compiler.clone());
        Self::with_cache(Some(cache), options)
    }

    /// A host that only runs native code that another one compiled ([`PluginHost::load_block_code`]). For the worker.
    ///
    /// # Errors
    /// [`Failure::HostError`] when the engine cannot be set up.
    pub fn without_compiler() -> Result<Self, Failure> {
        Self::with_cache(None, HostOptions { compiler: Compiler::Never, ..HostOptions::default() })
    }

    fn with_cache(cache: Option<Cache>, options: HostOptions) -> Result<Self, Failure> {
        let host_error = |problem: String| Failure::HostError { problem };
        if options.component_bytes_max > COMPONENT_BYTES_CEILING {
            let wanted = options.component_bytes_max;
            return Err(host_error(format!(
                "components of {wanted} bytes are asked for, at most {COMPONENT_BYTES_CEILING} can be allowed"
            )));
        }
        let on_demand = |profile| {
            Engine::new(&engine_config(profile))
                .map_err(|error| host_error(format!("cannot create the engine: {error:#}")))
        };
        let (pure, effect, allocation) = match options.allocation {
            #[cfg(feature = "pool")]
            Allocation::Pool { calls } => {
                match (pooled(Profile::Pure, calls), pooled(Profile::Effect, calls)) {
                    (Ok(pure), Ok(effect)) => (pure, effect, options.allocation),
                    (Err(error), _) | (_, Err(error)) => {
                        tracing::warn!(calls, error = %format!("{error:#}"), "no address space for a pool of plugin memory; memory is taken per call");
                        (on_demand(Profile::Pure)?, on_demand(Profile::Effect)?, Allocation::OnDemand)
                    }
                }
            }
            Allocation::OnDemand => {
                (on_demand(Profile::Pure)?, on_demand(Profile::Effect)?, Allocation::OnDemand)
            }
        };
        let ticker = Ticker::start(vec![pure.weak(), effect.weak()])
            .map_err(|error| host_error(format!("cannot start the epoch thread: {error}")))?;
        let component_bytes_max = options.component_bytes_max;
        Ok(Self {
            shared: Arc::new(Shared {
                pure,
                effect,
                cache,
                allocation,
                component_bytes_max,
                linkers: Linkers::default(),
                ticker,
            }),
        })
    }

    /// Where guests get their memory from, as it turned out.
    #[must_use]
    pub fn allocation(&self) -> Allocation {
        self.shared.allocation
    }

    /// Puts native code of a component into the cache, so that its first use does not wait for a compiler. For
    /// `plugin rebuild` after the engine changed.
    ///
    /// # Errors
    /// As loading it: [`Failure::NotCompiled`], [`Failure::OutputLimit`].
    pub fn rebuild(&self, profile: Profile, component: &[u8]) -> Result<LoadedFrom, PluginError> {
        self.compiled(profile, Digest::of(component), component).map(|native| native.from)
    }

    /// Puts native code of a component for programs on another processor into the cache, which this program itself does not
    /// look at. With feature `cross`.
    ///
    /// # Errors
    /// As [`Self::rebuild`]; [`Failure::NotCompiled`] for every component where the compiler knows one processor only.
    pub fn rebuild_for(
        &self,
        processor: Processor,
        profile: Profile,
        component: &[u8],
    ) -> Result<LoadedFrom, PluginError> {
        if processor == Processor::HERE {
            return self.rebuild(profile, component);
        }
        let digest = Digest::of(component);
        let cache = self.cache_for(profile, digest, component)?;
        let stored = cache.compile_for(processor, profile, &digest, component);
        stored.map(|()| LoadedFrom::Compiled).map_err(|failure| PluginError::new(digest, failure))
    }

    /// Removes native code of other engine versions and what interrupted writers left from the cache. Do it when
    /// no process of an earlier version runs any more; code that is missing is compiled again.
    ///
    /// # Errors
    /// [`Failure::HostError`] names the file.
    pub fn sweep_cache(&self) -> Result<Swept, Failure> {
        self.shared.cache.as_ref().map_or_else(|| Ok(Swept::default()), Cache::sweep)
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
        self.load_adapter_of(Digest::of(component), component, limits)
    }

    /// Like [`Self::load_adapter_with`] for a caller who knows the digest of the bytes: taking it costs a good part of a
    /// load. It must be that of these very bytes, for code in the cache is found by it.
    ///
    /// # Errors
    /// As [`Self::load_adapter`].
    pub fn load_adapter_of(
        &self,
        digest: Digest,
        component: &[u8],
        limits: Limits,
    ) -> Result<AdapterComponent, PluginError> {
        AdapterComponent::load(self, digest, component, limits)
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
        self.load_pattern_of(Digest::of(component), component, limits)
    }

    /// Like [`Self::load_pattern_with`] for a caller who knows the digest of the bytes: taking it costs a good part of a
    /// load. It must be that of these very bytes, for code in the cache is found by it.
    ///
    /// # Errors
    /// As [`Self::load_adapter`].
    pub fn load_pattern_of(
        &self,
        digest: Digest,
        component: &[u8],
        limits: Limits,
    ) -> Result<PatternComponent, PluginError> {
        PatternComponent::load(self, digest, component, limits)
    }

    pub(crate) fn engine(&self, profile: Profile) -> &Engine {
        match profile {
            Profile::Pure => &self.shared.pure,
            Profile::Effect => &self.shared.effect,
        }
    }

    /// `digest` is that of `bytes`; hashing once more would cost as much as loading.
    fn compiled(&self, profile: Profile, digest: Digest, bytes: &[u8]) -> Result<Native, PluginError> {
        let cache = self.cache_for(profile, digest, bytes)?;
        let native = cache.component(self.engine(profile), profile, &digest, bytes);
        native.map_err(|failure| PluginError::new(digest, failure))
    }

    /// The cache, for a component that is not too large.
    fn cache_for(&self, profile: Profile, digest: Digest, bytes: &[u8]) -> Result<&Cache, PluginError> {
        let fail = |failure| PluginError::new(digest, failure);
        let cap = self.shared.component_bytes_max;
        if bytes.len() > cap {
            return Err(fail(Failure::OutputLimit {
                what: "the component file in bytes".into(),
                size: bytes.len() as u64,
                cap: cap as u64,
            }));
        }
        self.shared.cache.as_ref().ok_or_else(|| {
            fail(Failure::NotCompiled {
                problem: "this program has no compiler and no cache".into(),
                engine: engine_name(profile),
                next: "compile it on the host and stage the code".into(),
            })
        })
    }

    /// Compiles or loads, and refuses imports that are not on the list before anything of it runs. `digest` is that of
    /// `bytes`.
    pub(crate) fn load(
        &self,
        profile: Profile,
        digest: Digest,
        bytes: &[u8],
        contract: &[&str],
    ) -> Result<Loaded, PluginError> {
        let native = self.compiled(profile, digest, bytes)?;
        self.admit(profile, digest, native, contract)
    }

    /// Refuses imports that are not on the list.
    pub(crate) fn admit(
        &self,
        profile: Profile,
        digest: Digest,
        native: Native,
        contract: &[&str],
    ) -> Result<Loaded, PluginError> {
        let Native { component, memory, from } = native;
        let engine = self.engine(profile);
        let fail = |failure| PluginError::new(digest, failure);
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
        Ok(Loaded { digest, component, memory, from })
    }

    /// Inert WASI and what `contract` adds, kept in `kept`.
    pub(crate) fn linker<'a>(
        &self,
        profile: Profile,
        kept: &'a OnceLock<Linker<CallState>>,
        contract: impl FnOnce(&mut Linker<CallState>) -> wasmtime::Result<()>,
    ) -> wasmtime::Result<&'a Linker<CallState>> {
        if let Some(linker) = kept.get() {
            return Ok(linker);
        }
        let mut linker = Linker::new(self.engine(profile));
        wasi::link(&mut linker)?;
        contract(&mut linker)?;
        Ok(kept.get_or_init(|| linker))
    }
}

/// A component that may be linked.
pub(crate) struct Loaded {
    pub(crate) digest: Digest,
    pub(crate) component: Component,
    /// To be kept behind everything that is made of the component.
    pub(crate) memory: Option<Arc<CodeMemory>>,
    pub(crate) from: LoadedFrom,
}

impl Loaded {
    /// Why it cannot be linked; `contract` are the interfaces of its world.
    pub(crate) fn mismatch(&self, contract: &[&str], error: &wasmtime::Error) -> PluginError {
        let problem = offered::why_not(self.component.engine(), &self.component, contract, error);
        PluginError::new(self.digest, Failure::ContractMismatch { problem })
    }
}
