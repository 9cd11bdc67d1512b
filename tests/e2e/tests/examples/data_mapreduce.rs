//! Maps over what a splitter leaves, also when one of them fails.

use crate::ran::{Ran, graph};

const MAPS: [&str; 4] = ["map-east.csv", "map-north.csv", "map-south.csv", "map-west.csv"];

#[test]
fn parts_are_mapped_and_reduced_and_a_failed_map_is_never_silent() {
    let ran = Ran::new("data-mapreduce", 3);
    let [east, north, south, west] = MAPS;
    let all = |reduce: &'static [&'static str], west_ended: &'static str| {
        graph(&[
            ("split", &[], "done"),
            (east, &["split"], "done"),
            (north, &["split"], "done"),
            (south, &["split"], "done"),
            (west, &["split"], west_ended),
            ("reduce", reduce, "done"),
        ])
    };
    assert_eq!(ran.graph("sales-1"), all(&MAPS, "done"));
    assert_eq!(ran.log("sales-1/reduce"), "east,20\nnorth,30\nsouth,35\nwest,15\ntotal,100\n");
    assert_eq!(ran.report("sales-1.bundle.json")["outcome"], "done");

    // skip: a report over the others, which names what is missing, and a map that is failed and tolerated.
    assert_eq!(ran.graph("sales-2"), all(&MAPS[..3], "failed"));
    assert_eq!(
        ran.log("sales-2/reduce"),
        "east,20\nnorth,30\nsouth,35\ntotal,85\nincomplete: {\"missing\":[\"west.csv\"]}\n"
    );
    let because = ran.item("sales-2", "reduce")["addedBecause"].to_string();
    assert!(because.contains("map-west.csv failed") && because.contains("six is not an amount"), "{because}");
    assert_eq!(ran.report("sales-2.bundle.json")["outcome"], "done");
    let tolerated = ran.item("sales-2", "map-west.csv");
    assert_eq!(tolerated["tolerated"], "onMapFailure is \"skip\"", "{tolerated}");
    assert!(tolerated["why"].to_string().contains("; tolerated, "), "{tolerated}");
    assert_eq!(ran.item("sales-2", "reduce")["tolerated"], serde_json::Value::Null);

    // fail: no report.
    let mut without = all(&[], "failed");
    without.remove("reduce");
    assert_eq!(ran.graph("sales-3"), without);
    assert_eq!(ran.report("sales-3.bundle.json")["outcome"], "failed");
}
