//! `pangolin plugin remove`.

use pangolin_runtime::plugins::remove;
use serde_json::json;

use crate::{context::Context, error::CliResult, exit::Exit};

pub(super) fn run(context: &Context, id: &str) -> CliResult {
    let printer = &context.printer;
    let config = context.config()?;
    let removed = remove(&config, id)?;
    if printer.is_json() {
        printer.json(&json!({ "removed": removed }))?;
    } else {
        printer.line(format_args!("removed {} {}  {}", removed.id, removed.version, removed.sha256))?;
        if config.plugins.contains_key(id) {
            printer.hint(format_args!("[plugins.\"{id}\"] in pangolin.toml is not needed any more"));
        }
        printer.note("runs that use it keep the copy that they were pinned to");
    }
    Ok(Exit::Ok)
}
