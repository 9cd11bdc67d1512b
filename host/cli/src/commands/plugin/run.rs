//! `pangolin plugin run`.

use anyhow::Context as _;
use pangolin_plugin_conformance::{Cost, Explained, Line, Used, explain};

use super::subject::{Engine, Subject, engine};
use crate::{
    args::plugin::PluginRun,
    context::Context,
    error::CliResult,
    exit::Exit,
    format,
    printer::{Role, one_line, paint},
};

pub(super) async fn run(context: &Context, args: PluginRun) -> CliResult {
    let printer = &context.printer;
    let subject = Subject::read(&args.plugin)?;
    let fixtures = subject.fixtures(std::slice::from_ref(&args.fixture))?;
    let Engine { host, .. } = &engine(context)?;
    let mut exit = Exit::Ok;
    for fixture in &fixtures {
        let work = explain(host, &subject.bytes, fixture, false);
        let explained = printer
            .progress("running", work)
            .await
            .with_context(|| format!("{} cannot be run", fixture.path.display()))?;
        if !explained.problems.is_empty() {
            exit = Exit::Failed;
        }
        if printer.is_json() {
            printer.json(&explained)?;
        } else {
            for line in shown(&explained, args.explain, printer.colour()) {
                printer.line(line)?;
            }
        }
    }
    Ok(exit)
}

fn shown(explained: &Explained, bills: bool, colour: bool) -> Vec<String> {
    let mut lines = Vec::new();
    for part in &explained.parts {
        lines.push(paint(Role::Bold, &part.title, colour).into_owned());
        for (kind, text) in &part.lines {
            let (sign, role) = match kind {
                Line::Plain => (" ", Role::Plain),
                Line::Added => ("+", Role::Good),
                Line::Why => ("?", Role::Dim),
                Line::Wrong => ("!", Role::Error),
                Line::Log => ("|", Role::Dim),
            };
            lines.push(format!("  {} {}", paint(role, sign, colour), paint(role, &one_line(text), colour)));
        }
        if let (true, Some(bill)) = (bills, &part.bill) {
            lines.extend(
                table(bill).into_iter().map(|line| format!("    {}", paint(Role::Dim, &line, colour))),
            );
        }
    }
    for problem in &explained.problems {
        lines.push(format!("{} {}", paint(Role::Error, "not as expected:", colour), one_line(problem)));
    }
    if explained.problems.is_empty() {
        lines.push(paint(Role::Good, "as expected", colour).into_owned());
    }
    lines
}

fn table(bill: &Cost) -> Vec<String> {
    let row = |name: &str, used: Used, show: &dyn Fn(u64) -> String| {
        let limit = used.limit.map_or_else(String::new, |limit| {
            let permille = used.used.saturating_mul(1_000).checked_div(limit).unwrap_or(0);
            format!(" of {} ({}.{} %)", show(limit), permille / 10, permille % 10)
        });
        format!("{name:<16} {}{limit}", show(used.used))
    };
    let (number, bytes) =
        (&format::grouped as &dyn Fn(u64) -> String, &format::bytes as &dyn Fn(u64) -> String);
    let time: &dyn Fn(u64) -> String = &|us| format!("{}.{:03} ms", us / 1_000, us % 1_000);
    let mut rows = Vec::new();
    rows.extend(bill.fuel.map(|used| row("fuel", used, number)));
    rows.push(row("peak memory", bill.peak_memory_bytes, bytes));
    rows.push(row("time", bill.wall_us, time));
    rows.push(row("host calls", bill.host_calls, number));
    rows.extend(bill.from_guest_bytes.map(|used| row("bytes to host", used, bytes)));
    rows.extend(bill.to_guest_bytes.map(|used| row("bytes to plugin", used, bytes)));
    rows.extend(bill.read_bytes.map(|used| row("files read", used, bytes)));
    rows.extend(bill.log_bytes.map(|used| row("log", used, bytes)));
    rows
}
