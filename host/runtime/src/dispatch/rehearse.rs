//! What would keep items from starting, told before anything runs: prompts are rendered and adapters are asked for their
//! launch plan, as at the start of an attempt, with what a plan already says. Nothing of the answers is used.
//!
//! Everything an adapter is told is in the plan and the registry, so its answer counts; only the directory of the workspace
//! and the id of the session are made up. A failure that is a matter of load or time is no finding. What a pattern makes
//! of the plan later is looked at when it starts.

use std::collections::{HashMap, HashSet};

use pangolin_core::{
    ids::Digest,
    manifest::NamedDigest,
    plan::PlanItem,
    retry,
    validate::{FINDINGS_MAX, Finding, Severity},
};
use pangolin_plugin_host::{AdapterComponent, AdapterTask, PluginError, Problem, attr};
use serde_json::{Value, json};

use super::{
    prepare::{adapter_task, bundle_layer, dispatch_dir, item_layer, session_id, workspace_of},
    prompt,
};
use crate::{
    config::Config,
    registry::{EnvDoc, Kind, Registry, SubagentDoc},
};

/// Most distinct tasks of a plan that adapters are asked about; a call takes up to a millisecond, and the daemon does
/// nothing else meanwhile. The first item of each subagent is always among them.
const TASKS_MAX: usize = 1_000;

/// Stands for the dispatch of an attempt that there is not yet.
const NO_DISPATCH: &str = "rehearsal";

/// What a subagent says is wrong with itself, whatever an item is: its template, and what its adapter says about its
/// parameters.
pub(crate) async fn of_subagent(doc: &SubagentDoc, adapter: &AdapterComponent) -> Vec<Problem> {
    let template = doc.prompt_template.as_deref().and_then(prompt::malformed);
    let template = template.map(|problem| Problem {
        pointer: "/promptTemplate".to_owned(),
        problem: format!("{problem}; close it with }}}}"),
    });
    let task = AdapterTask {
        adapter: doc.adapter.id.clone(),
        system_prompt: doc.system_prompt.clone(),
        prompt: "an item's prompt".to_owned(),
        model: doc.model.clone(),
        workspace: "/workspace".to_owned(),
        timeout_seconds: 3_600,
        input_json: json!({}).to_string(),
        attrs: [
            (attr::PARAMS.to_owned(), doc.adapter.params.to_string()),
            (attr::SESSION_ID.to_owned(), session_id(NO_DISPATCH)),
        ]
        .into(),
        ..AdapterTask::default()
    };
    let answer = adapter.prepare(&task).await.err();
    let problems = answer.filter(|error| error.failure.is_certain()).map(|error| error.failure.problems());
    let of_params = problems
        .into_iter()
        .flatten()
        .filter(Problem::is_of_params)
        .map(|problem| Problem { pointer: format!("/adapter{}", problem.pointer), ..problem });
    template.into_iter().chain(of_params).collect()
}

/// Who would do an item.
pub(super) struct Cast<'a> {
    /// The subagent as it is pinned.
    pub(super) subagent: &'a NamedDigest,
    /// Its document.
    pub(super) doc: &'a SubagentDoc,
    /// Its adapter, when it will be asked: a pipeline without an agent step does not.
    pub(super) adapter: Option<&'a AdapterComponent>,
    /// Env bundles in merge order.
    pub(super) env: &'a [NamedDigest],
}

/// Rehearses the items of one plan.
pub(super) struct Rehearsal<'a> {
    config: &'a Config,
    registry: &'a Registry,
    bundles: HashMap<Digest, EnvDoc>,
    /// Answers by task.
    asked: HashMap<Digest, Vec<Problem>>,
    subagents: HashSet<Digest>,
    found: usize,
}

impl<'a> Rehearsal<'a> {
    pub(super) fn new(config: &'a Config, registry: &'a Registry) -> Self {
        Self {
            config,
            registry,
            bundles: HashMap::new(),
            asked: HashMap::new(),
            subagents: HashSet::new(),
            found: 0,
        }
    }

    /// What is wrong with the item at a pointer.
    pub(super) async fn item(&mut self, pointer: &str, item: &PlanItem, cast: Cast<'_>) -> Vec<Finding> {
        if self.found >= FINDINGS_MAX {
            return Vec::new();
        }
        let found = self.findings(pointer, item, &cast).await;
        self.found += found.len();
        found
    }

    async fn findings(&mut self, pointer: &str, item: &PlanItem, cast: &Cast<'_>) -> Vec<Finding> {
        let subagent = &cast.subagent.name;
        let input_at = format!("{pointer}/inputs/workerInput");
        let input = item.inputs.get("workerInput").cloned().unwrap_or_else(|| json!({}));
        let template = cast.doc.prompt_template.as_deref();
        let unrendered = template.map(|template| prompt::problems(template, &input)).unwrap_or_default();
        if !unrendered.is_empty() {
            let hint = "add the field to workerInput, or register the subagent with another template";
            let finding = |problem: String| {
                finding(&input_at, "prompt", format!("subagent {subagent:?}: {problem}"), Some(hint))
            };
            return unrendered.into_iter().map(finding).collect();
        }
        let Some(adapter) = cast.adapter else { return Vec::new() };
        let Some(problems) = self.ask(item, &input, cast, adapter).await else { return Vec::new() };
        let who = format!("subagent {subagent:?}, adapter {:?}", cast.doc.adapter.id);
        let place = |problem: Problem| {
            if problem.is_of_params() {
                let hint = "register the subagent again with other parameters";
                let at = format!("{pointer}/inputs/subagent");
                finding(&at, "params", format!("{who}: {problem}"), Some(hint))
            } else if problem.is_of_input() {
                finding(&input_at, "input", format!("{who}: {}", problem.problem), None)
            } else {
                finding(pointer, "adapter", format!("{who}: {problem}"), None)
            }
        };
        problems.into_iter().map(place).collect()
    }

    async fn ask(
        &mut self,
        item: &PlanItem,
        input: &Value,
        cast: &Cast<'_>,
        adapter: &AdapterComponent,
    ) -> Option<Vec<Problem>> {
        let config = self.config;
        let executor = config.executors.get(&item.executor)?;
        let model = item.model.as_ref().or(cast.doc.model.as_ref()).or(executor.default_model.as_ref());
        let timeout_ms = u64::try_from(retry::timeout_ms(&config.retry, item)).unwrap_or(1);
        let mut env = Vec::with_capacity(cast.env.len() + 1);
        for bundle in cast.env {
            env.push(bundle_layer(&bundle.name, self.bundle(bundle).await?));
        }
        env.extend(item_layer(item));
        let workspace = workspace_of(executor.backend, &dispatch_dir(&config.state, NO_DISPATCH));
        let session = session_id(NO_DISPATCH);
        let task = adapter_task(
            cast.doc,
            item,
            input,
            model.map(String::as_str),
            &workspace,
            timeout_ms,
            executor.isolation(),
            &env,
            session,
        );
        let task = task.ok()?;
        let key = Digest::of(format!("{} {task:?}", adapter.digest()).as_bytes());
        if let Some(known) = self.asked.get(&key) {
            return Some(known.clone());
        }
        if !self.subagents.insert(cast.subagent.digest) && self.asked.len() >= TASKS_MAX {
            return None;
        }
        let problems = adapter.prepare(&task).await.err().map(refused).unwrap_or_default();
        self.asked.insert(key, problems.clone());
        Some(problems)
    }

    /// `None` when it cannot be read; whoever resolved it has said so.
    async fn bundle(&mut self, pinned: &NamedDigest) -> Option<EnvDoc> {
        if let Some(known) = self.bundles.get(&pinned.digest) {
            return Some(known.clone());
        }
        let doc: EnvDoc = self.registry.doc(Kind::Env, &pinned.digest).await.ok()?;
        self.bundles.insert(pinned.digest, doc.clone());
        Some(doc)
    }
}

/// What an adapter that does not plan a launch says; nothing when another try may end otherwise.
fn refused(error: PluginError) -> Vec<Problem> {
    if !error.failure.is_certain() {
        return Vec::new();
    }
    let problems = error.failure.problems();
    if problems.is_empty() {
        return vec![Problem { pointer: String::new(), problem: error.failure.to_string() }];
    }
    problems
}

fn finding(pointer: &str, code: &'static str, message: String, hint: Option<&str>) -> Finding {
    Finding {
        pointer: pointer.to_owned(),
        code,
        severity: Severity::Error,
        message,
        hint: hint.map(str::to_owned),
    }
}
