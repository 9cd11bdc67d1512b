//! Running other programs: what is run goes to stderr, a failure names the command.

use std::{
    ffi::OsStr,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};

/// How often a child with a deadline is looked at.
const POLL: Duration = Duration::from_millis(20);

/// A command with arguments and closed stdin.
pub(crate) fn command<S: AsRef<OsStr>>(
    program: impl AsRef<OsStr>,
    args: impl IntoIterator<Item = S>,
) -> Command {
    let mut command = Command::new(program);
    command.args(args).stdin(Stdio::null());
    command
}

/// The cargo that runs this xtask. What cargo told the xtask about its own package is no business of others: build scripts that
/// look at it would run again, and everything after them.
pub(crate) fn cargo() -> Command {
    let mut cargo = command::<&str>(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()), []);
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("CARGO_PKG_") || text.starts_with("CARGO_MANIFEST_") {
            cargo.env_remove(&name);
        }
    }
    cargo
}

/// The command as a person would type it; for messages only.
pub(crate) fn describe(command: &Command) -> String {
    let name =
        Path::new(command.get_program()).file_name().unwrap_or(command.get_program()).to_string_lossy();
    let args = command.get_args().map(|arg| {
        let arg = arg.to_string_lossy();
        if arg.is_empty() || arg.contains([' ', '\n', '|', '(', '"', '$']) {
            format!("'{arg}'")
        } else {
            arg.into_owned()
        }
    });
    std::iter::once(name.into_owned()).chain(args).collect::<Vec<_>>().join(" ")
}

fn check(what: &str, status: ExitStatus) -> Result<()> {
    if status.success() {
        return Ok(());
    }
    bail!("`{what}` failed: {status}")
}

/// Runs to the end with inherited output, and says how long it took when that was over a second.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let what = describe(command);
    eprintln!("xtask: {what}");
    let started = Instant::now();
    let status = command.status().with_context(|| format!("cannot start `{what}`"))?;
    let took = started.elapsed();
    if took > Duration::from_secs(1) {
        eprintln!("xtask: {what}: {:.1} s", took.as_secs_f64());
    }
    check(&what, status)
}

/// Runs to the end with inherited output; kills it when it is still there after `limit`.
pub(crate) fn run_within(command: &mut Command, limit: Duration) -> Result<()> {
    run_while(command, limit, || Ok(()))
}

/// Like [`run_within`], and kills it also when `healthy` fails: then its error is the answer.
pub(crate) fn run_while(
    command: &mut Command,
    limit: Duration,
    healthy: impl FnMut() -> Result<()>,
) -> Result<()> {
    let what = describe(command);
    let status = end(command, limit, healthy)?;
    check(&what, status)
}

/// Like [`run_while`] for a command that must end with this exit code.
pub(crate) fn end_within(
    command: &mut Command,
    code: i32,
    limit: Duration,
    healthy: impl FnMut() -> Result<()>,
) -> Result<()> {
    let what = describe(command);
    let status = end(command, limit, healthy)?;
    match status.code() == Some(code) {
        true => Ok(()),
        false => bail!("`{what}`: {status}, not the exit code {code} that it should have"),
    }
}

fn end(
    command: &mut Command,
    limit: Duration,
    mut healthy: impl FnMut() -> Result<()>,
) -> Result<ExitStatus> {
    let what = describe(command);
    eprintln!("xtask: {what}");
    let mut child = command.spawn().with_context(|| format!("cannot start `{what}`"))?;
    let mut health = Ok(());
    let mut status = None;
    wait_until(limit, || {
        status = child.try_wait().ok().flatten();
        if status.is_none() {
            health = healthy();
        }
        status.is_some() || health.is_err()
    });
    if let Some(status) = status {
        return Ok(status);
    }
    child.kill().ok();
    child.wait().ok();
    health?;
    bail!("`{what}` was not done after {} s", limit.as_secs())
}

/// Waits for a child, or gives `None` when it still runs after `limit`.
pub(crate) fn wait_within(child: &mut Child, limit: Duration) -> Result<Option<ExitStatus>> {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(status) = child.try_wait().context("cannot wait for a child process")? {
            return Ok(Some(status));
        }
        if Instant::now() >= deadline {
            return Ok(None);
        }
        std::thread::sleep(POLL);
    }
}

/// Asks again until `ready` says yes; false when it never did within `limit`.
pub(crate) fn wait_until(limit: Duration, mut ready: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + limit;
    while !ready() {
        if Instant::now() >= deadline {
            return false;
        }
        std::thread::sleep(POLL);
    }
    true
}

/// Runs quietly and gives stdout. Stderr goes through, because that is where programs explain themselves.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let what = describe(command);
    let output =
        command.stderr(Stdio::inherit()).output().with_context(|| format!("cannot start `{what}`"))?;
    check(&what, output.status)?;
    String::from_utf8(output.stdout).with_context(|| format!("`{what}` printed something that is not UTF-8"))
}

/// Whether it runs and succeeds; all output is dropped.
pub(crate) fn succeeds(command: &mut Command) -> bool {
    command.stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
}

/// The file that `program` is on `PATH`.
pub(crate) fn find_on_path(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|dir| dir.join(program)).find(|file| file.is_file())
}

/// Whether `program` is on `PATH`.
pub(crate) fn is_on_path(program: &str) -> bool {
    find_on_path(program).is_some()
}
