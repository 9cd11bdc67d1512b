//! One look after another at a stack's runs.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use pangolin_aws::Service;
use pangolin_inbox_s3::S3Inbox;
use pangolin_orchestrator::{
    driver::{Attempts as _, Parts, Ticker},
    leadership::Alone,
    lease::{StoreLease, Tried},
};
use pangolin_ports::{anchor::Anchor, clock::Clock as _, memory::SystemClock, worker_backend::WorkerBackend};
use pangolin_stack::{Architecture, DeploymentDocument};
use pangolin_worker_fargate::{FargateBackend, FargateConfig};

use super::{Stack, StackError, secrets::StackSecrets};
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
    /// For as long as the process lives: the ticker keeps what it folded.
    ticker: Ticker<'static>,
    executor: DispatchExecutor,
    lease: StoreLease,
    anchoring: Anchoring,
    inbox: Arc<S3Inbox>,
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
fn fargate(document: &DeploymentDocument) -> FargateConfig {
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
        ..base
    }
}

fn backends(
    config: &Config,
    workers: &Arc<dyn WorkerBackend>,
) -> Result<BTreeMap<String, Arc<dyn WorkerBackend>>, RuntimeError> {
    let mut backends = BTreeMap::new();
    for (name, executor) in &config.executors {
        // What is meant for a laptop is no error of the stack: items that name it are refused at admission.
        if executor.backend == BackendKind::Fargate {
            backends.insert(name.clone(), workers.clone());
        }
    }
    if backends.is_empty() {
        return Err(RuntimeError::Rejected {
            reason: "no executor of the stack's pangolin.toml has backend = \"fargate\"".to_owned(),
            findings: Vec::new(),
        });
    }
    Ok(backends)
}

impl Stack {
    /// The engine. `life` is that of the lease: longer than a look.
    ///
    /// # Errors
    /// [`StackError`]; a signing key that is not the one of the stack is refused.
    pub async fn engine(self, life: Duration) -> Result<Engine, StackError> {
        let secrets = StackSecrets::new(
            aws_sdk_secretsmanager::Client::new(&self.aws.sdk(Service::SecretsManager)),
            &self.document.secrets_prefix,
        );
        let name = self.document.signing_key.clone();
        let (text, stores) = tokio::join!(secrets.read(&name), self.stores());
        let text = text.map_err(|source| {
            StackError::Runtime(Box::new(RuntimeError::Secret { source: Box::new(source) }))
        })?;
        let key = keys::parse(name.as_ref(), &text)?;
        if key.signing.verifier_key().to_string() != self.document.verifier_key {
            return Err(StackError::WrongKey { secret: name, expected: self.document.verifier_key });
        }
        let (stores, inbox) = stores?;
        let workers: Arc<dyn WorkerBackend> =
            Arc::new(FargateBackend::open(&self.aws, fargate(&self.document))?);
        let backends = backends(&self.config, &workers)?;
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
        // One engine per process, for as long as the process lives.
        let parts: &'static Parts = Box::leak(Box::new(parts));
        Ok(Engine { ticker: Ticker::new(parts), executor, lease, anchoring, inbox })
    }
}

impl Engine {
    /// Looks once, for `budget` at most.
    ///
    /// # Errors
    /// [`StackError`]. What was committed stays; the next look goes on.
    pub async fn look(&mut self, budget: Duration) -> Result<Look, StackError> {
        let held = match self.lease.try_acquire().await? {
            Tried::Held(held) => held,
            Tried::Taken(until) => return Ok(Look::Busy(until)),
        };
        let looked = self.look_held(budget).await;
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
