//! The code of the functions.

use std::{fs, io, path::Path};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use pangolin_core::ids::Digest;
use pangolin_stack::Architecture;

use crate::{DeployError, names, template::FUNCTIONS};

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
    /// Reads `<function>-<architecture>.zip` for every function, as `cargo xtask package` names them.
    ///
    /// # Errors
    /// [`DeployError::Packages`] names everything that is missing, unreadable or no archive, at once.
    pub fn read(dir: &Path, architecture: Architecture) -> Result<Self, DeployError> {
        let mut problems = Vec::new();
        let mut read = |name: &str| {
            let path = dir.join(format!("{name}-{}.zip", architecture.as_str()));
            let bytes = fs::read(&path).unwrap_or_else(|error| {
                problems.push(match error.kind() {
                    io::ErrorKind::NotFound => format!("{} is missing", path.display()),
                    _ => format!("{} cannot be read: {error}", path.display()),
                });
                Vec::new()
            });
            Package::new(bytes)
        };
        let [inbox, tick, task_events] = FUNCTIONS.map(|function| read(function.name));
        let packages = Self { inbox, tick, task_events };
        if problems.is_empty() {
            packages.check()?;
            return Ok(packages);
        }
        Err(DeployError::Packages { architecture: architecture.as_str(), problems })
    }

    /// In the order of the functions in the template.
    pub(crate) fn all(&self) -> [&Package; 3] {
        [&self.inbox, &self.tick, &self.task_events]
    }

    /// # Errors
    /// [`DeployError::Settings`] for what is no zip or is too large.
    pub(crate) fn check(&self) -> Result<(), DeployError> {
        let mut findings = Vec::new();
        for (function, package) in FUNCTIONS.iter().zip(self.all()) {
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
