//! Lists what a change adds as dependencies, and holds the licences that files tell against an allow and a deny list.
//!
//! A licence is known from `package-lock.json`, from a vendored or installed package's own manifest or LICENSE file, or
//! from the parameter `known`. Lockfiles of Cargo, Python and Go do not tell licences, so without one of these theirs are
//! unknown; what follows is a parameter.
//!
//! Deliberately not here: asking registries (no network), licence compatibility beyond the two lists, legal advice.

mod check;
mod headers;
mod lockfiles;
mod manifests;
mod params;

use std::collections::{BTreeMap, BTreeSet};

use pangolin_block_sdk::{Block, Change, ChangeKind, Fault, Findings, Input, Level, Output, clip};
use serde::Serialize;

use crate::{
    check::Verdict,
    lockfiles::{Dependency, Lockfile},
    params::Params,
};

/// Lockfiles and manifests are read whole.
const MAX_BYTES: u64 = 16 << 20;

/// The block.
#[derive(Debug)]
pub struct LicenceCheck;

/// Evidence: one finding.
#[derive(Debug, Serialize)]
struct Finding {
    rule: &'static str,
    level: Level,
    path: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    dependency: Option<String>,
    detail: String,
}

/// Evidence: a dependency that is new or has a new version.
#[derive(Debug, Serialize)]
struct New {
    dependency: String,
    change: &'static str,
    path: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    licence: Option<String>,
}

#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct Counts {
    added: u64,
    updated: u64,
    removed: u64,
    /// Files whose licence was looked at: manifests, licence texts, headers.
    files: u64,
    denied: u64,
    warned: u64,
    by_rule: BTreeMap<&'static str, u64>,
}

struct Run<'a> {
    input: &'a Input<'a>,
    params: Params,
    counts: Counts,
    findings: Findings<Finding>,
    new: Findings<New>,
}

impl Block for LicenceCheck {
    fn run(input: &Input<'_>, output: &Output<'_>) -> Result<(), Fault> {
        let params = Params::read(input)?;
        let limit = params.max_findings;
        let mut run = Run {
            input,
            params,
            counts: Counts::default(),
            findings: Findings::new(limit),
            new: Findings::new(limit),
        };
        for change in input.changes()? {
            run.change(&change);
        }
        run.answer(output)
    }
}

impl Run<'_> {
    fn find(
        &mut self,
        rule: &'static str,
        path: &str,
        dependency: Option<&Dependency>,
        detail: impl FnOnce() -> String,
    ) {
        let level = self.params.level(rule);
        match level {
            Level::Off => return,
            Level::Warn => self.counts.warned += 1,
            Level::Deny => self.counts.denied += 1,
        }
        *self.counts.by_rule.entry(rule).or_default() += 1;
        self.findings.push(|| Finding {
            rule,
            level,
            path: clip(path, 300).into_owned(),
            dependency: dependency.map(|it| clip(&it.to_string(), 200).into_owned()),
            detail: clip(&detail(), 300).into_owned(),
        });
    }

    fn change(&mut self, change: &Change) {
        let path = change.path.as_str();
        if change.after.as_ref().is_some_and(|after| after.is_link())
            || self.params.ignore_paths.matches(path)
        {
            return;
        }
        let name = path.rsplit('/').next().unwrap_or(path);
        match Lockfile::of(name) {
            Some(Lockfile::Unsupported) => {
                if change.kind != ChangeKind::Deleted {
                    self.find("unsupported-lockfile", path, None, || {
                        "changed, and this format is not read: its new dependencies are not checked"
                            .to_owned()
                    });
                }
            }
            Some(lockfile) => self.lockfile(lockfile, change),
            None if headers::is_licence_text(name) => self.licence_text(change),
            None => self.source(change, name),
        }
    }

    fn lockfile(&mut self, lockfile: Lockfile, change: &Change) {
        let path = change.path.as_str();
        let mut side = |exists: bool, virtual_path: String| -> Option<BTreeSet<Dependency>> {
            if !exists {
                return Some(BTreeSet::new());
            }
            let read = self.input.read_all(&virtual_path, MAX_BYTES).map_err(|error| error.to_string());
            match read.and_then(|bytes| lockfile.read(&bytes)) {
                Ok(dependencies) => Some(dependencies),
                Err(problem) => {
                    self.find("unreadable", path, None, || {
                        format!("its dependencies are not checked: {problem}")
                    });
                    None
                }
            }
        };
        let Some(now) = side(change.after.is_some(), change.now_path()) else { return };
        // Without the state before, every dependency counts as new.
        let before = side(change.before.as_ref().is_some_and(|it| !it.is_link()), change.base_path());
        let before = before.unwrap_or_default();
        let names =
            |all: &BTreeSet<Dependency>| -> BTreeSet<String> { all.iter().map(Dependency::id).collect() };
        let (old_names, now_names) = (names(&before), names(&now));
        self.counts.removed += old_names.difference(&now_names).count() as u64;
        let versions: BTreeSet<(&str, &str)> =
            before.iter().map(|it| (it.name.as_str(), it.version.as_str())).collect();
        for dependency in &now {
            let is_old = versions.contains(&(dependency.name.as_str(), dependency.version.as_str()));
            if !is_old && !self.params.ignore.matches(&dependency.id()) {
                self.new_dependency(path, dependency, old_names.contains(&dependency.id()));
            }
        }
    }

    fn new_dependency(&mut self, path: &str, dependency: &Dependency, was_there: bool) {
        let change = if was_there { "updated" } else { "added" };
        if was_there {
            self.counts.updated += 1;
        } else {
            self.counts.added += 1;
            self.find("new-dependency", path, Some(dependency), || "was not there before".to_owned());
        }
        let licence = self
            .params
            .known(dependency)
            .or_else(|| dependency.licence.clone())
            .or_else(|| manifests::installed(self.input, path, dependency));
        self.new.push(|| New {
            dependency: clip(&dependency.to_string(), 200).into_owned(),
            change,
            path: clip(path, 300).into_owned(),
            licence: licence.as_ref().map(|it| clip(it, 200).into_owned()),
        });
        match licence {
            Some(licence) => self.judge(path, Some(dependency), &licence),
            None => self.find("unknown-licence", path, Some(dependency), || {
                format!(
                    "no file tells its licence; look it up and add it to `known` as \"{}\"",
                    dependency.id()
                )
            }),
        }
    }

    fn judge(&mut self, path: &str, dependency: Option<&Dependency>, licence: &str) {
        match self.params.judge(licence) {
            Verdict::Allowed => {}
            Verdict::Denied(why) => self.find("denied-licence", path, dependency, || why),
            Verdict::Invalid(why) => self.find("invalid-licence", path, dependency, || why),
        }
    }

    fn licence_text(&mut self, change: &Change) {
        let path = change.path.as_str();
        self.counts.files += 1;
        if change.before.is_some() {
            let what = if change.kind == ChangeKind::Deleted { "was deleted" } else { "was changed" };
            self.find("licence-changed", path, None, || format!("a licence text {what}"));
        }
        if change.after.is_none() {
            return;
        }
        match self.input.read_all(&change.now_path(), 1 << 20) {
            Ok(bytes) => match headers::identify(&bytes) {
                Some(id) => self.judge(path, None, id),
                None => self.find("unknown-licence", path, None, || {
                    "a licence text that is not recognised".to_owned()
                }),
            },
            Err(error) => self.find("unreadable", path, None, || error.to_string()),
        }
    }

    /// A package's manifest, or a new source file with a licence header.
    fn source(&mut self, change: &Change, name: &str) {
        let path = change.path.as_str();
        if change.after.is_none() || change.binary {
            return;
        }
        if manifests::is_manifest(name) {
            let now = manifests::licence(self.input, &change.now_path(), name);
            let before =
                change.before.as_ref().map(|_| manifests::licence(self.input, &change.base_path(), name));
            match now {
                Ok(now) => {
                    self.counts.files += 1;
                    let before = before.map(Result::unwrap_or_default);
                    if before.as_ref().is_some_and(|before| *before != now) {
                        let word = |it: Option<&String>| it.cloned().unwrap_or_else(|| "none".to_owned());
                        let (old, new) = (word(before.flatten().as_ref()), word(now.as_ref()));
                        self.find("licence-changed", path, None, || {
                            format!("licence {old:?} became {new:?}")
                        });
                    }
                    if let Some(licence) = now {
                        self.judge(path, None, &licence);
                    } else if manifests::is_vendored(path) {
                        self.find("unknown-licence", path, None, || {
                            "a vendored package without a licence".to_owned()
                        });
                    }
                }
                Err(problem) => self.find("unreadable", path, None, || problem),
            }
        } else if change.kind == ChangeKind::Added {
            match headers::identifier(self.input.open(&change.now_path())) {
                Ok(Some(licence)) => {
                    self.counts.files += 1;
                    self.judge(path, None, &licence);
                }
                Ok(None) => {}
                Err(error) => self.find("unreadable", path, None, || error.to_string()),
            }
        }
    }

    fn answer(self, output: &Output<'_>) -> Result<(), Fault> {
        let Self { counts, findings, new, .. } = self;
        output.evidence("counts", &counts)?;
        output.evidence("dependencies", &new)?;
        output.evidence("findings", &findings)?;
        let rules: Vec<String> =
            counts.by_rule.iter().map(|(rule, count)| format!("{rule} {count}")).collect();
        let found = match (counts.denied, counts.warned) {
            (0, 0) => "no objections".to_owned(),
            (0, warned) => format!("{warned} warnings ({})", rules.join(", ")),
            (denied, warned) => format!("{denied} denied, {warned} warnings ({})", rules.join(", ")),
        };
        let what = format!(
            "dependencies: {} new, {} updated, {} removed",
            counts.added, counts.updated, counts.removed
        );
        output.verdict(counts.denied == 0, &format!("{found}; {what}"));
        Ok(())
    }
}

pangolin_block_sdk::export_block!(LicenceCheck);
