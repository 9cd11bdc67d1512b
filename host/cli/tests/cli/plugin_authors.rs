//! `pangolin plugin test`, `run` and `inspect`, without a deployment.

use std::fs;

use pangolin_plugin_authority::{MANIFEST_SECTION, Manifest, embed, extract};
use serde_json::{Value, json};

use crate::harness::{Output, Place};

const CASE: &str = r#"{
  "schemaVersion": 1,
  "plan": { "id": "mr-1", "queue": "ci", "items": [
    { "id": "split", "executor": "dispatch", "depends_on": [], "resourceLocks": [],
      "inputs": { "mapReduce": { "map": { "executor": "dispatch", "inputs": {} },
                                 "reduce": { "executor": "dispatch", "inputs": {} } } } } ] },
  "steps": [ { "outcomes": { "split": { "outputs": ["a", "b"] } },
               "expect": { "spawned": ["map-a", "map-b"] } } ]
}"#;

/// The shipped pattern and a case, in a directory that is no deployment.
fn map_reduce() -> Place {
    let place = Place::new();
    place.write("map-reduce.wasm", pangolin_builtin_plugins::pattern("map-reduce").unwrap());
    place.write("fixtures/two.json", CASE);
    place
}

/// Without what differs from build to build: figures and digests.
fn steady(output: &Output) -> String {
    let mut text = String::new();
    let mut in_number = false;
    for c in output.shown().chars() {
        match c {
            '0'..='9' => {
                if !in_number {
                    text.push('N');
                }
                in_number = true;
            }
            // Of grouped and fractional figures only one sign is left.
            ',' | '.' if in_number => {}
            _ => {
                in_number = false;
                text.push(c);
            }
        }
    }
    let digest = |line: &str| match line.split_once("sha") {
        Some((before, _)) => format!("{before}<digest>"),
        None => line.replace("KiB", "B").replace("MiB", "B"),
    };
    text.lines().map(digest).collect::<Vec<_>>().join("\n")
}

#[test]
fn a_pattern_is_tested_line_by_line() {
    let output = map_reduce().run(&["plugin", "test", "map-reduce.wasm"]).code(0);
    insta::assert_snapshot!(steady(&output));
}

#[test]
fn the_same_as_json() {
    let document = map_reduce().run(&["plugin", "test", "map-reduce.wasm", "--json"]).code(0).json();
    assert_eq!(document["passed"], true);
    assert_eq!(document["kind"], "pattern");
    let checks = document["checks"].as_array().unwrap();
    let names: Vec<&str> = checks.iter().map(|check| check["name"].as_str().unwrap()).collect();
    assert_eq!(
        names,
        [
            "contract",
            "twice-run",
            "seed-swap",
            "page-size",
            "idempotence",
            "unknowns",
            "refusals",
            "limits",
            "decisions",
            "planner",
            "no-traps",
            "fixture:two"
        ]
    );
    let limits = &checks[7]["bill"];
    assert!(limits["fuel"]["used"].as_u64().unwrap() > 0 && limits["fuel"]["limit"].as_u64().is_some());
}

#[test]
fn a_case_step_by_step() {
    let args = ["plugin", "run", "map-reduce.wasm", "--fixture", "fixtures/two.json", "--explain"];
    let output = map_reduce().run(&args).code(0);
    insta::assert_snapshot!(steady(&output));
}

#[test]
fn what_is_not_as_expected_is_said_and_can_be_taken_over() {
    let place = map_reduce();
    let wrong = CASE.replace(", \"map-b\"] }", "] }");
    let file = place.write("fixtures/two.json", wrong);
    let output = place.run(&["plugin", "test", "map-reduce.wasm"]).code(1);
    let line = output.stdout.lines().find(|line| line.contains("fixture:two")).unwrap();
    assert!(line.starts_with("failed") && line.contains("step 1: expected"), "{line}");
    let args = ["plugin", "run", "map-reduce.wasm", "--fixture", "fixtures/two.json"];
    assert!(place.run(&args).code(1).stdout.contains("not as expected: step 1: expected"));
    place.run(&["plugin", "test", "map-reduce.wasm", "--update"]).code(0);
    let updated: Value = serde_json::from_slice(&fs::read(file).unwrap()).unwrap();
    assert_eq!(updated["steps"][0]["expect"]["spawned"], json!(["map-a", "map-b"]));
    place.run(&args).code(0);
}

#[test]
fn fixtures_that_cannot_be_used_are_all_named() {
    let place = map_reduce();
    place.write("fixtures/a.json", "{");
    place.write("fixtures/b.json", r#"{"schemaVersion": 1, "kind": "block"}"#);
    place
        .run(&["plugin", "test", "map-reduce.wasm"])
        .code(2)
        .says(&["a.json", "b.json: the fixture is for a block, the plugin is a pattern"]);
}

#[test]
fn a_component_is_inspected_without_running_it() {
    let place = Place::new();
    let block = pangolin_builtin_plugins::block("secret-scan").unwrap();
    place.write("secret-scan.wasm", block);
    insta::assert_snapshot!(steady(&place.run(&["plugin", "inspect", "secret-scan.wasm"]).code(0)));
    let document = place.run(&["plugin", "inspect", "secret-scan.wasm", "--json"]).code(0).json();
    assert_eq!(document["manifest"]["id"], "secret-scan");
    assert_eq!(document["world"], "block");
    let abilities = document["abilities"].as_array().unwrap();
    let is = |interface: &str| {
        abilities
            .iter()
            .find(|ability| ability["interface"] == interface)
            .map(|ability| ability["is"].clone())
    };
    assert_eq!(is("pangolin:block/stage"), Some(json!("used")));
    assert_eq!(is("pangolin:block/exec"), Some(json!("ignored")));
    assert!(!document["manifest"]["needs"].as_array().unwrap().is_empty());
}

#[test]
fn a_manifest_that_does_not_fit_fails_the_contract_only() {
    let place = Place::new();
    let builtin = pangolin_builtin_plugins::pattern("static-dag").unwrap();
    let data = extract(builtin).unwrap().to_json().into();
    let mut tail = Vec::new();
    let section = wasm_encoder::CustomSection { name: MANIFEST_SECTION.into(), data };
    wasm_encoder::ComponentSection::append_to_component(&section, &mut tail);
    let bare = builtin.strip_suffix(tail.as_slice()).unwrap();
    let manifest = "[plugin]\nid = 'acme/x'\nkind = 'block'\ncontract = '^1.0'\nversion = '0.1.0'\n";
    place.write("x.wasm", embed(bare, &Manifest::from_toml(manifest).unwrap()).unwrap());
    let output = place.run(&["plugin", "test", "x.wasm"]).code(1);
    assert_eq!(output.stdout.lines().count(), 1, "{}", output.stdout);
    assert!(output.stdout.starts_with("failed  contract"), "{}", output.stdout);
}

#[test]
fn a_directory_that_was_not_built_says_what_to_run() {
    let place = Place::new();
    place.run(&["plugin", "new", "mine", "--kind", "pattern", "--lang", "rust"]).code(0);
    place
        .run(&["plugin", "test", "mine"])
        .code(2)
        .says(&["mine.wasm is not there", "pangolin plugin build mine"]);
    place.run(&["plugin", "test"]).code(2).says(&["is no plugin's directory"]);
    place.run(&["plugin", "inspect", "absent.wasm"]).code(2).says(&["cannot read absent.wasm"]);
}

#[test]
fn a_component_is_a_regular_file_of_bounded_size() {
    let place = Place::new();
    // Sparse: far more than would fit into memory.
    fs::File::create(place.path().join("large.wasm")).unwrap().set_len(1 << 40).unwrap();
    place
        .run(&["plugin", "inspect", "large.wasm"])
        .code(1)
        .says(&["it has 1099511627776 bytes, a component has at most 67108864"]);
    place.run(&["plugin", "test", "/dev/zero"]).code(1).says(&["cannot read /dev/zero: not a regular file"]);
}
