//! Digests of what a pattern saw and decided.
#![expect(clippy::unwrap_used, reason = "a test may stop anywhere")]

use std::{collections::BTreeMap, sync::Arc};

use pangolin_audit::decision::{ViewDigest, decisions_bytes, decisions_digest, seed};
use pangolin_core::{
    ids::{Digest, RunId},
    pattern::{Decisions, Explanation, ItemPhase, RunItem, RunView},
    plan::PlanItem,
};

fn item(id: &str) -> RunItem {
    let spec: PlanItem = serde_json::from_value(serde_json::json!({
        "id": id, "executor": "dispatch", "inputs": {"big": 1.5}, "depends_on": [], "resourceLocks": [],
    }))
    .unwrap();
    RunItem::waiting(Arc::new(spec), Vec::new())
}

fn view() -> RunView {
    let mut view = RunView::default();
    "r".clone_into(&mut view.run_id);
    view.now_ms = 7;
    view.seed = 9;
    "{}".clone_into(&mut view.params_json);
    view.push(item("a"));
    view.push(item("b"));
    view.changed = vec![0, 1];
    view
}

/// A named way to make a view different.
type Change = (&'static str, fn(&mut RunView));

#[test]
fn every_part_of_a_view_and_of_its_history_is_covered() {
    let mut chain = ViewDigest::new();
    let first = chain.advance(&view()).unwrap();
    let second = chain.advance(&view()).unwrap();
    assert_ne!(first, second, "the history is part of it");
    assert_eq!(ViewDigest::new().advance(&view()).unwrap(), first, "the same view, the same digest");
    assert_eq!(ViewDigest::after(first).advance(&view()).unwrap(), second, "a chain can be taken up");

    fn set(view: &mut RunView, change: impl FnOnce(&mut RunItem)) {
        let mut item = view.items()[1].clone();
        change(&mut item);
        view.set(1, item);
    }
    let changes: [Change; 16] = [
        ("run", |view| view.run_id.push('x')),
        ("tick", |view| view.tick += 1),
        ("now", |view| view.now_ms += 1),
        ("seed", |view| view.seed += 1),
        ("params", |view| view.params_json = "{\"a\":1}".to_owned()),
        ("attrs", |view| view.attrs = BTreeMap::from([("queue".to_owned(), "q".to_owned())])),
        ("items", |view| {
            view.push(item("c"));
        }),
        ("changed", |view| view.changed = vec![1]),
        ("phase", |view| set(view, |item| item.phase = ItemPhase::Active)),
        ("state", |view| set(view, |item| item.state = "ready".into())),
        ("attempts", |view| set(view, |item| item.attempts = 1)),
        ("depends_on", |view| set(view, |item| item.depends_on = vec![0])),
        ("verify", |view| set(view, |item| item.verify_passed = Some(false))),
        ("outputs", |view| set(view, |item| item.output_keys = vec!["o".to_owned()].into())),
        ("item attrs", |view| set(view, |item| item.attrs = BTreeMap::from([("k".into(), "v".into())]))),
        ("spec", |view| {
            set(view, |item| Arc::make_mut(&mut item.spec).hold_on_red = true);
        }),
    ];
    for (name, change) in changes {
        let mut other = view();
        change(&mut other);
        assert_ne!(ViewDigest::new().advance(&other).unwrap(), first, "{name}");
    }
}

#[test]
fn an_item_whose_spec_was_replaced_is_digested_again() {
    let mut view = view();
    let mut warm = ViewDigest::new();
    let first = warm.advance(&view).unwrap();
    let mut amended = view.items()[0].clone();
    amended.spec = Arc::new(PlanItem { hold_on_red: true, ..(*amended.spec).clone() });
    view.set(0, amended);
    assert_eq!(warm.advance(&view).unwrap(), ViewDigest::after(first).advance(&view).unwrap());
}

#[test]
fn the_seed_is_fixed_and_fits_every_language() {
    let run = RunId::new("fanout-1").unwrap();
    assert_eq!(seed("acme", &run), seed("acme", &run));
    assert_ne!(seed("acme", &run), seed("acme2", &run));
    assert!(seed("acme", &run) < 1 << 53);
}

#[test]
fn decisions_have_one_form_without_empty_members() {
    let none = Decisions::default();
    assert_eq!(decisions_bytes(&none).unwrap(), b"{}");
    let some = Decisions {
        close: true,
        explanations: vec![Explanation { item: "a".into(), why: "because".into() }],
        ..Decisions::default()
    };
    let bytes = decisions_bytes(&some).unwrap();
    assert_eq!(bytes, br#"{"close":true,"explanations":[{"item":"a","why":"because"}]}"#);
    assert_eq!(decisions_digest(&some).unwrap(), Digest::of(&bytes));
}
