//! Parameters of the step.

use std::collections::BTreeMap;

use pangolin_block_sdk::{Fault, Globs, Input, Level};
use spdx::Licensee;

use crate::{
    check::{self, Verdict},
    lockfiles::{Dependency, ECOSYSTEMS},
};

/// Permissive licences that ask for no more than a notice.
const ALLOW: &[&str] = &[
    "0BSD",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BlueOak-1.0.0",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "ISC",
    "MIT",
    "MIT-0",
    "PSF-2.0",
    "Python-2.0",
    "Unicode-3.0",
    "Unicode-DFS-2016",
    "Unlicense",
    "Zlib",
];

const RULES: &[(&str, Level)] = &[
    ("denied-licence", Level::Deny),
    ("unknown-licence", Level::Warn),
    ("invalid-licence", Level::Warn),
    ("licence-changed", Level::Warn),
    ("new-dependency", Level::Off),
    ("unsupported-lockfile", Level::Warn),
    ("unreadable", Level::Deny),
];

/// Checked parameters.
#[derive(Debug)]
pub(crate) struct Params {
    allow: Vec<Licensee>,
    deny: Vec<Licensee>,
    known: BTreeMap<String, String>,
    /// Dependencies, `ecosystem:name`.
    pub(crate) ignore: Globs,
    pub(crate) ignore_paths: Globs,
    pub(crate) max_findings: usize,
    levels: BTreeMap<&'static str, Level>,
}

impl Params {
    pub(crate) fn read(input: &Input<'_>) -> Result<Self, Fault> {
        let mut from = input.params();
        let mut licensees = |key: &str, default: &[&str]| -> Vec<Licensee> {
            let given = from.strings(key);
            let texts = given.unwrap_or_else(|| default.iter().map(|it| (*it).to_owned()).collect());
            let mut parsed = Vec::new();
            for (index, text) in texts.iter().enumerate() {
                match Licensee::parse_mode(text, check::MODE) {
                    Ok(licensee) => parsed.push(licensee),
                    Err(error) => from.problem(
                        &format!("{key}/{index}"),
                        format!("{text:?} is not one SPDX licence, e.g. \"MIT\": {}", error.reason),
                    ),
                }
            }
            parsed
        };
        let allow = licensees("allow", ALLOW);
        let deny = licensees("deny", &[]);
        let known = from.texts("known");
        for (dependency, licence) in &known {
            let pointer = format!("known/{}", dependency.replace('~', "~0").replace('/', "~1"));
            let is_id = dependency
                .split_once(':')
                .is_some_and(|(kind, name)| ECOSYSTEMS.contains(&kind) && !name.is_empty());
            if !is_id {
                from.problem(
                    &pointer,
                    format!(
                        "must be `ecosystem:name` or `ecosystem:name@version` with {}",
                        ECOSYSTEMS.join(", ")
                    ),
                );
            }
            if let Err(problem) = check::parse(licence) {
                from.problem(&pointer, problem);
            }
        }
        let params = Self {
            allow,
            deny,
            known,
            ignore: Globs::take(&mut from, "ignore", &[]),
            ignore_paths: Globs::take(&mut from, "ignorePaths", &[]),
            max_findings: from.integer("maxFindings", 1..=200, 50) as usize,
            levels: from.levels("rules", RULES.iter().copied()),
        };
        from.finish()?;
        Ok(params)
    }

    pub(crate) fn level(&self, rule: &str) -> Level {
        self.levels.get(rule).copied().unwrap_or(Level::Deny)
    }

    /// What the operator says about a dependency.
    pub(crate) fn known(&self, dependency: &Dependency) -> Option<String> {
        self.known.get(&dependency.to_string()).or_else(|| self.known.get(&dependency.id())).cloned()
    }

    pub(crate) fn judge(&self, licence: &str) -> Verdict {
        check::judge(licence, &self.allow, &self.deny)
    }
}
