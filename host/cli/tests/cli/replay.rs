//! `pangolin verify --replay`, on a machine without a deployment.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use pangolin_audit::bundle::Bundle;
use serde_json::Value;

use crate::harness::Place;

const GROWN: &[u8] = include_bytes!("../../../../tests/formats/bundle-v2-growth.json");
const LIE: &[u8] = include_bytes!("../../../../tests/fixtures/replay-differs.json");

#[test]
fn a_run_that_grew_is_executed_again() {
    let place = Place::new();
    // A broken configuration next to it must not matter.
    place.write("pangolin.toml", "this is not toml");
    place.write("bundle.json", GROWN);
    let output = place.run(&["verify", "--replay", "bundle.json"]).code(0);
    assert!(output.stdout.contains("=== Audit bundle ===\nintact: true\n"), "{}", output.stdout);
    assert!(output.stdout.contains("steps decide as recorded"), "{}", output.stdout);
    let left: Vec<_> =
        std::fs::read_dir(place.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left.len(), 2, "{left:?}");

    let report = place.run(&["verify", "--replay", "--json", "bundle.json"]).code(0).json();
    assert_eq!((&report["verdict"], &report["schemaVersion"]), (&"intact".into(), &1.into()));
    let replay = &report["replay"];
    assert_eq!((&replay["verdict"], &replay["schemaVersion"]), (&"agrees".into(), &1.into()), "{replay:#}");
    assert_eq!(replay["agreed"], replay["steps"]);
    // Without the flag nothing is executed.
    assert!(place.run(&["verify", "--json", "bundle.json"]).code(0).json().get("replay").is_none());
}

#[test]
fn a_decision_that_the_pattern_does_not_make_has_its_own_exit_code() {
    let place = Place::new();
    place.write("bundle.json", LIE);
    let output = place.run(&["verify", "--replay", "bundle.json"]).code(6);
    for text in ["intact: true", "✗ REPLAY DIFFERS", "item      one", "member    explanation", "so they say"]
    {
        assert!(output.stdout.contains(text), "{text}: {}", output.stdout);
    }
    // The ordinary verification cannot know.
    place.run(&["verify", "bundle.json"]).code(0);
}

/// The bundle without the component that decided, listed as external or not, and its bytes.
fn without_component(listed: bool) -> (Vec<u8>, Vec<u8>) {
    let mut value: Value = serde_json::from_slice(GROWN).unwrap();
    let decided = |entry: &&Value| entry["kind"] == "pattern.decided";
    let digest = value["entries"].as_array().unwrap().iter().find(decided).unwrap()["component"].clone();
    let digest = digest.as_str().unwrap().to_owned();
    let text = value["objects"].as_object_mut().unwrap().remove(&digest).unwrap();
    let component = STANDARD.decode(text.as_str().unwrap()).unwrap();
    if listed {
        value["external"][&digest] = component.len().into();
    }
    let bytes = pangolin_audit::canon::to_vec(&value).unwrap();
    value["digest"] = Bundle::parse(&bytes).unwrap().digest_of(&bytes).to_string().into();
    (pangolin_audit::canon::to_vec(&value).unwrap(), component)
}

#[test]
fn a_component_that_is_not_included_can_be_given() {
    let place = Place::new();
    let (bundle, component) = without_component(true);
    place.write("bundle.json", bundle);
    place.write("component.wasm", component);
    let output = place.run(&["verify", "--replay", "bundle.json"]).code(3);
    assert!(output.stdout.contains("give its file with --component"), "{}", output.stdout);
    place.run(&["verify", "--replay", "bundle.json", "--component", "component.wasm"]).code(0);
    // Not even listed: that it cannot be judged here outranks that the record is incomplete.
    place.write("bundle.json", without_component(false).0);
    place.run(&["verify", "--replay", "bundle.json"]).code(3);
    place.run(&["verify", "--replay", "bundle.json", "--component", "component.wasm"]).code(4);
    place.run(&["verify", "bundle.json", "--component", "component.wasm"]).code(2);
    place.run(&["verify", "--replay", "bundle.json", "--component", "missing.wasm"]).code(2);
}

#[test]
fn what_is_not_what_was_sealed_is_not_executed() {
    let place = Place::new();
    let mut altered = GROWN.to_vec();
    let at = altered.windows(6).position(|window| window == b"human:").unwrap();
    altered[at + 6] ^= 1;
    place.write("bundle.json", altered);
    place.run(&["verify", "--replay", "bundle.json"]).code(1).says(&["nothing was replayed"]);
    let report = place.run(&["verify", "--replay", "--json", "bundle.json"]).code(1).json();
    assert!(report.get("replay").is_none(), "{report:#}");
    place.write("bundle.json", "{}");
    place.run(&["verify", "--replay", "bundle.json"]).code(1);
}
