//! What a block asks for and does not get is an answer to the block and a line of the record.

use serde_json::{Value, json};

use crate::support::{self, PROBE, REPORTER, last, pipeline, planned, sealed, step, with_probe};

#[test]
fn what_was_not_granted_is_denied_recorded_and_explained() {
    let world = with_probe(REPORTER);
    world.agent("work", "echo work > work.txt");
    let steps = json!([
        ["exec", "/bin/sh", ["-c", "echo ran > ran.txt"]],
        ["exec", "/bin/sh", ["-c", "true"]],
        ["fetch", "GET", "https://api.acme.dev/rules"],
        ["exec", "/bin/sh", ["-c", "true"], {}, {"TOKEN": "TOKEN"}],
        ["artifact", "elsewhere/a.txt", "x"],
        ["read", "outputs/a.txt"],
        ["artifact", "reports/a.txt", "x"],
    ]);
    pipeline(&world, "asks", &[step(&steps)]);
    let _daemon = world.serve();
    let run = support::run(&world, "deny-1", &[planned("a", "work", "asks")]);
    // A refusal is an answer: this block went on and had its verdict.
    assert_eq!(run["state"], "done", "{run:#}");
    let record = sealed(&world, last(&run, "a"), 1);
    let answers = record["evidence"]["steps"].as_array().expect("answers");
    let refused: Vec<&Value> = answers.iter().map(|answer| &answer["refused"]["capability"]).collect();
    assert_eq!(json!(refused), json!(["exec", "exec", "net", "exec", "write", "read", null]), "{record:#}");
    assert_eq!((&record["programs"], &record["contacts"]), (&json!([]), &json!([])), "nothing ran");
    let patch = world.run(&["patch", "show", "deny-1/a"]).ok().text();
    assert!(patch.contains("work.txt") && !patch.contains("ran.txt"), "{patch}");

    let why = world.run(&["plugin", "why-denied", "deny-1/a", "--json"]).ok().json();
    let denials = why["denials"].as_array().expect("denials");
    let of = |capability: &str, subject: &str| {
        let found = denials.iter().find(|denial| {
            denial["capability"] == capability
                && denial["subject"].as_str().is_some_and(|text| text.contains(subject))
        });
        found.unwrap_or_else(|| panic!("no {capability} {subject}: {why:#}"))
    };
    for (capability, subject) in [
        ("exec", "ran.txt"),
        ("net", "api.acme.dev"),
        ("write", "elsewhere/a.txt"),
        ("read", "outputs/a.txt"),
    ] {
        let denial = of(capability, subject);
        assert_eq!((&denial["plugin"], &denial["attempt"]), (&json!(PROBE), &json!(1)));
        assert!(denial["rule"].as_str().is_some_and(|rule| !rule.is_empty()), "{denial}");
    }
    // What it asks for in its manifest the project could grant; the line is there to be copied.
    assert_eq!(of("exec", "true")["now"]["by"], "project", "{why:#}");
    assert!(of("exec", "true")["now"]["lineToAdd"].is_string(), "{why:#}");
    // What it never asked for is its manifest's matter.
    assert_eq!(of("write", "elsewhere/a.txt")["now"]["by"], "manifest", "{why:#}");
    let text = world.run(&["plugin", "why-denied", "deny-1/a"]).ok().text();
    assert!(text.contains("acme/probe") && text.contains("[plugins.\"acme/probe\".grant]"), "{text}");
    let _ = world.intact_bundle("deny-1");
}
