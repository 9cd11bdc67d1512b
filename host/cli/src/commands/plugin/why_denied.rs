//! `pangolin plugin why-denied`.

use pangolin_runtime::plugins::why_denied;
use serde_json::json;

use crate::{
    args::ItemTarget,
    context::Context,
    error::CliResult,
    exit::Exit,
    printer::{Role, one_line, paint},
};

pub(super) async fn run(context: &Context, target: ItemTarget) -> CliResult {
    let printer = &context.printer;
    let deployment = context.deployment().await?;
    let denials = why_denied(&deployment, &target.run, &target.item).await?;
    if printer.is_json() {
        printer.json(&json!({ "run": target.run, "item": target.item, "denials": denials }))?;
        return Ok(Exit::Ok);
    }
    if denials.is_empty() {
        printer.note(format_args!("no plugin was denied anything in {}/{}", target.run, target.item));
    }
    let colour = printer.colour();
    for denial in &denials {
        let times = if denial.count > 1 { format!(", {} times", denial.count) } else { String::new() };
        printer.line(format_args!(
            "attempt {}  {}  {} {}{times}",
            denial.attempt,
            paint(Role::Bold, &one_line(&denial.plugin), colour),
            paint(Role::Warn, &one_line(&denial.capability), colour),
            one_line(&denial.subject),
        ))?;
        printer.line(format_args!("  then  {}", one_line(&denial.rule)))?;
        match &denial.now {
            None => printer
                .line("  now   cannot be told: the component is not here, or no grant is about this")?,
            Some(now) => {
                let by = now.by.map_or_else(String::new, |by| format!("{by}: "));
                printer.line(format_args!("  now   {by}{}", one_line(&now.rule)))?;
                if let Some(line) = &now.line_to_add {
                    printer.line(format_args!("  file  {}", one_line(&now.file)))?;
                    if now.by == Some("project") {
                        printer
                            .line(format_args!("  table [plugins.\"{}\".grant]", one_line(&denial.plugin)))?;
                    }
                    printer.line(format_args!("  line  {}", paint(Role::Hint, &one_line(line), colour)))?;
                }
            }
        }
    }
    Ok(Exit::Ok)
}
