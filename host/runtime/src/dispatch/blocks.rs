//! Plugin blocks of a pipeline: resolved when a run is admitted, staged as native code for the worker.

use std::collections::BTreeMap;

use pangolin_core::{entry::FailureClass, pins::BlockPin};
use pangolin_envelope::{
    pipeline::{Block, OnFailure, PipelineSpec},
    plugin::{PluginFailure, StagedPlugin},
    result::WorkerResult,
};
use pangolin_orchestrator::causes::causes;
#[cfg(feature = "compile")]
use pangolin_plugin_host::BlockCode;
use pangolin_ports::blob_store::BlobStore;

use super::prepare::blob_file;
use crate::plugins::{Plugins, ResolvedPlugin};

/// Native code of a block; there is none without a compiler.
#[cfg(not(feature = "compile"))]
struct BlockCode {
    contract: String,
    engine: String,
    code: Vec<u8>,
}

/// Where nothing can be compiled, no code for workers can be made either.
#[cfg(not(feature = "compile"))]
async fn compile(_plugins: &Plugins, plugin: &ResolvedPlugin) -> Result<BlockCode, Unstaged> {
    let message =
        "blocks that are plugins cannot run in a stack in AWS yet; run the item on a machine of your own";
    Err(Unstaged::Refused(format!("block plugin {:?}: {message}", plugin.id)))
}

/// Compiles off the async threads; from the cache after the first time.
#[cfg(feature = "compile")]
async fn compile(plugins: &Plugins, plugin: &ResolvedPlugin) -> Result<BlockCode, Unstaged> {
    let (host, bytes) = (plugins.host().clone(), plugin.bytes.clone());
    let compiled = tokio::task::spawn_blocking(move || host.block_code(&bytes)).await;
    let named = |message: String| format!("block plugin {:?}: {message}", plugin.id);
    match compiled {
        Ok(Ok(code)) => Ok(code),
        Ok(Err(error)) if error.failure.is_retryable() => Err(Unstaged::Later(named(causes(&error)))),
        Ok(Err(error)) => Err(Unstaged::Refused(named(causes(&error)))),
        Err(error) => Err(Unstaged::Later(named(error.to_string()))),
    }
}

/// Resolves the plugins of a pipeline and stores their components. What cannot run is refused now, not in the worker. What
/// is `known` keeps its version, what is not is known afterwards; whether a known one may still run is decided when it is
/// staged, as for the items that were there before.
///
/// # Errors
/// What is wrong with the first of them, and the next step.
pub(super) async fn pin(
    ids: &[&str],
    known: &mut BTreeMap<String, BlockPin>,
    plugins: &Plugins,
    blobs: &dyn BlobStore,
) -> Result<Vec<BlockPin>, String> {
    let mut pins = Vec::with_capacity(ids.len());
    for id in ids {
        if let Some(pin) = known.get(*id) {
            pins.push(pin.clone());
            continue;
        }
        let plugin = plugins.block(id).map_err(|error| causes(&error))?;
        compile(plugins, &plugin).await.map_err(Unstaged::message)?;
        blobs.put(&plugin.bytes).await.map_err(|error| causes(&error))?;
        let pin =
            BlockPin { name: plugin.id.clone(), digest: plugin.digest, fingerprint: plugin.fingerprint };
        known.insert((*id).to_owned(), pin.clone());
        pins.push(pin);
    }
    Ok(pins)
}

/// Why a pinned plugin cannot be staged.
pub(super) enum Unstaged {
    /// Stays so until somebody acts.
    Refused(String),
    /// May work later.
    Later(String),
}

impl Unstaged {
    fn message(self) -> String {
        match self {
            Self::Refused(message) | Self::Later(message) => message,
        }
    }
}

/// The failure of a plugin that ended a pipeline, when one did.
pub(super) fn ended_by<'r>(pipeline: &PipelineSpec, result: &'r WorkerResult) -> Option<&'r PluginFailure> {
    let last = result.blocks.last()?;
    let block = pipeline.blocks.get(usize::try_from(last.ordinal).ok()?)?;
    match block {
        Block::Plugin { on_failure: OnFailure::Closed, .. } => last.plugin.as_ref()?.failure.as_ref(),
        _ => None,
    }
}

/// Whether another attempt makes sense after a plugin failed. Limits, panics and broken contracts come again; a machine
/// that is too busy or too slow may be faster next time.
pub(super) fn failure_class(failure: &PluginFailure) -> FailureClass {
    match failure.code.as_str() {
        "host-busy" | "host-error" => FailureClass::Infrastructure,
        "deadline" => FailureClass::Timeout,
        _ if failure.retryable => FailureClass::Work,
        _ => FailureClass::Invalid,
    }
}

/// Stages the plugins of an attempt: stores their native code, and answers what the envelope says about them.
pub(super) async fn stage(
    pins: &[BlockPin],
    plugins: &Plugins,
    blobs: &dyn BlobStore,
) -> Result<Vec<StagedPlugin>, Unstaged> {
    let mut staged = BTreeMap::new();
    for pin in pins {
        let plugin = plugins.block(&pin.name).map_err(|error| Unstaged::Refused(causes(&error)))?;
        if plugin.digest != pin.digest {
            // An approval is bound to a digest: the run neither moves to other bytes by itself nor goes on with bytes that
            // nobody approves any more.
            return Err(Unstaged::Refused(format!(
                "block plugin {:?} was {} when the run was admitted and is {} now; put the approved version back \
                 (`pangolin plugin add`) and retry, or submit the plan again",
                pin.name, pin.digest, plugin.digest
            )));
        }
        let code = compile(plugins, &plugin).await?;
        let digest = blobs.put(&code.code).await.map_err(|error| Unstaged::Later(causes(&error)))?;
        staged.insert(
            pin.name.clone(),
            StagedPlugin {
                id: pin.name.clone(),
                digest: plugin.digest,
                contract: code.contract,
                engine: code.engine,
                code: digest,
                file: blob_file(&digest),
                grant: plugin.block_grant(),
                fingerprint: plugin.fingerprint,
            },
        );
    }
    Ok(staged.into_values().collect())
}
