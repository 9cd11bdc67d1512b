//! What happens to the work when a plugin itself fails.

use std::{fmt, str::FromStr};

use thiserror::Error;

/// Decision per binding (a queue's pattern, a pipeline's block, a subagent's adapter). Text form: `closed`, `open` or
/// `builtin:<id>`, the same in configuration, manifests and ledger.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub enum OnFailure {
    /// Nothing goes on: the run stops growing, the item fails. For everything that gates.
    #[default]
    Closed,
    /// As if the plugin had said nothing; the failure is recorded. For pure reporting.
    Open,
    /// The built-in plugin of this id decides instead; that it did is recorded.
    Builtin(String),
}

/// A text that is no [`OnFailure`].
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error(
    "on-failure {0:?} is none of `closed`, `open` or `builtin:<id>` (id: lower-case letters, digits and `-`)"
)]
pub struct BadOnFailure(pub String);

impl FromStr for OnFailure {
    type Err = BadOnFailure;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let well_formed = |id: &str| {
            !id.is_empty()
                && id.len() <= 64
                && id.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
        };
        match text {
            "closed" => Ok(Self::Closed),
            "open" => Ok(Self::Open),
            _ => match text.strip_prefix("builtin:") {
                Some(id) if well_formed(id) => Ok(Self::Builtin(id.to_owned())),
                _ => Err(BadOnFailure(text.chars().take(80).collect())),
            },
        }
    }
}

impl fmt::Display for OnFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed => f.write_str("closed"),
            Self::Open => f.write_str("open"),
            Self::Builtin(id) => write!(f, "builtin:{id}"),
        }
    }
}

impl serde::Serialize for OnFailure {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for OnFailure {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}
