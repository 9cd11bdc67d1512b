//! The contracts in `wit/` keep their promises, and the check of that notices when they would not.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

#[path = "../examples/wit_check/check.rs"]
mod check;
mod support;

use std::{fs, path::Path};

#[test]
fn the_released_contracts_are_compatible() {
    let report = check::check(&support::repository().join("wit")).unwrap();
    assert!(report.findings.is_empty(), "{:#?}", report.findings);
    // Something was compared.
    assert!(report.notes.iter().any(|note| note.contains("only adds")), "{:#?}", report.notes);
    for package in ["pangolin-base", "pangolin-pattern", "pangolin-runtime-adapter", "pangolin-block"] {
        let released = format!("{package}@1.0.0");
        assert!(
            !report.notes.iter().any(|note| note.starts_with(&released) && note.contains("not released"))
        );
    }
}

/// Findings when a next version of a package has `change` done to its text.
fn findings(package: &str, change: impl Fn(String) -> String) -> Vec<String> {
    let dir = tempfile::tempdir().unwrap();
    let newest = copy(&support::repository().join("wit"), dir.path(), package);
    let (name, version) = newest.split_once('@').unwrap();
    assert!(version.starts_with("1."), "{version}");
    let next = dir.path().join(format!("{name}@1.99.0"));
    fs::create_dir(&next).unwrap();
    for file in fs::read_dir(dir.path().join(&newest)).unwrap() {
        let file = file.unwrap();
        let text = fs::read_to_string(file.path()).unwrap();
        let head = format!("package {}@{version};", name.replacen('-', ":", 1));
        assert!(text.contains(&head), "{head}");
        let text = text.replace(&head, &head.replace(version, "1.99.0"));
        fs::write(next.join(file.file_name()), change(text)).unwrap();
    }
    check::check(dir.path()).unwrap().findings
}

/// Copies all contracts; answers the folder of the newest version of `package`.
fn copy(from: &Path, to: &Path, package: &str) -> String {
    let mut newest = Vec::new();
    for entry in fs::read_dir(from).unwrap() {
        let (path, name) = (entry.as_ref().unwrap().path(), entry.unwrap().file_name());
        if !path.is_dir() {
            fs::copy(&path, to.join(name)).unwrap();
            continue;
        }
        fs::create_dir(to.join(&name)).unwrap();
        for file in fs::read_dir(&path).unwrap() {
            let file = file.unwrap();
            fs::copy(file.path(), to.join(&name).join(file.file_name())).unwrap();
        }
        if name.to_string_lossy().starts_with(&format!("{package}@")) {
            newest.push(name.to_string_lossy().into_owned());
        }
    }
    newest.sort();
    newest.pop().unwrap()
}

#[track_caller]
fn has(findings: &[String], words: &str) {
    assert!(findings.iter().any(|finding| finding.contains(words)), "{words:?} is missing in {findings:#?}");
}

fn replace<'a>(from: &'a str, to: &'a str) -> impl Fn(String) -> String + 'a {
    move |text| {
        assert!(text.contains(from), "{from:?} is not in the contract any more");
        text.replacen(from, to, 1)
    }
}

const METHOD: &str = "    @since(version = 1.0.0)\n    run-id: func() -> string;\n";

#[test]
fn what_only_adds_is_fine() {
    assert_eq!(findings("pangolin-pattern", |text| text), [""; 0]);
    let added =
        format!("{METHOD}    @since(version = 1.99.0)\n    extra: func(of: u32) -> option<string>;\n");
    assert_eq!(findings("pangolin-pattern", replace(METHOD, &added)), [""; 0]);
    let interface = "@since(version = 1.0.0)\nworld block {";
    let added = format!(
        "@since(version = 1.99.0)\ninterface more {{ @since(version = 1.99.0) f: func(); }}\n{interface}"
    );
    assert_eq!(findings("pangolin-block", replace(interface, &added)), [""; 0]);
}

#[test]
fn what_breaks_plugins_is_found() {
    let renamed = METHOD.replace("run-id", "run-name");
    let broken = findings("pangolin-pattern", replace(METHOD, &renamed));
    has(&broken, "run-id of pangolin-pattern@1.");
    has(&broken, "does not fit any more");
    for (package, from, to) in [
        ("pangolin-pattern", "enum phase { waiting,", "enum phase { lost, waiting,"),
        (
            "pangolin-pattern",
            "record item-brief { index: u32,",
            "record item-brief { colour: u32, index: u32,",
        ),
        ("pangolin-pattern", "now-ms: func() -> u64;", "now-ms: func() -> u32;"),
        ("pangolin-runtime-adapter", "arg: func(value: string);", "arg: func(value: string, more: bool);"),
        ("pangolin-runtime-adapter", "enum channel { out, err }", "enum channel { out, err, log }"),
        (
            "pangolin-block",
            "record entry { path: string, size: u64,",
            "record entry { path: string, size: u32,",
        ),
    ] {
        has(&findings(package, replace(from, to)), "does not fit any more");
    }
    let less = findings("pangolin-block", replace("  export run;\n", ""));
    has(&less, "world block exports []");
    let more =
        findings("pangolin-pattern", replace("  export decide;\n", "  export decide;\n  export planner;\n"));
    has(&more, "world pattern exports");
}

#[test]
fn an_item_without_since_is_found() {
    let bare = METHOD.replace("    @since(version = 1.0.0)\n", "");
    has(&findings("pangolin-pattern", replace(METHOD, &bare)), "run-view.run-id has no @since");
    let old = format!("{METHOD}    @since(version = 1.0.0)\n    extra: func();\n");
    has(&findings("pangolin-pattern", replace(METHOD, &old)), "is new but says it is there since 1.0.0");
    let future = format!("{METHOD}    @since(version = 3.0.0)\n    extra: func();\n");
    has(&findings("pangolin-pattern", replace(METHOD, &future)), "unreleased version 3.0.0");
}

#[test]
fn released_files_stay_as_they_are() {
    let dir = tempfile::tempdir().unwrap();
    copy(&support::repository().join("wit"), dir.path(), "pangolin-base");
    let file = dir.path().join("pangolin-base@1.0.0/base.wit");
    let good = fs::read_to_string(&file).unwrap();
    fs::write(&file, format!("{good}\n// a comment\n")).unwrap();
    has(&check::check(dir.path()).unwrap().findings, "pangolin-base@1.0.0/base.wit was released as");
    fs::write(&file, &good).unwrap();
    assert_eq!(check::check(dir.path()).unwrap().findings, [""; 0]);
    fs::write(file.with_file_name("more.wit"), "package pangolin:base@1.0.0;\n").unwrap();
    has(&check::check(dir.path()).unwrap().findings, "was not part of the release");
    fs::remove_file(file.with_file_name("more.wit")).unwrap();
    fs::remove_dir_all(dir.path().join("pangolin-block@1.0.0")).unwrap();
    has(
        &check::check(dir.path()).unwrap().findings,
        "pangolin-block@1.0.0/block.wit was released and is gone",
    );
}
