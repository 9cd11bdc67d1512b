//! Dependencies that a lockfile names.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use serde::Deserialize;
use serde_json::Value;

/// First part of a dependency's id.
pub(crate) const ECOSYSTEMS: &[&str] = &["cargo", "npm", "pypi", "go"];

/// A package at a version.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Dependency {
    pub(crate) ecosystem: &'static str,
    pub(crate) name: String,
    pub(crate) version: String,
    /// As the lockfile tells it.
    pub(crate) licence: Option<String>,
}

impl Dependency {
    /// `ecosystem:name`.
    pub(crate) fn id(&self) -> String {
        format!("{}:{}", self.ecosystem, self.name)
    }
}

impl fmt::Display for Dependency {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}:{}", self.ecosystem, self.name)?;
        if self.version.is_empty() { Ok(()) } else { write!(out, "@{}", self.version) }
    }
}

/// A format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lockfile {
    Cargo,
    Npm,
    /// poetry, uv and pdm.
    PythonToml,
    Requirements,
    GoSum,
    /// Known by name, not read.
    Unsupported,
}

impl Lockfile {
    pub(crate) fn of(name: &str) -> Option<Self> {
        Some(match name {
            "Cargo.lock" => Self::Cargo,
            "package-lock.json" | "npm-shrinkwrap.json" => Self::Npm,
            "poetry.lock" | "uv.lock" | "pdm.lock" => Self::PythonToml,
            "go.sum" => Self::GoSum,
            "yarn.lock" | "pnpm-lock.yaml" | "bun.lock" | "bun.lockb" | "deno.lock" | "Pipfile.lock"
            | "Gemfile.lock" | "composer.lock" | "mix.lock" | "pubspec.lock" | "Package.resolved"
            | "gradle.lockfile" | "packages.lock.json" | "conan.lock" | "flake.lock" => Self::Unsupported,
            name if name.starts_with("requirements") && name.ends_with(".txt") => Self::Requirements,
            _ => return None,
        })
    }

    pub(crate) fn read(self, bytes: &[u8]) -> Result<BTreeSet<Dependency>, String> {
        let text = std::str::from_utf8(bytes).map_err(|error| format!("is not UTF-8: {error}"))?;
        match self {
            Self::Cargo => toml_packages("cargo", text, |package| package.source.is_some()),
            // Without an index or address it is the project itself.
            Self::PythonToml => toml_packages("pypi", text, |package| {
                let is_own = |table: &toml::Table| {
                    ["virtual", "editable", "directory"].iter().any(|it| table.contains_key(*it))
                };
                !package.source.as_ref().and_then(toml::Value::as_table).is_some_and(is_own)
            }),
            Self::Npm => npm(text),
            Self::Requirements => Ok(requirements(text)),
            Self::GoSum => Ok(go_sum(text)),
            Self::Unsupported => Err("this format is not read".to_owned()),
        }
    }
}

#[derive(Deserialize)]
struct TomlLock {
    #[serde(default)]
    package: Vec<TomlPackage>,
}

#[derive(Deserialize)]
struct TomlPackage {
    name: String,
    #[serde(default)]
    version: String,
    source: Option<toml::Value>,
}

fn toml_packages(
    ecosystem: &'static str,
    text: &str,
    is_foreign: impl Fn(&TomlPackage) -> bool,
) -> Result<BTreeSet<Dependency>, String> {
    let lock: TomlLock =
        toml::from_str(text).map_err(|error| format!("is not a lockfile: {}", error.message()))?;
    Ok(lock
        .package
        .into_iter()
        .filter(is_foreign)
        .map(|TomlPackage { name, version, .. }| Dependency { ecosystem, name, version, licence: None })
        .collect())
}

#[derive(Deserialize)]
struct NpmLock {
    /// Since lockfile version 2.
    packages: Option<BTreeMap<String, NpmPackage>>,
    /// Version 1.
    #[serde(default)]
    dependencies: BTreeMap<String, NpmOld>,
}

#[derive(Deserialize)]
struct NpmPackage {
    name: Option<String>,
    #[serde(default)]
    version: String,
    #[serde(default)]
    link: bool,
    license: Option<Value>,
}

#[derive(Deserialize)]
struct NpmOld {
    #[serde(default)]
    version: String,
    #[serde(default)]
    dependencies: BTreeMap<String, NpmOld>,
}

fn npm(text: &str) -> Result<BTreeSet<Dependency>, String> {
    let lock: NpmLock = serde_json::from_str(text).map_err(|error| format!("is not a lockfile: {error}"))?;
    let mut all = BTreeSet::new();
    let Some(packages) = lock.packages else {
        npm_old(lock.dependencies, &mut all);
        return Ok(all);
    };
    for (place, package) in packages {
        // Outside of node_modules are the project and its workspaces.
        let Some((_, installed_as)) = place.rsplit_once("node_modules/") else { continue };
        if package.link {
            continue;
        }
        all.insert(Dependency {
            ecosystem: "npm",
            name: package.name.unwrap_or_else(|| installed_as.to_owned()),
            version: package.version,
            licence: package.license.as_ref().and_then(npm_licence),
        });
    }
    Ok(all)
}

/// `"MIT"`, or of old packages `{"type": "MIT"}` and `[{"type": "MIT"}, …]`.
pub(crate) fn npm_licence(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Object(map) => map.get("type").and_then(Value::as_str).map(str::to_owned),
        Value::Array(items) => {
            let all: Option<Vec<String>> = items.iter().map(npm_licence).collect();
            all.filter(|all| !all.is_empty()).map(|all| all.join(" OR "))
        }
        _ => None,
    }
}

fn npm_old(dependencies: BTreeMap<String, NpmOld>, all: &mut BTreeSet<Dependency>) {
    for (name, package) in dependencies {
        all.insert(Dependency { ecosystem: "npm", name, version: package.version, licence: None });
        npm_old(package.dependencies, all);
    }
}

/// pip's format: one requirement per line, options start with `-`.
fn requirements(text: &str) -> BTreeSet<Dependency> {
    let joined = text.replace("\\\r\n", " ").replace("\\\n", " ");
    let mut all = BTreeSet::new();
    for line in joined.lines() {
        let line = line.split(" #").next().unwrap_or_default().trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let is_name = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '-' | '_' | '.');
        let rest = line.strip_prefix("-e ").or_else(|| line.strip_prefix("--editable ")).map(str::trim);
        let (name, version) = match rest {
            // A place, not a name.
            Some(place) => (place.to_owned(), String::new()),
            None if line.starts_with('-') => continue,
            None if line.contains("://") && !line.contains(" @ ") => (line.to_owned(), String::new()),
            None => {
                let end = line.find(|letter| !is_name(letter)).unwrap_or(line.len());
                let (name, rest) = line.split_at(end);
                let rest = rest.trim_start();
                let rest =
                    rest.strip_prefix('[').and_then(|it| it.split_once(']')).map_or(rest, |parts| parts.1);
                let rest = rest.split([';']).next().unwrap_or_default();
                let version = rest.split(" --").next().unwrap_or_default().trim();
                let version = version.strip_prefix("==").unwrap_or(version).trim();
                // One spelling, as the index treats them.
                (name.to_ascii_lowercase().replace(['_', '.'], "-"), version.to_owned())
            }
        };
        if !name.is_empty() {
            all.insert(Dependency { ecosystem: "pypi", name, version, licence: None });
        }
    }
    all
}

/// `module version hash`; lines of `go.mod` files alone name modules that are not built.
fn go_sum(text: &str) -> BTreeSet<Dependency> {
    let mut all = BTreeSet::new();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        if let (Some(name), Some(version)) = (words.next(), words.next())
            && !version.ends_with("/go.mod")
        {
            let (name, version) = (name.to_owned(), version.to_owned());
            all.insert(Dependency { ecosystem: "go", name, version, licence: None });
        }
    }
    all
}
