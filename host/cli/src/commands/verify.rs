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

/// A vkey as such, or the keys of a file: one per line, empty lines and `#` comments allowed. No message repeats the
/// text or the file: it may be a private key.
fn key(text: &str) -> CliResult<Trust> {
    const FORM: &str = "a key looks like <name>+<8 hex digits>+<base64>; `pangolin init` prints it";
    let file = Path::new(text);
    let usage = |message: String| CliError::new(Exit::Usage, message).hint(FORM);
    if !file.is_file() {
        files::refuse_signing_key(Path::new("the value of --key"), text.as_bytes())?;
        return Trust::parse(text).map_err(|error| CliError {
            exit: Exit::Usage,
            error: anyhow::Error::new(error).context(match path_like(text) {
                true => format!("--key {text}: there is no such file, and it is not a verifier key"),
                false => "--key is neither a verifier key nor a file of them".to_owned(),
            }),
            hints: vec![FORM.to_owned()],
        });
    }
    let content = files::read_text(file)?;
    let mut trust = Trust::default();
    for (line, number) in content.lines().zip(1..) {
        let parsed = Trust::parse(line).map_err(|error| CliError {
            exit: Exit::Usage,
            error: anyhow::Error::new(error).context(format!("line {number} of key file {text}")),
            hints: vec![FORM.to_owned()],
        })?;
        trust.keys.extend(parsed.keys);
    }
    if trust.keys.is_empty() {
        return Err(usage(format!("key file {text} holds no key")));
    }
    Ok(trust)
}

/// Whether a value is surely meant as a file: it has a short extension, which no key has.
fn path_like(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-/".contains(c);
    text.chars().all(plain)
        && Path::new(text)
            .extension()
            .and_then(|extension| extension.to_str())
            .is_some_and(|extension| extension.len() <= 5)
}
