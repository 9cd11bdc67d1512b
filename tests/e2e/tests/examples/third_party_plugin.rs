//! A pattern and a block from their scaffolds to a sealed run.

use std::fs;

use serde_json::Value;

use crate::ran::{Ran, graph};

#[test]
fn a_pattern_and_a_block_from_their_scaffolds_decide_about_a_run() {
    let ran = Ran::new("third-party-plugin", 1);
    let run = "plugin-1";
    assert_eq!(ran.graph(run), graph(&[("write", &[], "done"), ("after-write", &["write"], "done")]));
    let after = ran.item(run, "after-write");
    assert_eq!(after["addedBy"], "pattern:main");
    assert_eq!(after["addedBecause"], "write is done and asks for a follow-up");
    assert_eq!(ran.blocks("plugin-1/write"), [("acme/small-files".to_owned(), true)].into());

    // What decided is what was approved, and it travels in the bundle.
    let lock = fs::read_to_string(ran.world.path().join("pangolin.lock")).unwrap();
    assert!(lock.contains("acme/after-work") && lock.contains("acme/small-files"), "{lock}");
    let replay = ran.world.run(&["verify", "--replay", "bundle.json", "--json"]).ok().json();
    let components: Vec<&str> = replay["replay"]["components"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|it| it["digest"].as_str())
        .collect();
    assert_eq!(components.len(), 1, "{replay}");
    assert!(lock.contains(components[0]), "{components:?}\n{lock}");
    let bundle: Value =
        serde_json::from_slice(&fs::read(ran.world.path().join("bundle.json")).unwrap()).unwrap();
    assert!(bundle["objects"][components[0]].is_string());
    assert!(ran.stdout.contains("check: two notes"), "{}", ran.stdout);
}
