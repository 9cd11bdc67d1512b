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
    let patches = patches::list(&deployment, &target.run, target.item.as_ref()).await?;
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
    let mut patches = patches::list(&deployment, &target.run, target.item.as_ref()).await?;
    patches.retain(|patch| attempt.is_none_or(|number| patch.attempt == number));
    if attempt.is_none() {
        keep_last_attempts(&mut patches);
    }
    if patches.is_empty() {
        let of = attempt.map_or_else(String::new, |number| format!("attempt {number} of "));
        return Err(CliError::new(Exit::NotFound, format!("{of}{} left no patch", name(&target)))
            .hint(format!("pangolin orch status {} says how its items ended", target.run)));
    }
    if printer.is_json() {
        let mut documents = Vec::new();
        for patch in &patches {
            let bytes = patches::bytes(&deployment, &patch.digest).await?;
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
        printer.foreign(&patches::bytes(&deployment, &patch.digest).await?)?;
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
    if reports.is_empty() {
        return Err(CliError::new(Exit::NotFound, format!("{} has no patch to apply", name(&args.target))));
    }
    let verb = if args.check { "applies" } else { "applied" };
    for report in &reports {
        printer.line(format_args!("{verb}  {}/{}", args.target.run, report.item))?;
        for file in &report.files {
            printer.line(format_args!("  {}", one_line(file)))?;
        }
        if !report.tree_matches && !args.check {
            printer.warn(format_args!(
                "the repository differs from the sealed tree of {}: its base has moved on, or other changes are there",
                report.item
            ));
        }
    }
    if !args.check {
        printer.hint("nothing was committed; look at `git diff` first");
    }
    Ok(Exit::Ok)
}

/// Keeps the last patch of each item, in the given order of items.
fn keep_last_attempts(patches: &mut Vec<PatchInfo>) {
    let mut last = std::collections::BTreeMap::new();
    for patch in patches.iter() {
        let attempt = last.entry(patch.item.clone()).or_insert(0);
        *attempt = patch.attempt.max(*attempt);
    }
    patches.retain(|patch| last.get(&patch.item) == Some(&patch.attempt));
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
        format::bytes(patch.bytes),
        paint(Role::Dim, &patch.digest.to_string(), colour),
    )];
    for file in &patch.files {
        let change =
            if file.binary { "binary".to_owned() } else { format!("+{} -{}", file.added, file.removed) };
        lines.push(format!("  {}  {change}", one_line(&file.path)));
    }
    for flag in &patch.flags {
        lines.push(format!("  {}", paint(Role::Warn, &format!("! {}", one_line(flag)), colour)));
    }
    lines
}
