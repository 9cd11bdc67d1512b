//! Names of plugins and their kinds.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use thiserror::Error;

/// Longest part of an id in bytes.
const PART_BYTES_MAX: usize = 64;

/// Why a text is not a plugin id.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error(
    "{0:?} is not a plugin id; expected <owner>/<name>, or <name> for what ships with Pangolin, each of a-z 0-9 and inner -, at most 64 characters"
)]
pub struct PluginIdError(pub String);

/// `owner/name`, or a plain `name` for what ships with Pangolin. ASCII lower case only: no two ids look alike, and
/// none can leave a directory.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PluginId(String);

impl PluginId {
    /// Checks `text`.
    ///
    /// # Errors
    /// [`PluginIdError`] repeats it.
    pub fn new(text: &str) -> Result<Self, PluginIdError> {
        let part = |part: &str| {
            (1..=PART_BYTES_MAX).contains(&part.len())
                && part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
                && !part.starts_with('-')
                && !part.ends_with('-')
        };
        let mut parts = text.split('/');
        let good = parts.next().is_some_and(part) && parts.next().is_none_or(part) && parts.next().is_none();
        if good { Ok(Self(text.to_owned())) } else { Err(PluginIdError(text.to_owned())) }
    }

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Without an owner: reserved for what ships with Pangolin.
    #[must_use]
    pub fn is_builtin(&self) -> bool {
        !self.0.contains('/')
    }
}

impl fmt::Display for PluginId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for PluginId {
    type Err = PluginIdError;
    fn from_str(text: &str) -> Result<Self, PluginIdError> {
        Self::new(text)
    }
}

impl Serialize for PluginId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for PluginId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::new(&String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

/// What a plugin is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Decides which items a run gets next.
    Pattern,
    /// Plans how to start one agent program and reads its output.
    RuntimeAdapter,
    /// One step of a worker pipeline.
    Block,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Pattern, Self::RuntimeAdapter, Self::Block];

    /// The word used in manifests and locks.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pattern => "pattern",
            Self::RuntimeAdapter => "runtime-adapter",
            Self::Block => "block",
        }
    }

    /// The WIT package of its contract.
    #[must_use]
    pub const fn package(self) -> &'static str {
        match self {
            Self::Pattern => "pangolin:pattern",
            Self::RuntimeAdapter => "pangolin:runtime-adapter",
            Self::Block => "pangolin:block",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Kind {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text).ok_or_else(|| {
            format!("{text:?} is not a kind of plugin; kinds are pattern, runtime-adapter, block")
        })
    }
}
