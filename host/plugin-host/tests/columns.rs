//! What a pattern asks of many items at once is what it would be told one by one; texts that are none end it.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

mod support;

use std::{borrow::Cow, sync::Arc};

use pangolin_core::pattern::{ItemPhase, RunItem, RunView};
use pangolin_plugin_host::{Limits, PatternComponent, Probe};
use serde_json::json;

fn guest(page_items: Option<usize>) -> PatternComponent {
    let probe = Probe { page_items, ..Probe::default() };
    // Long texts are compared again and again in a run of few items.
    let limits = Limits { probe, fuel_base: 1 << 32, fuel_max: 1 << 32, ..Limits::pure() };
    support::shared_host().load_pattern_with(&support::guest("pangolin-test-columns"), limits).unwrap()
}

/// Items of every kind; three of them say more than a page holds.
fn run() -> RunView {
    let long = "ä long story ".repeat(30_000);
    let mut view = RunView::default();
    for number in 0..40_u32 {
        let mut inputs = json!({ "other": number });
        if number % 3 == 0 {
            inputs["note"] = json!(format!("für {number}"));
        }
        let spec = json!({ "id": format!("item-{number}"), "executor": format!("executor-{}", number % 2),
            "inputs": inputs, "depends_on": [], "resourceLocks": [] });
        let mut item =
            RunItem::waiting(Arc::new(serde_json::from_value(spec).unwrap()), (0..number % 4).collect());
        if number % 5 == 1 {
            item.phase = ItemPhase::Unsuccessful;
            item.state = Cow::Borrowed("failed");
            item.attrs.insert("failure-reason".into(), String::new());
            let words =
                if (20..35).contains(&number) { long.clone() } else { format!("why {number} – ende") };
            item.attrs.insert("failure-message".into(), words);
        } else if number % 5 == 2 {
            item.phase = ItemPhase::Succeeded;
            item.state = Cow::Borrowed("done");
            item.verify_passed = Some(number % 2 == 0);
            item.output_keys = Arc::new((0..number).map(|key| format!("teil-{key:03}-ö")).collect());
            item.attrs.insert("has-patch".into(), "false".into());
        }
        item.attempts = number % 7;
        view.push(item);
    }
    view
}

#[tokio::test]
async fn columns_say_what_single_answers_do() {
    let view = Arc::new(run());
    // From the start, from the second item, from the middle.
    let outputs: usize = [0, 1, 20].iter().map(|first| outputs_from(&view, *first)).sum();
    let expected = format!("40 items, {outputs} outputs");
    for page_items in [None, Some(1), Some(7)] {
        let outcome = guest(page_items).step(&view).await.unwrap();
        assert_eq!(outcome.decisions.explanations[0].why, expected, "{page_items:?}");
    }
    let outcome = guest(None).step(&Arc::new(RunView::default())).await.unwrap();
    assert_eq!(outcome.decisions.explanations[0].why, "0 items, 0 outputs");
}

fn outputs_from(view: &RunView, first: usize) -> usize {
    view.items()[first..].iter().map(|item| item.output_keys.len()).sum()
}

#[tokio::test]
async fn texts_that_are_none_end_the_plugin() {
    let guest = guest(None);
    for (what, words) in [
        ("not-utf8", "find-all was called with texts that are not UTF-8"),
        ("behind", "number 1 goes from byte 1 to 3"),
        ("back", "number 1 goes from byte 2 to 1"),
        ("inside", "number 0 goes from byte 0 to 1"),
        ("left-over", "texts of 2 bytes of which the last one ends at 1"),
        ("without-ends", "texts of 2 bytes of which the last one ends at 0"),
        ("unequal", "need-outputs was called with 2 keys and 1 sources"),
    ] {
        let mut view = RunView::default();
        view.params_json = what.into();
        let error = guest.step(&Arc::new(view)).await.expect_err(what);
        assert_eq!(error.code(), "guest-abort", "{what}: {error}");
        assert!(error.to_string().contains(words), "{what}: {error}");
    }
}

#[tokio::test]
async fn the_memory_of_one_call_serves_c_as_well() {
    let mut view = RunView::default();
    view.params_json = "memory".into();
    let outcome = guest(None).step(&Arc::new(view)).await.unwrap();
    assert_eq!(outcome.decisions.explanations[0].item, "passed");
}
