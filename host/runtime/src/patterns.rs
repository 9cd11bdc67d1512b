//! Patterns of queues, run by the plugin host.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, PoisonError},
};

use async_trait::async_trait;
use pangolin_core::{
    entry::Entry,
    ids::{Digest, QueueName},
    pattern::{Decisions, RunView},
};
use pangolin_orchestrator::{
    admission::UNJUDGED,
    causes::causes,
    patterns::{Asked, Binding, BindingError, CallFacts, OnFailure, Patterns, StepAnswer, StepFailure},
};
use pangolin_plugin_authority::Kind;
use pangolin_plugin_host::{
    COMPONENT_BYTES_CEILING, PATTERN_CONTRACT, PatternComponent, PluginError, Profile, StepOutcome, engine_id,
};
use pangolin_ports::blob_store::{BlobError, BlobStore};
use pangolin_replay::{Comparison, replay_steps};
use tokio::sync::Semaphore;

use crate::{
    config::{Config, FailureSetting},
    plugins::{Plugins, PluginsError, memory::POOL_CALLS_MIN},
};

/// Asks the components that the configuration binds to queues.
pub(crate) struct ComponentPatterns {
    config: Arc<Config>,
    plugins: Arc<Plugins>,
    blobs: Arc<dyn BlobStore>,
    /// Loaded components by digest. One that a run is pinned to stays what it is: a pattern has no authority that
    /// could be taken away.
    loaded: Mutex<HashMap<Digest, (PatternComponent, CallFacts)>>,
    /// No more calls at once than a pool has room for: after a restart every run asks.
    calls: Semaphore,
}

/// Facts of a call before it is made.
fn facts(grant: Option<Digest>) -> CallFacts {
    CallFacts {
        contract: PATTERN_CONTRACT.to_owned(),
        engine: engine_id().to_owned(),
        profile: Profile::Pure.id().to_owned(),
        grant,
        limits: None,
        fuel: 0,
        peak_memory: 0,
    }
}

fn facts_of_call(pattern: &PatternComponent, view: &RunView, facts: CallFacts) -> CallFacts {
    CallFacts { limits: Some(pattern.limits().of_step(view.items().len())), ..facts }
}

impl ComponentPatterns {
    pub(crate) fn new(config: Arc<Config>, plugins: Arc<Plugins>, blobs: Arc<dyn BlobStore>) -> Self {
        let calls = Semaphore::new(POOL_CALLS_MIN as usize);
        Self { config, plugins, blobs, loaded: Mutex::default(), calls }
    }

    fn known(&self, component: &Digest) -> Option<(PatternComponent, CallFacts)> {
        self.loaded.lock().unwrap_or_else(PoisonError::into_inner).get(component).cloned()
    }

    fn keep(&self, component: Digest, pattern: &PatternComponent, facts: &CallFacts) {
        let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        loaded.insert(component, (pattern.clone(), facts.clone()));
    }

    /// Resolves a plugin, loads it and stores its bytes: a run is pinned to them.
    async fn resolve(&self, id: &str) -> Result<Digest, BindingError> {
        let unusable = |error: PluginsError| BindingError::Unusable(causes(&error));
        let resolved = self.plugins.resolve(Kind::Pattern, id).map_err(unusable)?;
        let facts = facts(Some(resolved.fingerprint));
        if self.known(&resolved.digest).is_none_or(|(_, known)| known != facts) {
            self.blobs.put(&resolved.bytes).await?;
            let loaded = self.plugins.load_pattern(id, resolved.bytes, resolved.limits).await;
            self.keep(resolved.digest, &loaded.map_err(unusable)?, &facts);
        }
        Ok(resolved.digest)
    }

    /// The component: the one of today's binding, or the one that a run is pinned to.
    async fn load(&self, asked: &Asked) -> Result<(PatternComponent, CallFacts), StepFailure> {
        if let Some(known) = self.known(&asked.component) {
            return Ok(known);
        }
        // After a restart the grant of the present binding is known again once it is resolved.
        if self.resolve(&asked.id).await.is_ok_and(|component| component == asked.component)
            && let Some(known) = self.known(&asked.component)
        {
            return Ok(known);
        }
        let facts = facts(None);
        let failed = |code: &str, message: String| StepFailure {
            code: code.to_owned(),
            message,
            retryable: false,
            facts: Box::new(facts.clone()),
        };
        let bytes =
            self.blobs.get(&asked.component, COMPONENT_BYTES_CEILING as u64).await.map_err(|error| {
                let code = match error {
                    BlobError::NotFound(_) | BlobError::Damaged { .. } | BlobError::TooLarge { .. } => {
                        "integrity"
                    }
                    BlobError::Full(_) | BlobError::Other { .. } => UNJUDGED,
                };
                failed(code, format!("the component that the run is pinned to: {}", causes(&error)))
            })?;
        let limits = self
            .plugins
            .pattern_limits(&asked.id, &bytes)
            .map_err(|error| failed("host-error", causes(&error)))?;
        match self.plugins.load_pattern(&asked.id, bytes.into(), limits).await {
            Ok(pattern) => {
                self.keep(asked.component, &pattern, &facts);
                Ok((pattern, facts))
            }
            Err(error) => Err(from_plugins(&error, facts)),
        }
    }
}

/// Patterns that cannot be used, each once with the queues that are bound to it and with what to do.
pub(crate) fn problems(config: &Config, plugins: &Plugins) -> Vec<String> {
    let mut bound: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for (name, queue) in &config.queues {
        bound.entry(&queue.pattern).or_default().push(format!("queues.{name}.pattern"));
        if let FailureSetting::Builtin(id) = &queue.on_failure {
            bound.entry(id).or_default().push(format!("queues.{name}.on_failure"));
        }
    }
    let problem = |(id, places): (&str, Vec<String>)| {
        let error = plugins.resolve(Kind::Pattern, id).err()?;
        Some(format!("{}: {}", places.join(", "), causes(&error)))
    };
    bound.into_iter().filter_map(problem).collect()
}

fn from_plugins(error: &PluginsError, facts: CallFacts) -> StepFailure {
    let (code, retryable) = match error {
        PluginsError::Load { error, .. } => (error.code(), error.failure.is_retryable()),
        _ => ("host-error", false),
    };
    StepFailure { code: code.to_owned(), message: causes(error), retryable, facts: Box::new(facts) }
}

fn from_call(error: PluginError, facts: CallFacts) -> StepFailure {
    let (fuel, peak_memory) =
        error.call.as_ref().map_or((0, 0), |call| (call.bill.fuel, call.bill.peak_memory_bytes));
    StepFailure {
        code: error.code().to_owned(),
        retryable: error.failure.is_retryable(),
        message: error.failure.to_string(),
        facts: Box::new(CallFacts { fuel, peak_memory, ..facts }),
    }
}

fn answer(outcome: Option<StepOutcome>, facts: CallFacts) -> StepAnswer {
    match outcome {
        Some(StepOutcome { decisions, bill, .. }) => StepAnswer {
            decisions,
            facts: CallFacts { fuel: bill.fuel, peak_memory: bill.peak_memory_bytes, ..facts },
        },
        // No planner: nothing was called.
        None => StepAnswer { decisions: Decisions::default(), facts: CallFacts { limits: None, ..facts } },
    }
}

#[async_trait]
impl Patterns for ComponentPatterns {
    async fn binding(&self, queue: &QueueName) -> Result<Option<Binding>, BindingError> {
        let Some(queue) = self.config.queues.get(queue) else { return Ok(None) };
        let component = self.resolve(&queue.pattern).await?;
        Ok(Some(Binding { id: queue.pattern.clone(), component, params: queue.params.clone() }))
    }

    async fn plan(&self, asked: &Asked, view: Arc<RunView>) -> Result<StepAnswer, StepFailure> {
        let (pattern, facts) = self.load(asked).await?;
        let facts = facts_of_call(&pattern, &view, facts);
        let _room = self.calls.acquire().await;
        match pattern.plan(&view).await {
            Ok(outcome) => Ok(answer(outcome, facts)),
            Err(error) => Err(from_call(error, facts)),
        }
    }

    async fn step(&self, asked: &Asked, view: Arc<RunView>) -> Result<StepAnswer, StepFailure> {
        let (pattern, facts) = self.load(asked).await?;
        let facts = facts_of_call(&pattern, &view, facts);
        let _room = self.calls.acquire().await;
        match pattern.step(&view).await {
            Ok(outcome) => Ok(answer(Some(outcome), facts)),
            Err(error) => Err(from_call(error, facts)),
        }
    }

    async fn on_failure(&self, queue: &QueueName) -> Result<OnFailure, BlobError> {
        let setting = self.config.queues.get(queue).map(|queue| &queue.on_failure);
        Ok(match setting {
            None | Some(FailureSetting::Closed) => OnFailure::Closed,
            Some(FailureSetting::Open) => OnFailure::Open,
            Some(FailureSetting::Builtin(id)) => match self.resolve(id).await {
                Ok(component) => OnFailure::Builtin { id: id.clone(), component },
                Err(BindingError::Store(error)) => return Err(error),
                Err(BindingError::Unusable(why)) => {
                    tracing::error!(%queue, id, %why, "the pattern that takes over after a failure cannot be used");
                    OnFailure::Closed
                }
            },
        })
    }

    async fn compare(
        &self,
        entries: &[Entry],
        documents: &BTreeMap<Digest, Vec<u8>>,
        asked: &Asked,
    ) -> Result<u64, String> {
        let (pattern, _) = self.load(asked).await.map_err(|failure| failure.message)?;
        match replay_steps(entries, documents, &pattern).await {
            Ok(Comparison::Agreement { steps }) => Ok(steps),
            Ok(Comparison::Difference(difference)) => Err(difference.to_string()),
            Ok(Comparison::Undecided { step, reason }) => {
                Err(format!("step {step} cannot be compared: {reason}"))
            }
            Err(error) => Err(causes(&error)),
        }
    }
}
