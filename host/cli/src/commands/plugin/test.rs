//! `pangolin plugin test`.

use anyhow::Context as _;
use pangolin_plugin_conformance::{Check, Cost, Options, Report, Used, Verdict, check, explain};
use serde_json::json;

use super::subject::{Engine, Subject, engine};
use crate::{
    args::plugin::PluginTest,
    context::Context,
    error::CliResult,
    exit::Exit,
    format,
    printer::{Role, one_line, paint},
};

pub(super) async fn run(context: &Context, args: PluginTest) -> CliResult {
    let printer = &context.printer;
    let subject = Subject::read(&args.plugin)?;
    let fixtures = match subject.inspection.kind {
        // The first check says what is wrong with it.
        None => Vec::new(),
        Some(_) => subject.fixtures(&args.fixture)?,
    };
    let Engine { host, .. } = &engine(context)?;
    if args.update {
        for fixture in &fixtures {
            explain(host, &subject.bytes, fixture, true)
                .await
                .with_context(|| format!("{} cannot be updated", fixture.path.display()))?;
            printer.note(format_args!("wrote what is expected into {}", fixture.path.display()));
        }
    }
    let fixtures = if args.update { subject.fixtures(&args.fixture)? } else { fixtures };
    let options = Options::default();
    let work = check(host, &subject.bytes, &fixtures, &options);
    let report = printer.progress("testing", work).await.context("it cannot be tested")?;
    if printer.is_json() {
        let mut document = json!(report);
        document["passed"] = report.passed().into();
        document["path"] = json!(subject.path);
        printer.json(&document)?;
    } else {
        for check in &report.checks {
            printer.line(line(check, printer.colour()))?;
        }
        printer.note(summary(&report, &subject));
        if fixtures.is_empty() && subject.inspection.kind.is_some() {
            let dir = subject.path.with_file_name("fixtures");
            printer.hint(format_args!(
                "there are no fixtures in {}; with them the checks see what the plugin is made for",
                dir.display()
            ));
        }
    }
    Ok(if report.passed() { Exit::Ok } else { Exit::Failed })
}

fn line(check: &Check, colour: bool) -> String {
    let (role, word) = match check.verdict {
        Verdict::Passed => (Role::Good, "ok"),
        Verdict::Failed => (Role::Error, "failed"),
        Verdict::NotApplicable => (Role::Dim, "n/a"),
    };
    let bill = check.bill.as_ref().map_or_else(String::new, |bill| {
        paint(Role::Dim, &format!("  [{}]", cost(bill)), colour).into_owned()
    });
    format!(
        "{}  {:<14}  {}{bill}",
        paint(role, &format!("{word:<6}"), colour),
        check.name,
        one_line(&check.detail)
    )
}

fn share(used: Used, show: impl Fn(u64) -> String) -> String {
    match used.limit {
        Some(limit) => format!("{} of {}", show(used.used), show(limit)),
        None => show(used.used),
    }
}

/// A bill on one line. Times are left out: they differ from run to run.
pub(super) fn cost(cost: &Cost) -> String {
    let mut parts = Vec::new();
    parts.extend(cost.fuel.map(|fuel| format!("fuel {}", share(fuel, format::grouped))));
    parts.push(format!("memory {}", share(cost.peak_memory_bytes, format::bytes)));
    parts.push(format!("{} host calls", format::grouped(cost.host_calls.used)));
    parts.extend(cost.read_bytes.map(|read| format!("read {}", format::bytes(read.used))));
    parts.join(", ")
}

fn summary(report: &Report, subject: &Subject) -> String {
    let count = |verdict| report.checks.iter().filter(|check| check.verdict == verdict).count();
    format!(
        "{}: {} passed, {} failed, {} not applicable",
        subject.path.display(),
        count(Verdict::Passed),
        count(Verdict::Failed),
        count(Verdict::NotApplicable)
    )
}
