//! Step 1: the worker's own variables and the envelope.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

use pangolin_core::{entry::Isolation, ids::DispatchId};
use pangolin_envelope::{
    envelope::{ENVELOPE_FILE, ENVELOPE_VERSION, Envelope, SECRETS_FILE, worker_env},
    pipeline::Block,
};

use crate::environment::Secrets;

/// Largest envelope and secrets file.
const FILE_BYTES_MAX: u64 = 64 << 20;

/// Where things are.
#[derive(Debug, Clone)]
pub(crate) struct Places {
    /// Read-only inputs.
    pub(crate) envelope_dir: PathBuf,
    /// Working tree.
    pub(crate) workspace: PathBuf,
    /// What the host takes back.
    pub(crate) result_dir: PathBuf,
    /// Authenticates the result.
    pub(crate) key: String,
}

/// Why the worker cannot start.
#[derive(Debug)]
pub(crate) struct BootError {
    /// What is wrong.
    pub(crate) message: String,
    /// Result directory, key and dispatch, as far as they are known: then a result can be left.
    pub(crate) known: Option<Box<(Places, DispatchId)>>,
}

impl BootError {
    fn early(message: String) -> Self {
        Self { message, known: None }
    }
}

fn directory(name: &str) -> Result<PathBuf, BootError> {
    let value = env::var_os(name).filter(|value| !value.is_empty());
    let value = value
        .ok_or_else(|| BootError::early(format!("{name} is not set; workers are started by a backend")))?;
    let path = PathBuf::from(value);
    if !path.is_absolute() {
        return Err(BootError::early(format!("{name} is {}, which is not an absolute path", path.display())));
    }
    // Without links in it, so that paths can be compared and bound as they are.
    let path = path
        .canonicalize()
        .map_err(|error| BootError::early(format!("{name} {}: {error}", path.display())))?;
    if path.is_dir() {
        Ok(path)
    } else {
        Err(BootError::early(format!("{name} {} is not a directory", path.display())))
    }
}

/// Reads everything.
///
/// # Errors
/// [`BootError`].
pub(crate) fn read() -> Result<(Places, Envelope), BootError> {
    let key = env::var(worker_env::RESULT_KEY).unwrap_or_default();
    if key.len() != 64 || !key.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(BootError::early(format!("{} is not 64 hex digits", worker_env::RESULT_KEY)));
    }
    let places = Places {
        envelope_dir: directory(worker_env::ENVELOPE_DIR)?,
        workspace: directory(worker_env::WORKSPACE_DIR)?,
        result_dir: directory(worker_env::RESULT_DIR)?,
        key,
    };
    let path = places.envelope_dir.join(ENVELOPE_FILE);
    let text = load(&path).map_err(BootError::early)?;
    let envelope: Envelope = serde_json::from_slice(&text).map_err(|error| {
        let message = format!("{} is malformed: {error}", path.display());
        let dispatch = serde_json::from_slice::<serde_json::Value>(&text)
            .ok()
            .and_then(|value| value.get("dispatch")?.as_str().and_then(|id| DispatchId::new(id).ok()));
        BootError { message, known: dispatch.map(|dispatch| Box::new((places.clone(), dispatch))) }
    })?;
    match problem(&places, &envelope) {
        Some(message) => Err(BootError { message, known: Some(Box::new((places, envelope.dispatch))) }),
        None => Ok((places, envelope)),
    }
}

fn load(path: &Path) -> Result<Vec<u8>, String> {
    let describe = |error: std::io::Error| format!("{} cannot be read: {error}", path.display());
    let size = fs::metadata(path).map_err(describe)?.len();
    if size > FILE_BYTES_MAX {
        return Err(format!("{} has {size} bytes, the limit is {FILE_BYTES_MAX}", path.display()));
    }
    fs::read(path).map_err(describe)
}

fn problem(places: &Places, envelope: &Envelope) -> Option<String> {
    if envelope.v != ENVELOPE_VERSION {
        return Some(format!(
            "envelope version is {}, this worker reads {ENVELOPE_VERSION}; use the worker of the same release",
            envelope.v
        ));
    }
    if !matches!(envelope.network.as_str(), "none" | "host") {
        return Some(format!("network {:?} is unknown; expected \"none\" or \"host\"", envelope.network));
    }
    if envelope.isolation == Isolation::None && envelope.network == "none" {
        return Some(
            "isolation \"none\" cannot take the network away; ask for network \"host\" or isolation \"sandbox\""
                .to_owned(),
        );
    }
    if envelope.isolation == Isolation::Sandbox {
        for path in envelope.read_only_paths.iter().map(Path::new) {
            if !path.is_absolute() || !path.exists() {
                let path = path.display();
                return Some(format!(
                    "read-only path {path} is not an absolute path that exists; correct the configuration"
                ));
            }
        }
    }
    let wants_agent = envelope.pipeline.blocks.iter().any(|block| matches!(block, Block::Agent {}));
    let has_plan = envelope.agent.as_ref().is_some_and(|plan| !plan.program.is_empty());
    if wants_agent && !has_plan {
        return Some("the pipeline has an agent block but the envelope has no launch plan".to_owned());
    }
    for id in envelope.pipeline.plugins() {
        if !envelope.plugins.iter().any(|plugin| plugin.id == id) {
            return Some(format!("the pipeline uses plugin {id:?} but the envelope does not stage it"));
        }
    }
    for (name, path) in [("result", &places.result_dir), ("envelope", &places.envelope_dir)] {
        if path.starts_with(&places.workspace) {
            return Some(format!("the {name} directory {} lies inside of the workspace", path.display()));
        }
    }
    None
}

/// Secret values by name. No file means no secrets.
///
/// # Errors
/// A message without any value in it.
pub(crate) fn secrets(places: &Places) -> Result<Secrets, String> {
    let path = places.envelope_dir.join(SECRETS_FILE);
    if !path.exists() {
        return Ok(Secrets::new());
    }
    let text = load(&path)?;
    // serde_json quotes what it did not expect, which could be a value.
    serde_json::from_slice(&text).map_err(|error| {
        format!(
            "{} is not a JSON object of strings (line {}, column {})",
            path.display(),
            error.line(),
            error.column()
        )
    })
}
