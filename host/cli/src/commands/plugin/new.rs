//! `pangolin plugin new`.

use std::path::PathBuf;

use pangolin_plugin_authority::{Kind, PluginId};
use pangolin_plugin_kit::{Language, Scaffold, ScaffoldError};
use serde_json::json;

use crate::{
    args::plugin::{PluginKind, PluginLanguage, PluginNew},
    context::Context,
    error::{CliError, CliResult},
    exit::Exit,
};

pub(super) const fn language(language: PluginLanguage) -> Language {
    match language {
        PluginLanguage::Rust => Language::Rust,
        PluginLanguage::Js => Language::JavaScript,
        PluginLanguage::Py => Language::Python,
        PluginLanguage::C => Language::C,
    }
}

const fn kind(kind: PluginKind) -> Kind {
    match kind {
        PluginKind::Pattern => Kind::Pattern,
        PluginKind::Adapter => Kind::RuntimeAdapter,
        PluginKind::Block => Kind::Block,
    }
}

pub(super) fn run(context: &Context, args: PluginNew) -> CliResult {
    let usage = |error: anyhow::Error| CliError { exit: Exit::Usage, error, hints: Vec::new() };
    let id = args.id.as_deref().map(PluginId::new).transpose().map_err(|error| usage(error.into()))?;
    let scaffold = Scaffold::new(&args.name, id, kind(args.kind), language(args.lang))
        .map_err(|error| usage(error.into()))?;
    let dir = args.dir.unwrap_or_else(|| PathBuf::from(&args.name));
    let written = scaffold.write(&dir).map_err(|error| match error {
        error @ ScaffoldError::Exists(_) => usage(error.into()),
        error => CliError::from(error),
    })?;
    let printer = &context.printer;
    if printer.is_json() {
        printer.json(&json!({
            "id": scaffold.id().as_str(),
            "kind": kind(args.kind).as_str(),
            "language": language(args.lang).as_str(),
            "dir": dir,
            "files": written,
        }))?;
        return Ok(Exit::Ok);
    }
    for path in &written {
        printer.line(path.display())?;
    }
    printer.note(format_args!("started {} in {}", scaffold.id(), dir.display()));
    printer.hint(format_args!("read {0}/README.md, then run: pangolin plugin build {0}", dir.display()));
    Ok(Exit::Ok)
}
