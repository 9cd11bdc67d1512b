//! `pangolin verify`: only `pangolin-audit` and a file. No configuration, no store, no network.

use std::path::Path;

use pangolin_audit::{
    report::{Report, Verdict, render_text},
    verify::{Trust, verify_bundle},
};

use crate::{
    args::Verify,
    context::Context,
    error::{CliError, CliResult},
    exit::Exit,
    files,
};

pub(super) fn run(context: &Context, args: &Verify) -> CliResult {
    let printer = &context.printer;
    let mut trust = Trust::default();
    for text in &args.keys {
        trust.keys.extend(key(text)?.keys);
    }
    let bytes = files::read(&args.bundle)?;
    let report = verify_bundle(&bytes, &trust);
    if printer.is_json() {
        printer.json(&report)?;
    } else {
        printer.line(text(&report, printer.colour(), args.full))?;
    }
    Ok(exit(&report))
}

/// The report for people, without a newline at the end.
pub(super) fn text(report: &Report, colour: bool, full: bool) -> String {
    render_text(report, colour, full).trim_end().to_owned()
}

/// The exit code of a verdict.
pub(super) fn exit(report: &Report) -> Exit {
    match report.verdict {
        Verdict::Intact => Exit::Ok,
        Verdict::Failed => Exit::Failed,
        Verdict::Unverifiable => Exit::Unverifiable,
        Verdict::Incomplete => Exit::Incomplete,
    }
}

/// A vkey as such, or the keys of a file: one per line, empty lines and `#` comments allowed.
fn key(text: &str) -> CliResult<Trust> {
    let file = Path::new(text);
    let content = if file.is_file() { files::read_text(file)? } else { text.to_owned() };
    let trust = Trust::parse(&content).map_err(|error| CliError {
        exit: Exit::Usage,
        error: anyhow::Error::new(error)
            .context(format!("--key {text} is neither a verifier key nor a file of them")),
        hints: vec!["a key looks like <name>+<8 hex digits>+<base64>; `pangolin init` prints it".to_owned()],
    })?;
    if trust.keys.is_empty() {
        return Err(CliError::new(Exit::Usage, format!("key file {text} holds no key")));
    }
    Ok(trust)
}
