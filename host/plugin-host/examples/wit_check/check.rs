//! The rules of `wit/README.md`, checked: released files are frozen, a new version of the same major only adds, and
//! every item says since when it is there.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use pangolin_core::ids::Digest;
use wit_parser::{Interface, PackageId, Resolve, Stability, TypeDefKind, WorldItem};

/// Released files and their digests, below `wit/`.
const FROZEN: &str = "frozen.toml";

/// What was found.
#[derive(Debug, Default)]
pub(crate) struct Report {
    /// What was compared.
    pub(crate) notes: Vec<String>,
    /// What is wrong; empty when all is well.
    pub(crate) findings: Vec<String>,
}

/// One folder `<package>@<version>`.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Folder {
    /// E.g. `pangolin-pattern`.
    package: String,
    version: semver::Version,
    path: PathBuf,
}

impl Folder {
    fn name(&self) -> String {
        format!("{}@{}", self.package, self.version)
    }
}

/// Checks a directory of contracts.
pub(crate) fn check(wit: &Path) -> Result<Report, String> {
    let mut report = Report::default();
    let folders = folders(wit)?;
    frozen(wit, &folders, &mut report)?;
    for folder in &folders {
        match resolve(&folders, &[folder]) {
            Ok((resolve, packages)) => since(&resolve, packages[0], folder, &mut report),
            Err(error) => report.findings.push(format!("{}: {error}", folder.name())),
        }
    }
    for pair in folders.windows(2) {
        let (old, new) = (&pair[0], &pair[1]);
        if old.package == new.package && old.version.major == new.version.major {
            match resolve(&folders, &[old, new]) {
                Ok((resolve, packages)) => {
                    additive(&resolve, (old, packages[0]), (new, packages[1]), &mut report);
                }
                Err(error) => report.findings.push(format!("{}: {error}", new.name())),
            }
        }
    }
    Ok(report)
}

/// Adds the files of a version to the frozen ones. What is frozen already stays as it is.
#[allow(dead_code, reason = "the test of the check does not freeze")]
pub(crate) fn freeze(wit: &Path, name: &str) -> Result<(), String> {
    let folders = folders(wit)?;
    let folder = folders
        .iter()
        .find(|folder| folder.name() == name.replace(':', "-"))
        .ok_or_else(|| format!("{name} is no folder of {}", wit.display()))?;
    let mut released = read_frozen(wit)?;
    for (file, digest) in digests(folder)? {
        released.entry(file).or_insert(digest);
    }
    let mut text = String::from(
        "# Files of released versions and their sha256. `cargo xtask wit` fails when one changes or goes away.\n\
         # A new version: `cargo xtask wit --freeze <package>@<version>` when it is released.\n",
    );
    for (file, digest) in released {
        text.push_str(&format!("\"{file}\" = \"{digest}\"\n"));
    }
    fs::write(wit.join(FROZEN), text).map_err(|error| format!("{FROZEN}: {error}"))
}

fn folders(wit: &Path) -> Result<Vec<Folder>, String> {
    let mut folders = Vec::new();
    for entry in fs::read_dir(wit).map_err(|error| format!("{}: {error}", wit.display()))? {
        let path = entry.map_err(|error| format!("{}: {error}", wit.display()))?.path();
        if !path.is_dir() {
            continue;
        }
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let (package, version) =
            name.split_once('@').ok_or_else(|| format!("{name} is not <package>@<version>"))?;
        let version = semver::Version::parse(version).map_err(|error| format!("{name}: {error}"))?;
        folders.push(Folder { package: package.to_owned(), version, path });
    }
    folders.sort_by(|a, b| (&a.package, &a.version).cmp(&(&b.package, &b.version)));
    Ok(folders)
}

fn read_frozen(wit: &Path) -> Result<BTreeMap<String, String>, String> {
    match fs::read_to_string(wit.join(FROZEN)) {
        Ok(text) => toml::from_str(&text).map_err(|error| format!("{FROZEN}: {error}")),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(BTreeMap::new()),
        Err(error) => Err(format!("{FROZEN}: {error}")),
    }
}

fn digests(folder: &Folder) -> Result<BTreeMap<String, String>, String> {
    let mut digests = BTreeMap::new();
    let problem = |error: std::io::Error| format!("{}: {error}", folder.name());
    for entry in fs::read_dir(&folder.path).map_err(problem)? {
        let path = entry.map_err(problem)?.path();
        let file = format!("{}/{}", folder.name(), path.file_name().unwrap_or_default().to_string_lossy());
        digests.insert(file, Digest::of(&fs::read(&path).map_err(problem)?).to_string());
    }
    Ok(digests)
}

/// Released files are there, unchanged, and nothing has joined them.
fn frozen(wit: &Path, folders: &[Folder], report: &mut Report) -> Result<(), String> {
    let released = read_frozen(wit)?;
    let mut present = BTreeMap::new();
    for folder in folders {
        present.extend(digests(folder)?);
    }
    for (file, digest) in &released {
        match present.get(file) {
            Some(found) if found == digest => {}
            Some(found) => {
                report.findings.push(format!(
                    "{file} was released as {digest} and is {found} now; restore it and make a new version"
                ));
            }
            None => report.findings.push(format!("{file} was released and is gone; restore it")),
        }
    }
    for folder in folders {
        let name = folder.name();
        let prefix = format!("{name}/");
        if !released.keys().any(|file| file.starts_with(&prefix)) {
            report.notes.push(format!("{name}: not released yet, may still change"));
            continue;
        }
        for file in present.keys().filter(|file| file.starts_with(&prefix)) {
            if !released.contains_key(file) {
                report.findings.push(format!("{file} was not part of the release of {name}; remove it"));
            }
        }
    }
    Ok(())
}

/// Packages together with what they may refer to: all versions of the others.
fn resolve(all: &[Folder], wanted: &[&Folder]) -> Result<(Resolve, Vec<PackageId>), String> {
    let mut resolve = Resolve { all_features: true, ..Resolve::default() };
    let others = all.iter().filter(|folder| wanted.iter().all(|wanted| wanted.package != folder.package));
    // Base first: everybody refers to it and it to nobody.
    for folder in others.filter(|folder| folder.package.ends_with("-base")) {
        resolve.push_dir(&folder.path).map_err(|error| format!("{}: {error:#}", folder.name()))?;
    }
    let mut packages = Vec::new();
    for folder in wanted {
        let (package, _) = resolve.push_dir(&folder.path).map_err(|error| format!("{error:#}"))?;
        let name = &resolve.packages[package].name;
        let declared = format!(
            "{}-{}@{}",
            name.namespace,
            name.name,
            name.version.as_ref().map(ToString::to_string).unwrap_or_default()
        );
        if declared != folder.name() {
            return Err(format!("declares the package {declared}"));
        }
        packages.push(package);
    }
    Ok((resolve, packages))
}

/// Every item with its path in words and its stability.
fn items(resolve: &Resolve, package: PackageId) -> BTreeMap<String, Stability> {
    let package = &resolve.packages[package];
    let mut items = BTreeMap::new();
    for (name, interface) in &package.interfaces {
        let interface: &Interface = &resolve.interfaces[*interface];
        items.insert(format!("interface {name}"), interface.stability.clone());
        for (item, id) in &interface.types {
            let definition = &resolve.types[*id];
            // A `use` of another interface's type has no stability of its own to report.
            if matches!(definition.kind, TypeDefKind::Type(wit_parser::Type::Id(_))) {
                continue;
            }
            items.insert(format!("type {name}.{item}"), definition.stability.clone());
        }
        for (item, function) in &interface.functions {
            items.insert(format!("function {name}.{item}"), function.stability.clone());
        }
    }
    for (name, world) in &package.worlds {
        items.insert(format!("world {name}"), resolve.worlds[*world].stability.clone());
    }
    items
}

fn since(resolve: &Resolve, package: PackageId, folder: &Folder, report: &mut Report) {
    for (item, stability) in items(resolve, package) {
        match stability {
            Stability::Stable { since, .. } if since <= folder.version => {}
            Stability::Stable { since, .. } => {
                report
                    .findings
                    .push(format!("{}: {item} is there since {since}, which is later", folder.name()));
            }
            Stability::Unstable { .. } => {}
            Stability::Unknown => {
                report.findings.push(format!("{}: {item} has no @since", folder.name()));
            }
        }
    }
}

fn additive(resolve: &Resolve, old: (&Folder, PackageId), new: (&Folder, PackageId), report: &mut Report) {
    let names = (old.0.name(), new.0.name());
    let (before, after) = (items(resolve, old.1), items(resolve, new.1));
    for (item, stability) in &before {
        match after.get(item) {
            None => report.findings.push(format!("{}: {item} of {} is gone", names.1, names.0)),
            Some(now) if now != stability => {
                report.findings.push(format!("{}: {item} has another @since than in {}", names.1, names.0));
            }
            Some(_) => {}
        }
    }
    for (item, stability) in &after {
        if before.contains_key(item) {
            continue;
        }
        if let Stability::Stable { since, .. } = stability
            && *since <= old.0.version
        {
            report.findings.push(format!("{}: {item} is new but says it is there since {since}", names.1));
        }
    }
    for (name, old_world) in &resolve.packages[old.1].worlds {
        let Some(new_world) = resolve.packages[new.1].worlds.get(name) else { continue };
        let exports = |world: &wit_parser::WorldId| -> Vec<String> {
            let exports = resolve.worlds[*world].exports.iter();
            let mut names: Vec<String> = exports
                .map(|(key, item)| match item {
                    WorldItem::Interface { id, .. } => {
                        format!("interface {}", resolve.interfaces[*id].name.as_deref().unwrap_or_default())
                    }
                    _ => format!("{key:?}"),
                })
                .collect();
            names.sort();
            names
        };
        let (had, has) = (exports(old_world), exports(new_world));
        if had != has {
            report
                .findings
                .push(format!("{}: world {name} exports {has:?}, in {} {had:?}", names.1, names.0));
            continue;
        }
        match wit_component::semver_check(resolve.clone(), *old_world, *new_world) {
            Ok(()) => report.notes.push(format!("{}: world {name} only adds to {}", names.1, names.0)),
            Err(error) => report.findings.push(format!(
                "{}: a component for world {name} of {} does not fit any more: {error:#}",
                names.1, names.0
            )),
        }
    }
}
