//! Path patterns.

use crate::params::Params;

/// A list of path patterns: `*` and `?` within a name, `**` across folders, `[a-z]`, `{a,b}`.
///
/// Checked when they are read: a pattern that could never match is a finding, not a silent no.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Globs(Vec<String>);

impl Globs {
    /// Takes patterns.
    ///
    /// # Errors
    /// The number of the first bad one and what is wrong with it.
    pub fn new<S: Into<String>>(patterns: impl IntoIterator<Item = S>) -> Result<Self, (usize, String)> {
        let patterns: Vec<String> = patterns.into_iter().map(Into::into).collect();
        for (index, pattern) in patterns.iter().enumerate() {
            problem(pattern).map_or(Ok(()), |problem| Err((index, problem)))?;
        }
        Ok(Self(patterns))
    }

    /// Takes a list field of the parameters; bad ones become findings there.
    #[must_use]
    pub fn take(params: &mut Params, key: &str, default: &[&str]) -> Self {
        let Some(patterns) = params.strings(key) else {
            return Self(default.iter().map(|pattern| (*pattern).to_owned()).collect());
        };
        for (index, pattern) in patterns.iter().enumerate() {
            if let Some(problem) = problem(pattern) {
                params.problem(&format!("{key}/{index}"), problem);
            }
        }
        Self(patterns)
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The first pattern that matches.
    #[must_use]
    pub fn matching(&self, path: &str) -> Option<&str> {
        self.0.iter().map(String::as_str).find(|pattern| fast_glob::glob_match(pattern, path))
    }

    /// Whether one matches.
    #[must_use]
    pub fn matches(&self, path: &str) -> bool {
        self.matching(path).is_some()
    }

    /// The patterns.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }
}

fn problem(pattern: &str) -> Option<String> {
    if pattern.is_empty() {
        return Some("is empty".to_owned());
    }
    if pattern.len() > 1_000 {
        return Some("is longer than 1000 bytes".to_owned());
    }
    if pattern.starts_with('!') {
        return Some("starts with `!`; name what matches, not what does not".to_owned());
    }
    if pattern.starts_with('/') || pattern.split('/').any(|part| matches!(part, "." | "..")) {
        return Some("must be relative, without `.` and `..`, e.g. \"src/**\"".to_owned());
    }
    if pattern.ends_with('/') {
        return Some(format!("ends with `/`, so it matches no file; write \"{pattern}**\""));
    }
    fast_glob::validate(pattern).err().map(|error| format!("is not a pattern: {error}"))
}
