//! `pangolin verify`: a file, `pangolin-audit` and, with `--replay`, the plugin host with a cache of its own. No
//! configuration, no store, and no network but for a look at the anchor with `--live`.

use std::{cell::Cell, path::Path};

use anyhow::Context as _;
use pangolin_audit::{
    report::{Report, Verdict, render_text},
    verify::{Trust, verify_bundle},
};
use pangolin_plugin_host::{COMPONENT_BYTES_CEILING, CacheKey, HostOptions, PluginHost};
use pangolin_replay::{Given, Progress, ReplayReport, ReplayVerdict, render_replay};
use serde::Serialize;

use crate::{
    args::Verify,
    context::Context,
    error::{CliError, CliResult},
    exit::Exit,
    files,
};

/// Both reports as one document: the one of the verification with one member more.
#[derive(Serialize)]
struct Replayed<'a> {
    #[serde(flatten)]
    report: &'a Report,
    #[serde(skip_serializing_if = "Option::is_none")]
    replay: Option<&'a ReplayReport>,
}

pub(super) async fn run(context: &Context, args: &Verify) -> CliResult {
    let printer = &context.printer;
    let mut trust = Trust::default();
    for text in &args.keys {
        trust.keys.extend(key(text)?.keys);
    }
    trust.anchor = args.anchor.as_deref().map(place).transpose()?;
    let bytes = files::read(&args.bundle)?;
    let report = match args.live {
        false => verify_bundle(&bytes, &trust),
        true => live(context, &bytes, &trust).await?,
    };
    // What is not what was sealed is not worth executing.
    let replay = match args.replay && report.verdict != Verdict::Failed {
        true => replay(context, args, &bytes).await?,
        false => None,
    };
    if printer.is_json() {
        printer.json(&Replayed { report: &report, replay: replay.as_ref() })?;
    } else {
        printer.line(text(&report, printer.colour(), args.full))?;
        if let Some(replay) = &replay {
            printer.line(format_args!("\n{}", render_replay(replay).trim_end()))?;
        }
    }
    if args.replay && replay.is_none() {
        printer.note("nothing was replayed, because the record is not what was sealed");
    }
    Ok(replay.map_or_else(|| exit(&report), |replay| exit_of_replay(&report, &replay)))
}

/// With what the anchor shows now.
#[cfg(feature = "aws")]
async fn live(context: &Context, bytes: &[u8], trust: &Trust) -> CliResult<Report> {
    use pangolin_aws::{Aws, AwsConfig};
    let aws = Aws::open(AwsConfig::default()).await?;
    let look = pangolin_runtime::aws::look_at_anchor(&aws, bytes, &trust.keys);
    let seen = context.printer.progress("looking at the anchor", look).await.map_err(|error| CliError {
        exit: Exit::Unverifiable,
        error: error.into(),
        hints: vec!["without --live the bundle is verified as far as it goes by itself".to_owned()],
    })?;
    Ok(match seen {
        Some(seen) => pangolin_audit::verify::verify_bundle_live(bytes, trust, &seen),
        None => verify_bundle(bytes, trust),
    })
}

#[cfg(not(feature = "aws"))]
#[expect(clippy::unused_async, reason = "the one with AWS waits")]
async fn live(_: &Context, _: &[u8], _: &Trust) -> CliResult<Report> {
    Err(crate::error::without_aws("cannot look at the anchor"))
}

/// Executes the decisions again, in a plugin host that knows nothing of any deployment. `None` when the bytes are not a
/// bundle that this program can read; the verification has said so.
async fn replay(context: &Context, args: &Verify, bytes: &[u8]) -> CliResult<Option<ReplayReport>> {
    let mut given = Given::default();
    for file in &args.components {
        given.components.push(files::read(file)?);
    }
    let dir = tempfile::tempdir().context("cannot create a directory for compiled components")?;
    let host = || -> Result<PluginHost, pangolin_plugin_host::Failure> {
        let key = CacheKey::load_or_create(&dir.path().join("key"))?;
        // Whoever asks for a replay allows the large ones too: what they may do is bounded all the same.
        let options = HostOptions { component_bytes_max: COMPONENT_BYTES_CEILING, ..HostOptions::default() };
        PluginHost::with_options(&dir.path().join("compiled"), key, options)
    };
    let host = host().context("cannot set up the plugin host")?;
    let at = Cell::new(Progress { done: 0, total: 0 });
    let what = || match at.get() {
        Progress { total: 0, .. } => "replaying".to_owned(),
        Progress { done, total } => format!("replaying step {} of {total}", done + 1),
    };
    let work = pangolin_replay::replay(bytes, &host, &given, |progress| at.set(progress));
    Ok(context.printer.progress_of(what, work).await.ok())
}

/// Both judgements in one code: failed, differs, cannot be verified here, incomplete, ok.
fn exit_of_replay(report: &Report, replay: &ReplayReport) -> Exit {
    match (exit(report), replay.verdict) {
        (Exit::Failed, _) => Exit::Failed,
        (_, ReplayVerdict::Differs) => Exit::Differs,
        (_, ReplayVerdict::NotExecuted) => Exit::Unverifiable,
        (other, ReplayVerdict::Agrees | ReplayVerdict::Nothing) => other,
    }
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

/// A place as locators name it: with the scheme, without a slash at the end.
fn place(text: &str) -> CliResult<String> {
    let place = text.trim_end_matches('/');
    let is_place = place.split_once("://").is_some_and(|(scheme, rest)| {
        matches!(scheme, "s3" | "http" | "https") && !rest.is_empty() && !rest.contains(char::is_whitespace)
    });
    if is_place {
        return Ok(place.to_owned());
    }
    Err(CliError::new(Exit::Usage, format!("--anchor {text:?} is no place of an anchor")).hint(
        "s3://<bucket> or s3://<bucket>/<prefix>; for an S3 that is not AWS its endpoint instead of s3:/, as http://127.0.0.1:9000/<bucket>",
    ))
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
