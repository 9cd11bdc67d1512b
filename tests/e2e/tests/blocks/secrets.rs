//! A secret of the deployment that a block gets to see by detours.

use std::path::PathBuf;

use serde_json::{Value, json};

use crate::support::{
    self, EVERYTHING, blob, document, holders, last, pipeline, planned, sealed, with_probe,
};

const SECRET: &str = "hush-4c81d2f9-not-for-reports";

#[test]
fn a_secret_is_in_no_evidence_artifact_or_entry_of_a_block() {
    let world = with_probe(EVERYTHING);
    world.run(&["env", "register", "--name", "models", "--secret", &format!("TOKEN=inline:{SECRET}")]).ok();
    // The agent hands its secret to the block in a file.
    world.agent(
        "leaks",
        "printf '%s' \"$TOKEN\" > leak.txt; printf 'before %s after' \"$TOKEN\" > report.txt",
    );
    let steps = json!([
        ["read", "workspace/leak.txt"],
        ["exec", "/bin/sh", ["-c", "test -z \"$TOKEN\" && echo none"]],
        ["exec", "/bin/sh", ["-c", "echo $TOKEN; cat leak.txt >&2"], {}, {"TOKEN": "TOKEN"}],
        ["exec", "/bin/sh", ["-c", "head -c 9 leak.txt; sleep 0.1; tail -c +10 leak.txt"]],
        ["artifact", "reports/clean.txt", "clean"],
        ["copy", "workspace/report.txt", "reports/leak.txt"],
        ["tell", "workspace/leak.txt"],
    ]);
    pipeline(
        &world,
        "leaky",
        &[json!({ "kind": "plugin", "plugin": "acme/probe", "params": { "steps": steps } })],
    );
    let _daemon = world.serve();
    let mut item = planned("a", "leaks", "leaky");
    item["inputs"]["env"] = json!(["models"]);
    let run = support::run(&world, "hush-1", &[item]);
    assert_eq!(run["state"], "done", "{run:#}");
    let attempt = last(&run, "a");
    let record = sealed(&world, attempt, 1);
    let answers = &record["evidence"]["steps"];
    let marker = "<redacted:secret>";
    assert_eq!(answers[0], marker, "{record:#}");
    assert_eq!(answers[1]["stdout"], "none\n", "it is put in place only where that is granted");
    assert_eq!(
        (&answers[2]["stdout"], &answers[2]["stderr"]),
        (&json!(format!("{marker}\n")), &json!(marker))
    );
    assert_eq!(answers[3]["stdout"], marker);
    for (index, reason) in [(5, "the content contains a secret"), (6, "the path contains a secret")] {
        let refused = &answers[index]["refused"];
        assert!(refused["reason"].as_str().is_some_and(|text| text.contains(reason)), "{refused}");
    }
    assert_eq!(record["evidence"][marker], json!([format!("in {marker}")]));
    assert_eq!(record["verdict"]["summary"], marker);
    assert_eq!(record["log"], json!([format!("info {marker}")]));
    assert_eq!(record["secrets_used"], json!(["TOKEN env:TOKEN /bin/sh"]));
    let artifacts = document(&world, &attempt["blockArtifacts"])["artifacts"].clone();
    let paths: Vec<&Value> =
        artifacts.as_array().expect("artifacts").iter().map(|artifact| &artifact["path"]).collect();
    assert_eq!(paths, ["reports/clean.txt"]);

    // In the whole deployment it is where it is kept, and in the patch, which is exact bytes and says so.
    let patch = blob(&world, attempt["patch"].as_str().expect("patch"));
    assert_eq!(document(&world, &attempt["result"])["secrets_in"], json!(["patch"]));
    world.until_cleaned_up();
    let state = world.path().join(".pangolin");
    let left: Vec<PathBuf> = holders(&state, SECRET.as_bytes())
        .into_iter()
        .filter(|path| *path != patch && !path.starts_with(state.join("secrets")))
        .collect();
    assert_eq!(left, Vec::<PathBuf>::new());
    for arguments in [
        &["orch", "logs", "hush-1/a", "--events"][..],
        &["plugin", "why-denied", "hush-1/a"],
        &["orch", "status", "hush-1", "--json"],
    ] {
        let output = world.run(arguments).ok();
        assert!(!output.text().contains(SECRET) && !output.stderr.contains(SECRET), "{arguments:?}");
    }
    assert!(!String::from_utf8_lossy(&world.intact_bundle("hush-1")).contains(SECRET));
}
