//! Links and paths that lead out of what a block may see.

use serde_json::{Value, json};

use crate::support::{self, REPORTER, holders, last, pipeline, planned, sealed, step, with_probe};

const CANARY: &str = "canary-5b0d7a42";

#[test]
fn no_link_and_no_path_leads_out_of_the_workspace() {
    let world = with_probe(REPORTER);
    world.write("canary.txt", CANARY);
    let outside = world.path().display().to_string();
    // Not confined, so that the links lead to something: whoever follows one gets it.
    world.agent(
        "links",
        &format!(
            "echo good > good.txt; ln -s {outside}/canary.txt file; ln -s {outside} dir; ln -s ../../../.. up; \
             ln -s ../envelope/envelope.json own; mkdir real; ln -s ../good.txt real/inner; ln -s loop loop"
        ),
    );
    let steps = json!([
        ["read", "workspace/file"],
        ["read", "workspace/dir/canary.txt"],
        ["read", "workspace/up/canary.txt"],
        ["read", "workspace/own"],
        ["read", "workspace/real/inner"],
        ["read", "workspace/loop"],
        ["read", "workspace/../envelope/envelope.json"],
        ["read", "workspace/./good.txt"],
        ["read", format!("{outside}/canary.txt")],
        ["read", format!("workspace/{outside}/canary.txt")],
        ["read", "workspace/%2e%2e/envelope/envelope.json"],
        ["read", "workspace/.git/config"],
        ["artifact", "reports/../../escape.txt", "x"],
        ["artifact", "/tmp/escape.txt", "x"],
        ["artifact", "reports/", "x"],
        ["list", "workspace/dir/"],
        ["list", "workspace/"],
        ["read", "workspace/good.txt"],
    ]);
    pipeline(&world, "escapes", &[step(&steps)]);
    let _daemon = world.serve();
    let mut item = planned("a", "links", "escapes");
    item["executor"] = "open".into();
    let run = support::run(&world, "out-1", &[item]);
    assert_eq!(run["state"], "done", "{run:#}");
    let record = sealed(&world, last(&run, "a"), 1);
    let answers = record["evidence"]["steps"].as_array().expect("answers");
    for (step, answer) in steps.as_array().expect("steps").iter().zip(&answers[..15]) {
        assert!(answer["refused"]["reason"].is_string(), "{step}: {answer}");
    }
    assert_eq!(answers[15], json!([]), "no directory is entered through a link");
    let listed: Vec<&str> =
        answers[16].as_array().expect("listing").iter().filter_map(Value::as_str).collect();
    assert!(
        listed.contains(&"workspace/dir") && !listed.iter().any(|path| path.starts_with("workspace/dir/"))
    );
    assert_eq!(answers[17], "good\n");
    assert_eq!(record["artifacts"], json!([]));
    assert!(
        holders(&world.path().join(".pangolin"), CANARY.as_bytes()).is_empty(),
        "nothing outside was read"
    );
    assert!(!world.path().join("escape.txt").exists());
    let _ = world.intact_bundle("out-1");
}
