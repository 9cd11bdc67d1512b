//! Makes a table of what `wit/` offers since when, for messages about plugins that want something else. The crate gets
//! it as `offered.rs`.

use std::{
    collections::BTreeMap,
    env,
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

use wit_parser::{Interface, PackageId, Resolve, Stability, TypeDefKind, WorldItem};

fn main() -> ExitCode {
    match generate() {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            #[expect(clippy::print_stderr, reason = "how a build script says what is wrong")]
            {
                eprintln!("{problem}");
            }
            ExitCode::FAILURE
        }
    }
}

fn generate() -> Result<(), String> {
    let variable = |name: &str| env::var(name).map_err(|error| format!("{name}: {error}"));
    let wit = Path::new(&variable("CARGO_MANIFEST_DIR")?).join("../../wit");
    println!("cargo::rerun-if-changed={}", wit.display());
    println!("cargo::rerun-if-changed=build.rs");
    let folders = newest(&wit)?;
    let mut resolve = Resolve { all_features: true, ..Resolve::default() };
    let mut packages = Vec::new();
    // Base first: everybody refers to it and it to nobody.
    let (base, others): (Vec<_>, Vec<_>) =
        folders.iter().partition(|((package, _), _)| package.ends_with("-base"));
    for (_, (_, path)) in base.into_iter().chain(others) {
        let (package, _) =
            resolve.push_dir(path).map_err(|error| format!("{}: {error:#}", path.display()))?;
        packages.push(package);
    }
    let mut text = String::from("const OFFERED: &[Package] = &[\n");
    for package in packages {
        text.push_str(&table(&resolve, package)?);
    }
    text.push_str("];\n");
    let to = PathBuf::from(variable("OUT_DIR")?).join("offered.rs");
    fs::write(&to, text).map_err(|error| format!("{}: {error}", to.display()))
}

type Folders = BTreeMap<(String, u64), (semver::Version, PathBuf)>;

/// The newest folder of each major version of each package: it has everything that the earlier ones have.
fn newest(wit: &Path) -> Result<Folders, String> {
    let mut folders = Folders::new();
    let problem = |error: std::io::Error| format!("{}: {error}", wit.display());
    for entry in fs::read_dir(wit).map_err(problem)? {
        let path = entry.map_err(problem)?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let Some((package, version)) = name.split_once('@').filter(|_| path.is_dir()) else { continue };
        let version = semver::Version::parse(version).map_err(|error| format!("{name}: {error}"))?;
        let key = (package.to_owned(), version.major);
        if folders.get(&key).is_none_or(|(known, _)| *known < version) {
            folders.insert(key, (version, path));
        }
    }
    Ok(folders)
}

fn table(resolve: &Resolve, id: PackageId) -> Result<String, String> {
    let package = &resolve.packages[id];
    let name = format!("{}:{}", package.name.namespace, package.name.name);
    let version = package.name.version.as_ref().ok_or_else(|| format!("{name} has no version"))?;
    let mut text = String::new();
    let mut write =
        |line: std::fmt::Arguments<'_>| text.write_fmt(line).map_err(|error| format!("{name}: {error}"));
    write(format_args!(
        "Package {{ name: {name:?}, newest: {version:?}, interfaces: &[\n",
        version = version.to_string()
    ))?;
    for (interface, id) in &package.interfaces {
        let found = &resolve.interfaces[*id];
        let is_required = !package.worlds.is_empty()
            && package.worlds.values().all(|world| {
                let mut exports = resolve.worlds[*world].exports.values();
                exports.any(
                    |export| matches!(export, WorldItem::Interface { id: exported, .. } if exported == id),
                )
            });
        let since = since(&found.stability).ok_or_else(|| format!("{name}/{interface} has no @since"))?;
        write(format_args!(
            "Interface {{ name: {:?}, since: {since:?}, is_required: {is_required}, items: &[\n",
            format!("{name}/{interface}")
        ))?;
        for (item, since) in items(resolve, found) {
            let since = since.ok_or_else(|| format!("{name}/{interface}: {item} has no @since"))?;
            write(format_args!("({item:?}, {since:?}),\n"))?;
        }
        write(format_args!("] }},\n"))?;
    }
    write(format_args!("] }},\n"))?;
    Ok(text)
}

/// What a component has to be given: functions, and resources. Names as they stand in a component.
fn items<'r>(
    resolve: &'r Resolve,
    interface: &'r Interface,
) -> impl Iterator<Item = (&'r str, Option<String>)> {
    let resources = interface.types.iter().filter_map(|(name, id)| {
        let definition = &resolve.types[*id];
        matches!(definition.kind, TypeDefKind::Resource)
            .then(|| (name.as_str(), since(&definition.stability)))
    });
    let functions =
        interface.functions.iter().map(|(name, function)| (name.as_str(), since(&function.stability)));
    resources.chain(functions)
}

fn since(stability: &Stability) -> Option<String> {
    match stability {
        Stability::Stable { since, .. } => Some(since.to_string()),
        Stability::Unstable { .. } | Stability::Unknown => None,
    }
}
