//! A red gate, a fix, a green gate.

use crate::ran::{Ran, graph};

#[test]
fn a_red_review_gets_its_fix_and_what_was_skipped_runs_behind_the_green_one() {
    let ran = Ran::new("pattern-dogfood", 1);
    let run = "dogfood-1";
    assert_eq!(
        ran.graph(run),
        graph(&[
            ("implement", &[], "done"),
            ("review", &["implement"], "done"),
            ("publish", &["implement", "review"], "skipped"),
            ("review-fix-1", &["implement", "review"], "done"),
            ("review~2", &["review-fix-1"], "done"),
            ("publish~2", &["review-fix-1", "review~2"], "done"),
        ])
    );
    assert_eq!(ran.item(run, "review")["supersededBy"], "review~2");
    assert_eq!(ran.item(run, "publish")["supersededBy"], "publish~2");
    for id in ["review-fix-1", "review~2", "publish~2"] {
        assert_eq!(ran.item(run, id)["addedBy"], "pattern:ci", "{id}");
    }

    // Why it was red, and that both blocks looked again.
    let verdicts = |passed| {
        [("secret-scan", passed), ("diff-policy", passed)].map(|(id, passed)| (id.to_owned(), passed)).into()
    };
    assert_eq!(ran.item(run, "review")["verify"]["passed"], false);
    assert_eq!(ran.blocks("dogfood-1/review"), verdicts(false));
    assert_eq!(ran.item(run, "review~2")["verify"]["passed"], true);
    assert_eq!(ran.blocks("dogfood-1/review~2"), verdicts(true));

    // The fix had the findings, and its work is what was published.
    assert!(ran.log("dogfood-1/review-fix-1").contains("upload.env: nobody asked for this file"));
    let fixed = ran.world.run(&["patch", "show", "dogfood-1/review-fix-1"]).ok().text();
    assert!(fixed.contains("+++ b/slug.sh") && !fixed.contains("upload.env"), "{fixed}");
    assert!(ran.item(run, "publish~2")["attempts"][0]["outputs"]["slug-1.0.sh"].is_string());
    assert_eq!(ran.report("bundle.json")["outcome"], "done");
}
