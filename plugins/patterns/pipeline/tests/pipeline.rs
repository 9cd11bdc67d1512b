//! The pipeline's rules, one by one, natively.

use pangolin_pattern_pipeline::Pipeline;
use pangolin_pattern_sdk::{
    Finding, conformance,
    mock::{MockRun, Outcome, RunEnd},
};
use serde_json::{Value, json};

fn fix_template() -> Value {
    json!({"executor": "dispatch", "inputs": {"subagent": "fixer", "workerInput": {"hint": "small"}}})
}

fn gate(id: &str, subject: &str, more: Value) -> Value {
    let mut gate = json!({"onRed": "spawn-fix", "subject": subject, "fixTemplate": fix_template()});
    for (key, value) in more.as_object().expect("members") {
        gate[key] = value.clone();
    }
    json!({"id": id, "inputs": {"gate": gate, "subagent": "reviewer"}})
}

fn after(mut item: Value, deps: &[&str]) -> Value {
    item["depends_on"] = json!(deps);
    item
}

fn item(id: &str) -> Value {
    json!({"id": id, "inputs": {"subagent": "worker"}})
}

/// implement ← review (gate) ← publish, chained.
fn usual(attempts: u32) -> Vec<Value> {
    let mut review = gate("review", "implement", json!({"maxFixAttempts": attempts}));
    review["needs"] = json!({"work": {"from": "implement", "select": {"kind": "patch"}}});
    let mut publish = item("publish");
    publish["needs"] = json!({"work": {"from": "implement", "select": {"kind": "patch"}}});
    publish["depends_on"] = json!(["review"]);
    publish["maxAttempts"] = json!(3);
    publish["resourceLocks"] = json!(["registry"]);
    vec![item("implement"), review, publish]
}

fn run(items: Vec<Value>, script: impl Fn(&str) -> Outcome) -> MockRun {
    let mut run = MockRun::of_items(items);
    run.drive::<Pipeline>(script);
    run
}

fn red_until(green_from: &'static str) -> impl Fn(&str) -> Outcome {
    move |id| match id {
        _ if id == green_from => Outcome::green(),
        _ if id.starts_with("review") && !id.contains("-fix-") => Outcome::red().outputs(["findings"]),
        _ => Outcome::done(),
    }
}

fn findings(items: Vec<Value>) -> Vec<Finding> {
    MockRun::of_items(items).plan::<Pipeline>().findings
}

#[test]
fn items_without_edges_are_chained() {
    let mut needing = item("d");
    needing["needs"] = json!({"in": {"from": "a", "select": {"kind": "patch"}}});
    let mut run = MockRun::of_items([item("a"), item("b"), after(item("c"), &["a"]), needing, item("e")]);
    let record = run.plan::<Pipeline>();
    let pairs: Vec<(&str, &str)> = record.ordered.iter().map(|it| (&*it.0, &*it.1)).collect();
    // `d` has an edge: it needs something of `a`.
    assert_eq!(pairs, [("b", "a"), ("e", "d")]);
    assert!(record.close, "without a gate there is nothing left to decide");
    assert_eq!(run.depends_on("e"), ["d"]);
}

#[test]
fn an_open_ended_run_without_gates_is_asked_further() {
    let mut run = MockRun::of_plan(&json!({"openEnded": true, "items": [{"id": "a"}]}));
    assert!(!run.plan::<Pipeline>().close);
}

#[test]
fn a_chain_that_would_be_a_cycle_is_a_finding() {
    let found = findings(vec![item("a"), after(item("b"), &["c"]), item("c")]);
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(found[0].pointer, "/items/2/depends_on");
    assert!(found[0].message.contains("c names nothing it waits for"), "{}", found[0].message);
}

#[test]
fn a_green_gate_adds_nothing() {
    let run = run(usual(1), |id| if id == "review" { Outcome::green() } else { Outcome::done() });
    assert_eq!(run.ids(), ["implement", "review", "publish"]);
    assert_eq!(run.end(), RunEnd::Done);
    assert_eq!(run.spec("review")["holdOnRed"], true);
}

#[test]
fn a_gate_without_verify_is_not_red() {
    let run = run(usual(1), |_| Outcome::done());
    assert_eq!(run.ids().len(), 3);
    assert_eq!(run.end(), RunEnd::Done);
}

#[test]
fn a_red_gate_gets_a_fix_a_second_look_and_what_was_skipped() {
    let run = run(usual(1), red_until("review~2"));
    assert_eq!(run.ids(), ["implement", "review", "publish", "review-fix-1", "review~2", "publish~2"]);
    assert_eq!(run.end(), RunEnd::Done);
    assert_eq!(run.state("publish"), "skipped");

    let fix = run.spec("review-fix-1");
    assert_eq!(fix["inputs"], fix_template()["inputs"]);
    assert_eq!(fix["needs"]["work"], json!({"from": "implement", "select": {"kind": "patch"}}));
    assert_eq!(
        fix["needs"]["findings"],
        json!({"from": "review", "select": {"kind": "output", "path": "findings"}})
    );
    assert_eq!(run.depends_on("review-fix-1"), ["implement", "review"]);

    let second = run.spec("review~2");
    assert_eq!(second["needs"]["work"]["from"], "review-fix-1");
    assert_eq!(second["inputs"]["gate"]["subject"], "review-fix-1");
    assert_eq!(second["holdOnRed"], true);
    assert_eq!(run.depends_on("review~2"), ["review-fix-1"]);

    let publish = run.spec("publish~2");
    assert_eq!(publish["needs"]["work"]["from"], "review-fix-1");
    assert_eq!(run.depends_on("publish~2"), ["review-fix-1", "review~2"]);
    assert_eq!((&publish["maxAttempts"], &publish["resourceLocks"]), (&json!(3), &json!(["registry"])));

    assert_eq!(run.superseded_by("review"), Some("review~2"));
    assert_eq!(run.superseded_by("publish"), Some("publish~2"));
    assert_eq!(run.superseded_by("implement"), None);
    assert_eq!(
        run.explained("review-fix-1"),
        "review is red: done, but its verify did not pass; fix 1 of 1, on the work of implement"
    );
}

#[test]
fn every_further_round_works_on_the_newest_work() {
    let run = run(usual(3), red_until("review~3"));
    assert_eq!(
        run.ids()[3..],
        ["review-fix-1", "review~2", "publish~2", "review-fix-2", "review~3", "publish~3"]
    );
    let fix = run.spec("review-fix-2");
    assert_eq!(fix["needs"]["work"]["from"], "review-fix-1");
    assert_eq!(fix["needs"]["findings"]["from"], "review~2");
    assert_eq!(run.depends_on("review-fix-2"), ["review-fix-1", "review~2"]);
    assert_eq!(run.depends_on("review~3"), ["review-fix-2"]);
    assert_eq!(run.spec("review~3")["inputs"]["gate"]["subject"], "review-fix-2");
    assert_eq!(run.depends_on("publish~3"), ["review-fix-2", "review~3"]);
    assert_eq!(run.spec("publish~3")["needs"]["work"]["from"], "review-fix-2");
    assert_eq!(run.superseded_by("review~2"), Some("review~3"));
    assert_eq!(run.superseded_by("publish~2"), Some("publish~3"));
    assert_eq!(run.end(), RunEnd::Done);
}

#[test]
fn rounds_end_when_the_attempts_are_used_up() {
    for attempts in [0, 1, 2] {
        let run = run(usual(attempts), red_until("never"));
        assert_eq!(run.ids().len(), 3 + 3 * attempts as usize);
        assert_eq!(run.end(), RunEnd::Failed);
        let last = if attempts == 0 { "review".to_owned() } else { format!("review~{}", attempts + 1) };
        assert_eq!(
            run.explained(&last).lines().last(),
            Some(&*format!("no fix is added: {last} is red and {attempts} of {attempts} fixes were tried"))
        );
    }
}

#[test]
fn a_gate_that_failed_is_red_and_its_reason_goes_into_the_fix() {
    let run = run(usual(1), |id| match id {
        "review" => Outcome::failed("3 of 10 tests failed"),
        _ => Outcome::done(),
    });
    assert_eq!(run.ids()[3..], ["review-fix-1", "review~2", "publish~2"]);
    let fix = run.spec("review-fix-1");
    assert_eq!(fix["inputs"]["gateReason"], "review: failed (3 of 10 tests failed)");
    assert_eq!(fix["inputs"]["workerInput"]["gateReason"], fix["inputs"]["gateReason"]);
    assert_eq!(fix["inputs"]["workerInput"]["hint"], "small");
    // It can only wait for what is done.
    assert_eq!(run.depends_on("review-fix-1"), ["implement"]);
    assert_eq!(run.end(), RunEnd::Done);
}

#[test]
fn a_red_gate_without_findings_gives_its_reason() {
    let run = run(usual(1), |id| if id == "review" { Outcome::red() } else { Outcome::done() });
    let fix = run.spec("review-fix-1");
    assert_eq!(fix["inputs"]["gateReason"], "review: done, but its verify did not pass");
    assert_eq!(fix["needs"].get("findings"), None);
}

#[test]
fn work_without_a_patch_is_not_handed_over() {
    let run = run(usual(1), |id| match id {
        "implement" => Outcome::done().no_patch(),
        "review" => Outcome::red(),
        _ => Outcome::done(),
    });
    assert_eq!(run.spec("review-fix-1").get("needs"), None);
    assert_eq!(run.depends_on("review-fix-1"), ["implement"]);
}

#[test]
fn a_denied_gate_is_not_red() {
    let run = run(usual(1), |id| if id == "review" { Outcome::denied("policy") } else { Outcome::done() });
    assert_eq!(run.ids().len(), 3);
    assert_eq!(run.end(), RunEnd::Failed);
}

#[test]
fn advice_lets_pass_what_waits_for_it() {
    let mut items = usual(1);
    items[1]["inputs"]["gate"]["onRed"] = json!("advance");
    let red = run(items.clone(), |id| if id == "review" { Outcome::red() } else { Outcome::done() });
    assert_eq!(red.ids(), ["implement", "review", "publish"]);
    assert_eq!(red.state("publish"), "done");
    assert_eq!(red.end(), RunEnd::Done);

    // What waits for a failed item cannot start; a copy that does not wait for it can.
    let failed =
        run(items.clone(), |id| if id == "review" { Outcome::failed("crashed") } else { Outcome::done() });
    assert_eq!(failed.ids()[3..], ["publish~2"]);
    assert_eq!(failed.depends_on("publish~2"), ["implement"]);
    assert_eq!(failed.state("publish~2"), "done");
    assert_eq!(failed.superseded_by("publish"), Some("publish~2"));

    items[2]["needs"]["notes"] = json!({"from": "review", "select": {"kind": "output", "path": "notes"}});
    let needed = run(items, |id| if id == "review" { Outcome::failed("crashed") } else { Outcome::done() });
    assert_eq!(needed.ids().len(), 3);
    assert_eq!(needed.explained("publish"), "not added again: it needs a product of review, which failed");
}

#[test]
fn a_cancelled_member_of_the_lineage_stops_it() {
    let cancel = |victim: &'static str| {
        let mut run = MockRun::of_items(usual(3));
        run.plan::<Pipeline>();
        loop {
            if run.ids().contains(&victim) && !["done", "cancelled", "skipped"].contains(&run.state(victim)) {
                run.end_item(victim, &Outcome::cancelled());
                run.step::<Pipeline>();
            }
            let Some(id) = run.ready().first().map(|id| (*id).to_owned()) else { return run };
            let outcome = if id.starts_with("review") && !id.contains("fix") {
                Outcome::red()
            } else {
                Outcome::done()
            };
            run.end_item(&id, &outcome);
            run.step::<Pipeline>();
        }
    };
    let run = cancel("publish");
    assert_eq!(run.ids(), ["implement", "review", "publish"]);
    assert_eq!(run.explained("review"), "no fix is added: publish was cancelled");
    let run = cancel("review");
    assert_eq!(run.ids().len(), 3);
    let run = cancel("publish~2");
    assert_eq!(run.ids().len(), 6);
    assert_eq!(run.explained("review~2").lines().last(), Some("no fix is added: publish~2 was cancelled"));
    let run = cancel("review-fix-2");
    assert_eq!(run.ids().len(), 9);
    assert_eq!(
        run.explained("review~3").lines().last(),
        Some("no further fix is added: review-fix-2 is cancelled")
    );
}

#[test]
fn a_failed_fix_ends_the_lineage() {
    let run = run(usual(3), |id| match id {
        "review" => Outcome::red(),
        "review-fix-1" => Outcome::failed("no idea"),
        _ => Outcome::done(),
    });
    assert_eq!(run.ids().len(), 6);
    assert_eq!(run.end(), RunEnd::Failed);
    assert!(run.explained("review~2").ends_with("no further fix is added: review-fix-1 is failed (no idea)"));
}

/// work ← left (gate), right (gate) ← both
fn two_gates() -> Vec<Value> {
    vec![
        item("work"),
        after(gate("left", "work", json!({})), &["work"]),
        after(gate("right", "work", json!({})), &["work"]),
        after(item("both"), &["left", "right"]),
    ]
}

#[test]
fn two_gates_of_one_work_decide_together() {
    // Both red: two fixes, one on the work of the other, and both gates judge the result.
    let run =
        run(
            two_gates(),
            |id| if ["left", "right"].contains(&id) { Outcome::red() } else { Outcome::green() },
        );
    assert_eq!(run.ids()[4..], ["left-fix-1", "right-fix-1", "left~2", "right~2", "both~2"]);
    assert_eq!(run.spec("right-fix-1")["needs"]["work"]["from"], "left-fix-1");
    assert_eq!(run.depends_on("left~2"), ["right-fix-1"]);
    assert_eq!(run.depends_on("right~2"), ["right-fix-1"]);
    assert_eq!(run.depends_on("both~2"), ["left~2", "right~2"]);
    assert_eq!(run.end(), RunEnd::Done);
}

#[test]
fn a_green_gate_judges_the_fix_as_well() {
    let run = run(two_gates(), |id| if id == "right" { Outcome::red() } else { Outcome::green() });
    assert_eq!(run.ids()[4..], ["right-fix-1", "left~2", "right~2", "both~2"]);
    assert_eq!(run.superseded_by("left"), None, "a green gate cannot be superseded");
    assert_eq!(run.depends_on("both~2"), ["left~2", "right~2"]);
    assert_eq!(run.end(), RunEnd::Done);
}

#[test]
fn a_round_waits_for_the_verdict_of_every_gate() {
    let mut run = MockRun::of_items(two_gates());
    run.plan::<Pipeline>();
    run.end_item("work", &Outcome::done());
    run.step::<Pipeline>();
    run.end_item("left", &Outcome::red());
    assert_eq!(run.step::<Pipeline>().spawned, []);
    run.end_item("right", &Outcome::green());
    assert_eq!(run.step::<Pipeline>().spawned_ids(), ["left-fix-1", "left~2", "right~2", "both~2"]);
}

#[test]
fn gates_behind_gates_judge_the_newest_work() {
    // work ← lint (gate of work) ← review (gate of work) ← ship ← check (gate of ship) ← done
    let items = vec![
        item("work"),
        gate("lint", "work", json!({})),
        gate("review", "work", json!({})),
        item("ship"),
        gate("check", "ship", json!({"maxFixAttempts": 2})),
        item("end"),
    ];
    let run = run(items, |id| match id {
        "lint" | "check~2" => Outcome::red(),
        _ => Outcome::green(),
    });
    assert_eq!(
        run.ids()[6..],
        ["lint-fix-1", "lint~2", "review~2", "ship~2", "check~2", "end~2", "check-fix-1", "check~3", "end~3"]
    );
    assert_eq!(run.spec("review~2")["inputs"]["gate"]["subject"], "lint-fix-1");
    assert_eq!(run.spec("check~2")["inputs"]["gate"]["subject"], "ship~2");
    assert_eq!(run.spec("check-fix-1")["needs"]["work"]["from"], "ship~2");
    assert_eq!(run.depends_on("check~3"), ["check-fix-1"]);
    assert_eq!(run.depends_on("end~3"), ["check~3"]);
    assert_eq!(run.end(), RunEnd::Done);
}

#[test]
fn a_gate_that_was_skipped_and_copied_keeps_its_own_attempts() {
    let items =
        vec![item("work"), gate("lint", "work", json!({})), gate("review", "work", json!({})), item("end")];
    let run = run(items, |id| match id {
        "lint" | "review~2" => Outcome::red(),
        _ => Outcome::green(),
    });
    assert_eq!(
        run.ids()[4..],
        ["lint-fix-1", "lint~2", "review~2", "end~2", "review-fix-1", "lint~3", "review~3", "end~3"]
    );
    assert_eq!(run.spec("review-fix-1")["needs"]["work"]["from"], "lint-fix-1");
    // In the copy the chain is kept, between the newest generations.
    assert_eq!(run.depends_on("review~3"), ["lint~3", "review-fix-1"]);
    assert_eq!(run.end(), RunEnd::Done);
}

#[test]
fn a_diamond_behind_a_gate_is_added_once() {
    let items = vec![
        item("work"),
        gate("review", "work", json!({})),
        after(item("left"), &["review"]),
        after(item("right"), &["review"]),
        after(item("join"), &["left", "right"]),
    ];
    let run = run(items, red_until("review~2"));
    assert_eq!(run.ids()[5..], ["review-fix-1", "review~2", "left~2", "right~2", "join~2"]);
    assert_eq!(run.depends_on("join~2"), ["left~2", "right~2"]);
    assert_eq!(run.end(), RunEnd::Done);
}

#[test]
fn what_was_skipped_for_another_reason_as_well_stays_skipped() {
    let items = vec![
        item("work"),
        gate("review", "work", json!({})),
        json!({"id": "other", "depends_on": ["work"]}),
        after(item("join"), &["review", "other"]),
        after(item("last"), &["join"]),
        after(item("free"), &["review"]),
    ];
    let run = run(items, |id| match id {
        "review" => Outcome::red(),
        "other" => Outcome::failed("broke"),
        _ => Outcome::green(),
    });
    // The gate is first, so `join` is copied when its round comes and skipped again when `other` fails.
    assert_eq!(run.state("free~2"), "done");
    assert_eq!(run.end(), RunEnd::Failed);

    let mut run = MockRun::of_items([
        item("work"),
        after(item("other"), &["work"]),
        after(gate("review", "work", json!({})), &["work"]),
        after(item("join"), &["review", "other"]),
        after(item("last"), &["join"]),
        after(item("free"), &["review"]),
    ]);
    run.drive::<Pipeline>(|id| match id {
        "review" => Outcome::red(),
        "other" => Outcome::failed("broke"),
        _ => Outcome::green(),
    });
    assert_eq!(run.ids()[6..], ["review-fix-1", "review~2", "free~2"]);
    assert_eq!(run.explained("join"), "not added again: it also waits for other, which is failed (broke)");
    assert_eq!(run.explained("last"), "not added again: it also waits for join, which is skipped");
}

#[test]
fn behind_two_red_gates_of_different_work_nothing_starts_before_both_are_green() {
    // a ← ga (gate), b ← gb1, gb2 (gates): `join` waits for all; ga is red while gb2 is still open.
    let items = vec![
        item("a"),
        after(item("b"), &["a"]),
        after(gate("ga", "a", json!({})), &["b"]),
        after(gate("gb1", "b", json!({})), &["b"]),
        after(gate("gb2", "b", json!({})), &["b"]),
        after(item("join"), &["ga", "gb1", "gb2"]),
    ];
    let mut run = MockRun::of_items(items);
    run.plan::<Pipeline>();
    for (id, outcome) in [("a", Outcome::done()), ("b", Outcome::done()), ("gb1", Outcome::red())] {
        run.end_item(id, &outcome);
        run.step::<Pipeline>();
    }
    run.end_item("ga", &Outcome::red());
    // gb1 is red and its round has not come: `join` must not start behind ga~2.
    assert_eq!(run.step::<Pipeline>().spawned_ids(), ["ga-fix-1", "ga~2"]);
    assert_eq!(run.explained("join"), "not added again: it also waits for gb1, which is red");
    run.end_item("gb2", &Outcome::green());
    assert_eq!(run.step::<Pipeline>().spawned_ids(), ["gb1-fix-1", "gb1~2", "gb2~2", "join~2"]);
    assert_eq!(run.depends_on("join~2"), ["ga~2", "gb1~2", "gb2~2"]);
    run.drive::<Pipeline>(|_| Outcome::green());
    assert_eq!(run.end(), RunEnd::Done);
}

#[test]
fn every_finding_comes_at_once() {
    let items = vec![
        item("work"),
        json!({"id": "a", "inputs": {"gate": {"onRed": "spawnfix", "subject": "work", "maxFixAttempts": "2"}}}),
        json!({"id": "b", "inputs": {"gate": {"onRed": "spawn-fix", "subject": "work"}}}),
        json!({"id": "c", "inputs": {"gate": {"onRed": "advance", "subjct": "work"}}}),
        json!({"id": "d", "inputs": {"gate": {"onRed": "advance", "subject": "nobody"}}}),
        json!({"id": "e", "inputs": {"gate": {"onRed": "advance", "subject": "e"}}}),
        json!({"id": "f", "inputs": {"gate": {"onRed": "advance", "subject": "g"}}}),
        json!({"id": "g", "inputs": {"gate": {"onRed": "spawn-fix", "subject": "work", "fixTemplate": {
            "executor": "", "inputs": [], "maxAttempts": 0, "needs": {}, "resourceLock": []}}}}),
        json!({"id": "h", "inputs": {"gate": "review"}}),
        // What it judges is looked at whatever is wrong with the rest.
        json!({"id": "i", "inputs": {"gate": {"onRed": "no", "subject": "nobody"}}}),
        json!({"id": "j", "inputs": {"gate": {"onRed": "spawn-fix", "subject": "j"}}}),
    ];
    let found = findings(items);
    let text: Vec<String> = found.iter().map(ToString::to_string).collect();
    let has = |part: &str| assert!(text.iter().any(|it| it.contains(part)), "{part} is not in {text:#?}");
    has("/items/1/inputs/gate/onRed: must be \"advance\" or \"spawn-fix\"; did you mean \"spawn-fix\"?");
    has("/items/1/inputs/gate/maxFixAttempts: must be an integer from 0 to 50");
    has("/items/2/inputs/gate/fixTemplate: \"onRed\": \"spawn-fix\" needs a template");
    has("/items/3/inputs/gate: member \"subject\" is missing");
    has("/items/3/inputs/gate/subjct: member \"subjct\" is not known; did you mean \"subject\"?");
    has("/items/4/inputs/gate/subject: there is no item \"nobody\"");
    has("/items/5/inputs/gate/subject: e cannot judge itself");
    has("/items/6/inputs/gate/subject: f does not wait for g");
    has("/items/7/inputs/gate/fixTemplate/executor: must be a string");
    has("/items/7/inputs/gate/fixTemplate/inputs: must be an object");
    has("/items/7/inputs/gate/fixTemplate/maxAttempts: must be an integer of at least 1");
    has("/items/7/inputs/gate/fixTemplate/needs: a template has no such member");
    has("/items/7/inputs/gate/fixTemplate/resourceLock: member \"resourceLock\" is not known; did you mean");
    has("/items/8/inputs/gate: must be an object");
    has("/items/9/inputs/gate/onRed: must be \"advance\" or \"spawn-fix\"");
    has("/items/9/inputs/gate/subject: there is no item \"nobody\"");
    has("/items/10/inputs/gate/fixTemplate: \"onRed\": \"spawn-fix\" needs a template");
    has("/items/10/inputs/gate/subject: j cannot judge itself");
    assert!(found.iter().all(|finding| finding.hint.is_some()), "{found:#?}");
}

#[test]
fn ids_that_the_pattern_needs_are_findings() {
    let mut items = usual(2);
    items.push(item("review-fix-2"));
    items.push(item("publish~2"));
    items.push(json!({"id": "x".repeat(126)}));
    let text: Vec<String> = findings(items).iter().map(ToString::to_string).collect();
    assert_eq!(text.len(), 3, "{text:#?}");
    assert!(text[0].starts_with("/items/3/id: review-fix-2 is the id of fix 2 for review"), "{text:#?}");
    assert!(text[1].starts_with("/items/4/id: publish~2 ends like the id of a copy"), "{text:#?}");
    assert!(text[2].starts_with("/items/5/id: ids of copies: an id of 131 bytes is too long"), "{text:#?}");
}

#[test]
fn possible_rounds_are_drawn() {
    let record = MockRun::of_items(usual(2)).plan::<Pipeline>();
    let drawn: Vec<(&str, Vec<&str>)> =
        record.possible.iter().map(|it| (&*it.0, it.1.iter().map(String::as_str).collect())).collect();
    assert_eq!(
        drawn,
        [
            ("review-fix-1", vec!["implement", "review"]),
            ("review~2", vec!["review-fix-1"]),
            ("publish~2", vec!["review-fix-1", "review~2"]),
            ("review-fix-2", vec!["review-fix-1", "review~2"]),
            ("review~3", vec!["review-fix-2"]),
            ("publish~3", vec!["review-fix-2", "review~3"]),
        ]
    );
}

#[test]
fn a_step_without_a_gate_costs_what_changed() {
    let mut items: Vec<Value> = usual(1);
    items.extend((0..10_000).map(|n| after(item(&format!("i{n}")), &["publish"])));
    let mut run = MockRun::of_items(items);
    run.plan::<Pipeline>();
    for id in ["implement", "review", "publish"] {
        run.end_item(id, &Outcome::done());
        run.try_step::<Pipeline>();
    }
    for n in 0..50 {
        run.end_item(&format!("i{n}"), &Outcome::done());
        let calls = run.try_step::<Pipeline>().host_calls;
        assert!(calls <= 10, "{calls} calls of the host");
    }
}

conformance!(
    Pipeline,
    [
        json!({"items": usual(2)}),
        json!({"items": two_gates()}),
        json!({"items": [item("work"), gate("lint", "work", json!({})), gate("review", "work", json!({"maxFixAttempts": 2})), item("end")]}),
        json!({"items": [item("work"), gate("advice", "work", json!({"onRed": "advance"})), item("next"), item("end")]}),
    ]
);
