//! Counting the engine in this process.

use std::{collections::BTreeMap, error::Error, fs, time::Duration};

use pangolin_aws::{Aws, Service};
use pangolin_core::{
    entry::RunOutcome,
    ids::{Digest, RunId},
};
use pangolin_runtime::{
    aws::{Engine, Look, Stack},
    config::{Config, WorkspaceConfig},
    deployment::{Deployment, SubmitOptions},
    registry::SubagentDoc,
};
use pangolin_s3_fake::{Ministack, S3Fake};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{
    calls::Calls,
    dynoxide::Dynoxide,
    ecs::InstantEcs,
    plan::{Shape, plan},
    report,
};
use crate::stack::{self, ANCHOR, DATA, IMAGE};

/// A look is never cut short: how much fits into one is not what is counted.
const BUDGET: Duration = Duration::from_secs(3_600);

const LEASE: Duration = Duration::from_secs(7_200);

const AGENT: &str = "say";

/// What is counted.
#[derive(Debug, Clone, Copy)]
pub struct Load {
    /// Items of the run.
    pub items: usize,
    /// How they depend on each other.
    pub shape: Shape,
    /// Items that run at once.
    pub concurrency: usize,
    /// Workers that end between two looks.
    pub ends: usize,
    /// So many engines take turns, as execution environments of the function do.
    pub engines: usize,
    /// After so many looks an engine is made anew, as by a new execution environment; 0: never.
    pub cold: usize,
}

type Outcome<T> = Result<T, Box<dyn Error>>;

struct Place {
    s3: S3Fake,
    ecs: InstantEcs,
    calls: Calls,
    /// As the function has it: counted.
    aws: Aws,
    home: Deployment,
    project: Digest,
    _dirs: Vec<TempDir>,
    _dynoxide: Dynoxide,
    _ministack: Ministack,
}

impl Place {
    async fn new(concurrency: usize) -> Outcome<Option<Self>> {
        let Some(ministack) = Ministack::start("counting calls").await else { return Ok(None) };
        let (dynoxide, s3) = (Dynoxide::start().await?, S3Fake::start().await?);
        s3.create_bucket(DATA);
        s3.create_locked_bucket(ANCHOR);
        let (calls, ecs) = (Calls::default(), InstantEcs::default());
        let aws = |http| -> Outcome<Aws> {
            Ok(Aws::for_tests(&ministack.endpoint(), 3, http)?
                .with_endpoint(Service::S3, &s3.endpoint())
                .with_endpoint(Service::DynamoDb, &dynoxide.endpoint()))
        };
        let (plain, counted) = (aws(Aws::http())?, aws(calls.around(Aws::http(), ecs.clone()))?);
        let (dir, home_dir) = (tempfile::tempdir()?, tempfile::tempdir()?);
        let config = format!(
            "namespace = \"count\"\n[queues.default]\nconcurrency = {concurrency}\n[executors.dispatch]\nbackend = \"fargate\"\n\
             network = \"host\"\nimage = \"{IMAGE}\"\ncpus = 0.25\nmemory_mb = 512\n[retry]\ntimeout_seconds = 3600\n"
        );
        fs::write(dir.path().join("pangolin.toml"), config)?;
        let (_, project) = stack::furnish(&plain, &s3, &Config::find(dir.path())?).await;
        let home = Stack::open(plain, &stack::location(), Some(project), home_dir.path()).await?;
        let home = home.deployment(Some(WorkspaceConfig { repo: None, base: None })).await?;
        let agent: SubagentDoc = serde_json::from_value(json!({
            "name": AGENT, "adapter": { "id": "command", "params": { "argv": ["echo", "done"] } },
        }))?;
        home.registry().register_subagent(&agent, home.now()).await?;
        let (_dirs, _dynoxide, _ministack) = (vec![dir, home_dir], dynoxide, ministack);
        Ok(Some(Self { s3, ecs, calls, aws: counted, home, project, _dirs, _dynoxide, _ministack }))
    }

    async fn engine(&self) -> Outcome<(Engine, TempDir)> {
        let dir = tempfile::tempdir()?;
        let files = dir.path().join("files");
        let stack = Stack::open(self.aws.clone(), &stack::location(), Some(self.project), &files).await?;
        Ok((stack.engine(LEASE).await?, dir))
    }
}

/// Runs `load` from submit to seal. Answers lines about looks without work, and as the last one what the run called. Without
/// the emulators it says so on stderr and answers nothing.
///
/// # Errors
/// Whatever goes wrong, and a run that does not succeed or starts an item twice.
pub async fn count(load: Load) -> Outcome<Vec<Value>> {
    let Load { items, shape, concurrency, ends, .. } = load;
    let Some(place) = Place::new(concurrency).await? else { return Ok(Vec::new()) };
    let (mut engines, mut lines) = (Vec::new(), Vec::new());
    for _ in 0..load.engines.max(1) {
        engines.push(place.engine().await?);
    }
    // An environment without work: what one look takes.
    place.calls.take();
    look(&mut engines[0].0).await?;
    lines.push(report::line(json!({ "bench": "calls", "shape": "first-look" }), 1, &place.calls.take()));
    look(&mut engines[0].0).await?;
    lines.push(report::line(json!({ "bench": "calls", "shape": "idle-look" }), 1, &place.calls.take()));

    let run = RunId::new("count")?;
    let options = SubmitOptions { queue: None, actor: "human:count".to_owned() };
    place.home.submit(&plan(run.as_str(), items, shape, AGENT), options).await?;
    let (mut looks, mut colds, mut commits) = (0_usize, 0_usize, 0_u64);
    let mut used = BTreeMap::new();
    loop {
        let turn = looks % engines.len();
        // After the first look, which admits the run.
        if load.cold > 0 && looks > 0 && looks % load.cold == 0 {
            engines[turn] = place.engine().await?;
            colds += 1;
        }
        let looked = look(&mut engines[turn].0).await?;
        looks += 1;
        commits += looked.commits;
        if looked.runs == 0 {
            break;
        }
        if looks == 1 {
            // Not part of the run's sums: a look while workers run and nothing has happened.
            used = place.calls.take();
            look(&mut engines[0].0).await?;
            let head = json!({ "bench": "calls", "shape": "look-without-news", "running": looked.running });
            lines.push(report::line(head, 1, &place.calls.take()));
        }
        if place.ecs.end(ends, &place.s3)? == 0 && looked.commits == 0 {
            return Err(format!("no progress after {looks} looks: {looked:?}").into());
        }
    }
    for (kind, more) in place.calls.take() {
        used.entry(kind).or_default().add(more);
    }
    let outcome = place.home.outcome(&run).await?;
    if outcome != Some(RunOutcome::Done) || place.ecs.started() != items as u64 {
        return Err(
            format!("{} tasks were started, the run ended with {outcome:?}", place.ecs.started()).into()
        );
    }
    let head = json!({
        "bench": "calls", "shape": format!("engine-{}", shape.name()), "concurrency": concurrency, "endsPerLook": ends,
        "engines": engines.len(), "coldEvery": load.cold, "looks": looks, "colds": colds, "commits": commits,
    });
    lines.push(report::line(head, items, &used));
    Ok(lines)
}

async fn look(engine: &mut Engine) -> Outcome<pangolin_runtime::aws::Looked> {
    match engine.look(BUDGET, BUDGET).await? {
        Look::Done(looked) => Ok(looked),
        Look::Busy(until) => Err(format!("somebody else looks until {until}").into()),
    }
}
