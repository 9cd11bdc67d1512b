//! Step 6: capability bundles and inputs onto the workspace.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
};

use pangolin_core::ids::Digest;
use pangolin_envelope::{
    capability::{self, BUNDLE_BYTES_MAX, CapabilityFile, check_path},
    envelope::{CapabilityBundle, InputFile},
};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::safe_fs::Root;

/// Largest mergeable JSON file.
const MERGE_BYTES_MAX: u64 = 4 << 20;

/// Where a staged file is. The envelope is the host's, but a wrong name in it must not read elsewhere.
pub(crate) fn staged(envelope_dir: &Path, file: &str) -> Result<PathBuf, String> {
    check_path(file).map_err(|error| format!("staged file: {error}"))?;
    Ok(envelope_dir.join(file))
}

/// Checks a staged file against its digest without loading it.
pub(crate) fn verify(envelope_dir: &Path, file: &str, expected: Digest) -> Result<(), String> {
    let path = staged(envelope_dir, file)?;
    let read = || -> io::Result<Digest> {
        let mut source = File::open(&path)?;
        let mut hash = Sha256::new();
        let mut piece = vec![0; 64 << 10];
        loop {
            match source.read(&mut piece)? {
                0 => return Ok(Digest::from_bytes(hash.finalize().into())),
                count => hash.update(&piece[..count]),
            }
        }
    };
    let found = read().map_err(|error| format!("staged file {file:?} cannot be read: {error}"))?;
    if found != expected {
        return Err(format!(
            "staged file {file:?} has digest {found}, expected {expected}; stage the dispatch again"
        ));
    }
    Ok(())
}

/// How two versions of one path become one.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Rule {
    LastWins,
    ArrayUnion,
    DeepMerge,
}

fn rule(path: &str) -> Rule {
    let name = path.rsplit('/').next().unwrap_or(path);
    if name == "pangolin-notifications.json" || name == "pangolin-plugins.json" {
        Rule::ArrayUnion
    } else if path == ".claude/settings.json" {
        Rule::DeepMerge
    } else {
        Rule::LastWins
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Object(_) => "an object",
        Value::Array(_) => "an array",
        _ => "a scalar",
    }
}

fn merge(into: &mut Value, other: Value, pointer: &str) -> Result<(), String> {
    match (into, other) {
        (Value::Object(map), Value::Object(other)) => {
            for (key, value) in other {
                let below = format!("{pointer}/{}", key.replace('~', "~0").replace('/', "~1"));
                match map.get_mut(&key) {
                    Some(have) => merge(have, value, &below)?,
                    None => drop(map.insert(key, value)),
                }
            }
            Ok(())
        }
        (Value::Array(items), Value::Array(other)) => {
            for item in other {
                if !items.contains(&item) {
                    items.push(item);
                }
            }
            Ok(())
        }
        (have, other) if kind(have) == kind(&other) => {
            *have = other;
            Ok(())
        }
        (have, other) => {
            Err(format!("{pointer:?} is {} in one and {} in the other", kind(have), kind(&other)))
        }
    }
}

fn parse(path: &str, source: &str, bytes: &[u8]) -> Result<Value, String> {
    serde_json::from_slice(bytes).map_err(|error| format!("{path:?} of {source} is not JSON: {error}"))
}

fn combine(path: &str, source: &str, have: &[u8], new: &[u8]) -> Result<Vec<u8>, String> {
    let rule = rule(path);
    let mut merged = parse(path, "what was there before", have)?;
    let new = parse(path, source, new)?;
    if rule == Rule::ArrayUnion && !(merged.is_array() && new.is_array()) {
        return Err(format!("{path:?} of {source} cannot be united: both versions must be arrays"));
    }
    merge(&mut merged, new, "").map_err(|error| format!("{path:?} of {source} cannot be merged: {error}"))?;
    let mut bytes = serde_json::to_vec_pretty(&merged).map_err(|error| format!("{path:?}: {error}"))?;
    bytes.push(b'\n');
    Ok(bytes)
}

/// Overlays the bundles in order: the last one wins, except for the mergeable files, which are also merged with what
/// the workspace itself has.
pub(crate) fn capabilities(
    envelope_dir: &Path,
    root: &Root,
    bundles: &[CapabilityBundle],
) -> Result<(), String> {
    let mut files: BTreeMap<String, (String, CapabilityFile)> = BTreeMap::new();
    for bundle in bundles {
        let source = format!("capability {:?}", bundle.name);
        let path = staged(envelope_dir, &bundle.file)?;
        let size = path.metadata().map_err(|error| format!("{source}: {error}"))?.len();
        if size > BUNDLE_BYTES_MAX as u64 {
            return Err(format!("{source} has {size} bytes, the limit is {BUNDLE_BYTES_MAX}"));
        }
        let bytes = std::fs::read(&path).map_err(|error| format!("{source}: {error}"))?;
        let decoded = capability::decode(&bytes).map_err(|error| format!("{source}: {error}"))?;
        for (path, mut file) in decoded.files {
            if rule(&path) != Rule::LastWins {
                let have = match files.remove(&path) {
                    Some((_, earlier)) => Some(earlier.bytes),
                    None => root.read(&path, MERGE_BYTES_MAX)?,
                };
                if let Some(have) = have {
                    file.bytes = combine(&path, &source, &have, &file.bytes)?;
                }
            }
            files.insert(path, (source.clone(), file));
        }
    }
    for (path, (source, file)) in files {
        let mode = if file.executable { 0o755 } else { 0o644 };
        root.write(&path, file.bytes.as_slice(), mode).map_err(|error| format!("{source}: {error}"))?;
    }
    Ok(())
}

/// Places inputs at `inputs/<key>`, read-only.
pub(crate) fn inputs(envelope_dir: &Path, root: &Root, inputs: &[InputFile]) -> Result<(), String> {
    for input in inputs {
        let path = staged(envelope_dir, &input.file)?;
        let file = File::open(&path).map_err(|error| format!("input {:?}: {error}", input.key))?;
        root.write(&format!("inputs/{}", input.key), file, 0o444)
            .map_err(|error| format!("input {:?}: {error}", input.key))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_merged_deeply_and_arrays_united() {
        let a = br#"{"permissions":{"allow":["a"],"mode":"x"},"keep":1}"#;
        let b = br#"{"permissions":{"allow":["a","b"],"mode":"y"},"new":{"z":true}}"#;
        let merged: Value =
            serde_json::from_slice(&combine(".claude/settings.json", "b", a, b).unwrap()).unwrap();
        let expected = serde_json::json!({"permissions": {"allow": ["a", "b"], "mode": "y"}, "keep": 1, "new": {"z": true}});
        assert_eq!(merged, expected);
        let clash = combine(".claude/settings.json", "b", a, br#"{"permissions":"none"}"#).unwrap_err();
        assert!(clash.contains("/permissions"), "{clash}");
        assert!(combine("x/pangolin-plugins.json", "b", b"[1]", b"{}").is_err());
    }
}
