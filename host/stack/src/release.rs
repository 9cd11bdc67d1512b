//! Which release a program, a package or a project archive is of. Functions load native code that another program made, so
//! both must be of one release; this is how they are told apart before anything is put in place.

use std::fmt;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::Architecture;

/// File of a package that says what the package is.
pub const LABEL_FILE: &str = "pangolin.json";

/// Version of the label's format.
const LABEL_VERSION: u32 = 1;

/// What is in front of a [`Release`] in the bytes of a program. Behind it is [`MARK_END`]. A program for another processor
/// cannot be run to ask it, so it has to be readable.
pub const MARK: &str = "\u{2}pangolin-release/1\n";

/// Behind a [`Release`] in the bytes of a program.
pub const MARK_END: char = '\u{3}';

/// Longest release in the bytes of a program.
const MARKED_BYTES_MAX: usize = 512;

/// What must be equal between who makes native code and who loads it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Release {
    /// Of Pangolin, as `0.1.0`.
    pub version: String,
    /// Engine, its settings, the format of files with code, the processor, and the set of plugins that ship.
    pub native_code: String,
}

impl fmt::Display for Release {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.version, self.native_code)
    }
}

impl Release {
    /// From what is between [`MARK`] and [`MARK_END`]: two lines.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (version, native_code) = text.split_once('\n')?;
        let is_line = |text: &str| !text.is_empty() && !text.contains(|it: char| it.is_control());
        (is_line(version) && is_line(native_code))
            .then(|| Self { version: version.to_owned(), native_code: native_code.to_owned() })
    }

    /// The release in the bytes of a program. `None` when there is none, or several that differ.
    #[must_use]
    pub fn find(program: &[u8]) -> Option<Self> {
        let mut found: Option<Self> = None;
        for at in memchr::memmem::find_iter(program, MARK) {
            let rest = &program[at + MARK.len()..];
            let rest = &rest[..rest.len().min(MARKED_BYTES_MAX)];
            let end = rest.iter().position(|byte| *byte == MARK_END as u8);
            let text = end.and_then(|end| std::str::from_utf8(&rest[..end]).ok());
            // The words alone, as in this program, are no release.
            let Some(release) = text.and_then(Self::parse) else { continue };
            if found.as_ref().is_some_and(|found| *found != release) {
                return None;
            }
            found = Some(release);
        }
        found
    }
}

/// A package's own word about itself: [`LABEL_FILE`] in the archive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Label {
    /// Version of the format.
    pub schema_version: u32,
    /// Name of the function.
    pub function: String,
    /// Processor.
    pub architecture: Architecture,
    /// Of Pangolin.
    pub version: String,
    /// As in [`Release`]; none for a function that loads no native code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub native_code: Option<String>,
}

/// A label that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{LABEL_FILE}: {problem}")]
pub struct LabelError {
    /// What is wrong.
    pub problem: String,
}

impl Label {
    /// Of a function that loads native code.
    #[must_use]
    pub fn of(function: &str, architecture: Architecture, release: &Release) -> Self {
        let native_code = Some(release.native_code.clone());
        Self { native_code, ..Self::plain(function, architecture, &release.version) }
    }

    /// Of a function that loads none.
    #[must_use]
    pub fn plain(function: &str, architecture: Architecture, version: &str) -> Self {
        Self {
            schema_version: LABEL_VERSION,
            function: function.to_owned(),
            architecture,
            version: version.to_owned(),
            native_code: None,
        }
    }

    /// Reads a label.
    ///
    /// # Errors
    /// [`LabelError`] for another format.
    pub fn read(bytes: &[u8]) -> Result<Self, LabelError> {
        let label: Self =
            serde_json::from_slice(bytes).map_err(|error| LabelError { problem: error.to_string() })?;
        if label.schema_version != LABEL_VERSION {
            let problem = format!("format {} is not known here", label.schema_version);
            return Err(LabelError { problem });
        }
        Ok(label)
    }

    /// As it is stored.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = serde_json::to_vec_pretty(self).unwrap_or_default();
        bytes.push(b'\n');
        bytes
    }

    /// What is not as it must be for `function` in a stack that `release` deploys, each as words that follow "it".
    #[must_use]
    pub fn differences(&self, function: &str, architecture: Architecture, release: &Release) -> Vec<String> {
        let mut found = Vec::new();
        if self.function != function {
            found.push(format!("is the code of {}", self.function));
        }
        if self.architecture != architecture {
            found.push(format!("is for {}", self.architecture.as_str()));
        }
        if self.version != release.version {
            found.push(format!("is of release {}, this program is {}", self.version, release.version));
        }
        match &self.native_code {
            Some(code) if *code != release.native_code => found.push(format!(
                "loads native code for {code}, this program makes it for {}",
                release.native_code
            )),
            _ => {}
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn release(engine: &str) -> Release {
        Release { version: "1.2.3".to_owned(), native_code: format!("{engine}, aarch64-linux") }
    }

    fn marked(release: &Release) -> String {
        format!("{MARK}{}\n{}{MARK_END}", release.version, release.native_code)
    }

    #[test]
    fn a_release_is_found_in_the_bytes_of_a_program() {
        let one = release("engine 1");
        let around = |text: &str| [&[0xff, 0, 2][..], text.as_bytes(), &[0, 0xfe]].concat();
        assert_eq!(Release::find(&around(&marked(&one))), Some(one.clone()));
        // The words without a release behind them, twice the same, and two that differ.
        assert_eq!(Release::find(&around(MARK)), None);
        let twice = around(&format!("{MARK}{}{}", marked(&one), marked(&one)));
        assert_eq!(Release::find(&twice), Some(one.clone()));
        assert_eq!(Release::find(&around(&(marked(&one) + &marked(&release("engine 2"))))), None);
        for broken in ["", "1", "1\n", "\nx", "1\nx\ny", "1\nx\u{1}"] {
            assert_eq!(Release::find(&around(&format!("{MARK}{broken}{MARK_END}"))), None, "{broken:?}");
        }
        let endless = format!("{MARK}1\n{}{MARK_END}", "x".repeat(MARKED_BYTES_MAX));
        assert_eq!(Release::find(endless.as_bytes()), None);
    }

    #[test]
    fn a_label_tells_everything_that_differs() {
        let (mine, arm) = (release("engine 1"), Architecture::Arm64);
        let label = Label::of("tick", arm, &mine);
        assert_eq!(Label::read(&label.to_bytes()), Ok(label.clone()));
        assert_eq!(label.differences("tick", arm, &mine), Vec::<String>::new());
        assert_eq!(
            Label::plain("inbox", arm, "1.2.3").differences("inbox", arm, &mine),
            Vec::<String>::new()
        );
        let other = Release { version: "1.2.4".to_owned(), ..release("engine 2") };
        let found = label.differences("inbox", Architecture::X86_64, &other).join("\n");
        for part in
            ["code of tick", "for arm64", "release 1.2.3, this program is 1.2.4", "engine 1", "engine 2"]
        {
            assert!(found.contains(part), "{found}");
        }
        assert!(Label::read(b"{}").is_err());
        let newer = Label { schema_version: 2, ..label };
        assert!(Label::read(&newer.to_bytes()).is_err_and(|error| error.problem.contains("format 2")));
    }
}
