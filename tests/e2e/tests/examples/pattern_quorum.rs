//! Two of three, one of whom says nothing.

use crate::ran::{Ran, graph};

#[test]
fn silence_is_no_approval_and_the_second_vote_is_about_the_fixed_work() {
    let ran = Ran::new("pattern-quorum", 1);
    let run = "quorum-1";
    let reviewers = ["change::rev-0", "change::rev-1", "change::rev-2"];
    assert_eq!(
        ran.graph(run),
        graph(&[
            ("change", &[], "done"),
            (reviewers[0], &["change"], "done"),
            (reviewers[1], &["change"], "done"),
            (reviewers[2], &["change"], "done"),
            // The findings of those who did not approve.
            ("change-fix-1", &["change", reviewers[0], reviewers[2]], "done"),
            ("change~2", &["change-fix-1"], "done"),
            ("change~2::rev-0", &["change~2"], "done"),
            ("change~2::rev-1", &["change~2"], "done"),
            ("change~2::rev-2", &["change~2"], "done"),
            // Not behind the one that gave no verdict.
            ("change~2::commit", &["change~2", "change~2::rev-0", "change~2::rev-1"], "done"),
        ])
    );
    let passed = |id: &str| ran.item(run, id)["verify"]["passed"].as_bool();
    assert_eq!(reviewers.map(passed), [Some(false), Some(true), None]);
    assert_eq!(
        ["change~2::rev-0", "change~2::rev-1", "change~2::rev-2"].map(passed),
        [Some(true), Some(true), None]
    );
    let because = ran.item(run, "change-fix-1")["addedBecause"].to_string();
    assert!(
        because.contains("change::rev-0 rejects it") && because.contains("change::rev-2 gave no verdict"),
        "{because}"
    );
    assert!(ran.log("quorum-1/change~2::commit").contains("listen = 127.0.0.1:8080\nretries = 5\n"));
    assert_eq!(ran.report("bundle.json")["outcome"], "done");
}
