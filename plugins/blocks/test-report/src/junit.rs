//! JUnit XML as surefire, pytest, GoogleTest, jest-junit and nextest write it.
//!
//! Tests are counted one by one. Numbers in the attributes of a suite only make it worse: more failures there than tests
//! that say so (a suite that could not start) count as failures.

use std::{
    borrow::Cow,
    io::{self, BufRead},
};

use quick_xml::{
    Error, Reader, XmlVersion,
    events::{BytesStart, Event},
};

use crate::tally::{Counts, Tally};

/// Elements inside each other; real reports have five.
const MAX_DEPTH: usize = 64;

/// One open suite.
#[derive(Default)]
struct Suite {
    claimed: u64,
    counted: u64,
}

/// One open test.
#[derive(Default)]
struct Case {
    name: String,
    message: String,
    failed: bool,
    skipped: bool,
    flaky: bool,
}

struct Walk<'a> {
    tally: &'a mut Tally,
    suites: Vec<Suite>,
    case: Option<Case>,
    /// Names of open elements would repeat what the parser checks; their number is enough.
    depth: usize,
    seen_root: bool,
}

fn bad(problem: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, problem.into())
}

fn parse_error(error: Error) -> io::Error {
    match error {
        Error::Io(inner) => io::Error::new(inner.kind(), inner.to_string()),
        error => bad(format!("is not well-formed XML: {error}")),
    }
}

/// Reads a report.
pub(crate) fn read(source: impl BufRead, tally: &mut Tally) -> io::Result<()> {
    let mut reader = Reader::from_reader(source);
    let mut walk = Walk { tally, suites: Vec::new(), case: None, depth: 0, seen_root: false };
    let mut buffer = Vec::new();
    loop {
        buffer.clear();
        match reader.read_event_into(&mut buffer).map_err(parse_error)? {
            Event::Start(element) => {
                walk.open(&element)?;
                walk.depth += 1;
                if walk.depth > MAX_DEPTH {
                    return Err(bad(format!("has elements more than {MAX_DEPTH} deep")));
                }
            }
            Event::Empty(element) => {
                walk.open(&element)?;
                walk.close(element.local_name().into_inner());
            }
            Event::End(element) => {
                walk.depth = walk.depth.saturating_sub(1);
                walk.close(element.local_name().into_inner());
            }
            Event::DocType(_) => {
                return Err(bad(
                    "has a document type; test tools write none, and entities are never expanded",
                ));
            }
            Event::Eof => break,
            Event::Text(_)
            | Event::CData(_)
            | Event::Comment(_)
            | Event::Decl(_)
            | Event::PI(_)
            | Event::GeneralRef(_) => {}
        }
    }
    if !walk.seen_root {
        return Err(bad("is empty"));
    }
    if walk.depth > 0 {
        return Err(bad("ends in the middle: the test run was stopped while it wrote"));
    }
    Ok(())
}

/// The value of an attribute. An entity that XML does not define stays as it is.
fn attribute(element: &BytesStart<'_>, name: &str) -> Option<String> {
    // Without the check for duplicates, which takes quadratic time; the first one counts.
    let found = element.attributes().with_checks(false).flatten().find(|it| it.key.into_inner() == name)?;
    let value = found.normalized_value(XmlVersion::Implicit1_0);
    Some(value.unwrap_or_else(|_| Cow::Borrowed(&*found.value)).into_owned())
}

fn number(element: &BytesStart<'_>, name: &str) -> u64 {
    attribute(element, name).and_then(|text| text.trim().parse().ok()).unwrap_or_default()
}

impl Walk<'_> {
    fn open(&mut self, element: &BytesStart<'_>) -> io::Result<()> {
        let name = element.local_name();
        let name = name.into_inner();
        if self.depth == 0 {
            if self.seen_root {
                return Err(bad("has more than one root element"));
            }
            self.seen_root = true;
            if !matches!(name, "testsuites" | "testsuite") {
                return Err(bad(format!("is not JUnit XML: its root element is <{name}>")));
            }
        }
        match name {
            "testsuites" | "testsuite" => {
                let claimed = number(element, "failures").saturating_add(number(element, "errors"));
                self.suites.push(Suite { claimed, counted: 0 });
            }
            "testcase" => {
                let class = attribute(element, "classname").unwrap_or_default();
                let test = attribute(element, "name").unwrap_or_default();
                let name = if class.is_empty() { test } else { format!("{class}::{test}") };
                // GoogleTest says it with attributes.
                let is = |key, words: &[&str]| {
                    attribute(element, key)
                        .is_some_and(|value| words.contains(&value.to_ascii_lowercase().as_str()))
                };
                let skipped = is("status", &["notrun", "disabled", "skipped"])
                    || is("result", &["skipped", "suppressed"]);
                self.case = Some(Case { name, skipped, ..Case::default() });
            }
            "failure" | "error" | "rerunFailure" | "rerunError" => {
                if let Some(case) = &mut self.case {
                    case.failed = true;
                    if case.message.is_empty() {
                        case.message = attribute(element, "message")
                            .or_else(|| attribute(element, "type"))
                            .unwrap_or_default();
                    }
                }
            }
            "skipped" | "disabled" => {
                if let Some(case) = &mut self.case {
                    case.skipped = true;
                }
            }
            "flakyFailure" | "flakyError" => {
                if let Some(case) = &mut self.case {
                    case.flaky = true;
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn close(&mut self, name: &str) {
        match name {
            "testcase" => {
                let Some(case) = self.case.take() else { return };
                let mut counts = Counts::default();
                if case.failed {
                    counts.failed = 1;
                    self.tally.name_failure(&case.name, &case.message);
                    if let Some(suite) = self.suites.last_mut() {
                        suite.counted += 1;
                    }
                } else if case.skipped {
                    counts.skipped = 1;
                } else {
                    (counts.passed, counts.flaky) = (1, u64::from(case.flaky));
                }
                self.tally.add(&counts);
            }
            "testsuites" | "testsuite" => {
                let Some(suite) = self.suites.pop() else { return };
                let unlisted = suite.claimed.saturating_sub(suite.counted);
                self.tally.add(&Counts { failed: unlisted, ..Counts::default() });
                if let Some(outer) = self.suites.last_mut() {
                    outer.counted = outer.counted.saturating_add(suite.counted.max(suite.claimed));
                }
            }
            _ => {}
        }
    }
}
