//! Turns test reports into a verdict: JUnit XML, the text of `cargo test` and of nextest, and libtest's JSON lines.
//!
//! A report proves what the file says, not that the tests ran: let a step before it run them, or set `changedOnly`. No
//! report, a broken one and one without tests are red.
//!
//! Deliberately not here: running tests, and formats of other tools (let those write JUnit XML).

mod cargo_text;
mod junit;
mod libtest_json;
mod params;
mod tally;

use std::{
    collections::BTreeSet,
    io::{self, BufRead as _, BufReader},
};

use pangolin_block_sdk::{Block, Fault, Findings, Input, Output, clip, refused};
use serde::Serialize;

use crate::{
    params::{Format, Params},
    tally::Tally,
};

/// The block.
#[derive(Debug)]
pub struct TestReport;

/// Evidence: one report.
#[derive(Debug, Serialize)]
struct Report {
    path: String,
    format: &'static str,
    #[serde(flatten)]
    counts: tally::Counts,
}

/// Evidence: a test that failed.
#[derive(Debug, Serialize)]
struct Failure {
    path: String,
    name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    message: String,
}

/// Evidence: a report that says nothing reliable.
#[derive(Debug, Serialize)]
struct Problem {
    path: String,
    problem: String,
}

struct Run {
    params: Params,
    total: tally::Counts,
    reports: Findings<Report>,
    failures: Findings<Failure>,
    problems: Findings<Problem>,
}

impl Block for TestReport {
    fn run(input: &Input<'_>, output: &Output<'_>) -> Result<(), Fault> {
        let params = Params::read(input)?;
        let limit = params.max_findings;
        let mut run = Run {
            params,
            total: tally::Counts::default(),
            reports: Findings::new(limit),
            failures: Findings::new(limit),
            problems: Findings::new(limit),
        };
        let changed = run.params.changed_only.then(|| input.changes()).transpose()?.map(|changes| {
            changes.iter().map(pangolin_block_sdk::Change::now_path).collect::<BTreeSet<String>>()
        });
        for path in run.list(input)? {
            let is_stale = path.starts_with("workspace/")
                && changed.as_ref().is_some_and(|changed| !changed.contains(&path));
            if is_stale {
                run.problem(&path, "was there before and did not change, so it is not of this attempt");
                continue;
            }
            run.file(input, &path);
        }
        run.answer(output)
    }
}

impl Run {
    fn list(&self, input: &Input<'_>) -> Result<BTreeSet<String>, Fault> {
        let mut paths = BTreeSet::new();
        for prefix in &self.params.prefixes {
            for entry in input.files(prefix) {
                let entry = entry.map_err(|refusal| refused(&refusal))?;
                if self.params.files.matches(&entry.path) {
                    paths.insert(entry.path);
                }
            }
        }
        Ok(paths)
    }

    fn problem(&mut self, path: &str, problem: impl AsRef<str>) {
        self.problems.push(|| Problem {
            path: clip(path, 300).into_owned(),
            problem: clip(problem.as_ref(), 300).into_owned(),
        });
    }

    fn file(&mut self, input: &Input<'_>, path: &str) {
        match self.read(input, path) {
            Ok((format, tally)) => {
                let counts = tally.counts();
                self.total.add(&counts);
                self.reports.push(|| Report {
                    path: clip(path, 300).into_owned(),
                    format: format.word(),
                    counts,
                });
                for problem in tally.problems() {
                    self.problem(path, problem);
                }
                for (name, message) in tally.failing() {
                    self.failures.push(|| Failure {
                        path: clip(path, 300).into_owned(),
                        name: name.clone(),
                        message: message.clone(),
                    });
                }
                // Failures that no test is named for.
                for _ in (tally.failing().len() as u64)..tally.counts().failed {
                    self.failures.push(|| Failure {
                        path: clip(path, 300).into_owned(),
                        name: "(not named in the report)".to_owned(),
                        message: String::new(),
                    });
                }
            }
            Err(error) => self.problem(path, error.to_string()),
        }
    }

    fn read(&self, input: &Input<'_>, path: &str) -> io::Result<(Format, Tally)> {
        let limit = self.params.max_file_bytes;
        let mut source =
            BufReader::with_capacity(64 << 10, Limited { inner: input.open(path), left: limit, limit });
        let format = match self.params.format {
            Some(format) => format,
            None => detect(source.fill_buf()?),
        };
        let mut tally = Tally::new(self.params.max_findings);
        match format {
            Format::Junit => junit::read(source, &mut tally)?,
            Format::Cargo => cargo_text::read(source, &mut tally)?,
            Format::LibtestJson => libtest_json::read(source, &mut tally)?,
        }
        Ok((format, tally))
    }

    fn answer(self, output: &Output<'_>) -> Result<(), Fault> {
        let Self { params, total, reports, failures, problems } = self;
        output.evidence("counts", &total)?;
        output.evidence("reports", &reports)?;
        output.evidence("failures", &failures)?;
        if problems.total() > 0 {
            output.evidence("problems", &problems)?;
        }
        let mut red = Vec::new();
        if reports.total() + problems.total() == 0 {
            let patterns: Vec<&str> = params.files.iter().take(3).collect();
            red.push(format!("no test report matches {}", patterns.join(", ")));
        }
        if let Some(first) = problems.shown().first() {
            let more = if problems.total() > 1 {
                format!(" and {} more", problems.total() - 1)
            } else {
                String::new()
            };
            red.push(format!("{}: {}{more}", first.path, first.problem));
        }
        let ran = total.passed + total.failed;
        if ran < params.min_tests {
            red.push(format!("{ran} tests ran, at least {} are required", params.min_tests));
        }
        if total.failed > params.max_failures {
            let names: Vec<&str> = failures.shown().iter().take(3).map(|it| it.name.as_str()).collect();
            red.push(format!(
                "{} failed, {} allowed: {}",
                total.failed,
                params.max_failures,
                names.join(", ")
            ));
        }
        if let Some(max) = params.max_skipped.filter(|max| total.skipped > *max) {
            red.push(format!("{} skipped, {max} allowed", total.skipped));
        }
        let counts = format!(
            "{} passed, {} failed, {} skipped in {} reports",
            total.passed,
            total.failed,
            total.skipped,
            reports.total()
        );
        let passed = red.is_empty();
        red.push(counts);
        output.verdict(passed, &red.join("; "));
        Ok(())
    }
}

/// By the first character that is not white space.
fn detect(head: &[u8]) -> Format {
    let head = head.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(head);
    match head.iter().find(|byte| !byte.is_ascii_whitespace()) {
        Some(b'<') => Format::Junit,
        Some(b'{') => Format::LibtestJson,
        _ => Format::Cargo,
    }
}

/// Fails where `take` would end silently.
struct Limited<R> {
    inner: R,
    left: u64,
    limit: u64,
}

impl<R: io::Read> io::Read for Limited<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.by_ref().take(self.left.saturating_add(1)).read(into)?;
        self.left = self.left.checked_sub(count as u64).ok_or_else(|| {
            io::Error::new(
                io::ErrorKind::FileTooLarge,
                format!("is larger than maxFileBytes, {} bytes", self.limit),
            )
        })?;
        Ok(count)
    }
}

pangolin_block_sdk::export_block!(TestReport);
