//! Fetches plugin components from where their authors put them.
//!
//! Three kinds of [`Source`]: a file, `https://…` (only with the digest that is expected) and
//! `oci://registry/repository:tag` or `…@sha256:…`. Whatever comes is bounded in size and time, and its digest is
//! checked before anybody sees a byte of it. Plain http is for loopback only, which is what tests and local
//! registries use.
//!
//! Of the OCI distribution protocol only the pull of one artifact is here, on a small blocking client: the general
//! client libraries bring an async stack several times the size of this program's other dependencies, and no
//! bound on what a registry may send.
//!
//! Deliberately not here: what the bytes mean, signatures and approval (`pangolin-plugin-authority`), pushing,
//! registry passwords (only anonymous pulls).

mod error;
mod file;
mod http;
mod oci;
mod source;

use std::time::Duration;

use pangolin_core::ids::Digest;

pub use error::SourceError;
pub use source::{OciReference, Source};

/// Largest signature file in bytes.
const SIGNATURE_BYTES_MAX: u64 = 8 << 10;

/// Bounds of one fetch.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Largest component in bytes.
    pub bytes_max: u64,
    /// Wall time of each request.
    pub timeout: Duration,
    /// Also look for a detached signature: `<file>.sig`, `<url>.sig`, or a signature layer of the artifact.
    pub with_signature: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self { bytes_max: 64 << 20, timeout: Duration::from_secs(120), with_signature: true }
    }
}

/// What came.
#[derive(Debug, Clone)]
pub struct Fetched {
    /// The component.
    pub bytes: Vec<u8>,
    /// Its digest, computed here.
    pub digest: Digest,
    /// The detached signature file, when there is one. Not checked here.
    pub signature: Option<Vec<u8>>,
}

/// Fetches a component. Blocking. With `expected` anything else is refused; https needs it.
///
/// # Errors
/// [`SourceError`].
pub fn fetch(source: &Source, expected: Option<&Digest>, options: &Options) -> Result<Fetched, SourceError> {
    let (bytes, signature) = match source {
        Source::File(path) => file::fetch(path, options)?,
        Source::Https(url) => {
            if expected.is_none() {
                return Err(SourceError::NeedsDigest { source_text: source.to_string() });
            }
            http::fetch(url, options)?
        }
        Source::Oci(reference) => oci::fetch(reference, options)?,
    };
    let digest = Digest::of(&bytes);
    match expected {
        Some(expected) if *expected != digest => Err(SourceError::WrongDigest {
            source_text: source.to_string(),
            expected: *expected,
            found: digest,
        }),
        _ => Ok(Fetched { bytes, digest, signature }),
    }
}

/// The digest of what the source has now; nothing is kept. Blocking.
///
/// # Errors
/// [`SourceError`].
pub fn current_digest(source: &Source, options: &Options) -> Result<Digest, SourceError> {
    let options = Options { with_signature: false, ..*options };
    match source {
        Source::File(path) => Ok(Digest::of(&file::fetch(path, &options)?.0)),
        Source::Https(url) => Ok(Digest::of(&http::fetch(url, &options)?.0)),
        Source::Oci(reference) => oci::layer_digest(reference, &options),
    }
}
