//! test-report on the mock host.

use std::{fs, path::Path};

use pangolin_block_sdk::mock::{Mock, Outcome};
use pangolin_block_test_report::TestReport;
use proptest::prelude::*;
use serde_json::json;

fn sample(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/samples").join(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// One report under a name that the defaults match.
fn judge(text: impl AsRef<[u8]>) -> Outcome {
    Mock::new().params(r#"{"files": ["outputs/report"]}"#).file("outputs/report", text).run::<TestReport>()
}

fn counts(outcome: &Outcome) -> [u64; 4] {
    assert!(outcome.fault().is_none(), "{outcome:?}");
    let counts = outcome.evidence("counts");
    ["passed", "failed", "skipped", "flaky"].map(|key| counts[key].as_u64().expect("a number"))
}

fn names(outcome: &Outcome) -> Vec<String> {
    let failures = outcome.evidence("failures");
    let shown = failures["shown"].as_array().expect("failures");
    shown.iter().map(|it| it["name"].as_str().expect("name").to_owned()).collect()
}

fn problem(outcome: &Outcome) -> String {
    outcome.evidence("problems")["shown"][0]["problem"].as_str().unwrap_or_default().to_owned()
}

#[test]
fn dialects() {
    for (name, expected, failing) in [
        (
            "surefire.xml",
            [2, 2, 1, 1],
            vec!["dev.acme.CartTest::connects", "dev.acme.CartTest::rejects <null> & co"],
        ),
        ("pytest.xml", [1, 2, 2, 0], vec!["tests.test_broken", "tests.test_cart::test_total"]),
        ("gtest.xml", [1, 1, 2, 0], vec!["CartTest::Total"]),
        ("jest.xml", [1, 2, 1, 0], vec!["cart totals::cart totals", "(not named in the report)"]),
        ("nextest-junit.xml", [2, 1, 0, 1], vec!["demo::tests::bad"]),
        ("cargo-failed.txt", [3, 1, 1, 0], vec!["tests::bad"]),
        ("cargo-colour.txt", [3, 1, 1, 0], vec!["tests::bad"]),
        ("nextest-failed.txt", [2, 1, 1, 1], vec!["demo tests::bad"]),
        ("libtest.json", [2, 1, 1, 0], vec!["tests::bad"]),
        ("nextest-libtest.json", [1, 2, 2, 0], vec!["demo::demo$tests::bad", "demo::demo$tests::flaky"]),
    ] {
        let text = sample(name);
        let outcome = Mock::new()
            .params(r#"{"files": ["outputs/report"]}"#)
            .file("outputs/report", &text)
            .conforms::<TestReport>();
        assert_eq!(counts(&outcome), expected, "{name}: {outcome:#?}");
        assert_eq!(names(&outcome), failing, "{name}");
        assert_eq!(problem(&outcome), "", "{name}");
        assert!(outcome.failed(), "{name}: {}", outcome.summary());
    }
}

#[test]
fn green_reports() {
    let outcome = judge(sample("cargo-ok.txt"));
    assert!(outcome.passed(), "{outcome:#?}");
    assert_eq!(outcome.summary(), "1 passed, 0 failed, 0 skipped in 1 reports");
    let one = r#"<testsuite tests="1" failures="0"><testcase name="a"/></testsuite>"#;
    assert!(judge(one).passed());
}

#[test]
fn nextest_without_capture_counts_each_test_once() {
    let outcome = judge(sample("nextest-no-capture.txt"));
    assert_eq!(counts(&outcome)[..2], [1, 2], "{outcome:#?}");
    assert_eq!(problem(&outcome), "");
}

#[test]
fn requirements() {
    let report = r#"<testsuite><testcase name="a"/><testcase name="b"><failure/></testcase>
        <testcase name="c"><skipped/></testcase></testsuite>"#;
    for (require, green) in [
        (json!({}), false),
        (json!({"maxFailures": 1}), true),
        (json!({"maxFailures": 1, "minTests": 3}), false),
        (json!({"maxFailures": 1, "minTests": 2}), true),
        (json!({"maxFailures": 1, "maxSkipped": 0}), false),
        (json!({"maxFailures": 1, "maxSkipped": 1}), true),
    ] {
        let params = json!({"files": ["outputs/*.xml"], "require": require}).to_string();
        let outcome = Mock::new().params(&params).file("outputs/r.xml", report).run::<TestReport>();
        assert_eq!(outcome.passed(), green, "{require}: {}", outcome.summary());
    }
}

#[test]
fn nothing_is_red() {
    let outcome = Mock::new().run::<TestReport>();
    assert!(outcome.failed());
    assert!(
        outcome.summary().starts_with("no test report matches workspace/**/TEST-*.xml"),
        "{}",
        outcome.summary()
    );
    let empty = r#"<testsuites tests="0"></testsuites>"#;
    assert!(judge(empty).failed());
    let allowed = Mock::new()
        .params(r#"{"files": ["outputs/r"], "require": {"minTests": 0}}"#)
        .file("outputs/r", empty)
        .run::<TestReport>();
    assert!(allowed.passed(), "{}", allowed.summary());
}

#[test]
fn default_places() {
    let good = r#"<testsuite><testcase name="a"/></testsuite>"#;
    let outcome = Mock::new()
        .file("workspace/target/surefire-reports/TEST-dev.acme.CartTest.xml", good)
        .file("workspace/target/nextest/default/junit.xml", good)
        .file("workspace/pom.xml", "<project/>")
        .file("outputs/web/junit.xml", good)
        .file("outputs/cargo-test.txt", sample("cargo-ok.txt"))
        .conforms::<TestReport>();
    assert_eq!(counts(&outcome), [4, 0, 0, 0], "{outcome:#?}");
    assert!(outcome.passed());
}

#[test]
fn broken_reports_are_red_with_the_reason() {
    for (text, reason) in [
        (String::new(), "has no test result"),
        ("hello".into(), "has no test result"),
        ("<project/>".into(), "root element is <project>"),
        ("<testsuite><testcase name='a'/>".into(), "ends in the middle"),
        ("<testsuite><testcase name='a'/></testsuites>".into(), "not well-formed"),
        ("<testsuite/><testsuite/>".into(), "more than one root"),
        (
            "<!DOCTYPE a [<!ENTITY b 'c'>]><testsuite><testcase name='&b;'/></testsuite>".into(),
            "document type",
        ),
        (format!("<testsuite>{}</testsuite>", "<a>".repeat(100)), "more than 64 deep"),
        ("running 3 tests\ntest a ... ok\n".into(), "ends in the middle of a test binary with 3 tests"),
        ("running 1 test\nrunning 1 test\ntest result: ok. 1 passed; 0 failed\n".into(), "without a summary"),
        ("running 1 test\ntest result: ok. 9 passed; 0 failed\n".into(), "another number of tests"),
        ("test result: ok. 9 passed; 0 failed\n".into(), "without a test binary"),
        ("running 1 test\ntest result: FAILED. 1 passed; 0 failed\n".into(), "failed test binary without"),
        ("error: could not compile `demo` (lib) due to 1 previous error\n".into(), "do not compile"),
        ("        PASS [   0.005s] (1/2) demo a\n".into(), "no summary"),
        ("     Summary [   0.1s] 1/2 tests run: 1 passed, 0 skipped\n".into(), "1 tests were not run"),
        (r#"{"type":"suite","event":"started","test_count":1}"#.into(), "did not end"),
        ("{}".into(), "no suite result"),
    ] {
        let outcome = judge(&text);
        assert!(outcome.failed(), "{text}: {}", outcome.summary());
        assert!(problem(&outcome).contains(reason), "{text}: {:?}", problem(&outcome));
    }
}

#[test]
fn claims_of_a_suite_only_make_it_worse() {
    let text = r#"<testsuites><testsuite tests="100" failures="3"><testcase name="a"/><testcase name="b"><failure/></testcase>
        </testsuite></testsuites>"#;
    assert_eq!(counts(&judge(text)), [1, 3, 0, 0]);
    let nested = r#"<testsuites failures="1"><testsuite failures="1"><testsuite failures="1">
        <testcase name="b"><error/></testcase></testsuite></testsuite></testsuites>"#;
    assert_eq!(counts(&judge(nested)), [0, 1, 0, 0]);
}

#[test]
fn entities_are_not_expanded() {
    let text = r#"<testsuite><testcase name="&lt;a&gt; &bomb;"><failure message="&bomb;&bomb;"/></testcase></testsuite>"#;
    let outcome = judge(text);
    assert_eq!(names(&outcome), ["&lt;a&gt; &bomb;"]);
}

#[test]
fn only_reports_of_this_attempt() {
    let good = r#"<testsuite><testcase name="a"/></testsuite>"#;
    let mock = || Mock::new().params(r#"{"changedOnly": true}"#);
    let stale = mock().file("workspace/junit.xml", good).run::<TestReport>();
    assert!(stale.failed());
    assert!(problem(&stale).contains("not of this attempt"));
    assert!(mock().added("junit.xml", good).run::<TestReport>().passed());
    assert!(mock().file("outputs/junit.xml", good).run::<TestReport>().passed());
}

#[test]
fn size_is_bounded() {
    let big = format!("<testsuite><testcase name='a'/><!--{}--></testsuite>", "x".repeat(5_000));
    let run = |limit: u64| {
        let params = json!({"files": ["outputs/r"], "maxFileBytes": limit}).to_string();
        Mock::new().params(&params).file("outputs/r", &big).run::<TestReport>()
    };
    assert!(run(big.len() as u64).passed());
    let outcome = run(big.len() as u64 - 1);
    assert!(outcome.failed() && problem(&outcome).contains("larger than maxFileBytes"), "{outcome:?}");
    let many: String = (0..3_000).map(|it| format!("<testcase name='{it}'><failure/></testcase>")).collect();
    let outcome = judge(format!("<testsuite>{many}</testsuite>"));
    assert_eq!((outcome.evidence("failures")["total"].as_u64(), names(&outcome).len()), (Some(3_000), 50));
    assert!(outcome.summary().len() <= 300);
}

#[test]
fn bad_parameters_are_all_named() {
    let params = r#"{"files": ["junit.xml", "outputs/["], "format": "trx", "require": {"minTest": 1, "maxFailures": -1}}"#;
    let outcome = Mock::new().params(params).run::<TestReport>();
    let message = &outcome.fault().expect("bad parameters").message;
    for pointer in [
        "/params/files/0:",
        "/params/files/1:",
        "/params/format:",
        "/params/require/minTest:",
        "/params/require/maxFailures:",
    ] {
        assert!(message.contains(pointer), "{pointer} is missing in {message}");
    }
    assert_eq!(
        Mock::new().params(r#"{"files": []}"#).run::<TestReport>().fault().expect("fault").code,
        "bad-params"
    );
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_bytes_are_never_green(bytes in prop::collection::vec(any::<u8>(), 0..300), start in prop::sample::select(vec![
        "", "<testsuite>", "<testsuite><testcase name=\"", "running 1 test\n", "{\"type\":\"suite\"", "     Summary [",
        "        FAIL [", "\u{1b}[", "<?xml", "<![CDATA[", "<!--",
    ])) {
        let outcome = judge([start.as_bytes(), &bytes].concat());
        prop_assert!(outcome.fault().is_none());
        prop_assert!(!outcome.passed(), "{:?}", outcome);
    }

    #[test]
    fn cut_reports_are_never_green(name in prop::sample::select(vec!["nextest-junit.xml", "surefire.xml", "pytest.xml", "gtest.xml", "jest.xml"]), at in 0usize..100_000) {
        let text = sample(name);
        // Without the end of the root element.
        let bytes = text.trim_end().as_bytes();
        let at = at % (bytes.len() - 1);
        prop_assert!(!judge(&bytes[..at]).passed());
    }

    #[test]
    fn numbers_are_those_of_the_tests(kinds in prop::collection::vec(0usize..3, 0..40)) {
        let cases: String = kinds.iter().enumerate().map(|(index, kind)| {
            format!("<testcase name='t{index}'>{}</testcase>", ["", "<failure/>", "<skipped/>"][*kind])
        }).collect();
        let outcome = judge(format!("<testsuite>{cases}</testsuite>"));
        let number = |wanted| kinds.iter().filter(|kind| **kind == wanted).count() as u64;
        prop_assert_eq!(counts(&outcome), [number(0), number(1), number(2), 0]);
        prop_assert_eq!(outcome.passed(), number(0) > 0 && number(1) == 0);
    }
}
