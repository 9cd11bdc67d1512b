//! Blocks: one step of a worker's pipeline, with what it was granted and nothing else.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use pangolin_core::ids::Digest;
use pangolin_envelope::plugin::{BlockGrant, PluginEvidence};
use serde_json::Value;
use wasmtime::component::{Component, HasSelf, Resource};

use crate::{
    adapter::from_guest,
    bindings::block::{BlockFull, BlockFullPre, pangolin::base::types::Fault},
    block_rules::Rules,
    block_state::BlockState,
    block_world::BlockWorld,
    cache::{LoadedFrom, Native},
    call::Call,
    code_memory::CodeMemory,
    engine::{Loaded, PluginHost, Profile, engine_name},
    failure::{Failure, GUEST_TEXT_BYTES, PluginError, Problem, clip},
    limits::{Limits, Probe},
    state::CallState,
};

/// Interfaces that a block may import, without version.
pub(crate) const CONTRACT: [&str; 6] = [
    "pangolin:base/types",
    "pangolin:base/log",
    "pangolin:block/stage",
    "pangolin:block/exec",
    "pangolin:block/fetch",
    "pangolin:block/run",
];

/// The newest contract that this host serves.
pub const BLOCK_CONTRACT: &str = "pangolin:block@1.0.0";

/// Stack of a native function on the guest's fiber is limited too; deeper JSON is refused.
const PARAMS_BYTES_MAX: usize = 1 << 20;

/// Wall time of a look at parameters. Reading them takes milliseconds; who needs longer is not asked now.
const PARAMS_WALL: Duration = Duration::from_secs(2);

/// What the host hands to somebody who runs blocks without a compiler.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlockCode {
    /// Native code for [`PluginHost::load_block_code`].
    pub code: Vec<u8>,
    /// Contract the component was made for, from its imports and exports.
    pub contract: String,
    /// Engine and settings it was compiled for.
    pub engine: String,
}

/// One run of a block.
#[derive(Debug, Clone)]
pub struct BlockCall {
    /// Id in the pipeline, for the record.
    pub id: String,
    /// Contract, for the record.
    pub contract: String,
    /// Engine, for the record.
    pub engine: String,
    /// What it may do.
    pub grant: BlockGrant,
    /// Fingerprint of the grant, for the record.
    pub fingerprint: Digest,
    /// Parameters, a JSON object.
    pub params: Value,
    /// Place in the pipeline from 0.
    pub position: u32,
    /// `gate` or `verify`.
    pub lens: String,
    /// Facts about the dispatch: `run`, `item`, `attempt`, … `lens` is added.
    pub attrs: BTreeMap<String, String>,
    /// Wall time; the grant's own limit counts too.
    pub timeout: Duration,
}

/// A loaded block. Cheap to clone.
#[derive(Clone)]
pub struct BlockComponent {
    host: PluginHost,
    pre: BlockFullPre<CallState>,
    digest: Digest,
    probe: Probe,
    /// What the instances run. Behind the fields that refer to it.
    _code: Option<Arc<CodeMemory>>,
}

impl PluginHost {
    /// Loads a component of world `pangolin:block/block@1` or `block-full@1`. Blocking: compiles when the cache has
    /// nothing for it.
    ///
    /// # Errors
    /// As [`PluginHost::load_adapter`].
    pub fn load_block(&self, component: &[u8]) -> Result<BlockComponent, PluginError> {
        BlockComponent::link(self, self.load(Profile::Effect, Digest::of(component), component, &CONTRACT)?)
    }

    /// Native code of a block for a worker with the processor of this program, compiled when the cache has none, and checked that
    /// it can be linked. Blocking.
    ///
    /// # Errors
    /// As [`Self::load_block`].
    pub fn block_code(&self, component: &[u8]) -> Result<BlockCode, PluginError> {
        let loaded = self.load(Profile::Effect, Digest::of(component), component, &CONTRACT)?;
        let contract = contract_of(&loaded.component, self.engine(Profile::Effect));
        let code = match &loaded.memory {
            Some(memory) => memory.bytes().to_vec(),
            None => just_compiled(&loaded)?,
        };
        BlockComponent::link(self, loaded)?;
        Ok(BlockCode { code, contract, engine: engine_name(Profile::Effect) })
    }

    /// Loads what [`Self::block_code`] of a trusted host answered. `code` must be those very bytes: it is run as native
    /// code of this process. `component` is the digest of the component, for messages.
    ///
    /// # Errors
    /// [`Failure::NotCompiled`] when it is for another engine or machine, else as [`Self::load_block`].
    pub fn load_block_code(
        &self,
        component: Digest,
        expected: Digest,
        code: &[u8],
    ) -> Result<BlockComponent, PluginError> {
        let fail = |failure| PluginError::new(component, failure);
        let found = Digest::of(code);
        if found != expected {
            return Err(fail(Failure::Integrity {
                problem: format!("the staged code has digest {found}, the envelope names {expected}"),
            }));
        }
        let engine = self.engine(Profile::Effect);
        #[expect(unsafe_code, reason = "loading native code; only bytes that the host compiled get here")]
        // SAFETY: the digest was just compared with the one in the envelope that the host staged, which names the output
        // of `block_code`; the bytes are in memory, nobody can change them in between.
        let loaded = unsafe { Component::deserialize(engine, code) };
        let compiled = loaded.map_err(|error| {
            fail(Failure::NotCompiled {
                problem: clip(format!("{error:#}"), GUEST_TEXT_BYTES),
                engine: engine_name(Profile::Effect),
                next: "the worker and the host must be of the same release".into(),
            })
        })?;
        BlockComponent::link(
            self,
            self.admit(
                Profile::Effect,
                component,
                Native { component: compiled, memory: None, from: LoadedFrom::Cache },
                &CONTRACT,
            )?,
        )
    }
}

/// Native code of what did not come from the cache.
#[cfg(feature = "compile")]
fn just_compiled(loaded: &Loaded) -> Result<Vec<u8>, PluginError> {
    loaded.component.serialize().map_err(|error| {
        PluginError::new(loaded.digest, Failure::HostError { problem: format!("{error:#}") })
    })
}

#[cfg(not(feature = "compile"))]
fn just_compiled(loaded: &Loaded) -> Result<Vec<u8>, PluginError> {
    let problem = "this program has no compiler, and code that it did not compile".to_owned();
    Err(PluginError::new(loaded.digest, Failure::HostError { problem }))
}

/// `pangolin:block@<version>` of the exported or imported interfaces.
fn contract_of(component: &Component, engine: &wasmtime::Engine) -> String {
    let types = component.component_type();
    let names =
        types.exports(engine).map(|(name, _)| name).chain(types.imports(engine).map(|(name, _)| name));
    let version = names
        .filter(|name| name.starts_with("pangolin:block/"))
        .find_map(|name| name.split_once('@').map(|(_, version)| version.to_owned()));
    version.map_or_else(|| "pangolin:block".to_owned(), |version| format!("pangolin:block@{version}"))
}

impl BlockComponent {
    fn link(host: &PluginHost, loaded: Loaded) -> Result<Self, PluginError> {
        let pre = link(host, &loaded.component).map_err(|error| loaded.mismatch(&CONTRACT, &error))?;
        Ok(Self {
            host: host.clone(),
            pre,
            digest: loaded.digest,
            probe: Probe::default(),
            _code: loaded.memory,
        })
    }

    /// The same component with what a conformance suite makes harder than it is.
    #[must_use]
    pub fn with_probe(&self, probe: Probe) -> Self {
        Self { probe, ..self.clone() }
    }

    /// Digest of the component.
    #[must_use]
    pub const fn digest(&self) -> Digest {
        self.digest
    }

    /// Runs the block on a thread of the caller, which it blocks.
    ///
    /// # Errors
    /// [`Failure::HostError`] when no runtime can be made; then the world was not touched and is dropped.
    pub fn run_blocking<W: BlockWorld>(
        &self,
        world: W,
        call: &BlockCall,
    ) -> Result<(PluginEvidence, W), PluginError> {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_time().build().map_err(|error| {
                PluginError::new(self.digest, Failure::HostError { problem: format!("no runtime: {error}") })
            })?;
        Ok(runtime.block_on(self.run(world, call)))
    }

    /// What the block says is wrong with the parameters of a step, before anything else is there: it is called with them
    /// and with nothing besides, and stopped as soon as it asks for more (files, facts of the dispatch, programs, hosts) or
    /// gives a verdict. So a finding is about the parameters alone. Nothing is found by a block that looks at
    /// something else first, and by one whose fault does not have the code `bad-params` or a detail that points to
    /// `/params`.
    pub async fn check_params(&self, params: &Value) -> Vec<Problem> {
        let call = BlockCall {
            id: String::new(),
            contract: BLOCK_CONTRACT.to_owned(),
            engine: engine_name(Profile::Effect),
            grant: BlockGrant::default(),
            fingerprint: self.digest,
            params: params.clone(),
            position: 0,
            lens: String::new(),
            attrs: BTreeMap::new(),
            timeout: PARAMS_WALL,
        };
        let Ok(rules) = prepare(&call) else { return Vec::new() };
        let limits = limits(&call);
        let Ok(mut running) = Call::new(self.pre.engine(), self.digest, &limits, 0, None) else {
            return Vec::new();
        };
        let world = Box::new(crate::block_memory::MemoryWorld::default());
        let state = BlockState::new(world, rules, &call, limits.wall).told_params_only();
        running.store.data_mut().block = Some(Box::new(state));
        match self.answer(&mut running).await {
            Ok(Err(fault)) if !fault.retryable => {
                from_guest(fault).problems().into_iter().filter(Problem::is_of_params).collect()
            }
            _ => Vec::new(),
        }
    }

    async fn answer(&self, running: &mut Call) -> Result<Result<(), Fault>, PluginError> {
        let pre = &self.pre;
        running
            .run(&self.host, async |store| {
                let table = &mut store.data_mut().table;
                let (input, output) = (table.push(BlockInput)?, table.push(BlockOutput)?);
                let instance = pre.instantiate_async(&mut *store).await?;
                let borrowed = (Resource::new_borrow(input.rep()), Resource::new_borrow(output.rep()));
                instance.pangolin_block_run().call_run(&mut *store, borrowed.0, borrowed.1).await
            })
            .await
    }

    /// Runs the block and answers what it did, with the world as it left it. Never fails: what went wrong is in
    /// `failure`, and then there is no verdict. Calls of the world block the thread.
    pub async fn run<W: BlockWorld>(&self, world: W, call: &BlockCall) -> (PluginEvidence, W) {
        let rules = match prepare(call) {
            Ok(rules) => rules,
            Err(failure) => return (failed(call, self.digest, &failure), world),
        };
        let limits = Limits { probe: self.probe, ..limits(call) };
        let mut running = match Call::new(self.pre.engine(), self.digest, &limits, 0, None) {
            Ok(running) => running,
            Err(error) => return (failed(call, self.digest, &error.failure), world),
        };
        running.store.data_mut().block =
            Some(Box::new(BlockState::new(Box::new(world), rules, call, limits.wall)));
        let answer = self.answer(&mut running).await;
        let record = match &answer {
            Err(PluginError { call: Some(record), .. }) => (**record).clone(),
            _ => running.record(),
        };
        let block = running.store.data_mut().block.take();
        drop(running);
        let state = block.expect("the state stays in the store while the block runs");
        let failure = match answer {
            Ok(Ok(())) if !state.has_verdict() => {
                Some(Failure::ContractMismatch { problem: "the block returned without a verdict".into() })
            }
            Ok(Ok(())) => None,
            Ok(Err(fault)) => Some(from_guest(fault)),
            Err(error) => Some(error.failure),
        };
        let (evidence, world) = state.finish(call, self.digest, record, failure.as_ref());
        let any: Box<dyn std::any::Any> = world;
        let world = any.downcast::<W>().expect("the world is the one that was put in");
        (evidence, *world)
    }
}

fn prepare(call: &BlockCall) -> Result<Rules, Failure> {
    let size = call.params.to_string().len();
    if size > PARAMS_BYTES_MAX {
        let (what, cap) = ("the parameters in bytes".to_owned(), PARAMS_BYTES_MAX as u64);
        return Err(Failure::OutputLimit { what, size: size as u64, cap });
    }
    Rules::new(&call.grant)
}

fn limits(call: &BlockCall) -> Limits {
    let granted = &call.grant.limits;
    let bytes = |bytes: u64| usize::try_from(bytes).unwrap_or(usize::MAX);
    Limits {
        wall: call.timeout.min(Duration::from_millis(granted.wall_ms)),
        memory_bytes: bytes(granted.memory_bytes),
        log_bytes: bytes(granted.log_bytes),
        ..Limits::effect()
    }
}

/// The record of a block that did not get to run.
fn failed(call: &BlockCall, digest: Digest, failure: &Failure) -> PluginEvidence {
    let mut evidence = blank(call, digest);
    evidence.failure = Some(failure.record());
    evidence
}

pub(crate) fn blank(call: &BlockCall, digest: Digest) -> PluginEvidence {
    PluginEvidence {
        id: call.id.clone(),
        digest,
        contract: call.contract.clone(),
        engine: call.engine.clone(),
        fingerprint: call.fingerprint,
        lens: call.lens.clone(),
        verdict: None,
        evidence: BTreeMap::new(),
        artifacts: Vec::new(),
        denials: Vec::new(),
        programs: Vec::new(),
        contacts: Vec::new(),
        secrets_used: Vec::new(),
        log: Vec::new(),
        left_out: BTreeMap::new(),
        bill: pangolin_envelope::plugin::BlockBill::default(),
        failure: None,
    }
}

fn link(host: &PluginHost, component: &Component) -> wasmtime::Result<BlockFullPre<CallState>> {
    let linker = host.linker(Profile::Effect, &host.shared.linkers.block, |linker| {
        BlockFull::add_to_linker::<CallState, HasSelf<CallState>>(linker, |state| state)
    })?;
    BlockFullPre::new(linker.instantiate_pre(component)?)
}

/// The `input` resource: everything is in the state of the call.
#[expect(unreachable_pub, reason = "generated code re-exports it")]
pub struct BlockInput;

/// The `output` resource.
#[expect(unreachable_pub, reason = "generated code re-exports it")]
pub struct BlockOutput;

/// What a world's listing looks like to this block.
pub(crate) type Listing = Arc<Vec<crate::block_world::FileEntry>>;
