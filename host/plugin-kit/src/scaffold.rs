//! New projects.

use std::{
    collections::BTreeMap,
    fs, io,
    io::Write as _,
    path::{Path, PathBuf},
};

use pangolin_plugin_authority::{Kind, PluginId};
use thiserror::Error;

use crate::{embedded, language::Language};

/// Why there is no new project.
#[derive(Debug, Error)]
pub enum ScaffoldError {
    /// The name cannot be the name of a package in every language.
    #[error(
        "{0:?} is not a name for a plugin; expected a-z, 0-9 and inner -, starting with a letter, at most 64 characters"
    )]
    Name(String),
    /// An id without owner is for what ships with Pangolin.
    #[error("{0:?} has no owner; choose <owner>/<name>, e.g. local/{0}")]
    Reserved(String),
    /// Something is already there. Nothing was written.
    #[error(
        "{}: {}; nothing was written, choose another directory",
        if .0.len() == 1 { "a file is there already" } else { "some files are there already" },
        .0.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ")
    )]
    Exists(Vec<PathBuf>),
    /// A file cannot be written.
    #[error("cannot write {}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A template is wrong. Nothing an author can do about it.
    #[error("the template of {0} is incomplete: {1}; please report this")]
    Template(String, String),
}

/// A project that is not there yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scaffold {
    name: String,
    id: PluginId,
    kind: Kind,
    language: Language,
}

/// Whether `name` can be a package name in every language.
fn is_name(name: &str) -> bool {
    name.len() <= 64
        && name.starts_with(|first: char| first.is_ascii_lowercase())
        && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
        && !name.ends_with('-')
        && !name.contains("--")
}

/// The folder of templates of a kind.
const fn folder(kind: Kind) -> &'static str {
    match kind {
        Kind::Pattern => "pattern",
        Kind::RuntimeAdapter => "adapter",
        Kind::Block => "block",
    }
}

/// A released interface package in `wit/`.
#[derive(Debug, Clone, Copy)]
struct Released {
    /// `pangolin-pattern@1.1.0`.
    folder: &'static str,
    /// `pangolin-pattern`.
    package: &'static str,
    /// `1.1.0`.
    version: &'static str,
}

fn released() -> Vec<Released> {
    let mut found: Vec<Released> = Vec::new();
    for (path, _) in embedded::WIT {
        let Some((folder, _)) = path.split_once('/') else { continue };
        let Some((package, version)) = folder.split_once('@') else { continue };
        if found.last().is_none_or(|last| last.folder != folder) {
            found.push(Released { folder, package, version });
        }
    }
    found
}

fn number(version: &str) -> Vec<u64> {
    version.split('.').map(|part| part.parse().unwrap_or(0)).collect()
}

fn newest(package: &str) -> Option<Released> {
    released().into_iter().filter(|one| one.package == package).max_by_key(|one| number(one.version))
}

impl Scaffold {
    /// A plugin called `name`, with the id `local/<name>` unless there is another one.
    ///
    /// # Errors
    /// [`ScaffoldError::Name`], [`ScaffoldError::Reserved`].
    pub fn new(
        name: &str,
        id: Option<PluginId>,
        kind: Kind,
        language: Language,
    ) -> Result<Self, ScaffoldError> {
        if !is_name(name) {
            return Err(ScaffoldError::Name(name.to_owned()));
        }
        let id = match id {
            Some(id) if id.is_builtin() => return Err(ScaffoldError::Reserved(id.to_string())),
            Some(id) => id,
            None => {
                PluginId::new(&format!("local/{name}")).map_err(|_| ScaffoldError::Name(name.to_owned()))?
            }
        };
        Ok(Self { name: name.to_owned(), id, kind, language })
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its id.
    #[must_use]
    pub const fn id(&self) -> &PluginId {
        &self.id
    }

    /// Every file by its path in the project, with slashes.
    ///
    /// # Errors
    /// [`ScaffoldError::Template`].
    pub fn files(&self) -> Result<BTreeMap<String, String>, ScaffoldError> {
        let (mut files, contract) = match self.language {
            Language::Rust => self.sdk()?,
            _ => self.interfaces()?,
        };
        let minor = contract.rsplit_once('.').map_or(contract, |(minor, _)| minor);
        let values = [
            ("{{name}}", self.name.as_str()),
            ("{{id}}", self.id.as_str()),
            ("{{kind}}", self.kind.as_str()),
            ("{{word}}", folder(self.kind)),
            ("{{package}}", self.kind.package()),
            ("{{contract}}", contract),
            ("{{range}}", minor),
        ];
        let language = self.language.as_str();
        // Later ones win.
        for (folder, part) in [
            ("common", "all"),
            ("common", folder(self.kind)),
            (language, "all"),
            (language, folder(self.kind)),
        ] {
            let prefix = format!("{folder}/{part}/");
            for (path, text) in embedded::TEMPLATES {
                let Some(path) = path.strip_prefix(&prefix) else { continue };
                let path = path.strip_suffix(".template").unwrap_or(path);
                let path = path.replace("dot-", ".");
                let text =
                    values.iter().fold((*text).to_owned(), |text, (key, value)| text.replace(key, value));
                files.insert(path, text);
            }
        }
        // What a kind adds to a file of all kinds.
        let parts: Vec<String> = files.keys().filter(|path| path.contains(".part-")).cloned().collect();
        for path in parts {
            let (Some((file, part)), Some(text)) = (path.split_once(".part-"), files.remove(&path)) else {
                continue;
            };
            let place = format!("{{{{part-{part}}}}}");
            if let Some(whole) = files.get_mut(file) {
                *whole = whole.replace(&place, text.trim_end());
            }
        }
        // A place that this kind has nothing for.
        for (path, text) in &mut files {
            while let Some((start, end)) = text
                .find("{{part-")
                .and_then(|start| Some((start, start + text.get(start..)?.find("}}")? + 2)))
            {
                text.replace_range(start..end, "");
            }
            if path.ends_with(".toml") {
                while text.contains("\n\n\n") {
                    *text = text.replace("\n\n\n", "\n\n");
                }
                text.truncate(text.trim_end().len() + 1);
            }
        }
        Ok(files)
    }

    /// The interfaces as the tools of other languages want them: a world of the author's own, packages below `deps`.
    fn interfaces(&self) -> Result<(BTreeMap<String, String>, &'static str), ScaffoldError> {
        let package = self.kind.package().replace(':', "-");
        let missing = |what: &str| ScaffoldError::Template(self.language.to_string(), format!("wit/{what}"));
        let own = newest(&package).ok_or_else(|| missing(&package))?;
        let base = newest("pangolin-base").ok_or_else(|| missing("pangolin-base"))?;
        let mut files = BTreeMap::new();
        for one in [own, base] {
            for (path, text) in embedded::WIT {
                if let Some(file) = path.strip_prefix(one.folder).and_then(|rest| rest.strip_prefix('/')) {
                    files.insert(format!("wit/deps/{}/{file}", one.package), (*text).to_owned());
                }
            }
        }
        Ok((files, own.version))
    }

    /// The SDK's source and the interfaces that it names.
    fn sdk(&self) -> Result<(BTreeMap<String, String>, &'static str), ScaffoldError> {
        let prefix = format!("{}/", folder(self.kind));
        let sdk: Vec<_> = embedded::SDK.iter().filter(|(path, _)| path.starts_with(&prefix)).collect();
        let mut files: BTreeMap<String, String> =
            sdk.iter().map(|(path, text)| (format!("vendor/sdk/{path}"), (*text).to_owned())).collect();
        let package = self.kind.package().replace(':', "-");
        let mut contract: Option<&'static str> = None;
        for one in released() {
            let named = format!("wit/{}", one.folder);
            if !sdk.iter().any(|(_, text)| text.contains(&named)) {
                continue;
            }
            if one.package == package {
                contract = contract.into_iter().chain([one.version]).max_by_key(|version| number(version));
            }
            for (path, text) in embedded::WIT.iter().filter(|(path, _)| path.starts_with(one.folder)) {
                files.insert(format!("wit/{path}"), (*text).to_owned());
            }
        }
        let contract = contract.ok_or_else(|| {
            ScaffoldError::Template("rust".to_owned(), format!("plugins/sdk/{prefix} names no {package}"))
        })?;
        Ok((files, contract))
    }

    /// Writes the project into `dir`, which is made when it is not there. Never replaces a file: when one is there
    /// already nothing is written. Answers the paths, sorted.
    ///
    /// # Errors
    /// [`ScaffoldError::Exists`], [`ScaffoldError::Write`].
    pub fn write(&self, dir: &Path) -> Result<Vec<PathBuf>, ScaffoldError> {
        let files = self.files()?;
        let taken: Vec<PathBuf> =
            files.keys().map(|path| dir.join(path)).filter(|path| path.symlink_metadata().is_ok()).collect();
        if !taken.is_empty() {
            return Err(ScaffoldError::Exists(taken));
        }
        let mut written = Vec::new();
        for (path, text) in files {
            let path = dir.join(path);
            let problem = |source| ScaffoldError::Write { path: path.clone(), source };
            if let Some(parent) = path.parent() {
                fs::create_dir_all(parent).map_err(problem)?;
            }
            // Somebody may have been faster.
            let mut file = fs::File::options().write(true).create_new(true).open(&path).map_err(problem)?;
            file.write_all(text.as_bytes()).map_err(problem)?;
            written.push(path);
        }
        Ok(written)
    }
}
