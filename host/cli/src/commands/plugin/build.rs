//! `pangolin plugin build`.

use anyhow::Context as _;
use pangolin_plugin_authority::Import;
use pangolin_plugin_kit::{BuildError, BuildOptions, Built, build};
use serde_json::json;

use super::new::language;
use crate::{
    args::plugin::PluginBuild,
    context::Context,
    error::{CliError, CliResult},
    exit::Exit,
    format,
    printer::{one_line, plain},
};

pub(super) async fn run(context: &Context, args: PluginBuild) -> CliResult {
    let printer = &context.printer;
    let options = BuildOptions {
        out: args.out,
        language: args.lang.map(language),
        check_reproducible: args.check_reproducible,
        ..BuildOptions::default()
    };
    let work = tokio::task::spawn_blocking(move || build(&args.dir, &options));
    let built = printer.progress("building", work).await.context("the build stopped")?.map_err(|error| {
        let usage = matches!(
            error,
            BuildError::Project(_) | BuildError::Missing(_) | BuildError::NeverReproducible(_)
        );
        let mut error = CliError::from(error);
        if usage {
            error.exit = Exit::Usage;
        }
        error
    })?;
    for warning in &built.warnings {
        printer.warn(plain(warning));
    }
    if printer.is_json() {
        printer.json(&document(&built))?;
    } else {
        printer.raw(text(&built).as_bytes())?;
        printer.hint(format_args!("next: pangolin plugin test {}", built.path.display()));
    }
    Ok(Exit::Ok)
}

fn document(built: &Built) -> serde_json::Value {
    let manifest = &built.project.manifest;
    let names = |imports: &[Import]| -> Vec<String> { imports.iter().map(Import::name).collect() };
    let mut document = json!({
        "id": manifest.id.as_str(),
        "version": manifest.version.to_string(),
        "kind": manifest.kind.as_str(),
        "contract": manifest.contract.to_string(),
        "language": built.project.language.as_str(),
        "path": built.path,
        "size": built.size,
        "digest": built.digest,
        "imports": names(&built.inspection.imports),
        "exports": names(&built.inspection.exports),
        "abilities": built.inspection.abilities,
        "warnings": built.warnings,
    });
    if let Some(reproduced) = built.reproduced {
        document["reproduced"] = reproduced.into();
    }
    document
}

fn text(built: &Built) -> String {
    let manifest = &built.project.manifest;
    let mut rows = vec![
        (
            "plugin",
            format!(
                "{} {}, {}, contract {}",
                manifest.id, manifest.version, manifest.kind, manifest.contract
            ),
        ),
        ("file", built.path.display().to_string()),
        ("size", format::bytes(built.size)),
        ("digest", built.digest.to_string()),
    ];
    rows.extend(built.inspection.abilities.iter().map(|ability| ("it", one_line(ability))));
    if built.reproduced == Some(true) {
        rows.push(("build", "reproducible: a copy in another directory gives the same bytes".to_owned()));
    }
    rows.iter().map(|(name, value)| format!("{name:<8}{value}\n")).collect()
}
