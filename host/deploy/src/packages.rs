//! The code of the functions.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use pangolin_core::ids::Digest;

use crate::{DeployError, names};

/// Largest archive that is taken. Lambda takes 250 MB unpacked; ours have a few.
const ZIP_BYTES_MAX: usize = 100 * 1024 * 1024;

/// One archive: a zip with `bootstrap` in it.
#[derive(Debug, Clone)]
pub struct Package {
    pub(crate) bytes: Vec<u8>,
    digest: Digest,
}

impl Package {
    /// From the bytes of a zip.
    #[must_use]
    pub fn new(bytes: Vec<u8>) -> Self {
        Self { digest: Digest::of(&bytes), bytes }
    }

    /// Where it goes in the data bucket. Named by content: equal code is uploaded once, and other code is another key, which
    /// is how CloudFormation sees that there is something to do.
    #[must_use]
    pub fn key(&self) -> String {
        format!("{}{}.zip", names::CODE_PREFIX, self.digest.hex())
    }

    /// The digest as Lambda shows it.
    #[must_use]
    pub fn sha256_base64(&self) -> String {
        STANDARD.encode(self.digest.as_bytes())
    }
}

/// Archives of all functions, built for the architecture of the settings.
#[derive(Debug, Clone)]
pub struct Packages {
    /// Function `inbox`.
    pub inbox: Package,
    /// Function `tick`.
    pub tick: Package,
    /// Function `task-events`.
    pub task_events: Package,
}

impl Packages {
    /// In the order of the functions in the template.
    pub(crate) fn all(&self) -> [&Package; 3] {
        [&self.inbox, &self.tick, &self.task_events]
    }

    /// # Errors
    /// [`DeployError::Settings`] for what is no zip or is too large.
    pub(crate) fn check(&self) -> Result<(), DeployError> {
        let mut findings = Vec::new();
        for (function, package) in crate::template::FUNCTIONS.iter().zip(self.all()) {
            let size = package.bytes.len();
            if !package.bytes.starts_with(b"PK\x03\x04") {
                findings.push(format!(
                    "code of {} is no zip archive; build it with the release's packages",
                    function.name
                ));
            }
            if size > ZIP_BYTES_MAX {
                findings.push(format!(
                    "code of {} has {size} bytes, at most {ZIP_BYTES_MAX} are taken",
                    function.name
                ));
            }
        }
        if findings.is_empty() { Ok(()) } else { Err(DeployError::Settings(findings)) }
    }
}
