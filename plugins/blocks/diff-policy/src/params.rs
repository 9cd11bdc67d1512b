//! Parameters of the step.

use std::collections::BTreeMap;

use pangolin_block_sdk::{Fault, Globs, Input, Level};

use crate::paths::{CI_FILES, LOCKFILES, PROTECTED};

macro_rules! rules {
    ($($name:ident = $id:literal, $level:ident;)*) => {
        /// A rule.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(crate) enum Rule { $($name),* }

        impl Rule {
            const ALL: &'static [(Self, &'static str, Level)] = &[$((Self::$name, $id, Level::$level)),*];

            /// Its name in parameters and evidence.
            pub(crate) const fn id(self) -> &'static str {
                match self { $(Self::$name => $id),* }
            }
        }
    };
}

rules! {
    OutsideAllow = "outside-allow", Deny;
    DeniedPath = "denied-path", Deny;
    ProtectedDeleted = "protected-deleted", Deny;
    GitInternals = "git-internals", Deny;
    CiFile = "ci-file", Deny;
    Lockfile = "lockfile", Warn;
    Binary = "binary", Warn;
    TypeChange = "type-change", Warn;
    Symlink = "symlink", Warn;
    SymlinkEscape = "symlink-escape", Deny;
    NewExecutable = "new-executable", Warn;
    ModeChange = "mode-change", Warn;
    TooManyFiles = "too-many-files", Deny;
    TooManyLines = "too-many-lines", Deny;
    TooManyBytes = "too-many-bytes", Deny;
    Uncountable = "uncountable", Deny;
}

const ANY: std::ops::RangeInclusive<u64> = 0..=u64::MAX;

/// Checked parameters.
#[derive(Debug)]
pub(crate) struct Params {
    pub(crate) allow: Globs,
    pub(crate) deny: Globs,
    pub(crate) protected: Globs,
    pub(crate) ci_files: Globs,
    pub(crate) lockfiles: Globs,
    pub(crate) max_files: u64,
    pub(crate) max_lines: u64,
    pub(crate) max_bytes: u64,
    pub(crate) max_findings: usize,
    levels: BTreeMap<&'static str, Level>,
    exempt: BTreeMap<&'static str, Globs>,
}

impl Params {
    pub(crate) fn read(input: &Input<'_>) -> Result<Self, Fault> {
        let mut from = input.params();
        let params = Self {
            allow: Globs::take(&mut from, "allow", &[]),
            deny: Globs::take(&mut from, "deny", &[]),
            protected: Globs::take(&mut from, "protected", PROTECTED),
            ci_files: Globs::take(&mut from, "ciFiles", CI_FILES),
            lockfiles: Globs::take(&mut from, "lockfiles", LOCKFILES),
            max_files: from.integer("maxFiles", ANY, 300),
            max_lines: from.integer("maxLines", ANY, 10_000),
            max_bytes: from.integer("maxBytes", ANY, 20 << 20),
            max_findings: from.integer("maxFindings", 1..=200, 50) as usize,
            levels: from.levels("rules", Rule::ALL.iter().map(|rule| (rule.1, rule.2))),
            exempt: from.section("exempt", |section| {
                Rule::ALL.iter().map(|rule| (rule.1, Globs::take(section, rule.1, &[]))).collect()
            }),
        };
        from.finish()?;
        Ok(params)
    }

    /// What follows when the rule does not hold for the path.
    pub(crate) fn level(&self, rule: Rule, path: Option<&str>) -> Level {
        let is_exempt = |path| self.exempt.get(rule.id()).is_some_and(|globs| globs.matches(path));
        if path.is_some_and(is_exempt) {
            return Level::Off;
        }
        self.levels.get(rule.id()).copied().unwrap_or(Level::Deny)
    }
}
