//! Patches and outputs from item to item.

use crate::ran::{Ran, graph};

#[test]
fn what_is_handed_over_is_the_sealed_product() {
    let ran = Ran::new("handoff-dag", 1);
    let run = "handoff-1";
    assert_eq!(
        ran.graph(run),
        graph(&[
            ("survey", &[], "done"),
            ("rename", &["survey"], "done"),
            ("check", &["rename", "survey"], "done"),
            ("release", &["check", "rename"], "done"),
        ])
    );
    // The release printed the digests of the files that it got.
    let log = ran.log("handoff-1/release");
    let got = |file: &str| {
        let line = log
            .lines()
            .find(|line| line.starts_with("release: ") && line.ends_with(file))
            .unwrap_or_else(|| panic!("{file}: {log}"));
        format!("sha256:{}", line.split_whitespace().nth(1).unwrap_or_default())
    };
    assert_eq!(ran.item(run, "rename")["resultRef"], got("inputs/work"));
    assert_eq!(ran.item(run, "check")["attempts"][0]["outputs"]["report.txt"], got("inputs/report"));

    let report = ran.report("bundle.json");
    assert_eq!(report["checks"]["handoff"]["ok"], true, "{report}");
    let handoff = report["checks"]["handoff"].to_string();
    // Five needs, and as inputs/deps three patches: of `rename` for both, of `check` (which applied it) for `release`.
    assert!(handoff.contains("8 inputs are sealed products"), "{handoff}");
}
