//! Why a component did not come.

use std::{io, path::PathBuf};

use pangolin_core::ids::Digest;
use thiserror::Error;

/// Why a component did not come.
#[derive(Debug, Error)]
pub enum SourceError {
    /// Not a source.
    #[error(
        "{text:?} is not a plugin source: {problem}; expected a path, https://… with --sha256, or oci://registry/repository:tag"
    )]
    Invalid {
        /// The text.
        text: String,
        /// What is wrong.
        problem: String,
    },
    /// https without a digest: whoever serves the address would decide what runs.
    #[error(
        "{source_text} needs --sha256 sha256:<64 hex digits>: an address alone does not say which plugin it is"
    )]
    NeedsDigest {
        /// The source.
        source_text: String,
    },
    /// The file cannot be read.
    #[error("cannot read {path}")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Over the limit.
    #[error("{what} is larger than {limit} bytes")]
    TooLarge {
        /// Which.
        what: String,
        /// Limit in bytes.
        limit: u64,
    },
    /// No answer, or none that can be used.
    #[error("cannot fetch {url}: {problem}")]
    Transfer {
        /// The address.
        url: String,
        /// What happened.
        problem: String,
    },
    /// The server answered with another status than it should.
    #[error("{url} answered {status}{}", if *.status == 401 || *.status == 403 { "; only anonymous access works" } else { "" })]
    Status {
        /// The address.
        url: String,
        /// HTTP status.
        status: u16,
    },
    /// The server sent us somewhere we do not go.
    #[error("{url} redirects to {to}, which is refused: {problem}")]
    Redirect {
        /// The address.
        url: String,
        /// Where to.
        to: String,
        /// Why not.
        problem: &'static str,
    },
    /// The registry has something else under that name.
    #[error("{reference} is not a plugin artifact: {problem}")]
    NotAnArtifact {
        /// The reference.
        reference: String,
        /// What is wrong.
        problem: String,
    },
    /// Other bytes than expected.
    #[error("{source_text} has {found}, expected {expected}; nothing was installed")]
    WrongDigest {
        /// The source.
        source_text: String,
        /// Expected.
        expected: Digest,
        /// What came.
        found: Digest,
    },
}
