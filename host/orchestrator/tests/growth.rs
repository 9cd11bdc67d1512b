//! Runs that grow: steps are asked, recorded and taken up again after a crash; what a pattern may not do; producers.
#![expect(clippy::unwrap_used, reason = "a test may stop anywhere")]

mod common;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicI64, AtomicU32, Ordering},
    },
};

use async_trait::async_trait;
use common::{Mortal, Narrow, Workers, World};
use pangolin_audit::rebuild::Rebuild;
use pangolin_core::{
    entry::{Entry, EntryBody, Evidence, RunOutcome, VerifyResult},
    ids::{Digest, ItemId, QueueName, RunId},
    pattern::{
        Decisions, Explanation, FailurePolicy, ItemPhase, PlanFinding, RunItem, RunView, SpawnSpec, Tolerated,
    },
};
use pangolin_orchestrator::{
    admission::UNJUDGED,
    keys,
    load::{LoadedRun, load_run},
    message::Request,
    patterns::{Asked, Binding, BindingError, CallFacts, OnFailure, Patterns, StepAnswer, StepFailure},
};
use pangolin_ports::{blob_store::BlobError, clock::Clock, memory::MemoryRunStore, run_store::RunStore};
use serde_json::{Value, json};

type Decide = dyn Fn(&RunView) -> Result<Decisions, StepFailure> + Send + Sync;

/// A pattern in Rust: what a component does, without one.
struct Scripted {
    /// Its component, which an upgrade replaces.
    component: Mutex<Digest>,
    params: Value,
    plan: Box<Decide>,
    /// By component.
    step: BTreeMap<Digest, Box<Decide>>,
    on_failure: OnFailure,
    /// Steps in the order in which they were asked.
    asked: Mutex<Vec<u64>>,
    /// Where a recorded step can be seen: none of them may be asked again.
    store: Mutex<Option<Arc<MemoryRunStore>>>,
    asked_again: AtomicBool,
    /// Steps wait while this is set.
    stuck: AtomicBool,
    /// How often a store does not answer, by what is asked.
    silent: Mutex<BTreeMap<&'static str, u32>>,
}

fn component(name: &str) -> Digest {
    Digest::of(name.as_bytes())
}

fn facts() -> CallFacts {
    CallFacts {
        contract: "pangolin:pattern@1.1.0".into(),
        engine: "native".into(),
        profile: "pure/1".into(),
        ..CallFacts::default()
    }
}

fn failure(code: &str, retryable: bool) -> StepFailure {
    StepFailure { code: code.into(), message: format!("it is {code}"), retryable, facts: Box::new(facts()) }
}

impl Scripted {
    fn new(step: impl Fn(&RunView) -> Result<Decisions, StepFailure> + Send + Sync + 'static) -> Self {
        Self {
            component: Mutex::new(component("scripted")),
            params: json!({}),
            plan: Box::new(|_| Ok(Decisions::default())),
            step: BTreeMap::from([(component("scripted"), Box::new(step) as Box<Decide>)]),
            on_failure: OnFailure::Closed,
            asked: Mutex::default(),
            store: Mutex::default(),
            asked_again: AtomicBool::default(),
            stuck: AtomicBool::default(),
            silent: Mutex::default(),
        }
    }

    fn is_silent(&self, question: &str) -> bool {
        let mut silent = self.silent.lock().unwrap();
        silent.get_mut(question).is_some_and(|left| {
            let is_silent = *left > 0;
            *left = left.saturating_sub(1);
            is_silent
        })
    }

    fn store_of(&self, question: &str) -> Result<(), BlobError> {
        let other = || BlobError::Other { context: question.to_owned(), source: "no answer".into() };
        if self.is_silent(question) { Err(other()) } else { Ok(()) }
    }

    async fn is_recorded(&self, view: &RunView) -> bool {
        let store = self.store.lock().unwrap().clone();
        let Some(store) = store else { return false };
        let stream = keys::run_stream(&RunId::new(view.run_id.as_str()).unwrap());
        let records = store.read(&stream, 0, 4096).await.unwrap();
        records.iter().any(|record| {
            let entry = pangolin_audit::canon::decode_entry(&record.bytes).unwrap();
            matches!(entry.body, EntryBody::PatternDecided(record) if record.step == view.tick)
        })
    }
}

#[async_trait]
impl Patterns for Scripted {
    async fn binding(&self, _queue: &QueueName) -> Result<Option<Binding>, BindingError> {
        self.store_of("binding")?;
        let Value::Object(params) = self.params.clone() else { panic!("params") };
        let component = *self.component.lock().unwrap();
        Ok(Some(Binding { id: "scripted".into(), component, params }))
    }

    async fn plan(&self, _asked: &Asked, view: Arc<RunView>) -> Result<StepAnswer, StepFailure> {
        if self.is_silent("plan") {
            return Err(failure(UNJUDGED, false));
        }
        (self.plan)(&view).map(|decisions| StepAnswer { decisions, facts: facts() })
    }

    async fn step(&self, asked: &Asked, view: Arc<RunView>) -> Result<StepAnswer, StepFailure> {
        if self.is_silent("step") {
            return Err(failure(UNJUDGED, false));
        }
        if self.is_recorded(&view).await {
            self.asked_again.store(true, Ordering::SeqCst);
        }
        self.asked.lock().unwrap().push(view.tick);
        while self.stuck.load(Ordering::SeqCst) {
            tokio::task::yield_now().await;
        }
        (self.step[&asked.component])(&view).map(|decisions| StepAnswer { decisions, facts: facts() })
    }

    async fn on_failure(&self, _queue: &QueueName) -> Result<OnFailure, BlobError> {
        self.store_of("on_failure")?;
        Ok(self.on_failure.clone())
    }

    async fn compare(
        &self,
        entries: &[Entry],
        documents: &BTreeMap<Digest, Vec<u8>>,
        asked: &Asked,
    ) -> Result<u64, String> {
        let records = entries.iter().filter_map(|entry| match &entry.body {
            EntryBody::PatternDecided(record) => Some(&**record),
            _ => None,
        });
        let mut run = Rebuild::new(documents, records);
        let mut steps = 0;
        for entry in entries {
            let seen = run.entry(entry).map_err(|error| error.to_string())?;
            let (Some(seen), EntryBody::PatternDecided(record)) = (seen, &entry.body) else { continue };
            assert_eq!(seen.digest, record.view, "the recorded view is the one of the entries");
            let decide = if record.step == 0 { &self.plan } else { &self.step[&asked.component] };
            let decisions = decide(&seen.view).map_err(|failure| failure.message)?;
            if pangolin_audit::decision::decisions_digest(&decisions).unwrap() != record.decisions {
                return Err(format!("step {} differs", record.step));
            }
            steps += 1;
        }
        Ok(steps)
    }
}

fn spawn(id: &str, deps: &[&str], supersedes: Option<&str>) -> SpawnSpec {
    let item =
        json!({"id": id, "executor": "dispatch", "inputs": {}, "depends_on": deps, "resourceLocks": []});
    let Value::Object(item) = item else { panic!("object") };
    SpawnSpec {
        id: ItemId::new(id).unwrap(),
        item: item.into(),
        supersedes: supersedes.map(|old| ItemId::new(old).unwrap()),
    }
}

/// Maps over the outputs of `split`, reduces, and repairs what `review` does not like.
fn grow(view: &RunView) -> Result<Decisions, StepFailure> {
    let mut made = Decisions::default();
    let find = |id: &str| view.find(id).map(|index| &view.items()[index as usize]);
    let ended = |id: &str| find(id).is_some_and(|item| item.phase == ItemPhase::Succeeded);
    let mut add = |spec: SpawnSpec, why: &str| {
        made.explanations.push(Explanation { item: spec.id.to_string(), why: why.to_owned() });
        made.spawned.push(spec);
    };
    if let Some(split) = find("split").filter(|item| item.phase == ItemPhase::Succeeded) {
        let names: Vec<String> =
            split.output_keys.iter().map(|key| format!("map-{}", key.trim_end_matches(".json"))).collect();
        for name in names.iter().filter(|name| find(name).is_none()) {
            add(spawn(name, &["split"], None), "one per output of split");
        }
        if names.iter().all(|name| ended(name)) && find("reduce").is_none() {
            let deps: Vec<&str> = names.iter().map(String::as_str).collect();
            add(spawn("reduce", &deps, None), "every map is done");
        }
    }
    let red = find("review").is_some_and(|item| item.verify_passed == Some(false));
    let skipped = find("publish").is_some_and(|item| item.phase == ItemPhase::Unsuccessful);
    if red && skipped && find("fix").is_none() {
        add(spawn("publish~2", &["review~2"], Some("publish")), "publish was skipped");
        add(spawn("review~2", &["fix"], Some("review")), "the fix is reviewed");
        add(spawn("fix", &["review"], None), "review was red");
    }
    Ok(made)
}

const PLAN: &str = r#"{"id":"grow","queue":"default","items":[
 {"id":"split","executor":"dispatch","inputs":{},"depends_on":[],"resourceLocks":[]},
 {"id":"review","executor":"dispatch","inputs":{},"depends_on":[],"resourceLocks":[]},
 {"id":"publish","executor":"dispatch","inputs":{},"depends_on":[],"resourceLocks":[]}]}"#;

/// `publish` waits for `review`, which holds it when it is red.
fn plan_grow(view: &RunView) -> Result<Decisions, StepFailure> {
    assert_eq!((view.tick, view.changed.len()), (0, view.items().len()));
    let id = |text: &str| ItemId::new(text).unwrap();
    Ok(Decisions {
        ordered: vec![pangolin_core::pattern::Ordering { item: id("publish"), after: id("review") }],
        held: vec![id("review")],
        ..Decisions::default()
    })
}

async fn workers() -> Workers {
    let script = Workers::default();
    let verify = |passed| {
        let verify = Some(VerifyResult { passed, duration_ms: 1 });
        Evidence { verify, ..Evidence::default() }
    };
    let blob = pangolin_ports::blob_store::BlobStore::put(&*script.blobs, b"{}").await.unwrap();
    let outputs = ["a.json", "b.json", "c.json"].map(|name| (name.to_owned(), blob)).into();
    Workers {
        leaves: BTreeMap::from([
            ("split", Evidence { outputs, ..Evidence::default() }),
            ("review", verify(false)),
            ("review~2", verify(true)),
        ]),
        ..script
    }
}

async fn growing(scripted: Scripted) -> (World, Arc<Scripted>) {
    let scripted = Arc::new(scripted);
    let world = World::new(PLAN, workers().await, scripted.clone()).await;
    *scripted.store.lock().unwrap() = Some(world.store.clone());
    (world, scripted)
}

fn grower() -> Scripted {
    Scripted { plan: Box::new(plan_grow), params: json!({"z": 1, "a": [true]}), ..Scripted::new(grow) }
}

async fn load(world: &World) -> LoadedRun {
    load_run(&*world.store, &*world.blobs, &world.run).await.unwrap()
}

/// The graph without the order in which it grew, which may differ with the moment of a crash.
async fn graph(world: &World) -> BTreeSet<String> {
    let loaded = load(world).await;
    let state = &loaded.state;
    let line = |view: pangolin_core::state::ItemView<'_>| {
        let deps: Vec<&str> = view.plan.depends_on.iter().map(ItemId::as_str).collect();
        let successor = state.successor(view.id()).map_or(String::new(), |new| format!(" -> {new}"));
        format!("{} {} [{}]{successor}", view.id(), view.state.name(), deps.join(","))
    };
    state.items().map(line).collect()
}

fn expected() -> BTreeSet<String> {
    [
        "split done []",
        "review done [] -> review~2",
        "publish skipped [review] -> publish~2",
        "map-a done [split]",
        "map-b done [split]",
        "map-c done [split]",
        "reduce done [map-a,map-b,map-c]",
        "fix done [review]",
        "review~2 done [fix]",
        "publish~2 done [review~2]",
    ]
    .map(str::to_owned)
    .into()
}

fn records(loaded: &LoadedRun) -> Vec<pangolin_core::pattern::DecisionRecord> {
    let record = |entry: &Entry| match &entry.body {
        EntryBody::PatternDecided(record) => Some((**record).clone()),
        _ => None,
    };
    loaded.entries.iter().filter_map(record).collect()
}

#[tokio::test]
async fn a_run_grows_and_everything_about_it_is_recorded() {
    let (mut world, scripted) = growing(grower()).await;
    let store = world.store.clone();
    assert!(!world.live(store).await);
    assert_eq!(graph(&world).await, expected());
    world.bundle_is_intact("grown").await;
    let loaded = load(&world).await;
    assert_eq!(loaded.state.outcome(), Some(RunOutcome::Done), "the successors are done");
    let submitted = loaded.state.submitted();
    assert_eq!(submitted.pattern_id.as_deref(), Some("scripted"));
    assert_eq!(submitted.pattern_params, Some(Digest::of(br#"{"a":[true],"z":1}"#)));
    assert!(submitted.graph.is_some() && submitted.graph != Some(submitted.plan));
    let records = records(&loaded);
    assert_eq!(records.len() as u64, records.last().unwrap().step + 1);
    let asked = scripted.asked.lock().unwrap().clone();
    assert_eq!(asked, (1..records.len() as u64).collect::<Vec<_>>(), "each step once");
    let mut extended = 0;
    for entry in &loaded.entries {
        if let EntryBody::RunExtended { cause, items, plugin, explanation, .. } = &entry.body {
            assert_eq!(entry.actor, "pattern:default");
            assert_eq!(*plugin, Some(component("scripted")));
            assert!(cause.is_some(), "{items:?}");
            assert!(!explanation.is_empty(), "{items:?}");
            extended += 1;
            if items.iter().any(|item| item.as_str() == "fix") {
                let order: Vec<&str> =
                    items.iter().map(ItemId::as_str).filter(|item| !item.starts_with("map-")).collect();
                assert_eq!(order, ["fix", "review~2", "publish~2"], "dependencies first");
            }
        }
    }
    assert!(extended >= 2, "maps first, reduce later");
    // The recorded views are the ones of the entries: `compare` checks each digest.
    let mut documents = BTreeMap::new();
    for digest in loaded.entries.iter().flat_map(|entry| pangolin_audit::rebuild::documents_of(&entry.body)) {
        let bytes =
            pangolin_ports::blob_store::BlobStore::get(&*world.blobs, &digest, 1 << 20).await.unwrap();
        documents.insert(digest, bytes);
    }
    let itself = Asked { id: "scripted".into(), component: component("scripted") };
    let compared = scripted.compare(&loaded.entries, &documents, &itself).await;
    assert_eq!(compared, Ok(records.len() as u64));
}

#[tokio::test]
async fn every_commit_of_a_growing_run_may_be_the_last_one() {
    die_after_every_commit(false).await;
}

/// A store that takes little at once: what a step decided is whole or not there.
#[tokio::test]
async fn every_part_of_a_commit_of_a_growing_run_may_be_the_last_one() {
    die_after_every_commit(true).await;
}

async fn die_after_every_commit(narrow: bool) {
    let may_be_narrow = |store: Arc<dyn RunStore>| if narrow { Narrow::fully(store) } else { store };
    for last_is_applied in [false, true] {
        for alive in 0.. {
            let (mut world, scripted) = growing(grower()).await;
            let context = format!("alive {alive}, applied {last_is_applied}, narrow {narrow}");
            let mortal = Mortal { inner: world.store.clone(), left: AtomicI64::new(alive), last_is_applied };
            let died = world.live(may_be_narrow(Arc::new(mortal))).await;
            if died {
                let store = may_be_narrow(world.store.clone());
                assert!(!world.live(store).await, "{context}");
            }
            assert_eq!(graph(&world).await, expected(), "{context}");
            world.bundle_is_intact(&context).await;
            assert!(
                !scripted.asked_again.load(Ordering::SeqCst),
                "{context}: a recorded step was asked again"
            );
            let started = world.workers.started.lock().unwrap().len();
            assert_eq!(started, 9, "{context}: all but the skipped item");
            if !died {
                assert!(alive > 5, "the run takes several commits");
                break;
            }
        }
    }
}

#[tokio::test]
async fn a_growing_run_ends_when_its_driver_dies_again_and_again() {
    let (mut world, scripted) = growing(grower()).await;
    for life in 0.. {
        let mortal = Mortal { inner: world.store.clone(), left: AtomicI64::new(1), last_is_applied: true };
        if !world.live(Arc::new(mortal)).await {
            break;
        }
        assert!(life < 100, "no progress");
    }
    assert_eq!(graph(&world).await, expected());
    world.bundle_is_intact("one commit a life").await;
    assert!(!scripted.asked_again.load(Ordering::SeqCst));
}

/// A run of one item whose pattern does this in step 1.
async fn one_step(
    on_failure: OnFailure,
    step: impl Fn(&RunView) -> Result<Decisions, StepFailure> + Send + Sync + 'static,
) -> World {
    let plan = r#"{"id":"one","queue":"default","items":[{"id":"a","executor":"dispatch","inputs":{},"depends_on":[],"resourceLocks":[]}]}"#;
    let mut scripted = Scripted { on_failure, ..Scripted::new(step) };
    scripted
        .step
        .insert(component("builtin"), Box::new(|_| Ok(Decisions { close: true, ..Decisions::default() })));
    let mut world = World::new(plan, Workers::default(), Arc::new(scripted)).await;
    let store = world.store.clone();
    assert!(!world.live(store).await);
    world.bundle_is_intact("one step").await;
    world
}

#[tokio::test]
async fn a_failed_step_is_recorded_and_the_binding_says_what_it_means() {
    let builtin = OnFailure::Builtin { id: "static-dag".into(), component: component("builtin") };
    for (policy, recorded, outcome, steps) in [
        (OnFailure::Closed, FailurePolicy::Closed, RunOutcome::Failed, 2),
        (OnFailure::Open, FailurePolicy::Open, RunOutcome::Done, 2),
        (builtin, FailurePolicy::Builtin, RunOutcome::Done, 3),
    ] {
        let world = one_step(policy, |_| Err(failure("guest-panic", false))).await;
        let loaded = load(&world).await;
        assert_eq!(loaded.state.outcome(), Some(outcome), "{recorded:?}");
        let records = records(&loaded);
        assert_eq!(records.len(), steps, "{recorded:?}");
        let failure = records[1].failure.as_ref().unwrap();
        assert_eq!((failure.code.as_str(), failure.policy), ("guest-panic", recorded));
        assert_eq!(records[1].decisions, Digest::of(b"{}"));
        if let Some(last) = records.get(2) {
            assert_eq!((last.component, last.closes), (component("builtin"), true));
        }
    }
}

#[tokio::test]
async fn decisions_that_cannot_be_taken_are_a_failure_with_its_reason() {
    type Case = (&'static str, &'static str, fn(&RunView) -> Result<Decisions, StepFailure>);
    let cases: [Case; 5] = [
        ("refused", "exists already", |_| {
            Ok(Decisions { spawned: vec![spawn("a", &["a"], None)], ..Decisions::default() })
        }),
        ("refused", "ghost", |_| {
            Ok(Decisions { spawned: vec![spawn("b", &["ghost"], None)], ..Decisions::default() })
        }),
        ("refused", "ended well", |_| {
            Ok(Decisions { spawned: vec![spawn("b", &[], Some("a"))], ..Decisions::default() })
        }),
        ("refused", "cannot be tolerated: it ended well", |_| {
            let tolerated = vec![Tolerated { items: vec![ItemId::new("a").unwrap()], why: "so".to_owned() }];
            Ok(Decisions { tolerated, ..Decisions::default() })
        }),
        ("output-limit", "at most 100000", |_| {
            let many = (0..100_000).map(|n| spawn(&format!("n{n}"), &[], None)).collect();
            Ok(Decisions { spawned: many, ..Decisions::default() })
        }),
    ];
    for (code, words, step) in cases {
        let world = one_step(OnFailure::Closed, step).await;
        let loaded = load(&world).await;
        let failure = records(&loaded)[1].failure.clone().unwrap();
        assert_eq!(failure.code, code, "{}", failure.message);
        assert!(failure.message.contains(words), "{}", failure.message);
        assert_eq!(loaded.state.item_count(), 1);
    }
}

/// Three items; one of them fails, and another one waits for it.
const TOLERANT: &str = r#"{"id":"grow","queue":"default","items":[
 {"id":"good","executor":"dispatch","inputs":{},"depends_on":[],"resourceLocks":[]},
 {"id":"bad","executor":"dispatch","inputs":{},"depends_on":[],"resourceLocks":[]},
 {"id":"behind","executor":"dispatch","inputs":{},"depends_on":["bad"],"resourceLocks":[]}]}"#;

/// When all have ended: a summary, and the run is judged without what failed.
fn tolerate(view: &RunView) -> Result<Decisions, StepFailure> {
    let ended = |item: &RunItem| matches!(item.phase, ItemPhase::Succeeded | ItemPhase::Unsuccessful);
    if !view.items().iter().all(ended) || view.find("summary").is_some() {
        return Ok(Decisions::default());
    }
    let failed = view.items().iter().filter(|item| item.phase == ItemPhase::Unsuccessful);
    let items = failed.map(|item| item.id().clone()).collect();
    Ok(Decisions {
        spawned: vec![spawn("summary", &["good"], None)],
        tolerated: vec![Tolerated { items, why: "one of three is enough".to_owned() }],
        ..Decisions::default()
    })
}

#[tokio::test]
async fn a_run_that_tolerates_failures_succeeds_whenever_its_driver_dies() {
    for alive in 0.. {
        let workers = Workers { fails: BTreeMap::from([("bad", 9)]), ..Workers::default() };
        let mut world = World::new(TOLERANT, workers, Arc::new(Scripted::new(tolerate))).await;
        let left = AtomicI64::new(alive);
        let mortal = Mortal { inner: world.store.clone(), left, last_is_applied: alive % 2 == 0 };
        let died = world.live(Arc::new(mortal)).await;
        if died {
            let store = world.store.clone();
            assert!(!world.live(store).await);
        }
        let loaded = load(&world).await;
        assert_eq!(loaded.state.outcome(), Some(RunOutcome::Done), "alive {alive}");
        for (item, state) in [("bad", "failed"), ("behind", "skipped")] {
            let item = ItemId::new(item).unwrap();
            assert_eq!(loaded.state.item(&item).unwrap().state.name(), state);
            assert_eq!(loaded.state.tolerated_because(&item), Some("one of three is enough"));
        }
        let tolerated = loaded.entries.iter().filter(|entry| entry.body.kind() == "item.tolerated");
        assert_eq!(tolerated.map(|entry| entry.actor.as_str()).collect::<Vec<_>>(), ["pattern:default"]);
        world.bundle_is_intact(&format!("tolerated, alive {alive}")).await;
        if !died {
            assert!(alive > 3, "the run takes several commits");
            break;
        }
    }
}

#[tokio::test]
async fn what_was_added_before_the_cap_is_reached_goes_on_to_its_end() {
    let world = one_step(OnFailure::Closed, |view| {
        let many = if view.find("n0").is_none() { 0..20 } else { 20..100_000 };
        let spawned = many.map(|n| spawn(&format!("n{n}"), &[], None)).collect();
        Ok(Decisions { spawned, ..Decisions::default() })
    })
    .await;
    let loaded = load(&world).await;
    let failure = loaded.state.growth().unwrap().failure().unwrap().clone();
    assert_eq!((failure.code.as_str(), failure.policy), ("output-limit", FailurePolicy::Closed));
    // Nothing of the flood was taken; everything that was there is done; the run says that it is not whole.
    assert_eq!(loaded.state.item_count(), 21);
    assert!(loaded.state.items().all(|item| item.state.name() == "done"));
    assert_eq!(loaded.state.outcome(), Some(RunOutcome::Failed));
    assert_eq!(world.workers.started.lock().unwrap().len(), 21);
}

#[tokio::test]
async fn the_same_item_again_is_dropped_and_a_large_step_is_cut_into_entries() {
    let world = one_step(OnFailure::Closed, |view| {
        let mut spawned = vec![spawn("a", &[], None)];
        if view.tick == 1 {
            spawned.extend((0..3_000).map(|n| spawn(&format!("{}{n}", "x".repeat(20)), &["a"], None)));
        }
        Ok(Decisions { spawned, close: view.tick == 1, ..Decisions::default() })
    })
    .await;
    let loaded = load(&world).await;
    let extended = loaded.entries.iter().filter(|entry| entry.body.kind() == "run.extended").count();
    assert!(extended >= 2, "{extended}");
    assert_eq!(loaded.state.item_count(), 3_001);
    assert_eq!(loaded.state.outcome(), Some(RunOutcome::Done));
}

#[tokio::test]
async fn a_failure_that_may_pass_is_tried_again_after_a_pause_while_others_go_on() {
    let plan = r#"{"id":"busy","queue":"default","items":[{"id":"a","executor":"dispatch","inputs":{},"depends_on":[],"resourceLocks":[]}]}"#;
    let tries = Arc::new(AtomicU32::new(0));
    let count = tries.clone();
    let scripted = Arc::new(Scripted::new(move |view: &RunView| {
        if view.run_id == "busy" && count.fetch_add(1, Ordering::SeqCst) < 2 {
            return Err(failure("host-busy", true));
        }
        Ok(Decisions::default())
    }));
    let mut world = World::new(plan, Workers::default(), scripted.clone()).await;
    let other = Request::Submit {
        plan: plan.replace("busy", "other"),
        queue: None,
        actor: "human:b".into(),
        base: None,
    };
    world.send("submit-2", other).await;
    let (store, clock, run) = (world.store.clone(), world.clock.clone(), world.run.clone());
    let other = RunId::new("other").unwrap();
    let sealed = {
        let cells = store.clone();
        async move {
            while cells.get(&keys::seal(&other)).await.unwrap().is_none() {
                tokio::task::yield_now().await;
            }
            assert!(cells.get(&keys::seal(&run)).await.unwrap().is_none(), "the other run did not wait");
            while cells.get(&keys::seal(&run)).await.unwrap().is_none() {
                clock.set(clock.now_ms() + 100);
                tokio::task::yield_now().await;
            }
        }
    };
    assert!(!world.serve_until(store, sealed).await);
    assert_eq!(tries.load(Ordering::SeqCst), 3);
    let records = records(&load(&world).await);
    assert_eq!(records.len(), 2);
    assert!(records[1].failure.is_none());
}

#[tokio::test]
async fn a_pattern_that_hangs_delays_only_its_own_growth() {
    let plan = r#"{"id":"slow","queue":"default","items":[
        {"id":"a","executor":"dispatch","inputs":{},"depends_on":[],"resourceLocks":[]},
        {"id":"b","executor":"dispatch","inputs":{},"depends_on":["a"],"resourceLocks":[]}]}"#;
    let scripted = Arc::new(Scripted::new(|view: &RunView| {
        let spawned = if view.tick == 1 { vec![spawn("c", &["a"], None)] } else { Vec::new() };
        Ok(Decisions { spawned, ..Decisions::default() })
    }));
    scripted.stuck.store(true, Ordering::SeqCst);
    let mut world = World::new(plan, Workers::default(), scripted.clone()).await;
    let (store, blobs, run) = (world.store.clone(), world.blobs.clone(), world.run.clone());
    let sealed = {
        let (cells, scripted) = (store.clone(), scripted.clone());
        async move {
            // `b` ends although the pattern thinks about the end of `a`.
            loop {
                if let Ok(loaded) = load_run(&*cells, &*blobs, &run).await
                    && loaded.state.items().all(|view| view.state.is_terminal())
                {
                    break;
                }
                tokio::task::yield_now().await;
            }
            scripted.stuck.store(false, Ordering::SeqCst);
            while cells.get(&keys::seal(&run)).await.unwrap().is_none() {
                tokio::task::yield_now().await;
            }
        }
    };
    assert!(!world.serve_until(store, sealed).await);
    world.bundle_is_intact("slow").await;
    let loaded = load(&world).await;
    assert_eq!(loaded.state.item_count(), 3);
    let records = records(&loaded);
    let place = loaded
        .entries
        .iter()
        .position(|entry| matches!(&entry.body, EntryBody::PatternDecided(record) if record.step == 1))
        .unwrap();
    assert!(records[1].seen < place as u64, "entries were written while it was thinking");
    assert!(records.len() >= 3, "the end of b belongs to a later step");
}

#[tokio::test]
async fn a_plan_that_the_pattern_does_not_like_is_rejected_before_anything_is_stored() {
    let plan = r#"{"id":"bad","queue":"default","items":[{"id":"a","executor":"dispatch","inputs":{},"depends_on":[],"resourceLocks":[]}]}"#;
    let id = |text: &str| ItemId::new(text).unwrap();
    type Case = (&'static str, Box<Decide>);
    let cases: [Case; 4] = [
        (
            "/items/0/inputs/gate",
            Box::new(|_| {
                let finding = |n: u32| PlanFinding {
                    pointer: format!("/items/{n}/inputs/gate"),
                    message: "no gate".into(),
                    hint: Some("add one".into()),
                };
                Ok(Decisions { findings: vec![finding(0), finding(1)], ..Decisions::default() })
            }),
        ),
        ("it is fault", Box::new(|_| Err(failure("fault", false)))),
        (
            "depends on itself",
            Box::new(move |_| {
                let ordered = vec![pangolin_core::pattern::Ordering { item: id("a"), after: id("a") }];
                Ok(Decisions { ordered, ..Decisions::default() })
            }),
        ),
        (
            "not in the submitted plan",
            Box::new(move |_| {
                Ok(Decisions { held: vec![ItemId::new("ghost").unwrap()], ..Decisions::default() })
            }),
        ),
    ];
    for (words, decide) in cases {
        let scripted = Scripted { plan: decide, ..Scripted::new(|_| Ok(Decisions::default())) };
        let mut world = World::new(plan, Workers::default(), Arc::new(scripted)).await;
        let (store, inbox) = (world.store.clone(), world.inbox.clone());
        let settled = async move { pangolin_ports::inbox::Inbox::settled(&*inbox, "submit-1").await };
        assert!(!world.serve_until(store, settled).await);
        let answer = world.answer("submit-1").await;
        assert!(answer.starts_with("rejected") && answer.contains(words), "{words}: {answer}");
        assert!(!world.blobs_has(plan.as_bytes()).await, "nothing is stored");
        let missing = load_run(&*world.store, &*world.blobs, &world.run).await;
        assert!(missing.is_err());
    }
}

#[tokio::test]
async fn a_planner_that_hangs_lets_other_submissions_pass_and_keeps_the_order_of_its_own() {
    let plan = r#"{"id":"slow","queue":"default","items":[{"id":"a","executor":"dispatch","inputs":{},"depends_on":[],"resourceLocks":[]}]}"#;
    let stuck = Arc::new(AtomicBool::new(true));
    let gate = stuck.clone();
    let scripted = Scripted {
        plan: Box::new(move |view| {
            if view.run_id == "slow" && gate.load(Ordering::SeqCst) {
                return Err(failure("host-busy", true));
            }
            Ok(Decisions { close: true, ..Decisions::default() })
        }),
        ..Scripted::new(|_| Ok(Decisions::default()))
    };
    let mut world = World::new(plan, Workers::default(), Arc::new(scripted)).await;
    let cancel = Request::Cancel { run: world.run.clone(), item: None, actor: "human:a".into() };
    world.send("a-cancel", cancel).await;
    let other = Request::Submit {
        plan: plan.replace("slow", "other"),
        queue: None,
        actor: "human:b".into(),
        base: None,
    };
    world.send("b-other", other).await;
    let (store, clock, run) = (world.store.clone(), world.clock.clone(), world.run.clone());
    let other = RunId::new("other").unwrap();
    let sealed = {
        let cells = store.clone();
        async move {
            while cells.get(&keys::seal(&other)).await.unwrap().is_none() {
                tokio::task::yield_now().await;
            }
            stuck.store(false, Ordering::SeqCst);
            while cells.get(&keys::seal(&run)).await.unwrap().is_none() {
                clock.set(clock.now_ms() + 100);
                tokio::task::yield_now().await;
            }
        }
    };
    assert!(!world.serve_until(store, sealed).await);
    assert!(world.answer("submit-1").await.starts_with("accepted"));
    let cancel = world.answer("a-cancel").await;
    assert!(cancel.starts_with("accepted") || cancel.contains("has ended already"), "{cancel}");
}

#[tokio::test]
async fn producers_extend_and_close_and_the_same_message_counts_once() {
    let plan = r#"{"id":"open","queue":"default","openEnded":true,"items":[]}"#;
    let scripted = Arc::new(Scripted::new(|view: &RunView| {
        let open = view.attrs.get("open-ended").map(String::as_str) == Some("true");
        let spawned =
            if !open && view.find("last").is_none() { vec![spawn("last", &[], None)] } else { Vec::new() };
        Ok(Decisions { spawned, ..Decisions::default() })
    }));
    let mut world = World::new(plan, Workers::default(), scripted).await;
    let run = world.run.clone();
    let extend =
        |items: &str| Request::Extend { run: run.clone(), items: items.to_owned(), actor: "app:feed".into() };
    let x = r#"[{"id":"x","executor":"dispatch","inputs":{},"depends_on":[],"resourceLocks":[]},
                {"id":"y","executor":"dispatch","inputs":{},"depends_on":["x"],"resourceLocks":[]}]"#;
    let ghost = r#"[{"id":"z","executor":"dispatch","inputs":{},"depends_on":["ghost"],"resourceLocks":[]}]"#;
    let taken = r#"[{"id":"x","executor":"dispatch","inputs":{"a":1},"depends_on":[],"resourceLocks":[]}]"#;
    let close = || Request::Close { run: run.clone(), actor: "app:feed".into() };
    let none = Request::Close { run: RunId::new("none").unwrap(), actor: "app:feed".into() };
    for (name, request) in [
        ("m1", extend(x)),
        ("m2", extend(x)),
        ("m3", extend(ghost)),
        ("m4", extend(taken)),
        ("m5", extend("[]")),
        ("m6", close()),
        ("m7", close()),
        ("m8", extend(ghost)),
        ("m9", none),
    ] {
        world.send(name, request).await;
    }
    let store = world.store.clone();
    assert!(!world.live(store.clone()).await);
    for (name, words) in [
        ("m1", "accepted"),
        ("m1", "\"seq\":2"),
        ("m2", "were added before"),
        ("m3", "/0/depends_on/0"),
        ("m4", "/0/id"),
        ("m5", "no items to add"),
        ("m6", "\"seq\":3"),
        ("m7", "closed already"),
        ("m8", "was closed"),
        ("m9", "does not exist"),
    ] {
        let answer = world.answer(name).await;
        assert!(answer.contains(words), "{name}: {answer}");
    }
    world.bundle_is_intact("open").await;
    let loaded = load(&world).await;
    let names: BTreeSet<String> = loaded.state.items().map(|view| view.id().to_string()).collect();
    assert_eq!(names, ["x", "y", "last"].map(str::to_owned).into(), "the pattern was told of the closing");
    // Taken again after the run has ended: as after a crash before the answer was written.
    let request = Request::Extend { run: run.clone(), items: x.to_owned(), actor: "app:feed".into() };
    world.send("late-1", request).await;
    world.send("late-2", close()).await;
    world.send("late-3", extend(ghost)).await;
    let inbox = world.inbox.clone();
    let settled = async move { pangolin_ports::inbox::Inbox::settled(&*inbox, "late-3").await };
    assert!(!world.serve_until(store, settled).await);
    assert!(world.answer("late-1").await.contains("added before"));
    assert!(world.answer("late-2").await.starts_with("accepted"));
    assert!(world.answer("late-3").await.contains("has ended already"));
}

#[tokio::test]
async fn an_upgrade_moves_a_run_only_when_it_agrees() {
    for (agrees, steps) in [(true, 1), (false, 0)] {
        let mut scripted = grower();
        let newer = move |view: &RunView| match agrees {
            true => grow(view),
            false => Ok(Decisions { spawned: vec![spawn("other", &[], None)], ..Decisions::default() }),
        };
        scripted.step.insert(component("newer"), Box::new(newer));
        let (mut world, scripted) = growing(scripted).await;
        // Dies once a step is recorded.
        for alive in 3.. {
            let mortal =
                Mortal { inner: world.store.clone(), left: AtomicI64::new(1), last_is_applied: true };
            assert!(world.live(Arc::new(mortal)).await, "it dies in time");
            if records(&load(&world).await).len() >= 2 {
                break;
            }
            assert!(alive < 50);
        }
        *scripted.component.lock().unwrap() = component("newer");
        let store = world.store.clone();
        assert!(!world.live(store).await);
        assert_eq!(graph(&world).await, expected(), "agrees {agrees}");
        world.bundle_is_intact("upgraded").await;
        let loaded = load(&world).await;
        let moved = loaded.entries.iter().filter(|entry| entry.body.kind() == "pattern.moved").count();
        assert_eq!(moved, steps);
        let last = records(&loaded).last().unwrap().component;
        assert_eq!(last, component(if agrees { "newer" } else { "scripted" }));
    }
}

/// Nothing is known about a pattern while a store does not answer, so nothing is refused and nothing fails: the submission waits,
/// planner and step are asked again longer than a failure would allow, and what takes over after a failure is looked for until it is
/// known.
#[tokio::test]
async fn a_store_that_does_not_answer_judges_no_pattern() {
    let plan = r#"{"id":"calm","queue":"default","items":[{"id":"a","executor":"dispatch","inputs":{},"depends_on":[],"resourceLocks":[]}]}"#;
    let mut scripted = Scripted {
        on_failure: OnFailure::Builtin { id: "builtin".into(), component: component("builtin") },
        silent: Mutex::new(BTreeMap::from([("binding", 2), ("plan", 9), ("step", 9), ("on_failure", 3)])),
        ..Scripted::new(|_| Err(failure("guest-panic", false)))
    };
    scripted.step.insert(component("builtin"), Box::new(|_| Ok(Decisions::default())));
    let scripted = Arc::new(scripted);
    let mut world = World::new(plan, Workers::default(), scripted.clone()).await;
    let (store, clock, run) = (world.store.clone(), world.clock.clone(), world.run.clone());
    let sealed = {
        let cells = store.clone();
        async move {
            while cells.get(&keys::seal(&run)).await.unwrap().is_none() {
                clock.set(clock.now_ms() + 100);
                tokio::task::yield_now().await;
            }
        }
    };
    assert!(!world.serve_until(store, sealed).await);
    let loaded = load(&world).await;
    assert_eq!(loaded.state.outcome(), Some(RunOutcome::Done));
    let failures: Vec<_> = records(&loaded).into_iter().filter_map(|record| record.failure).collect();
    let found: Vec<_> = failures.iter().map(|failure| (&*failure.code, failure.policy)).collect();
    assert_eq!(found, [("guest-panic", FailurePolicy::Builtin)]);
    assert!(scripted.silent.lock().unwrap().values().all(|left| *left == 0), "everything was silent");
}
