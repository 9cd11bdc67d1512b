//! The SDK through its public boundary.

use std::io::{self, Read, Write as _};

use pangolin_block_sdk::{
    Block, Fault, Findings, Globs, Input, Level, LineReader, LineSet, MAX_SEGMENT, Output, Params,
    changed_lines, clip, hash_lines,
    mock::{EXECUTABLE, FILE, LINK, Mock},
};
use proptest::prelude::*;

fn all_params(params: &mut Params) {
    params.flag("flag", false);
    params.integer("number", 1..=9, 5);
    params.choice("word", &[("a", 1), ("b", 2)], 1);
    params.string("text");
    let _ = Globs::take(params, "globs", &["**"]);
    params.texts("texts");
    params.levels("rules", [("one", Level::Deny)]);
    params.sections("list", |item| item.string("name"));
    params.typed::<Vec<u8>>("bytes");
}

fn problems(json: &str) -> Vec<String> {
    let mut params = Params::parse(json);
    all_params(&mut params);
    match params.finish() {
        Ok(()) => Vec::new(),
        Err(fault) => {
            assert_eq!(fault.code, "bad-params");
            let detail: Vec<serde_json::Value> =
                serde_json::from_str(&fault.detail.expect("bad-params has a detail"))
                    .expect("bad-params has a detail");
            for item in &detail {
                assert!(
                    fault.message.contains(item["pointer"].as_str().expect("bad-params has a detail")),
                    "{}",
                    fault.message
                );
            }
            detail
                .iter()
                .map(|item| item["pointer"].as_str().expect("bad-params has a detail").to_owned())
                .collect()
        }
    }
}

#[test]
fn every_finding_of_parameters_at_once() {
    assert_eq!(problems(""), [""; 0]);
    assert_eq!(problems("{}"), [""; 0]);
    assert_eq!(problems("[]"), ["/params"]);
    assert_eq!(problems("{"), ["/params"]);
    let wrong = r#"{"flag": 1, "number": 10, "word": "c", "text": [], "globs": ["ok/**", "a/{b", "/abs", "!no", "x/"],
        "texts": {"a/b": 1}, "rules": {"one": "maybe", "two": "off"}, "list": [{}, {"nome": 1}, 3], "bytes": [300],
        "unknown~field": null}"#;
    assert_eq!(
        problems(wrong),
        [
            "/params/flag",
            "/params/number",
            "/params/word",
            "/params/text",
            "/params/globs/1",
            "/params/globs/2",
            "/params/globs/3",
            "/params/globs/4",
            "/params/texts/a~1b",
            "/params/rules/one",
            "/params/rules/two",
            "/params/list/1/nome",
            "/params/list/2",
            "/params/bytes",
            "/params/unknown~0field",
        ]
    );
    assert_eq!(
        problems(r#"{"flag": true, "number": 9, "word": "b", "globs": [], "rules": {"one": "warn"}}"#),
        [""; 0]
    );
}

#[test]
fn globs_match_paths() {
    let globs = Globs::new(["src/**/*.rs", "{a,b}.txt", "*.lock"]).unwrap();
    for (path, expected) in [
        ("src/lib.rs", true),
        ("src/a/b/c.rs", true),
        ("a.txt", true),
        ("x/a.txt", false),
        ("Cargo.lock", true),
        ("x/Cargo.lock", false),
    ] {
        assert_eq!(globs.matches(path), expected, "{path}");
    }
    assert_eq!(Globs::new(["ok", "../up"]).unwrap_err().0, 1);
}

struct Pieces<'a>(&'a [u8], usize);

impl Read for Pieces<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let count = self.0.len().min(self.1).min(into.len());
        into[..count].copy_from_slice(&self.0[..count]);
        self.0 = &self.0[count..];
        Ok(count)
    }
}

fn longest_common(one: &[u64], two: &[u64]) -> usize {
    let mut row = vec![0; two.len() + 1];
    for a in one {
        let mut corner = 0;
        for (at, b) in two.iter().enumerate() {
            let above = row[at + 1];
            row[at + 1] = if a == b { corner + 1 } else { above.max(row[at]) };
            corner = above;
        }
    }
    row[two.len()]
}

proptest! {
    #[test]
    fn lines_are_those_of_the_text(text in "[ab\r\n]{0,80}", piece in 1usize..20) {
        let mut lines = LineReader::new(Pieces(text.as_bytes(), piece));
        let mut seen = Vec::new();
        while let Some(segment) = lines.next_segment().unwrap() {
            prop_assert_eq!(segment.number, seen.len() as u64 + 1);
            seen.push(String::from_utf8(segment.bytes.to_vec()).unwrap());
        }
        let mut expected: Vec<String> =
            text.split_inclusive('\n').map(|line| line.strip_suffix('\n').map_or(line, |it| it.strip_suffix('\r').unwrap_or(it)).to_owned()).collect();
        if expected.last().is_some_and(|last| last.is_empty()) && !text.ends_with('\n') {
            expected.pop();
        }
        prop_assert_eq!(seen, expected);
    }

    #[test]
    fn changed_lines_are_minimal(one in prop::collection::vec(0u64..5, 0..30), two in prop::collection::vec(0u64..5, 0..30)) {
        let change = changed_lines(&one, &two);
        let common = longest_common(&one, &two);
        prop_assert!(change.exact);
        prop_assert_eq!(change.added as usize, two.len() - common);
        prop_assert_eq!(change.removed as usize, one.len() - common);
    }

    #[test]
    fn clipped_text_is_short_and_text(text in "\\PC{0,40}", limit in 3usize..30) {
        prop_assert!(clip(&text, limit).len() <= limit);
    }

    #[test]
    fn random_parameters_never_panic(json in "[\\[\\]{}\":,a-z0-9 ]{0,60}") {
        let _ = problems(&json);
    }
}

#[test]
fn a_moved_block_beyond_the_search_is_a_lower_bound() {
    let before: Vec<u64> = (0..20_000).collect();
    let after: Vec<u64> = (10_000..20_000).chain(0..10_000).collect();
    let change = changed_lines(&before, &after);
    assert!(!change.exact);
    assert!((1_000..=10_000).contains(&change.added), "{change:?}");
    let all_new: Vec<u64> = (100_000..200_000).collect();
    let change = changed_lines(&before, &all_new);
    assert_eq!((change.added, change.removed, change.exact), (100_000, 20_000, true));
}

#[test]
fn a_very_long_line_comes_in_overlapping_segments() {
    let text =
        [vec![b'a'; MAX_SEGMENT * 2], b"needle".to_vec(), vec![b'b'; 100], b"\nnext".to_vec()].concat();
    let mut lines = LineReader::new(Pieces(&text, 10_007));
    let (mut segments, mut hits, mut last) = (0, 0, Vec::new());
    while let Some(segment) = lines.next_segment().unwrap() {
        segments += u32::from(segment.number == 1);
        if segment.number == 1 {
            assert!(
                text[usize::try_from(segment.start).unwrap()..].starts_with(segment.bytes),
                "start of a segment"
            );
        }
        hits += u32::from(segment.bytes.windows(6).any(|window| window == b"needle"));
        last = segment.bytes.to_vec();
        if segment.number == 2 {
            break;
        }
    }
    assert_eq!((segments, last.as_slice()), (3, b"next".as_slice()));
    assert!(hits >= 1);
    let set = LineSet::read(text.as_slice()).unwrap();
    assert!(set.contains(b"next") && !set.contains(b"other"));
    assert_eq!(hash_lines(text.as_slice()).unwrap().len(), 4);
}

#[test]
fn findings_keep_the_first_and_count_all() {
    let mut findings = Findings::new(2);
    (0..5).for_each(|number| findings.push(|| number));
    assert_eq!(serde_json::to_string(&findings).unwrap(), r#"{"shown":[0,1],"total":5}"#);
    let mut findings = Findings::new(1_000);
    (0..1_000).for_each(|_| findings.push(|| "\u{1}".repeat(200)));
    assert_eq!(findings.total(), 1_000);
    assert!(serde_json::to_string(&findings).unwrap().len() < 132_000);
    assert!(findings.shown().len() > 100);
}

struct Reads;

impl Block for Reads {
    fn run(input: &Input<'_>, output: &Output<'_>) -> Result<(), Fault> {
        let listed: Result<Vec<_>, _> = input.files("").map(|entry| entry.map(|entry| entry.path)).collect();
        output.evidence("files", &listed.map_err(|refusal| pangolin_block_sdk::refused(&refusal))?)?;
        let changes: Vec<_> = input
            .changes()?
            .iter()
            .map(|change| format!("{} {} {}", change.path, change.kind.word(), change.binary))
            .collect();
        output.evidence("changes", &changes)?;
        let mut artifact =
            output.artifact("kept.txt").map_err(|refusal| pangolin_block_sdk::refused(&refusal))?;
        let text = input.read_all("workspace/text", 100).unwrap_or_default();
        artifact.write_all(&text).map_err(|error| pangolin_block_sdk::unreadable("kept.txt", &error))?;
        artifact.commit().map_err(|refusal| pangolin_block_sdk::refused(&refusal))?;
        drop(output.artifact("dropped.txt"));
        output.verdict(true, "two\n  lines");
        Ok(())
    }
}

fn tree() -> Mock {
    Mock::new()
        .added("text", "hello")
        .added("image", b"\x89PNG\0\0")
        .changed("run.sh", Some((FILE, b"x")), Some((EXECUTABLE, b"x")))
        .changed("link", Some((FILE, b"x")), Some((LINK, b"../../etc/passwd")))
        .deleted("gone", "x")
}

#[test]
fn a_block_sees_files_and_changes() {
    let outcome = tree().conforms::<Reads>();
    assert!(outcome.passed(), "{outcome:?}");
    assert_eq!(outcome.summary(), "two lines");
    assert_eq!(
        outcome.evidence("files"),
        serde_json::json!([
            "base/gone",
            "base/link",
            "base/run.sh",
            "changes.json",
            "workspace/image",
            "workspace/link",
            "workspace/run.sh",
            "workspace/text"
        ])
    );
    assert_eq!(
        outcome.evidence("changes"),
        serde_json::json!([
            "gone deleted false",
            "image added true",
            "link type-changed false",
            "run.sh modified false",
            "text added false"
        ])
    );
    assert_eq!(
        outcome.artifacts().iter().collect::<Vec<_>>(),
        [(&"kept.txt".to_owned(), &b"hello".to_vec())]
    );
}

#[test]
fn a_refusal_keeps_its_words() {
    let outcome = tree().refuse("changes.json").run::<Reads>();
    let fault = outcome.fault().unwrap();
    assert_eq!(
        (fault.code.as_str(), fault.message.as_str()),
        ("refused", "read \"changes.json\": not granted")
    );
    let garbled = Mock::new().file("changes.json", r#"{"schemaVersion": 2, "changes": []}"#).run::<Reads>();
    assert!(garbled.fault().unwrap().message.contains("schemaVersion 2"), "{garbled:?}");
}

struct Unsealable;

impl Block for Unsealable {
    fn run(_: &Input<'_>, output: &Output<'_>) -> Result<(), Fault> {
        output.evidence("numbers", &serde_json::json!({"a": [1, 0.5]}))
    }
}

#[test]
fn evidence_that_cannot_be_sealed_is_a_fault() {
    let outcome = Mock::new().run::<Unsealable>();
    assert_eq!(outcome.fault().unwrap().code, "bad-evidence");
    assert!(outcome.fault().unwrap().message.contains("/a/1"), "{outcome:?}");
}

struct PageDependent;

impl Block for PageDependent {
    fn run(input: &Input<'_>, output: &Output<'_>) -> Result<(), Fault> {
        let page = input.stage().list_files("", 0, 100).map_or(0, |page| page.len());
        output.verdict(page > 3, &page.to_string());
        Ok(())
    }
}

#[test]
#[should_panic(expected = "the size of a page changes the answers")]
fn conformance_can_fail() {
    tree().conforms::<PageDependent>();
}
