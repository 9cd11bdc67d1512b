//! JSON lines of libtest (`--format json`) and nextest (`--message-format libtest-json`). Other lines are skipped.

use std::io::{self, Read};

use pangolin_block_sdk::LineReader;
use serde::Deserialize;

use crate::tally::{Counts, Tally};

#[derive(Deserialize)]
struct Line {
    #[serde(rename = "type", default)]
    kind: String,
    #[serde(default)]
    event: String,
    #[serde(default)]
    name: String,
    #[serde(default)]
    reason: String,
    #[serde(default)]
    passed: u64,
    #[serde(default)]
    failed: u64,
    #[serde(default)]
    ignored: u64,
}

/// Reads a report.
pub(crate) fn read(source: impl Read, tally: &mut Tally) -> io::Result<()> {
    let mut lines = LineReader::new(source);
    let (mut open, mut ended) = (0u64, 0u64);
    while let Some(segment) = lines.next_segment()? {
        let Ok(line) = serde_json::from_slice::<Line>(segment.bytes) else { continue };
        match (line.kind.as_str(), line.event.as_str()) {
            ("suite", "started") => open += 1,
            ("suite", "ok" | "failed") => {
                ended += 1;
                open = open.saturating_sub(1);
                tally.add(&Counts {
                    passed: line.passed,
                    failed: line.failed,
                    skipped: line.ignored,
                    flaky: 0,
                });
                if line.event == "failed" && line.failed == 0 {
                    tally.problem("has a failed suite without a failed test");
                }
            }
            ("test", "failed") => tally.name_failure(&line.name, &line.reason),
            ("test", "timeout") => tally.name_failure(&line.name, "timeout"),
            _ => {}
        }
    }
    if open > 0 {
        tally.problem(format!("has {open} suites that began and did not end: they crashed or were stopped"));
    } else if ended == 0 {
        tally.problem("has no suite result");
    }
    Ok(())
}
