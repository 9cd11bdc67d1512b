//! The languages a plugin can be written in.

use std::{fmt, path::Path, str::FromStr};

use thiserror::Error;

/// A language with a scaffold and a build.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Language {
    /// Cargo and the target `wasm32-wasip2`.
    Rust,
    /// componentize-js.
    JavaScript,
    /// componentize-py.
    Python,
    /// clang or zig; the bindings are made here.
    C,
}

/// A text that is none of the languages.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{0:?} is not a language that is known here; known are rust, js, py and c")]
pub struct LanguageError(pub String);

impl Language {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Rust, Self::JavaScript, Self::Python, Self::C];

    /// The short name: `rust`, `js`, `py`, `c`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Rust => "rust",
            Self::JavaScript => "js",
            Self::Python => "py",
            Self::C => "c",
        }
    }

    /// The file that says that a project is written in it.
    #[must_use]
    pub const fn marker(self) -> &'static str {
        match self {
            Self::Rust => "Cargo.toml",
            Self::JavaScript => "package.json",
            Self::Python => "app.py",
            Self::C => "src/plugin.c",
        }
    }

    /// Whether the same source gives the same bytes on every machine.
    #[must_use]
    pub const fn is_reproducible(self) -> bool {
        matches!(self, Self::Rust | Self::C)
    }

    /// The languages whose marker is in `dir`.
    #[must_use]
    pub fn detect(dir: &Path) -> Vec<Self> {
        Self::ALL.into_iter().filter(|language| dir.join(language.marker()).is_file()).collect()
    }
}

impl fmt::Display for Language {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Language {
    type Err = LanguageError;

    fn from_str(text: &str) -> Result<Self, LanguageError> {
        match text {
            "rust" | "rs" => Ok(Self::Rust),
            "js" | "javascript" => Ok(Self::JavaScript),
            "py" | "python" => Ok(Self::Python),
            "c" => Ok(Self::C),
            _ => Err(LanguageError(text.to_owned())),
        }
    }
}
