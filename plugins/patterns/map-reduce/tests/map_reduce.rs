//! The rules of map-reduce, one by one, natively.

use pangolin_pattern_map_reduce::MapReduce;
use pangolin_pattern_sdk::{
    conformance,
    mock::{MockRun, Outcome, RunEnd},
};
use proptest::prelude::*;
use serde_json::{Value, json};

fn config(more: Value) -> Value {
    let mut config = json!({
        "map": {"executor": "dispatch", "inputs": {"subagent": "mapper", "pipeline": "p"}},
        "reduce": {"executor": "dispatch", "inputs": {"subagent": "reducer", "workerInput": {"title": "all"}}},
    });
    for (key, value) in more.as_object().expect("members") {
        config[key] = value.clone();
    }
    config
}

fn plan(more: Value) -> Vec<Value> {
    vec![
        json!({"id": "seed"}),
        json!({"id": "split", "depends_on": ["seed"], "inputs": {"mapReduce": config(more)}}),
    ]
}

fn run(more: Value, script: impl Fn(&str) -> Outcome) -> MockRun {
    let mut run = MockRun::of_items(plan(more));
    run.drive::<MapReduce>(script);
    run
}

/// Three outputs; every map leaves a result, except the ones in `failing`.
fn course(failing: &'static [&'static str]) -> impl Fn(&str) -> Outcome {
    move |id| match id {
        "split" => Outcome::done().outputs(["b.csv", "a.csv", "sub/c.csv"]),
        _ if failing.contains(&id) => Outcome::failed("bad row"),
        _ => Outcome::done().outputs(["result"]),
    }
}

#[test]
fn one_map_per_output_then_one_reduce() {
    let run = run(json!({}), course(&[]));
    assert_eq!(run.ids(), ["seed", "split", "map-a.csv", "map-b.csv", "map-sub~2Fc.csv", "reduce"]);
    let map = run.spec("map-sub~2Fc.csv");
    assert_eq!(
        map["needs"],
        json!({"input": {"from": "split", "select": {"kind": "output", "path": "sub/c.csv"}}})
    );
    assert_eq!(map["inputs"], json!({"subagent": "mapper", "pipeline": "p"}));
    let reduce = run.spec("reduce");
    let part = |id: &str| json!({"from": id, "select": {"kind": "output", "path": "result"}});
    assert_eq!(
        reduce["needs"],
        json!({"part-a.csv": part("map-a.csv"), "part-b.csv": part("map-b.csv"), "part-sub/c.csv": part("map-sub~2Fc.csv")})
    );
    assert_eq!(reduce["inputs"], json!({"subagent": "reducer", "workerInput": {"title": "all"}}));
    assert_eq!(run.end(), RunEnd::Done);
    assert!(run.is_closed());
    assert_eq!(run.explained("map-a.csv"), "split has 3 outputs; 3 maps are added, one per output");
    assert_eq!(run.explained("reduce"), "all 3 maps are done");
}

#[test]
fn names_of_parts_are_the_plans_choice() {
    let mut more = config(json!({}));
    more["map"]["needsKey"] = json!("data/in.csv");
    more["map"]["outputPath"] = json!("out/rows.json");
    more["map"]["maxAttempts"] = json!(4);
    more["reduce"]["keyPrefix"] = json!("rows");
    let run = run(more, |id| match id {
        "split" => Outcome::done().outputs(["a"]),
        _ => Outcome::done().outputs(["out/rows.json"]),
    });
    assert_eq!(run.spec("map-a")["needs"]["data/in.csv"]["select"]["path"], "a");
    assert_eq!(run.spec("map-a")["maxAttempts"], 4);
    assert_eq!(run.spec("reduce")["needs"]["rows-a"]["select"]["path"], "out/rows.json");
}

#[test]
fn a_failed_map_is_visible_under_every_policy() {
    let failing: &[&str] = &["map-a.csv"];
    let fail = run(json!({}), course(failing));
    assert_eq!(fail.ids().len(), 5);
    assert_eq!(fail.end(), RunEnd::Failed);
    assert!(!fail.is_tolerated("map-a.csv"));
    assert!(fail.is_closed());
    assert_eq!(
        fail.explained("reduce"),
        "not added, as onMapFailure is \"fail\": 1 of 3 maps did not work: map-a.csv failed (bad row)"
    );

    for policy in ["skip", "reduce"] {
        let run = run(json!({"onMapFailure": policy}), course(failing));
        let reduce = run.spec("reduce");
        let keys: Vec<&String> = reduce["needs"].as_object().expect("needs").keys().collect();
        assert_eq!(keys, ["part-b.csv", "part-sub/c.csv"]);
        assert_eq!(reduce["inputs"]["missing"], json!(["a.csv"]));
        assert_eq!(reduce["inputs"]["workerInput"], json!({"title": "all", "missing": ["a.csv"]}));
        // The run is judged without the map, which stays visible with the reason.
        assert_eq!((run.state("reduce"), run.end()), ("done", RunEnd::Done));
        assert_eq!(run.state("map-a.csv"), "failed");
        assert!(run.is_tolerated("map-a.csv") && !run.is_tolerated("map-b.csv"));
        let tolerated: Vec<_> = run.history().iter().flat_map(|record| &record.tolerated).collect();
        let why = format!("onMapFailure is {policy:?}");
        assert_eq!(tolerated, [&(vec!["map-a.csv".to_owned()], why)]);
        assert!(run.explained("reduce").starts_with("added over 2 maps"), "{}", run.explained("reduce"));
    }
}

#[test]
fn without_any_map_that_worked_only_reduce_reduces() {
    let failing: &[&str] = &["map-a.csv", "map-b.csv", "map-sub~2Fc.csv"];
    let skip = run(json!({"onMapFailure": "skip"}), course(failing));
    assert!(!skip.ids().contains(&"reduce"));
    assert!(
        skip.explained("reduce")
            .starts_with("not added, as onMapFailure is \"skip\": 3 of 3 maps did not work")
    );

    let reduce = run(json!({"onMapFailure": "reduce"}), course(failing));
    assert_eq!(reduce.spec("reduce").get("needs"), None);
    assert_eq!(reduce.spec("reduce")["inputs"]["missing"], json!(["a.csv", "b.csv", "sub/c.csv"]));
    assert_eq!(reduce.depends_on("reduce"), ["split"]);
    assert_eq!((skip.end(), reduce.end()), (RunEnd::Failed, RunEnd::Done));
}

#[test]
fn thousands_of_failed_maps_are_tolerated_in_one_step() {
    let keys = keys(9_999);
    let mut run = MockRun::of_items(plan(config(json!({"onMapFailure": "skip"}))));
    run.plan::<MapReduce>();
    for (id, outcome) in
        [("seed", Outcome::done()), ("split", Outcome::done().outputs(keys.iter().map(|it| &**it)))]
    {
        run.end_item(id, &outcome);
        run.step::<MapReduce>();
    }
    loop {
        let ready: Vec<String> = run.ready().into_iter().map(str::to_owned).collect();
        if ready.is_empty() {
            break;
        }
        for id in ready {
            let works = id == "map-part-00007.csv" || id == "reduce";
            let outcome = if works { Outcome::done().outputs(["result"]) } else { Outcome::failed("bad") };
            run.end_item(&id, &outcome);
        }
        let (pieces, bytes) = run.step::<MapReduce>().size();
        assert!(pieces <= 10_000 && bytes <= 4 << 20, "{pieces} pieces, {bytes} bytes");
    }
    assert_eq!((run.state("reduce"), run.end()), ("done", RunEnd::Done));
    let tolerated = run.history().iter().flat_map(|record| &record.tolerated);
    assert_eq!(tolerated.map(|(items, _)| items.len()).sum::<usize>(), 9_998);
}

#[test]
fn a_map_without_its_output_did_not_work() {
    let script = |id: &str| match id {
        "split" => Outcome::done().outputs(["a", "b"]),
        "map-a" => Outcome::done().outputs(["other"]),
        _ => Outcome::done().outputs(["result"]),
    };
    let skip = run(json!({"onMapFailure": "skip"}), script);
    assert_eq!(skip.spec("reduce")["inputs"]["missing"], json!(["a"]));
    assert!(skip.explained("reduce").contains("map-a is done without output \"result\""));
    // With `fail` it is named as a need, and the host fails the reduce when it is not there.
    let fail = run(json!({}), script);
    assert_eq!(fail.depends_on("reduce"), ["map-a", "map-b"]);
}

#[test]
fn no_outputs() {
    let script = |_: &str| Outcome::done();
    let finish = run(json!({}), script);
    assert_eq!(finish.ids(), ["seed", "split"]);
    assert_eq!(finish.explained("reduce"), "not added: split has no outputs, and onEmpty is \"finish\"");
    assert_eq!(finish.end(), RunEnd::Done);
    assert!(finish.is_closed());
    let reduce = run(json!({"onEmpty": "reduce"}), script);
    assert_eq!(reduce.ids(), ["seed", "split", "reduce"]);
    assert_eq!(reduce.depends_on("reduce"), ["split"]);
}

#[test]
fn a_splitter_that_did_not_work_ends_it() {
    let run = run(json!({}), |id| if id == "split" { Outcome::failed("no data") } else { Outcome::done() });
    assert_eq!(run.ids(), ["seed", "split"]);
    assert!(run.is_closed());
    assert_eq!(run.explained("reduce"), "no maps and no reduce are added: split is failed (no data)");
}

#[test]
fn a_cancelled_map_stops_whatever_the_policy() {
    for policy in ["fail", "skip", "reduce"] {
        let run = run(json!({"onMapFailure": policy}), |id| match id {
            "split" => Outcome::done().outputs(["a", "b"]),
            "map-a" => Outcome::cancelled(),
            _ => Outcome::done().outputs(["result"]),
        });
        assert!(!run.ids().contains(&"reduce"));
        assert_eq!(run.explained("reduce"), "not added: map-a was cancelled");
        assert_eq!(run.end(), RunEnd::Cancelled);
    }
}

#[test]
fn every_finding_comes_at_once() {
    let mut bad = config(json!({"onMapFailure": "skp", "onEmty": "reduce"}));
    bad["map"]["executor"] = json!("");
    bad["map"]["needsKey"] = json!("../up");
    bad["reduce"] = json!({"inputs": {}});
    let items = vec![
        json!({"id": "one", "inputs": {"mapReduce": config(json!({}))}}),
        json!({"id": "two", "inputs": {"mapReduce": bad}}),
        json!({"id": "map-x"}),
        json!({"id": "reduce"}),
    ];
    let found = MockRun::of_items(items).plan::<MapReduce>().findings;
    let text: Vec<String> = found.iter().map(ToString::to_string).collect();
    let has = |part: &str| assert!(text.iter().any(|it| it.contains(part)), "{part} is not in {text:#?}");
    has("/items/1/inputs/mapReduce/map/executor: must be a string that is not empty");
    has("/items/1/inputs/mapReduce/map/needsKey: \"../up\" is not a relative path");
    has("/items/1/inputs/mapReduce/reduce: member \"executor\" is missing");
    has(
        "/items/1/inputs/mapReduce/onMapFailure: must be \"fail\" or \"skip\" or \"reduce\"; did you mean \"skip\"?",
    );
    has("/items/1/inputs/mapReduce/onEmty: member \"onEmty\" is not known; did you mean \"onEmpty\"?");
    has("/items/1/inputs/mapReduce: a run has at most one splitter, and one is one already");
    has("/items/2/id: \"map-x\" is an id of what this pattern adds");
    has("/items/3/id: \"reduce\" is an id of what this pattern adds");
    assert_eq!(found.len(), 8, "{text:#?}");
}

#[test]
fn without_a_splitter_those_ids_are_free_and_nothing_is_left_to_decide() {
    let record = MockRun::of_items([json!({"id": "reduce"}), json!({"id": "map-1"})]).plan::<MapReduce>();
    assert_eq!(record.findings, []);
    assert!(record.close);
}

#[test]
fn a_producer_may_bring_the_splitter_later() {
    let mut run = MockRun::of_plan(&json!({"openEnded": true, "items": [{"id": "a"}]}));
    assert!(!run.plan::<MapReduce>().close);
    run.extend(plan(json!({})).into_iter().skip(1).map(|mut item| {
        item["depends_on"] = json!(["a"]);
        item
    }));
    run.extend([json!({"id": "late", "depends_on": ["split"], "inputs": {"mapReduce": config(json!({}))}})]);
    run.drive::<MapReduce>(course(&[]));
    assert!(run.ids().contains(&"reduce"));
    let mut run = MockRun::of_plan(&json!({"openEnded": true, "items": [{"id": "a"}]}));
    run.plan::<MapReduce>();
    run.extend([json!({"id": "odd", "inputs": {"mapReduce": {"map": 1}}})]);
    run.end_item("odd", &Outcome::done());
    let fault = run.try_step::<MapReduce>().result.expect_err("it cannot be read");
    assert_eq!(fault.code, "bad-config");
    assert!(fault.message.contains("/items/1/inputs/mapReduce/map: must be an object"), "{}", fault.message);
}

fn keys(count: usize) -> Vec<String> {
    (0..count).map(|number| format!("part-{number:05}.csv")).collect()
}

#[test]
fn ten_thousand_maps_fit_the_limits_and_steps_cost_what_changed() {
    let keys = keys(10_000);
    let mut run = MockRun::of_items(plan(json!({})));
    run.plan::<MapReduce>();
    run.end_item("seed", &Outcome::done());
    run.step::<MapReduce>();
    run.end_item("split", &Outcome::done().outputs(keys.iter().map(String::as_str)));
    let record = run.step::<MapReduce>();
    let (pieces, bytes) = record.size();
    assert!(pieces <= 10_000 && bytes <= 4 << 20, "{pieces} pieces, {bytes} bytes");

    let (mut calls, mut steps, mut most) = (0, 0, 0);
    let result = Outcome::done().outputs(["result"]);
    // Eight at a time, as a queue would have it; the oldest of eight ends last.
    loop {
        let ready: Vec<String> = run.ready().into_iter().take(8).map(str::to_owned).collect();
        if ready.is_empty() {
            break;
        }
        for id in ready.iter().rev() {
            run.end_item(id, &result);
            let call = run.try_step::<MapReduce>();
            let spawned = call.result.expect("it must not fault").spawned.len();
            if spawned == 0 {
                most = most.max(call.host_calls);
                calls += call.host_calls;
                steps += 1;
            }
        }
    }
    assert_eq!(run.ids().len(), 10_003);
    assert_eq!(run.end(), RunEnd::Done);
    assert!(calls / steps <= 30, "{} calls per step", calls / steps);
    assert!(most <= 100, "{most} calls in one step");
}

#[test]
fn large_templates_are_added_in_several_steps() {
    let mut more = config(json!({}));
    more["map"]["inputs"]["workerInput"] = json!({"text": "x".repeat(2_000)});
    let keys = keys(4_000);
    let mut run = MockRun::of_items(plan(more));
    run.drive::<MapReduce>(|id| match id {
        "split" => Outcome::done().outputs(keys.iter().map(String::as_str)),
        _ => Outcome::done().outputs(["result"]),
    });
    assert_eq!(run.ids().len(), 4_003);
    let batches: Vec<usize> =
        run.history().iter().filter(|it| it.spawned.len() > 1).map(|it| it.spawned.len()).collect();
    assert!(batches.len() >= 2, "{batches:?}");
    assert!(run.history().iter().all(|it| it.size().1 <= 4 << 20));
    assert!(run.explained("map-part-00000.csv").contains("the others follow ("));
    assert_eq!(run.spec("reduce")["needs"].as_object().expect("needs").len(), 4_000);
}

#[test]
fn after_a_failure_no_further_maps_are_added_for_nothing() {
    let mut more = config(json!({}));
    more["map"]["inputs"]["workerInput"] = json!({"text": "x".repeat(60_000)});
    let keys = keys(100);
    let script = |id: &str| match id {
        "split" => Outcome::done().outputs(keys.iter().map(String::as_str)),
        "map-part-00000.csv" => Outcome::failed("bad row"),
        _ => Outcome::done().outputs(["result"]),
    };
    let mut run = MockRun::of_items(plan(more.clone()));
    run.drive::<MapReduce>(script);
    let added = run.ids().len() - 2;
    assert!(added < 100, "{added}");
    assert_eq!(
        run.explained("reduce"),
        format!(
            "{} more maps and the reduce are not added: map-part-00000.csv is failed (bad row)",
            100 - added
        )
    );
    more["onMapFailure"] = json!("skip");
    let mut run = MockRun::of_items(plan(more));
    run.drive::<MapReduce>(script);
    assert_eq!(run.ids().len(), 103);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn random_runs_end_and_keep_the_rules(
        keys in prop::collection::btree_set("[a-c/.~]{1,6}", 0..12),
        dice in prop::collection::vec(any::<(u8, u8)>(), 0..30),
        policy in prop::sample::select(vec!["fail", "skip", "reduce"]),
        on_empty in prop::sample::select(vec!["finish", "reduce"]),
    ) {
        let mut run = MockRun::of_items(plan(json!({"onMapFailure": policy, "onEmpty": on_empty})));
        run.plan::<MapReduce>();
        for (which, how) in dice.iter().chain(std::iter::repeat(&(0, 0))) {
            let ready: Vec<String> = run.ready().into_iter().map(str::to_owned).collect();
            if ready.is_empty() {
                break;
            }
            let id = ready[usize::from(*which) % ready.len()].clone();
            let outcome = match (&*id, how) {
                ("seed", _) => Outcome::done(),
                ("split", _) => Outcome::done().outputs(keys.iter().map(String::as_str)),
                (_, 0..180) => Outcome::done().outputs(["result"]),
                (_, 180..220) => Outcome::failed("by chance"),
                (_, 220..230) => Outcome::done(),
                (_, 230..240) => Outcome::cancelled(),
                _ => Outcome::red().outputs(["result"]),
            };
            run.end_item(&id, &outcome);
            run.step::<MapReduce>();
        }
        let maps: Vec<&str> = run.ids().into_iter().filter(|id| id.starts_with("map-")).collect();
        prop_assert_eq!(maps.len(), keys.len());
        prop_assert!(run.is_closed());
        let bad = maps.iter().filter(|id| run.state(id) == "failed").count();
        let cancelled = maps.iter().any(|id| run.state(id) == "cancelled");
        let has_reduce = run.ids().contains(&"reduce");
        if cancelled || (policy == "fail" && bad > 0) || (keys.is_empty() && on_empty == "finish") {
            prop_assert!(!has_reduce);
        } else if bad == 0 && policy == "fail" {
            prop_assert!(has_reduce);
        }
        // It is never silent: whoever looks for the reduce finds it or the reason.
        prop_assert!(has_reduce || run.explained("reduce").starts_with("not added"));
    }
}

conformance!(
    MapReduce,
    [
        json!({"items": plan(json!({}))}),
        json!({"items": plan(json!({"onMapFailure": "skip", "onEmpty": "reduce"}))}),
        json!({"items": plan(json!({"onMapFailure": "reduce"}))}),
    ]
);
