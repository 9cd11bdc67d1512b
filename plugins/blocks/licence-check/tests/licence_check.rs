//! licence-check on the mock host.

use std::{fs, path::Path};

use pangolin_block_licence_check::LicenceCheck;
use pangolin_block_sdk::mock::{LINK, Mock, Outcome};
use proptest::prelude::*;
use serde_json::json;

fn sample(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/samples").join(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn shown(outcome: &Outcome, key: &str) -> Vec<serde_json::Value> {
    assert!(outcome.fault().is_none(), "{outcome:?}");
    outcome.evidence(key)["shown"].as_array().expect("a list").clone()
}

/// `rule dependency-or-path` of every finding, denied ones with `!`.
fn found(outcome: &Outcome) -> Vec<String> {
    shown(outcome, "findings")
        .iter()
        .map(|it| {
            let subject = it["dependency"].as_str().or_else(|| it["path"].as_str()).expect("subject");
            let mark = if it["level"] == "deny" { "!" } else { "" };
            format!("{} {subject}{mark}", it["rule"].as_str().expect("rule"))
        })
        .collect()
}

/// `change dependency [licence]` of every new dependency.
fn new(outcome: &Outcome) -> Vec<String> {
    shown(outcome, "dependencies")
        .iter()
        .map(|it| {
            let licence = it["licence"].as_str().map_or(String::new(), |licence| format!(" [{licence}]"));
            format!(
                "{} {}{licence}",
                it["change"].as_str().expect("change"),
                it["dependency"].as_str().expect("id")
            )
        })
        .collect()
}

#[test]
fn cargo() {
    let mock = || Mock::new().modified("Cargo.lock", sample("Cargo.before.lock"), sample("Cargo.after.lock"));
    let outcome = mock().conforms::<LicenceCheck>();
    assert_eq!(new(&outcome), ["added cargo:rand_pcg@0.9.0", "updated cargo:serde@1.0.228"]);
    assert_eq!(
        found(&outcome),
        ["unknown-licence cargo:rand_pcg@0.9.0", "unknown-licence cargo:serde@1.0.228"]
    );
    assert!(outcome.passed(), "unknown is a warning by default");
    let strict = mock().params(r#"{"rules": {"unknown-licence": "deny"}}"#).run::<LicenceCheck>();
    assert!(strict.failed());
    let known = r#"{"known": {"cargo:rand_pcg": "MIT/Apache-2.0", "cargo:serde@1.0.228": "MIT OR Apache-2.0"},
        "rules": {"new-dependency": "warn"}}"#;
    let outcome = mock().params(known).run::<LicenceCheck>();
    assert_eq!(found(&outcome), ["new-dependency cargo:rand_pcg@0.9.0"]);
    let vendored = mock()
        .file("workspace/vendor/rand_pcg/Cargo.toml", "[package]\nname='rand_pcg'\nlicense = 'GPL-2.0-only'")
        .file(
            "workspace/vendor/serde-1.0.228/Cargo.toml",
            "[package]\nname='serde'\nlicense = 'MIT OR Apache-2.0'",
        );
    assert_eq!(found(&vendored.run::<LicenceCheck>()), ["denied-licence cargo:rand_pcg@0.9.0!"]);
    let ignored = mock().params(r#"{"ignore": ["cargo:*"]}"#).run::<LicenceCheck>();
    assert_eq!(new(&ignored), [""; 0]);
}

#[test]
fn npm() {
    let mock = || {
        Mock::new().modified(
            "web/package-lock.json",
            sample("package-lock.before.json"),
            sample("package-lock.after.json"),
        )
    };
    let outcome = mock().conforms::<LicenceCheck>();
    assert_eq!(
        new(&outcome),
        [
            "added npm:@scope/tool@2.0.1 [(MIT OR Apache-2.0)]",
            "added npm:closed@1.0.0 [UNLICENSED]",
            "added npm:gplish@3.1.0 [GPL-3.0]",
            "added npm:old-style@0.1.0 [BSD-3-Clause]",
            "added npm:secretive@9.9.9 [SEE LICENSE IN EULA]",
            "added npm:silent@1.0.0",
        ]
    );
    assert_eq!(
        found(&outcome),
        [
            "denied-licence npm:closed@1.0.0!",
            "denied-licence npm:gplish@3.1.0!",
            "invalid-licence npm:secretive@9.9.9",
            "unknown-licence npm:silent@1.0.0",
        ]
    );
    assert!(outcome.failed());
    let installed = mock()
        .file(
            "workspace/web/node_modules/silent/package.json",
            r#"{"licenses": [{"type": "MIT"}, {"type": "GPL-2.0"}]}"#,
        )
        .params(r#"{"allow": ["MIT", "BSD-3-Clause", "GPL-3.0"]}"#);
    assert_eq!(
        found(&installed.run::<LicenceCheck>()),
        ["denied-licence npm:closed@1.0.0!", "invalid-licence npm:secretive@9.9.9"]
    );
    let old = Mock::new().added("package-lock.json", sample("package-lock.v1.json")).run::<LicenceCheck>();
    assert_eq!(new(&old), ["added npm:a@1.0.0", "added npm:b@2.0.0", "added npm:b@3.0.0"]);
}

#[test]
fn python_and_go() {
    for (name, expected) in [
        ("poetry.lock", vec!["added pypi:requests@2.32.5"]),
        ("uv.lock", vec!["added pypi:idna@3.11"]),
        (
            "requirements.txt",
            vec![
                "added pypi:./local",
                "added pypi:flask@3.1.0",
                "added pypi:git+https://example.com/acme/lib.git@v1",
                "added pypi:requests@>=2.31",
                "added pypi:ruamel-yaml@0.18",
                "added pypi:tool@@ https://example.com/tool-1.0.whl",
            ],
        ),
        ("go.sum", vec!["added go:github.com/pkg/errors@v0.9.1"]),
    ] {
        let outcome = Mock::new().added(name, sample(name)).conforms::<LicenceCheck>();
        assert_eq!(new(&outcome), expected, "{name}");
    }
    let text = "Copyright 2015 A\n\nRedistribution and use in source and binary forms, with or\nwithout modification";
    let vendored = Mock::new()
        .added("go.sum", sample("go.sum"))
        .file("workspace/vendor/github.com/pkg/errors/LICENSE", text)
        .run::<LicenceCheck>();
    assert_eq!(new(&vendored), ["added go:github.com/pkg/errors@v0.9.1 [BSD-2-Clause]"]);
    assert_eq!(found(&vendored), [""; 0]);
}

#[test]
fn removed_and_unsupported_and_broken() {
    let removed = Mock::new()
        .modified("Cargo.lock", sample("Cargo.after.lock"), sample("Cargo.before.lock"))
        .run::<LicenceCheck>();
    assert_eq!(removed.evidence("counts")["removed"], 1);
    let gone = Mock::new().deleted("go.sum", sample("go.sum")).run::<LicenceCheck>();
    assert!(gone.passed());
    let other = Mock::new().added("yarn.lock", "x").deleted("bun.lock", "y").run::<LicenceCheck>();
    assert_eq!(found(&other), ["unsupported-lockfile yarn.lock"]);
    for (name, text) in [("Cargo.lock", "package = 1"), ("package-lock.json", "[]"), ("poetry.lock", "\u{0}")]
    {
        let outcome = Mock::new().added(name, text).run::<LicenceCheck>();
        assert_eq!(found(&outcome), [format!("unreadable {name}!")], "not checked is not clean");
    }
    // The old state is broken: everything counts as new.
    let broken = Mock::new().modified("go.sum", [0xff], sample("go.sum")).run::<LicenceCheck>();
    assert_eq!(new(&broken).len(), 1);
    assert!(broken.failed());
    let link = Mock::new().changed("Cargo.lock", None, Some((LINK, b"/etc/passwd"))).run::<LicenceCheck>();
    assert!(link.passed());
}

#[test]
fn expressions() {
    for (allow, deny, licence, expected) in [
        (json!(["MIT"]), json!([]), "MIT", ""),
        (json!(["MIT"]), json!([]), "MIT AND Apache-2.0", "denied-licence"),
        (json!(["MIT"]), json!([]), "MIT OR GPL-3.0-only", ""),
        (json!(["MIT", "Apache-2.0"]), json!([]), "MIT AND Apache-2.0 WITH LLVM-exception", ""),
        (json!(["Apache-2.0 WITH LLVM-exception"]), json!([]), "Apache-2.0", "denied-licence"),
        (json!([]), json!(["AGPL-3.0-only"]), "MPL-2.0", ""),
        (json!([]), json!(["AGPL-3.0-only"]), "AGPL-3.0-only OR MIT", ""),
        (json!([]), json!(["AGPL-3.0-only"]), "AGPL-3.0-or-later", "denied-licence"),
        (json!(["MIT"]), json!(["MIT"]), "MIT", "denied-licence"),
        (
            json!(["GPL-2.0-only WITH Classpath-exception-2.0"]),
            json!(["GPL-2.0-only"]),
            "GPL-2.0-only WITH Classpath-exception-2.0",
            "",
        ),
        (json!(["MIT"]), json!([]), "Apache 2.0", "denied-licence"),
        (json!(["Apache-2.0"]), json!([]), "Apache 2.0", ""),
        (json!(["MIT"]), json!([]), "LicenseRef-Acme", "denied-licence"),
        (json!(["LicenseRef-Acme"]), json!([]), "LicenseRef-Acme", ""),
        (json!(["MIT"]), json!([]), "(MIT", "invalid-licence"),
        (json!(["MIT"]), json!([]), "", "invalid-licence"),
        (json!(["MIT"]), json!([]), "whatever", "invalid-licence"),
    ] {
        let params = json!({"allow": allow, "deny": deny, "rules": {"invalid-licence": "deny"}}).to_string();
        let lock = json!({"packages": {"node_modules/a": {"version": "1", "license": licence}}}).to_string();
        let outcome = Mock::new().params(&params).added("package-lock.json", lock).run::<LicenceCheck>();
        let rules: Vec<String> =
            found(&outcome).iter().map(|it| it.split(' ').next().unwrap_or("").to_owned()).collect();
        let expected: Vec<&str> = if expected.is_empty() { vec![] } else { vec![expected] };
        assert_eq!(rules, expected, "{licence:?} with {allow} and {deny}: {outcome:?}");
    }
}

#[test]
fn headers_and_licence_texts() {
    let mit = "MIT License\n\nPermission is hereby granted, free of charge, to any person obtaining a copy of this \
        software ... The above copyright notice and this permission notice shall be included";
    let gpl = "                    GNU GENERAL PUBLIC LICENSE\n                       Version 3, 29 June 2007\n ... use \
        with the GNU Affero General Public License";
    let apache = "                                 Apache License\n                           Version 2.0, January 2004";
    for (path, text, expected) in [
        ("src/a.rs", "// SPDX-License-Identifier: MIT OR Apache-2.0\nfn main() {}", vec![]),
        ("src/a.c", "/* SPDX-License-Identifier: GPL-2.0-only */", vec!["denied-licence src/a.c!"]),
        (
            "a.html",
            "<!-- SPDX-License-Identifier: GPL-2.0-only WITH Linux-syscall-note -->",
            vec!["denied-licence a.html!"],
        ),
        ("a.py", "#!/usr/bin/env python\n# SPDX-License-Identifier: nonsense", vec!["invalid-licence a.py"]),
        ("src/tags.rs", "const TAG: &str = \"SPDX-License-Identifier: GPL-3.0-only\";", vec![]),
        ("doc.md", "Write `SPDX-License-Identifier: GPL-3.0-only` at the top.", vec![]),
        ("vendor/x/LICENSE", mit, vec![]),
        ("vendor/x/LICENSE-APACHE", apache, vec![]),
        ("COPYING", gpl, vec!["denied-licence COPYING!"]),
        ("LICENSE.txt", "All rights reserved.", vec!["unknown-licence LICENSE.txt"]),
        ("src/license.rs", "fn main() {}", vec![]),
        ("vendor/x/Cargo.toml", "[package]\nname = 'x'", vec!["unknown-licence vendor/x/Cargo.toml"]),
        ("app/Cargo.toml", "[package]\nname = 'x'\nlicense.workspace = true", vec![]),
        ("app/Cargo.toml", "[package", vec!["unreadable app/Cargo.toml!"]),
        ("ui/package.json", r#"{"license": "AGPL-3.0"}"#, vec!["denied-licence ui/package.json!"]),
        ("ui/package.json", r#"{"private": true}"#, vec![]),
    ] {
        let outcome = Mock::new().added(path, text).conforms::<LicenceCheck>();
        assert_eq!(found(&outcome), expected, "{path}: {text}");
    }
    let changed = Mock::new()
        .modified("LICENSE", mit, apache)
        .modified("Cargo.toml", "[package]\nlicense = 'MIT'", "[package]\nlicense = 'Apache-2.0'")
        .modified("ui/Cargo.toml", "[package]\nlicense = 'MIT'", "[package]\nname='a'\nlicense = 'MIT'")
        .deleted("NOTICE", "x")
        .deleted("COPYING", "x")
        .run::<LicenceCheck>();
    assert_eq!(
        found(&changed),
        ["licence-changed COPYING", "licence-changed Cargo.toml", "licence-changed LICENSE"]
    );
}

#[test]
fn names_from_a_lockfile_lead_nowhere_else() {
    let lock = json!({"packages": {"node_modules/../../../outputs/x": {"version": "1"}}}).to_string();
    let outcome = Mock::new()
        .added("package-lock.json", lock)
        .file("workspace/node_modules/../../../outputs/x/package.json", r#"{"license": "MIT"}"#)
        .run::<LicenceCheck>();
    assert_eq!(found(&outcome), ["unknown-licence npm:../../../outputs/x@1"]);
}

#[test]
fn bad_parameters_are_all_named() {
    let params = r#"{"allow": ["MIT", "MIT OR ISC"], "deny": ["Nope"], "known": {"serde": "MIT", "npm:a/b~c": "Nope"},
        "ignore": ["a["], "rules": {"unknown": "off"}, "maxFindings": 501}"#;
    let outcome = Mock::new().params(params).run::<LicenceCheck>();
    let message = &outcome.fault().expect("bad parameters").message;
    for pointer in [
        "/params/allow/1:",
        "/params/deny/0:",
        "/params/known/serde:",
        "/params/known/npm:a~1b~0c:",
        "/params/ignore/0:",
        "/params/rules/unknown:",
        "/params/maxFindings:",
    ] {
        assert!(message.contains(pointer), "{pointer} is missing in {message}");
    }
}

#[test]
fn many_dependencies_stay_bounded() {
    let packages: serde_json::Map<String, serde_json::Value> = (0..5_000)
        .map(|it| (format!("node_modules/p{it}"), json!({"version": "1", "license": "GPL-3.0"})))
        .collect();
    let outcome = Mock::new()
        .added("package-lock.json", json!({"packages": packages}).to_string())
        .run::<LicenceCheck>();
    assert_eq!(outcome.evidence("dependencies")["total"], 5_000);
    assert_eq!(found(&outcome).len(), 50);
    assert!(outcome.summary().len() <= 300);
}

#[test]
fn deep_nesting_is_refused() {
    let deep = 200_000;
    for (name, text) in [
        ("Cargo.lock", format!("a = {}", "[".repeat(deep))),
        ("Cargo.lock", format!("a = {}", "{a=".repeat(deep))),
        ("Cargo.lock", format!("{}a = 1", "a.".repeat(deep))),
        ("poetry.lock", format!("[{}a]", "a.".repeat(deep))),
        ("package-lock.json", "[".repeat(deep)),
        ("package-lock.json", r#"{"dependencies":{"a":"#.repeat(deep)),
    ] {
        let outcome = Mock::new().added(name, text).run::<LicenceCheck>();
        assert_eq!(found(&outcome), [format!("unreadable {name}!")]);
    }
    let expression = format!("// SPDX-License-Identifier: {}MIT", "(".repeat(1_900));
    let outcome = Mock::new().added("a.rs", expression).run::<LicenceCheck>();
    assert_eq!(found(&outcome), ["invalid-licence a.rs"]);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_bytes_never_panic(
        bytes in prop::collection::vec(any::<u8>(), 0..300),
        name in prop::sample::select(vec![
            "Cargo.lock", "package-lock.json", "poetry.lock", "requirements.txt", "go.sum", "LICENSE", "Cargo.toml",
            "package.json", "a.rs",
        ]),
        start in prop::sample::select(vec![
            "", "[[package]]\nname = \"", "{\"packages\": {\"node_modules/a\": ", "// SPDX-License-Identifier: ", "a v1 ",
            "a==", "[package]\nlicense = \"",
        ]),
    ) {
        let outcome = Mock::new().added(name, [start.as_bytes(), &bytes].concat()).run::<LicenceCheck>();
        prop_assert!(outcome.fault().is_none());
    }

    #[test]
    fn random_expressions_never_panic(words in prop::collection::vec(prop::sample::select(vec![
        "MIT", "GPL-2.0", "+", "OR", "AND", "WITH", "(", ")", "/", "LLVM-exception", "LicenseRef-x", "DocumentRef-a:", "é",
    ]), 0..20)) {
        let text = format!("// SPDX-License-Identifier: {}\n", words.join(" "));
        let outcome = Mock::new().added("a.rs", text).run::<LicenceCheck>();
        prop_assert!(outcome.fault().is_none());
    }
}
