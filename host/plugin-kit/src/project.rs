//! A plugin's project directory.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use pangolin_plugin_authority::{Findings, MANIFEST_FILE, Manifest};
use thiserror::Error;

use crate::language::Language;

/// Why a directory is not a project that can be built.
#[derive(Debug, Error)]
pub enum ProjectError {
    /// There is no manifest.
    #[error(
        "{} has no {MANIFEST_FILE}; name the plugin's directory, or start one with `pangolin plugin new <name>`",
        .0.display()
    )]
    NoManifest(PathBuf),
    /// A file cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The manifest is wrong.
    #[error("{}", dir.display())]
    Manifest {
        /// The project.
        dir: PathBuf,
        /// Everything that is wrong.
        source: Findings,
    },
    /// Nothing says which language it is.
    #[error(
        "cannot tell the language of {}: none of {} is there; name it with --lang",
        .0.display(),
        Language::ALL.map(Language::marker).join(", ")
    )]
    NoLanguage(PathBuf),
    /// Several languages.
    #[error(
        "cannot tell the language of {}: there are {}; name it with --lang",
        dir.display(),
        found.iter().map(|language| language.marker()).collect::<Vec<_>>().join(" and ")
    )]
    Ambiguous {
        /// The project.
        dir: PathBuf,
        /// What its files say.
        found: Vec<Language>,
    },
}

/// A plugin's project directory with its manifest.
#[derive(Debug, Clone)]
pub struct Project {
    /// The directory, absolute.
    pub dir: PathBuf,
    /// `pangolin-plugin.toml`.
    pub manifest: Manifest,
    /// The language of its sources.
    pub language: Language,
}

impl Project {
    /// Reads the project in `dir`. `language` wins over what the files say.
    ///
    /// # Errors
    /// [`ProjectError`].
    pub fn open(dir: &Path, language: Option<Language>) -> Result<Self, ProjectError> {
        let dir = dir.canonicalize().map_err(|source| ProjectError::Read { path: dir.to_owned(), source })?;
        let path = dir.join(MANIFEST_FILE);
        let text = fs::read_to_string(&path).map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => ProjectError::NoManifest(dir.clone()),
            _ => ProjectError::Read { path, source },
        })?;
        let manifest = Manifest::from_toml(&text)
            .map_err(|source| ProjectError::Manifest { dir: dir.clone(), source })?;
        let language = match (language, Language::detect(&dir).as_slice()) {
            (Some(language), _) | (None, &[language]) => language,
            (None, []) => return Err(ProjectError::NoLanguage(dir)),
            (None, found) => return Err(ProjectError::Ambiguous { dir, found: found.to_vec() }),
        };
        Ok(Self { dir, manifest, language })
    }

    /// The plugin's name: its id without the owner.
    #[must_use]
    pub fn name(&self) -> &str {
        let id = self.manifest.id.as_str();
        id.rsplit_once('/').map_or(id, |(_, name)| name)
    }
}
