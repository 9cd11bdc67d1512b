//! `pangolin deploy status` and `verify`.

use std::path::Path;

use pangolin_deploy::{Architecture, Check, Deployer, Packages, Pulse, QueueDepth, StackStatus};
use serde_json::json;

use super::{deployer, news, packages, packages_dir};
use crate::{
    args::deploy::{Place, Verify},
    context::Context,
    error::CliResult,
    exit::Exit,
    format,
    printer::{Printer, Role, one_line, paint},
};

pub(super) async fn status(context: &Context, place: &Place) -> CliResult {
    let printer = &context.printer;
    let (deployer, place) = deployer(context, place).await?;
    let looked = async { tokio::try_join!(deployer.status(), deployer.pulse()) };
    let (status, pulse) = printer.progress("looking at the stack", looked).await?;
    if printer.is_json() {
        let mut shown = serde_json::to_value(&status)?;
        shown["region"] = deployer.region().into();
        shown["endpoint"] = deployer.endpoint().into();
        shown["pulse"] = serde_json::to_value(&pulse)?;
        printer.json(&shown)?;
        return Ok(Exit::Ok);
    }
    printer.line(paint(Role::Bold, &place, printer.colour()))?;
    for (what, role, text) in summary(&status, &pulse) {
        printer.line(format_args!("  {what:<13} {}", paint(role, &one_line(&text), printer.colour())))?;
    }
    for problem in &pulse.unreadable {
        printer.warn(format_args!("cannot be read: {}", one_line(problem)));
    }
    Ok(Exit::Ok)
}

type Row = (&'static str, Role, String);

fn summary(status: &StackStatus, pulse: &Pulse) -> Vec<Row> {
    let mut rows = Vec::new();
    let at_rest = matches!(status.status.as_str(), "CREATE_COMPLETE" | "UPDATE_COMPLETE");
    let since = status.changed.as_ref().map_or_else(String::new, |time| format!(" since {time}"));
    let reason = status.reason.as_ref().map_or_else(String::new, |reason| format!(": {reason}"));
    rows.push(("state", good(at_rest), format!("{}{since}{reason}", status.status)));
    rows.push(match status.template_is_current {
        true => ("template", Role::Plain, "that of this program".to_owned()),
        false => ("template", Role::Warn, "another one than that of this program: plan and apply".to_owned()),
    });
    rows.push(match status.has_code {
        true => ("functions", Role::Plain, "there".to_owned()),
        false => (
            "functions",
            Role::Error,
            "not there: the second step of apply is missing; apply again".to_owned(),
        ),
    });
    rows.push(match pulse.last_look {
        _ if pulse.unreadable.iter().any(|line| line.starts_with("last look")) => unknown("last look"),
        None => ("last look", Role::Warn, "never".to_owned()),
        Some(look) if look.held_until.is_some_and(|until| until > format::now_ms()) => {
            ("last look", Role::Busy, format!("going on, since {}", format::time(look.at)))
        }
        Some(look) if look.at == 0 => {
            ("last look", Role::Plain, "at a time that was not written down".to_owned())
        }
        Some(look) => {
            let ago = format::duration(format::now_ms().saturating_sub(look.at));
            ("last look", Role::Plain, format!("{} ({ago} ago)", format::time(look.at)))
        }
    });
    let depth =
        |it: &QueueDepth| format!("{} waiting, {} in work, {} later", it.waiting, it.in_work, it.delayed);
    rows.push(
        pulse
            .doorbells
            .as_ref()
            .map_or_else(|| unknown("doorbells"), |it| ("doorbells", Role::Plain, depth(it))),
    );
    rows.push(pulse.dead_letters.as_ref().map_or_else(
        || unknown("dead letters"),
        |it| ("dead letters", good(*it == QueueDepth::default()), depth(it)),
    ));
    let Some(alarms) = &pulse.alarms else {
        rows.push(unknown("alarms"));
        return rows;
    };
    let (on, off): (Vec<_>, Vec<_>) = alarms.iter().partition(|alarm| alarm.state == "ALARM");
    let silent = off.iter().filter(|alarm| alarm.state != "OK").count();
    rows.push((
        "alarms",
        good(on.is_empty()),
        format!("{} of {} on, {silent} without data", on.len(), alarms.len()),
    ));
    for alarm in on {
        let since = alarm.since.as_deref().unwrap_or("an unknown time");
        let about = alarm.about.as_deref().unwrap_or("no description");
        rows.push(("", Role::Error, format!("{} since {since}: {about}", alarm.name)));
    }
    rows
}

const fn good(is: bool) -> Role {
    if is { Role::Good } else { Role::Error }
}

fn unknown(what: &'static str) -> Row {
    (what, Role::Warn, "not known".to_owned())
}

pub(super) async fn verify(context: &Context, args: &Verify) -> CliResult {
    let printer = &context.printer;
    let (deployer, place) = deployer(context, &args.place).await?;
    let code = code(&deployer, args.packages.as_deref()).await?;
    let verified = deployer.verify(code.as_ref(), &news(printer, deployer.stack())).await?;
    let holds = verified.holds();
    if printer.is_json() {
        printer.json(&json!({
            "stack": deployer.stack(), "region": deployer.region(), "endpoint": deployer.endpoint(), "holds": holds,
            "codeCompared": code.is_some(), "checks": verified.checks,
        }))?;
    } else {
        printer.line(paint(Role::Bold, &place, printer.colour()))?;
        checks(printer, &verified.checks)?;
        let (bad, all) = (verified.findings().count(), verified.checks.len());
        printer.line(match holds {
            true => format!("all {all} checks hold"),
            false => format!("{bad} of {all} checks do not hold"),
        })?;
    }
    if code.is_none() {
        printer.note("the code of the functions was not compared: there are no packages (--packages)");
    }
    Ok(if holds { Exit::Ok } else { Exit::Failed })
}

/// The archives that the functions should have. Those that are named must be there.
async fn code(deployer: &Deployer, named: Option<&Path>) -> CliResult<Option<Packages>> {
    if named.is_none() && !packages_dir(None)?.is_dir() {
        return Ok(None);
    }
    let parameters = deployer.status().await?.parameters;
    let x86 = parameters.get("Architecture").is_some_and(|it| it == Architecture::X86_64.as_str());
    let architecture = if x86 { Architecture::X86_64 } else { Architecture::Arm64 };
    Ok(Some(packages(named, architecture)?))
}

fn checks(printer: &Printer, checks: &[Check]) -> CliResult<()> {
    let mut about = "";
    for check in checks {
        if check.resource != about {
            about = &check.resource;
            printer.line(one_line(about))?;
        }
        let (role, word) = if check.fine { (Role::Good, "ok  ") } else { (Role::Error, "FAIL") };
        let mark = paint(role, word, printer.colour());
        printer.line(format_args!("  {mark}  {}: {}", one_line(&check.what), one_line(&check.found)))?;
    }
    Ok(())
}
