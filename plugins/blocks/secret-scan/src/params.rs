//! Parameters of the step.

use std::collections::BTreeMap;

use pangolin_block_sdk::{Fault, Globs, Input, Level};

use crate::tokens::{self, Charset};

/// What is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scope {
    /// Added lines of changed files.
    Changes,
    /// Every line of every file.
    Workspace,
}

/// A token format of the user's own.
#[derive(Debug)]
pub(crate) struct CustomToken {
    pub(crate) id: String,
    pub(crate) prefix: String,
    pub(crate) charset: Charset,
    pub(crate) min: usize,
    pub(crate) max: usize,
}

/// Checked parameters.
#[derive(Debug)]
pub(crate) struct Params {
    pub(crate) scope: Scope,
    pub(crate) outputs: bool,
    pub(crate) binaries: bool,
    pub(crate) allow_paths: Globs,
    pub(crate) allow_findings: Vec<String>,
    pub(crate) max_findings: usize,
    /// Shortest value of the generic rule, bytes.
    pub(crate) min_length: usize,
    /// Entropy from which a value counts as random, bits per character.
    pub(crate) min_entropy: f64,
    pub(crate) custom: Vec<CustomToken>,
    levels: BTreeMap<String, Level>,
}

impl Params {
    pub(crate) fn read(input: &Input<'_>) -> Result<Self, Fault> {
        let mut from = input.params();
        let scope = from.choice(
            "scope",
            &[("changes", Scope::Changes), ("workspace", Scope::Workspace)],
            Scope::Changes,
        );
        let outputs = from.flag("outputs", false);
        let binaries = from.choice("binaries", &[("skip", false), ("scan", true)], false);
        let allow_paths = Globs::take(&mut from, "allowPaths", &[]);
        let allow_findings = from.strings("allowFindings").unwrap_or_default();
        for (index, hash) in allow_findings.iter().enumerate() {
            let is_hash = hash.len() == 8 && hash.bytes().all(|it| matches!(it, b'0'..=b'9' | b'a'..=b'f'));
            if !is_hash {
                from.problem(
                    &format!("allowFindings/{index}"),
                    "must be the `hash` of a finding: 8 lower-case hex digits",
                );
            }
        }
        let max_findings = from.integer("maxFindings", 1..=200, 50) as usize;
        let (min_length, hundredths) = from.section("generic", |generic| {
            (generic.integer("minLength", 8..=200, 16), generic.integer("minEntropy", 100..=600, 350))
        });
        let custom = from.sections("customTokens", |item| {
            let charsets = [
                ("alnum", Charset::Alnum),
                ("hex", Charset::Hex),
                ("base64", Charset::Base64),
                ("base64url", Charset::Base64Url),
            ];
            let token = CustomToken {
                id: item.string("id").unwrap_or_default(),
                prefix: item.string("prefix").unwrap_or_default(),
                charset: item.choice("charset", &charsets, Charset::Alnum),
                min: item.integer("min", 4..=1_000, 16) as usize,
                max: item.integer("max", 4..=2_000, 1_000) as usize,
            };
            let is_id = !token.id.is_empty()
                && token.id.len() <= 60
                && token.id.bytes().all(|it| matches!(it, b'a'..=b'z' | b'0'..=b'9' | b'-'));
            if !is_id {
                item.problem("id", "is needed: lower-case letters, digits and `-`, e.g. \"acme-token\"");
            } else if tokens::default_level(&token.id).is_some() {
                item.problem("id", "is the name of a built-in rule; take another one");
            }
            if !(3..=60).contains(&token.prefix.len()) {
                item.problem("prefix", "is needed: 3 to 60 bytes that every such token starts with");
            }
            if token.min > token.max {
                item.problem("min", "must not be larger than max");
            }
            token
        });
        let mut rules: Vec<(String, Level)> =
            tokens::rules().map(|(rule, level)| (rule.to_owned(), level)).collect();
        rules.extend(custom.iter().map(|token| (token.id.clone(), Level::Deny)));
        let mut seen = std::collections::BTreeSet::new();
        rules.retain(|rule| seen.insert(rule.0.clone()));
        let levels = from
            .levels("rules", rules.iter().map(|(rule, level)| (rule.as_str(), *level)))
            .into_iter()
            .map(|(rule, level)| (rule.to_owned(), level))
            .collect();
        from.finish()?;
        Ok(Self {
            scope,
            outputs,
            binaries,
            allow_paths,
            allow_findings,
            max_findings,
            min_length: min_length as usize,
            min_entropy: hundredths as f64 / 100.0,
            custom,
            levels,
        })
    }

    pub(crate) fn level(&self, rule: &str) -> Level {
        self.levels.get(rule).copied().unwrap_or(Level::Deny)
    }
}
