//! `pangolin plugin rebuild`.

use pangolin_runtime::plugins::Plugins;
use serde_json::json;

use super::blocking;
use crate::{
    context::Context,
    error::CliResult,
    exit::Exit,
    printer::{Role, one_line, paint},
};

pub(super) async fn run(context: &Context, ids: Vec<String>) -> CliResult {
    let printer = &context.printer;
    let config = context.config()?;
    let work = blocking(move || Plugins::open(&config)?.rebuild(&ids));
    let done = printer.progress("compiling plugins", work).await?;
    let failed = done.iter().any(|line| line.problem.is_some());
    if printer.is_json() {
        printer.json(&json!({ "ok": !failed, "plugins": done }))?;
    } else {
        for line in &done {
            let fetched = if line.fetched { ", fetched again" } else { "" };
            let text = match (&line.code, &line.problem) {
                (Some(code), _) => format!("{code}{fetched}"),
                (None, problem) => format!(
                    "{}  {}",
                    paint(Role::Error, "failed", printer.colour()),
                    one_line(problem.as_deref().unwrap_or_default())
                ),
            };
            printer.line(format_args!("{}  {}  {text}", line.kind, line.id))?;
        }
    }
    Ok(if failed { Exit::Failed } else { Exit::Ok })
}
