//! The real engine with the shipped map-reduce pattern, through a crash: what it records verifies and replays.
#![expect(clippy::unwrap_used, reason = "a test may stop anywhere")]

#[path = "../../orchestrator/tests/common/mod.rs"]
mod common;

use std::{
    collections::BTreeMap,
    sync::{Arc, atomic::AtomicI64},
};

use async_trait::async_trait;
use common::{Mortal, Workers, World};
use pangolin_audit::{
    bundle::Bundle,
    report::Verdict,
    verify::{Trust, verify_bundle},
};
use pangolin_core::{
    entry::{Entry, Evidence},
    ids::{Digest, QueueName},
    pattern::RunView,
};
use pangolin_orchestrator::{
    export::{Author, export_bundle},
    patterns::{Asked, Binding, BindingError, CallFacts, OnFailure, Patterns, StepAnswer, StepFailure},
};
use pangolin_plugin_host::{
    CacheKey, Compiler, HostOptions, PATTERN_CONTRACT, PatternComponent, PluginHost, Profile, engine_id,
};
use pangolin_ports::blob_store::{BlobError, BlobStore as _};
use pangolin_replay::{Answer, Ask, Given, ReplayVerdict, replay};

fn host() -> PluginHost {
    let dir = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("plugin-cache");
    let options = HostOptions { compiler: Compiler::InProcess, ..HostOptions::default() };
    PluginHost::with_options(&dir, CacheKey::from_bytes([7; 32]), options).unwrap()
}

/// One component for every queue.
struct Component(PatternComponent);

impl Component {
    async fn ask(&self, step: u64, view: Arc<RunView>) -> Result<StepAnswer, StepFailure> {
        let mut facts = CallFacts {
            contract: PATTERN_CONTRACT.into(),
            engine: engine_id().into(),
            profile: Profile::Pure.id().into(),
            ..CallFacts::default()
        };
        match self.0.ask(step, &view, None).await {
            Ok(Answer { decisions, fuel, peak_memory }) => {
                (facts.fuel, facts.peak_memory) = (fuel, peak_memory);
                Ok(StepAnswer { decisions, facts })
            }
            Err(failed) => Err(StepFailure {
                code: failed.code,
                message: failed.message,
                retryable: false,
                facts: Box::new(facts),
            }),
        }
    }
}

#[async_trait]
impl Patterns for Component {
    async fn binding(&self, _queue: &QueueName) -> Result<Option<Binding>, BindingError> {
        let (id, component) = ("map-reduce".to_owned(), self.0.digest());
        Ok(Some(Binding { id, component, params: serde_json::Map::new() }))
    }

    async fn plan(&self, _asked: &Asked, view: Arc<RunView>) -> Result<StepAnswer, StepFailure> {
        self.ask(0, view).await
    }

    async fn step(&self, _asked: &Asked, view: Arc<RunView>) -> Result<StepAnswer, StepFailure> {
        self.ask(view.tick, view).await
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

const PLAN: &str = r#"{"id":"engine","queue":"default","items":[{"id":"split","executor":"dispatch","inputs":{"mapReduce":{
 "map":{"executor":"dispatch","inputs":{}},"reduce":{"executor":"dispatch","inputs":{}},"onMapFailure":"skip"}},
 "depends_on":[],"resourceLocks":[]}]}"#;

async fn world(bytes: &[u8]) -> World {
    let mut script = Workers { fails: BTreeMap::from([("map-b.txt", 9)]), ..Workers::default() };
    for (item, paths) in [
        ("split", &["a", "b.txt", "c/d"][..]),
        ("map-a", &["result"]),
        ("map-c~2Fd", &["result"]),
        ("reduce", &["all"]),
    ] {
        let mut evidence = Evidence::default();
        for path in paths {
            let digest = script.blobs.put(format!("{item} {path}").as_bytes()).await.unwrap();
            evidence.outputs.insert((*path).to_owned(), digest);
        }
        script.leaves.insert(item, evidence);
    }
    script.blobs.put(bytes).await.unwrap();
    let component = host().load_pattern(bytes).unwrap();
    World::new(PLAN, script, Arc::new(Component(component))).await
}

async fn check(world: &World) {
    let bundle =
        export_bundle(&*world.store, &*world.blobs, Author::Deployment(&world.key), None, &world.run)
            .await
            .unwrap();
    let trust = Trust { keys: vec![world.key.verifier_key()], ..Trust::default() };
    let report = verify_bundle(&bundle, &trust);
    assert_eq!(report.verdict, Verdict::Intact, "{}", report.to_json());
    let replayed = replay(&bundle, &host(), &Given::default(), |_| ()).await.unwrap();
    assert_eq!(replayed.verdict, ReplayVerdict::Agrees, "{replayed:#?}");
    assert!(replayed.steps >= 3 && replayed.agreed == replayed.steps, "{replayed:#?}");
    let parsed = Bundle::parse(&bundle).unwrap();
    let text: String = parsed.entries.iter().map(|entry| entry.get()).collect();
    for id in ["map-a", "map-b.txt", "map-c~2Fd", "reduce"] {
        assert!(text.contains(&format!("\"{id}\"")), "{id} is not in the run");
    }
    // The failed map is tolerated, and the replay repeats that decision.
    assert!(text.contains("\"kind\":\"item.tolerated\"") && text.contains("\"outcome\":\"done\""), "{text}");
    assert_eq!(parsed.schema_version, 2);
    // How the sample in `tests/formats` was made.
    if let Some(file) = std::env::var_os("PANGOLIN_WRITE_SAMPLE") {
        std::fs::write(file, &bundle).unwrap();
    }
}

#[tokio::test]
async fn a_run_that_the_engine_grew_replays_whenever_the_driver_died() {
    let bytes = pangolin_builtin_plugins::pattern("map-reduce").unwrap();
    for alive in 0.. {
        let mut world = world(bytes).await;
        let mortal = Mortal {
            inner: world.store.clone(),
            left: AtomicI64::new(alive),
            last_is_applied: alive % 2 == 0,
        };
        let died = world.live(Arc::new(mortal)).await;
        if died {
            let store = world.store.clone();
            assert!(!world.live(store).await);
        }
        check(&world).await;
        if !died {
            assert!(alive > 5, "the run takes several commits");
            break;
        }
    }
}
