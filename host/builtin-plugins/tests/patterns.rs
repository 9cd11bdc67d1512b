//! The patterns that ship, as components in the real host and natively: they must decide the same, within the limits.

use std::{borrow::Cow, collections::BTreeMap, sync::Arc};

use pangolin_core::{
    pattern::{Decisions, ItemPhase, RunItem, RunView},
    plan::PlanItem,
};
use pangolin_pattern_map_reduce::MapReduce;
use pangolin_pattern_pipeline::Pipeline;
use pangolin_pattern_quorum::Quorum;
use pangolin_pattern_sdk::{
    Pattern, Phase,
    host::View,
    mock::{Call, MockRun, Outcome, Record, Serving},
};
use pangolin_pattern_static_dag::StaticDag;
use pangolin_plugin_host::{
    Bill, CacheKey, Compiler, Failure, HostOptions, PatternComponent, PluginHost, StepOutcome,
};
use serde_json::{Value, json};

fn component(id: &str) -> (tempfile::TempDir, PatternComponent) {
    let cache = tempfile::tempdir().expect("a directory");
    let options = HostOptions { compiler: Compiler::InProcess, ..HostOptions::default() };
    let host =
        PluginHost::with_options(cache.path(), CacheKey::from_bytes([3; 32]), options).expect("a host");
    let component = pangolin_builtin_plugins::pattern(id).expect("it ships");
    (cache, host.load_pattern(component).expect("it loads"))
}

/// What the mock shows, as the driver would show it.
fn run_view(run: &MockRun) -> Arc<RunView> {
    let shown = run.view();
    let mut view = RunView::default();
    view.run_id = shown.run_id();
    view.tick = shown.tick();
    view.now_ms = shown.now_ms();
    view.seed = shown.seed();
    view.params_json = shown.params_json();
    view.attrs = ["queue", "open-ended"]
        .iter()
        .filter_map(|key| Some(((*key).to_owned(), shown.attr(key)?)))
        .collect();
    for index in 0..shown.item_count() {
        let (item, brief) = (shown.item(index).expect("there"), shown.items(index, 1).remove(0));
        let spec: PlanItem = serde_json::from_str(&item.spec_json()).expect("an item");
        let known =
            ["failure-message", "failure-reason", "failure-class", "has-patch", "superseded-by", "tolerated"];
        view.push(RunItem {
            spec: Arc::new(spec),
            phase: match brief.phase {
                Phase::Waiting => ItemPhase::Waiting,
                Phase::Active => ItemPhase::Active,
                Phase::Succeeded => ItemPhase::Succeeded,
                Phase::Unsuccessful => ItemPhase::Unsuccessful,
            },
            state: Cow::Owned(item.state()),
            attempts: brief.attempts,
            depends_on: item.depends_on(),
            verify_passed: item.verify_passed(),
            output_keys: item.output_keys().into(),
            attrs: known
                .iter()
                .filter_map(|key| Some(((*key).to_owned(), item.attr(key)?)))
                .collect::<BTreeMap<_, _>>(),
        });
    }
    let mut offset = 0;
    loop {
        let page = shown.changed(offset, 1_024);
        if page.is_empty() {
            return Arc::new(view);
        }
        offset += u32::try_from(page.len()).expect("a page");
        view.changed.extend(page.iter().map(|brief| brief.index));
    }
}

fn same(native: &Record, answer: &Decisions) {
    let spawned: Vec<(Value, Option<String>)> =
        native.spawned.iter().map(|(item, old)| (Value::Object(item.clone()), old.clone())).collect();
    let theirs: Vec<(Value, Option<String>)> = answer
        .spawned
        .iter()
        .map(|spec| (Value::Object(spec.item.to_json()), spec.supersedes.as_ref().map(ToString::to_string)))
        .collect();
    assert_eq!(spawned, theirs);
    let explained: Vec<(String, String)> =
        answer.explanations.iter().map(|it| (it.item.clone(), it.why.clone())).collect();
    assert_eq!(native.explanations, explained);
    let tolerated: Vec<(Vec<String>, String)> = answer
        .tolerated
        .iter()
        .map(|it| (it.items.iter().map(ToString::to_string).collect(), it.why.clone()))
        .collect();
    assert_eq!(native.tolerated, tolerated);
    assert_eq!(native.close, answer.close);
    let ordered: Vec<(String, String)> =
        answer.ordered.iter().map(|it| (it.item.to_string(), it.after.to_string())).collect();
    assert_eq!(native.ordered, ordered);
    assert_eq!(native.held, answer.held.iter().map(ToString::to_string).collect::<Vec<_>>());
    let findings: Vec<(&str, &str, Option<&str>)> =
        answer.findings.iter().map(|it| (&*it.pointer, &*it.message, it.hint.as_deref())).collect();
    let ours: Vec<(&str, &str, Option<&str>)> =
        native.findings.iter().map(|it| (&*it.pointer, &*it.message, it.hint.as_deref())).collect();
    assert_eq!(ours, findings);
    let possible: Vec<(String, Vec<String>, String)> =
        answer.possible.iter().map(|it| (it.id.clone(), it.after.clone(), it.why.clone())).collect();
    assert_eq!(native.possible, possible);
}

fn compare(native: &Call, answer: Result<StepOutcome, pangolin_plugin_host::PluginError>) -> Option<Bill> {
    match (&native.result, answer) {
        (Ok(record), Ok(outcome)) => {
            same(record, &outcome.decisions);
            Some(outcome.bill)
        }
        (Err(fault), Err(error)) => {
            let Failure::Fault { code, message, .. } = error.failure else { panic!("{error}") };
            assert_eq!((&fault.code, &fault.message), (&code, &message));
            None
        }
        (native, answer) => panic!("natively {native:?}, as a component {answer:?}"),
    }
}

/// Plans and drives a run with both, which must agree after every end.
async fn drive<P: Pattern>(id: &str, items: Vec<Value>, script: impl Fn(&str) -> Outcome) -> MockRun {
    let (_cache, component) = component(id);
    let mut run = MockRun::of_items(items);
    let planned = component.plan(&run_view(&run)).await.map(|outcome| outcome.expect("it has a planner"));
    compare(&run.ask_plan::<P>(Serving::default()), planned);
    if !run.plan::<P>().findings.is_empty() {
        return run;
    }
    while let Some(item) = run.ready().first().map(|item| (*item).to_owned()) {
        run.end_item(&item, &script(&item));
        if !run.is_closed() {
            compare(&run.ask_step::<P>(Serving::default()), component.step(&run_view(&run)).await);
        }
        run.try_step::<P>().result.map_or_else(|fault| assert_eq!(fault.code, "rejected"), |_| ());
    }
    run
}

fn template() -> Value {
    json!({"executor": "dispatch", "inputs": {"subagent": "s", "workerInput": {"z": 1, "a": [1.5, null, {"y": "ä"}]}}})
}

#[tokio::test]
async fn static_dag_closes_at_once() {
    let run = drive::<StaticDag>("static-dag", vec![json!({"id": "a"})], |_| Outcome::done()).await;
    assert!(run.is_closed());
}

#[tokio::test]
async fn the_pipeline_decides_the_same_natively() {
    let gate = |id: &str, more: Value| {
        let mut gate =
            json!({"onRed": "spawn-fix", "subject": "work", "fixTemplate": template(), "maxFixAttempts": 2});
        gate.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        json!({"id": id, "inputs": {"gate": gate}})
    };
    let items = vec![
        json!({"id": "work", "priority": 3, "env": {"A": "b"}, "budgetUsd": 1.5, "maxAttempts": 2}),
        gate("lint", json!({})),
        gate("review", json!({})),
        json!({"id": "ship", "needs": {"in": {"from": "work", "select": {"kind": "output", "path": "a/b"}}},
               "depends_on": ["review"], "resourceLocks": ["x"], "image": "img", "model": "fast", "subagentShape": "s"}),
    ];
    let run = drive::<Pipeline>("pipeline", items, |id| match id {
        "lint" => Outcome::failed("2 of 9"),
        "review~2" => Outcome::red().outputs(["findings"]),
        _ => Outcome::green(),
    })
    .await;
    assert_eq!(run.ids().len(), 12);
    let copy = run.spec("ship~3");
    assert_eq!(copy["needs"]["in"]["from"], "review-fix-1");
    assert_eq!(
        (&copy["image"], &copy["model"], &copy["subagentShape"]),
        (&json!("img"), &json!("fast"), &json!("s"))
    );

    let wrong = vec![json!({"id": "a"}), gate("b", json!({"onRed": "x", "subjct": 1, "fixTemplate": {}}))];
    let run = drive::<Pipeline>("pipeline", wrong, |_| Outcome::done()).await;
    assert!(run.history().is_empty(), "a plan with findings is not taken");
}

#[tokio::test]
async fn map_reduce_decides_the_same_natively() {
    let split = json!({"id": "split", "inputs": {"mapReduce": {
        "map": template(), "reduce": template(), "onMapFailure": "skip"}}});
    let run = drive::<MapReduce>("map-reduce", vec![split], |id| match id {
        "split" => Outcome::done().outputs(["a", "b/c", "d..e", "ü"]),
        "map-a" => Outcome::failed("bad row"),
        _ => Outcome::done().outputs(["result"]),
    })
    .await;
    assert_eq!(run.spec("reduce")["inputs"]["missing"], json!(["a"]));
    assert!(run.is_tolerated("map-a"));
}

#[tokio::test]
async fn the_vote_decides_the_same_natively() {
    let change = json!({"id": "change", "inputs": {"quorum": {
        "reviewers": [template(), template(), template()], "threshold": 2, "commit": template(),
        "onReject": "spawn-fix", "fixTemplate": template(), "maxRounds": 2}}});
    let run = drive::<Quorum>("quorum", vec![change.clone()], |id| match id {
        "change::rev-0" => Outcome::red().outputs(["findings"]),
        "change::rev-1" => Outcome::done(),
        _ => Outcome::green(),
    })
    .await;
    assert!(run.ids().contains(&"change~2::commit"));
    let run = drive::<Quorum>("quorum", vec![change.clone()], |id| match id {
        "change::rev-0" => Outcome::failed("crashed"),
        _ => Outcome::green(),
    })
    .await;
    assert!(run.is_tolerated("change::rev-0"));
    let run = drive::<Quorum>("quorum", vec![change], |id| {
        if id.contains("::rev-") { Outcome::red() } else { Outcome::done() }
    })
    .await;
    assert!(run.ids().contains(&"change~3::rev-2") && !run.ids().iter().any(|id| id.ends_with("::commit")));
}

/// The largest steps there are must fit the limits of the host with room to spare.
#[tokio::test]
async fn ten_thousand_maps_fit_the_limits_of_the_host() {
    let split = json!({"id": "split", "inputs": {"mapReduce": {"map": template(), "reduce": template()}}});
    let keys: Vec<String> = (0..10_000).map(|number| format!("part-{number:05}.csv")).collect();
    let (_cache, component) = component("map-reduce");
    let mut run = MockRun::of_items([split]);
    run.plan::<MapReduce>();
    run.end_item("split", &Outcome::done().outputs(keys.iter().map(String::as_str)));
    let mut bills = Vec::new();
    let mut steps = 0;
    while steps < 20_000 {
        let record = run.ask_step::<MapReduce>(Serving::default()).result.expect("no fault");
        // Those that add something, and one in between.
        if !record.spawned.is_empty() || steps == 5_000 {
            let answer = component.step(&run_view(&run)).await;
            bills.extend(
                compare(&run.ask_step::<MapReduce>(Serving::default()), answer)
                    .map(|bill| (record.spawned.len(), bill)),
            );
        }
        run.step::<MapReduce>();
        steps += 1;
        let Some(item) = run.ready().first().map(|item| (*item).to_owned()) else { break };
        run.end_item(&item, &Outcome::done().outputs(["result"]));
    }
    assert_eq!(run.ids().len(), 10_002);
    let added: Vec<usize> = bills.iter().map(|bill| bill.0).collect();
    assert_eq!(added, [1_000, 8_008, 0, 992, 1], "batches of maps, a step between them, the reduce");
    for (added, bill) in &bills {
        assert!(bill.fuel < bill.fuel_limit * 3 / 4, "{added} added: {bill:?}");
        assert!(bill.peak_memory_bytes < bill.memory_limit_bytes / 2, "{added} added: {bill:?}");
    }
    // What nearly every step of such a run is.
    let usual = &bills.iter().find(|bill| bill.0 == 0).expect("one in between").1;
    assert!(usual.host_calls <= 40 && usual.fuel < 1_000_000, "{usual:?}");
}
