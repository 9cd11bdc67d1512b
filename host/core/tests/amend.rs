//! A planner's answer applied to the submitted plan.

use pangolin_core::{
    ids::ItemId,
    pattern::{AmendError, Decisions, Ordering, PlanFinding, SpawnSpec, apply_plan_decisions},
    validate::{PlanContext, parse_plan},
};
use serde_json::{Value, json};

fn id(text: &str) -> ItemId {
    ItemId::new(text).expect("item id")
}

fn item(id: &str, depends_on: &[&str]) -> Value {
    json!({ "id": id, "executor": "dispatch", "inputs": {}, "depends_on": depends_on, "resourceLocks": [] })
}

fn plan() -> Value {
    json!({ "id": "r", "queue": "q", "items": [item("a", &[]), item("b", &["a"]), item("c", &[])] })
}

fn spawn(id: &str, item: &Value) -> SpawnSpec {
    SpawnSpec { id: self::id(id), item: item.as_object().expect("object").clone().into(), supersedes: None }
}

fn order(item: &str, after: &str) -> Ordering {
    Ordering { item: id(item), after: id(after) }
}

#[test]
fn orders_holds_and_additions_become_part_of_the_plan() {
    let decisions = Decisions {
        ordered: vec![order("b", "a"), order("c", "b")],
        held: vec![id("b")],
        spawned: vec![spawn("d", &item("d", &["c"]))],
        ..Decisions::default()
    };
    assert!(decisions.amends_plan());
    let amended = apply_plan_decisions(plan(), &decisions).expect("fits");
    let mut expected = plan();
    expected["items"][1]["holdOnRed"] = true.into();
    expected["items"][2]["depends_on"] = json!(["b"]);
    expected["items"].as_array_mut().expect("items").push(item("d", &["c"]));
    assert_eq!(amended, expected);
    let parsed = parse_plan(amended.to_string().as_bytes(), &PlanContext::default()).expect("a plan");
    assert!(parsed.plan.items[1].hold_on_red);
    // Doing it again adds no edge twice, and the added item is in the way of itself.
    let again =
        apply_plan_decisions(amended.clone(), &Decisions { spawned: Vec::new(), ..decisions.clone() });
    assert_eq!(again, Ok(amended.clone()));
    assert_eq!(apply_plan_decisions(amended, &decisions), Err(vec![AmendError::Taken(id("d"))]));
}

#[test]
fn decisions_without_amendments_change_nothing() {
    let decisions = Decisions { close: true, ..Decisions::default() };
    assert!(!decisions.amends_plan());
    let mut plan = plan();
    // Not amended, so not written canonically: the number is kept as it is.
    plan["items"][0]["inputs"]["n"] = u64::MAX.into();
    assert_eq!(apply_plan_decisions(plan.clone(), &decisions), Ok(plan));
}

#[test]
fn everything_that_does_not_fit_is_named() {
    let mut successor = spawn("e", &item("e", &[]));
    successor.supersedes = Some(id("a"));
    let decisions = Decisions {
        ordered: vec![order("b", "x"), order("y", "a")],
        held: vec![id("z")],
        spawned: vec![spawn("a", &item("a", &[])), spawn("d", &item("other", &[])), successor],
        findings: vec![PlanFinding { pointer: "/items/0".into(), message: "no".into(), hint: None }],
        ..Decisions::default()
    };
    let mut plan = plan();
    plan["items"][0]["inputs"] = json!({ "a/b": [0, { "~": (1_u64 << 53) }], "low": -(1_i64 << 53) });
    let unknown = |what, item| AmendError::Unknown { what, item: id(item) };
    assert_eq!(
        apply_plan_decisions(plan, &decisions).expect_err("does not fit"),
        [
            AmendError::Findings(1),
            unknown("order-after", "x"),
            unknown("order-after", "y"),
            unknown("hold-on-red", "z"),
            AmendError::Taken(id("a")),
            AmendError::OtherId(id("d")),
            AmendError::Supersedes(id("e")),
            AmendError::Integer { pointer: "/items/0/inputs/a~1b/1/~0".to_owned() },
            AmendError::Integer { pointer: "/items/0/inputs/low".to_owned() },
        ]
    );
    let broken = apply_plan_decisions(json!({ "items": [{}] }), &Decisions::default());
    assert_eq!(broken, Err(vec![AmendError::Plan { pointer: "/items/0/id".to_owned() }]));
}
