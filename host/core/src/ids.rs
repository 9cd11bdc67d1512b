//! Every id type, in one place. Ids are distinct types so that they cannot be mixed up.

use std::{borrow::Borrow, fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest as _, Sha256};
use thiserror::Error;

/// Longest run, item or queue id in bytes.
pub const ID_BYTES_MAX: usize = 128;

/// Why a text is not an id or a digest.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum IdError {
    /// The text is empty.
    #[error("an id must not be empty")]
    Empty,
    /// The text is longer than [`ID_BYTES_MAX`].
    #[error("id is {0} bytes long, the limit is 128")]
    TooLong(usize),
    /// A character outside the allowed set.
    #[error(
        "id {id:?} contains {found:?}; allowed are A-Z a-z 0-9 and . _ ~ : @ + - (first one alphanumeric)"
    )]
    BadCharacter {
        /// The offending id.
        id: String,
        /// The first character that is not allowed where it stands.
        found: char,
    },
    /// `..` could climb out of a directory.
    #[error("id {0:?} contains \"..\"")]
    DotDot(String),
    /// Not `sha256:` and 64 lower-case hexadecimal digits.
    #[error("{0:?} is not a digest; expected sha256:<64 lower-case hex digits>")]
    BadDigest(String),
}

fn check_id(text: &str) -> Result<(), IdError> {
    if text.is_empty() {
        return Err(IdError::Empty);
    }
    if text.len() > ID_BYTES_MAX {
        return Err(IdError::TooLong(text.len()));
    }
    for (index, found) in text.char_indices() {
        let inner = matches!(found, '.' | '_' | '~' | ':' | '@' | '+' | '-');
        if !(found.is_ascii_alphanumeric() || (index > 0 && inner)) {
            return Err(IdError::BadCharacter { id: text.to_owned(), found });
        }
    }
    if text.contains("..") {
        return Err(IdError::DotDot(text.to_owned()));
    }
    Ok(())
}

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
        #[serde(transparent)]
        pub struct $name(String);

        impl $name {
            /// Checks `text` against the id rules.
            ///
            /// # Errors
            /// [`IdError`] names what is wrong.
            pub fn new(text: impl Into<String>) -> Result<Self, IdError> {
                let text = text.into();
                check_id(&text)?;
                Ok(Self(text))
            }

            /// Whether `text` could be one.
            ///
            /// # Errors
            /// [`IdError`] names what is wrong.
            pub fn check(text: &str) -> Result<(), IdError> {
                check_id(text)
            }

            /// The id as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        // For maps: who looks up text need not make an id of it.
        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl FromStr for $name {
            type Err = IdError;
            fn from_str(text: &str) -> Result<Self, IdError> {
                Self::new(text)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                Self::new(String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
            }
        }
    };
}

text_id! {
    /// A run: the `id` of its plan. Unique in a deployment.
    RunId
}
text_id! {
    /// An item inside one run.
    ItemId
}
text_id! {
    /// A queue named in the configuration.
    QueueName
}
text_id! {
    /// One dispatch: one attempt of one item. Derived, never random, so firing twice is the same dispatch.
    DispatchId
}

impl DispatchId {
    /// The id of attempt `attempt` (counted from 1) of `item` in `run`.
    ///
    /// `d-` and the first 32 hex digits of SHA-256 over the four parts joined by NUL.
    #[must_use]
    pub fn derive(namespace: &str, run: &RunId, item: &ItemId, attempt: u32) -> Self {
        let text = format!("{namespace}\0{run}\0{item}\0{attempt}");
        let digest = Digest::of(text.as_bytes());
        Self(format!("d-{}", &digest.hex()[..32]))
    }
}

/// A SHA-256 digest, written `sha256:<hex>`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest([u8; 32]);

impl Digest {
    /// The digest of `bytes`.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// Wraps a finished digest.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The 32 bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// 64 lower-case hex digits without the prefix.
    #[must_use]
    pub fn hex(&self) -> String {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let mut text = String::with_capacity(64);
        for byte in self.0 {
            text.push(char::from(DIGITS[usize::from(byte >> 4)]));
            text.push(char::from(DIGITS[usize::from(byte & 15)]));
        }
        text
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("sha256:")?;
        f.write_str(&self.hex())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Digest {
    type Err = IdError;
    fn from_str(text: &str) -> Result<Self, IdError> {
        let bad = || IdError::BadDigest(text.to_owned());
        let hex = text.strip_prefix("sha256:").ok_or_else(bad)?.as_bytes();
        if hex.len() != 64 {
            return Err(bad());
        }
        let nibble = |digit: u8| match digit {
            b'0'..=b'9' => Some(digit - b'0'),
            b'a'..=b'f' => Some(digit - b'a' + 10),
            _ => None,
        };
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(hex.chunks_exact(2)) {
            *byte = nibble(pair[0]).ok_or_else(bad)? << 4 | nibble(pair[1]).ok_or_else(bad)?;
        }
        Ok(Self(bytes))
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_that_could_leave_a_directory_are_refused() {
        for text in ["", "a/b", "../a", "a..b", ".hidden", "a\u{1f}b", "-rf", "ä", &"a".repeat(129)] {
            assert!(RunId::new(text).is_err(), "{text:?}");
        }
        for text in ["fanout-1", "review~2", "map-x.csv", "s::rev-1", "nightly@2026-05-31T00:00:00.000Z"] {
            assert_eq!(RunId::new(text).unwrap().as_str(), text);
        }
    }

    #[test]
    fn digests_round_trip_and_refuse_near_misses() {
        let digest = Digest::of(b"");
        let text = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(digest.to_string(), text);
        assert_eq!(text.parse::<Digest>().unwrap(), digest);
        assert!(text.to_uppercase().parse::<Digest>().is_err());
        assert!(text[..70].parse::<Digest>().is_err());
    }
}
