//! Deciding what an attempt is given: launch plan, envelope, manifest. All of it is stored before the attempt is
//! fired.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::Arc,
};

use pangolin_core::{
    entry::{Evidence, Failure, FailureClass, FailureReason, FinalStatus, Isolation},
    ids::{Digest, ItemId},
    manifest::{DispatchManifest, MANIFEST_VERSION, ManifestInput, NamedDigest},
    pins::{BlockPin, ItemPins, Pins},
    plan::{PlanItem, Select},
    retry,
    scheduler::Fire,
    state::{ItemState, RunState},
};
use pangolin_envelope::{
    envelope::{
        CapabilityBundle, CommandLimits, ENVELOPE_VERSION, EnvLayer, Envelope, InputFile, LaunchPlan,
    },
    pipeline::{Block, PipelineSpec},
    plugin::StagedPlugin,
    start::TASK_DIR_DEFAULT,
};
use pangolin_orchestrator::{causes::causes, executor::PrepareError};
use pangolin_plugin_host::{AdapterTask, Failure as PluginFailure, attr};
use pangolin_ports::{blob_store::BlobError, worker_backend::Network};
use serde_json::Value;

use super::{
    blocks,
    executor::{DispatchExecutor, held},
    prompt,
};
use crate::{
    config::BackendKind,
    plugins::PluginsError,
    registry::{EnvDoc, Kind, RegistryError, SubagentDoc},
};

/// Where a container sees its workspace.
pub(super) const CONTAINER_WORKSPACE: &str = "/workspace";

/// Largest pins, envelope or manifest blob in bytes.
pub(super) const DOCUMENT_BYTES_MAX: u64 = 64 << 20;

pub(super) fn denied(reason: FailureReason, message: String) -> PrepareError {
    PrepareError::Denied(Failure { reason, class: FailureClass::Invalid, message })
}

fn later(error: &dyn std::error::Error) -> PrepareError {
    PrepareError::Later(causes(error))
}

/// A blob that is missing or damaged stays so; asking again every second would keep the run open for ever.
fn unreadable(error: &BlobError) -> PrepareError {
    match error {
        BlobError::NotFound(_) | BlobError::Damaged { .. } | BlobError::TooLarge { .. } => {
            denied(FailureReason::FetchFailed, causes(error))
        }
        BlobError::Full(_) | BlobError::Other { .. } => later(error),
    }
}

fn undocumented(error: &RegistryError) -> PrepareError {
    match error {
        RegistryError::Blob(blob) => unreadable(blob),
        RegistryError::Unreadable { .. } => denied(FailureReason::IntegrityFailed, causes(error)),
        other => later(other),
    }
}

/// An adapter that does not load for a reason of its own will not load the next time either.
fn unloadable(error: &PluginsError) -> PrepareError {
    match error {
        PluginsError::Read { source, .. } => match source.get_ref().and_then(|inner| inner.downcast_ref()) {
            Some(blob) => unreadable(blob),
            None => later(error),
        },
        PluginsError::Load { error: load, .. } => match &load.failure {
            PluginFailure::HostBusy { .. } | PluginFailure::HostError { .. } => later(error),
            _ => denied(FailureReason::ProviderFailed, causes(error)),
        },
        _ => later(error),
    }
}

impl DispatchExecutor {
    pub(super) async fn prepare_attempt(&self, fire: &Fire, run: &RunState) -> Result<Digest, PrepareError> {
        let view = run
            .item(&fire.item)
            .ok_or_else(|| denied(FailureReason::WorkerFailed, "no such item".to_owned()))?;
        let item = view.plan;
        let config = self.parts.config.executors.get(&item.executor).ok_or_else(|| {
            denied(
                FailureReason::WorkerFailed,
                format!("executor {:?} is not configured any more", item.executor),
            )
        })?;
        let pins = self.item_pins(run, &fire.item).await?;
        let subagent: SubagentDoc = self
            .parts
            .registry
            .doc(Kind::Subagent, &pins.subagent.digest)
            .await
            .map_err(|error| undocumented(&error))?;
        let inputs = self.inputs(run, item)?;
        let timeout_ms = u64::try_from(retry::timeout_ms(&run.submitted().retry, item)).unwrap_or(1);
        let worker_input = item.inputs.get("workerInput").cloned().unwrap_or_else(|| serde_json::json!({}));
        let model =
            item.model.clone().or_else(|| subagent.model.clone()).or_else(|| config.default_model.clone());
        let env = self.env_layers(&pins, item).await?;
        let workspace = workspace_of(config.backend, &self.dispatch_dir(&fire.dispatch));
        let pipeline = match &pins.pipeline {
            Some(pinned) => self
                .parts
                .registry
                .doc(Kind::Pipeline, &pinned.digest)
                .await
                .map_err(|error| undocumented(&error))?,
            None => PipelineSpec::default_for(subagent.verify.as_ref()),
        };
        let has_agent = pipeline.blocks.iter().any(|block| matches!(block, Block::Agent {}));
        let task = adapter_task(
            &subagent,
            item,
            &worker_input,
            model.as_deref(),
            &workspace,
            timeout_ms,
            config.isolation(),
            &env,
            session_id(fire.dispatch.as_str()),
        )
        .map_err(|message| {
            let named = format!("subagent {:?}: {message}", pins.subagent.name);
            denied(FailureReason::ProviderFailed, named)
        })?;
        let plugins = self.staged_plugins(&pins.blocks).await?;
        let agent = if has_agent { Some(self.launch_plan(&pins, &task).await?) } else { None };
        let limits = config.limits(timeout_ms);
        let envelope = Envelope {
            v: ENVELOPE_VERSION,
            dispatch: fire.dispatch.clone(),
            namespace: self.parts.config.namespace.clone(),
            run: fire.run.clone(),
            item: fire.item.clone(),
            attempt: fire.attempt,
            capabilities: pins
                .capabilities
                .iter()
                .map(|c| CapabilityBundle {
                    name: c.name.clone(),
                    digest: c.digest,
                    file: blob_file(&c.digest),
                })
                .collect(),
            inputs: inputs
                .iter()
                .map(|(key, input)| InputFile {
                    key: key.clone(),
                    digest: input.digest,
                    file: blob_file(&input.digest),
                })
                .collect(),
            worker_input,
            env,
            env_allow: config.env_allow.clone(),
            agent,
            pipeline,
            pipeline_declared: pins.pipeline.is_some(),
            verify: subagent.verify.clone(),
            context_requires: subagent.context_requires.clone(),
            isolation: config.isolation(),
            network: network_word(config.network()).to_owned(),
            limits: CommandLimits {
                agent_timeout_ms: timeout_ms,
                setup_timeout_ms: CommandLimits::default().setup_timeout_ms.min(timeout_ms),
                grace_ms: limits.grace_ms,
                memory_bytes: limits.memory_bytes,
                pids: limits.pids,
                ..CommandLimits::default()
            },
            read_only_paths: config.read_only_paths.clone(),
            plugins,
        };
        let secret_names: BTreeSet<String> =
            envelope.env.iter().flat_map(|layer| layer.secrets.keys().cloned()).collect();
        let envelope_bytes = serde_json::to_vec(&envelope).map_err(|error| later(&error))?;
        let envelope_digest = self.parts.blobs.put(&envelope_bytes).await.map_err(|error| later(&error))?;
        let manifest = DispatchManifest {
            v: MANIFEST_VERSION,
            run: fire.run.clone(),
            item: fire.item.clone(),
            attempt: fire.attempt,
            dispatch: fire.dispatch.clone(),
            executor: item.executor.clone(),
            backend: config.backend.as_str().to_owned(),
            isolation: config.isolation(),
            network: network_word(config.network()).to_owned(),
            image: item
                .image
                .clone()
                .or_else(|| config.image.clone())
                .filter(|_| config.isolation() == Isolation::Container),
            subagent: Some(pins.subagent),
            capabilities: pins.capabilities,
            env: pins.env,
            pipeline: pins.pipeline,
            adapter: Some(pins.adapter),
            blocks: pins
                .blocks
                .into_iter()
                .map(|pin| NamedDigest { name: pin.name, digest: pin.digest })
                .collect(),
            model: model.unwrap_or_default(),
            inputs,
            secret_names: secret_names.into_iter().collect(),
            envelope: Some(envelope_digest),
            base_commit: run.submitted().base_commit.clone(),
            base_pack: self.base_pack(run).await?,
        };
        let bytes = pangolin_audit::canon::to_vec(&manifest).map_err(|error| later(&error))?;
        self.parts.blobs.put(&bytes).await.map_err(|error| later(&error))
    }

    async fn item_pins(&self, run: &RunState, item: &ItemId) -> Result<ItemPins, PrepareError> {
        let digest = run.pins_of(item).ok_or_else(|| {
            denied(
                FailureReason::IntegrityFailed,
                "the item was admitted without resolved references".to_owned(),
            )
        })?;
        let pins = self.read_pins(digest).await?;
        pins.of(item).cloned().ok_or_else(|| {
            denied(FailureReason::IntegrityFailed, format!("pins {digest} do not name item {item}"))
        })
    }

    async fn read_pins(&self, digest: Digest) -> Result<Arc<Pins>, PrepareError> {
        let cached = held(&self.pins).get(&digest).cloned();
        if let Some(pins) = cached {
            return Ok(pins);
        }
        let read = self.parts.blobs.get(&digest, DOCUMENT_BYTES_MAX).await;
        let bytes = read.map_err(|error| unreadable(&error))?;
        let pins: Pins = serde_json::from_slice(&bytes)
            .map_err(|error| denied(FailureReason::IntegrityFailed, format!("pins {digest}: {error}")))?;
        let pins = Arc::new(pins);
        held(&self.pins).insert(digest, pins.clone());
        Ok(pins)
    }

    /// The pack that came with the submission.
    async fn base_pack(&self, run: &RunState) -> Result<Option<Digest>, PrepareError> {
        let submitted = run.submitted();
        let (Some(_), Some(pins)) = (&submitted.base_commit, submitted.pins) else { return Ok(None) };
        Ok(self.read_pins(pins).await?.base_pack)
    }

    async fn staged_plugins(&self, pins: &[BlockPin]) -> Result<Vec<StagedPlugin>, PrepareError> {
        let staged = blocks::stage(pins, &self.parts.plugins, &*self.parts.blobs).await;
        staged.map_err(|problem| match problem {
            blocks::Unstaged::Refused(message) => denied(FailureReason::IntegrityFailed, message),
            blocks::Unstaged::Later(message) => PrepareError::Later(message),
        })
    }

    async fn env_layers(&self, pins: &ItemPins, item: &PlanItem) -> Result<Vec<EnvLayer>, PrepareError> {
        let mut layers = Vec::new();
        for bundle in &pins.env {
            let doc: EnvDoc = self
                .parts
                .registry
                .doc(Kind::Env, &bundle.digest)
                .await
                .map_err(|error| undocumented(&error))?;
            layers.push(bundle_layer(&bundle.name, doc));
        }
        layers.extend(item_layer(item));
        Ok(layers)
    }

    /// Products handed to the item: its `needs`, and the patches of the items it depends on as
    /// `deps/<item>.patch`, so that a gate can check the sum of what came before it.
    fn inputs(
        &self,
        run: &RunState,
        item: &PlanItem,
    ) -> Result<BTreeMap<String, ManifestInput>, PrepareError> {
        let mut inputs = BTreeMap::new();
        for from in &item.depends_on {
            if let Some(digest) = evidence(run, from).and_then(|evidence| evidence.patch) {
                inputs.insert(format!("deps/{from}.patch"), ManifestInput { from: from.clone(), digest });
            }
        }
        for (key, need) in &item.needs {
            let product = evidence(run, &need.from).and_then(|evidence| match &need.select {
                Select::Patch => evidence.patch,
                Select::Output { path } => evidence.outputs.get(path).copied(),
            });
            let Some(digest) = product else {
                let what = match &need.select {
                    Select::Patch => "patch".to_owned(),
                    Select::Output { path } => format!("output {path:?}"),
                };
                let message = format!("needs.{key}: item {} is done but has no {what}", need.from);
                return Err(denied(FailureReason::FetchFailed, message));
            };
            inputs.insert(key.clone(), ManifestInput { from: need.from.clone(), digest });
        }
        Ok(inputs)
    }

    async fn launch_plan(&self, pins: &ItemPins, task: &AdapterTask) -> Result<LaunchPlan, PrepareError> {
        let adapter = self.adapter(&pins.adapter).await.map_err(|error| unloadable(&error))?;
        adapter.prepare(task).await.map_err(|error| {
            let named = format!(
                "subagent {:?}, adapter {:?}: {}",
                pins.subagent.name, pins.adapter.name, error.failure
            );
            match error.failure {
                PluginFailure::HostBusy { .. } => PrepareError::Later(named),
                _ => denied(FailureReason::ProviderFailed, named),
            }
        })
    }
}

/// Values and secrets of an env bundle.
pub(super) fn bundle_layer(name: &str, doc: EnvDoc) -> EnvLayer {
    // The reference itself is the name of the secret: two bundles may use one variable differently.
    EnvLayer { source: format!("env bundle {name:?}"), values: doc.values, secrets: doc.secrets }
}

/// Values that the item itself brings.
pub(super) fn item_layer(item: &PlanItem) -> Option<EnvLayer> {
    (!item.env.is_empty()).then(|| EnvLayer {
        source: "item".to_owned(),
        values: item.env.clone(),
        secrets: BTreeMap::new(),
    })
}

/// Where the agent sees its workspace.
pub(super) fn workspace_of(backend: BackendKind, dispatch_dir: &Path) -> String {
    match backend {
        BackendKind::Process => dispatch_dir.join("workspace").display().to_string(),
        BackendKind::Docker => CONTAINER_WORKSPACE.to_owned(),
        BackendKind::Fargate => format!("{TASK_DIR_DEFAULT}/workspace"),
    }
}

fn evidence<'r>(run: &'r RunState, item: &ItemId) -> Option<&'r Evidence> {
    let view = run.item(item)?;
    let done = matches!(view.state, ItemState::Done) && view.state.final_status() == Some(FinalStatus::Done);
    done.then_some(())?;
    view.attempts.last()?.end.as_ref().map(|end| &*end.evidence)
}

/// What an adapter is told.
///
/// # Errors
/// Why the prompt cannot be rendered.
#[expect(clippy::too_many_arguments, reason = "two call sites; a struct would only repeat AdapterTask")]
pub(super) fn adapter_task(
    subagent: &SubagentDoc,
    item: &PlanItem,
    worker_input: &Value,
    model: Option<&str>,
    workspace: &str,
    timeout_ms: u64,
    isolation: Isolation,
    env: &[EnvLayer],
    session: String,
) -> Result<AdapterTask, String> {
    let rendered = subagent
        .prompt_template
        .as_deref()
        .map(|template| prompt::render(template, worker_input))
        .transpose()?;
    // Without a template the system prompt is the task, as in the brief.
    let (system_prompt, prompt) = match rendered {
        Some(prompt) => (subagent.system_prompt.clone(), prompt),
        None => (None, subagent.system_prompt.clone().unwrap_or_default()),
    };
    let mut attrs = BTreeMap::from([
        (attr::PARAMS.to_owned(), subagent.adapter.params.to_string()),
        (attr::SESSION_ID.to_owned(), session),
    ]);
    // No private home: HOME is one already. A directory of the workspace would let the repository configure the agent.
    if isolation == Isolation::Container {
        // In the sandbox nobody is root, and without isolation nobody may claim one.
        attrs.insert(attr::ROOT.to_owned(), "true".to_owned());
    }
    if let Some(budget) = item.budget_usd {
        attrs.insert(attr::BUDGET_USD.to_owned(), budget.to_string());
    }
    let mode = env.iter().rev().find_map(|layer| layer.values.get("PANGOLIN_CLAUDE_PERMISSION_MODE"));
    if let Some(mode) = mode {
        attrs.insert(attr::PERMISSION.to_owned(), mode.clone());
    }
    Ok(AdapterTask {
        adapter: subagent.adapter.id.clone(),
        system_prompt,
        prompt,
        model: model.map(str::to_owned),
        workspace: workspace.to_owned(),
        timeout_seconds: u32::try_from(timeout_ms / 1000).unwrap_or(u32::MAX),
        input_json: worker_input.to_string(),
        secret_names: env
            .iter()
            .flat_map(|layer| layer.secrets.keys().cloned())
            .collect::<BTreeSet<_>>()
            .into_iter()
            .collect(),
        attrs,
        allowed_programs: None,
    })
}

/// A UUID (version 8, RFC 9562: vendor-specific) derived from the dispatch, so that a session can be found again.
pub(super) fn session_id(dispatch: &str) -> String {
    let hex = Digest::of(dispatch.as_bytes()).hex();
    format!("{}-{}-8{}-8{}-{}", &hex[..8], &hex[8..12], &hex[13..16], &hex[17..20], &hex[20..32])
}

/// Name of a staged blob in the envelope directory.
pub(super) fn blob_file(digest: &Digest) -> String {
    format!("blobs/{}", digest.hex())
}

pub(super) const fn network_word(network: Network) -> &'static str {
    match network {
        Network::None => "none",
        Network::Host => "host",
    }
}

/// Absolute path of a dispatch's directory.
pub(super) fn dispatch_dir(state: &Path, dispatch: &str) -> std::path::PathBuf {
    state.join("dispatches").join(dispatch)
}
