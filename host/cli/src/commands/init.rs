//! `pangolin init`.

use std::path::Path;

use anyhow::Context as _;
use pangolin_core::ids::RunId;
use pangolin_runtime::{
    config::CONFIG_FILE,
    deployment::{self, InitOptions},
};
use serde_json::json;

use crate::{
    args::Init,
    context::Context,
    error::{CliError, CliResult},
    exit::Exit,
};

pub(super) fn run(context: &Context, args: Init) -> CliResult {
    let printer = &context.printer;
    if let Some(Err(error)) = args.namespace.as_deref().map(RunId::new) {
        return Err(CliError::new(Exit::Usage, format!("--namespace: {error}"))
            .hint("nothing was written; pangolin init --namespace team-a"));
    }
    std::fs::create_dir_all(&args.dir).with_context(|| format!("cannot create {}", args.dir.display()))?;
    let namespace = match &args.namespace {
        Some(namespace) => namespace.clone(),
        None => default_namespace(&args.dir)?,
    };
    let report = deployment::init(&args.dir, &InitOptions { namespace, force: args.force })?;
    if let Some(wanted) = args.namespace.filter(|wanted| *wanted != report.namespace) {
        printer.warn(format_args!(
            "the namespace stays {:?}: {} was kept, --namespace {wanted} was not used",
            report.namespace,
            args.dir.join(CONFIG_FILE).display(),
        ));
        printer.hint("--force replaces pangolin.toml; keys and ledger are kept");
    }
    if printer.is_json() {
        printer
            .json(&json!({ "files": report.files, "namespace": report.namespace, "vkey": report.vkey }))?;
        return Ok(Exit::Ok);
    }
    for file in &report.files {
        printer.line(file.display())?;
    }
    if report.files.is_empty() {
        printer.note("everything was there already; nothing was changed");
    }
    printer.note(format_args!("public key: {}", report.vkey));
    printer.note(
        "give it to whoever verifies bundles of this deployment: pangolin verify bundle.json --key <key>",
    );
    printer.hint("pangolin doctor checks this machine, pangolin orch serve starts the daemon");
    Ok(Exit::Ok)
}

/// The directory's name as far as it fits the id rules.
fn default_namespace(dir: &Path) -> CliResult<String> {
    let dir = dir.canonicalize().with_context(|| format!("cannot resolve {}", dir.display()))?;
    let name: String = dir
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' })
        .take(63)
        .collect();
    let name = name.trim_matches('-');
    Ok(RunId::new(name).map_or_else(|_| "default".to_owned(), |id| id.to_string()))
}
