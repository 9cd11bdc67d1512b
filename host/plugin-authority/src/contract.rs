//! Versions of the contracts that this host serves.

use semver::{Version, VersionReq};

use crate::id::Kind;

/// A contract package and its newest version here. Older ones of the same major are served too.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contract {
    /// `pangolin:block`, …
    pub package: &'static str,
    /// Newest version.
    pub newest: Version,
}

/// The contract of a kind. A test holds it against the folders of `wit/`.
#[must_use]
pub const fn host_contract(kind: Kind) -> Contract {
    let newest = match kind {
        Kind::Pattern => Version::new(1, 1, 0),
        Kind::RuntimeAdapter | Kind::Block => Version::new(1, 0, 0),
    };
    Contract { package: kind.package(), newest }
}

/// Whether a range that a manifest states can be served.
pub(crate) fn is_served(kind: Kind, range: &VersionReq) -> bool {
    let newest = host_contract(kind).newest;
    (0..=newest.minor).any(|minor| range.matches(&Version::new(newest.major, minor, 0)))
        || range.matches(&newest)
}
