//! secret-scan on the mock host.

use std::{collections::BTreeSet, fs, path::Path};

use pangolin_block_sdk::mock::{EXECUTABLE, FILE, LINK, Mock, Outcome};
use pangolin_block_secret_scan::SecretScan;
use proptest::prelude::*;
use serde_json::{Value, json};

// In two parts, so that this file is no leak.
const TOKEN: &str = concat!("ghp", "_b7Kq2VxT9mLzR4cWn8PdYf3HsJ6gQe1AuXoB");
const OTHER: &str = concat!("ghp", "_Zq2VxT9mLzR4cWn8PdYf3HsJ6gQe1AuXoB7K");

fn samples(folder: &str) -> Vec<(String, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/samples").join(folder);
    let mut files: Vec<_> = fs::read_dir(&folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .map(|entry| entry.expect("an entry").path())
        .map(|path| {
            let name = path.file_name().expect("a name").to_string_lossy().into_owned();
            (name, fs::read_to_string(&path).expect("text"))
        })
        .collect();
    files.sort();
    assert!(files.len() >= 4, "samples are missing");
    files
}

fn scan(mock: Mock) -> Outcome {
    mock.run::<SecretScan>()
}

/// `rule:line` of every finding shown.
fn found(outcome: &Outcome) -> Vec<String> {
    let shown = outcome.evidence("findings");
    let shown = shown["shown"].as_array().expect("findings");
    shown.iter().map(|it| format!("{}:{}", it["rule"].as_str().expect("rule"), it["line"])).collect()
}

#[test]
fn realistic_clean_files_are_green() {
    for (name, text) in samples("clean") {
        let outcome = scan(Mock::new().added(&name, &text));
        assert!(outcome.passed(), "{name}: {outcome:#?}");
        assert_eq!(found(&outcome), [""; 0], "{name}: {outcome:#?}");
        let workspace =
            Mock::new().params(r#"{"scope": "workspace"}"#).file(&format!("workspace/{name}"), &text);
        assert_eq!(found(&scan(workspace)), [""; 0], "{name} in scope workspace");
    }
}

#[test]
fn every_marked_line_is_found_and_nothing_of_it_is_shown() {
    for (name, marked) in samples("leaky") {
        let mut text = String::new();
        let mut expected = Vec::new();
        let mut secrets = Vec::new();
        for (index, line) in marked.lines().enumerate() {
            let line = match line.split_once(" <-- ") {
                Some((line, rule)) => {
                    expected.push(format!("{rule}:{}", index + 1));
                    line
                }
                None => line,
            };
            // What follows the break is secret for certain.
            secrets.extend(line.split_once("@@").map(|parts| parts.1[..12].to_owned()));
            text.push_str(&line.replace("@@", ""));
            text.push('\n');
        }
        let outcome = Mock::new().added(&name, &text).conforms::<SecretScan>();
        assert_eq!(found(&outcome), expected, "{name}: {outcome:#?}");
        assert!(outcome.failed(), "{name}");
        let everything = outcome.everything();
        for secret in secrets {
            assert!(!everything.contains(&secret), "{name} shows {secret}");
        }
    }
}

#[test]
fn only_added_lines_count() {
    let before = format!("one\nold = \"{TOKEN}\"\ntwo\n");
    let after = format!("zero\none\ntwo\nold = \"{TOKEN}\"\nnew = \"{OTHER}\"\n");
    let mock = Mock::new().modified("a.py", &before, &after).file("workspace/untouched.py", TOKEN);
    assert_eq!(found(&scan(mock.clone())), ["github-token:5"]);
    assert_eq!(
        found(&scan(mock.clone().params(r#"{"scope": "workspace"}"#))),
        ["github-token:4", "github-token:5", "github-token:1"]
    );
    // The old state cannot be read: everything counts as added.
    assert_eq!(found(&scan(mock.refuse("base/a.py"))), ["github-token:4", "github-token:5"]);
    let only_mode =
        Mock::new().changed("run.sh", Some((FILE, TOKEN.as_bytes())), Some((EXECUTABLE, TOKEN.as_bytes())));
    assert!(scan(only_mode).passed());
    assert!(scan(Mock::new().deleted("gone.py", TOKEN)).passed());
    let link = Mock::new().changed("link", None, Some((LINK, TOKEN.as_bytes())));
    assert!(scan(link.clone()).passed());
    assert!(scan(link.params(r#"{"scope": "workspace"}"#)).passed(), "a link is no file that was left out");
}

#[test]
fn new_key_material_under_an_old_header() {
    let key =
        |body: &str| format!("-----BEGIN RSA PRIVATE KEY-----\n{body}\n-----END RSA PRIVATE KEY-----\n");
    let before = key("MIIEowIBAAKCAQEA7Zq2VxT9mLzR4cWn8PdYf3HsJ6gQe1AuXoB7K9Qm2XvB7nT1");
    let after = key("MIIEpAIBAAKCAQEAx4Vt9KbMxNq7PwLr2CzHj8GyTfWs5sDfG3aQeUoXiR6b7Kq2");
    let outcome = scan(Mock::new().modified("key.pem", &before, &after));
    assert_eq!(found(&outcome), ["private-key:1"]);
    assert!(scan(Mock::new().modified("key.pem", &before, format!("{before}# note\n"))).passed());
}

#[test]
fn exceptions_are_parameters() {
    let mock = || Mock::new().added("src/a.py", TOKEN).added("tests/fixtures/b.py", OTHER);
    let outcome = scan(mock());
    assert_eq!(outcome.evidence("findings")["total"], 2);
    let hash = outcome.evidence("findings")["shown"][0]["hash"].as_str().expect("hash").to_owned();
    let allowed =
        scan(mock().params(&json!({"allowPaths": ["tests/**"], "allowFindings": [hash]}).to_string()));
    assert!(allowed.passed(), "{allowed:?}");
    assert_eq!(allowed.evidence("counts")["allowed"], 1);
    assert_eq!(allowed.evidence("counts")["skippedPaths"], 1);
    let warned = scan(mock().params(r#"{"rules": {"github-token": "warn"}}"#));
    assert!(warned.passed());
    assert_eq!(warned.evidence("findings")["total"], 2);
    let off = scan(mock().params(r#"{"rules": {"github-token": "off"}}"#));
    assert_eq!(off.evidence("findings")["total"], 0);
}

#[test]
fn token_formats_of_the_users_own() {
    let params = r#"{"customTokens": [{"id": "acme-token", "prefix": "acme_", "charset": "hex", "min": 24, "max": 24}],
        "rules": {"acme-token": "warn"}}"#;
    let mock = Mock::new().params(params).added(
        "a.txt",
        "use acme_f3a9c1d7e85b40268d1f7ac9 or acme_short or acme_f3a9c1d7e85b40268d1f7ac9ff\n",
    );
    let outcome = scan(mock);
    assert_eq!(found(&outcome), ["acme-token:1"]);
    assert!(outcome.passed());
}

#[test]
fn binary_outputs_and_unreadable_files() {
    let binary = [b"\0\0", TOKEN.as_bytes()].concat();
    let outcome = scan(Mock::new().added("a.bin", &binary));
    assert!(outcome.passed());
    assert_eq!(outcome.evidence("counts")["skippedBinary"], 1);
    assert!(scan(Mock::new().params(r#"{"binaries": "scan"}"#).added("a.bin", &binary)).failed());

    let output = Mock::new().file("outputs/report.md", TOKEN);
    assert!(scan(output.clone()).passed());
    let outcome = scan(output.params(r#"{"outputs": true}"#));
    assert_eq!(outcome.evidence("findings")["shown"][0]["path"], "outputs/report.md");

    let closed = || Mock::new().added("a.py", "x").refuse("workspace/a.py");
    let outcome = scan(closed());
    assert!(outcome.failed(), "not scanned is not clean");
    assert_eq!(outcome.evidence("unread")["shown"][0]["path"], "a.py");
    assert!(scan(closed().params(r#"{"rules": {"unreadable": "warn"}}"#)).passed());
    assert_eq!(scan(Mock::new().refuse("changes.json")).fault().expect("fault").code, "refused");
}

#[test]
fn a_path_that_is_a_secret_is_not_shown() {
    let outcome = scan(Mock::new().added(&format!("keys/{TOKEN}.txt"), TOKEN));
    assert!(outcome.failed());
    assert!(!outcome.everything().contains(&TOKEN[4..]), "{outcome:#?}");
}

#[test]
fn bad_parameters_are_all_named() {
    let params = r#"{"scope": "all", "allowFindings": ["ABC"], "allowPaths": ["a/["], "maxFindings": 0,
        "generic": {"minLength": 1}, "rules": {"github-tokens": "deny"},
        "customTokens": [{"id": "jwt", "prefix": "x", "min": 9, "max": 8}]}"#;
    let outcome = scan(Mock::new().params(params));
    let fault = outcome.fault().expect("bad parameters");
    let detail: Vec<Value> = serde_json::from_str(fault.detail.as_deref().expect("detail")).expect("JSON");
    let pointers: BTreeSet<&str> = detail.iter().filter_map(|it| it["pointer"].as_str()).collect();
    let expected = BTreeSet::from([
        "/params/scope",
        "/params/allowFindings/0",
        "/params/allowPaths/0",
        "/params/maxFindings",
        "/params/generic/minLength",
        "/params/customTokens/0/id",
        "/params/customTokens/0/prefix",
        "/params/customTokens/0/min",
        "/params/rules/github-tokens",
    ]);
    assert_eq!(pointers, expected);
}

#[test]
fn output_is_bounded_and_counted() {
    let text: String = (0..2_000).map(|_| format!("a = \"{TOKEN}\"\n")).collect();
    let outcome = scan(Mock::new().added("a.py", text));
    assert_eq!(outcome.evidence("findings")["total"], 2_000);
    assert_eq!(outcome.evidence("findings")["shown"].as_array().map(Vec::len), Some(50));
    assert!(outcome.summary().len() <= 300);
}

#[test]
fn a_token_in_a_line_of_megabytes_is_found_once() {
    for filler in [60_000, 61_400, 65_520, 65_536, 70_000, 200_000] {
        let line =
            format!("var a=\"{}\";b=\"{TOKEN}\";c=\"{}\"", "ab ".repeat(filler / 3), "cd ".repeat(50_000));
        let outcome = scan(Mock::new().added("app.min.js", line));
        assert_eq!(found(&outcome), ["github-token:1"], "filler {filler}");
    }
}

#[test]
fn a_file_full_of_beginnings_takes_linear_time() {
    for part in [
        "-eyJ",
        " sk-ant-",
        "://u:",
        "-----BEGIN ",
        "token=",
        "eyJ.eyJ.",
        "eyJaaaaaaaaaa.",
        "password: \"",
        "Bearer ",
    ] {
        let started = std::time::Instant::now();
        let outcome = scan(Mock::new().added("a.yaml", part.repeat(300_000 / part.len())));
        assert!(outcome.fault().is_none(), "{part}");
        // About a second in a debug build; quadratic time would be a minute.
        assert!(started.elapsed().as_secs() < 20, "{part}: {:?}", started.elapsed());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..600), prefix in prop::sample::select(vec![
        "", "password = \"", "-----BEGIN RSA PRIVATE KEY-----", "://u:", "eyJ", "SG.", "token: str =", "Bearer ", "\\",
    ])) {
        let text = [prefix.as_bytes(), &bytes, b"\n", prefix.as_bytes()].concat();
        let outcome = scan(Mock::new().params(r#"{"binaries": "scan"}"#).added("a.yaml", &text));
        prop_assert!(outcome.fault().is_none());
    }

    #[test]
    fn a_token_is_found_wherever_it_stands_and_never_shown(
        before in "[ -~]{0,80}[ =\"'(:]", after in "[ \"'),;][ -~]{0,80}", body in "[a-zA-Z0-9]{36}", line in 0usize..5,
    ) {
        let token = format!("{}{body}", concat!("ghp", "_"));
        let text = format!("{}{before}{token}{after}\n", "filler\n".repeat(line));
        let outcome = scan(Mock::new().added("some/file.txt", text));
        let everything = outcome.everything();
        prop_assert!(!everything.contains(&body));
        // Bodies that look like a placeholder or repeat themselves are let go.
        let distinct: BTreeSet<char> = body.chars().collect();
        if distinct.len() > 15 && !body.to_lowercase().contains("xxxx") {
            prop_assert!(found(&outcome).contains(&format!("github-token:{}", line + 1)), "{:?}", outcome);
        }
    }

    #[test]
    fn text_without_secrets_is_green(words in prop::collection::vec("[a-z]{1,12}", 0..60)) {
        let outcome = scan(Mock::new().added("notes.txt", words.join(" ")));
        prop_assert!(outcome.passed());
    }
}
