//! `pangolin patch …`.

use pangolin_runtime::patches::{self, ApplyOptions, PatchInfo};
use serde_json::json;

use crate::{
    args::{
        Target,
        patch::{Apply, Patch},
    },
    context::Context,
    error::{CliError, CliResult},
    exit::Exit,
    format,
    printer::{Role, one_line, paint},
};

pub(super) async fn run(context: &Context, verb: Patch) -> CliResult {
    match verb {
        Patch::List { target } => list(context, target).await,
        Patch::Show { target, attempt } => show(context, target, attempt).await,
        Patch::Apply(args) => apply(context, args).await,
    }
}

async fn list(context: &Context, target: Target) -> CliResult {
    let printer = &context.printer;
    let deployment = context.deployment().await?;
    let patches = patches::list(&deployment, &target.run, target.item.as_ref(), false).await?;
    if printer.is_json() {
        printer.json(&json!({ "run": target.run, "patches": patches }))?;
        return Ok(Exit::Ok);
    }
    if patches.is_empty() {
        printer.note(format_args!("{} has no patch", name(&target)));
    }
    for patch in &patches {
        for line in summary(&target, patch, printer.colour()) {
            printer.line(line)?;
        }
    }
    Ok(Exit::Ok)
}

async fn show(context: &Context, target: Target, attempt: Option<u32>) -> CliResult {
    let printer = &context.printer;
    let deployment = context.deployment().await?;
    let mut patches =
        patches::list(&deployment, &target.run, target.item.as_ref(), attempt.is_some()).await?;
    patches.retain(|patch| attempt.is_none_or(|number| patch.attempt == number));
    if patches.is_empty() {
        let of = attempt.map_or_else(String::new, |number| format!("attempt {number} of "));
        return Err(CliError::new(Exit::NotFound, format!("{of}{} left no patch", name(&target)))
            .hint(format!("pangolin orch status {} says how its items ended", target.run)));
    }
    if printer.is_json() {
        let mut documents = Vec::new();
        for patch in &patches {
            let bytes = deployment.blob(&patch.digest).await?;
            let mut document = serde_json::to_value(patch)?;
            document["text"] = json!(String::from_utf8_lossy(&bytes));
            document["textIsExact"] = json!(std::str::from_utf8(&bytes).is_ok());
            documents.push(document);
        }
        printer.json(&json!({ "run": target.run, "patches": documents }))?;
        return Ok(Exit::Ok);
    }
    for patch in &patches {
        for line in summary(&target, patch, printer.stderr_colour()) {
            printer.note(line);
        }
        printer.foreign(&deployment.blob(&patch.digest).await?)?;
    }
    Ok(Exit::Ok)
}

async fn apply(context: &Context, args: Apply) -> CliResult {
    let printer = &context.printer;
    let deployment = context.deployment().await?;
    let options = ApplyOptions { three_way: args.three_way, check_only: args.check };
    let reports =
        patches::apply(&deployment, &args.target.run, args.target.item.as_ref(), &args.repo, options).await?;
    if printer.is_json() {
        printer.json(&json!({ "run": args.target.run, "checkOnly": args.check, "applied": reports }))?;
        return Ok(Exit::Ok);
    }
    let verb = if args.check { "applies" } else { "applied" };
    for report in &reports {
        let verb = if report.contained { "contained already" } else { verb };
        let files = format::count(report.files as u64, "file");
        printer.line(format_args!("{verb}  {}/{}  {files}", args.target.run, report.item))?;
        if report.tree_matches == Some(false) {
            printer.warn(format_args!(
                "the patch of {} on the sealed base commit does not give the sealed tree; do not trust it",
                report.item
            ));
        }
    }
    if reports.iter().all(|report| report.contained) {
        printer.note("everything was there already; nothing was changed");
    } else if !args.check {
        printer.hint("nothing was committed; look at it with `git diff --cached`");
    }
    Ok(Exit::Ok)
}

fn name(target: &Target) -> String {
    match &target.item {
        Some(item) => format!("{}/{item}", target.run),
        None => target.run.to_string(),
    }
}

/// Heading, one line per file, flags.
fn summary(target: &Target, patch: &PatchInfo, colour: bool) -> Vec<String> {
    let heading = format!("{}/{}", target.run, patch.item);
    let role = if patch.status == "done" { Role::Good } else { Role::Warn };
    let mut lines = vec![format!(
        "{}  attempt {} {}  {}  {}",
        paint(Role::Bold, &heading, colour),
        patch.attempt,
        paint(role, &patch.status, colour),
        format::bytes(patch.bytes as u64),
        paint(Role::Dim, &patch.digest.to_string(), colour),
    )];
    for file in &patch.files {
        let change = match (file.added, file.removed) {
            (Some(added), Some(removed)) => format!("+{added} -{removed}"),
            _ => "binary".to_owned(),
        };
        lines.push(format!("  {}  {change}", one_line(&file.path)));
    }
    for flag in &patch.flags {
        lines.push(format!("  {}", paint(Role::Warn, &format!("! {}", one_line(flag)), colour)));
    }
    lines
}
