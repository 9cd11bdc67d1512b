//! What a run is pinned to when it is admitted: every reference of every item, resolved to a digest.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    path::Path,
    sync::Arc,
};

use async_trait::async_trait;
use pangolin_core::{
    entry::RetryPolicy,
    ids::Digest,
    manifest::NamedDigest,
    pins::{BlockPin, ItemPins, Known, PINS_VERSION, Pins},
    plan::{Plan, PlanItem},
    state::RunState,
    validate::{Finding, PlanContext, Severity, meant_input},
};
use pangolin_envelope::pipeline::{Block, PipelineSpec};
use pangolin_orchestrator::{
    admission::{Admission, Pinned, UNJUDGED},
    causes::causes,
    message::Base,
};
use pangolin_plugin_host::{AdapterComponent, Problem};
use pangolin_ports::{
    blob_store::BlobStore, memory::MemoryBlobStore, run_store::RunStoreError, worker_backend::WorkerBackend,
};
use serde_json::{Map, Value};

use super::{
    blocks, known,
    rehearse::{Cast, Rehearsal, of_subagent},
    watched::Watched,
    workspaces::Workspaces,
};
use crate::{
    config::Config,
    git,
    plugins::Plugins,
    registry::{EnvDoc, Kind, Registry, RegistryError, SubagentDoc},
};

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
    /// Where workspaces come from.
    pub workspaces: Workspaces,
}

/// Largest pins blob in bytes.
pub(super) const PINS_BYTES_MAX: u64 = 64 << 20;

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

    async fn pin(&self, plan: &Plan, base: Option<&Base>) -> Result<Pinned, Vec<Finding>> {
        let mut findings = Vec::new();
        self.check_executors(&plan.items, &mut findings).await;
        let blobs = Watched::new(self.blobs.clone());
        let registry = self.registry.through(blobs.clone());
        let mut resolver = Resolver::new(&registry, AdapterSource::Load(&self.plugins, &*blobs));
        resolver.rehearsal = Some(Rehearsal::new(&self.config, &registry));
        let mut pins = resolver.pin("/items", &plan.items).await;
        findings.append(&mut resolver.findings);
        let silent = resolver.silent.take();
        let base_commit = match &self.workspaces {
            Workspaces::Empty => None,
            Workspaces::Repository(repo) => self.base_commit(repo, &mut findings),
            Workspaces::Submitted => {
                pins.base_pack = base.map(|base| base.pack);
                self.submitted_base(&*blobs, base, &mut findings).await
            }
        };
        if base.is_some() && !matches!(self.workspaces, Workspaces::Submitted) {
            let message = "the submission brings a base commit, and this deployment takes its own".to_owned();
            findings.push(finding(String::new(), "workspace", message, None));
        }
        if !findings.is_empty() {
            return Err(judged(findings, silent.or_else(|| blobs.trouble())));
        }
        Ok(Pinned { pins: Some(self.store(&pins).await?), base_commit })
    }

    async fn pin_added(&self, run: &RunState, items: &[PlanItem]) -> Result<Option<Digest>, Vec<Finding>> {
        let mut findings = Vec::new();
        self.check_executors(items, &mut findings).await;
        let blobs = Watched::new(self.blobs.clone());
        let registry = self.registry.through(blobs.clone());
        let mut resolver = Resolver::new(&registry, AdapterSource::Load(&self.plugins, &*blobs));
        resolver.known = known::of_run(run, &*self.blobs).await.map_err(|problem| {
            vec![finding(String::new(), UNJUDGED, format!("pins of the run: {problem}"), None)]
        })?;
        let pins = resolver.pin("", items).await;
        findings.append(&mut resolver.findings);
        if findings.is_empty() {
            return Ok(Some(self.store(&pins).await?));
        }
        Err(judged(findings, resolver.silent.take().or_else(|| blobs.trouble())))
    }
}

/// Findings are no judgement when a store did not answer: then they say only that.
fn judged(findings: Vec<Finding>, silent: Option<String>) -> Vec<Finding> {
    match silent {
        Some(message) => vec![finding(String::new(), UNJUDGED, message, None)],
        None => findings,
    }
}

impl RuntimeAdmission {
    async fn store(&self, pins: &Pins) -> Result<Digest, Vec<Finding>> {
        let stored = match pangolin_audit::canon::to_vec(pins) {
            Ok(bytes) => self.blobs.put(&bytes).await.map_err(|error| causes(&error)),
            Err(error) => Err(causes(&error)),
        };
        stored.map_err(|message| vec![finding(String::new(), UNJUDGED, message, None)])
    }

    async fn check_executors(&self, items: &[PlanItem], findings: &mut Vec<Finding>) {
        let executors: BTreeSet<&str> = items.iter().map(|item| item.executor.as_str()).collect();
        for name in executors {
            self.check_isolation(name, findings).await;
        }
    }

    async fn check_isolation(&self, name: &str, findings: &mut Vec<Finding>) {
        let (Some(config), Some(backend)) = (self.config.executors.get(name), self.backends.get(name)) else {
            return;
        };
        if let Err(error) = backend.probe(config.isolation(), config.network()).await {
            let hint = "run `pangolin doctor`; isolation is never weakened silently".to_owned();
            let message =
                format!("executor {name:?} cannot provide what it is configured for: {}", causes(&error));
            findings.push(finding("/items".to_owned(), "isolation", message, Some(hint)));
        }
    }

    /// The commit that the submitter brought. That the pack holds it is seen when it is checked out: objects are hashed then.
    async fn submitted_base(
        &self,
        blobs: &dyn BlobStore,
        base: Option<&Base>,
        findings: &mut Vec<Finding>,
    ) -> Option<String> {
        let mut refuse = |message: String| {
            let hint = "submit with `pangolin orch submit --remote` from the repository of [workspace]";
            findings.push(finding(String::new(), "workspace", message, Some(hint.to_owned())));
        };
        let Some(base) = base else {
            refuse("the submission brings no base commit".to_owned());
            return None;
        };
        if !matches!(base.commit.len(), 40 | 64) || !base.commit.bytes().all(|byte| byte.is_ascii_hexdigit())
        {
            refuse("its base commit is not 40 or 64 hex digits".to_owned());
            return None;
        }
        match blobs.size(&base.pack).await {
            Ok(Some(_)) => Some(base.commit.clone()),
            Ok(None) => {
                refuse(format!("the pack {} of its base commit was not uploaded", base.pack));
                None
            }
            Err(error) => {
                refuse(causes(&error));
                None
            }
        }
    }

    fn base_commit(&self, repo: &Path, findings: &mut Vec<Finding>) -> Option<String> {
        match git::resolve_commit(repo, self.config.workspace.base.as_deref().unwrap_or("HEAD")) {
            Ok(commit) => Some(commit),
            Err(error) => {
                let hint = "check [workspace] repo and base in pangolin.toml; the repository needs a commit"
                    .to_owned();
                findings.push(finding(String::new(), "workspace", causes(&error), Some(hint)));
                None
            }
        }
    }
}

/// Findings about everything a plan refers to as an admission would have them: plugins are loaded as approved and granted
/// now. Nothing is stored, and no backend is asked.
pub(crate) async fn check_admissible(registry: &Registry, plugins: &Plugins, plan: &Plan) -> Vec<Finding> {
    let dropped = MemoryBlobStore::new();
    let mut resolver = Resolver::new(registry, AdapterSource::Load(plugins, &dropped));
    resolver.rehearsal = Some(Rehearsal::new(plugins.config(), registry));
    resolver.pin("/items", &plan.items).await;
    resolver.findings
}

/// Findings about everything a plan refers to, without loading a plugin or asking a backend.
pub(crate) async fn check_references(
    registry: &Registry,
    adapters: &BTreeSet<String>,
    plan: &Plan,
) -> Vec<Finding> {
    let mut resolver = Resolver::new(registry, AdapterSource::Names(adapters));
    resolver.pin("/items", &plan.items).await;
    resolver.findings
}

/// How thoroughly adapters are looked at.
#[derive(Clone, Copy)]
enum AdapterSource<'a> {
    /// Only whether they exist.
    Names(&'a BTreeSet<String>),
    /// Loaded, and their bytes stored.
    Load(&'a Plugins, &'a dyn BlobStore),
}

/// Resolves the references of a plan; each distinct one is looked up once.
struct Resolver<'a> {
    registry: &'a Registry,
    adapters: AdapterSource<'a>,
    /// What is pinned already comes first: an added item means what it would have meant at admission.
    known: Known,
    unresolved: HashMap<(Kind, String), String>,
    /// The ledger did not answer.
    silent: Option<String>,
    subagents: HashMap<Digest, Result<Arc<Frozen>, String>>,
    /// Adapters that were not known before, by id.
    loaded: HashMap<String, (Digest, AdapterComponent)>,
    pipelines: HashMap<Digest, Result<Arc<Declared>, Vec<String>>>,
    blocks: blocks::Loaded,
    /// Of a plan. Items that are added later are looked at when they start: a pattern's step must not fail for one of them.
    rehearsal: Option<Rehearsal<'a>>,
    findings: Vec<Finding>,
}

/// A subagent and its adapter.
struct Frozen {
    doc: SubagentDoc,
    adapter: NamedDigest,
    /// Loaded, when it is at hand.
    component: Option<AdapterComponent>,
    /// What is wrong with it whatever an item is.
    problems: Vec<Problem>,
}

/// A pipeline and its plugins.
struct Declared {
    pins: Vec<BlockPin>,
    /// Whether the adapter is asked for a launch plan.
    has_agent: bool,
    /// What blocks say is wrong with their parameters, with the pointer into the pipeline.
    problems: Vec<(String, String)>,
}

/// An object in the inputs of an item that a pattern may make an item of: it has `executor` and `inputs`.
struct Template<'a> {
    pointer: String,
    inputs: &'a Map<String, Value>,
}

fn templates<'a>(pointer: &str, value: &'a Value, found: &mut Vec<Template<'a>>) {
    match value {
        Value::Array(values) => {
            for (index, value) in values.iter().enumerate() {
                templates(&format!("{pointer}/{index}"), value, found);
            }
        }
        Value::Object(members) => {
            if let (Some(Value::String(_)), Some(Value::Object(inputs))) =
                (members.get("executor"), members.get("inputs"))
            {
                found.push(Template { pointer: format!("{pointer}/inputs"), inputs });
            }
            for (key, value) in members {
                if value.is_object() || value.is_array() {
                    templates(&format!("{pointer}/{}", escaped(key)), value, found);
                }
            }
        }
        _ => (),
    }
}

/// A member name in a JSON pointer.
fn escaped(key: &str) -> String {
    key.replace('~', "~0").replace('/', "~1")
}

impl<'a> Resolver<'a> {
    fn new(registry: &'a Registry, adapters: AdapterSource<'a>) -> Self {
        Self {
            registry,
            adapters,
            known: Known::default(),
            unresolved: HashMap::new(),
            silent: None,
            subagents: HashMap::new(),
            pipelines: HashMap::new(),
            loaded: HashMap::new(),
            blocks: blocks::Loaded::new(),
            rehearsal: None,
            findings: Vec::new(),
        }
    }

    /// Pins of items whose array is at `base`, with those of the templates in them.
    async fn pin(&mut self, base: &str, items: &[PlanItem]) -> Pins {
        let mut pins = Pins { v: PINS_VERSION, ..Pins::default() };
        let mut positions: HashMap<ItemPins, usize> = HashMap::new();
        for (index, item) in items.iter().enumerate() {
            let at = format!("{base}/{index}/inputs");
            for name in item.env.keys().filter(|name| crate::secrets::is_reserved_variable(name)) {
                let message = format!("variable {name:?} is reserved for the worker");
                let hint = "variables that start with PANGOLIN_ are set by the worker";
                self.report(format!("{base}/{index}/env/{}", escaped(name)), "reserved", message, Some(hint));
            }
            let own = self.pin_inputs(&at, &item.inputs, Some((&format!("{base}/{index}"), item))).await;
            let mut found = Vec::new();
            for (key, value) in &item.inputs {
                if value.is_object() || value.is_array() {
                    templates(&format!("{at}/{}", escaped(key)), value, &mut found);
                }
            }
            let mut keep = |set: ItemPins| {
                *positions.entry(set).or_insert_with_key(|set| {
                    pins.sets.push(set.clone());
                    pins.sets.len() - 1
                })
            };
            if let Some(position) = own.map(&mut keep) {
                pins.items.insert(item.id.to_string(), position);
            }
            for Template { pointer, inputs } in found {
                if let Some(set) = self.pin_inputs(&pointer, inputs, None).await {
                    keep(set);
                }
            }
        }
        pins.known.clone_from(&self.known);
        pins
    }

    fn report(&mut self, pointer: String, code: &'static str, message: String, hint: Option<&str>) {
        self.findings.push(finding(pointer, code, message, hint.map(str::to_owned)));
    }

    /// What the inputs at a pointer refer to. A template need not name everything: the pattern may add to it.
    async fn pin_inputs(
        &mut self,
        pointer: &str,
        inputs: &Map<String, Value>,
        item: Option<(&str, &PlanItem)>,
    ) -> Option<ItemPins> {
        let before = self.findings.len();
        let at = |key: &str| format!("{pointer}/{}", escaped(key));
        for key in inputs.keys() {
            if let Some(meant) = meant_input(key) {
                let message = format!("{key:?} is not an input; a slip here could drop a gate");
                self.report(at(key), "unknown-input", message, Some(&format!("did you mean {meant:?}?")));
            }
        }
        let subagent = match inputs.get("subagent") {
            Some(Value::String(reference)) => self.resolve(Kind::Subagent, reference, at("subagent")).await,
            None if item.is_none() => None,
            _ => {
                let hint = "name a registered subagent, e.g. \"subagent\": \"code-edit\"";
                self.report(
                    at("subagent"),
                    "missing",
                    "an item needs inputs.subagent".to_owned(),
                    Some(hint),
                );
                None
            }
        };
        let frozen = match &subagent {
            Some(subagent) => self.subagent(subagent, at("subagent")).await,
            None => None,
        };
        let mut capabilities =
            frozen.as_ref().map(|frozen| frozen.doc.capabilities.clone()).unwrap_or_default();
        if let Some(list) = self.resolve_list(Kind::Capability, inputs, "capabilities", pointer).await {
            capabilities = list;
        }
        for added in
            self.resolve_list(Kind::Capability, inputs, "addCapabilities", pointer).await.unwrap_or_default()
        {
            capabilities.retain(|capability| capability.name != added.name);
            capabilities.push(added);
        }
        let env = self.resolve_list(Kind::Env, inputs, "env", pointer).await.unwrap_or_default();
        let pipeline = match inputs.get("pipeline") {
            None => None,
            Some(Value::String(reference)) => self.resolve(Kind::Pipeline, reference, at("pipeline")).await,
            Some(_) => {
                self.report(at("pipeline"), "type", "must be a reference text".to_owned(), None);
                None
            }
        };
        let declared = match &pipeline {
            Some(pipeline) => self.declared(pipeline, at("pipeline")).await,
            None => None,
        };
        let has_agent = declared.as_ref().is_none_or(|declared| declared.has_agent);
        if let (Some(subagent), Some(frozen)) = (&subagent, &frozen) {
            let broken = has_agent && !frozen.problems.is_empty();
            if broken {
                self.report_params(&subagent.name, frozen, &at("subagent"));
            }
            if let (Some(rehearsal), Some((pointer, item))) = (&mut self.rehearsal, item) {
                let adapter = frozen.component.as_ref().filter(|_| has_agent && !broken);
                let cast = Cast { subagent, doc: &frozen.doc, adapter, env: &env };
                self.findings.append(&mut rehearsal.item(pointer, item, cast).await);
            }
        }
        if self.findings.len() > before {
            return None;
        }
        let adapter = frozen?.adapter.clone();
        let blocks = declared.map(|declared| declared.pins.clone()).unwrap_or_default();
        Some(ItemPins { subagent: subagent?, capabilities, env, pipeline, adapter, blocks })
    }

    fn report_params(&mut self, subagent: &str, frozen: &Frozen, pointer: &str) {
        for problem in &frozen.problems {
            let message = format!("subagent {subagent:?}, adapter {:?}: {problem}", frozen.adapter.name);
            let hint = "register it again with `pangolin subagent register`";
            self.report(pointer.to_owned(), "params", message, Some(hint));
        }
    }

    /// A pipeline with its plugins; they are loaded, so that one that cannot run is refused now.
    async fn declared(&mut self, pipeline: &NamedDigest, pointer: String) -> Option<Arc<Declared>> {
        // Without plugins at hand only their names could be looked at, and the pipeline's own check did that.
        let AdapterSource::Load(plugins, blobs) = self.adapters else { return None };
        if !self.pipelines.contains_key(&pipeline.digest) {
            let found = self.read_pipeline(&pipeline.digest, plugins, blobs).await.map(Arc::new);
            self.pipelines.insert(pipeline.digest, found);
        }
        match self.pipelines.get(&pipeline.digest)?.clone() {
            Ok(declared) => {
                for (place, problem) in &declared.problems {
                    let message = format!("pipeline {:?}, {place}: {problem}", pipeline.name);
                    let hint = "register it again with `pangolin pipeline register`";
                    self.report(pointer.clone(), "params", message, Some(hint));
                }
                Some(declared)
            }
            Err(messages) => {
                for message in messages {
                    self.report(pointer.clone(), "plugin", message, None);
                }
                None
            }
        }
    }

    async fn read_pipeline(
        &mut self,
        digest: &Digest,
        plugins: &Plugins,
        blobs: &dyn BlobStore,
    ) -> Result<Declared, Vec<String>> {
        let spec: PipelineSpec =
            self.registry.doc(Kind::Pipeline, digest).await.map_err(|error| vec![causes(&error)])?;
        let known = &mut self.known.blocks;
        let pins = blocks::pin(&spec.plugins(), known, &mut self.blocks, plugins, blobs).await?;
        let problems = match &self.rehearsal {
            Some(_) => blocks::bad_params(&spec, &self.blocks).await,
            None => Vec::new(),
        };
        let has_agent = spec.blocks.iter().any(|block| matches!(block, Block::Agent {}));
        Ok(Declared { pins, has_agent, problems })
    }

    /// A subagent with its adapter, which is loaded, so that one that cannot run is refused now.
    async fn subagent(&mut self, pinned: &NamedDigest, pointer: String) -> Option<Arc<Frozen>> {
        if !self.subagents.contains_key(&pinned.digest) {
            let found = self.read_subagent(&pinned.digest).await.map(Arc::new);
            self.subagents.insert(pinned.digest, found);
        }
        match self.subagents.get(&pinned.digest)?.clone() {
            Ok(found) => Some(found),
            Err(message) => {
                let message = format!("subagent {:?}: {message}", pinned.name);
                self.report(pointer, "subagent", message, None);
                None
            }
        }
    }

    async fn read_subagent(&mut self, digest: &Digest) -> Result<Frozen, String> {
        let doc: SubagentDoc =
            self.registry.doc(Kind::Subagent, digest).await.map_err(|error| causes(&error))?;
        let id = doc.adapter.id.clone();
        let frozen = |doc, digest, component| Frozen {
            doc,
            adapter: NamedDigest { name: id.clone(), digest },
            component,
            problems: Vec::new(),
        };
        if let Some((digest, component)) = self.loaded.get(&id) {
            return Ok(self.with_problems(frozen(doc, *digest, Some(component.clone()))).await);
        }
        if let Some(pinned) = self.known.adapters.get(&id) {
            return Ok(frozen(doc, *pinned, None));
        }
        let (digest, component) = match &self.adapters {
            AdapterSource::Names(known) if known.contains(&id) => (Digest::of(id.as_bytes()), None),
            AdapterSource::Names(known) => {
                let known = known.iter().cloned().collect::<Vec<_>>().join(", ");
                return Err(format!("adapter {id:?} does not exist; known are {known}"));
            }
            AdapterSource::Load(plugins, blobs) => {
                let bytes = plugins.adapter_bytes(&id).map_err(|error| causes(&error))?;
                let component = plugins.adapter(&id, bytes.clone()).await.map_err(|error| causes(&error))?;
                (blobs.put(&bytes).await.map_err(|error| causes(&error))?, Some(component))
            }
        };
        self.known.adapters.insert(id.clone(), digest);
        if let Some(component) = &component {
            self.loaded.insert(id.clone(), (digest, component.clone()));
        }
        Ok(self.with_problems(frozen(doc, digest, component)).await)
    }

    async fn with_problems(&self, mut frozen: Frozen) -> Frozen {
        if let (Some(_), Some(component)) = (&self.rehearsal, &frozen.component) {
            frozen.problems = of_subagent(&frozen.doc, component).await;
        }
        frozen
    }

    async fn resolve_list(
        &mut self,
        kind: Kind,
        inputs: &Map<String, Value>,
        key: &str,
        pointer: &str,
    ) -> Option<Vec<NamedDigest>> {
        let references: Vec<String> = match inputs.get(key)? {
            Value::String(one) => vec![one.clone()],
            Value::Array(many) => many.iter().filter_map(|one| one.as_str().map(str::to_owned)).collect(),
            _ => return None,
        };
        let mut found = Vec::with_capacity(references.len());
        for (position, reference) in references.iter().enumerate() {
            found.extend(self.resolve(kind, reference, format!("{pointer}/{key}/{position}")).await);
        }
        Some(found)
    }

    /// The digest behind a reference, with its document checked to be readable.
    async fn resolve(&mut self, kind: Kind, reference: &str, pointer: String) -> Option<NamedDigest> {
        if let Some(found) = self.known.reference(kind.as_str(), reference) {
            return Some(found.clone());
        }
        let key = (kind, reference.to_owned());
        let message = match self.unresolved.get(&key) {
            Some(message) => message.clone(),
            None => match self.look_up(kind, reference).await {
                Ok(found) => {
                    let known = self.known.references.entry(kind.to_string()).or_default();
                    known.insert(reference.to_owned(), found.clone());
                    return Some(found);
                }
                Err(error) => {
                    let message = causes(&error);
                    if let RegistryError::Store(RunStoreError::Busy(_) | RunStoreError::Other { .. }) = error
                    {
                        self.silent = Some(message.clone());
                    }
                    self.unresolved.insert(key, message.clone());
                    message
                }
            },
        };
        self.report(pointer, "unresolved", message, None);
        None
    }

    async fn look_up(&self, kind: Kind, reference: &str) -> Result<NamedDigest, RegistryError> {
        let registry = self.registry;
        let found = registry.resolve(kind, reference).await?;
        match kind {
            Kind::Env => drop(registry.doc::<EnvDoc>(kind, &found.digest).await?),
            Kind::Pipeline => drop(registry.doc::<PipelineSpec>(kind, &found.digest).await?),
            Kind::Capability | Kind::Subagent => {}
        }
        Ok(NamedDigest { name: found.name, digest: found.digest })
    }
}
