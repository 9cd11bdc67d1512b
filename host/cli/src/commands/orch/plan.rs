//! `pangolin orch validate` and `submit`.

use std::path::Path;

use pangolin_core::validate::{Finding, Severity};
use pangolin_runtime::deployment::{RuntimeError, SubmitOptions};
use serde_json::{Value, json};

use crate::{
    args::orch::Submit,
    context::{Context, actor},
    error::{CliError, CliResult, print_findings},
    exit::Exit,
    files, format,
    printer::{Printer, one_line},
};

pub(super) async fn validate(context: &Context, plan: &Path, queue: Option<&str>) -> CliResult {
    let printer = &context.printer;
    let bytes = files::read(plan)?;
    let deployment = context.deployment().await?;
    let checked = printer.progress("asking the pattern", deployment.validate(&bytes, queue)).await;
    let (items, findings) = match checked {
        Ok(validated) => (Some(validated.items), validated.warnings),
        Err(findings) => (None, findings),
    };
    if printer.is_json() {
        let mut document = json!({ "valid": items.is_some() });
        if let Some(items) = items {
            document["items"] = json!(items);
        }
        document["findings"] = findings_json(&findings);
        printer.json(&document)?;
    } else {
        print_findings(printer, &findings);
        if let Some(items) = items {
            printer.line(format_args!("valid: {}", format::count(items as u64, "item")))?;
        }
    }
    match items {
        Some(_) => Ok(Exit::Ok),
        None if printer.is_json() => Ok(Exit::Failed),
        None => Err(invalid(plan, &findings)),
    }
}

pub(super) async fn submit(context: &Context, args: Submit) -> CliResult {
    let printer = &context.printer;
    let bytes = files::read(&args.plan)?;
    let deployment = context.deployment().await?;
    // Errors that only the daemon acts on (a name that may be registered until then) warn here.
    // The pattern is asked by the daemon; without one, here, so that nobody waits for a run that will be refused.
    let serving = deployment.is_served();
    let queue = args.queue.as_deref();
    let checked = if serving {
        deployment.validate_names(&bytes, queue).await
    } else {
        deployment.validate(&bytes, queue).await
    };
    let mut warnings = match checked {
        Ok(validated) => validated.warnings,
        Err(findings) => findings,
    };
    for warning in &mut warnings {
        warning.severity = Severity::Warning;
    }
    let options = SubmitOptions { queue: args.queue, actor: actor(&args.actor) };
    let submission = match deployment.submit(&bytes, options).await {
        Ok(submission) => submission,
        Err(RuntimeError::Rejected { reason, findings }) => {
            return rejected(printer, &args.plan, &reason, &findings);
        }
        Err(error) => return Err(error.into()),
    };
    let run = &submission.run;
    // Without a daemon nobody is waited for.
    let (mut receipt, mut answered) = (None, !serving);
    if serving {
        let wait = deployment.answer(&submission.message, args.wait.duration());
        match printer.progress("waiting for the admission receipt", wait).await {
            Ok(answer) => {
                answered = answer.is_some();
                receipt = answer.and_then(|answer| answer.receipt);
            }
            Err(RuntimeError::Rejected { reason, findings }) => {
                return rejected(printer, &args.plan, &reason, &findings);
            }
            Err(error) => {
                // Only the answer is lost: the run is in the inbox.
                if !printer.is_json() {
                    printer.line(run)?;
                }
                return Err(error.into());
            }
        }
    }
    if printer.is_json() {
        let mut document =
            json!({ "run": run, "state": if receipt.is_some() { "admitted" } else { "queued" } });
        if !warnings.is_empty() {
            document["findings"] = findings_json(&warnings);
        }
        if let Some(receipt) = receipt {
            document["receipt"] = receipt;
        }
        printer.json(&document)?;
        return Ok(super::unanswered(context, &deployment, answered, args.wait, "the run"));
    }
    // Not before the daemon has answered: a script must not take the id of a rejected run.
    printer.line(run)?;
    print_findings(printer, &warnings);
    match receipt {
        Some(receipt) => print_receipt(printer, &receipt),
        None => super::warn_without_daemon(context, &deployment, "the run is queued"),
    }
    let end = super::unanswered(context, &deployment, answered, args.wait, "the run");
    printer.hint(format_args!("pangolin orch watch {run}"));
    Ok(end)
}

/// The receipt in words: index of the admission leaf and the checkpoint that includes it.
fn print_receipt(printer: &Printer, receipt: &Value) {
    let index = receipt.get("index").and_then(Value::as_u64);
    let note = receipt.get("checkpoint").and_then(Value::as_str).unwrap_or_default();
    // C2SP tlog-checkpoint: origin, size and root are the first three lines.
    let mut lines = note.lines();
    let (origin, size, root) = (lines.next(), lines.next(), lines.next());
    match (index, origin, size, root) {
        (Some(index), Some(origin), Some(size), Some(root)) => {
            printer.note(format_args!(
                "admitted: leaf {index} of log {origin}, checkpoint size {size}, root {root}"
            ));
        }
        _ => printer.note(format_args!("admitted: {receipt}")),
    }
}

fn rejected(printer: &Printer, plan: &Path, reason: &str, findings: &[Finding]) -> CliResult {
    if printer.is_json() {
        printer
            .json(&json!({ "state": "rejected", "reason": reason, "findings": findings_json(findings) }))?;
        return Ok(Exit::Failed);
    }
    print_findings(printer, findings);
    Err(match findings {
        [] => CliError::new(Exit::Failed, format!("{} was rejected: {}", name(plan), one_line(reason))),
        findings => invalid(plan, findings),
    })
}

fn name(plan: &Path) -> String {
    if plan == Path::new("-") { "the plan".to_owned() } else { plan.display().to_string() }
}

pub(super) fn invalid(plan: &Path, findings: &[Finding]) -> CliError {
    let errors = findings.iter().filter(|finding| finding.severity == Severity::Error).count();
    CliError::new(
        Exit::Failed,
        format!("{} cannot be run: {}", name(plan), format::count(errors as u64, "error")),
    )
}

fn findings_json(findings: &[Finding]) -> Value {
    json!(findings)
}
