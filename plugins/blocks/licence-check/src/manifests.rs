//! Licences that a package's own files tell.

use pangolin_block_sdk::Input;
use serde::Deserialize;
use serde_json::Value;

use crate::{
    headers,
    lockfiles::{Dependency, npm_licence},
};

/// A manifest is small.
const MAX_BYTES: u64 = 4 << 20;

pub(crate) fn is_manifest(name: &str) -> bool {
    matches!(name, "Cargo.toml" | "package.json")
}

/// Whether other people's code lies there.
pub(crate) fn is_vendored(path: &str) -> bool {
    path.split('/').any(|part| matches!(part, "vendor" | "third_party" | "third-party" | "node_modules"))
}

#[derive(Deserialize)]
struct CargoManifest {
    package: Option<CargoPackage>,
}

#[derive(Deserialize)]
struct CargoPackage {
    license: Option<toml::Value>,
}

#[derive(Deserialize)]
struct NpmManifest {
    license: Option<Value>,
    /// Of very old packages.
    licenses: Option<Value>,
}

/// The licence field of a manifest.
pub(crate) fn licence(input: &Input<'_>, virtual_path: &str, name: &str) -> Result<Option<String>, String> {
    let bytes = input.read_all(virtual_path, MAX_BYTES).map_err(|error| error.to_string())?;
    let text = std::str::from_utf8(&bytes).map_err(|error| format!("is not UTF-8: {error}"))?;
    if name == "Cargo.toml" {
        let manifest: CargoManifest =
            toml::from_str(text).map_err(|error| format!("is not a manifest: {}", error.message()))?;
        // `license.workspace = true` says it elsewhere.
        let licence = manifest.package.and_then(|package| package.license);
        return Ok(licence.as_ref().and_then(toml::Value::as_str).map(str::to_owned));
    }
    let manifest: NpmManifest =
        serde_json::from_str(text).map_err(|error| format!("is not a manifest: {error}"))?;
    Ok(manifest.license.or(manifest.licenses).as_ref().and_then(npm_licence))
}

/// The licence of a dependency that is vendored or installed beside its lockfile.
pub(crate) fn installed(input: &Input<'_>, lockfile: &str, dependency: &Dependency) -> Option<String> {
    let Dependency { ecosystem, name, version, .. } = dependency;
    // Names come from a file that the agent wrote.
    if name.split('/').any(|part| matches!(part, "" | "." | "..")) || version.contains('/') {
        return None;
    }
    let folder = lockfile.rsplit_once('/').map_or(String::new(), |parts| format!("{}/", parts.0));
    let root = format!("workspace/{folder}");
    let is_there = |path: &String| input.exists(path).unwrap_or_default();
    match *ecosystem {
        "cargo" => [format!("{root}vendor/{name}-{version}"), format!("{root}vendor/{name}")]
            .map(|place| format!("{place}/Cargo.toml"))
            .into_iter()
            .filter(is_there)
            .find_map(|path| licence(input, &path, "Cargo.toml").ok().flatten()),
        "npm" => Some(format!("{root}node_modules/{name}/package.json"))
            .filter(is_there)
            .and_then(|path| licence(input, &path, "package.json").ok().flatten()),
        "go" => ["LICENSE", "LICENSE.txt", "LICENSE.md", "LICENCE", "COPYING"]
            .map(|file| format!("{root}vendor/{name}/{file}"))
            .into_iter()
            .filter(is_there)
            .find_map(|path| headers::identify(&input.read_all(&path, MAX_BYTES).ok()?).map(str::to_owned)),
        _ => None,
    }
}
