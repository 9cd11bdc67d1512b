//! What works without a configuration, and what says that it needs one.

use std::{io::Read as _, process::Stdio};

use crate::harness::Place;

#[test]
fn verbs_that_need_a_deployment_say_how_to_get_one() {
    let place = Place::new();
    for verb in [
        &["orch", "runs"][..],
        &["orch", "status"],
        &["orch", "serve"],
        &["orch", "watch", "r"],
        &["orch", "audit", "r"],
        &["patch", "list", "r"],
        &["subagent", "list"],
        &["dispatch", "describe", "d-1"],
    ] {
        let output = place.run(verb).code(2).says(&["error: no pangolin.toml in <dir>", "`pangolin init`"]);
        assert_eq!(output.stdout, "", "{verb:?}");
    }
}

#[cfg(not(feature = "aws"))]
#[test]
fn without_aws_deploy_says_how_to_get_it() {
    let place = Place::new();
    for arguments in [&["deploy", "plan", "--stack", "demo"][..], &["deploy", "--help"], &["deploy"]] {
        place.run(arguments).code(2).says(&["error: cannot deploy: built without AWS", "--features aws"]);
    }
}

#[test]
fn errors_have_a_chain_and_hints() {
    let place = Place::new();
    insta::assert_snapshot!(
        "error-config-missing",
        place.run(&["--config", "nowhere.toml", "orch", "runs"]).shown()
    );
    place.write("pangolin.toml", "namespace = '../x'\n[queues.q]\nconcurrency = 0\n");
    insta::assert_snapshot!("error-config-values", place.run(&["orch", "runs"]).shown());
    insta::assert_snapshot!("error-usage", place.run(&["orch", "logs", "fanout-1"]).shown());
    insta::assert_snapshot!("error-key", place.run(&["verify", "b.json", "--key", "nonsense"]).shown());
}

#[test]
fn verify_needs_no_configuration_and_names_what_is_wrong() {
    let place = Place::new();
    place
        .run(&["verify", "missing.json"])
        .code(2)
        .says(&["cannot read missing.json", "caused by: No such file"]);
    // A broken configuration next to it must not matter.
    place.write("pangolin.toml", "this is not toml");
    place.write("bundle.json", "{\"schemaVersion\":1}");
    let output = place.run(&["verify", "bundle.json"]).code(1);
    assert!(output.stdout.contains("=== Audit bundle ===\nintact: false\n"), "{}", output.stdout);
    let report = place.run_with_stdin(&["verify", "-", "--json"], b"not json").code(1).json();
    assert_eq!(report["intact"], false);
    assert_eq!(report["verdict"], "failed");
    assert!(report["failure"]["place"].is_string(), "{report}");
}

#[test]
fn pipelines_are_checked_without_a_deployment() {
    let place = Place::new();
    let good = r#"{"schemaVersion":1,"id":"ci.test","blocks":[{"kind":"agent"},{"kind":"script","command":"make"}]}"#;
    place.write("good.json", good);
    place.write("bad.json", r#"{"schemaVersion":2,"id":"x","blocks":[{"kind":"script","command":" "}]}"#);
    place.write("other.json", "[]");
    assert_eq!(
        place.run(&["pipeline", "validate", "good.json"]).code(0).stdout,
        "valid: ci.test, 2 blocks\n"
    );
    place.run(&["pipeline", "validate", "bad.json"]).code(1).says(&[
        "/schemaVersion",
        "/id",
        "/blocks/0/command",
    ]);
    let report = place.run(&["pipeline", "validate", "bad.json", "--json"]).code(1).json();
    assert_eq!(report["findings"].as_array().unwrap().len(), 3);
    place
        .run(&["pipeline", "validate", "other.json"])
        .code(1)
        .says(&["other.json is not a pipeline", "hint:"]);
}

#[test]
fn completions_and_versions_are_data() {
    let place = Place::new();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let output = place.run(&["completions", shell]).code(0);
        assert!(output.stdout.contains("pangolin") && output.stderr.is_empty());
        assert!(!output.stdout.contains("__supervise"), "{shell}");
    }
    for typo in ["__supervis", "supervise", "_supervise"] {
        let output = place.run(&[typo]).code(2);
        assert!(!output.stderr.contains("__supervise"), "{}", output.stderr);
    }
    assert!(place.run(&["--version"]).code(0).stdout.starts_with("pangolin "));
    place.run(&[]).code(2);
    place.run(&["orch", "frobnicate"]).code(2);
}

#[test]
fn a_reader_that_goes_away_is_not_an_error() {
    let place = Place::new();
    let mut child =
        place.command(&["completions", "zsh"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // More than a pipe holds is written only after the reader is gone.
    drop(child.stdout.take());
    let mut stderr = String::new();
    child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0), "{stderr}");
    assert_eq!(stderr, "");
}
