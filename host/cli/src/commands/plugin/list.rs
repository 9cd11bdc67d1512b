//! `pangolin plugin list`.

use pangolin_runtime::plugins::{PluginState, PluginStatus, list};
use serde_json::json;

use super::blocking;
use crate::{
    context::Context,
    error::CliResult,
    exit::Exit,
    format,
    printer::{Role, one_line, paint},
    table,
};

pub(super) async fn run(context: &Context) -> CliResult {
    let printer = &context.printer;
    let config = context.config()?;
    let plugins = blocking(move || list(&config)).await?;
    if printer.is_json() {
        printer.json(&json!({ "plugins": plugins }))?;
        return Ok(Exit::Ok);
    }
    let mut rows =
        vec![["PLUGIN", "KIND", "VERSION", "STATE", "DIGEST", "APPROVED"].map(str::to_owned).to_vec()];
    rows.extend(plugins.iter().map(row));
    printer.raw(table::columns(&rows).as_bytes())?;
    for plugin in &plugins {
        if let Some(problem) = &plugin.problem {
            let mark = paint(Role::Warn, "!", printer.stderr_colour());
            printer.note(format_args!("{mark} {}: {}", plugin.id, one_line(problem)));
        }
    }
    Ok(Exit::Ok)
}

fn row(plugin: &PluginStatus) -> Vec<String> {
    let state = match plugin.state {
        PluginState::Ready => "ready",
        PluginState::Inert => "inert",
        PluginState::Missing => "missing",
        PluginState::Refused => "refused",
    };
    let approved = plugin.locked.as_ref().map_or_else(
        || "ships with Pangolin".to_owned(),
        |locked| format!("{} by {}", format::time(locked.approved_at), one_line(&locked.approver)),
    );
    vec![
        plugin.id.clone(),
        plugin.kind.to_string(),
        plugin.version.clone().unwrap_or_else(|| "-".to_owned()),
        state.to_owned(),
        plugin.sha256.hex()[..12].to_owned(),
        approved,
    ]
}
