//! One look after another at a stack's runs.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    sync::Arc,
    time::Duration,
};

use pangolin_aws::Service;
use pangolin_inbox_s3::S3Inbox;
use pangolin_orchestrator::{
    driver::{Attempts as _, Ticker},
    leadership::Alone,
    lease::{StoreLease, Tried},
};
use pangolin_ports::{
    anchor::Anchor, clock::Clock as _, memory::SystemClock, run_store::RunStoreError,
    worker_backend::WorkerBackend,
};
use pangolin_stack::{Architecture, DeploymentDocument, names};
use pangolin_worker_fargate::{FargateBackend, FargateConfig};

use tokio::time::Instant;

use super::{DOCUMENT_BYTES_MAX, Stack, StackError, object, release, s3, secrets::StackSecrets};
use crate::{
    anchoring::Anchoring,
    config::{BackendKind, Config},
    deployment::{
        Deployment, RuntimeError,
        place::{EngineParts, Place, holder},
    },
    dispatch::{DispatchExecutor, Patience, Workspaces},
    keys,
    plugins::Plugins,
};

/// The engine of one process. Warm: a look reads nothing that an earlier one read, as long as nobody else looked meanwhile.
pub struct Engine {
    /// Keeps what it folded.
    ticker: Ticker,
    executor: DispatchExecutor,
    lease: StoreLease,
    anchoring: Anchoring,
    inbox: Arc<S3Inbox>,
    /// What it was made of, and where that lies.
    document: DeploymentDocument,
    documents: aws_sdk_s3::Client,
}

/// What came of a look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Look {
    /// Somebody else is looking, until this time at the latest (milliseconds since the epoch).
    Busy(i64),
    /// It looked.
    Done(Looked),
}

/// A look that took place.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Looked {
    /// Batches that were committed.
    pub commits: u64,
    /// Runs that are not sealed.
    pub runs: usize,
    /// Attempts that are running.
    pub running: usize,
    /// Look again at this time (milliseconds since the epoch) even if no doorbell rings.
    pub next_wakeup: Option<i64>,
    /// There was more to do: look again at once.
    pub cut_short: bool,
    /// Checkpoints of seals that were published.
    pub anchored: usize,
    /// For how many milliseconds the run that waits longest has had no new entry; 0 without one.
    pub stalled_ms: i64,
}

/// What Fargate needs, as the deployment document has it.
fn fargate(document: &DeploymentDocument, visibility_seconds: Option<u32>) -> FargateConfig {
    let workers = &document.workers;
    let base =
        FargateConfig::new(&document.stack, &document.data_bucket, &workers.cluster, workers.subnets.clone());
    FargateConfig {
        security_groups: workers.security_groups.clone(),
        assign_public_ip: workers.assign_public_ip,
        architecture: match workers.architecture {
            Architecture::Arm64 => pangolin_worker_fargate::Architecture::Arm64,
            Architecture::X86_64 => pangolin_worker_fargate::Architecture::X86_64,
        },
        execution_role_arn: Some(workers.execution_role_arn.clone()),
        log_group: Some(workers.log_group.clone()),
        visibility_ms: visibility_seconds.map_or(base.visibility_ms, |seconds| u64::from(seconds) * 1_000),
        ..base
    }
}

/// Executors that agree in what their backend is made of share one, and with it its looks at all tasks.
fn backends(
    config: &Config,
    open: impl Fn(Option<u32>) -> Result<FargateBackend, StackError>,
) -> Result<BTreeMap<String, Arc<dyn WorkerBackend>>, StackError> {
    let mut backends = BTreeMap::new();
    let mut opened: BTreeMap<Option<u32>, Arc<dyn WorkerBackend>> = BTreeMap::new();
    for (name, executor) in &config.executors {
        // What is meant for a laptop is no error of the stack: items that name it are refused at admission.
        if executor.backend == BackendKind::Fargate {
            let backend = match opened.entry(executor.visibility_seconds) {
                Entry::Occupied(known) => known.get().clone(),
                Entry::Vacant(new) => new.insert(Arc::new(open(executor.visibility_seconds)?)).clone(),
            };
            backends.insert(name.clone(), backend);
        }
    }
    if backends.is_empty() {
        return Err(RuntimeError::Rejected {
            reason: "no executor of the stack's pangolin.toml has backend = \"fargate\"".to_owned(),
            findings: Vec::new(),
        }
        .into());
    }
    Ok(backends)
}

impl Stack {
    /// The engine. `life` is that of the lease, which is prolonged during a look.
    ///
    /// # Errors
    /// [`StackError`]; a signing key that is not the one of the stack is refused.
    pub async fn engine(self, life: Duration) -> Result<Engine, StackError> {
        let own = release::own();
        if self.packed != own {
            return Err(StackError::OtherRelease { packed: self.packed, own });
        }
        let secrets = StackSecrets::new(
            aws_sdk_secretsmanager::Client::new(&self.aws.sdk(Service::SecretsManager)),
            &self.document,
        );
        let name = self.document.signing_key.clone();
        let (text, stores) = tokio::join!(secrets.signing_key(), self.stores());
        let text = text.map_err(|source| {
            StackError::Runtime(Box::new(RuntimeError::Secret { source: Box::new(source) }))
        })?;
        let key = keys::parse(name.as_ref(), &text)?;
        if key.signing.verifier_key().to_string() != self.document.verifier_key {
            return Err(StackError::WrongKey { secret: name, expected: self.document.verifier_key });
        }
        let (stores, inbox) = stores?;
        let backends = backends(&self.config, |visibility_seconds| {
            Ok(FargateBackend::open(&self.aws, fargate(&self.document, visibility_seconds))?)
        })?;
        let anchor: Arc<dyn Anchor> = Arc::new(self.anchor()?);
        let anchoring = Anchoring::new(stores.store.clone(), anchor.clone());
        let plugins = Plugins::open_compiled(&self.config).map_err(RuntimeError::from)?;
        let workspaces = match self.config.workspace.repo {
            Some(_) => Workspaces::Submitted,
            None => Workspaces::Empty,
        };
        let holder = holder()?;
        let lease = StoreLease::new(stores.store.clone(), Arc::new(SystemClock), holder.clone(), life);
        let place = Place::Stack { key: key.signing.verifier_key(), workspace: None, anchor };
        let deployment = Deployment::over(self.config, stores, place);
        let (parts, executor) = deployment.parts(EngineParts {
            key,
            plugins,
            backends,
            secrets: Arc::new(secrets),
            workspaces,
            patience: Patience::OneLook,
            // Elected by the lease around each look.
            leadership: Arc::new(Alone),
            holder,
            on_lead: Box::new(|| {}),
        })?;
        let (ticker, documents) = (Ticker::new(Arc::new(parts)), s3(&self.aws));
        Ok(Engine { ticker, executor, lease, anchoring, inbox, document: self.document, documents })
    }
}

impl Engine {
    /// Whether the deployment document still says what the engine was made of. When not, open the stack again.
    ///
    /// # Errors
    /// [`StackError::Call`].
    pub async fn is_current(&self) -> Result<bool, StackError> {
        let bucket = &self.document.data_bucket;
        let bytes = object(&self.documents, bucket, names::DEPLOYMENT_KEY, DOCUMENT_BYTES_MAX).await?;
        Ok(DeploymentDocument::parse(&bytes).is_ok_and(|found| found == self.document))
    }

    /// Looks once. After `budget` nothing new is begun; what is then not done until `limit` is given up.
    ///
    /// # Errors
    /// [`StackError`]. What was committed stays; the next look goes on, with an engine that is opened anew.
    pub async fn look(&mut self, budget: Duration, limit: Duration) -> Result<Look, StackError> {
        let until = Instant::now() + limit;
        let tried = tokio::time::timeout_at(until, self.lease.try_acquire()).await;
        let mut held =
            match tried.unwrap_or(Err(RunStoreError::Busy("no answer about the lease".to_owned())))? {
                Tried::Held(held) => held,
                Tried::Taken(until) => return Ok(Look::Busy(until)),
            };
        let looked = held.during(tokio::time::timeout_at(until, self.look_held(budget))).await;
        let looked = looked.unwrap_or(Err(StackError::TooLate));
        // What fails here expires by itself.
        if let Err(error) = held.release().await {
            tracing::warn!(%error, "the lease cannot be given back; it expires");
        }
        looked.map(Look::Done)
    }

    async fn look_held(&mut self, budget: Duration) -> Result<Looked, StackError> {
        self.inbox.ring();
        let ticked =
            self.ticker.tick(&self.executor, tokio::time::sleep(budget)).await.map_err(RuntimeError::from)?;
        // What the last commit left to clean up.
        let _ = tokio::time::timeout(budget, self.executor.settled()).await;
        let anchored = self.anchoring.catch_up().await?;
        Ok(Looked {
            commits: ticked.commits,
            runs: ticked.runs,
            running: ticked.running,
            next_wakeup: ticked.next_wakeup,
            cut_short: ticked.cut_short,
            anchored,
            stalled_ms: ticked.quietest.map_or(0, |at| SystemClock.now_ms().saturating_sub(at).max(0)),
        })
    }
}
