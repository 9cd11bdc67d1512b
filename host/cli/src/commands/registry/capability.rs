//! Capabilities: a directory becomes a bundle.

use std::{collections::BTreeMap, fs, os::unix::fs::PermissionsExt as _, path::Path};

use anyhow::Context as _;
use pangolin_envelope::capability::{Capability, CapabilityFile, decode, encode};
use pangolin_runtime::{registry::Kind, secrets::looks_like_credential};
use serde_json::{Value, json};

use crate::{
    context::Context,
    error::{CliError, CliResult},
    exit::Exit,
    files, format,
};

pub(super) async fn register(context: &Context, name: &str, from: &Path) -> CliResult {
    let printer = &context.printer;
    let capability = read(name, from)?;
    for (path, file) in &capability.files {
        if let Some(what) = std::str::from_utf8(&file.bytes).ok().and_then(looks_like_credential) {
            return Err(CliError::new(Exit::Usage, format!("{path} contains what looks like {what}"))
                .hint("every worker that uses the capability could read it; register it with `pangolin env register --secret` instead"));
        }
    }
    let bundle = encode(&capability).map_err(|error| CliError {
        exit: Exit::Usage,
        error: anyhow::Error::new(error).context(format!("cannot bundle {}", from.display())),
        hints: Vec::new(),
    })?;
    let deployment = context.deployment().await?;
    let registration =
        deployment.registry().register_bytes(Kind::Capability, name, &bundle, deployment.now()).await?;
    let exit = super::registered(context, &registration, &[])?;
    printer.note(format_args!(
        "{}, {}",
        format::count(capability.files.len() as u64, "file"),
        format::bytes(bundle.len() as u64)
    ));
    Ok(exit)
}

/// Reads a directory. An empty one is refused: it is a mistyped path more often than a wish.
fn read(name: &str, from: &Path) -> CliResult<Capability> {
    let mut found = BTreeMap::new();
    for relative in files::walk(from)? {
        let file = from.join(&relative);
        let path = relative.to_str().ok_or_else(|| {
            CliError::new(Exit::Usage, format!("{} has a name that is not UTF-8", file.display()))
        })?;
        let read = || -> anyhow::Result<CapabilityFile> {
            let executable = fs::metadata(&file)?.permissions().mode() & 0o111 != 0;
            Ok(CapabilityFile { executable, bytes: fs::read(&file)? })
        };
        let content = read().with_context(|| format!("cannot read {}", file.display()))?;
        files::refuse_signing_key(&file, &content.bytes)?;
        found.insert(path.to_owned(), content);
    }
    if found.is_empty() {
        return Err(CliError::new(Exit::Usage, format!("{} contains no file", from.display())));
    }
    Ok(Capability { name: name.to_owned(), files: found })
}

/// Files with size and mode.
pub(super) fn describe(bundle: &[u8]) -> CliResult<Value> {
    let capability = decode(bundle)?;
    let files: Vec<Value> = capability
        .files
        .iter()
        .map(|(path, file)| json!({ "path": path, "bytes": file.bytes.len(), "executable": file.executable }))
        .collect();
    Ok(json!({ "name": capability.name, "files": files }))
}
