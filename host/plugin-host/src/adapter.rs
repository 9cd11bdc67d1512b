//! Runtime adapters: plan how to start an agent, read what it printed.

use std::{collections::BTreeMap, sync::Arc};

use pangolin_core::ids::Digest;
use pangolin_envelope::envelope::LaunchPlan;
use wasmtime::{Store, component::Resource};

use crate::{
    bindings::adapter::{
        RuntimeAdapter, RuntimeAdapterPre,
        exports::pangolin::runtime_adapter::adapter::{Channel as WitChannel, ExitInfo as WitExit},
        pangolin::base::types::Fault,
    },
    cache::LoadedFrom,
    call::{Bill, Call, CallRecord},
    code_memory::CodeMemory,
    engine::{Loaded, PluginHost, Profile},
    failure::{Failure, GUEST_TEXT_BYTES, PluginError, clip},
    limits::Limits,
    report::{AdapterReport, Channel, ReportDraft},
    session::{PlanDraft, TaskView},
    state::CallState,
};

/// Interfaces of the world, without version.
const CONTRACT: [&str; 3] = ["pangolin:base/types", "pangolin:base/log", "pangolin:runtime-adapter/session"];

/// A transcript reaches the guest in pieces of this size.
const CHUNK_BYTES: usize = 64 << 10;

/// Names of `attr` that the adapters shipped with Pangolin read.
pub mod attr {
    /// JSON object: the subagent's `params`. `command` needs `argv` there; `claude-code` takes `maxTurns`, `baseUrl`,
    /// `bare`, `allowedTools`, `maxRetries`.
    pub const PARAMS: &str = "params";
    /// `bypass` (default) or `strict`: whether the agent may use its tools without asking.
    pub const PERMISSION: &str = "permission";
    /// UUID for the session, so that it can be found again. Derive it from the dispatch id.
    pub const SESSION_ID: &str = "session-id";
    /// Money cap in US dollars, decimal text.
    pub const BUDGET_USD: &str = "budget-usd";
    /// Turn limit, decimal text. Wins over `params.maxTurns`.
    pub const MAX_TURNS: &str = "max-turns";
    /// Absolute directory, private to the dispatch, for the agent's own configuration.
    pub const PRIVATE_HOME: &str = "private-home";
    /// `true` when the agent runs as root inside the isolation.
    pub const ROOT: &str = "root";
    /// Secret that holds the provider's key, when it is not called `ANTHROPIC_API_KEY`.
    pub const KEY_SECRET: &str = "key-secret";
}

/// What an adapter is told about one attempt. No secret values.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AdapterTask {
    /// Adapter id for the launch plan, e.g. `claude-code`.
    pub adapter: String,
    /// System prompt of the subagent.
    pub system_prompt: Option<String>,
    /// What to do.
    pub prompt: String,
    /// Requested model or level (`fast`, `standard`, `max`, or the provider's id).
    pub model: Option<String>,
    /// Absolute path of the workspace as the agent will see it.
    pub workspace: String,
    /// Wall time of the agent.
    pub timeout_seconds: u32,
    /// The item's input as JSON text.
    pub input_json: String,
    /// Names of secrets that may be mapped to variables.
    pub secret_names: Vec<String>,
    /// Further facts, see [`attr`].
    pub attrs: BTreeMap<String, String>,
    /// Programs the adapter may start; `None`: any.
    pub allowed_programs: Option<Vec<String>>,
}

/// How the agent process ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ExitInfo {
    /// Exit code, if it exited.
    pub code: Option<i32>,
    /// Signal, if it was killed.
    pub signal: Option<i32>,
    /// Killed because of its time limit.
    pub timed_out: bool,
    /// Output was cut at its limit.
    pub truncated: bool,
}

/// A loaded adapter. Cheap to clone.
#[derive(Clone)]
pub struct AdapterComponent {
    host: PluginHost,
    pre: RuntimeAdapterPre<CallState>,
    limits: Limits,
    digest: Digest,
    from: LoadedFrom,
    /// What the instances run. Behind the fields that refer to it.
    _code: Option<Arc<CodeMemory>>,
}

impl AdapterComponent {
    pub(crate) fn load(
        host: &PluginHost,
        digest: Digest,
        bytes: &[u8],
        limits: Limits,
    ) -> Result<Self, PluginError> {
        let loaded = host.load(Profile::Effect, digest, bytes, &CONTRACT)?;
        let pre = link(host, &loaded).map_err(|error| loaded.mismatch(&CONTRACT, &error))?;
        Ok(Self { host: host.clone(), pre, limits, digest, from: loaded.from, _code: loaded.memory })
    }

    /// The same component under other limits. Cheap: nothing is compiled or loaded again.
    #[must_use]
    pub fn with_limits(&self, limits: Limits) -> Self {
        Self { limits, ..self.clone() }
    }

    /// Digest of the component.
    #[must_use]
    pub const fn digest(&self) -> Digest {
        self.digest
    }

    /// Whether it was compiled now.
    #[must_use]
    pub const fn loaded_from(&self) -> LoadedFrom {
        self.from
    }

    fn call(&self) -> Result<Call, PluginError> {
        Call::new(self.pre.engine(), self.digest, &self.limits, 0, None)
    }

    /// Asks how to start the agent.
    ///
    /// # Errors
    /// [`Failure::Fault`] when the adapter cannot (bad params), and every other way a plugin can fail.
    pub async fn prepare(&self, task: &AdapterTask) -> Result<LaunchPlan, PluginError> {
        self.prepare_with_bill(task).await.map(|(plan, _)| plan)
    }

    /// Like [`Self::prepare`], with what it cost.
    ///
    /// # Errors
    /// As [`Self::prepare`].
    pub async fn prepare_with_bill(&self, task: &AdapterTask) -> Result<(LaunchPlan, Bill), PluginError> {
        self.prepare_recorded(task).await.map(|(plan, record)| (plan, record.bill))
    }

    /// Like [`Self::prepare`], with what it cost and said.
    ///
    /// # Errors
    /// As [`Self::prepare`].
    pub async fn prepare_recorded(
        &self,
        task: &AdapterTask,
    ) -> Result<(LaunchPlan, CallRecord), PluginError> {
        let task = Arc::new(task.clone());
        let draft = PlanDraft::new(Arc::clone(&task), self.digest, &self.limits);
        let mut call = self.call()?;
        let pre = &self.pre;
        let (answer, draft) = call
            .run(&self.host, async |store| {
                let view = store.data_mut().table.push(TaskView(task))?;
                let out = store.data_mut().table.push(draft)?;
                let adapter = pre.instantiate_async(&mut *store).await?;
                let borrowed = (Resource::new_borrow(view.rep()), Resource::new_borrow(out.rep()));
                let answer = adapter
                    .pangolin_runtime_adapter_adapter()
                    .call_prepare(&mut *store, borrowed.0, borrowed.1)
                    .await?;
                Ok((answer, store.data_mut().table.delete(out)?))
            })
            .await?;
        answer.map_err(|fault| call.fail(from_guest(fault)))?;
        let plan = draft.finish().map_err(|failure| call.fail(failure))?;
        Ok((plan, call.record()))
    }

    /// Reads a recorded transcript. Never fails: when the adapter does, the report says so in `fault`, with quality
    /// `missing`.
    pub async fn read_transcript(
        &self,
        task: &AdapterTask,
        stdout: &[u8],
        stderr: &[u8],
        exit: ExitInfo,
    ) -> AdapterReport {
        let out = stdout.chunks(CHUNK_BYTES).map(|chunk| (Channel::Out, chunk));
        let err = stderr.chunks(CHUNK_BYTES).map(|chunk| (Channel::Err, chunk));
        // Collected: with the iterator's closures inside, the future is not `Send` for every lifetime.
        let chunks: Vec<_> = out.chain(err).collect();
        self.read_chunks(task, chunks, exit).await
    }

    /// Like [`Self::read_transcript`] with chunks of the caller's choice, in the order they arrived.
    pub async fn read_chunks<'a>(
        &self,
        task: &AdapterTask,
        chunks: impl IntoIterator<Item = (Channel, &'a [u8])>,
        exit: ExitInfo,
    ) -> AdapterReport {
        self.read_recorded(task, chunks, exit).await.0
    }

    /// Like [`Self::read_chunks`], with what it cost and said; `None` when it could not even start.
    pub async fn read_recorded<'a>(
        &self,
        task: &AdapterTask,
        chunks: impl IntoIterator<Item = (Channel, &'a [u8])>,
        exit: ExitInfo,
    ) -> (AdapterReport, Option<CallRecord>) {
        let failed = |fault: PluginError| {
            let record = fault.call.as_deref().cloned();
            (ReportDraft::new(&self.limits).finish_failed(fault), record)
        };
        let mut call = match self.call() {
            Ok(call) => call,
            Err(fault) => return failed(fault),
        };
        let sink = match call.store.data_mut().table.push(ReportDraft::new(&self.limits)) {
            Ok(sink) => sink,
            Err(error) => return failed(call.fail(Failure::HostError { problem: error.to_string() })),
        };
        let view = TaskView(Arc::new(task.clone()));
        let (pre, rep) = (&self.pre, sink.rep());
        let read = call
            .run(&self.host, async |store| {
                let adapter = pre.instantiate_async(&mut *store).await?;
                read(&adapter, store, view, rep, chunks, exit).await
            })
            .await;
        let fault = match read {
            Ok(Ok(())) => None,
            Ok(Err(fault)) => Some(call.fail(from_guest(fault))),
            Err(error) => Some(error),
        };
        let draft = match call.store.data_mut().table.delete(sink) {
            Ok(draft) => draft,
            Err(error) => return failed(call.fail(Failure::HostError { problem: error.to_string() })),
        };
        match fault {
            None => (draft.finish(), Some(call.record())),
            Some(fault) => {
                let record = fault.call.as_deref().cloned();
                (draft.finish_failed(fault), record)
            }
        }
    }
}

async fn read<'a>(
    adapter: &RuntimeAdapter,
    store: &mut Store<CallState>,
    task: TaskView,
    report: u32,
    chunks: impl IntoIterator<Item = (Channel, &'a [u8])>,
    exit: ExitInfo,
) -> wasmtime::Result<Result<(), Fault>> {
    let view = store.data_mut().table.push(task)?;
    let reader_api = adapter.pangolin_runtime_adapter_adapter().reader();
    let reader = reader_api.call_constructor(&mut *store, Resource::new_borrow(view.rep())).await?;
    for (channel, chunk) in chunks {
        let channel = match channel {
            Channel::Out => WitChannel::Out,
            Channel::Err => WitChannel::Err,
        };
        let fed =
            reader_api.call_feed(&mut *store, reader, channel, chunk, Resource::new_borrow(report)).await?;
        if let Err(fault) = fed {
            return Ok(Err(fault));
        }
    }
    let exit = WitExit {
        code: exit.code,
        signal: exit.signal.and_then(|signal| u32::try_from(signal).ok()),
        timed_out: exit.timed_out,
        truncated: exit.truncated,
    };
    let answer = reader_api.call_finish(&mut *store, reader, exit, Resource::new_borrow(report)).await?;
    // Its destructor is guest code too: what it still reports counts, and so does a trap in it.
    reader.resource_drop_async(&mut *store).await?;
    Ok(answer)
}

fn link(host: &PluginHost, loaded: &Loaded) -> wasmtime::Result<RuntimeAdapterPre<CallState>> {
    let linker = host.linker(Profile::Effect, &host.shared.linkers.adapter, |linker| {
        RuntimeAdapter::add_to_linker::<CallState, wasmtime::component::HasSelf<CallState>>(linker, |state| {
            state
        })
    })?;
    RuntimeAdapterPre::new(linker.instantiate_pre(&loaded.component)?)
}

pub(crate) fn from_guest(fault: Fault) -> Failure {
    Failure::Fault {
        code: clip(fault.code, 64),
        message: clip(fault.message, GUEST_TEXT_BYTES),
        retryable: fault.retryable,
        detail: fault.detail.map(|detail| clip(detail, GUEST_TEXT_BYTES)),
    }
}
