//! What a block leaves behind is sealed, travels and cannot be changed unseen.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::support::{self, REPORTER, document, last, pipeline, planned, sealed, step, with_probe};

#[test]
fn artifacts_are_named_in_the_ledger_travel_in_the_bundle_and_a_changed_one_is_found() {
    let world = with_probe(REPORTER);
    world.agent("work", "echo work > work.txt");
    pipeline(
        &world,
        "reports",
        &[
            step(&json!([
                ["artifact", "reports/a.txt", "the report"],
                ["artifact", "reports/b.txt", "another"]
            ])),
            step(&json!([["artifact", "reports/a.txt", "of the second"], ["artifact-flood", 2 << 20]])),
        ],
    );
    let _daemon = world.serve();
    let run = support::run(&world, "art-1", &[planned("a", "work", "reports")]);
    let attempt = last(&run, "a");
    assert_eq!(run["state"], "done", "{run:#}");

    // The entry names the list, the list names bytes.
    let list = document(&world, &attempt["blockArtifacts"]);
    assert_eq!(list["dispatch"], attempt["dispatch"]);
    let named: Vec<Value> = list["artifacts"]
        .as_array()
        .expect("artifacts")
        .iter()
        .map(|artifact| json!([artifact["block"], artifact["plugin"], artifact["path"], artifact["size"]]))
        .collect();
    assert_eq!(
        json!(named),
        json!([
            [1, "acme/probe", "reports/a.txt", 10],
            [1, "acme/probe", "reports/b.txt", 7],
            [2, "acme/probe", "reports/a.txt", 13],
            [2, "acme/probe", "reports/flood", 2 << 20],
        ])
    );
    let digests: BTreeMap<String, String> = list["artifacts"]
        .as_array()
        .expect("artifacts")
        .iter()
        .map(|artifact| {
            let place = format!("{}/{}", artifact["block"], artifact["path"].as_str().expect("path"));
            (place, artifact["digest"].as_str().expect("digest").to_owned())
        })
        .collect();
    assert_eq!(sealed(&world, attempt, 1)["artifacts"][0]["digest"], digests["1/reports/a.txt"]);
    let stored = std::fs::read(support::blob(&world, &digests["1/reports/a.txt"])).expect("blob");
    assert_eq!(stored, b"the report");

    // Small ones are in the bundle, large ones are listed with their size, as patches and outputs are.
    let bundle = world.intact_bundle("art-1");
    let text = String::from_utf8(bundle).expect("text");
    let document: Value = serde_json::from_str(&text).expect("bundle");
    let ending = document["entries"].as_array().expect("entries").iter();
    let ending = ending.filter(|entry| entry["kind"] == "item.reconciled").collect::<Vec<_>>();
    assert_eq!(ending[0]["block_artifacts"], attempt["blockArtifacts"]);
    assert_eq!(document["external"][&digests["2/reports/flood"]], 2 << 20, "{}", document["external"]);
    let list_digest = attempt["blockArtifacts"].as_str().expect("digest").to_owned();
    for digest in
        [&digests["1/reports/a.txt"], &digests["1/reports/b.txt"], &digests["2/reports/a.txt"], &list_digest]
    {
        let encoded =
            document["objects"][digest].as_str().unwrap_or_else(|| panic!("{digest} is not embedded"));
        // Another letter, so that it still is base64.
        let other = if encoded.starts_with('A') { "B" } else { "A" };
        let changed = text.replacen(encoded, &format!("{other}{}", &encoded[1..]), 1);
        world.write("changed.json", changed);
        let report = world.run(&["verify", "changed.json", "--json"]).code(1).json();
        assert_eq!(report["failure"]["check"], "objects", "{report:#}");
        assert!(report.to_string().contains(digest), "{report:#}");
    }
}

#[test]
fn artifacts_of_a_failed_attempt_are_evidence_too() {
    let world = with_probe(REPORTER);
    world.agent("work", "echo work > work.txt");
    let steps = json!([
        ["artifact", "reports/early.txt", "whole"],
        ["artifact", "reports/late.txt", "half", "open"],
        ["panic", "now"]
    ]);
    pipeline(&world, "panics", &[step(&steps)]);
    let _daemon = world.serve();
    let run = support::run(&world, "art-2", &[planned("a", "work", "panics")]);
    assert_eq!(run["state"], "failed", "{run:#}");
    let list = document(&world, &last(&run, "a")["blockArtifacts"]);
    let paths: Vec<&Value> =
        list["artifacts"].as_array().expect("artifacts").iter().map(|artifact| &artifact["path"]).collect();
    assert_eq!(paths, ["reports/early.txt"], "what was not committed is nowhere");
    let _ = world.intact_bundle("art-2");
}
