//! `pangolin doctor`.

use pangolin_runtime::{
    config::ConfigError,
    doctor::{self, Check, CheckStatus},
};
use serde_json::json;

use crate::{
    context::Context,
    error::CliResult,
    exit::Exit,
    printer::{Role, one_line, paint},
    table,
};

pub(super) async fn run(context: &Context) -> CliResult {
    let printer = &context.printer;
    // Without any configuration the machine can still be checked; a broken one must be mended first.
    let config = match context.config() {
        Ok(config) => Some(config),
        Err(error) if matches!(error.error.downcast_ref(), Some(ConfigError::NotFound(_))) => None,
        Err(error) => return Err(error),
    };
    let checks = printer.progress("checking", doctor::run(config.as_ref())).await;
    let failed = checks.iter().any(|check| check.status == CheckStatus::Fail);
    if printer.is_json() {
        printer.json(&json!({ "ok": !failed, "checks": checks }))?;
    } else {
        let widest = checks.iter().map(|check| table::width(&check.name)).max().unwrap_or(0);
        for check in &checks {
            print(context, check, widest)?;
        }
    }
    Ok(if failed { Exit::Failed } else { Exit::Ok })
}

fn print(context: &Context, check: &Check, widest: usize) -> CliResult<()> {
    let printer = &context.printer;
    let (role, word) = match check.status {
        CheckStatus::Ok => (Role::Good, "ok  "),
        CheckStatus::Warn => (Role::Warn, "warn"),
        CheckStatus::Fail => (Role::Error, "FAIL"),
    };
    let mark = paint(role, word, printer.colour());
    printer.line(format_args!("{mark}  {}  {}", table::pad(&check.name, widest), one_line(&check.detail)))?;
    if let Some(hint) = &check.hint {
        printer.line(format_args!(
            "      {}  {}",
            table::pad("", widest),
            paint(Role::Hint, &one_line(hint), printer.colour())
        ))?;
    }
    Ok(())
}
