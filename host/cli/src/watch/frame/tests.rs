use pangolin_runtime::views::RunView;
use serde_json::{Value, json};

use super::*;

const NOW: i64 = 1_780_185_612_000;
const PLAIN: Style = Style { colour: false, ascii: false };

fn attempt(number: u32, more: Value) -> Value {
    let mut attempt = json!({ "attempt": number, "dispatch": format!("d-{number}"), "status": "running", "firedAt": NOW - 4_200 });
    attempt.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    attempt
}

fn item(id: &str, status: &str, why: &str, attempts: Vec<Value>) -> Value {
    json!({ "id": id, "status": status, "why": why, "blockedBy": [], "depends_on": [], "resourceLocks": [], "attempts": attempts })
}

fn run(state: &str, items: Vec<Value>) -> RunView {
    let mut counts = std::collections::BTreeMap::new();
    for item in &items {
        *counts.entry(item["status"].as_str().unwrap().to_owned()).or_insert(0_u64) += 1;
    }
    serde_json::from_value(json!({
        "schemaVersion": 1, "run": "fanout-1", "queue": "default", "state": state, "actor": "human:ada",
        "submittedAt": NOW - 12_000, "counts": counts, "costMicrousd": 41_200, "costComplete": false,
        "entries": 9, "itemCount": items.len(), "items": items,
    }))
    .unwrap()
}

fn sample() -> RunView {
    let mut verify = item("verify", "pending", "waits for 2 items", vec![]);
    verify["blockedBy"] = json!(["edit-beta", "edit-shared"]);
    run(
        "active",
        vec![
            item(
                "edit-alpha",
                "done",
                "done",
                vec![attempt(
                    1,
                    json!({
            "status": "done", "endedAt": NOW - 1_000, "usage": { "cost_microusd": 41_200, "quality": "exact" } }),
                )],
            ),
            item(
                "edit-beta",
                "running",
                "attempt 2 is running",
                vec![
                    attempt(
                        1,
                        json!({ "status": "failed", "firedAt": NOW - 11_000, "endedAt": NOW - 6_000, "retryAt": NOW + 4_200,
                "failure": { "reason": "worker-failed", "class": "infrastructure", "message": "worker lost\u{1b}[2J" } }),
                    ),
                    attempt(2, json!({})),
                ],
            ),
            item("edit-shared", "ready", "waits for a slot of queue default (2 of 2 in use)", vec![]),
            verify,
        ],
    )
}

fn shown(view: &RunView, width: usize, height: usize, style: Style) -> String {
    text(&summary(view, NOW, width, height, style), width, style)
}

#[test]
fn every_item_has_a_line_with_its_reason() {
    insta::assert_snapshot!(shown(&sample(), 100, 24, PLAIN));
}

#[test]
fn details_list_the_attempts_and_escape_what_agents_wrote() {
    insta::assert_snapshot!(text(&detailed(&sample(), NOW, usize::MAX, PLAIN), usize::MAX, PLAIN));
}

#[test]
fn narrow_terminals_lose_columns_but_never_wrap() {
    for width in [1, 8, 20, 40, 60, 79, 100] {
        let shown = shown(&sample(), width, 24, PLAIN);
        assert!(shown.lines().all(|line| table::width(line) <= width), "{width}:\n{shown}");
    }
    insta::assert_snapshot!(shown(&sample(), 40, 24, Style { colour: false, ascii: true }));
}

#[test]
fn more_items_than_rows_show_what_needs_attention_and_count_the_rest() {
    let mut items: Vec<Value> = (0..2_000).map(|n| item(&format!("i{n}"), "pending", "", vec![])).collect();
    items[1_500] = item("broken", "failed", "exit 1", vec![]);
    items[1_900] = item("busy", "running", "", vec![]);
    let view = run("active", items);
    let shown = shown(&view, 80, 7, PLAIN);
    assert_eq!(shown.lines().count(), 7);
    insta::assert_snapshot!(shown);
    for height in 0..7 {
        assert!(summary(&view, NOW, 80, height, PLAIN).len() <= height.max(2), "{height}");
    }
}

#[test]
fn a_failed_pattern_is_named_with_what_it_means_for_the_run() {
    let mut view = run("failed", vec![item("a", "done", "delivered", vec![])]);
    view.pattern_failure = Some(
        serde_json::from_value(json!({
            "pattern": "acme/suite", "step": 3, "code": "refused", "message": "item x\u{1b}[2J waits for\nitself",
            "policy": "closed",
        }))
        .unwrap(),
    );
    insta::assert_snapshot!(shown(&view, 200, 24, PLAIN));
    for height in 0..7 {
        assert!(summary(&view, NOW, 80, height, PLAIN).len() <= height.max(2), "{height}");
    }
}
