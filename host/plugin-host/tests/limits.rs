//! What a guest may not do, and how the failure is named.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

mod support;

use std::{sync::Arc, time::Duration};

use pangolin_core::pattern::{ItemPhase, RunItem, RunView};
use pangolin_plugin_host::{Failure, Limits, PatternComponent, PluginError, Room, StepOutcome};

fn view(params: &str, seed: u64) -> Arc<RunView> {
    let mut view = RunView::default();
    view.run_id = "run-1".into();
    view.params_json = params.into();
    view.seed = seed;
    Arc::new(view)
}

fn hostile(limits: Limits) -> PatternComponent {
    support::shared_host().load_pattern_with(&support::guest("pangolin-test-hostile"), limits).unwrap()
}

async fn step(what: &str, limits: Limits) -> Result<StepOutcome, PluginError> {
    hostile(limits).step(&view(what, 1)).await
}

async fn failure(what: &str, limits: Limits) -> Failure {
    step(what, limits).await.expect_err("must fail").failure
}

#[tokio::test]
async fn an_endless_loop_runs_out_of_fuel() {
    let limits = Limits { fuel_base: 1_000_000, ..Limits::pure() };
    let error = step("spin", limits).await.unwrap_err();
    assert_eq!(error.failure, Failure::CpuBudget { used: 1_000_000, budget: 1_000_000, items: 0 });
    assert_eq!(error.code(), "cpu-budget");
    let text = error.to_string();
    assert!(text.contains("plugin sha256:") && text.contains("1000000 units"), "{text}");
}

#[tokio::test]
async fn an_endless_loop_with_endless_fuel_meets_its_deadline() {
    let limits = Limits {
        fuel_base: u64::MAX,
        fuel_max: u64::MAX,
        wall: Duration::from_millis(120),
        ..Limits::pure()
    };
    let started = std::time::Instant::now();
    match failure("spin", limits).await {
        Failure::Deadline { ran_ms, limit_ms: 120 } => assert!(ran_ms >= 120, "{ran_ms}"),
        other => panic!("{other:?}"),
    }
    assert!(started.elapsed() >= Duration::from_millis(120));
}

#[tokio::test(flavor = "current_thread")]
async fn a_busy_guest_gives_the_thread_back() {
    let limits = Limits {
        fuel_base: u64::MAX,
        fuel_max: u64::MAX,
        // Long, so that the others come first on a busy machine too; nobody waits for it.
        wall: Duration::from_secs(30),
        ..Limits::pure()
    };
    let pattern = hostile(limits);
    let input = view("spin", 1);
    let others = async {
        let mut turns = 0;
        loop {
            tokio::task::yield_now().await;
            turns += 1;
            if turns >= 5 {
                return turns;
            }
        }
    };
    // On one thread: the other future only ends before the guest does when the guest yields.
    tokio::select! {
        biased;
        result = pattern.step(&input) => panic!("the guest kept the thread: {result:?}"),
        turns = others => assert_eq!(turns, 5),
    }
}

#[tokio::test]
async fn a_memory_bomb_is_told_from_a_panic() {
    let limits = Limits { memory_bytes: 16 << 20, ..Limits::pure() };
    match failure("memory", limits).await {
        Failure::MemoryLimit { what: Room::MemoryBytes, wanted, limit } => {
            assert_eq!(limit, 16 << 20);
            assert!(wanted > limit, "{wanted}");
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_panic_comes_with_its_words() {
    match failure("panic", Limits::pure()).await {
        Failure::GuestPanic { message } => {
            assert!(message.contains("words of the panic") && message.contains("lib.rs"), "{message}");
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn the_other_endings_have_their_names() {
    assert_eq!(failure("exit", Limits::pure()).await, Failure::GuestExit { status: 1 });
    assert_eq!(failure("recurse", Limits::pure()).await, Failure::Stack { limit_bytes: 512 << 10 });
    assert!(matches!(failure("abort", Limits::pure()).await, Failure::GuestAbort { .. }));
    let fault = failure("fault nothing helps", Limits::pure()).await;
    let Failure::Fault { code, message, retryable: false, detail: None } = fault else { panic!("{fault:?}") };
    assert_eq!((code.as_str(), message.as_str()), ("no-idea", "nothing helps"));
}

#[tokio::test]
async fn output_and_handles_are_capped() {
    let limits = Limits { output_pieces: 20, ..Limits::pure() };
    match failure("spawn 100", limits).await {
        Failure::OutputLimit { what, size: 21, cap: 20 } => assert!(what.contains("decisions"), "{what}"),
        other => panic!("{other:?}"),
    }
    let limits = Limits { output_bytes: 100, ..Limits::pure() };
    assert_eq!(failure("spawn 100", limits).await.code(), "output-limit");
    let error = failure("specs", Limits::pure()).await;
    assert_eq!(error.code(), "output-limit", "{error}");
    // A flood of log lines is dropped, not an error.
    step("log", Limits { fuel_base: 1 << 40, fuel_max: 1 << 40, ..Limits::pure() }).await.unwrap();
}

#[tokio::test]
async fn a_failed_call_does_not_poison_the_next() {
    let pattern = hostile(Limits::pure());
    assert!(pattern.step(&view("panic", 1)).await.is_err());
    let outcome = pattern.step(&view("spawn 2", 1)).await.unwrap();
    assert_eq!(outcome.decisions.spawned.len(), 2);
}

#[tokio::test]
async fn decisions_arrive_whole_and_bad_ones_are_refused() {
    let outcome = step("spawn 3", Limits::pure()).await.unwrap();
    let decisions = outcome.decisions;
    assert!(decisions.close);
    let why = &decisions.explanations[2];
    assert_eq!((why.item.as_str(), why.why.as_str()), ("item-2", "asked to"));
    let last = &decisions.spawned[2];
    assert_eq!(last.id.as_str(), "item-2");
    let select = serde_json::json!({ "kind": "output", "path": "a/b.txt" });
    let expected = serde_json::json!({
        "id": "item-2", "executor": "dispatch", "inputs": { "n": 2 }, "depends_on": ["first"],
        "resourceLocks": ["l"], "needs": { "from": { "from": "first", "select": select } },
    });
    assert_eq!(serde_json::Value::Object(last.item.to_json()), expected);
    assert!(outcome.bill.fuel > 0 && outcome.bill.peak_memory_bytes > 0);

    let refused = step("refusals", Limits::pure()).await.unwrap().decisions;
    assert!(refused.spawned.is_empty());
    let reasons: Vec<&str> = refused.explanations.iter().map(|entry| entry.why.as_str()).collect();
    assert!(reasons[0].contains("id"), "{reasons:?}");
    assert!(reasons[1].contains("executor is empty"), "{reasons:?}");
    assert!(reasons[2].contains("not JSON"), "{reasons:?}");
}

#[tokio::test]
async fn equal_seeds_give_equal_steps() {
    let pattern = hostile(Limits::pure());
    let order = async |seed| {
        let outcome = pattern.step(&view("order", seed)).await.unwrap();
        (outcome.decisions.explanations[0].why.clone(), outcome.bill.fuel)
    };
    assert_eq!(order(1).await, order(1).await);
    assert_ne!(order(1).await.0, order(2).await.0);
}

#[tokio::test]
async fn pages_of_any_size_show_the_same_run() {
    let mut run = RunView::default();
    run.changed = vec![3, 5];
    for index in 0..2_500 {
        let text = format!(
            r#"{{"id":"item-{index}","executor":"x","inputs":{{}},"depends_on":[],"resourceLocks":[]}}"#
        );
        let spec = Arc::new(serde_json::from_str(&text).unwrap());
        let item = RunItem::waiting(spec, vec![]);
        run.push(RunItem { phase: ItemPhase::Succeeded, state: "done".into(), attempts: 2, ..item });
    }
    let pattern = hostile(Limits::pure());
    for size in [1, 7, 1_024, 100_000] {
        let mut view = run.clone();
        view.params_json = format!("count {size}");
        let outcome = pattern.step(&Arc::new(view)).await.unwrap();
        assert_eq!(outcome.decisions.explanations[0].why, "2500 5000 2", "page of {size}");
    }
}

#[test]
fn imports_outside_the_contract_are_refused_with_the_list() {
    let error = support::shared_host().load_pattern(&support::guest("pangolin-test-outside")).err().unwrap();
    match &error.failure {
        Failure::Refused { capability, subject, .. } => {
            assert_eq!(capability, "import");
            assert!(subject.contains("wasi:clocks/wall-clock"), "{subject}");
            assert!(subject.contains("wasi:filesystem/types"), "{subject}");
            assert!(!subject.contains("wasi:cli"), "{subject}");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_component_of_another_world_is_a_mismatch() {
    let adapter = pangolin_builtin_plugins::adapter("command").unwrap();
    let error = support::shared_host().load_pattern(adapter).err().unwrap();
    assert_eq!(error.code(), "refused", "{error}");
    let empty = wat::parse_str("(component)").unwrap();
    let error = support::shared_host().load_pattern(&empty).err().unwrap();
    assert_eq!(error.code(), "contract-mismatch", "{error}");
    let module = wat::parse_str("(module)").unwrap();
    assert_eq!(support::shared_host().load_pattern(&module).err().unwrap().code(), "not-compiled");
    assert_eq!(support::shared_host().load_pattern(b"nonsense").err().unwrap().code(), "not-compiled");
}

#[tokio::test]
async fn the_static_pattern_decides_nothing() {
    let host = support::shared_host();
    let pattern = host.load_pattern(&support::good()).unwrap();
    assert!(!pattern.has_planner());
    assert_eq!(pattern.plan(&view("{}", 1)).await.unwrap(), None);
    let outcome = pattern.step(&view("{}", 1)).await.unwrap();
    assert_eq!(outcome.decisions, Default::default());
}
