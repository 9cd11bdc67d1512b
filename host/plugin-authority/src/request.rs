//! One thing a plugin wants to do, and its text in denials.

use std::{fmt, str::FromStr};

use pangolin_core::glob;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

use crate::{finding::shown, rules::Capability};

/// Where the host puts a secret.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SecretPlace {
    /// A request header, in the case the author wrote; compared without case.
    Header(String),
    /// A variable of a started program.
    Env(String),
}

impl SecretPlace {
    /// Whether it is the same place. Header names have no case.
    #[must_use]
    pub fn fits(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Header(left), Self::Header(right)) => left.eq_ignore_ascii_case(right),
            (Self::Env(left), Self::Env(right)) => left == right,
            _ => false,
        }
    }
}

impl fmt::Display for SecretPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Header(name) => write!(f, "header:{name}"),
            Self::Env(name) => write!(f, "env:{name}"),
        }
    }
}

impl FromStr for SecretPlace {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let token = |name: &str, extra: &[u8]| {
            (1..=128).contains(&name.len())
                && name.bytes().all(|b| b.is_ascii_alphanumeric() || extra.contains(&b))
        };
        match text.split_once(':') {
            Some(("header", name)) if token(name, b"-_") => Ok(Self::Header(name.to_owned())),
            Some(("env", name)) if token(name, b"_") && !name.as_bytes()[0].is_ascii_digit() => {
                Ok(Self::Env(name.to_owned()))
            }
            _ => Err(format!("{} is not a place; expected header:<name> or env:<variable>", shown(text))),
        }
    }
}

impl Serialize for SecretPlace {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for SecretPlace {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// What was asked for. Its text is the `subject` of a denial and can be read back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// Start a program.
    Exec {
        /// Name or absolute path.
        program: String,
        /// Arguments.
        args: Vec<String>,
    },
    /// Send a request.
    Net {
        /// Lower case.
        host: String,
        /// Port.
        port: u16,
        /// `http` or `https`.
        scheme: String,
        /// Upper case.
        method: String,
    },
    /// Have a secret put somewhere.
    Secret {
        /// Name.
        name: String,
        /// Place.
        place: SecretPlace,
        /// Host or program.
        to: String,
    },
    /// Read a file.
    Read {
        /// Path.
        path: String,
    },
    /// Write an artifact.
    Write {
        /// Path.
        path: String,
    },
}

impl Request {
    /// Which capability it needs.
    #[must_use]
    pub const fn capability(&self) -> Capability {
        match self {
            Self::Exec { .. } => Capability::Exec,
            Self::Net { .. } => Capability::Net,
            Self::Secret { .. } => Capability::Secret,
            Self::Read { .. } => Capability::Read,
            Self::Write { .. } => Capability::Write,
        }
    }

    /// Reads the two texts of a recorded denial.
    #[must_use]
    pub fn parse(capability: &str, subject: &str) -> Option<Self> {
        match capability {
            "exec" => {
                let (program, args) = subject.split_once(' ')?;
                Some(Self::Exec { program: program.to_owned(), args: serde_json::from_str(args).ok()? })
            }
            "net" => {
                let (method, rest) = subject.split_once(' ')?;
                let (scheme, authority) = rest.split_once("://")?;
                let (host, port) = authority.rsplit_once(':')?;
                Some(Self::Net {
                    host: host.to_owned(),
                    port: port.parse().ok()?,
                    scheme: scheme.to_owned(),
                    method: method.to_owned(),
                })
            }
            "secret" => {
                let (name, rest) = subject.split_once(' ')?;
                let (place, to) = rest.split_once(' ')?;
                Some(Self::Secret { name: name.to_owned(), place: place.parse().ok()?, to: to.to_owned() })
            }
            "read" => Some(Self::Read { path: subject.to_owned() }),
            "write" => Some(Self::Write { path: subject.to_owned() }),
            _ => None,
        }
    }

    /// The rule that would allow exactly this, as a line of a grant; `None` when no rule can (a `*` in it would be a
    /// wildcard).
    #[must_use]
    pub fn grant_line(&self) -> Option<String> {
        let text = |value: &str| Value::from(value).to_string();
        let (wild, line) = match self {
            Self::Exec { program, args } => (
                program.contains('*') || args.iter().any(|arg| arg.contains('*')),
                format!(
                    "{{ program = {}, args = [{}] }}",
                    text(program),
                    args.iter().map(|arg| text(arg)).collect::<Vec<_>>().join(", ")
                ),
            ),
            Self::Net { host, port, scheme, method } => (
                false,
                format!(
                    "{{ host = {}, methods = [{}], schemes = [{}], ports = [{port}] }}",
                    text(host),
                    text(method),
                    text(scheme)
                ),
            ),
            Self::Secret { name, place, to } => (
                false,
                format!(
                    "{{ name = {}, place = {}, to = {} }}",
                    text(name),
                    text(&place.to_string()),
                    text(to)
                ),
            ),
            Self::Read { path } | Self::Write { path } => {
                // A denied listing is recorded as the rule that would show it: everything below a directory.
                let (directory, last) = path.rsplit_once('/').unwrap_or(("", path));
                let literal = if last == glob::ANY { directory } else { path.as_str() };
                (literal.contains('*') || glob::path_problem(path).is_some(), text(path))
            }
        };
        (!wild).then(|| format!("{} = [{line}]", self.capability()))
    }
}

impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exec { program, args } => write!(f, "{program} {}", Value::from(args.as_slice())),
            Self::Net { host, port, scheme, method } => write!(f, "{method} {scheme}://{host}:{port}"),
            Self::Secret { name, place, to } => write!(f, "{name} {place} {to}"),
            Self::Read { path } | Self::Write { path } => f.write_str(path),
        }
    }
}
