//! What `cargo test` and `cargo nextest run` print.
//!
//! The summary of each test binary counts, because output of the tests stands between the other lines. A binary that
//! began and has no summary makes the report a broken one.

use std::io::{self, Read};

use pangolin_block_sdk::LineReader;

use crate::tally::{Counts, Tally};

/// What libtest said; with nextest it is only the output of single tests.
#[derive(Default)]
struct Libtest {
    counts: Counts,
    /// Tests of a binary that began.
    running: Option<u64>,
    summaries: u64,
    problems: Vec<String>,
}

#[derive(Default)]
struct Nextest {
    counts: Counts,
    has_lines: bool,
    summaries: u64,
}

struct State<'a> {
    tally: &'a mut Tally,
    libtest: Libtest,
    nextest: Nextest,
}

/// Reads a report.
pub(crate) fn read(source: impl Read, tally: &mut Tally) -> io::Result<()> {
    let mut state = State { tally, libtest: Libtest::default(), nextest: Nextest::default() };
    let mut lines = LineReader::new(source);
    while let Some(segment) = lines.next_segment()? {
        // Only the beginning of a line tells.
        if segment.start == 0 {
            state.line(plain(&String::from_utf8_lossy(segment.bytes)).trim_end());
        }
    }
    let State { tally, libtest, nextest } = state;
    if nextest.summaries > 0 {
        tally.add(&nextest.counts);
        return Ok(());
    }
    if nextest.has_lines {
        tally.problem("has lines of nextest but no summary: the test run was stopped");
        return Ok(());
    }
    tally.add(&libtest.counts);
    for problem in libtest.problems {
        tally.problem(problem);
    }
    if let Some(tests) = libtest.running {
        tally.problem(format!(
            "ends in the middle of a test binary with {tests} tests: it crashed or was stopped"
        ));
    }
    if libtest.summaries == 0 && tally.problems().is_empty() {
        tally.problem(
            "has no test result: it is no JUnit XML and no output of cargo test, nextest or libtest JSON",
        );
    }
    Ok(())
}

impl State<'_> {
    /// Lines of libtest begin at the margin, those of nextest are indented to twelve columns; what else is indented is
    /// output of tests.
    fn line(&mut self, line: &str) {
        if let Some(rest) = line.strip_prefix("test result: ") {
            self.libtest.summary(rest);
        } else if let Some(count) = line.strip_prefix("running ").and_then(|rest| {
            rest.strip_suffix(" tests").or_else(|| rest.strip_suffix(" test"))?.parse::<u64>().ok()
        }) {
            if self.libtest.running.replace(count).is_some() {
                self.libtest.problem("has a test binary without a summary: it crashed");
            }
        } else if let Some(name) =
            line.strip_prefix("test ").and_then(|rest| rest.strip_suffix(" ... FAILED"))
        {
            self.tally.name_failure(name, "");
        } else if let Some(rest) = line.strip_prefix("     Summary [") {
            match rest.split_once("] ").and_then(|parts| nextest_summary(parts.1)) {
                Some((counts, not_run)) => {
                    self.nextest.counts.add(&counts);
                    self.nextest.summaries += 1;
                    if not_run > 0 {
                        self.tally.problem(format!("says that {not_run} tests were not run"));
                    }
                }
                None => self.tally.problem(format!("has a summary that cannot be read: {line:?}")),
            }
        } else if let Some((status, name)) = nextest_line(line) {
            self.nextest.has_lines = true;
            let mut words = status.split_whitespace();
            let is_try = status.starts_with("TRY ");
            let failed =
                words.find(|word| matches!(*word, "FAIL" | "TIMEOUT" | "ABORT") || word.starts_with("SIG"));
            // A try may be followed by a better one; what is listed after the summary is final.
            if let Some(word) = failed.filter(|_| !is_try || self.nextest.summaries > 0) {
                self.tally.name_failure(name, if word == "FAIL" { "" } else { word });
            }
        } else if line.starts_with("error: could not compile ") {
            self.tally.problem(format!("says that the tests do not compile: {line}"));
        }
    }
}

impl Libtest {
    fn problem(&mut self, problem: &str) {
        if self.problems.len() < 5 {
            self.problems.push(problem.to_owned());
        }
    }

    /// `ok. 3 passed; 0 failed; 1 ignored; 0 measured; 2 filtered out; finished in 0.01s`
    fn summary(&mut self, text: &str) {
        let parsed = text.split_once(". ").and_then(|(word, numbers)| {
            let mut measured = 0;
            let mut counts = Counts::default();
            for part in numbers.split("; ") {
                let Some((number, what)) = part.split_once(' ') else { continue };
                let place = match what {
                    "passed" => &mut counts.passed,
                    "failed" => &mut counts.failed,
                    "ignored" => &mut counts.skipped,
                    "measured" => &mut measured,
                    _ => continue,
                };
                *place = number.parse::<u64>().ok()?;
            }
            Some((word, counts, measured))
        });
        let Some((word, counts, measured)) = parsed else {
            return self.problem("has a `test result:` line that cannot be read");
        };
        self.summaries += 1;
        self.counts.add(&counts);
        let sum =
            [counts.passed, counts.failed, counts.skipped, measured].into_iter().fold(0, u64::saturating_add);
        // A test can print such a line too. Then the numbers do not fit.
        match self.running.take() {
            None => self.problem("has a `test result:` line without a test binary that began"),
            Some(tests) if tests != sum => {
                self.problem("has a `test result:` line with another number of tests than began")
            }
            Some(_) => {}
        }
        if word != "ok" && counts.failed == 0 {
            self.problem("has a failed test binary without a failed test");
        }
    }
}

/// `PASS [   0.005s] (1/3) crate module::test`: status and test.
fn nextest_line(line: &str) -> Option<(&str, &str)> {
    let (status, rest) = line.split_once(" [")?;
    if status.len() != 12 {
        return None;
    }
    let status = status.trim_start();
    let first = status.split_whitespace().next()?;
    let known = ["PASS", "FAIL", "TIMEOUT", "ABORT", "SKIP", "LEAK", "FLAKY", "SLOW", "TRY"];
    if !known.contains(&first) && !first.starts_with("SIG") {
        return None;
    }
    let (time, mut name) = rest.split_once("] ")?;
    if !time.trim().trim_start_matches('>').ends_with('s') {
        return None;
    }
    name = name.trim();
    if let Some((_, rest)) = name.strip_prefix('(').and_then(|rest| rest.split_once(") ")) {
        name = rest.trim();
    }
    Some((status, name))
}

/// `10 tests run: 9 passed (1 slow, 1 flaky), 1 failed, 1 timed out, 2 skipped`; with `8/10` when it was stopped. Also
/// the number of tests that were not run.
fn nextest_summary(text: &str) -> Option<(Counts, u64)> {
    let (run, results) = text.split_once(" run: ")?;
    let run = run.strip_suffix(" tests").or_else(|| run.strip_suffix(" test"))?;
    let (done, all) = run.split_once('/').unwrap_or((run, run));
    let not_run = all.parse::<u64>().ok()?.saturating_sub(done.parse().ok()?);
    let mut counts = Counts::default();
    let mut notes = String::new();
    let mut plain = String::new();
    let mut depth = 0u32;
    for letter in results.chars() {
        match letter {
            '(' => depth += 1,
            ')' => {
                depth = depth.saturating_sub(1);
                notes.push(',');
            }
            letter if depth > 0 => notes.push(letter),
            letter => plain.push(letter),
        }
    }
    for part in plain.split(',') {
        let (number, what) = part.trim().split_once(' ')?;
        let number: u64 = number.parse().ok()?;
        let sum = match what.trim() {
            "passed" => &mut counts.passed,
            "failed" | "timed out" | "exec failed" | "failed to execute" => &mut counts.failed,
            "skipped" => &mut counts.skipped,
            _ => continue,
        };
        *sum = sum.saturating_add(number);
    }
    let flaky = notes.split(',').find_map(|part| part.trim().strip_suffix(" flaky"));
    counts.flaky = flaky.and_then(|number| number.parse().ok()).unwrap_or_default();
    Some((counts, not_run))
}

/// Text without terminal colours.
fn plain(line: &str) -> String {
    let mut out = String::with_capacity(line.len());
    let mut letters = line.chars();
    while let Some(letter) = letters.next() {
        if letter == '\u{1b}' {
            match letters.next() {
                // `ESC [ parameters letter`
                Some('[') => drop(letters.by_ref().find(|it| ('@'..='~').contains(it))),
                // `ESC ( charset`
                Some('(' | ')') => drop(letters.next()),
                _ => {}
            }
        } else {
            out.push(letter);
        }
    }
    out
}
