//! diff-policy on the mock host.

use pangolin_block_diff_policy::DiffPolicy;
use pangolin_block_sdk::mock::{EXECUTABLE, FILE, LINK, Mock, Outcome};
use proptest::prelude::*;
use serde_json::{Value, json};

type Side = Option<(&'static str, &'static [u8])>;

const TEXT: Side = Some((FILE, b"one\n"));
const OTHER: Side = Some((FILE, b"two\n"));

fn run(params: &Value, changes: &[(&str, Side, Side)]) -> Outcome {
    let mock = Mock::new().params(&params.to_string());
    let mock = changes.iter().fold(mock, |mock, (path, before, after)| mock.changed(path, *before, *after));
    mock.conforms::<DiffPolicy>()
}

/// `rule:path` of every finding, denied ones with `!`.
fn found(outcome: &Outcome) -> Vec<String> {
    assert!(outcome.fault().is_none(), "{outcome:?}");
    let findings = outcome.evidence("findings");
    findings["shown"]
        .as_array()
        .expect("findings")
        .iter()
        .map(|it| {
            let mark = if it["level"] == "deny" { "!" } else { "" };
            format!(
                "{}:{}{mark}",
                it["rule"].as_str().expect("rule"),
                it["path"].as_str().unwrap_or_default()
            )
        })
        .collect()
}

fn check(params: Value, changes: &[(&str, Side, Side)], expected: &[&str]) {
    let outcome = run(&params, changes);
    assert_eq!(found(&outcome), expected, "{params} {changes:?}");
    let is_green = !expected.iter().any(|finding| finding.ends_with('!'));
    assert_eq!(outcome.passed(), is_green, "{}", outcome.summary());
}

#[test]
fn defaults_by_kind_of_file() {
    for (path, before, after, expected) in [
        ("src/lib.rs", TEXT, OTHER, vec![]),
        ("src/lib.rs", TEXT, None, vec![]),
        (".github/workflows/ci.yml", None, TEXT, vec!["ci-file:.github/workflows/ci.yml!"]),
        (".gitlab-ci.yml", TEXT, None, vec!["ci-file:.gitlab-ci.yml!"]),
        ("sub/Jenkinsfile", TEXT, OTHER, vec!["ci-file:sub/Jenkinsfile!"]),
        (".woodpecker.yml", TEXT, OTHER, vec!["ci-file:.woodpecker.yml!"]),
        ("Cargo.lock", TEXT, OTHER, vec!["lockfile:Cargo.lock"]),
        ("web/pnpm-lock.yaml", TEXT, OTHER, vec!["lockfile:web/pnpm-lock.yaml"]),
        ("logo.png", None, Some((FILE, b"\x89PNG\0".as_slice())), vec!["binary:logo.png"]),
        ("old.png", Some((FILE, b"\x89PNG\0".as_slice())), None, vec![]),
        ("LICENSE", TEXT, None, vec!["protected-deleted:LICENSE!"]),
        ("LICENSE-MIT", TEXT, OTHER, vec![]),
        (".github/CODEOWNERS", TEXT, None, vec!["protected-deleted:.github/CODEOWNERS!"]),
        ("CODEOWNERS", TEXT, None, vec!["protected-deleted:CODEOWNERS!"]),
        (".gitmodules", None, TEXT, vec!["git-internals:.gitmodules!"]),
        ("a/.GIT/config", None, TEXT, vec!["git-internals:a/.GIT/config!"]),
        (".git. /hooks/x", None, TEXT, vec!["git-internals:.git. /hooks/x!"]),
        (".gitignore", None, TEXT, vec![]),
        ("run.sh", None, Some((EXECUTABLE, b"x".as_slice())), vec!["new-executable:run.sh"]),
        (
            "run.sh",
            TEXT,
            Some((EXECUTABLE, b"one\n".as_slice())),
            vec!["new-executable:run.sh", "mode-change:run.sh"],
        ),
        ("run.sh", Some((EXECUTABLE, b"x".as_slice())), TEXT, vec!["mode-change:run.sh"]),
        ("link", None, Some((LINK, b"src/lib.rs".as_slice())), vec!["symlink:link"]),
        ("a/b/link", None, Some((LINK, b"../../README".as_slice())), vec!["symlink:a/b/link"]),
        (
            "a/link",
            None,
            Some((LINK, b"../../up".as_slice())),
            vec!["symlink:a/link", "symlink-escape:a/link!"],
        ),
        ("link", None, Some((LINK, b"/etc/passwd".as_slice())), vec!["symlink:link", "symlink-escape:link!"]),
        ("link", None, Some((LINK, b"C:\\x".as_slice())), vec!["symlink:link", "symlink-escape:link!"]),
        (
            "link",
            None,
            Some((LINK, b"x/../.git/config".as_slice())),
            vec!["symlink:link", "symlink-escape:link!"],
        ),
        ("f", TEXT, Some((LINK, b"src".as_slice())), vec!["type-change:f", "symlink:f"]),
        ("f", Some((LINK, b"/etc".as_slice())), TEXT, vec!["type-change:f"]),
        ("f", Some((LINK, b"/etc".as_slice())), None, vec![]),
    ] {
        check(json!({}), &[(path, before, after)], &expected);
    }
}

#[test]
fn allowed_and_denied_places() {
    let params = json!({"allow": ["src/**", "docs/**/*.md"], "deny": ["src/secret/**"]});
    let changes = [
        ("docs/a/b.md", None, TEXT),
        ("docs/a/b.txt", None, TEXT),
        ("src/a.rs", TEXT, OTHER),
        ("src/secret/key.rs", TEXT, None),
    ];
    check(params, &changes, &["outside-allow:docs/a/b.txt!", "denied-path:src/secret/key.rs!"]);
}

#[test]
fn levels_and_exemptions() {
    let changes = [
        ("Cargo.lock", TEXT, OTHER),
        (".gitlab-ci.yml", TEXT, OTHER),
        ("run.sh", None, Some((EXECUTABLE, b"x".as_slice()))),
    ];
    check(
        json!({"rules": {"lockfile": "deny", "ci-file": "warn", "new-executable": "off"}}),
        &changes,
        &["ci-file:.gitlab-ci.yml", "lockfile:Cargo.lock!"],
    );
    check(
        json!({"exempt": {"lockfile": ["Cargo.lock"], "ci-file": ["*.yml"]}, "lockfiles": ["run.sh"]}),
        &changes,
        &["lockfile:run.sh", "new-executable:run.sh"],
    );
}

#[test]
fn limits_with_number_and_limit() {
    let changes = [("a", TEXT, OTHER), ("b", None, Some((FILE, b"1\n2\n3\n".as_slice())))];
    let outcome = run(&json!({"maxFiles": 1, "maxLines": 4, "maxBytes": 13}), &changes);
    assert_eq!(found(&outcome), ["too-many-files:!", "too-many-lines:!", "too-many-bytes:!"]);
    let details: Vec<Value> = outcome.evidence("findings")["shown"]
        .as_array()
        .expect("list")
        .iter()
        .map(|it| it["detail"].clone())
        .collect();
    assert_eq!(
        details,
        [
            "2 changed files, the limit is 1",
            "5 added and removed lines, the limit is 4",
            "14 added and removed bytes, the limit is 13"
        ]
    );
    assert!(outcome.summary().contains("3 denied"), "{}", outcome.summary());
    check(json!({"maxFiles": 2, "maxLines": 5, "maxBytes": 14}), &changes, &[]);
    let counts = outcome.evidence("counts");
    assert_eq!((counts["linesAdded"].as_u64(), counts["linesRemoved"].as_u64()), (Some(4), Some(1)));
}

#[test]
fn what_cannot_be_counted_is_red() {
    let mock = Mock::new().modified("a", "x\n", "y\n").refuse("base/a");
    let outcome = mock.run::<DiffPolicy>();
    assert_eq!(found(&outcome), ["uncountable:a!"]);
    assert!(outcome.failed());
}

#[test]
fn an_empty_change_is_green() {
    let outcome = run(&json!({}), &[]);
    assert!(outcome.passed());
    assert_eq!(outcome.summary(), "within the rules; 0 files, +0 -0 lines");
}

#[test]
fn bad_parameters_are_all_named() {
    let params = r#"{"allow": "src", "deny": ["/x"], "maxFiles": -1, "rules": {"binary": "no", "bin": "off"},
        "exempt": {"binary": ["{"], "x": []}, "more": 1}"#;
    let outcome = Mock::new().params(params).run::<DiffPolicy>();
    let message = &outcome.fault().expect("bad parameters").message;
    for pointer in [
        "/params/allow:",
        "/params/deny/0:",
        "/params/maxFiles:",
        "/params/rules/binary:",
        "/params/rules/bin:",
        "/params/exempt/binary/0:",
        "/params/exempt/x:",
        "/params/more:",
    ] {
        assert!(message.contains(pointer), "{pointer} is missing in {message}");
    }
}

#[test]
fn a_long_line_counts_its_bytes_once() {
    let outcome = Mock::new().added("a.js", "x".repeat(300_000)).run::<DiffPolicy>();
    assert_eq!(outcome.evidence("counts")["bytes"], 300_001);
}

#[test]
fn many_findings_stay_bounded() {
    let mock = (0..1_000).fold(Mock::new(), |mock, number| mock.added(&format!(".ci/{number}"), "x"));
    let outcome = mock.run::<DiffPolicy>();
    assert_eq!(outcome.evidence("findings")["total"], 1_001);
    assert_eq!(outcome.evidence("findings")["shown"].as_array().map(Vec::len), Some(50));
    assert!(outcome.summary().len() <= 300);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_changes_never_panic(
        paths in prop::collection::vec("[a-z./\\\\%~: ]{1,12}", 0..6),
        bytes in prop::collection::vec(any::<u8>(), 0..200),
        modes in prop::collection::vec((0usize..4, 0usize..4), 6),
    ) {
        let modes_of = |index| [None, Some(FILE), Some(EXECUTABLE), Some(LINK)][index];
        let mut mock = Mock::new();
        for (path, (before, after)) in paths.iter().zip(modes) {
            mock = mock.changed(path, modes_of(before).map(|mode| (mode, &bytes[..bytes.len() / 2])), modes_of(after).map(|mode| (mode, &bytes[..])));
        }
        let outcome = mock.run::<DiffPolicy>();
        prop_assert!(outcome.fault().is_none());
    }

    #[test]
    fn a_garbled_changes_file_is_a_fault(text in "[\\[\\]{}\":,a-z0-9]{0,60}") {
        let outcome = Mock::new().file("changes.json", text).run::<DiffPolicy>();
        prop_assert!(outcome.fault().is_some_and(|fault| fault.code == "unreadable"));
    }
}
