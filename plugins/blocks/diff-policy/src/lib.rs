//! Holds a change against rules: where it may be, how large, and which kinds of files need a human.
//!
//! Every rule is `off`, `warn` or `deny`. Lines are counted as `git diff --minimal --numstat` counts them.
//!
//! Deliberately not here: what the change says. The rules see paths, modes, sizes and line counts.

mod count;
mod params;
mod paths;

use std::collections::BTreeMap;

use pangolin_block_sdk::{Block, Change, ChangeKind, Fault, Findings, Input, Level, Output, clip};
use serde::Serialize;

use crate::{
    count::Size,
    params::{Params, Rule},
};

/// The block.
#[derive(Debug)]
pub struct DiffPolicy;

/// Evidence: one finding.
#[derive(Debug, Serialize)]
struct Finding {
    rule: &'static str,
    level: Level,
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<String>,
    detail: String,
}

#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct Counts {
    files: u64,
    added: u64,
    modified: u64,
    deleted: u64,
    type_changed: u64,
    lines_added: u64,
    lines_removed: u64,
    /// False when a line count is a lower bound.
    lines_exact: bool,
    bytes: u64,
    denied: u64,
    warned: u64,
    by_rule: BTreeMap<&'static str, u64>,
}

struct Run {
    params: Params,
    counts: Counts,
    findings: Findings<Finding>,
}

impl Block for DiffPolicy {
    fn run(input: &Input<'_>, output: &Output<'_>) -> Result<(), Fault> {
        let params = Params::read(input)?;
        let findings = Findings::new(params.max_findings);
        let mut run = Run { params, counts: Counts { lines_exact: true, ..Counts::default() }, findings };
        for change in input.changes()? {
            run.change(input, &change);
        }
        run.totals();
        run.answer(output)
    }
}

impl Run {
    fn find(&mut self, rule: Rule, path: Option<&str>, detail: impl FnOnce() -> String) {
        let level = self.params.level(rule, path);
        match level {
            Level::Off => return,
            Level::Warn => self.counts.warned += 1,
            Level::Deny => self.counts.denied += 1,
        }
        let rule = rule.id();
        *self.counts.by_rule.entry(rule).or_default() += 1;
        self.findings.push(|| Finding {
            rule,
            level,
            path: path.map(|path| clip(path, 300).into_owned()),
            detail: clip(&detail(), 300).into_owned(),
        });
    }

    fn change(&mut self, input: &Input<'_>, change: &Change) {
        let path = change.path.as_str();
        self.counts.files += 1;
        match change.kind {
            ChangeKind::Added => self.counts.added += 1,
            ChangeKind::Modified => self.counts.modified += 1,
            ChangeKind::Deleted => self.counts.deleted += 1,
            ChangeKind::TypeChanged => self.counts.type_changed += 1,
        }
        self.place(change);
        self.kind_of_file(change);
        self.mode(change);
        match count::size(input, change) {
            Ok(Size { lines, bytes }) => {
                self.counts.lines_added += lines.added;
                self.counts.lines_removed += lines.removed;
                self.counts.lines_exact &= lines.exact;
                self.counts.bytes = self.counts.bytes.saturating_add(bytes);
            }
            Err(error) => {
                // What cannot be counted must not slip under a limit.
                self.find(Rule::Uncountable, Some(path), || format!("its size cannot be told: {error}"));
            }
        }
    }

    fn place(&mut self, change: &Change) {
        let path = change.path.as_str();
        if !self.params.allow.is_empty() && !self.params.allow.matches(path) {
            self.find(Rule::OutsideAllow, Some(path), || "matches no pattern of `allow`".to_owned());
        }
        if let Some(pattern) = self.params.deny.matching(path).map(str::to_owned) {
            self.find(Rule::DeniedPath, Some(path), || format!("matches {pattern:?} of `deny`"));
        }
        if change.kind == ChangeKind::Deleted
            && let Some(pattern) = self.params.protected.matching(path).map(str::to_owned)
        {
            self.find(Rule::ProtectedDeleted, Some(path), || format!("matches {pattern:?} of `protected`"));
        }
    }

    fn kind_of_file(&mut self, change: &Change) {
        let path = change.path.as_str();
        if paths::is_git_internal(path) {
            self.find(Rule::GitInternals, Some(path), || {
                "changes what git itself reads: submodules or repository data".to_owned()
            });
        }
        if self.params.ci_files.matches(path) {
            self.find(Rule::CiFile, Some(path), || "decides what CI runs".to_owned());
        }
        if self.params.lockfiles.matches(path) {
            self.find(Rule::Lockfile, Some(path), || "pins dependencies".to_owned());
        }
        if change.binary && change.kind != ChangeKind::Deleted {
            let size = change.after.as_ref().map_or(0, |after| after.size);
            self.find(Rule::Binary, Some(path), || format!("is not text, {size} bytes"));
        }
    }

    fn mode(&mut self, change: &Change) {
        let path = change.path.as_str();
        if change.kind == ChangeKind::TypeChanged {
            self.find(Rule::TypeChange, Some(path), || {
                "a file became a link or the other way round".to_owned()
            });
        }
        let Some(after) = &change.after else { return };
        let before = change.before.as_ref();
        if after.is_link() {
            let target = change.symlink_target.as_deref();
            let points = target.map_or_else(|| "to an unknown place".to_owned(), |it| format!("to {it:?}"));
            self.find(Rule::Symlink, Some(path), || format!("is a symbolic link {points}"));
            if target.is_none_or(|target| paths::leaves_the_tree(path, target)) {
                self.find(Rule::SymlinkEscape, Some(path), || {
                    format!("points out of the workspace, {points}")
                });
            }
            return;
        }
        let was_executable = before.is_some_and(|before| before.is_executable());
        if after.is_executable() && !was_executable {
            self.find(Rule::NewExecutable, Some(path), || "can be executed now".to_owned());
        }
        if let Some(before) = before.filter(|before| !before.is_link() && before.mode != after.mode) {
            self.find(Rule::ModeChange, Some(path), || format!("mode {} became {}", before.mode, after.mode));
        }
    }

    fn totals(&mut self) {
        let lines = self.counts.lines_added.saturating_add(self.counts.lines_removed);
        let (files, bytes) = (self.counts.files, self.counts.bytes);
        for (rule, what, value, limit) in [
            (Rule::TooManyFiles, "changed files", files, self.params.max_files),
            (Rule::TooManyLines, "added and removed lines", lines, self.params.max_lines),
            (Rule::TooManyBytes, "added and removed bytes", bytes, self.params.max_bytes),
        ] {
            if value > limit {
                self.find(rule, None, || format!("{value} {what}, the limit is {limit}"));
            }
        }
    }

    fn answer(self, output: &Output<'_>) -> Result<(), Fault> {
        let Self { counts, findings, .. } = self;
        output.evidence("counts", &counts)?;
        output.evidence("findings", &findings)?;
        let at_least = if counts.lines_exact { "" } else { "at least " };
        let size = format!(
            "{} files, {at_least}+{} -{} lines",
            counts.files, counts.lines_added, counts.lines_removed
        );
        let rules: Vec<String> =
            counts.by_rule.iter().take(6).map(|(rule, count)| format!("{rule} {count}")).collect();
        let found = match (counts.denied, counts.warned) {
            (0, 0) => "within the rules".to_owned(),
            (0, warned) => format!("{warned} warnings ({})", rules.join(", ")),
            (denied, warned) => format!("{denied} denied, {warned} warnings ({})", rules.join(", ")),
        };
        output.verdict(counts.denied == 0, &format!("{found}; {size}"));
        Ok(())
    }
}

pangolin_block_sdk::export_block!(DiffPolicy);
