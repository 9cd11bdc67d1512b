//! What items are pinned to: a name keeps its meaning while a run grows, and attempts are given what is pinned.

mod common;

use common::{Run, item, key};
use pangolin_audit::{
    report::{Report, Status, Verdict},
    verify::{Trust, verify_bundle},
};
use pangolin_core::{
    entry::{EntryBody, RunOutcome},
    ids::Digest,
    manifest::DispatchManifest,
};
use serde_json::{Value, json};

fn named(name: &str, bytes: &str) -> Value {
    json!({ "name": name, "digest": Digest::of(bytes.as_bytes()) })
}

/// Pins of one item whose subagent is `agent`, when the run has pinned all of these names by then.
fn pins(id: &str, agent: &str, names: &[&str]) -> Value {
    let block = json!({
        "name": "acme/judge", "digest": Digest::of(b"judge 1"), "fingerprint": Digest::of(b"grant 1"),
    });
    let set = json!({
        "subagent": named(agent, agent), "capabilities": [named("tools", "tools")], "env": [],
        "pipeline": named("judged", "judged"), "adapter": named("acme/agent", "agent 1"), "blocks": [block],
    });
    let subagents: serde_json::Map<_, _> =
        names.iter().map(|name| ((*name).to_owned(), named(name, name))).collect();
    json!({
        "v": 1, "sets": [set], "items": { id: 0 },
        "references": { "subagent": subagents, "pipeline": { "judged": named("judged", "judged") } },
        "adapters": { "acme/agent": Digest::of(b"agent 1") }, "blocks": { "acme/judge": block },
    })
}

/// Pins of the plan (`a`) and of two extensions (`b`, `c`).
type Documents = [Value; 3];

fn documents() -> Documents {
    [
        pins("a", "first", &["first"]),
        pins("b", "late", &["first", "late"]),
        pins("c", "late", &["first", "late"]),
    ]
}

/// A manifest that follows the first set of these pins.
fn manifest(run: &Run, id: &str, pins: &Value) -> DispatchManifest {
    let set = &pins["sets"][0];
    let value = |member: &str| serde_json::from_value(set[member].clone()).expect("a set");
    let blocks = &set["blocks"][0];
    DispatchManifest {
        subagent: Some(value("subagent")),
        capabilities: serde_json::from_value(set["capabilities"].clone()).expect("a set"),
        pipeline: Some(value("pipeline")),
        adapter: Some(value("adapter")),
        blocks: vec![
            serde_json::from_value(json!({ "name": blocks["name"], "digest": blocks["digest"] }))
                .expect("a block"),
        ],
        ..run.manifest(id, 1, &[])
    }
}

/// The run with these pins and manifests that follow them; `given` changes the manifest of `c`.
fn run_with(documents: &Documents, is_pinned: bool, given: impl FnOnce(&mut DispatchManifest)) -> Run {
    let mut given = Some(given);
    let mut run = Run::submit_open("pinned", &[("a", &[])]);
    let keep = |run: &mut Run, pins: &Value| run.keep(pins.to_string().into_bytes());
    let digest = keep(&mut run, &documents[0]);
    run.replace_first(|submitted| submitted.pins = Some(digest));
    for (id, pins) in ["a", "b", "c"].into_iter().zip(documents) {
        if id != "a" {
            let inputs = json!({ "subagent": "late", "pipeline": "judged" });
            let items = json!([
                { "id": id, "executor": "dispatch", "inputs": inputs, "depends_on": [], "resourceLocks": [] },
            ]);
            let document = run.keep(items.to_string().into_bytes());
            let pins = (id == "b" || is_pinned).then(|| keep(&mut run, pins));
            run.entry(
                "app:producer",
                EntryBody::RunExtended {
                    cause: None,
                    items: vec![item(id)],
                    document,
                    explanation: String::new(),
                    plugin: None,
                    supersedes: std::collections::BTreeMap::new(),
                    pins,
                },
            );
        }
        let mut manifest = manifest(&run, id, pins);
        if id == "c"
            && let Some(given) = given.take()
        {
            given(&mut manifest);
        }
        run.fire_with(id, 1, &manifest);
        run.done(id, 1);
    }
    run.entry("app:producer", EntryBody::RunClosed {});
    run.complete(RunOutcome::Done);
    run
}

fn pinned(change: impl FnOnce(&mut Documents)) -> Run {
    let mut documents = documents();
    change(&mut documents);
    run_with(&documents, true, |_| ())
}

fn verify(run: &Run) -> Report {
    verify_bundle(
        &run.bundle(Some(RunOutcome::Done)),
        &Trust { keys: vec![key().verifier_key()], ..Trust::default() },
    )
}

#[track_caller]
fn assert_failed(run: &Run, check: &str, place: &str, detail: &str) {
    let report = verify(run);
    assert_eq!(report.verdict, Verdict::Failed, "{}", report.to_json());
    let failure = report.failure.as_ref().expect("a failure");
    assert_eq!(failure.check, check, "{}", report.to_json());
    assert!(failure.place.contains(place), "{}", report.to_json());
    assert!(failure.detail.contains(detail), "{}", report.to_json());
}

#[test]
fn a_run_whose_names_keep_their_meaning_is_intact() {
    let report = verify(&pinned(|_| ()));
    assert_eq!(report.verdict, Verdict::Intact, "{}", report.to_json());
    assert_eq!(report.checks.growth.ok, Status::Pass);
    assert!(report.checks.growth.detail.contains("2 items were added and are pinned"));
}

#[test]
fn a_name_that_means_something_else_later_is_named() {
    type Change = fn(&mut Value);
    let cases: [(&str, Change); 6] = [
        ("subagent \"late\" is", |pins| {
            pins["references"]["subagent"]["late"] = named("late", "newer");
            pins["sets"][0]["subagent"] = named("late", "newer");
        }),
        ("pipeline \"judged\" is", |pins| {
            pins["references"]["pipeline"]["judged"] = named("judged", "newer");
            pins["sets"][0]["pipeline"] = named("judged", "newer");
        }),
        ("adapter \"acme/agent\" is", |pins| pins["adapters"]["acme/agent"] = json!(Digest::of(b"agent 2"))),
        // The list is as it was, the item is not.
        ("adapter \"acme/agent\" is", |pins| {
            pins["sets"][0]["adapter"] = named("acme/agent", "agent 2");
        }),
        ("block \"acme/judge\" is", |pins| {
            pins["sets"][0]["blocks"][0]["digest"] = json!(Digest::of(b"judge 2"));
        }),
        ("grant of block \"acme/judge\" is", |pins| {
            pins["blocks"]["acme/judge"]["fingerprint"] = json!(Digest::of(b"grant 2"));
        }),
    ];
    for (detail, change) in cases {
        let run = pinned(|documents| change(&mut documents[2]));
        assert_failed(&run, "growth", "(pins of entry seq 6)", detail);
    }
}

#[test]
fn an_item_that_is_not_pinned_or_to_something_else_is_named() {
    let unnamed = |at: usize| pinned(|documents| documents[at]["items"] = json!({ "other": 0 }));
    assert_failed(&unnamed(0), "growth", "(pins of entry seq 0)", "do not say what item a is pinned to");
    assert_failed(&unnamed(2), "growth", "(pins of entry seq 6)", "do not say what item c is pinned to");
    let beyond = pinned(|documents| documents[2]["items"]["c"] = json!(1));
    assert_failed(&beyond, "growth", "(pins of entry seq 6)", "do not say what item c is pinned to");
    let other = pinned(|documents| documents[2]["sets"][0]["subagent"] = named("first", "first"));
    assert_failed(&other, "growth", "(pins of entry seq 6)", "item c is pinned to another subagent");
    let unresolved = pinned(|documents| {
        documents[2]["references"]["pipeline"].as_object_mut().expect("references").clear();
    });
    assert_failed(&unresolved, "growth", "(pins of entry seq 6)", "item c is pinned to another pipeline");
    let none = run_with(&documents(), false, |_| ());
    assert_failed(&none, "growth", "entry seq 6", "pinned to nothing");
    let malformed = pinned(|documents| documents[2]["items"] = json!(7));
    assert_failed(&malformed, "growth", "(pins of entry seq 6)", "are not a list of pins");
    let earlier = pinned(|documents| documents[2]["v"] = json!(0));
    assert_failed(&earlier, "growth", "(pins of entry seq 6)", "earlier version");
}

#[test]
fn an_attempt_that_was_given_something_else_is_named() {
    type Change = fn(&mut DispatchManifest);
    let cases: [(&str, Change); 6] = [
        ("its subagent", |manifest| manifest.subagent = None),
        ("its capabilities", |manifest| manifest.capabilities.clear()),
        ("its env", |manifest| manifest.env = manifest.capabilities.clone()),
        ("its pipeline", |manifest| manifest.pipeline = None),
        ("its adapter", |manifest| {
            if let Some(adapter) = &mut manifest.adapter {
                adapter.digest = Digest::of(b"agent 2");
            }
        }),
        ("its blocks", |manifest| manifest.blocks[0].digest = Digest::of(b"judge 2")),
    ];
    for (detail, change) in cases {
        let run = run_with(&documents(), true, change);
        assert_failed(&run, "manifest", "manifest of entry seq 7", detail);
    }
}

#[test]
fn what_cannot_be_read_is_not_judged() {
    let newer = pinned(|documents| documents[2]["v"] = json!(2));
    let report = verify(&newer);
    assert_eq!(report.verdict, Verdict::Unverifiable, "{}", report.to_json());
    assert!(report.unverifiable.iter().any(|why| why.contains("pins of entry seq 6")));

    let run = pinned(|_| ());
    let missing = Digest::of(documents()[2].to_string().as_bytes());
    let without = run.bundle_with(Some(RunOutcome::Done), &key(), |digest| *digest != missing);
    let report = verify_bundle(&without, &Trust { keys: vec![key().verifier_key()], ..Trust::default() });
    assert_eq!(report.verdict, Verdict::Incomplete, "{}", report.to_json());
    assert_eq!(report.checks.growth.ok, Status::NotApplicable);

    // Earlier programs let names change: their records stay what they were.
    let earlier = pinned(|documents| {
        for pins in documents.iter_mut() {
            pins.as_object_mut().expect("pins").remove("v");
        }
        documents[2]["sets"][0]["adapter"] = named("acme/agent", "agent 2");
    });
    let report = verify(&earlier);
    assert_eq!(report.verdict, Verdict::Intact, "{}", report.to_json());
    assert_eq!(report.checks.growth.ok, Status::NotApplicable);
}
