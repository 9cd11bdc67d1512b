//! A small engine in memory: runs a plan with a real pattern component and leaves a signed bundle. Every item ends well
//! at once; the pattern is asked after each `batch` of ends, as in a deployment that ends that many in one commit.
#![allow(unreachable_pub, dead_code, reason = "a module of a test binary and of a benchmark")]

use std::{collections::BTreeMap, error::Error, sync::Arc};

use pangolin_audit::{
    bundle::{Anchor, BundleBuilder, LeafEvidence, LogEvidence},
    canon,
    chain::RunChain,
    checkpoint::Checkpoint,
    decision::{ViewDigest, decisions_bytes, seed},
    log::{Admit, LOG_VERSION, LogEvent, Seal},
    merkle,
    note::SigningKey,
    rebuild::context,
};
use pangolin_core::{
    entry::{Entry, EntryBody, Evidence, FinalStatus, RetryPolicy, RunOutcome, RunSubmitted},
    ids::{Digest, DispatchId, ItemId, QueueName, RunId},
    pattern::{DecisionRecord, Decisions, RunView, Tracker, additions, apply_plan_decisions, cause},
    plan::PlanItem,
    state::{ItemState, RunState},
    validate::parse_plan,
};
use pangolin_plugin_host::{PATTERN_CONTRACT, PatternComponent, Profile, engine_id};
use pangolin_replay::Ask;
use serde_json::Value;

pub type Failure = Box<dyn Error>;

const LOG: &str = "pangolin.local/grown";
const NAMESPACE: &str = "grown";
const START: i64 = 1_780_185_600_000;

/// The key that bundles are signed with.
pub fn key() -> SigningKey {
    SigningKey::from_seed(LOG, &[9; 32]).expect("key name")
}

/// What came out.
pub struct Grown {
    /// The sealed bundle.
    pub bundle: Vec<u8>,
    /// Recorded steps.
    pub steps: u64,
    /// Items, added ones included.
    pub items: usize,
}

struct Engine<'a> {
    component: &'a PatternComponent,
    run: RunId,
    state: RunState,
    tracker: Tracker,
    views: ViewDigest,
    chain: RunChain,
    records: Vec<Vec<u8>>,
    objects: BTreeMap<Digest, Vec<u8>>,
    at: i64,
    steps: u64,
}

/// Runs `items` on the queue `default` with `component`, whose bytes are `bytes`. `outputs` says which output files an
/// item leaves.
pub async fn grow(
    component: &PatternComponent,
    bytes: &[u8],
    items: &[Value],
    outputs: impl Fn(&ItemId) -> Vec<String>,
    batch: usize,
) -> Result<Grown, Failure> {
    grow_with(component, bytes, items, outputs, batch, |_| ()).await
}

/// The same; `change` alters what was decided at admission before it is recorded.
pub async fn grow_with(
    component: &PatternComponent,
    bytes: &[u8],
    items: &[Value],
    outputs: impl Fn(&ItemId) -> Vec<String>,
    batch: usize,
    change: impl FnOnce(&mut Decisions),
) -> Result<Grown, Failure> {
    let run = RunId::new("grown-1")?;
    let plan = serde_json::json!({ "id": run, "queue": "default", "items": items });
    let plan_bytes = serde_json::to_vec(&plan)?;
    let parsed = parse_plan(&plan_bytes, &context()).map_err(|found| format!("{found:?}"))?.plan;
    let seed = seed(NAMESPACE, &run);
    let planned = Tracker::planning(&parsed, "{}".to_owned(), seed, START);
    let mut answer = component.ask(0, &planned, None).await.map_err(|failed| failed.message)?;
    change(&mut answer.decisions);
    if !answer.decisions.findings.is_empty() {
        return Err(format!("{:?}", answer.decisions.findings).into());
    }
    let mut objects = BTreeMap::new();
    let mut keep = |bytes: Vec<u8>| {
        let digest = Digest::of(&bytes);
        objects.insert(digest, bytes);
        digest
    };
    keep(bytes.to_vec());
    let plan_digest = keep(plan_bytes);
    let (graph, parsed) = if answer.decisions.amends_plan() {
        let amended =
            apply_plan_decisions(plan, &answer.decisions).map_err(|errors| format!("{errors:?}"))?;
        let bytes = canon::to_vec(&amended)?;
        let parsed = parse_plan(&bytes, &context()).map_err(|found| format!("{found:?}"))?.plan;
        (Some(keep(bytes)), parsed)
    } else {
        (None, parsed)
    };
    let submitted = RunSubmitted {
        log: LOG.to_owned(),
        namespace: NAMESPACE.to_owned(),
        plan: plan_digest,
        items: parsed.items.len() as u64,
        queue: QueueName::new("default")?,
        pins: None,
        base_commit: None,
        pattern: Some(component.digest()),
        pattern_id: Some("grown".to_owned()),
        pattern_params: None,
        graph,
        retry: RetryPolicy::default(),
        open_ended: false,
    };
    let mut chain = RunChain::new();
    let body = EntryBody::RunSubmitted(Box::new(submitted));
    let (_, _, first) = chain.append(&run, START, "human:ada", body)?;
    let mut views = ViewDigest::new();
    let view = views.advance(&planned)?;
    let state = RunState::start(parsed, &canon::decode_entry(&first)?)?;
    let tracker = Tracker::start(planned, &state);
    let mut engine = Engine {
        component,
        run,
        state,
        tracker,
        views,
        chain,
        records: vec![first],
        objects,
        at: START,
        steps: 0,
    };
    engine.record(answer.decisions, answer.fuel, answer.peak_memory, view, 0)?;
    engine.drive(outputs, batch.max(1)).await?;
    let steps = engine.steps;
    let items = engine.state.item_count();
    Ok(Grown { bundle: engine.seal()?, steps, items })
}

impl Engine<'_> {
    fn keep(&mut self, bytes: Vec<u8>) -> Digest {
        let digest = Digest::of(&bytes);
        self.objects.insert(digest, bytes);
        digest
    }

    fn entry(&mut self, actor: &str, body: EntryBody, added: Option<Vec<PlanItem>>) -> Result<(), Failure> {
        self.at += 1;
        let (_, _, bytes) = self.chain.append(&self.run, self.at, actor, body)?;
        let entry: Entry = canon::decode_entry(&bytes)?;
        self.records.push(bytes);
        self.state.apply(&entry, added)?;
        self.tracker.note(&self.state, &entry);
        Ok(())
    }

    async fn drive(&mut self, outputs: impl Fn(&ItemId) -> Vec<String>, batch: usize) -> Result<(), Failure> {
        loop {
            let ready: Vec<ItemId> = self
                .state
                .items()
                .filter(|item| *item.state == ItemState::Ready)
                .map(|item| item.id().clone())
                .collect();
            if ready.is_empty() {
                break;
            }
            for ended in ready.chunks(batch) {
                for item in ended {
                    self.end(item, &outputs)?;
                }
                if self.state.pattern_due() {
                    self.step().await?;
                }
            }
        }
        let counts = self.state.counts();
        self.entry("engine", EntryBody::RunCompleted { outcome: RunOutcome::Done, counts }, None)
    }

    fn end(&mut self, item: &ItemId, outputs: impl Fn(&ItemId) -> Vec<String>) -> Result<(), Failure> {
        let dispatch = DispatchId::derive(NAMESPACE, &self.run, item, 1);
        let fired = EntryBody::ItemFired { item: item.clone(), attempt: 1, dispatch, manifest: None };
        self.entry("engine", fired, None)?;
        let mut evidence = Evidence::default();
        for path in outputs(item) {
            let digest = self.keep(format!("{item}: {path}").into_bytes());
            evidence.outputs.insert(path, digest);
        }
        let reconciled = EntryBody::ItemReconciled {
            item: item.clone(),
            attempt: 1,
            status: FinalStatus::Done,
            failure: None,
            evidence: Box::new(evidence),
        };
        self.entry("engine", reconciled, None)
    }

    async fn step(&mut self) -> Result<(), Failure> {
        let view: Arc<RunView> = self.tracker.cut(&self.state, self.at);
        let digest = self.views.advance(&view)?;
        let step = self.state.growth().ok_or("no step 0")?.steps();
        let seen = self.state.next_seq();
        let answer = self.component.ask(step, &view, None).await.map_err(|failed| failed.message)?;
        let additions = additions(&answer.decisions, &self.state, &context())?;
        self.record(answer.decisions, answer.fuel, answer.peak_memory, digest, seen)?;
        for addition in additions {
            let document = self.keep(canon::to_vec(&addition.items)?);
            let body = EntryBody::RunExtended {
                cause: cause(&view, &addition.items),
                items: addition.items.iter().map(|item| item.id.clone()).collect(),
                document,
                explanation: addition.explanation,
                plugin: Some(self.component.digest()),
                supersedes: addition.supersedes,
                pins: None,
            };
            self.entry("pattern:default", body, Some(addition.items))?;
        }
        Ok(())
    }

    fn record(
        &mut self,
        decisions: Decisions,
        fuel: u64,
        peak_memory: u64,
        view: Digest,
        seen: u64,
    ) -> Result<(), Failure> {
        let blob = self.keep(decisions_bytes(&decisions)?);
        let record = DecisionRecord {
            step: self.steps,
            component: self.component.digest(),
            contract: PATTERN_CONTRACT.to_owned(),
            engine: engine_id().to_owned(),
            profile: Profile::Pure.id().to_owned(),
            view,
            seen,
            seed: seed(NAMESPACE, &self.run),
            now: self.at,
            grant: None,
            limits: None,
            fuel,
            peak_memory,
            decisions: blob,
            closes: decisions.close,
            failure: None,
        };
        self.steps += 1;
        self.entry("pattern:default", EntryBody::PatternDecided(Box::new(record)), None)
    }

    fn seal(self) -> Result<Vec<u8>, Failure> {
        let Self { run, chain, records, objects, at, state, .. } = self;
        let key = key();
        let mut builder = BundleBuilder::new(run.clone(), records)?;
        for wanted in builder.wanted() {
            if let Some(bytes) = objects.get(&wanted.digest) {
                builder.add_object(bytes)?;
            }
        }
        let admit = Admit {
            v: LOG_VERSION,
            seq: 0,
            run: run.clone(),
            plan: state.submitted().plan,
            queue: QueueName::new("default")?,
            actor: "human:ada".to_owned(),
            at: START,
        };
        let seal = Seal {
            v: LOG_VERSION,
            run: run.clone(),
            outcome: RunOutcome::Done,
            entries: chain.len(),
            root: chain.root(),
            at,
            admission: 0,
        };
        let events = [LogEvent::Admit(admit).encode()?, LogEvent::Seal(seal).encode()?];
        let leaves: Vec<Digest> = events.iter().map(|event| merkle::leaf_hash(event)).collect();
        let leaf = |index: u64, event: &[u8]| -> Result<LeafEvidence, Failure> {
            Ok(LeafEvidence { event: event.to_vec(), index, proof: merkle::inclusion_proof(&leaves, index)? })
        };
        let checkpoint = Checkpoint { origin: LOG.to_owned(), size: 2, root: merkle::root(&leaves) };
        let log = LogEvidence {
            origin: LOG.to_owned(),
            checkpoint: checkpoint.sign(&key)?,
            admit: leaf(0, &events[0])?,
            seal: Some(leaf(1, &events[1])?),
        };
        let note = chain.checkpoint(LOG, &run).sign(&key)?;
        Ok(builder.finish(&key.verifier_key(), &note, log, Some(Anchor::local(at)))?)
    }
}
