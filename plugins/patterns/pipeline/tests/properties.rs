//! Properties of random pipelines with random outcomes. The mock host panics on a duplicate id, an unknown dependency, a
//! cycle or a wrong supersession, so driving is most of the check.

use std::collections::BTreeMap;

use pangolin_pattern_pipeline::Pipeline;
use pangolin_pattern_sdk::{
    generation,
    mock::{MockRun, Outcome, RunEnd},
};
use proptest::prelude::*;
use serde_json::{Value, json};

#[derive(Debug, Clone)]
struct Node {
    deps: Vec<prop::sample::Index>,
    gate: Option<(bool, prop::sample::Index, u32)>,
}

fn nodes() -> impl Strategy<Value = Vec<Node>> {
    let index = any::<prop::sample::Index>;
    let gate = prop::option::weighted(0.5, (prop::bool::weighted(0.8), index(), 0..4_u32));
    let node = (prop::collection::vec(index(), 0..3), gate).prop_map(|(deps, gate)| Node { deps, gate });
    prop::collection::vec(node, 1..9)
}

/// Dependencies go back only, and a gate waits for its subject.
fn plan(nodes: &[Node]) -> Vec<Value> {
    let item = |(at, node): (usize, &Node)| {
        let mut deps: Vec<String> = Vec::new();
        let mut inputs = json!({});
        if at > 0 {
            deps.extend(node.deps.iter().map(|dep| format!("n{}", dep.index(at))));
            if let Some((fixes, subject, attempts)) = &node.gate {
                let subject = format!("n{}", subject.index(at));
                inputs["gate"] = json!({
                    "onRed": if *fixes { "spawn-fix" } else { "advance" },
                    "subject": subject, "maxFixAttempts": attempts,
                    "fixTemplate": {"executor": "dispatch", "inputs": {}},
                });
                deps.push(subject);
            }
        }
        json!({"id": format!("n{at}"), "inputs": inputs, "depends_on": deps})
    };
    nodes.iter().enumerate().map(item).collect()
}

fn outcome(dice: u8) -> Outcome {
    match dice {
        0..100 => Outcome::green(),
        100..210 => Outcome::red().outputs(["findings"]),
        210..235 => Outcome::failed("by chance"),
        235..245 => Outcome::cancelled(),
        _ => Outcome::denied("by chance"),
    }
}

/// Drives a run: which of the items that may start ends next, and how, comes from the dice.
fn drive(items: Vec<Value>, dice: &[(u8, u8)]) -> MockRun {
    let mut run = MockRun::of_items(items);
    let planned = run.plan::<Pipeline>();
    assert_eq!(planned.findings, []);
    for (which, how) in dice.iter().chain(std::iter::repeat(&(0, 0))) {
        let ready: Vec<String> = run.ready().into_iter().map(str::to_owned).collect();
        if ready.is_empty() {
            return run;
        }
        let id = &ready[usize::from(*which) % ready.len()];
        run.end_item(id, &outcome(*how));
        run.step::<Pipeline>();
        assert!(run.ids().len() < 5_000, "it grows without end");
    }
    unreachable!("the dice never end")
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn random_runs_end_and_keep_the_rules(
        nodes in nodes(),
        dice in prop::collection::vec(any::<(u8, u8)>(), 0..60),
    ) {
        let items = plan(&nodes);
        let run = drive(items.clone(), &dice);
        let again = drive(items.clone(), &dice);
        prop_assert_eq!(run.ids(), again.ids());
        prop_assert_ne!(run.end(), RunEnd::Open);

        let planned: Vec<String> = items.iter().filter_map(|item| Some(item["id"].as_str()?.to_owned())).collect();
        let mut fixes: BTreeMap<String, u32> = BTreeMap::new();
        for id in run.ids() {
            if planned.contains(&id.to_owned()) {
                continue;
            }
            if let Some((base, number)) = id.split_once("-fix-") {
                // Numbered without a gap, and no more than allowed.
                let used = fixes.entry(base.to_owned()).or_default();
                *used += 1;
                prop_assert_eq!(number, used.to_string());
                let max = run.spec(base)["inputs"]["gate"]["maxFixAttempts"].as_u64().expect("a gate");
                prop_assert!(u64::from(*used) <= max);
                continue;
            }
            let (base, number) = generation(id);
            prop_assert!(number >= 2 && planned.contains(&base.to_owned()), "{} is no id of ours", id);
            // Nothing that was added waits for an earlier generation of what was added again, or for replaced work.
            for dep in run.depends_on(id) {
                if let Some(later) = run.superseded_by(dep) {
                    prop_assert!(
                        run.ids().iter().position(|it| *it == later) > run.ids().iter().position(|it| *it == id),
                        "{} waits for {}, in whose place {} stood already", id, dep, later
                    );
                }
            }
        }
        // Every gate that asks for fixes holds, in every generation.
        for id in run.ids() {
            let spec = run.spec(id);
            if spec["inputs"]["gate"]["onRed"] == "spawn-fix" {
                prop_assert_eq!(&spec["holdOnRed"], &json!(true));
                let subject = spec["inputs"]["gate"]["subject"].as_str().expect("a subject");
                prop_assert!(run.ids().contains(&subject));
            }
        }
    }

    /// Behind a red gate nothing is ever done unless a later generation of the gate was not red.
    #[test]
    fn nothing_passes_a_red_gate(dice in prop::collection::vec(any::<(u8, u8)>(), 0..40), attempts in 0..4_u32) {
        let gate = |id: &str| json!({"id": id, "depends_on": ["work"], "inputs": {"gate": {
            "onRed": "spawn-fix", "subject": "work", "maxFixAttempts": attempts,
            "fixTemplate": {"executor": "dispatch", "inputs": {}}}}});
        let items = vec![
            json!({"id": "work"}), gate("one"), gate("two"),
            json!({"id": "ship", "depends_on": ["one", "two"]}),
        ];
        let mut run = MockRun::of_items(items);
        run.plan::<Pipeline>();
        let mut ended: BTreeMap<String, u8> = BTreeMap::new();
        for (which, how) in dice.iter().chain(std::iter::repeat(&(0, 0))) {
            let ready: Vec<String> = run.ready().into_iter().map(str::to_owned).collect();
            if ready.is_empty() {
                break;
            }
            for id in ready.iter().filter(|id| generation(id).0 == "ship") {
                for dep in run.depends_on(id) {
                    prop_assert!(ended[dep] < 100, "{} may start behind {}, which is not green", id, dep);
                }
            }
            let id = ready[usize::from(*which) % ready.len()].clone();
            run.end_item(&id, &outcome(*how));
            ended.insert(id, *how);
            run.step::<Pipeline>();
        }
    }
}
