//! Plugin blocks of a pipeline: resolved when a run is admitted, staged as native code for the worker.

use std::collections::{BTreeMap, HashMap};

use pangolin_core::{entry::FailureClass, pins::BlockPin};
use pangolin_envelope::{
    pipeline::{Block, OnFailure, PipelineSpec},
    plugin::{PluginFailure, StagedPlugin},
    result::WorkerResult,
};
use pangolin_orchestrator::causes::causes;
use pangolin_plugin_host::{BlockCode, BlockComponent, PluginError};
use pangolin_ports::blob_store::BlobStore;

use super::prepare::blob_file;
use crate::plugins::{Plugins, ResolvedPlugin};

/// Compiles off the async threads; from the cache after the first time, and always where there is no compiler: functions have
/// the code of their own processor, which is that of their workers.
async fn compile(plugins: &Plugins, plugin: &ResolvedPlugin) -> Result<BlockCode, Unstaged> {
    let (host, bytes) = (plugins.host().clone(), plugin.bytes.clone());
    blocking(plugin, move || host.block_code(&bytes)).await
}

/// Loads a block here, where nothing of it runs but a look at its parameters.
async fn load(plugins: &Plugins, plugin: &ResolvedPlugin) -> Result<BlockComponent, Unstaged> {
    let (host, bytes) = (plugins.host().clone(), plugin.bytes.clone());
    blocking(plugin, move || host.load_block(&bytes)).await
}

async fn blocking<T: Send + 'static>(
    plugin: &ResolvedPlugin,
    work: impl FnOnce() -> Result<T, PluginError> + Send + 'static,
) -> Result<T, Unstaged> {
    let named = |message: String| format!("block plugin {:?}: {message}", plugin.id);
    match tokio::task::spawn_blocking(work).await {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(error)) if error.failure.is_retryable() => {
            Err(Unstaged::Later(named(error.failure.to_string())))
        }
        Ok(Err(error)) => Err(Unstaged::Refused(named(error.failure.to_string()))),
        Err(error) => Err(Unstaged::Later(named(error.to_string()))),
    }
}

/// Blocks of a plan by id, to look at the parameters of every step that uses them.
pub(super) type Loaded = HashMap<String, BlockComponent>;

/// Resolves the plugins of a pipeline and stores their components. What cannot run is refused now, not in the worker. What
/// is `known` keeps its version, what is not is known and among the `loaded` afterwards; whether a known one may still run
/// is decided when it is staged, as for the items that were there before.
///
/// # Errors
/// What is wrong with each of them, and the next step.
pub(super) async fn pin(
    ids: &[&str],
    known: &mut BTreeMap<String, BlockPin>,
    loaded: &mut Loaded,
    plugins: &Plugins,
    blobs: &dyn BlobStore,
) -> Result<Vec<BlockPin>, Vec<String>> {
    let (mut pins, mut problems) = (Vec::with_capacity(ids.len()), Vec::new());
    for id in ids {
        if let Some(pin) = known.get(*id) {
            pins.push(pin.clone());
            continue;
        }
        match pin_one(id, plugins, blobs).await {
            Ok((pin, component)) => {
                known.insert((*id).to_owned(), pin.clone());
                loaded.insert((*id).to_owned(), component);
                pins.push(pin);
            }
            Err(problem) => problems.push(problem),
        }
    }
    if problems.is_empty() { Ok(pins) } else { Err(problems) }
}

/// A block by its id, to look at parameters.
///
/// # Errors
/// Why it cannot be used, and the next step.
pub(crate) async fn load_block(plugins: &Plugins, id: &str) -> Result<BlockComponent, String> {
    let plugin = plugins.block(id).map_err(|error| causes(&error))?;
    load(plugins, &plugin).await.map_err(Unstaged::message)
}

async fn pin_one(
    id: &str,
    plugins: &Plugins,
    blobs: &dyn BlobStore,
) -> Result<(BlockPin, BlockComponent), String> {
    let plugin = plugins.block(id).map_err(|error| causes(&error))?;
    let component = load(plugins, &plugin).await.map_err(Unstaged::message)?;
    blobs.put(&plugin.bytes).await.map_err(|error| causes(&error))?;
    let pin = BlockPin { name: plugin.id.clone(), digest: plugin.digest, fingerprint: plugin.fingerprint };
    Ok((pin, component))
}

/// What blocks say is wrong with their parameters: pointer into the pipeline, and the message. Only those that are `loaded`
/// are asked.
pub(super) async fn bad_params(spec: &PipelineSpec, loaded: &Loaded) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for (index, block) in spec.blocks.iter().enumerate() {
        let Block::Plugin { plugin, params, .. } = block else { continue };
        let Some(component) = loaded.get(plugin) else { continue };
        for problem in component.check_params(params).await {
            found.push((
                format!("/blocks/{index}{}", problem.pointer),
                format!("block plugin {plugin:?}: {}", problem.problem),
            ));
        }
    }
    found
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
