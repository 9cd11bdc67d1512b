//! `pangolin plugin outdated`.

use pangolin_runtime::plugins::outdated;
use serde_json::json;

use super::blocking;
use crate::{
    context::Context,
    error::CliResult,
    exit::Exit,
    printer::{Role, one_line, paint},
};

pub(super) async fn run(context: &Context) -> CliResult {
    let printer = &context.printer;
    let config = context.config()?;
    let updates = printer.progress("asking the sources", blocking(move || outdated(&config))).await?;
    let news = updates.iter().any(|update| update.is_outdated() || update.problem.is_some());
    if printer.is_json() {
        let lines: Vec<_> = updates
            .iter()
            .map(|update| {
                let mut line = json!(update);
                line["outdated"] = json!(update.is_outdated());
                line
            })
            .collect();
        printer.json(&json!({ "plugins": lines }))?;
    } else {
        if updates.is_empty() {
            printer.note("no plugin is installed");
        }
        for update in &updates {
            let colour = printer.colour();
            let text = match (update.current, &update.problem) {
                (Some(current), _) if update.is_outdated() => {
                    format!("{}  {current} instead of {}", paint(Role::Warn, "other", colour), update.pinned)
                }
                (Some(_), _) => paint(Role::Good, "same", colour).into_owned(),
                (None, problem) => format!(
                    "{}  {}",
                    paint(Role::Error, "unknown", colour),
                    one_line(problem.as_deref().unwrap_or_default())
                ),
            };
            printer.line(format_args!("{}  {}  {text}", update.id, one_line(&update.source)))?;
        }
        if updates.iter().any(pangolin_runtime::plugins::Update::is_outdated) {
            printer.hint(
                "pangolin plugin add <source> shows what the other one would get; nothing was installed",
            );
        }
    }
    Ok(if news { Exit::Failed } else { Exit::Ok })
}
