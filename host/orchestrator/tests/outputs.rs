//! Items with many outputs: recorded in parts, through crashes, handed to thousands of items and verified.
#![expect(clippy::unwrap_used, reason = "a test may stop anywhere")]

mod common;

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    sync::{Arc, atomic::AtomicI64},
};

use async_trait::async_trait;
use common::{Mortal, Narrow, Workers, World};
use pangolin_audit::{
    bundle::Bundle,
    report::{Report as Verified, Verdict},
    verify::{Trust, verify_bundle},
};
use pangolin_core::{
    entry::{Entry, EntryBody, Evidence},
    ids::{Digest, DispatchId, ItemId, QueueName},
    manifest::ManifestInput,
    outputs::OUTPUTS_MAX,
    pattern::{Decisions, ItemPhase, RunView, SpawnSpec},
    plan::Select,
    scheduler::{AttemptEnd, AttemptStatus, Fire, QueuePolicy},
    state::RunState,
};
use pangolin_orchestrator::{
    driver::serve,
    executor::{Executor, Job, PrepareError, Report, Reporter},
    export::{Author, export_bundle},
    keys,
    load::load_run,
    patterns::{
        Asked, Binding, BindingError, CallFacts, NoPatterns, OnFailure, Patterns, StepAnswer, StepFailure,
    },
};
use pangolin_ports::{
    blob_store::{BlobError, BlobStore as _},
    commit_limits::CommitLimits,
    memory::MemoryBlobStore,
    run_store::RunStore,
};
use serde_json::json;

type Outputs = BTreeMap<String, Digest>;

/// So many outputs whose names have so many bytes, all with these bytes in them.
fn outputs(count: usize, length: usize, bytes: &[u8]) -> Outputs {
    let name = |index| format!("part-{index:05}-{}", "n".repeat(length));
    (0..count).map(|index| (name(index), Digest::of(bytes))).collect()
}

async fn kept(world: &World, item: &str) -> Outputs {
    let loaded = load_run(&*world.store, &*world.blobs, &world.run).await.unwrap();
    let view = loaded.state.item(&ItemId::new(item).unwrap()).unwrap();
    view.attempts.last().unwrap().end.as_ref().unwrap().evidence.outputs.clone()
}

async fn parts(world: &World) -> Vec<u64> {
    let loaded = load_run(&*world.store, &*world.blobs, &world.run).await.unwrap();
    let part = |entry: &Entry| match entry.body {
        EntryBody::ItemOutputs { part, .. } => Some(part),
        _ => None,
    };
    loaded.entries.iter().filter_map(part).collect()
}

async fn verified(world: &World) -> (Vec<u8>, Verified) {
    let bundle =
        export_bundle(&*world.store, &*world.blobs, Author::Deployment(&world.key), None, &world.run)
            .await
            .unwrap();
    let report = verify_bundle(&bundle, &Trust { keys: vec![world.key.verifier_key()], ..Trust::default() });
    assert_eq!(report.verdict, Verdict::Intact, "{}", report.to_json());
    (bundle, report)
}

/// A store that takes a megabyte at once.
const MEGABYTE: CommitLimits = CommitLimits { actions: 100, bytes: 1 << 20 };

const ONE: &str = r#"{"id":"many","queue":"default","items":[
 {"id":"split","executor":"dispatch","inputs":{},"depends_on":[],"resourceLocks":[]}]}"#;

fn workers(outputs: &Outputs, blobs: &Arc<MemoryBlobStore>) -> Workers {
    let evidence = Evidence { outputs: outputs.clone(), ..Evidence::default() };
    Workers { leaves: BTreeMap::from([("split", evidence)]), blobs: blobs.clone(), ..Workers::default() }
}

#[tokio::test]
async fn the_driver_may_die_between_any_two_parts() {
    // Three commits: two of a megabyte go ahead.
    let first = outputs(9_000, 180, b"first");
    let other = outputs(4_000, 300, b"other");
    let (mut cut, mut over) = (BTreeSet::new(), 0);
    for collects_the_same in [true, false] {
        // Before that it has not even been submitted.
        for alive in 2.. {
            let blobs = Arc::new(MemoryBlobStore::new());
            for bytes in [b"first", b"other"] {
                blobs.put(bytes).await.unwrap();
            }
            let mut world = World::new(ONE, workers(&first, &blobs), Arc::new(NoPatterns)).await;
            let mortal =
                Mortal { inner: world.store.clone(), left: AtomicI64::new(alive), last_is_applied: true };
            let died = world.live(Narrow::to(MEGABYTE, Arc::new(mortal))).await;
            let mut expected = &first;
            let before = if died { parts(&world).await } else { Vec::new() };
            let had_ended = world.is_sealed(&world.run).await;
            if died {
                if !collects_the_same && !had_ended {
                    world.workers = Arc::new(workers(&other, &blobs));
                    expected = &other;
                }
                let store = world.store.clone();
                assert!(!world.live(store).await);
            }
            assert!(kept(&world, "split").await == *expected, "alive {alive}");
            let after = parts(&world).await;
            assert!(after.starts_with(&before));
            let recorded = before.len() as u64;
            if recorded > 0 && !had_ended {
                verified(&world).await;
                cut.insert(recorded);
                let starts = after.iter().filter(|part| **part == 0).count();
                assert_eq!(starts, if collects_the_same { 1 } else { 2 }, "{after:?}");
                over += starts - 1;
            }
            if !died {
                assert_eq!(after, (0..after.len() as u64).collect::<Vec<_>>());
                break;
            }
        }
    }
    assert!(cut.len() >= 2 && over >= 2, "it died between parts: {cut:?}, {over} times started over");
}

/// Gives every item what it needs in its manifest, like a deployment, and ends it at once.
struct Mapper {
    outputs: Outputs,
    blobs: Arc<MemoryBlobStore>,
}

#[async_trait]
impl Executor for Mapper {
    async fn prepare(&self, fire: &Fire, run: &RunState) -> Result<Option<Digest>, PrepareError> {
        let mut inputs = BTreeMap::new();
        for (key, need) in &run.item(&fire.item).unwrap().plan.needs {
            let Select::Output { path } = &need.select else { panic!("an output") };
            let ended = run.item(&need.from).unwrap().attempts.last().unwrap().end.as_ref().unwrap();
            let digest = ended.evidence.outputs[path];
            inputs.insert(key.clone(), ManifestInput { from: need.from.clone(), digest });
        }
        let manifest = json!({
            "v": 1, "run": fire.run, "item": fire.item, "attempt": fire.attempt, "dispatch": fire.dispatch,
            "executor": "dispatch", "backend": "process", "isolation": "none", "network": "none", "model": "",
            "inputs": inputs,
        });
        let bytes = pangolin_audit::canon::to_vec(&manifest).unwrap();
        self.blobs.put(&bytes).await.map(Some).map_err(|error| PrepareError::Later(error.to_string()))
    }

    fn start(&self, job: Job, report: Reporter) {
        let outputs = match job.item.as_str() {
            "split" => self.outputs.clone(),
            _ => [("result".to_owned(), Digest::of(b"result"))].into(),
        };
        let evidence = Evidence { outputs, ..Evidence::default() };
        let _ = report.send(Report { job, end: AttemptEnd { status: AttemptStatus::Done, evidence } });
    }

    fn stop(&self, _dispatch: &DispatchId) {}
    fn forget(&self, _dispatch: &DispatchId) {}
    async fn sweep(&self, _running: &HashSet<DispatchId>) {}
}

/// One item per output of `split`, and one that takes the results of all of them.
struct MapAll;

fn spawn(id: String, needs: &BTreeMap<String, serde_json::Value>) -> SpawnSpec {
    let item = json!({"id": id, "executor": "dispatch", "inputs": {}, "depends_on": [], "resourceLocks": [], "needs": needs});
    let serde_json::Value::Object(item) = item else { panic!("object") };
    SpawnSpec { id: ItemId::new(id).unwrap(), item: item.into(), supersedes: None }
}

fn map_all(view: &RunView) -> Decisions {
    let need = |from: &str, path: &str| json!({"from": from, "select": {"kind": "output", "path": path}});
    let all_done = view.items().iter().all(|item| item.phase == ItemPhase::Succeeded);
    let spawned = match view.items() {
        [split] if all_done => split
            .output_keys
            .iter()
            .map(|key| spawn(format!("map-{key}"), &[("input".to_owned(), need("split", key))].into()))
            .collect(),
        [_, maps @ ..] if all_done && view.find("reduce").is_none() => {
            let needs = maps
                .iter()
                .map(|map| (format!("part-{}", map.id()), need(map.id().as_str(), "result")))
                .collect();
            vec![spawn("reduce".to_owned(), &needs)]
        }
        _ => Vec::new(),
    };
    let close = spawned.iter().any(|spec| spec.id.as_str() == "reduce");
    Decisions { spawned, close, ..Decisions::default() }
}

#[async_trait]
impl Patterns for MapAll {
    async fn binding(&self, _queue: &QueueName) -> Result<Option<Binding>, BindingError> {
        let component = Digest::of(b"scripted");
        Ok(Some(Binding { id: "map-all".into(), component, params: serde_json::Map::new() }))
    }
    async fn plan(&self, _asked: &Asked, _view: Arc<RunView>) -> Result<StepAnswer, StepFailure> {
        Ok(StepAnswer { decisions: Decisions::default(), facts: CallFacts::default() })
    }
    async fn step(&self, _asked: &Asked, view: Arc<RunView>) -> Result<StepAnswer, StepFailure> {
        Ok(StepAnswer { decisions: map_all(&view), facts: CallFacts::default() })
    }
    async fn on_failure(&self, _queue: &QueueName) -> Result<OnFailure, BlobError> {
        Ok(OnFailure::Closed)
    }
    async fn compare(
        &self,
        _entries: &[Entry],
        _documents: &BTreeMap<Digest, Vec<u8>>,
        _asked: &Asked,
    ) -> Result<u64, String> {
        Err("the binding never changes here".to_owned())
    }
}

/// Drives with [`Mapper`] until the run is sealed or the driver dies; answers whether it died.
async fn map(world: &mut World, outputs: &Outputs, store: Arc<dyn RunStore>) -> bool {
    let mut parts = world.parts(store);
    parts.executor = Arc::new(Mapper { outputs: outputs.clone(), blobs: world.blobs.clone() });
    parts.queues.insert(QueueName::new("default").unwrap(), QueuePolicy { concurrency: 64, paused: false });
    let (cells, run) = (world.store.clone(), world.run.clone());
    let sealed = async move {
        while cells.get(&keys::seal(&run)).await.unwrap().is_none() {
            tokio::task::yield_now().await;
        }
    };
    serve(parts, sealed).await.is_err()
}

async fn mapping(plan: &str, patterns: Arc<dyn Patterns>) -> World {
    let world = World::new(plan, Workers::default(), patterns).await;
    for bytes in [&b"piece"[..], b"result"] {
        world.blobs.put(bytes).await.unwrap();
    }
    world
}

#[tokio::test]
async fn two_thousand_items_map_the_outputs_of_one_and_one_reduces_them() {
    let outputs = outputs(2_000, 0, b"piece");
    let mut world = mapping(ONE, Arc::new(MapAll)).await;
    // Dies in the middle once.
    let mortal = Mortal { inner: world.store.clone(), left: AtomicI64::new(20), last_is_applied: true };
    assert!(map(&mut world, &outputs, Narrow::to(MEGABYTE, Arc::new(mortal))).await);
    let store = Narrow::to(MEGABYTE, world.store.clone());
    assert!(!map(&mut world, &outputs, store).await);
    let (_, report) = verified(&world).await;
    assert_eq!(report.checks.handoff.detail, "4000 inputs are sealed products of items done before");
    assert!(report.checks.growth.detail.starts_with("2001 items were added"), "{}", report.to_json());
    assert!(report.checks.state.detail.ends_with("2002 of 2002 items final"), "{}", report.to_json());
    assert_eq!(parts(&world).await, [0, 1, 2, 3]);
}

#[tokio::test]
async fn an_item_may_have_as_many_outputs_as_the_host_takes() {
    let outputs = outputs(OUTPUTS_MAX, 0, b"piece");
    let mut world = mapping(ONE, Arc::new(NoPatterns)).await;
    let store = Narrow::to(MEGABYTE, world.store.clone());
    assert!(!map(&mut world, &outputs, store).await);
    verified(&world).await;
    assert!(kept(&world, "split").await == outputs);
}

#[tokio::test]
async fn outputs_in_parts_can_be_needed_and_make_a_bundle_of_version_2() {
    let plan = json!({"id": "outputs-in-parts", "queue": "default", "items": [
        {"id": "split", "executor": "dispatch", "inputs": {}, "depends_on": [], "resourceLocks": []},
        {"id": "use", "executor": "dispatch", "inputs": {}, "depends_on": [], "resourceLocks": [], "needs": {
            "first": {"from": "split", "select": {"kind": "output", "path": "part-00000-"}},
            "last": {"from": "split", "select": {"kind": "output", "path": "part-00599-"}},
        }},
    ]});
    let outputs = outputs(600, 0, b"piece");
    let mut world = mapping(&plan.to_string(), Arc::new(NoPatterns)).await;
    let store = Narrow::to(MEGABYTE, world.store.clone());
    assert!(!map(&mut world, &outputs, store).await);
    let (bundle, report) = verified(&world).await;
    assert_eq!(report.checks.handoff.detail, "2 inputs are sealed products of items done before");
    assert_eq!(parts(&world).await, [0, 1]);
    assert_eq!(Bundle::parse(&bundle).unwrap().schema_version, 2);
    // How the sample in `tests/formats` was made.
    if let Some(directory) = std::env::var_os("PANGOLIN_WRITE_SAMPLE") {
        let directory = std::path::PathBuf::from(directory);
        std::fs::write(directory.join("bundle-v2-outputs.json"), &bundle).unwrap();
        let key = format!("{}\n", world.key.verifier_key());
        std::fs::write(directory.join("bundle-v2-outputs.vkey"), key).unwrap();
    }
}
