//! Views that no engine of today makes.

use std::sync::Arc;

use pangolin_core::pattern::{ItemPhase, RunItem, RunView, normalised};
use serde_json::{Map, Value};

use super::moments::Subject;
use crate::{dice::Dice, mutate::mutations};

/// States, facts and outputs that a later engine may know.
pub(super) fn facts(view: &RunView) -> Arc<RunView> {
    let mut view = view.clone();
    view.attrs.insert("x-unknown".to_owned(), "\u{1f99a} of a later version".to_owned());
    for index in 0..view.items().len() {
        let mut item = view.items()[index].clone();
        // Why something ended without success is more than its phase says, so these words stay.
        if !matches!(&*item.state, "cancelled" | "skipped" | "denied") {
            item.state = format!("x-unknown-{}", item.state).into();
        }
        item.attrs.insert("x-unknown".to_owned(), "of a later version".to_owned());
        if !item.output_keys.is_empty() {
            let keys = Arc::make_mut(&mut item.output_keys);
            keys.push("x-unknown/of later.bin".to_owned());
            keys.sort();
        }
        view.set(u32::try_from(index).unwrap_or(u32::MAX), item);
    }
    Arc::new(view)
}

/// Combinations that the engine of today does not make, and parameters nobody knows.
pub(super) fn phases(view: &RunView) -> Arc<RunView> {
    let mut view = view.clone();
    for index in 0..view.items().len() {
        let mut item = view.items()[index].clone();
        item.phase = match item.phase {
            ItemPhase::Waiting => ItemPhase::Succeeded,
            ItemPhase::Active => ItemPhase::Waiting,
            ItemPhase::Succeeded => ItemPhase::Unsuccessful,
            ItemPhase::Unsuccessful => ItemPhase::Active,
        };
        item.verify_passed = item.verify_passed.map_or(Some(false), |passed| (!passed).then_some(true));
        item.attrs.insert("superseded-by".to_owned(), "nobody".to_owned());
        view.set(u32::try_from(index).unwrap_or(u32::MAX), item);
    }
    if let Ok(Value::Object(mut params)) = serde_json::from_str::<Value>(&view.params_json) {
        params.insert("xUnknown".to_owned(), Value::Bool(true));
        view.params_json = Value::Object(params).to_string();
    }
    Arc::new(view)
}

/// A view made of the items of these plans, some with something wrong, in any state.
pub(super) fn random(subjects: &[Subject], seed: u64) -> Arc<RunView> {
    let mut dice = Dice::new(seed);
    let mut view = RunView::default();
    view.run_id = format!("random-{seed}");
    (view.tick, view.seed) = (seed, seed);
    view.now_ms = dice.next() >> 22;
    view.attrs.insert("queue".to_owned(), "any".to_owned());
    let Some(subject) = dice.pick(subjects) else { return Arc::new(view) };
    view.params_json.clone_from(&subject.params);
    let mut specs: Vec<Map<String, Value>> = Vec::new();
    for item in subject.plan["items"].as_array().into_iter().flatten() {
        let wrong = mutations(item, 40);
        let chosen = if dice.below(2) == 0 { Some(item) } else { dice.pick(&wrong) };
        specs.extend(chosen.and_then(Value::as_object).cloned());
    }
    for number in 0..dice.below(12) {
        let ids = ["map-a", "reduce", "review-fix-1", "review~2", "gate", "x"];
        let id = dice
            .pick(&ids)
            .map_or_else(String::new, |id| format!("{id}{}", if number % 2 == 0 { "" } else { "-2" }));
        if let Value::Object(item) = super::moments::item(&id, &[]) {
            specs.push(item);
        }
    }
    for spec in &specs {
        let Some(spec) = normalised(spec) else { continue };
        let mut item = RunItem::waiting(Arc::new(spec), Vec::new());
        let phases = [ItemPhase::Waiting, ItemPhase::Active, ItemPhase::Succeeded, ItemPhase::Unsuccessful];
        item.phase = dice.pick(&phases).copied().unwrap_or(ItemPhase::Waiting);
        let states = [
            "pending",
            "ready",
            "running",
            "done",
            "failed",
            "skipped",
            "cancelled",
            "denied",
            "needs-input",
        ];
        item.state = (*dice.pick(&states).unwrap_or(&"pending")).into();
        item.attempts = u32::try_from(dice.below(4)).unwrap_or(0);
        item.verify_passed = *dice.pick(&[None, Some(true), Some(false)]).unwrap_or(&None);
        let outputs =
            ["a", "b/c.csv", "result", "\u{e4} b", "x~y", "x".repeat(300).as_str()].map(str::to_owned);
        let mut keys: Vec<String> = outputs.into_iter().filter(|_| dice.below(3) == 0).collect();
        keys.sort();
        item.output_keys = Arc::new(keys);
        // What the engine always keeps is kept here too: edges lead to items that are there, and never in a circle.
        let before = view.items().len();
        let edges = if before == 0 { 0 } else { dice.below(3) };
        item.depends_on = (0..edges).filter_map(|_| u32::try_from(dice.below(before)).ok()).collect();
        item.depends_on.sort_unstable();
        item.depends_on.dedup();
        if view.find(item.id().as_str()).is_none() {
            let _ = view.push(item);
        }
    }
    view.changed =
        (0..u32::try_from(view.items().len()).unwrap_or(0)).filter(|_| dice.below(3) > 0).collect();
    Arc::new(view)
}
