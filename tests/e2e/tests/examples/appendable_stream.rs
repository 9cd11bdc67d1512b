//! A run whose producer adds to it.

use serde_json::Value;

use crate::ran::{Ran, graph};

#[test]
fn batches_are_added_once_each_until_the_producer_closes() {
    let ran = Ran::new("appendable-stream", 1);
    let run = "stream-1";
    assert_eq!(
        ran.graph(run),
        graph(&[
            ("day-0", &[], "done"),
            ("day-1", &["day-0"], "done"),
            ("day-2", &["day-1"], "done"),
            ("day-3", &["day-2"], "done"),
        ])
    );
    assert_eq!(ran.item(run, "day-0")["addedBy"], Value::Null);
    for id in ["day-1", "day-2", "day-3"] {
        assert_eq!(ran.item(run, id)["addedBy"], "app:feed", "{id}");
    }
    assert_eq!(ran.log("stream-1/day-3"), "day-3: 155 -> 170\n");

    // Three batches came in, one of them twice; the refused one left nothing.
    let full = ran.world.run(&["verify", "bundle.json", "--full"]).ok().text();
    assert_eq!(full.matches("run.extended").count(), 3, "{full}");
    assert_eq!(full.matches("run.closed").count(), 1, "{full}");
    assert!(!full.contains("day-9"), "{full}");
    assert_eq!(ran.report("bundle.json")["outcome"], "done");
}
