//! Where a component comes from, as text.

use std::{
    fmt,
    path::{Path, PathBuf},
};

use pangolin_core::ids::Digest;
use url::{Host, Url};

use crate::error::SourceError;

/// Longest source in bytes.
const TEXT_BYTES_MAX: usize = 2048;

/// Where a component comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A file.
    File(PathBuf),
    /// An address; http for loopback only.
    Https(Url),
    /// An artifact in a registry.
    Oci(OciReference),
}

/// `registry/repository` and a tag or manifest digest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OciReference {
    /// Host and port.
    pub registry: String,
    /// Path.
    pub repository: String,
    /// Tag.
    pub tag: Option<String>,
    /// Digest of the manifest; wins over the tag.
    pub digest: Option<Digest>,
}

impl Source {
    /// Reads a source. A relative path is relative to `base`.
    ///
    /// # Errors
    /// [`SourceError::Invalid`].
    pub fn parse(text: &str, base: &Path) -> Result<Self, SourceError> {
        let invalid = |problem: &str| SourceError::Invalid {
            text: text.chars().take(200).collect(),
            problem: problem.to_owned(),
        };
        if text.is_empty() || text.len() > TEXT_BYTES_MAX || text.chars().any(char::is_control) {
            return Err(invalid("empty, too long, or with control characters"));
        }
        if let Some(rest) = text.strip_prefix("oci://") {
            return OciReference::parse(rest).map(Self::Oci).map_err(|problem| invalid(&problem));
        }
        if let Some(path) = text.strip_prefix("file:") {
            // `file:x`, `file:/x` and `file:///x`.
            let path = path.strip_prefix("//").unwrap_or(path);
            return if path.is_empty() {
                Err(invalid("the path is empty"))
            } else {
                Ok(Self::File(base.join(path)))
            };
        }
        if let Some((scheme, _)) = text.split_once("://") {
            let url = Url::parse(text).map_err(|error| invalid(&error.to_string()))?;
            if !url.username().is_empty() || url.password().is_some() {
                return Err(invalid("an address with a user or password would end up in pangolin.lock"));
            }
            if url.fragment().is_some() {
                return Err(invalid("an address must not have a fragment"));
            }
            return match scheme {
                "https" => Ok(Self::Https(url)),
                "http" if is_loopback(&url) => Ok(Self::Https(url)),
                "http" => Err(invalid("plain http is for loopback only")),
                _ => Err(invalid("unknown scheme")),
            };
        }
        Ok(Self::File(base.join(text)))
    }
}

/// Only this machine.
pub(crate) fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

impl OciReference {
    fn parse(text: &str) -> Result<Self, String> {
        let (name, digest) = match text.split_once('@') {
            Some((name, digest)) => {
                (name, Some(digest.parse::<Digest>().map_err(|error| error.to_string())?))
            }
            None => (text, None),
        };
        let (registry, path) = name.split_once('/').ok_or("no repository")?;
        let (repository, tag) = match path.rsplit_once(':') {
            Some((repository, tag)) => (repository, Some(tag.to_owned())),
            None => (path, None),
        };
        if tag.is_none() && digest.is_none() {
            return Err("a tag or digest is missing".to_owned());
        }
        let url =
            Url::parse(&format!("https://{registry}/")).map_err(|error| format!("registry: {error}"))?;
        if url.path() != "/"
            || !url.username().is_empty()
            || url.password().is_some()
            || url.query().is_some()
        {
            return Err("the registry must be a host with an optional port".to_owned());
        }
        let part = |part: &str| {
            !part.is_empty()
                && part
                    .bytes()
                    .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'_' | b'-'))
                && part.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric())
                && !part.contains("..")
        };
        if repository.len() > 255 || !repository.split('/').all(part) {
            return Err("the repository must be of a-z 0-9 . _ - and /".to_owned());
        }
        let good_tag = |tag: &String| {
            (1..=128).contains(&tag.len())
                && tag.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
                && !tag.starts_with(['.', '-'])
        };
        if tag.as_ref().is_some_and(|tag| !good_tag(tag)) {
            return Err("the tag must be of A-Z a-z 0-9 . _ -".to_owned());
        }
        Ok(Self { registry: registry.to_owned(), repository: repository.to_owned(), tag, digest })
    }

    /// Base address of the registry's interface for this repository.
    pub(crate) fn base(&self) -> String {
        let secure = Url::parse(&format!("http://{}/", self.registry)).is_ok_and(|url| !is_loopback(&url));
        format!("{}://{}/v2/{}", if secure { "https" } else { "http" }, self.registry, self.repository)
    }
}

impl fmt::Display for OciReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "oci://{}/{}", self.registry, self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Https(url) => write!(f, "{url}"),
            Self::Oci(reference) => write!(f, "{reference}"),
        }
    }
}
