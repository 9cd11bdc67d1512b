//! Collects what a new project is made of: the templates, the newest interfaces and the SDKs for Rust. The SDKs are
//! not in a registry, so a project gets their source; their manifests inherit from the `plugins` workspace and are
//! written out here.

use std::{
    collections::BTreeMap,
    env, fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

use toml::{Table, Value};

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            println!("cargo::error={problem}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), String> {
    let var = |name: &str| env::var_os(name).map(PathBuf::from).ok_or(format!("cargo did not set {name}"));
    let (here, out) = (var("CARGO_MANIFEST_DIR")?, var("OUT_DIR")?);
    let root = here.join("../..");
    let templates = files(&here.join("templates"))?;
    let wit = files(&root.join("wit"))?;
    let plugins = root.join("plugins");
    println!("cargo::rerun-if-changed={}", plugins.join("Cargo.toml").display());
    let mut sdk = BTreeMap::new();
    for (path, source) in files(&plugins.join("sdk"))? {
        // A project gets no tests of ours.
        let mut parts = path.split('/').skip(1);
        match (parts.next(), parts.next()) {
            (Some("Cargo.toml"), None) => {
                let text = standalone(&read(&plugins.join("Cargo.toml"))?, &read(&source)?)
                    .map_err(|problem| format!("{}: {problem}", source.display()))?;
                let file = out.join(format!("{}.toml", path.replace('/', "-")));
                fs::write(&file, text).map_err(|error| format!("{}: {error}", file.display()))?;
                sdk.insert(path, file);
            }
            (Some("src"), Some(_)) => {
                sdk.insert(path, source);
            }
            _ => {}
        }
    }
    let mut code = String::new();
    for (name, files) in [("TEMPLATES", &templates), ("WIT", &wit), ("SDK", &sdk)] {
        code.push_str(&format!("pub(crate) const {name}: &[(&str, &str)] = &[\n"));
        for (path, file) in files {
            let file = file.canonicalize().map_err(|error| format!("{}: {error}", file.display()))?;
            code.push_str(&format!("    ({path:?}, include_str!({file:?})),\n"));
        }
        code.push_str("];\n");
    }
    let file = out.join("embedded.rs");
    fs::write(&file, code).map_err(|error| format!("{}: {error}", file.display()))
}

fn read(file: &Path) -> Result<String, String> {
    fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()))
}

/// All files below `root` by their path with slashes.
fn files(root: &Path) -> Result<BTreeMap<String, PathBuf>, String> {
    println!("cargo::rerun-if-changed={}", root.display());
    let mut found = BTreeMap::new();
    let mut open = vec![(root.to_owned(), String::new())];
    while let Some((dir, prefix)) = open.pop() {
        let entries = fs::read_dir(&dir).map_err(|error| format!("{}: {error}", dir.display()))?;
        for entry in entries {
            let entry = entry.map_err(|error| format!("{}: {error}", dir.display()))?;
            let name = entry.file_name().into_string().map_err(|name| format!("{name:?} is not UTF-8"))?;
            let path = format!("{prefix}{name}");
            if entry.path().is_dir() {
                open.push((entry.path(), format!("{path}/")));
            } else {
                found.insert(path, entry.path());
            }
        }
    }
    Ok(found)
}

/// The manifest of an SDK without its workspace.
fn standalone(workspace: &str, manifest: &str) -> Result<String, String> {
    let parse = |text: &str| text.parse::<Table>().map_err(|error| error.to_string());
    let (workspace, mut manifest) = (parse(workspace)?, parse(manifest)?);
    let shared = |table: &str| workspace.get("workspace").and_then(|value| value.get(table));
    manifest.remove("lints");
    manifest.remove("dev-dependencies");
    if let Some(Value::Table(package)) = manifest.get_mut("package") {
        for (key, value) in package.iter_mut() {
            if is_inherited(value) {
                *value = shared("package").and_then(|shared| shared.get(key)).ok_or(missing(key))?.clone();
            }
        }
    }
    let dependencies = shared("dependencies");
    inherit(manifest.get_mut("dependencies"), dependencies)?;
    if let Some(Value::Table(targets)) = manifest.get_mut("target") {
        for (_, target) in targets.iter_mut() {
            inherit(target.get_mut("dependencies"), dependencies)?;
        }
    }
    toml::to_string(&manifest).map_err(|error| error.to_string())
}

fn is_inherited(value: &Value) -> bool {
    value.get("workspace").and_then(Value::as_bool) == Some(true)
}

fn missing(key: &str) -> String {
    format!("{key} is inherited, but the workspace has none")
}

fn inherit(dependencies: Option<&mut Value>, shared: Option<&Value>) -> Result<(), String> {
    let Some(Value::Table(dependencies)) = dependencies else { return Ok(()) };
    for (name, value) in dependencies.iter_mut() {
        if !is_inherited(value) {
            continue;
        }
        let mut full = match shared.and_then(|shared| shared.get(name)).ok_or(missing(name))? {
            Value::String(version) => Table::from_iter([("version".to_owned(), version.clone().into())]),
            Value::Table(table) => table.clone(),
            other => return Err(format!("{name}: {other} is not a dependency")),
        };
        // SDKs stand beside each other in a project too.
        if let Some(Value::String(path)) = full.get_mut("path") {
            *path = path.replace("sdk/", "../");
        }
        if let Value::Table(own) = value {
            full.extend(
                own.iter().filter(|(key, _)| *key != "workspace").map(|(k, v)| (k.clone(), v.clone())),
            );
        }
        *value = Value::Table(full);
    }
    Ok(())
}
