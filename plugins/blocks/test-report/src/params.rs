//! Parameters of the step.

use std::collections::BTreeSet;

use pangolin_block_sdk::{Fault, Globs, Input};

/// Where test tools leave reports by default.
const FILES: &[&str] = &[
    "workspace/**/TEST-*.xml",
    "workspace/**/{junit,junit-report,test-results,pytest,report.junit}.xml",
    "outputs/**/{TEST-*,*junit*,*test-results*}.xml",
    "outputs/**/{cargo-test,nextest}.{txt,log,json}",
];

/// Syntax of a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    Junit,
    Cargo,
    LibtestJson,
}

impl Format {
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Junit => "junit",
            Self::Cargo => "cargo",
            Self::LibtestJson => "libtest-json",
        }
    }
}

/// Checked parameters.
#[derive(Debug)]
pub(crate) struct Params {
    pub(crate) files: Globs,
    /// What to list: the part of each pattern before its first wildcard.
    pub(crate) prefixes: BTreeSet<String>,
    /// None: told by the first character.
    pub(crate) format: Option<Format>,
    pub(crate) changed_only: bool,
    pub(crate) min_tests: u64,
    pub(crate) max_failures: u64,
    pub(crate) max_skipped: Option<u64>,
    pub(crate) max_file_bytes: u64,
    pub(crate) max_findings: usize,
}

impl Params {
    pub(crate) fn read(input: &Input<'_>) -> Result<Self, Fault> {
        const ANY: std::ops::RangeInclusive<u64> = 0..=1_000_000_000;
        let mut from = input.params();
        let files = Globs::take(&mut from, "files", FILES);
        let mut prefixes = BTreeSet::new();
        for (index, pattern) in files.iter().enumerate() {
            if !pattern.starts_with("workspace/") && !pattern.starts_with("outputs/") {
                from.problem(
                    &format!("files/{index}"),
                    "must start with `workspace/` or `outputs/`, e.g. \"workspace/target/nextest/**/junit.xml\"",
                );
            }
            let plain = pattern.find(['*', '?', '[', '{', '\\']).unwrap_or(pattern.len());
            prefixes.insert(pattern[..plain].to_owned());
        }
        if files.is_empty() {
            from.problem("files", "is empty, so no report could ever be found");
        }
        // A prefix of another one lists its files too.
        let all = prefixes.clone();
        prefixes.retain(|prefix| !all.iter().any(|other| other != prefix && prefix.starts_with(other)));
        let formats = [
            ("auto", None),
            ("junit", Some(Format::Junit)),
            ("cargo", Some(Format::Cargo)),
            ("libtest-json", Some(Format::LibtestJson)),
        ];
        let format = from.choice("format", &formats, None);
        let changed_only = from.flag("changedOnly", false);
        let (min_tests, max_failures, max_skipped) = from.section("require", |require| {
            (
                require.integer("minTests", ANY, 1),
                require.integer("maxFailures", ANY, 0),
                require.optional_integer("maxSkipped", ANY),
            )
        });
        let max_file_bytes = from.integer("maxFileBytes", 1..=64 << 20, 32 << 20);
        let max_findings = from.integer("maxFindings", 1..=200, 50) as usize;
        from.finish()?;
        Ok(Self {
            files,
            prefixes,
            format,
            changed_only,
            min_tests,
            max_failures,
            max_skipped,
            max_file_bytes,
            max_findings,
        })
    }
}
