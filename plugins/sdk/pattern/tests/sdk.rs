//! The SDK through its public boundary, and the conformance suite on patterns that break its rules.

use pangolin_pattern_sdk::{
    Config, Decisions, Fault, Finding, ItemBrief, ItemDetail, ItemSpec, Pattern, Phase, Run, SpawnTemplate,
    copy_id, fix_id, generation, id_problem,
    mock::{MockRun, Outcome, RunEnd, Serving, check},
};
use proptest::prelude::*;
use serde_json::{Value, json};

#[test]
fn generations_are_read_from_ids() {
    for (id, base, number) in [
        ("review", "review", 1),
        ("review~2", "review", 2),
        ("review~12", "review", 12),
        ("a~2~3", "a~2", 3),
        // None of ours: they stay whole.
        ("review~1", "review~1", 1),
        ("review~02", "review~02", 1),
        ("review~", "review~", 1),
        ("review~x", "review~x", 1),
        ("review~+2", "review~+2", 1),
        ("~2", "~2", 1),
        ("review~99999999999", "review~99999999999", 1),
    ] {
        assert_eq!(generation(id), (base, number), "{id}");
    }
    assert_eq!(
        (copy_id("a", 1), copy_id("a", 2), fix_id("a", 3)),
        ("a".into(), "a~2".into(), "a-fix-3".into())
    );
}

#[test]
fn ids_are_checked_as_the_host_does() {
    for id in ["a", "map-x.csv", "s::rev-1", "review~2", "A1@b+c_d"] {
        assert_eq!(id_problem(id), None, "{id}");
    }
    for id in ["", "-a", ".a", "a/b", "a..b", "ä", "a b", &"a".repeat(129)] {
        assert!(id_problem(id).is_some(), "{id}");
    }
}

proptest! {
    #[test]
    fn generations_round_trip(base in "[a-z]{1,5}(~[0-9a-z]{0,3})?", number in 2..1_000_u32) {
        let id = copy_id(&base, number);
        prop_assert_eq!(generation(&id), (base.as_str(), number));
    }

    #[test]
    fn any_configuration_is_read_without_a_panic(text in "\\PC{0,40}|[\\[\\]{}\":,a-z0-9]{0,60}") {
        let mut findings = Vec::new();
        Config::read(&text, "/x".into(), &mut findings, |config| {
            config.template("map", |_| ());
            config.templates("list");
            config.choice("word", &[("a", 1), ("b", 2)]);
            config.integer("number", 1..=3);
        });
        prop_assert!(!findings.is_empty(), "nothing of it is there");
    }
}

fn template(value: Value) -> Result<SpawnTemplate, Vec<Finding>> {
    let mut findings = Vec::new();
    let text = json!({ "it": value }).to_string();
    let read = Config::read(&text, "/x".into(), &mut findings, |config| config.template("it", |_| ()));
    read.map(|read| read.0).ok_or(findings)
}

#[test]
fn templates_make_items() {
    let template = template(json!({
        "executor": "dispatch", "inputs": {"subagent": "s", "workerInput": {"b": 1}}, "resourceLocks": ["l"],
        "subagentShape": "shape", "maxAttempts": 2, "env": {"K": "v"}, "budgetUsd": 0.5, "priority": -3,
    }))
    .expect("a template");
    let item = ItemSpec::from_template("new", &template)
        .depend_on("a")
        .depend_on("a")
        .need_patch("work", "b")
        .need_output("data", "c", "x/y")
        .tell("why", "because")
        .supersede("old");
    assert_eq!(item.superseded(), Some("old"));
    assert_eq!(
        Value::Object(item.to_plan_item()),
        json!({
            "id": "new", "executor": "dispatch",
            "inputs": {"subagent": "s", "why": "because", "workerInput": {"b": 1, "why": "because"}},
            "depends_on": ["a"], "resourceLocks": ["l"], "subagentShape": "shape", "maxAttempts": 2,
            "env": {"K": "v"}, "budgetUsd": 0.5, "priority": -3,
            "needs": {
                "work": {"from": "b", "select": {"kind": "patch"}},
                "data": {"from": "c", "select": {"kind": "output", "path": "x/y"}},
            },
        })
    );
}

#[test]
fn what_worker_input_says_already_is_kept() {
    let inputs = |input: Value| {
        let read = template(json!({"executor": "x", "inputs": {"workerInput": input}})).expect("a template");
        ItemSpec::from_template("a", &read).tell("why", "because").to_plan_item()["inputs"].clone()
    };
    assert_eq!(inputs(json!({"why": "mine"})), json!({"workerInput": {"why": "mine"}, "why": "because"}));
    assert_eq!(inputs(json!("text")), json!({"workerInput": "text", "why": "because"}));
}

struct Copies;

impl Pattern for Copies {
    fn step(run: &Run<'_>, out: &Decisions<'_>) -> Result<(), Fault> {
        let item = run.get("b").ok_or_else(|| pangolin_pattern_sdk::fault("gone", "b"))?;
        if run.find("b~2").is_none() && item.phase() == Phase::Succeeded {
            let copy = ItemSpec::copy_of(&item, "b~2", |edge| {
                (edge != "dropped").then(|| edge.replace("old", "new"))
            })?;
            out.spawn(&copy)?;
        }
        Ok(())
    }
}

#[test]
fn copies_hold_every_member_and_move_every_edge() {
    let need = |from: &str| json!({"from": from, "select": {"kind": "output", "path": "p"}});
    let whole = json!({
        "id": "b", "executor": "special", "inputs": {"deep": {"z": 1, "a": [null, 1.5]}},
        "depends_on": ["old", "dropped", "kept"], "resourceLocks": ["l", "m"],
        "needs": {"one": need("old"), "two": need("dropped")},
        "image": "img", "env": {"K": "v"}, "timeoutSeconds": 9,
    });
    let others = ["old", "new", "dropped", "kept"].map(|id| json!({"id": id}));
    let mut run = MockRun::of_items(others.into_iter().chain([whole.clone()]));
    run.drive::<Copies>(|_| Outcome::done());
    let mut expected = whole;
    expected["id"] = json!("b~2");
    expected["depends_on"] = json!(["new", "kept"]);
    expected["needs"] = json!({"one": need("new")});
    assert_eq!(run.spec("b~2"), expected);
}

#[test]
fn the_mock_skips_and_judges_like_the_engine() {
    let items = || {
        [
            json!({"id": "a", "holdOnRed": true}),
            json!({"id": "b", "depends_on": ["a"]}),
            json!({"id": "c", "depends_on": ["b"]}),
        ]
    };
    let mut run = MockRun::of_items(items());
    run.end_item("a", &Outcome::red());
    assert_eq!((run.state("b"), run.state("c"), run.end()), ("skipped", "skipped", RunEnd::Failed));
    let mut run = MockRun::of_items(items());
    run.end_item("a", &Outcome::green());
    assert_eq!((run.state("b"), run.state("c")), ("ready", "pending"));
    run.end_item("b", &Outcome::cancelled());
    assert_eq!((run.state("c"), run.end()), ("skipped", RunEnd::Failed));
}

/// A pattern with a flaw, chosen by the number.
struct Flawed<const FLAW: u8>;

impl<const FLAW: u8> Pattern for Flawed<FLAW> {
    fn step(run: &Run<'_>, out: &Decisions<'_>) -> Result<(), Fault> {
        let spec = |id: &str| ItemSpec::new(id, "dispatch");
        let first = run.changed().next().map(|brief| brief.id).unwrap_or_default();
        match FLAW {
            0 => out.explain(&first, &run.seed().to_string()),
            1 => out.explain("pages", &run.items().take(1).count().to_string()),
            2 => {
                // Adds without looking.
                out.spawn(&spec("again"))?;
            }
            3 => {
                if out.spawn(&spec(&format!("x{}", run.len()))).is_err() {
                    panic!("refused");
                }
                out.close();
            }
            4 => {
                out.spawn(&spec(&format!("x{}", run.len())))?;
            }
            5 => {
                out.spawn(&spec("fresh").depend_on("nobody"))?;
            }
            6 => {
                for brief in run.ended() {
                    let item = run.expect(brief.index)?;
                    assert_ne!(item.state(), "of-a-later-version");
                }
            }
            7 => {
                for one in run.items() {
                    for other in run.items().take(100) {
                        assert!(one.id != other.id || run.find(&one.id).is_some());
                        let _ = run.find(&other.id);
                    }
                }
            }
            8 if run.find("x").is_none() => {
                out.spawn(&spec("x").depend_on("y"))?;
                out.spawn(&spec("y").depend_on("x"))?;
            }
            9 if run.find("x").is_none() => {
                out.spawn(&spec("x").supersede(&first))?;
            }
            _ => {}
        }
        Ok(())
    }
}

macro_rules! is_found {
    ($($name:ident: $flaw:literal, $message:literal;)*) => {
        $(
            #[test]
            #[should_panic(expected = $message)]
            fn $name() {
                check::<Flawed<$flaw>>(&[]);
            }
        )*
    };
}

is_found! {
    decisions_that_depend_on_the_seed_are_found: 0, "another seed changes the decisions";
    items_added_without_looking_are_found: 2, "idempotence: again is added although the run has it";
    a_panic_on_a_refusal_is_found: 3, "refused";
    growth_without_end_is_found: 4, "did not come to an end";
    unknown_dependencies_are_found: 5, "which is not there";
    a_panic_on_an_unknown_state_is_found: 6, "of-a-later-version";
    steps_that_cost_too_much_are_found: 7, "a step over 10,000 items takes";
    cycles_are_found: 8, "dependency cycle";
    wrong_successors_are_found: 9, "x supersedes";
}

/// Reads one page and takes it for all.
struct OnePage;

impl Pattern for OnePage {
    fn step(run: &Run<'_>, out: &Decisions<'_>) -> Result<(), Fault> {
        let _ = (run, out);
        Ok(())
    }

    fn plan(run: &Run<'_>, out: &Decisions<'_>) -> Result<(), Fault> {
        out.explain("items", &run.items().count().to_string());
        Ok(())
    }
}

#[test]
fn iterators_read_every_page() {
    let run = MockRun::of_items((0..2_500).map(|number| json!({"id": format!("i{number}")})));
    for page in [0, 1, 7, 1_024] {
        let call = run.ask_plan::<OnePage>(Serving { page, ..Serving::default() });
        assert_eq!(call.result.expect("no fault").explanations, [("items".to_owned(), "2500".to_owned())]);
    }
    check::<OnePage>(&[]);
}

struct FromEnd;

impl Pattern for FromEnd {
    fn step(run: &Run<'_>, out: &Decisions<'_>) -> Result<(), Fault> {
        let back: Vec<u32> = run.items_from_end().map(|brief| brief.index).collect();
        assert_eq!(back, (0..run.len()).rev().collect::<Vec<_>>());
        out.explain("first", &run.items_from_end().next().map(|brief| brief.id).unwrap_or_default());
        Ok(())
    }
}

#[test]
fn the_end_is_near() {
    let mut run = MockRun::of_items((0..2_500).map(|number| json!({"id": format!("i{number}")})));
    run.end_item("i3", &Outcome::done());
    for page in [0, 1, 7, 1_024] {
        let call = run.ask_step::<FromEnd>(Serving { page, ..Serving::default() });
        assert_eq!(call.result.expect("no fault").explanations[0].1, "i2499");
    }
}

fn brief(detail: &ItemDetail<'_>) -> ItemBrief {
    let (id, phase) = (detail.id().to_owned(), detail.phase());
    ItemBrief { index: detail.index(), id, phase, attempts: detail.attempts() }
}

/// Says what the bulk calls and the handles of single items tell differently.
struct Bulk;

impl Pattern for Bulk {
    fn step(run: &Run<'_>, out: &Decisions<'_>) -> Result<(), Fault> {
        let briefs: Vec<_> = run.items().collect();
        for first in 0..=run.len() {
            let phases: Vec<Phase> = briefs[first as usize..].iter().map(|brief| brief.phase).collect();
            let details = run.details_from(first);
            let listed: Vec<_> = details.iter().map(|detail| brief(&detail)).collect();
            if run.phases_from(first) != phases || listed != briefs[first as usize..] {
                out.explain("from", &first.to_string());
            }
            if details.at(first).map(|detail| brief(&detail)).as_ref() != briefs.get(first as usize)
                || first.checked_sub(1).is_some_and(|before| details.at(before).is_some())
            {
                out.explain("at", &first.to_string());
            }
            let (executors, inputs) = (run.executors_from(first), run.inputs_json_from("note", first));
            let patches = run.item_attrs_from("has-patch", first);
            for (place, detail) in details.iter().enumerate() {
                let item = run.expect(detail.index())?;
                let is_same = detail.state() == item.state()
                    && detail.phase() == item.phase()
                    && detail.depends_on() == item.depends_on()
                    && detail.verify_passed() == item.verify_passed()
                    && detail.output_keys().eq(item.output_keys().iter())
                    && detail.outputs() == item.output_keys().len()
                    && detail.failure_reason() == item.attr("failure-reason").as_deref()
                    && detail.failure_message() == item.attr("failure-message").as_deref()
                    && detail.has_output("x") == item.has_output("x")
                    && detail.ending() == item.ending()
                    && executors.get(place) == Some(item.executor().as_str())
                    && inputs.first(place) == item.input_json("note").as_deref()
                    && patches.first(place) == item.attr("has-patch").as_deref();
                if !is_same {
                    out.explain(detail.id(), "differs");
                }
            }
        }
        let mut ids: Vec<&str> = briefs.iter().rev().map(|brief| brief.id.as_str()).collect();
        ids.insert(1, "nobody");
        let one_by_one: Vec<Option<u32>> = ids.iter().map(|id| run.find(id)).collect();
        if run.find_all(&ids.into_iter().collect()) != one_by_one {
            out.explain("find-all", "differs");
        }
        out.explain("seen", &format!("{} items", briefs.len()));
        Ok(())
    }
}

#[test]
fn bulk_calls_tell_what_single_ones_do() {
    let mut run = MockRun::of_items(["a", "b", "c", "d", "e"].map(|id| match id {
        "b" => json!({ "id": id, "executor": "other", "inputs": { "note": "für b" } }),
        "e" => json!({ "id": id, "depends_on": ["a", "c"], "inputs": { "note": null } }),
        _ => json!({ "id": id }),
    }));
    run.end_item("a", &Outcome::green().outputs(["x", "y"]));
    run.end_item("b", &Outcome::red());
    run.end_item("c", &Outcome::failed("no room"));
    run.end_item("d", &Outcome::cancelled());
    for page in [0, 1, 2, 7] {
        for strange in [false, true] {
            let call = run.ask_step::<Bulk>(Serving { page, strange, ..Serving::default() });
            assert_eq!(
                call.result.unwrap().explanations,
                [("seen".into(), "5 items".into())],
                "pages of {page}"
            );
        }
    }
}

#[test]
fn needs_of_many_outputs_are_needs_one_by_one() {
    let pairs = [("b", "two"), ("a", "one"), ("c", "three"), ("a", "other")];
    let spec = || ItemSpec::new("sum", "dispatch").need_patch("b", "before").need_output("z", "late", "file");
    let single = pairs.iter().fold(spec(), |spec, (key, source)| spec.need_output(key, source, "result"));
    let (keys, sources) = pairs.into_iter().unzip();
    let many = spec().need_outputs("result", keys, sources);
    assert_eq!(many, single);
    assert_eq!(
        many.to_plan_item()["needs"]["b"],
        json!({ "from": "two", "select": { "kind": "output", "path": "result" } })
    );
    assert_eq!(
        ItemSpec::new("i", "dispatch").need_patch("p", "s").to_plan_item()["needs"]["p"]["select"],
        json!({ "kind": "patch" })
    );
}
