//! The code of the functions.

use std::{
    fs,
    io::{self, Cursor, Read as _},
    path::Path,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use pangolin_core::ids::Digest;
use pangolin_stack::{Architecture, LABEL_FILE, Label, Release};
use zip::{ZipArchive, result::ZipError};

use crate::{DeployError, names, template::FUNCTIONS};

/// Largest archive that is taken. Lambda takes 250 MB unpacked; ours have a few.
const ZIP_BYTES_MAX: usize = 100 * 1024 * 1024;

/// Largest label in bytes.
const LABEL_BYTES_MAX: u64 = 64 << 10;

/// One archive: a zip with `bootstrap` in it, and a label that says what it is.
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

    /// What the archive says about itself.
    ///
    /// # Errors
    /// Why that is not known, as words that follow "it".
    fn label(&self) -> Result<Label, String> {
        let unreadable = |error: &dyn std::fmt::Display| format!("cannot be read: {error}");
        let mut archive = ZipArchive::new(Cursor::new(&self.bytes)).map_err(|error| unreadable(&error))?;
        let file = match archive.by_name(LABEL_FILE) {
            Err(ZipError::FileNotFound) => {
                return Err(format!(
                    "does not say of which release it is (no {LABEL_FILE} in it): make it anew"
                ));
            }
            other => other.map_err(|error| unreadable(&error))?,
        };
        let mut bytes = Vec::new();
        file.take(LABEL_BYTES_MAX).read_to_end(&mut bytes).map_err(|error| unreadable(&error))?;
        Label::read(&bytes).map_err(|error| unreadable(&error))
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
    /// Reads `<function>-<architecture>.zip` for every function, as `cargo xtask package` names them. Each must say that it
    /// is of the `release` that deploys: functions load native code that the deploying program makes.
    ///
    /// # Errors
    /// [`DeployError::Packages`] names everything that is missing, unreadable, no archive or of another release, at once.
    pub fn read(dir: &Path, architecture: Architecture, release: &Release) -> Result<Self, DeployError> {
        let mut problems = Vec::new();
        let mut read = |name: &str| {
            let path = dir.join(format!("{name}-{}.zip", architecture.as_str()));
            let mut problem = |words: &str| problems.push(format!("{} {words}", path.display()));
            let bytes = match fs::read(&path) {
                Ok(bytes) => bytes,
                Err(error) => {
                    match error.kind() {
                        io::ErrorKind::NotFound => problem("is missing"),
                        _ => problem(&format!("cannot be read: {error}")),
                    }
                    return Package::new(Vec::new());
                }
            };
            let package = Package::new(bytes);
            match package.label() {
                Ok(label) => label.differences(name, architecture, release).iter().for_each(|it| problem(it)),
                Err(words) => problem(&words),
            }
            package
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
