//! What a run is pinned to when it is admitted: every reference of every item, resolved to a digest.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use async_trait::async_trait;
use pangolin_core::{
    entry::RetryPolicy,
    manifest::NamedDigest,
    plan::{Plan, PlanItem},
    validate::{Finding, PlanContext, Severity},
};
use pangolin_envelope::pipeline::PipelineSpec;
use pangolin_orchestrator::admission::{Admission, Pinned};
use pangolin_ports::{blob_store::BlobStore, worker_backend::WorkerBackend};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    config::Config,
    git,
    plugins::Plugins,
    registry::{EnvDoc, Kind, Registry, SubagentDoc},
};

/// Resolved references of a run, stored as one blob.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pins {
    /// By item id.
    pub items: BTreeMap<String, ItemPins>,
}

/// Resolved references of one item.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ItemPins {
    /// Subagent.
    pub subagent: NamedDigest,
    /// Capabilities in overlay order.
    pub capabilities: Vec<NamedDigest>,
    /// Env bundles in merge order.
    pub env: Vec<NamedDigest>,
    /// Declared pipeline.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub pipeline: Option<NamedDigest>,
    /// Adapter component.
    pub adapter: NamedDigest,
}

/// Admission against configuration, registry and backends.
pub struct RuntimeAdmission {
    /// Configuration.
    pub config: Arc<Config>,
    /// Registry.
    pub registry: Registry,
    /// Blobs.
    pub blobs: Arc<dyn BlobStore>,
    /// Plugins.
    pub plugins: Arc<Plugins>,
    /// Backends by executor name.
    pub backends: BTreeMap<String, Arc<dyn WorkerBackend>>,
    /// Names a plan may use.
    pub context: Arc<PlanContext>,
}

fn finding(pointer: String, code: &'static str, message: String, hint: Option<String>) -> Finding {
    Finding { pointer, code, severity: Severity::Error, message, hint }
}

#[async_trait]
impl Admission for RuntimeAdmission {
    fn context(&self) -> Arc<PlanContext> {
        self.context.clone()
    }

    fn namespace(&self) -> &str {
        &self.config.namespace
    }

    fn retry(&self) -> RetryPolicy {
        self.config.retry
    }

    async fn pin(&self, plan: &Plan) -> Result<Pinned, Vec<Finding>> {
        let mut findings = Vec::new();
        let mut pins = Pins::default();
        let executors: BTreeSet<&str> = plan.items.iter().map(|item| item.executor.as_str()).collect();
        for name in executors {
            self.check_isolation(name, &mut findings).await;
        }
        for (index, item) in plan.items.iter().enumerate() {
            if let Some(resolved) = self.pin_item(index, item, &mut findings).await {
                pins.items.insert(item.id.to_string(), resolved);
            }
        }
        let base_commit = self.base_commit(&mut findings);
        let pattern = match self.config.queues.get(&plan.queue) {
            Some(queue) => match self.plugins.pattern(&queue.pattern).await {
                Ok(pattern) => Some(pattern.digest()),
                Err(error) => {
                    findings.push(finding("/queue".to_owned(), "pattern", chain(&error), None));
                    None
                }
            },
            None => None,
        };
        if !findings.is_empty() {
            return Err(findings);
        }
        let stored = match pangolin_audit::canon::to_vec(&pins) {
            Ok(bytes) => self.blobs.put(&bytes).await.map_err(|error| chain(&error)),
            Err(error) => Err(chain(&error)),
        };
        match stored {
            Ok(digest) => Ok(Pinned { pins: Some(digest), base_commit, pattern }),
            Err(message) => Err(vec![finding(String::new(), "storage", message, None)]),
        }
    }
}

impl RuntimeAdmission {
    async fn check_isolation(&self, name: &str, findings: &mut Vec<Finding>) {
        let (Some(config), Some(backend)) = (self.config.executors.get(name), self.backends.get(name)) else { return };
        if let Err(error) = backend.probe(config.isolation(), config.network()).await {
            let hint = "run `pangolin doctor`; isolation is never weakened silently".to_owned();
            let message = format!("executor {name:?} cannot provide what it is configured for: {}", chain(&error));
            findings.push(finding("/items".to_owned(), "isolation", message, Some(hint)));
        }
    }

    fn base_commit(&self, findings: &mut Vec<Finding>) -> Option<String> {
        let repo = self.config.workspace.repo.as_ref()?;
        match git::resolve_commit(repo, self.config.workspace.base.as_deref().unwrap_or("HEAD")) {
            Ok(commit) => Some(commit),
            Err(error) => {
                let hint = "check [workspace] repo and base in pangolin.toml; the repository needs a commit".to_owned();
                findings.push(finding(String::new(), "workspace", chain(&error), Some(hint)));
                None
            }
        }
    }

    async fn pin_item(&self, index: usize, item: &PlanItem, findings: &mut Vec<Finding>) -> Option<ItemPins> {
        let before = findings.len();
        let at = |key: &str| format!("/items/{index}/inputs/{key}");
        let subagent = match item.inputs.get("subagent") {
            Some(Value::String(reference)) => self.resolve(Kind::Subagent, reference, at("subagent"), findings).await,
            _ => {
                let hint = "name a registered subagent, e.g. \"subagent\": \"code-edit\"".to_owned();
                findings.push(finding(at("subagent"), "missing", "an item needs inputs.subagent".to_owned(), Some(hint)));
                None
            }
        };
        let doc = match &subagent {
            Some(subagent) => match self.registry.doc::<SubagentDoc>(Kind::Subagent, &subagent.digest).await {
                Ok(doc) => Some(doc),
                Err(error) => {
                    findings.push(finding(at("subagent"), "unreadable", chain(&error), None));
                    None
                }
            },
            None => None,
        };
        let mut capabilities = doc.as_ref().map(|doc| doc.capabilities.clone()).unwrap_or_default();
        if let Some(list) = self.resolve_list(Kind::Capability, item, "capabilities", index, findings).await {
            capabilities = list;
        }
        for added in self.resolve_list(Kind::Capability, item, "addCapabilities", index, findings).await.unwrap_or_default() {
            capabilities.retain(|capability| capability.name != added.name);
            capabilities.push(added);
        }
        let env = self.resolve_list(Kind::Env, item, "env", index, findings).await.unwrap_or_default();
        for bundle in &env {
            if let Err(error) = self.registry.doc::<EnvDoc>(Kind::Env, &bundle.digest).await {
                findings.push(finding(at("env"), "unreadable", chain(&error), None));
            }
        }
        let pipeline = match item.inputs.get("pipeline") {
            None => None,
            Some(Value::String(reference)) => {
                let pinned = self.resolve(Kind::Pipeline, reference, at("pipeline"), findings).await;
                if let Some(pinned) = &pinned {
                    if let Err(error) = self.registry.doc::<PipelineSpec>(Kind::Pipeline, &pinned.digest).await {
                        findings.push(finding(at("pipeline"), "unreadable", chain(&error), None));
                    }
                }
                pinned
            }
            Some(_) => {
                findings.push(finding(at("pipeline"), "type", "must be a reference text".to_owned(), None));
                None
            }
        };
        let adapter = match &doc {
            Some(doc) => self.pin_adapter(&doc.adapter.id, at("subagent"), findings).await,
            None => None,
        };
        if findings.len() > before {
            return None;
        }
        Some(ItemPins { subagent: subagent?, capabilities, env, pipeline, adapter: adapter? })
    }

    async fn pin_adapter(&self, id: &str, pointer: String, findings: &mut Vec<Finding>) -> Option<NamedDigest> {
        let outcome = async {
            let bytes = self.plugins.adapter_bytes(id).map_err(|error| chain(&error))?;
            self.plugins.adapter(id, bytes.clone()).await.map_err(|error| chain(&error))?;
            self.blobs.put(&bytes).await.map_err(|error| chain(&error))
        };
        match outcome.await {
            Ok(digest) => Some(NamedDigest { name: id.to_owned(), digest }),
            Err(message) => {
                findings.push(finding(pointer, "adapter", message, None));
                None
            }
        }
    }

    async fn resolve_list(
        &self,
        kind: Kind,
        item: &PlanItem,
        key: &str,
        index: usize,
        findings: &mut Vec<Finding>,
    ) -> Option<Vec<NamedDigest>> {
        let pointer = |position: usize| format!("/items/{index}/inputs/{key}/{position}");
        let references: Vec<String> = match item.inputs.get(key)? {
            Value::String(one) => vec![one.clone()],
            Value::Array(many) => many.iter().filter_map(|one| one.as_str().map(str::to_owned)).collect(),
            _ => return None,
        };
        let mut found = Vec::with_capacity(references.len());
        for (position, reference) in references.iter().enumerate() {
            found.extend(self.resolve(kind, reference, pointer(position), findings).await);
        }
        Some(found)
    }

    async fn resolve(&self, kind: Kind, reference: &str, pointer: String, findings: &mut Vec<Finding>) -> Option<NamedDigest> {
        match self.registry.resolve(kind, reference).await {
            Ok(found) => Some(NamedDigest { name: found.name, digest: found.digest }),
            Err(error) => {
                findings.push(finding(pointer, "unresolved", chain(&error), None));
                None
            }
        }
    }
}

/// An error with its causes in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}
