//! A small deployment in memory that makes real bundles: plan, attempts, manifests, hand-off, retry, skip, seal.
#![expect(unreachable_pub, reason = "a module of the test binary, shared by its functions")]
#![expect(dead_code, reason = "each test binary uses a part of it")]

use std::{collections::BTreeMap, sync::Arc};

use pangolin_audit::{
    bundle::{Anchor, BundleBuilder, LeafEvidence, LogEvidence},
    canon,
    chain::RunChain,
    checkpoint::Checkpoint,
    decision,
    log::{Admit, LOG_VERSION, LogEvent, RECEIPT_VERSION, Receipt, Seal},
    merkle::{self, leaf_hash},
    note::SigningKey,
    rebuild::{self, Rebuild, Seen},
};
use pangolin_core::{
    entry::{
        Entry, EntryBody, Evidence, Failure, FailureClass, FailureReason, FinalStatus, Isolation,
        RetryPolicy, RunOutcome, RunSubmitted,
    },
    ids::{Digest, DispatchId, ItemId, QueueName, RunId},
    manifest::{DispatchManifest, MANIFEST_VERSION, ManifestInput},
    pattern::{self, Addition, DecisionRecord, Decisions, RunView, Tolerated, apply_plan_decisions},
    state::RunState,
};
use serde_json::json;

/// Origin of the test deployment.
pub const LOG: &str = "pangolin.local/0b1c";
/// Namespace of the test deployment.
pub const NAMESPACE: &str = "test";
/// Time of the first entry.
pub const START: i64 = 1_780_185_600_000;

pub fn key() -> SigningKey {
    SigningKey::from_seed(LOG, &[7; 32]).expect("key name")
}

pub fn item(id: &str) -> ItemId {
    ItemId::new(id).expect("item id")
}

pub fn run(id: &str) -> RunId {
    RunId::new(id).expect("run id")
}

/// One run with its chain and objects.
pub struct Run {
    pub id: RunId,
    pub chain: RunChain,
    pub records: Vec<Vec<u8>>,
    pub objects: BTreeMap<Digest, Vec<u8>>,
    pub plan: Digest,
    pub at: i64,
    /// What the pattern saw last: an addition names an item of it as its cause.
    pub viewed: Option<Arc<RunView>>,
    counts: BTreeMap<FinalStatus, u64>,
}

impl Run {
    /// Submits a plan of `items`: id and ids of the items whose patch it needs.
    pub fn submit(id: &str, items: &[(&str, &[&str])]) -> Self {
        Self::submit_with(id, items, |_| ())
    }

    /// Submits an open-ended plan.
    pub fn submit_open(id: &str, items: &[(&str, &[&str])]) -> Self {
        Self::submit_with(id, items, |submitted| submitted.open_ended = true)
    }

    /// Submits a plan to a queue with a pattern, which decides this at admission.
    pub fn submit_growing(
        id: &str,
        items: &[(&str, &[&str])],
        component: Digest,
        planned: &Decisions,
    ) -> Self {
        let mut run = Self::submit_with(id, items, |submitted| {
            submitted.pattern = Some(component);
            submitted.pattern_id = Some("scripted".to_owned());
        });
        if planned.amends_plan() {
            let plan = serde_json::from_slice(&run.objects[&run.plan]).expect("plan");
            let amended = apply_plan_decisions(plan, planned).expect("decisions fit");
            let count = amended["items"].as_array().expect("items").len() as u64;
            let graph = run.keep(canon::to_vec(&amended).expect("amended plan"));
            run.replace_first(|submitted| {
                submitted.graph = Some(graph);
                submitted.items = count;
            });
        }
        run.decide(component, planned, |_| ());
        run
    }

    /// Parameters for the pattern. Only directly after `submit_with`.
    pub fn params(&mut self, text: &str) {
        let params = self.keep(text.as_bytes().to_vec());
        self.replace_first(|submitted| submitted.pattern_params = Some(params));
    }

    /// Writes the first entry anew. Only before others follow.
    pub fn replace_first(&mut self, change: impl FnOnce(&mut RunSubmitted)) {
        let first = canon::decode_entry(&self.records[0]).expect("entry");
        let EntryBody::RunSubmitted(mut submitted) = first.body else { panic!("first entry") };
        change(&mut submitted);
        (self.chain, self.records, self.at) = (RunChain::new(), Vec::new(), START);
        self.entry("human:ada", EntryBody::RunSubmitted(submitted));
    }

    /// Records the next step of the pattern with the view as it is now, and adds what follows from it.
    pub fn decide(
        &mut self,
        component: Digest,
        decisions: &Decisions,
        change: impl FnOnce(&mut DecisionRecord),
    ) {
        let additions = self.record(component, decisions, change);
        for addition in additions {
            self.extend(component, addition);
        }
        for Tolerated { items, why } in &decisions.tolerated {
            self.tolerate(component, items, why);
        }
    }

    /// Tolerates items.
    pub fn tolerate(&mut self, component: Digest, items: &[ItemId], why: &str) {
        let (items, explanation) = (items.to_vec(), why.to_owned());
        self.entry("pattern:default", EntryBody::ItemTolerated { items, explanation, plugin: component });
    }

    /// Records the next step of the pattern; answers what has to be added.
    pub fn record(
        &mut self,
        component: Digest,
        decisions: &Decisions,
        change: impl FnOnce(&mut DecisionRecord),
    ) -> Vec<Addition> {
        let blob = self.keep(decision::decisions_bytes(decisions).expect("decisions"));
        let (mut record, state, seen) = self.look(component);
        (record.view, record.decisions, record.closes) = (seen.digest, blob, decisions.close);
        self.viewed = Some(seen.view);
        let additions = match record.step {
            0 => Vec::new(),
            _ => pattern::additions(decisions, &state, &rebuild::context()).expect("decisions fit"),
        };
        change(&mut record);
        self.entry("pattern:default", EntryBody::PatternDecided(Box::new(record)));
        additions
    }

    /// What the pattern would see now, with the state and a record that lacks the answer.
    pub fn look(&self, component: Digest) -> (DecisionRecord, RunState, Seen) {
        let entries: Vec<Entry> =
            self.records.iter().map(|record| canon::decode_entry(record).expect("entry")).collect();
        let earlier = entries.iter().filter_map(|entry| match &entry.body {
            EntryBody::PatternDecided(record) => Some(&**record),
            _ => None,
        });
        let step = earlier.clone().count() as u64;
        let record = DecisionRecord {
            step,
            component,
            contract: "pangolin:pattern@1.1.0".to_owned(),
            engine: "wasmtime 48.0.8".to_owned(),
            profile: "pure/1".to_owned(),
            view: Digest::of(b"to be rebuilt"),
            seen: if step == 0 { 0 } else { entries.len() as u64 },
            seed: decision::seed(NAMESPACE, &self.id),
            now: self.at,
            grant: None,
            limits: None,
            fuel: 1_000,
            peak_memory: 65_536,
            decisions: Digest::of(b"to be asked"),
            closes: false,
            failure: None,
        };
        let records: Vec<DecisionRecord> = earlier.cloned().chain([record.clone()]).collect();
        let mut rebuild = Rebuild::new(&self.objects, &records);
        for entry in &entries {
            rebuild.entry(entry).expect("a legal run so far");
        }
        let provisional = Entry {
            v: 1,
            run: self.id.clone(),
            seq: entries.len() as u64,
            at: self.at,
            actor: "pattern:default".to_owned(),
            prev: None,
            body: EntryBody::PatternDecided(Box::new(record.clone())),
        };
        let seen = rebuild.entry(&provisional).expect("a legal step").expect("a view");
        let state = rebuild.state().expect("state").clone();
        (record, state, seen)
    }

    /// Adds items.
    pub fn extend(&mut self, component: Digest, addition: Addition) {
        let document = self.keep(canon::to_vec(&addition.items).expect("items"));
        let body = EntryBody::RunExtended {
            cause: self.viewed.as_ref().and_then(|view| pattern::cause(view, &addition.items)),
            items: addition.items.iter().map(|item| item.id.clone()).collect(),
            document,
            explanation: addition.explanation,
            plugin: Some(component),
            supersedes: addition.supersedes,
            pins: None,
        };
        self.entry("pattern:default", body);
    }

    /// Submits a plan with another first entry.
    pub fn submit_with(id: &str, items: &[(&str, &[&str])], change: impl FnOnce(&mut RunSubmitted)) -> Self {
        let items: Vec<_> = items
            .iter()
            .map(|(id, needs)| {
                let needs: serde_json::Map<_, _> = needs
                    .iter()
                    .map(|from| ((*from).to_owned(), json!({ "from": from, "select": { "kind": "patch" } })))
                    .collect();
                let mut item = json!({ "id": id, "executor": "dispatch", "inputs": {}, "depends_on": [], "resourceLocks": [] });
                if !needs.is_empty() {
                    item["needs"] = needs.into();
                }
                item
            })
            .collect();
        let count = items.len() as u64;
        let mut submitted = RunSubmitted {
            log: LOG.to_owned(),
            namespace: NAMESPACE.to_owned(),
            plan: Digest::of(b"to be stored"),
            items: count,
            queue: QueueName::new("default").expect("queue name"),
            pins: None,
            base_commit: Some("4b825dc642cb6eb9a060e54bf8d69288fbee4904".to_owned()),
            pattern: None,
            pattern_id: None,
            pattern_params: None,
            graph: None,
            retry: RetryPolicy::default(),
            open_ended: false,
        };
        change(&mut submitted);
        let mut plan = json!({ "id": id, "queue": "default", "items": items });
        if submitted.open_ended {
            plan["openEnded"] = true.into();
        }
        let plan = plan.to_string().into_bytes();
        submitted.plan = Digest::of(&plan);
        let mut run = Self {
            id: self::run(id),
            chain: RunChain::new(),
            records: Vec::new(),
            objects: BTreeMap::new(),
            plan: Digest::of(&plan),
            at: START,
            viewed: None,
            counts: BTreeMap::new(),
        };
        run.keep(plan);
        run.entry("human:ada", EntryBody::RunSubmitted(Box::new(submitted)));
        run
    }

    /// Keeps an object.
    pub fn keep(&mut self, bytes: Vec<u8>) -> Digest {
        let digest = Digest::of(&bytes);
        self.objects.insert(digest, bytes);
        digest
    }

    /// Appends an entry.
    pub fn entry(&mut self, actor: &str, body: EntryBody) {
        let (_, _, bytes) = self.chain.append(&self.id, self.at, actor, body).expect("entry");
        self.records.push(bytes);
        self.at += 1_000;
    }

    /// The manifest of an attempt with inputs `(key, from, digest)`.
    pub fn manifest(&self, item: &str, attempt: u32, inputs: &[(&str, &str, Digest)]) -> DispatchManifest {
        let item = self::item(item);
        let dispatch = DispatchId::derive(NAMESPACE, &self.id, &item, attempt);
        let inputs = inputs.iter().map(|(key, from, digest)| {
            ((*key).to_owned(), ManifestInput { from: self::item(from), digest: *digest })
        });
        DispatchManifest {
            v: MANIFEST_VERSION,
            run: self.id.clone(),
            item,
            attempt,
            dispatch,
            executor: "dispatch".to_owned(),
            backend: "process".to_owned(),
            isolation: Isolation::Sandbox,
            network: "none".to_owned(),
            image: None,
            subagent: None,
            capabilities: Vec::new(),
            env: Vec::new(),
            pipeline: None,
            adapter: None,
            blocks: Vec::new(),
            model: String::new(),
            inputs: inputs.collect(),
            secret_names: Vec::new(),
            envelope: None,
            base_commit: None,
            base_pack: None,
        }
    }

    /// Fires an attempt with this manifest.
    pub fn fire_with(&mut self, item: &str, attempt: u32, manifest: &DispatchManifest) {
        let manifest = self.keep(canon::to_vec(manifest).expect("manifest"));
        let item = self::item(item);
        let dispatch = DispatchId::derive(NAMESPACE, &self.id, &item, attempt);
        self.entry("engine", EntryBody::ItemFired { item, attempt, dispatch, manifest: Some(manifest) });
    }

    /// Fires an attempt.
    pub fn fire(&mut self, item: &str, attempt: u32, inputs: &[(&str, &str, Digest)]) {
        let manifest = self.manifest(item, attempt, inputs);
        self.fire_with(item, attempt, &manifest);
    }

    fn evidence(&mut self, item: &str, attempt: u32, patch: bool) -> Evidence {
        let result = self.keep(format!("{{\"item\":\"{item}\",\"attempt\":{attempt}}}").into_bytes());
        let patch = patch.then(|| self.keep(format!("--- a/{item}\n+++ b/{item}\n").into_bytes()));
        Evidence { result: Some(result), patch, exit_code: Some(0), ..Evidence::default() }
    }

    /// Ends an attempt well; returns its patch.
    pub fn done(&mut self, item: &str, attempt: u32) -> Digest {
        let evidence = self.evidence(item, attempt, true);
        let patch = evidence.patch.expect("patch");
        self.end(item, attempt, FinalStatus::Done, None, evidence);
        patch
    }

    fn end(
        &mut self,
        item: &str,
        attempt: u32,
        status: FinalStatus,
        failure: Option<Failure>,
        evidence: Evidence,
    ) {
        *self.counts.entry(status).or_default() += 1;
        let item = self::item(item);
        let evidence = Box::new(evidence);
        self.entry("engine", EntryBody::ItemReconciled { item, attempt, status, failure, evidence });
    }

    /// Ends the last attempt badly.
    pub fn fail(&mut self, item: &str, attempt: u32) {
        let evidence = self.evidence(item, attempt, false);
        self.end(item, attempt, FinalStatus::Failed, Some(failure()), evidence);
    }

    /// Ends an attempt badly; another one follows.
    pub fn retry(&mut self, item: &str, attempt: u32) {
        let evidence = Box::new(self.evidence(item, attempt, true));
        let (item, not_before) = (self::item(item), self.at);
        self.entry(
            "engine",
            EntryBody::ItemRetried { item, attempt, failure: failure(), not_before, evidence },
        );
    }

    /// Skips items.
    pub fn skip(&mut self, items: &[&str], cause: &str) {
        *self.counts.entry(FinalStatus::Skipped).or_default() += items.len() as u64;
        let items = items.iter().map(|id| item(id)).collect();
        self.entry("engine", EntryBody::ItemSkipped { items, cause: item(cause) });
    }

    /// Cancels the run; `waiting` items end by that.
    pub fn cancel(&mut self, waiting: u64) {
        *self.counts.entry(FinalStatus::Cancelled).or_default() += waiting;
        self.entry("human:ada", EntryBody::RunCancelled {});
    }

    /// Ends a running attempt after a cancel.
    pub fn stopped(&mut self, item: &str, attempt: u32) {
        let failure = Failure {
            reason: FailureReason::Cancelled,
            class: FailureClass::Cancelled,
            message: "stopped on request".to_owned(),
        };
        let evidence = self.evidence(item, attempt, true);
        self.end(item, attempt, FinalStatus::Cancelled, Some(failure), evidence);
    }

    /// The last entry.
    pub fn complete(&mut self, outcome: RunOutcome) {
        let counts = self.counts.clone();
        self.entry("engine", EntryBody::RunCompleted { outcome, counts });
    }

    /// The signed bundle; sealed when `outcome` is given.
    pub fn bundle(&self, outcome: Option<RunOutcome>) -> Vec<u8> {
        self.bundle_with(outcome, &key(), |_| true)
    }

    /// The bundle, signed by another key or without some objects.
    pub fn bundle_with(
        &self,
        outcome: Option<RunOutcome>,
        key: &SigningKey,
        include: impl Fn(&Digest) -> bool,
    ) -> Vec<u8> {
        let mut builder = BundleBuilder::new(self.id.clone(), self.records.iter().cloned()).expect("records");
        for wanted in builder.wanted() {
            if include(&wanted.digest)
                && let Some(bytes) = self.objects.get(&wanted.digest)
            {
                builder.add_object(bytes).expect("object");
            }
        }
        let checkpoint = self.chain.checkpoint(LOG, &self.id).sign(key).expect("run checkpoint");
        let log = self.log(outcome, key);
        let anchor = outcome.map(|_| Anchor::local(self.at));
        builder.finish(&key.verifier_key(), &checkpoint, log, anchor).expect("bundle")
    }

    fn admit(&self) -> Vec<u8> {
        let admit = Admit {
            v: LOG_VERSION,
            seq: 2,
            run: self.id.clone(),
            plan: self.plan,
            queue: QueueName::new("default").expect("queue name"),
            actor: "human:ada".to_owned(),
            at: START,
        };
        LogEvent::Admit(admit).encode().expect("admit event")
    }

    /// The log with leaves of other runs before, between and after ours.
    pub fn log(&self, outcome: Option<RunOutcome>, key: &SigningKey) -> LogEvidence {
        let mut events: Vec<Vec<u8>> = (0..5_u8).map(|n| vec![n]).collect();
        events.push(self.admit());
        events.push(vec![9]);
        if let Some(outcome) = outcome {
            let seal = Seal {
                v: LOG_VERSION,
                run: self.id.clone(),
                outcome,
                entries: self.chain.len(),
                root: self.chain.root(),
                at: self.at,
                admission: 2,
            };
            events.push(LogEvent::Seal(seal).encode().expect("seal event"));
            events.push(vec![10]);
        }
        let leaves: Vec<Digest> = events.iter().map(|event| leaf_hash(event)).collect();
        let evidence = |index: u64| LeafEvidence {
            event: events[index as usize].clone(),
            index,
            proof: merkle::inclusion_proof(&leaves, index).expect("proof"),
        };
        let checkpoint =
            Checkpoint { origin: LOG.to_owned(), size: leaves.len() as u64, root: merkle::root(&leaves) };
        LogEvidence {
            origin: LOG.to_owned(),
            checkpoint: checkpoint.sign(key).expect("log checkpoint"),
            admit: evidence(5),
            seal: outcome.map(|_| evidence(7)),
        }
    }

    /// The admission receipt.
    pub fn receipt(&self) -> Receipt {
        let log = self.log(None, &key());
        Receipt {
            checkpoint: log.checkpoint.to_string(),
            event: LogEvent::decode(&log.admit.event).expect("admit event"),
            index: log.admit.index,
            proof: log.admit.proof,
            schema_version: RECEIPT_VERSION,
        }
    }
}

pub fn failure() -> Failure {
    Failure {
        reason: FailureReason::ProviderFailed,
        class: FailureClass::Work,
        message: "gate \"tests\" ended with 1".to_owned(),
    }
}

/// Two items, the second is handed the patch of the first; one retry.
pub fn small_run() -> Run {
    let mut run = Run::submit("fanout-1", &[("edit-a", &[]), ("review", &["edit-a"])]);
    run.fire("edit-a", 1, &[]);
    run.retry("edit-a", 1);
    run.fire("edit-a", 2, &[]);
    let patch = run.done("edit-a", 2);
    run.fire("review", 1, &[("edit-a", "edit-a", patch)]);
    run.done("review", 1);
    run.complete(RunOutcome::Done);
    run
}
