//! From what a worker left behind to evidence and a verdict. The exit code and the agent's words are never
//! evidence of work: the diff, the outputs and the gates are.

use std::{
    fs,
    io::Read as _,
    path::{Path, PathBuf},
};

use pangolin_core::{
    artifacts::{ARTIFACT_LIST_VERSION, ArtifactList, SealedArtifact},
    entry::{Evidence, Failure, FailureClass, FailureReason, IsolationUsed, Usage, UsageQuality},
    ids::{Digest, DispatchId},
    manifest::DispatchManifest,
    outputs::{OUTPUT_PATH_BYTES_MAX, OUTPUTS_MAX},
    scheduler::{AttemptEnd, AttemptStatus},
};
use pangolin_envelope::{
    envelope::Envelope,
    plugin::BlockArtifact,
    result::{
        AGENT_STDERR_FILE, AGENT_STDOUT_FILE, ARTIFACTS_DIR, Ending, OUTPUTS_DIR, RESULT_FILE, SignedResult,
        WorkerResult,
    },
};
use pangolin_orchestrator::causes::causes;
use pangolin_plugin_host::{AdapterReport, ExitInfo, OutcomeCode};
use pangolin_ports::{
    blob_store::{BlobError, BlobStore},
    worker_backend::WorkerExit,
};
use serde_json::json;

use super::{
    blocks,
    executor::{AttemptError, DispatchExecutor, Patience},
    stage::Layout,
};
use crate::{
    patch,
    plugins::PluginsError,
    registry::{RegistryError, SubagentDoc},
};

/// Name of the worker's bounded stdout in the result directory, written by the backend.
const EVENTS_FILE: &str = "events.jsonl";

/// Largest `result.json`.
const RESULT_BYTES_MAX: u64 = 64 << 20;

/// Largest product that is searched for secrets, in bytes: the largest that a worker delivers.
const PRODUCT_BYTES_MAX: u64 = 2 << 30;

/// What is known about an attempt when its worker has ended.
pub(super) struct Ended<'a> {
    pub(super) manifest: &'a DispatchManifest,
    pub(super) envelope: &'a Envelope,
    pub(super) layout: &'a Layout,
    pub(super) exit: WorkerExit,
    pub(super) isolation: IsolationUsed,
    pub(super) secrets: Vec<String>,
    /// Of the result.
    pub(super) key: String,
    /// Repository and commit that the workspace started from.
    pub(super) base: Option<(PathBuf, String)>,
    pub(super) started_at: i64,
    pub(super) now: i64,
}

pub(super) fn failed(
    reason: FailureReason,
    class: FailureClass,
    message: impl Into<String>,
) -> AttemptStatus {
    AttemptStatus::Failed(Failure { reason, class, message: message.into() })
}

/// Why it cannot be said yet, or not at all, how an attempt ended.
#[derive(Debug)]
enum Hindrance {
    /// The blob store may take it, or give it, the next time.
    Passing(String),
    /// A failure of the host's own storage.
    Final(String),
}

impl From<BlobError> for Hindrance {
    fn from(error: BlobError) -> Self {
        let text = causes(&error);
        match error {
            // A file here, as one that the worker names and did not leave. No service will mend it.
            BlobError::Other { source, .. } if source.is::<std::io::Error>() => Self::Final(text),
            BlobError::Other { .. } => Self::Passing(text),
            _ => Self::Final(text),
        }
    }
}

impl From<String> for Hindrance {
    fn from(text: String) -> Self {
        Self::Final(text)
    }
}

impl DispatchExecutor {
    /// How an attempt ended. An error says that it is to be asked again.
    pub(super) async fn collect(&self, ended: Ended<'_>) -> Result<AttemptEnd, AttemptError> {
        let mut evidence = Evidence {
            isolation: Some(ended.isolation.clone()),
            started_at: Some(ended.started_at),
            finished_at: Some(ended.now),
            ..Evidence::default()
        };
        let status = match self.gather(&ended, &mut evidence).await {
            Ok(status) => status,
            // Whoever looks once looks again; the worker has left what it made.
            Err(Hindrance::Passing(message)) if self.parts.patience == Patience::OneLook => {
                return Err(AttemptError::Later(message));
            }
            Err(Hindrance::Passing(message) | Hindrance::Final(message)) => {
                failed(FailureReason::WorkerFailed, FailureClass::Infrastructure, message)
            }
        };
        Ok(AttemptEnd { status, evidence })
    }

    /// Stores everything that can be stored, then decides.
    async fn gather(&self, ended: &Ended<'_>, evidence: &mut Evidence) -> Result<AttemptStatus, Hindrance> {
        let blobs = &*self.parts.blobs;
        let result_dir = ended.layout.result();
        evidence.events = self.store_text(&result_dir.join(EVENTS_FILE), &ended.secrets).await?;
        if let WorkerExit::Exited { code } = ended.exit {
            evidence.exit_code = Some(code);
        }
        let opened = match open_result(ended) {
            Ok(opened) => opened,
            Err((reason, class, message)) => {
                evidence.transcript =
                    self.store_text(&result_dir.join(AGENT_STDOUT_FILE), &ended.secrets).await?;
                return Ok(no_result(&ended.exit, reason, class, message));
            }
        };
        evidence.started_at = Some(opened.started_at);
        evidence.finished_at = Some(opened.finished_at);
        evidence.verify.clone_from(&opened.verify);
        if let Some(isolation) = &mut evidence.isolation {
            for mechanism in &opened.mechanisms {
                if !isolation.mechanisms.contains(mechanism) {
                    isolation.mechanisms.push(mechanism.clone());
                }
            }
            isolation.mechanisms.sort_unstable();
        }
        let report = self.read_agent(ended, &opened, evidence).await?;
        let problem = self.store_products(ended, &opened, evidence, blobs).await?;
        let secrets_in = self.secrets_in(ended, &opened, evidence).await?;
        let record = json!({
            "v": 1,
            "dispatch": ended.manifest.dispatch,
            "secrets_in": secrets_in,
            "worker": opened,
            "agent": report.as_ref().map(|report| agent_json(report, &ended.secrets)),
            "worker_exit": format!("{:?}", ended.exit),
        });
        let record = pangolin_audit::canon::to_vec(&record).map_err(|error| causes(&error))?;
        evidence.result = Some(blobs.put(&record).await?);
        if let Some(problem) = problem {
            return Ok(failed(FailureReason::IntegrityFailed, FailureClass::Invalid, problem));
        }
        let subagent = self.subagent(ended.manifest).await.map_err(|error| match error {
            RegistryError::Blob(error) => error.into(),
            error => Hindrance::Final(causes(&error)),
        })?;
        Ok(decide(ended, &opened, report.as_ref(), evidence, subagent.as_ref()))
    }

    /// Reads the transcript with the pinned adapter.
    async fn read_agent(
        &self,
        ended: &Ended<'_>,
        result: &WorkerResult,
        evidence: &mut Evidence,
    ) -> Result<Option<AdapterReport>, Hindrance> {
        let Some(agent) = &result.agent else { return Ok(None) };
        let dir = ended.layout.result();
        let stdout = read_bounded(&dir.join(AGENT_STDOUT_FILE), ended.envelope.limits.stdout_bytes)?;
        let stderr = read_bounded(&dir.join(AGENT_STDERR_FILE), ended.envelope.limits.stderr_bytes)?;
        evidence.transcript = self.store_text(&dir.join(AGENT_STDOUT_FILE), &ended.secrets).await?;
        if Digest::of(&stdout) != agent.stdout || Digest::of(&stderr) != agent.stderr {
            tracing::warn!(dispatch = %ended.manifest.dispatch, "the transcript was changed after the worker sealed it");
            evidence.usage = Some(missing());
            return Ok(None);
        }
        let Some(pinned) = &ended.manifest.adapter else { return Ok(None) };
        let adapter = match self.adapter(pinned).await {
            Ok(adapter) => adapter,
            Err(PluginsError::Read { source, .. }) if is_passing(&source) => {
                return Err(Hindrance::Passing(causes(&source)));
            }
            Err(error) => {
                tracing::warn!(error = %causes(&error), "the adapter cannot be loaded; usage is unknown");
                evidence.usage = Some(missing());
                return Ok(None);
            }
        };
        let exit = ExitInfo {
            code: agent.exit_code,
            signal: agent.signal,
            timed_out: agent.timed_out,
            truncated: agent.truncated,
        };
        let task = pangolin_plugin_host::AdapterTask {
            adapter: pinned.name.clone(),
            model: Some(ended.manifest.model.clone()).filter(|model| !model.is_empty()),
            input_json: ended.envelope.worker_input.to_string(),
            ..pangolin_plugin_host::AdapterTask::default()
        };
        let mut report = adapter.read_transcript(&task, &stdout, &stderr, exit).await;
        clean_names(&mut report, &ended.secrets);
        if let Some(fault) = &report.fault {
            let (adapter, fault) = (&pinned.name, &fault.failure);
            tracing::warn!(adapter, %fault, "the adapter failed while it read the transcript; the transcript is kept");
        }
        evidence.usage = Some(report.usage().unwrap_or_else(missing));
        Ok(Some(report))
    }

    /// Stores patch and outputs. `Ok(Some(problem))`: something is not what the worker sealed.
    async fn store_products(
        &self,
        ended: &Ended<'_>,
        result: &WorkerResult,
        evidence: &mut Evidence,
        blobs: &dyn BlobStore,
    ) -> Result<Option<String>, Hindrance> {
        if let Some(capture) = result.capture.clone().filter(|capture| !capture.changes.is_empty()) {
            let base = ended.base.clone();
            let (dir, scratch) = (ended.layout.result(), ended.layout.scratch());
            let built = tokio::task::spawn_blocking(move || {
                let _ = super::stage::remove_tree(&scratch);
                fs::create_dir_all(&scratch)
                    .map_err(|source| patch::PatchError::Read { path: scratch.clone(), source })?;
                patch::build(
                    &capture,
                    &dir,
                    &scratch,
                    base.as_ref().map(|(repo, commit)| (&**repo, &**commit)),
                )
            })
            .await
            .map_err(|error| error.to_string())?;
            match built {
                Ok(patch) if patch.bytes.is_empty() => {}
                Ok(patch) => {
                    evidence.patch = Some(blobs.put(&patch.bytes).await?);
                    evidence.tree = patch.tree;
                }
                Err(error @ (patch::PatchError::Altered { .. } | patch::PatchError::BadPath(_))) => {
                    return Ok(Some(causes(&error)));
                }
                Err(error) => return Err(causes(&error).into()),
            }
        }
        if result.outputs.len() > OUTPUTS_MAX {
            return Ok(Some(format!(
                "the worker delivered {} outputs, at most {OUTPUTS_MAX} are taken; pack them",
                result.outputs.len()
            )));
        }
        for output in &result.outputs {
            let path = ended.layout.result().join(OUTPUTS_DIR).join(&output.path);
            if !is_plain_relative(&output.path) || output.path.len() > OUTPUT_PATH_BYTES_MAX {
                return Ok(Some(format!("output path {:?} is not acceptable", output.path)));
            }
            let digest = blobs.put_file(&path).await?;
            if digest != output.digest {
                return Ok(Some(format!("output {:?} was changed after the worker sealed it", output.path)));
            }
            evidence.outputs.insert(output.path.clone(), digest);
        }
        let list = artifact_list(ended.manifest.dispatch.clone(), result);
        for artifact in &list.artifacts {
            let path = ended.layout.result().join(ARTIFACTS_DIR).join(artifact.digest.hex());
            let named = || format!("artifact {:?} of block {}", artifact.path, artifact.block);
            if !fs::symlink_metadata(&path).is_ok_and(|meta| meta.is_file()) {
                return Ok(Some(format!("{} is missing", named())));
            }
            let digest = blobs.put_file(&path).await?;
            if digest != artifact.digest {
                return Ok(Some(format!("{} was changed after the worker sealed it", named())));
            }
        }
        if !list.artifacts.is_empty() {
            let bytes = pangolin_audit::canon::to_vec(&list).map_err(|error| causes(&error))?;
            evidence.block_artifacts = Some(blobs.put(&bytes).await?);
        }
        Ok(None)
    }

    /// Patch and outputs are kept byte for byte, so a secret in them cannot be taken out. It is said instead:
    /// `patch`, or `outputs/<path>` or `artifacts/<block>/<path>` for each product that contains the value of one.
    async fn secrets_in(
        &self,
        ended: &Ended<'_>,
        result: &WorkerResult,
        evidence: &Evidence,
    ) -> Result<Vec<String>, Hindrance> {
        let secrets = patterns(&ended.secrets);
        if secrets.is_empty() {
            return Ok(Vec::new());
        }
        let holds = |bytes: &[u8]| secrets.iter().any(|secret| contains(bytes, secret));
        let mut found = Vec::new();
        for (path, digest) in &evidence.outputs {
            let bytes = self.parts.blobs.get(digest, PRODUCT_BYTES_MAX).await?;
            if holds(&bytes) {
                found.push(format!("{OUTPUTS_DIR}/{path}"));
            }
        }
        for artifact in artifact_list(ended.manifest.dispatch.clone(), result).artifacts {
            let bytes = match self.parts.blobs.get(&artifact.digest, PRODUCT_BYTES_MAX).await {
                Ok(bytes) => bytes,
                // It was altered and not stored; the attempt fails for that.
                Err(BlobError::NotFound(_)) => continue,
                Err(error) => return Err(error.into()),
            };
            if holds(&bytes) {
                found.push(format!("{ARTIFACTS_DIR}/{}/{}", artifact.block, artifact.path));
            }
        }
        if let Some(digest) = &evidence.patch {
            let bytes = self.parts.blobs.get(digest, PRODUCT_BYTES_MAX).await?;
            if holds(&bytes) {
                found.push("patch".to_owned());
            }
        }
        if !found.is_empty() {
            tracing::warn!(
                dispatch = %ended.manifest.dispatch,
                products = %found.join(", "),
                "the agent put a secret into what it delivered; change that secret and do not publish the products"
            );
        }
        Ok(found)
    }

    /// Stores a text file with secrets taken out; `None` when there is no such file.
    async fn store_text(&self, path: &Path, secrets: &[String]) -> Result<Option<Digest>, Hindrance> {
        let limit = 64 << 20;
        let bytes = match fs::symlink_metadata(path) {
            Ok(meta) if meta.is_file() => read_bounded(path, limit)?,
            _ => return Ok(None),
        };
        let bytes = redact(bytes, secrets);
        Ok(Some(self.parts.blobs.put(&bytes).await?))
    }

    pub(super) async fn subagent(
        &self,
        manifest: &DispatchManifest,
    ) -> Result<Option<SubagentDoc>, RegistryError> {
        match &manifest.subagent {
            Some(subagent) => {
                self.parts.registry.doc(crate::registry::Kind::Subagent, &subagent.digest).await.map(Some)
            }
            None => Ok(None),
        }
    }
}

/// Whether a blob that is a file here cannot be read in passing.
fn is_passing(error: &std::io::Error) -> bool {
    let blob = error.get_ref().and_then(|source| source.downcast_ref::<BlobError>());
    matches!(blob, Some(BlobError::Other { .. }))
}

/// Committed artifacts of plugin blocks.
fn artifact_list(dispatch: DispatchId, result: &WorkerResult) -> ArtifactList {
    let sealed = |ordinal: u32, plugin: &str, artifact: &BlockArtifact| SealedArtifact {
        block: ordinal,
        plugin: plugin.to_owned(),
        path: artifact.path.clone(),
        digest: artifact.digest,
        size: artifact.size,
    };
    let blocks = result.blocks.iter().filter_map(|block| Some((block.ordinal, block.plugin.as_deref()?)));
    let artifacts = blocks.flat_map(|(ordinal, plugin)| {
        plugin.artifacts.iter().map(move |artifact| sealed(ordinal, &plugin.id, artifact))
    });
    ArtifactList { v: ARTIFACT_LIST_VERSION, dispatch, artifacts: artifacts.collect() }
}

fn missing() -> Usage {
    Usage {
        models: Vec::new(),
        counters: std::collections::BTreeMap::new(),
        cost_microusd: None,
        quality: UsageQuality::Missing,
    }
}

type Unusable = (FailureReason, FailureClass, String);

fn open_result(ended: &Ended<'_>) -> Result<WorkerResult, Unusable> {
    let path = ended.layout.result().join(RESULT_FILE);
    let infrastructure =
        |message: String| (FailureReason::WorkerFailed, FailureClass::Infrastructure, message);
    let invalid = |message: String| (FailureReason::IntegrityFailed, FailureClass::Invalid, message);
    match fs::symlink_metadata(&path) {
        Ok(meta) if !meta.is_file() || meta.len() > RESULT_BYTES_MAX => {
            return Err(invalid("result.json is not a regular file of acceptable size".to_owned()));
        }
        Ok(_) => {}
        Err(_) => return Err(infrastructure("the worker left no result".to_owned())),
    }
    let bytes =
        fs::read(&path).map_err(|error| infrastructure(format!("cannot read result.json: {error}")))?;
    let signed: SignedResult = serde_json::from_slice(&bytes)
        .map_err(|error| invalid(format!("result.json is malformed: {error}")))?;
    signed.open(&ended.key, &ended.manifest.dispatch).map_err(|error| invalid(causes(&error)))
}

/// The verdict when there is no usable result.
fn no_result(
    exit: &WorkerExit,
    reason: FailureReason,
    class: FailureClass,
    message: String,
) -> AttemptStatus {
    match exit {
        WorkerExit::TimedOut => {
            failed(FailureReason::Timeout, FailureClass::Timeout, "the worker was killed at its time limit")
        }
        WorkerExit::Cancelled => AttemptStatus::Cancelled,
        WorkerExit::Lost { detail } => failed(reason, class, format!("the worker is lost: {detail}")),
        WorkerExit::Exited { code } => failed(reason, class, format!("{message} (worker exit code {code})")),
    }
}

/// The verdict over an authentic result.
fn decide(
    ended: &Ended<'_>,
    result: &WorkerResult,
    report: Option<&AdapterReport>,
    evidence: &Evidence,
    subagent: Option<&SubagentDoc>,
) -> AttemptStatus {
    let clean =
        |text: &str| String::from_utf8_lossy(&redact(text.as_bytes().to_vec(), &ended.secrets)).into_owned();
    let outcome = report.filter(|report| report.fault.is_none()).map(|report| &report.outcome);
    match &result.ending {
        Ending::Cancelled {} => AttemptStatus::Cancelled,
        Ending::NeedsInput {} => AttemptStatus::NeedsInput,
        Ending::Failed { reason, message, exit_code } => {
            let agent_failed = result.blocks.iter().any(|block| block.kind == "agent" && !block.ok);
            let timed_out =
                result.agent.as_ref().is_some_and(|agent| agent.timed_out) || *exit_code == Some(124);
            // What a plugin failed of is known better than that something failed.
            let plugin = match reason {
                FailureReason::ProviderFailed | FailureReason::WorkerFailed => {
                    blocks::ended_by(&ended.envelope.pipeline, result)
                }
                _ => None,
            };
            if let Some(plugin) = plugin {
                return failed(*reason, blocks::failure_class(plugin), clean(message));
            }
            match reason {
                FailureReason::ProviderFailed if timed_out => {
                    failed(FailureReason::Timeout, FailureClass::Timeout, clean(message))
                }
                FailureReason::ProviderFailed if agent_failed => {
                    let told = outcome.filter(|outcome| outcome.code.failure_class().is_some());
                    let class =
                        told.and_then(|outcome| outcome.code.failure_class()).unwrap_or(FailureClass::Work);
                    // What the adapter understood says more than the end of the transcript.
                    let text = match told {
                        Some(outcome) => {
                            let (end, code) = (agent_end(result), outcome.code.as_str());
                            format!("the agent ended with {end}: {code} ({})", outcome.message)
                        }
                        None => message.clone(),
                    };
                    failed(*reason, class, clean(&text))
                }
                FailureReason::ProviderFailed => failed(*reason, FailureClass::Work, clean(message)),
                FailureReason::Timeout => failed(*reason, FailureClass::Timeout, clean(message)),
                FailureReason::IntegrityFailed => failed(*reason, FailureClass::Invalid, clean(message)),
                FailureReason::Cancelled => AttemptStatus::Cancelled,
                FailureReason::WorkerFailed | FailureReason::FetchFailed => {
                    failed(*reason, FailureClass::Infrastructure, clean(message))
                }
            }
        }
        Ending::Finished {} => {
            let nothing = evidence.patch.is_none() && evidence.outputs.is_empty();
            let must_change = subagent
                .is_some_and(|subagent| subagent.require_changes.unwrap_or(subagent.adapter.id != "command"))
                && result.agent.is_some();
            match outcome.map(|outcome| (outcome.code, &outcome.message)) {
                // An agent that was refused tools but still delivered is judged by what it delivered.
                Some((OutcomeCode::Denied, message)) if nothing => {
                    let text = format!("the agent was refused a tool and changed nothing: {message}");
                    failed(FailureReason::ProviderFailed, FailureClass::Refusal, clean(&text))
                }
                Some((code, message)) if code != OutcomeCode::Denied && code.failure_class().is_some() => {
                    let class = code.failure_class().unwrap_or(FailureClass::Work);
                    let text = format!("the agent ended with {}: {message}", code.as_str());
                    failed(FailureReason::ProviderFailed, class, clean(&text))
                }
                _ if nothing && must_change => {
                    let text = "the agent ended without changing a file or leaving an output; set requireChanges = false \
                                in the subagent if that is a success";
                    failed(FailureReason::ProviderFailed, FailureClass::Refusal, text)
                }
                _ => AttemptStatus::Done,
            }
        }
    }
}

fn agent_end(result: &WorkerResult) -> String {
    let agent = result.agent.as_ref();
    match (agent.and_then(|agent| agent.exit_code), agent.and_then(|agent| agent.signal)) {
        (Some(code), _) => format!("code {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => "an unknown status".to_owned(),
    }
}

/// Takes secrets out of everything that counts as a name: it is the agent's text too, and it goes into the ledger.
fn clean_names(report: &mut AdapterReport, secrets: &[String]) {
    let clean = |text: &str| String::from_utf8_lossy(&redact(text.as_bytes().to_vec(), secrets)).into_owned();
    report.session_id = report.session_id.as_deref().map(clean);
    report.models = report.models.iter().map(|model| clean(model)).collect();
    report.counters = report.counters.iter().map(|(key, value)| (clean(key), *value)).collect();
}

fn agent_json(report: &AdapterReport, secrets: &[String]) -> serde_json::Value {
    let clean = |text: &str| String::from_utf8_lossy(&redact(text.as_bytes().to_vec(), secrets)).into_owned();
    json!({
        "session_id": report.session_id,
        "models": report.models,
        "counters": report.counters,
        "cost_microusd": report.cost_microusd,
        "quality": report.quality,
        "outcome": {"code": report.outcome.code.as_str(), "message": clean(&report.outcome.message)},
        "denials": report.denials.iter().map(|denial| clean(&denial.subject)).collect::<Vec<_>>(),
        "claim": clean(&report.claim),
        "adapter_fault": report.fault.as_ref().map(|fault| clean(&fault.failure.to_string())),
    })
}

fn read_bounded(path: &Path, limit: u64) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    match fs::File::open(path) {
        Ok(file) => file
            .take(limit.saturating_add(4096))
            .read_to_end(&mut bytes)
            .map_err(|error| format!("cannot read {}: {error}", path.display()))?,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => 0,
        Err(error) => return Err(format!("cannot read {}: {error}", path.display())),
    };
    Ok(bytes)
}

/// The secrets to look for, longest first.
fn patterns(secrets: &[String]) -> Vec<&[u8]> {
    let mut sorted: Vec<&[u8]> = secrets.iter().map(|s| s.as_bytes()).filter(|s| s.len() >= 4).collect();
    sorted.sort_unstable_by(|left, right| right.len().cmp(&left.len()).then_with(|| left.cmp(right)));
    // A value is known by its reference and by its variable.
    sorted.dedup();
    sorted
}

fn contains(bytes: &[u8], secret: &[u8]) -> bool {
    bytes.windows(secret.len()).any(|window| window == secret)
}

/// Replaces every occurrence of a secret, longest first. Secrets below four bytes would destroy ordinary text and
/// are left alone, as in the worker.
pub(super) fn redact(bytes: Vec<u8>, secrets: &[String]) -> Vec<u8> {
    patterns(secrets).iter().fold(bytes, |bytes, secret| {
        if !contains(&bytes, secret) {
            return bytes;
        }
        let mut clean = Vec::with_capacity(bytes.len());
        let mut rest = &bytes[..];
        while let Some(at) = rest.windows(secret.len()).position(|window| window == *secret) {
            clean.extend_from_slice(&rest[..at]);
            clean.extend_from_slice(b"<redacted:secret>");
            rest = &rest[at + secret.len()..];
        }
        clean.extend_from_slice(rest);
        clean
    })
}

fn is_plain_relative(path: &str) -> bool {
    !path.is_empty() && path.split('/').all(|part| !part.is_empty() && part != "." && part != "..")
}

#[cfg(test)]
mod tests {
    use pangolin_plugin_host::Outcome;

    use super::*;

    #[test]
    fn a_secret_is_no_name_of_a_model_a_session_or_a_counter() {
        let mut report = AdapterReport {
            session_id: Some("s-hunter2".to_owned()),
            models: vec!["hunter2".to_owned(), "model-1".to_owned()],
            counters: [("hunter2".to_owned(), 1), ("input".to_owned(), 2)].into(),
            cost_microusd: None,
            quality: UsageQuality::Exact,
            outcome: Outcome { code: OutcomeCode::Completed, message: String::new() },
            denials: Vec::new(),
            events: Vec::new(),
            events_truncated: false,
            claim: "hunter2".to_owned(),
            question: None,
            fault: None,
        };
        clean_names(&mut report, &["hunter2".to_owned()]);
        let usage = serde_json::to_string(&report.usage()).unwrap();
        let agent = agent_json(&report, &["hunter2".to_owned()]).to_string();
        for sealed in [usage, agent] {
            assert!(!sealed.contains("hunter2") && sealed.contains("model-1"), "{sealed}");
            assert!(sealed.contains("<redacted:secret>") && sealed.contains("\"input\":2"), "{sealed}");
        }
    }

    #[test]
    fn secrets_are_taken_out_longest_first() {
        let secrets = ["hunter2".to_owned(), "hunter2-long".to_owned(), "ab".to_owned()];
        let clean = redact(b"x hunter2-long y hunter2 ab".to_vec(), &secrets);
        assert_eq!(clean, b"x <redacted:secret> y <redacted:secret> ab");
    }
}
